"""What containers want of a machine: engine, tools, GPUs, images, ports, the composition's files and the settings."""

from collections import Counter
from collections.abc import Iterator

from harness.model.preflight import (
    Containers,
    Engine,
    ImageFact,
    Level,
    Machine,
    PortFact,
    Prerequisite,
    Requirements,
    Tool,
    ToolWanted,
)
from harness.model.version import older

_NO_DRIVER = "NVML answered"  # how the adapter begins a line about a driver that fails


def judge_containers(
    machine: Machine,
    containers: Containers,
    requirements: Requirements,
    *,
    gpu: bool,
    asked_gpu: bool,
    publishes: bool,
) -> list[Prerequisite]:
    """Return the prerequisites that only containers have; see `harness.planning.preflight.judge`."""
    by_name = {tool.name: tool for tool in containers.tools}
    return [
        _engine(containers.engine, requirements),
        *(_tool(by_name.get(wanted.name, Tool(name=wanted.name)), wanted) for wanted in requirements.tools),
        *_gpus(machine, containers, gpu=gpu, asked=asked_gpu),
        *_images(containers.images),
        *_ports(containers.ports, publishes=publishes),
        *_texts("composition", containers.composition, "sound, and the Compose file fresh"),
        *_settings(containers),
    ]


def _engine(engine: Engine, requirements: Requirements) -> Prerequisite:
    """The daemon: running, reachable, open to this user, and new enough."""
    wanted = f"an engine {requirements.engine_at_least} or later that answers"
    at = f" at {engine.address}"
    if engine.problem:
        return _error("engine", engine.problem + at, wanted, engine.mend)
    if older(engine.version, requirements.engine_at_least):
        return _error("engine", f"{engine.version or 'no version'}{at}", wanted, "install a newer Docker Engine")
    return Prerequisite(name="engine", level=Level.OK, found=f"{engine.version}{at}", expected=wanted)


def _tool(tool: Tool, wanted: ToolWanted) -> Prerequisite:
    """Judge a tool that people use; rollgate goes without it where a module of its own does the work."""
    age = f" {wanted.at_least} or later" if wanted.at_least else ""
    expected = f"{wanted.name}{age}, {wanted.use}"
    if wanted.module:
        expected += f"; rollgate uses its own {wanted.module}"
        if not tool.module_version:
            what = (
                f"neither {wanted.name} nor rollgate's own {wanted.module}" if not tool.path else "no " + wanted.module
            )
            return _error(wanted.name, what, expected, "run `make setup` again: its environment is torn")
    if not tool.path:
        if wanted.module:
            found = f"not here; {wanted.module} {tool.module_version} in its place"
            return Prerequisite(name=wanted.name, level=Level.OK, found=found, expected=expected)
        return _warning(wanted.name, "not here; rollgate itself asks the engine without it", expected, _install(wanted))
    found = f"{tool.version or 'no version'} ({tool.path})"
    if older(tool.version, wanted.at_least):
        return _warning(wanted.name, found, expected, _install(wanted))
    return Prerequisite(name=wanted.name, level=Level.OK, found=found, expected=expected)


def _install(wanted: ToolWanted) -> str:
    return f"install {wanted.name} {wanted.at_least} or later".replace("  ", " ") if wanted.at_least else ""


