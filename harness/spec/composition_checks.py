"""What a composition must be beyond its form: names that exist, ports that do not meet, texts that mean something."""

from collections.abc import Collection, Iterable, Iterator
from graphlib import CycleError, TopologicalSorter

from harness.model.composition import Composition, Container, Unit
from harness.model.errors import SpecError
from harness.planning.composition import render, settings, units_of
from harness.spec.document import Document, Key
from harness.spec.problems import unknown


def composition_problems(document: Document, composition: Composition, images: Collection[str]) -> Iterator[SpecError]:
    """Yield everything that is wrong with a composition whose form is right."""
    for service in composition.services:
        at = ("services", service.name)
        if service.image not in images:
            yield unknown(document, (*at, "image"), service.image, images, "images")
        yield from _health(document, at, service)
        yield from _resources(document, at, service)
        yield from _mounts(document, at, service, composition)
        yield from _names(document, at, service, composition)
        yield from _texts(document, at, service, composition)
    yield from _used(document, composition)
    yield from _ports(document, composition)
    yield from _defaults(document, composition)
    yield from _cycles(document, composition)


def texts(service: Container) -> Iterator[tuple[Key, str]]:
    """Yield every text of a service that may hold references, with its place."""
    for index, word in enumerate(service.entrypoint):
        yield ("entrypoint", index), word
    for index, word in enumerate(service.command):
        yield ("command", index), word
    for name, value in service.env:
        yield ("env", name), value
    for index, mount in enumerate(service.mounts):
        yield ("mounts", index, "source"), mount.source
    yield ("health", "line"), service.health.line
    yield ("health", "path"), service.health.path


def _health(document: Document, at: Key, service: Container) -> Iterator[SpecError]:
    health = service.health
    names = [port.name for port in service.ports]
    needs = {"http": ("port", "path", "tool"), "command": ("line",)}[health.kind]
    for key in needs:
        if not getattr(health, key):
            message = f"found no `{key}`, expected one for {health.kind}"
            yield document.problem((*at, "health"), message, mend=f"add `{key}: ...`")
    if health.port and health.port not in names:
        yield unknown(document, (*at, "health", "port"), health.port, names, "ports")
    if service.metrics and service.metrics[0] not in names:
        yield unknown(document, (*at, "metrics", "port"), service.metrics[0], names, "ports")
    if bool(service.metrics) != bool(service.job):
        lacking = "job" if service.metrics else "metrics"
        yield document.problem(at, f"found no `{lacking}`, expected `metrics` and `job` together", mend="add it")


def _resources(document: Document, at: Key, service: Container) -> Iterator[SpecError]:
    for key in ("memory_gb", "cpus"):
        limit, kept = getattr(service.limits, key), getattr(service.reservations, key)
        if kept > limit:
            message = f"found {kept:g}, expected at most the limit of {limit:g}"
            yield document.problem((*at, "reservations", key), message, mend="keep less, or raise the limit")
    gpus = service.gpus
    if gpus and "gpu" not in service.profiles:
        message = "found GPUs outside the profile gpu, expected them in it"
        yield document.problem((*at, "gpus"), message, mend="add gpu to `profiles`, or drop `gpus`")
    if gpus and gpus.ids and gpus.count is not None:
        yield document.problem((*at, "gpus"), "found `count` and `ids`, expected one of them", mend="drop one")
    if len(set(service.profiles)) != len(service.profiles):
        yield document.problem((*at, "profiles"), "found a profile twice, expected each once", mend="drop one")


