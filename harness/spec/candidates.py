"""Releases and drills: read, and held against their system."""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from harness.model.errors import SpecError
from harness.model.system import Drill, Release, System
from harness.spec import build
from harness.spec.crosscheck import check_drill, check_release
from harness.spec.document import Document
from harness.spec.problems import Problems, first, read
from harness.spec.references import Declared, Scope, programs_of
from harness.spec.schema import DrillFile, ReleaseFile

F = TypeVar("F", bound=BaseModel)


def load_release(path: Path, system: System) -> Release:
    """Read one release of `system`. Raises SpecError."""
    scope = _scope(system)
    try:
        return build.release(_checked(path, ReleaseFile, lambda file, spec: check_release(file, spec, scope)), path)
    except Problems as problems:
        raise first(problems.errors) from None


def load_drill(path: Path, system: System) -> Drill:
    """Read one drill of `system`. Raises SpecError."""
    scope, stages = (_scope(system), {stage.id for plan in system.plans for stage in plan.stages})
    try:
        return build.drill(_checked(path, DrillFile, lambda file, spec: check_drill(file, spec, scope, stages)), path)
    except Problems as problems:
        raise first(problems.errors) from None


def candidate_problems(root: Path, scope: Scope, stages: Collection[str] | None) -> list[SpecError]:
    """Return everything that is wrong with the releases and drills of a system's folder."""
    errors: list[SpecError] = []
    for path in sorted((root / "releases").glob("*.y*ml")):
        errors += _problems(path, ReleaseFile, lambda file, spec: check_release(file, spec, scope))
    for path in sorted((root / "drills").glob("*.y*ml")):
        errors += _problems(path, DrillFile, lambda file, spec: check_drill(file, spec, scope, stages))
    return errors


def _checked(path: Path, model: type[F], check: Callable[[Document, F], Iterable[SpecError]]) -> F:
    document, spec = read(path, model)
    errors = list(check(document, spec))
    if errors:
        raise Problems(errors)
    return spec


def _problems(path: Path, model: type[F], check: Callable[[Document, F], Iterable[SpecError]]) -> list[SpecError]:
    try:
        _checked(path, model, check)
    except Problems as problems:
        return list(problems.errors)
    return []


def _scope(system: System) -> Scope:
    services = {
        service.name: Declared(
            tuple(name for name, _ in service.ports),
            programs_of(service.native),
            service.per_arm,
            service.under_release,
        )
        for service in system.services
    }
    return Scope("", services, system.secrets)
