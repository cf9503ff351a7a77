"""What this machine has and lacks for a stack: facts from the adapters, judged, and what a summary says beside."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness import spec
from harness.adapters.machine import machine_facts, tool_fact
from harness.adapters.programs import ensure
from harness.adapters.programs.catalog import VersionCheck
from harness.model.errors import EnvironmentProblem, SpecError
from harness.model.preflight import Containers, Got, Level, Prerequisite, Requirements, Tool, worst
from harness.model.status import ExitCode
from harness.model.system import System
from harness.paths import cache_root
from harness.planning.composition import chosen
from harness.planning.preflight import floor_of, judge
from harness.planning.summary import Summary, containers_summary, native_summary
from harness.spec.images import choose_images
from harness.spec.preflight import ToolSpec, load_preflight
from harness.wiring.composition import Shipped, compose_problems, shipped
from harness.wiring.settings import Settings, settings_of
from harness.wiring.site import prepare

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """What came of it. `stack` is "native", "containers" or "gpu"; `system` is "" for the machine alone."""

    system: str
    provider: str
    stack: str
    found: tuple[Prerequisite, ...]
    summary: Summary

    @property
    def exit_code(self) -> int:
        """0 where the stack can be brought up, warnings allowed; else 4."""
        return int(ExitCode.ENVIRONMENT if worst(self.found) is Level.ERROR else ExitCode.PROMOTED)


def diagnose(
    system: str | None,
    provider: str = "native",
    *,
    gpu: bool | None = None,
    publishes: bool = False,
    note: Say = lambda _: None,
) -> Preflight:
    """Return what a gate of `system` finds on this machine; without it, what a stack of the provider finds.

    `gpu`: with GPUs or without; None for what NVML sees. For a native system its programs and models are fetched,
    told by `note`; else nothing is. Raises SpecError for a system or a provider that there is not.
    """
    if provider not in {"auto", "native", "docker"}:
        msg = f"found {provider!r}, expected native or docker"
        raise SpecError(msg, key="--provider", mend="a deployed stack is checked by its gate")
    loaded = spec.load_system(spec.find_system(system)) if system is not None else None
    requirements, tools = load_preflight()
    if provider == "docker":
        return _docker(loaded, requirements, tools, gpu=gpu, publishes=publishes)
    if gpu:
        raise SpecError("a native stack has no GPUs to ask for", key="--gpu", mend="add --provider docker")
    got = _programs(loaded, note) + _models(loaded, note) if loaded else ()
    found = judge(machine_facts(cache_root()), requirements, got=got)
    name = loaded.name if loaded else ""
    return Preflight(
        system=name,
        provider="native",
        stack="native",
        found=found,
        summary=native_summary(loaded, requirements),
    )


def _docker(
    system: System | None,
    requirements: Requirements,
    tools: Mapping[str, ToolSpec],
    *,
    gpu: bool | None,
    publishes: bool,
) -> Preflight:
    data = shipped()
    if system is not None and system.name != data.composition.inventory:
        msg = f"found {system.name!r}, expected {data.composition.inventory}: no other system has containers yet"
        raise SpecError(msg, key="SYSTEM", mend="use --provider native")
    machine = machine_facts(cache_root())
    with_gpus = bool(machine.gpus) if gpu is None else gpu
    settings = settings_of(system.root if system else None, os.environ)
    needed = frozenset(service.name for service in system.services) if system else None
    facts = _containers(data, settings, tools, gpu=with_gpus, needed=needed)
    found = judge(
        machine, requirements, containers=facts, gpu=with_gpus, asked_gpu=bool(gpu), publishes=publishes
    )  # fmt: skip
    return Preflight(
        system=system.name if system else "",
        provider="docker",
        stack=floor_of(facts, gpu=with_gpus),
        found=found,
        summary=containers_summary(
            data.composition, requirements, data.composition.inventory, settings.values, gpu=with_gpus
        ),
    )


def _containers(
    data: Shipped, settings: Settings, tools: Mapping[str, ToolSpec], *, gpu: bool, needed: frozenset[str] | None
) -> Containers:
    """Collect the facts; `needed` are the services of the system, None for all of the composition."""
    from harness.adapters.docker_machine import engine_facts, port_facts  # noqa: PLC0415 - docker's client is slow

    units = chosen(data.composition, gpu=gpu)
    wanted = frozenset(
        unit.service.image for unit in units if needed is None or unit.service.name in needed
    )  # fmt: skip
    engine, images, by_engine = engine_facts(units, choose_images(data.images, settings.values), wanted)
    return Containers(
        engine=engine,
        tools=tuple(_tool(name, tool) for name, tool in tools.items()),
        images=images,
        ports=port_facts(units, settings.values, by_engine),
        gpus_wanted=tuple((unit.alias, unit.gpus.count or 1) for unit in units if unit.gpus),
        composition=tuple(str(problem) for problem in compose_problems()),
        settings_file=settings.file,
        settings=tuple(str(problem) for problem in settings.problems),
    )


def _tool(name: str, tool: ToolSpec) -> Tool:
    program, *first_words = tool.command or [name]
    version = tool.version
    check = VersionCheck(arguments=(*first_words, *version.arguments), pattern=version.pattern)
    return tool_fact(name, program, check, tool.module)


def _programs(system: System, note: Say) -> tuple[Got, ...]:
    names: Sequence[str] = sorted({p for s in system.services if s.native for p in s.native.programs})
    found: list[Got] = []
    for name in names:
        try:
            programs = ensure([name], cache_root(), note)
            found += [Got(name=p.name, detail=f"{p.version} ({p.origin})") for p in programs.values()]
        except EnvironmentProblem as error:
            found.append(Got(name=name, problem=str(error)))
    return tuple(found)


def _models(system: System, note: Say) -> tuple[Got, ...]:
    try:
        prepare(system, cache_root(), note)
    except EnvironmentProblem as error:
        return (Got(name="models", problem=str(error)),)
    return (Got(name="models", detail="ready" if system.prepare else "none needed"),)
