"""What a machine has (facts), what it must have (requirements), and what came of comparing the two."""

from dataclasses import dataclass
from enum import StrEnum

GB = 2**30  # bytes


class Level(StrEnum):
    """How one prerequisite was found. `unknown`: it could not be asked for, and another one says why."""

    OK = "ok"
    UNKNOWN = "unknown"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prerequisite:
    """One thing that a stack wants of the machine: what was found, what was expected, and the mend."""

    name: str
    level: Level
    found: str
    expected: str
    mend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The least free disk and memory, GB of 1024**3 bytes; below `memory_advised_gb` is a warning, 0 for none."""

    disk_gb: float
    memory_gb: float
    memory_advised_gb: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolWanted:
    """A program for people. `module` is the Python module that does its work here, "" where none does."""

    name: str
    use: str
    at_least: str = ""
    module: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """How often health is asked for, and the seconds between two times."""

    attempts: int
    interval_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """`stack/preflight.yaml`. `floors` by "native", "containers" and "gpu"; `documents` are (title, path)."""

    floors: tuple[tuple[str, Floor], ...]
    engine_at_least: str
    tools: tuple[ToolWanted, ...]
    poll: Poll
    documents: tuple[tuple[str, str], ...] = ()
    next_steps: tuple[str, ...] = ()

    def floor(self, name: str) -> Floor:
        """Return the floor called `name`; KeyError where there is none."""
        return dict(self.floors)[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A program as it was found: its version and path, both "" where there is none; `module` is its replacement's."""

    name: str
    version: str = ""
    path: str = ""
    module_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Free bytes at `path`; None where they cannot be seen from here."""

    path: str
    free_bytes: int | None
    writable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """This machine. `cache` is where rollgate keeps programs and models; `gpus` one line each, by NVML."""

    python: tuple[int, ...]
    cores: int
    memory_bytes: int
    cache: Space
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """A program or models that a system needs: what was got, or the problem."""

    name: str
    detail: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """The container engine at `address`; `problem` and `mend` where it does not answer, and then nothing else.

    `gpu_driver`: whether it can hand GPUs to containers; None where that cannot be seen from here.
    """

    address: str
    problem: str = ""
    mend: str = ""
    version: str = ""
    cpus: int = 0
    memory_bytes: int = 0
    space: Space | None = None
    gpu_driver: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFact:
    """An image of the composition. `state` is "here", "buildable" or "elsewhere"; `needed`: a gate starts it."""

    key: str
    reference: str
    state: str
    needed: bool = True
    mend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortFact:
    """A port that the composition publishes on the host. `holder` is who has it, "" for nobody.

    `found` is the text of the user's setting, which is no port where `number` is 0.
    """

    service: str
    name: str
    number: int
    variable: str
    found: str = ""
    holder: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Containers:
    """What a stack of containers finds here. `gpus_wanted` maps services to how many GPUs each asks for.

    `images` is None where no engine could be asked. `composition` and `settings` are what is wrong with the
    composition's files and with the user's settings file, a line each; `settings_file` is "" where there is none.
    """

    engine: Engine
    tools: tuple[Tool, ...]
    images: tuple[ImageFact, ...] | None
    ports: tuple[PortFact, ...]
    gpus_wanted: tuple[tuple[str, int], ...] = ()
    composition: tuple[str, ...] = ()
    settings_file: str = ""
    settings: tuple[str, ...] = ()


def worst(found: tuple[Prerequisite, ...]) -> Level:
    """Return the worst level of `found`; `unknown` alone is no warning: what it hangs on is told by itself."""
    levels = {item.level for item in found}
    return next((level for level in (Level.ERROR, Level.WARNING) if level in levels), Level.OK)
