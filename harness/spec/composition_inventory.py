"""A system's inventory and the composition: what both say of a service must be the same."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from harness import paths
from harness.model.composition import Composition, Container
from harness.model.errors import SpecError
from harness.model.image import Image
from harness.model.system import Service, System
from harness.spec.composition import FILE
from harness.spec.document import Document, Key, read_document


def inventory_problems(
    composition: Composition, images: Mapping[str, Image], system: System, path: Path | None = None
) -> list[SpecError]:
    """Return where the composition (of `path`) and the inventory of `system` contradict each other.

    Services that only one of them has are no contradiction, nor is what the inventory leaves open.
    """
    document = read_document(path or paths.share_root() / FILE)
    known = {service.name: service for service in composition.services}
    return [
        error
        for service in system.services
        if service.name in known
        for error in _compared(document, known[service.name], images[known[service.name].image], service)
    ]


def _compared(document: Document, here: Container, image: Image, there: Service) -> Iterator[SpecError]:
    for key, found, expected in _facts(here, image, there):
        if found != expected:
            message = f"found {_shown(found)}, but system.yaml says {_shown(expected)}"
            at: Key = ("services", here.name, *key)
            yield document.problem(at, message, mend="correct the one that is wrong")


def _facts(here: Container, image: Image, there: Service) -> Iterator[tuple[Key, object, object]]:
    yield ("ports",), {port.name: port.number for port in here.ports}, dict(there.ports)
    yield ("component",), here.component, there.component
    yield ("per_arm",), here.per_arm, there.per_arm
    yield ("gpus",), here.gpus is not None, there.gpu
    yield ("depends",), set(here.depends), set(there.depends)
    yield ("health", "start_period_s"), here.health.start_period_s, there.health.start_period_s
    if here.health.path:
        yield ("health", "path"), here.health.path, there.health.path
        yield ("health", "port"), here.health.port, there.health.port
    if there.image:
        yield ("image",), image.plain, there.image
    if there.resources.memory_gb is not None:
        yield ("limits", "memory_gb"), here.limits.memory_gb, there.resources.memory_gb
    if there.resources.cpus is not None:
        yield ("limits", "cpus"), here.limits.cpus, there.resources.cpus
    if there.resources.gpus_max is not None and here.gpus and here.gpus.count is not None:
        yield ("gpus", "count"), min(here.gpus.count, there.resources.gpus_max), here.gpus.count
    if here.metrics:
        yield ("metrics",), here.metrics, there.metrics
        yield ("job",), here.job, there.job


def _shown(value: object) -> str:
    if isinstance(value, set):
        names = sorted(str(item) for item in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        return ", ".join(names) or "nothing"
    return f"{value:g}" if isinstance(value, float) else str(value)