def _mounts(document: Document, at: Key, service: Container, composition: Composition) -> Iterator[SpecError]:
    root = document.path.parent
    targets: set[str] = set()
    for index, mount in enumerate(service.mounts):
        here = (*at, "mounts", index)
        if mount.target in targets:
            yield document.problem(
                (*here, "target"), f"found {mount.target} twice, expected each once", mend="drop one"
            )
        targets.add(mount.target)
        if (mount.kind == "targets") == bool(mount.source):
            expected = "none: the file is made" if mount.source else f"one for {mount.kind}"
            message = f"found {mount.source or 'no source'}, expected {expected}"
            yield document.problem((*here, "source"), message, mend="correct the source")
        elif mount.kind == "volume" and mount.source not in composition.volumes:
            yield unknown(document, (*here, "source"), mount.source, composition.volumes, "volumes")
        elif mount.kind == "shipped" and not (root / mount.source).exists():
            message = f"found {mount.source!r}, expected a file or folder below {root.name}/"
            yield document.problem((*here, "source"), message, mend="correct the path")


def _names(document: Document, at: Key, service: Container, composition: Composition) -> Iterator[SpecError]:
    known = [one.name for one in composition.services]
    for index, name in enumerate(service.depends):
        if name not in known:
            yield unknown(document, (*at, "depends", index), name, known, "services")
    for index, name in enumerate(service.secrets):
        if name not in composition.secrets:
            yield unknown(document, (*at, "secrets", index), name, composition.secrets, "secrets")


def _texts(document: Document, at: Key, service: Container, composition: Composition) -> Iterator[SpecError]:
    for place, text in texts(service):
        for unit in units_of(service):
            if found := _meaningless(text, unit, composition):
                message = f"found ${{{found}}}, expected a reference that means something here"
                mend = "${SERVICE.PORT}, ${port.NAME}, ${secret_file.NAME} of its secrets, ${arm}, ${NAME:-default}"
                yield document.problem((*at, *place), message, mend=mend)
                break


def _meaningless(text: str, unit: Unit, composition: Composition) -> str:
    try:
        render(text, unit, composition, setting=lambda _, default: default)
    except KeyError as error:
        return str(error.args[0])
    return ""


def _used(document: Document, composition: Composition) -> Iterator[SpecError]:
    """Yield what is declared and never used: a mistyped name shows here too."""
    volumes = {mount.source for one in composition.services for mount in one.mounts if mount.kind == "volume"}
    secrets = {name for one in composition.services for name in one.secrets}
    for key, declared, used in (("volumes", composition.volumes, volumes), ("secrets", composition.secrets, secrets)):
        for index, name in enumerate(declared):
            if name not in used:
                message = f"found {name!r}, expected a name that a service uses"
                yield document.problem((key, index), message, mend="drop it, or let a service use it")


def _ports(document: Document, composition: Composition) -> Iterator[SpecError]:
    numbers: dict[int, str] = {}
    variables: dict[str, str] = {}
    for service in composition.services:
        for port in service.ports:
            here, name = ("services", service.name, "ports", port.name), f"{service.name}.{port.name}"
            if port.host is not None and numbers.setdefault(port.host, name) != name:
                message = f"found {port.host}, which {numbers[port.host]} has on the host too"
                yield document.problem((*here, "host"), message, mend="choose a free one")
            if port.variable and variables.setdefault(port.variable, name) != name:
                message = f"found {port.variable}, which moves {variables[port.variable]} too"
                yield document.problem((*here, "variable"), message, mend="choose another name")
            if (port.host is None) != (not port.variable):
                message = "found one of `host` and `variable`, expected both or none"
                yield document.problem(here, message, mend="a published port can be moved, another cannot")


def _defaults(document: Document, composition: Composition) -> Iterator[SpecError]:
    """Yield settings whose default is one thing here and another there."""
    defaults: dict[str, str] = {}
    for service in composition.services:
        for place, text in texts(service):
            for name, default in settings(text):
                if defaults.setdefault(name, default) != default:
                    message = f"found {default!r} as default of {name}, elsewhere it is {defaults[name]!r}"
                    yield document.problem(("services", service.name, *place), message, mend="use one default")


def _cycles(document: Document, composition: Composition) -> Iterator[SpecError]:
    graph: dict[str, Iterable[str]] = {one.name: one.depends for one in composition.services}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = list(error.args[1])
        message = f"found a circle: {' -> '.join(circle)}"
        yield document.problem(("services", circle[0], "depends"), message, mend="drop one of these dependencies")