def _gpus(machine: Machine, containers: Containers, *, gpu: bool, asked: bool) -> Iterator[Prerequisite]:
    """Judge GPUs and driver: optional unless the stack is to run with them."""
    broken = [line for line in machine.gpus if line.startswith(_NO_DRIVER)]
    most = max((count for _, count in containers.gpus_wanted), default=0)
    who = ", ".join(f"{name} {count}" for name, count in containers.gpus_wanted if count > 1)
    expected = (f"at least {max(most, 1)}" + (f" (of them {who})" if who else "")) if gpu else "optional"
    without = "drop --gpu" if asked else "add --no-gpu"
    found = "; ".join(machine.gpus) or "none that NVML sees"
    if broken:
        mend = f"mend the driver (`nvidia-smi` says more), or {without}"
        yield (_error if gpu else _warning)("GPU", found, expected, mend)
    elif gpu and not machine.gpus:
        yield _error("GPU", found, expected, f"install NVIDIA's driver, or {without}")
    elif gpu and len(machine.gpus) < most:
        yield _error("GPU", found, expected, f"lower its `gpus` in stack/composition.yaml, or {without}")
    else:
        yield Prerequisite(name="GPU", level=Level.OK, found=found, expected=expected)
    if not gpu or containers.engine.problem:
        return
    wanted = "NVIDIA's container toolkit on the engine's machine"
    if containers.engine.gpu_driver is None:
        yield Prerequisite(name="GPU in containers", level=Level.UNKNOWN, found="an engine elsewhere", expected=wanted)
    elif not containers.engine.gpu_driver:
        mend = f"install nvidia-container-toolkit and start the engine again, or {without}"
        yield _error("GPU in containers", "no runtime and no hook of NVIDIA's", wanted, mend)
    else:
        yield Prerequisite(name="GPU in containers", level=Level.OK, found="there", expected=wanted)


def _images(images: tuple[ImageFact, ...] | None) -> Iterator[Prerequisite]:
    expected = "at hand, to be built, or to be pulled"
    if images is None:
        yield Prerequisite(name="images", level=Level.UNKNOWN, found="no engine to ask", expected=expected)
        return
    away = [item for item in images if item.state != "here"]
    found = f"{len(images) - len(away)} of {len(images)} at hand"
    if spare := [item.key for item in away if not item.needed]:
        found += f"; not here, and no gate needs them: {', '.join(spare)}"
    yield Prerequisite(name="images", level=Level.OK, found=found, expected=expected)
    for item in away:
        if not item.needed:
            continue
        todo = "to be built" if item.state == "buildable" else "to be pulled, which nothing has tried yet"
        yield _warning(f"image {item.key}", f"{item.reference} is not here: {todo}", "at hand before a gate", item.mend)


def _ports(ports: tuple[PortFact, ...], *, publishes: bool) -> Iterator[Prerequisite]:
    """Judge what the composition publishes; a gate takes free ports, so that a taken one only warns it."""
    twice = {number for number, count in Counter(port.number for port in ports if port.number).items() if count > 1}
    free = 0
    for port in ports:
        name = f"port {port.number or port.found!r} ({port.service} {port.name})"
        mend = f"set {port.variable} to a free port" if port.variable else "end who has it"
        if not port.number:
            yield _error(name, f"{port.variable} is {port.found!r}", "a port, 1 to 65535", f"correct {port.variable}")
        elif port.number in twice:
            others = [one.service for one in ports if one.number == port.number and one is not port]
            yield _error(name, f"also wanted by {', '.join(others)}", "a port of its own", mend)
        elif port.holder:
            expected = "free" if publishes else "free for `docker compose up`; a gate takes other ports"
            yield (_error if publishes else _warning)(name, f"taken by {port.holder}", expected, mend)
        else:
            free += 1
    if ports:
        found = f"{free} of {len(ports)} free"
        yield Prerequisite(name="ports", level=Level.OK, found=found, expected="what the composition publishes is free")


def _settings(containers: Containers) -> Iterator[Prerequisite]:
    expected = "NAME=value lines"
    if not containers.settings_file:
        found = "no .env: defaults, and the environment"
        yield Prerequisite(name="settings", level=Level.OK, found=found, expected="optional")
        return
    yield from _texts("settings", containers.settings, expected, sound=containers.settings_file)


def _texts(name: str, wrong: tuple[str, ...], expected: str, sound: str = "sound") -> Iterator[Prerequisite]:
    if not wrong:
        yield Prerequisite(name=name, level=Level.OK, found=sound, expected=expected)
    for text in wrong:  # each ends with its own mend
        yield _error(name, text, expected, "")


def _error(name: str, found: str, expected: str, mend: str) -> Prerequisite:
    return Prerequisite(name=name, level=Level.ERROR, found=found, expected=expected, mend=mend)


def _warning(name: str, found: str, expected: str, mend: str) -> Prerequisite:
    return Prerequisite(name=name, level=Level.WARNING, found=found, expected=expected, mend=mend)
