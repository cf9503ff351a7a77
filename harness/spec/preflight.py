"""`stack/preflight.yaml`: what a machine must have."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from harness import paths
from harness.model import preflight as model
from harness.spec.problems import Problems, first, read
from harness.spec.schema import File, Name, Strict, Text

FILE = Path("stack") / "preflight.yaml"

_Size = Annotated[float, Field(gt=0, le=1_000_000)]


class FloorSpec(Strict):
    """The least disk and memory, GB."""

    disk_gb: _Size
    memory_gb: _Size
    memory_advised_gb: Annotated[float, Field(ge=0, le=1_000_000)] = 0.0


class FloorsSpec(Strict):
    """One floor for each way to run a stack."""

    native: FloorSpec
    containers: FloorSpec
    gpu: FloorSpec


class EngineSpec(Strict):
    """The container engine."""

    at_least: Text


class VersionSpec(Strict):
    """How a program tells its version."""

    arguments: list[Text]
    pattern: Text
    at_least: str = ""


class ToolSpec(Strict):
    """A program for people; `command` where it is more than its name."""

    command: list[Text] = Field(default_factory=list[str])
    version: VersionSpec
    module: str = ""
    use: Text


class PollSpec(Strict):
    """How health is asked for."""

    attempts: Annotated[int, Field(ge=1, le=10_000)]
    interval_s: Annotated[float, Field(gt=0, le=3600)]


class DocumentSpec(Strict):
    """A document by its path in the repository."""

    title: Text
    path: Text


class PreflightFile(File):
    """preflight.yaml."""

    schema_: Literal[1] = Field(alias="schema")
    floors: FloorsSpec
    engine: EngineSpec
    tools: dict[Name, ToolSpec]
    poll: PollSpec
    documents: list[DocumentSpec]
    next_steps: list[Text]


def load_preflight(path: Path | None = None) -> tuple[model.Requirements, dict[str, ToolSpec]]:
    """Return what the file asks for (default: the one that ships), and how each tool is asked for its version.

    Raises SpecError for what is wrong.
    """
    try:
        _, spec = read(path or paths.share_root() / FILE, PreflightFile)
    except Problems as problems:
        raise first(problems.errors) from None
    floors = {"native": spec.floors.native, "containers": spec.floors.containers, "gpu": spec.floors.gpu}
    made = model.Requirements(
        floors=tuple((name, model.Floor(**floor.model_dump())) for name, floor in floors.items()),
        engine_at_least=spec.engine.at_least,
        tools=tuple(
            model.ToolWanted(name=name, use=tool.use, at_least=tool.version.at_least, module=tool.module)
            for name, tool in spec.tools.items()
        ),
        poll=model.Poll(attempts=spec.poll.attempts, interval_s=spec.poll.interval_s),
        documents=tuple((item.title, item.path) for item in spec.documents),
        next_steps=tuple(spec.next_steps),
    )
    return made, dict(spec.tools)
