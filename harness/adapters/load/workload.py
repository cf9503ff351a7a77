"""What a scenario sends and how it checks the answer: loaded by the generator, free of Locust."""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from harness.model.errors import SpecError


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. `expect` travels to the check untouched."""

    method: str
    path: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    expect: object = None


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a request; header names are lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""


class Workload(Protocol):
    """A scenario's content."""

    def request(self, draw: float) -> Request:
        """Return the request that `draw`, uniform in [0, 1), chooses."""
        ...

    def check(self, request: Request, response: Response) -> Mapping[str, bool]:
        """Return, of a 2xx answer, check -> violated: event signals besides error. What does not apply is left out."""
        ...


def load_workload(path: Path, options: Mapping[str, str], root: Path) -> Workload:
    """Import the file `path` and call its `workload(options, root)`; `root` is the system's folder.

    Raises SpecError when the file is missing, defines no `workload`, or refuses its options.
    """
    spec = importlib.util.spec_from_file_location(f"rollgate_workload_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        msg = "no such workload file"
        raise SpecError(msg, where=str(path), mend="name an existing Python file in the scenario's `workload`")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    make = cast("Callable[[Mapping[str, str], Path], Any] | None", getattr(module, "workload", None))
    if make is None:
        msg = "defines no function `workload(options, root)`"
        raise SpecError(msg, where=str(path), mend="see scenarios/workloads/answer.py for an example")
    try:
        return cast("Workload", make(options, root))
    except (OSError, KeyError, ValueError) as error:
        msg = f"the workload refuses its options: {error}"
        raise SpecError(msg, where=str(path), mend="mend `options` in the system's scenarios.yaml") from error
