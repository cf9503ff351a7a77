"""What a scenario sends and how it checks the answer: loaded by the generator, free of Locust."""

import importlib.util
import sys
import traceback
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

    Raises SpecError when the file is missing or broken, defines no `workload`, or refuses its options.
    """
    spec = importlib.util.spec_from_file_location(f"rollgate_workload_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        msg = "no such workload file"
        raise SpecError(msg, where=str(path), mend="name an existing Python file in the scenario's `workload`")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise _broken(path, "cannot be imported", error) from error
    make = cast("Callable[[Mapping[str, str], Path], Any] | None", getattr(module, "workload", None))
    if make is None:
        msg = "defines no function `workload(options, root)`"
        raise SpecError(msg, where=str(path), mend="see scenarios/workloads/answer.py for an example")
    try:
        made = make(options, root)
    except (OSError, KeyError, ValueError) as error:
        msg = f"the workload refuses its options: {error}"
        raise SpecError(msg, where=str(path), mend="mend `options` in the system's scenarios.yaml") from error
    except Exception as error:
        raise _broken(path, "`workload` fails", error) from error
    lacking = [name for name in ("request", "check") if not callable(getattr(made, name, None))]
    if lacking:
        msg = f"`workload` returned a {type(made).__name__} without {' and '.join(lacking)}"
        raise SpecError(msg, where=str(path), mend="return an object with request(draw) and check(request, response)")
    return cast("Workload", made)


def try_workload(path: Path, options: Mapping[str, str], root: Path) -> None:
    """Load it and have it make one request, of which nothing is sent. Raises SpecError as `load_workload` does."""
    workload = load_workload(path, options, root)
    try:
        made = cast("object", workload.request(0.5))
    except Exception as error:
        raise _broken(path, "`request` fails", error) from error
    if not isinstance(made, Request):
        msg = f"`request` returned a {type(made).__name__}, expected a Request"
        raise SpecError(msg, where=str(path), mend="see scenarios/workloads/answer.py for an example")


def _broken(path: Path, what: str, error: BaseException) -> SpecError:
    """Say what a user's own file raised, and in which of its lines."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    where = f"{path}:{line}" if line else str(path)
    return SpecError(f"{what}: {type(error).__name__}: {error}", where=where, mend="mend that file")
