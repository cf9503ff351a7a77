"""What the conformance suites hold the services of a system to, as data: conformance.yaml."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.model.errors import SpecError
from harness.spec.problems import Problems, first, read, unknown
from harness.spec.schema import ConformanceFile

FILE = "conformance.yaml"
Fact = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What one service must be: facts by name, and the catalog ids that its cases prove."""

    covers: tuple[str, ...]
    facts: Mapping[str, Fact]


def load_requirements(root: Path) -> dict[str, Requirement]:
    """Return the requirements of a system's folder by service; none where it has no conformance.yaml.

    Raises SpecError for a file that is wrong.
    """
    if not (root / FILE).exists():
        return {}
    try:
        _, spec = read(root / FILE, ConformanceFile)
    except Problems as problems:
        raise first(problems.errors) from None
    return {
        name: Requirement(covers=tuple(item.covers), facts=dict(item.facts)) for name, item in spec.services.items()
    }


def requirement_problems(root: Path, services: Iterable[str]) -> list[SpecError]:
    """Return everything that is wrong with conformance.yaml, where there is one."""
    if not (root / FILE).exists():
        return []
    try:
        document, spec = read(root / FILE, ConformanceFile)
    except Problems as problems:
        return list(problems.errors)
    known = list(services)
    return [
        unknown(document, ("services", name), name, known, "services") for name in spec.services if name not in known
    ]
