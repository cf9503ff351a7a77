"""From what a machine has to what is amiss: pure judgements, each with found, expected and mend."""

from collections.abc import Iterator

from harness.model.preflight import GB, Containers, Engine, Floor, Got, Level, Machine, Prerequisite, Requirements
from harness.planning.preflight_containers import judge_containers

OLDEST_PYTHON = (3, 11)


def floor_of(containers: Containers | None, *, gpu: bool) -> str:
    """Return the name of the floor that holds: "native", "containers" or "gpu"."""
    return "native" if containers is None else "gpu" if gpu else "containers"


def judge(
    machine: Machine,
    requirements: Requirements,
    *,
    containers: Containers | None = None,
    gpu: bool = False,
    asked_gpu: bool = False,
    publishes: bool = False,
    got: tuple[Got, ...] = (),
) -> tuple[Prerequisite, ...]:
    """Return every prerequisite of a stack, in the order in which a person mends them.

    Without `containers` it is the native stack's. `gpu`: the stack runs with GPUs, which the user asked for by name
    where `asked_gpu`. `publishes`: the stack takes the composition's own port numbers, so that a taken one is an
    error and no warning. `got` is what was fetched for a system.
    """
    floor = requirements.floor(floor_of(containers, gpu=gpu))
    found = [*_machine(machine), _memory(machine, containers, floor), *_disks(machine, containers, requirements, floor)]
    if containers is None:
        found.append(_gpus_native(machine))
        found += [_got(item) for item in got]
    else:
        found += judge_containers(machine, containers, requirements, gpu=gpu, asked_gpu=asked_gpu, publishes=publishes)
    return tuple(found)


def _machine(machine: Machine) -> Iterator[Prerequisite]:
    fine = machine.python >= OLDEST_PYTHON
    wanted = ".".join(map(str, OLDEST_PYTHON))
    yield Prerequisite(
        name="Python",
        level=Level.OK if fine else Level.ERROR,
        found=".".join(map(str, machine.python)),
        expected=f"{wanted} or later",
        mend="" if fine else f"install Python {wanted} and run `make setup` again",
    )
    yield Prerequisite(name="cores", level=Level.OK, found=str(machine.cores), expected="any number")
    yield Prerequisite(
        name="cache",
        level=Level.OK if machine.cache.writable else Level.ERROR,
        found=machine.cache.path if machine.cache.writable else f"{machine.cache.path}, which this user cannot write",
        expected="a folder that can be written",
        mend="" if machine.cache.writable else "set ROLLGATE_CACHE to a folder of yours",
    )


def _memory(machine: Machine, containers: Containers | None, floor: Floor) -> Prerequisite:
    """Judge the engine's memory where one answers: containers run there, which may be another machine."""
    engine = _answering(containers)
    memory = engine.memory_bytes if engine else machine.memory_bytes
    level = Level.OK
    if memory < floor.memory_gb * GB:
        level = Level.ERROR
    elif memory < floor.memory_advised_gb * GB:
        level = Level.WARNING
    advised = f", {floor.memory_advised_gb:g} advised" if floor.memory_advised_gb else ""
    mend = "give the machine more memory, or lower the NAME_MEMORY_LIMIT of services" if containers else ""
    return Prerequisite(
        name="memory",
        level=level,
        found=f"{memory / GB:.1f} GiB",
        expected=f"{floor.memory_gb:g} GiB{advised}",
        mend="" if level is Level.OK else mend or "give the machine more memory",
    )


def _disks(
    machine: Machine, containers: Containers | None, requirements: Requirements, floor: Floor
) -> Iterator[Prerequisite]:
    """Judge the disk where programs and models lie, and the engine's, where images and volumes do."""
    own = requirements.floor("native")
    yield _disk("disk", machine.cache.free_bytes, machine.cache.path, own.disk_gb)
    if containers is not None:
        space = containers.engine.space
        free = space.free_bytes if space else None
        yield _disk("engine disk", free, space.path if space else "", floor.disk_gb)


def _disk(name: str, free: int | None, path: str, floor_gb: float) -> Prerequisite:
    at = f" at {path}" if path else ""
    if free is None:
        return Prerequisite(
            name=name,
            level=Level.UNKNOWN,
            found=f"cannot be seen from here{at}",
            expected=f"{floor_gb:g} GiB free",
            mend="look on the engine's machine: `df -h` of its folder (`docker info`, Docker Root Dir)",
        )
    short = free < floor_gb * GB
    return Prerequisite(
        name=name,
        level=Level.ERROR if short else Level.OK,
        found=f"{free / GB:.1f} GiB free{at}",
        expected=f"{floor_gb:g} GiB free",
        mend="free space there, or move it to a larger disk" if short else "",
    )


def _gpus_native(machine: Machine) -> Prerequisite:
    found = "; ".join(machine.gpus) or "none, not needed by the embedded default"
    return Prerequisite(name="GPU", level=Level.OK, found=found, expected="optional")


def _got(item: Got) -> Prerequisite:
    return Prerequisite(
        name=item.name,
        level=Level.ERROR if item.problem else Level.OK,
        found=item.problem or item.detail,
        expected="at hand, or to be fetched",
        mend="",  # the problem's own text ends with it
    )


def _answering(containers: Containers | None) -> Engine | None:
    return containers.engine if containers is not None and not containers.engine.problem else None
