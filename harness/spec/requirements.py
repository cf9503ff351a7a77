"""What the conformance suites hold the services of a system to, as data: conformance.yaml."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.model.errors import SpecError
from harness.model.system import Flag
from harness.spec import build
from harness.spec.flags import FlagRequirement, check_required, required_flag
from harness.spec.inventory import Inventory
from harness.spec.problems import Problems, first, read, unknown
from harness.spec.schema import ConformanceFile, InventorySpec, PlanSpec, ServiceSpec

FILE = "conformance.yaml"
Fact = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What one service must be: its inventory, facts by name, and the catalog ids that its cases prove."""

    covers: tuple[str, ...] = ()
    inventory: Inventory = field(default_factory=Inventory)
    facts: Mapping[str, Fact] = field(default_factory=dict[str, Fact])


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequirement:
    """The stages that a plan must have, in percent, and the catalog ids that a run through them proves."""

    covers: tuple[str, ...]
    percent: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """Requirements by service, by plan and by flag; empty for a system without conformance.yaml."""

    services: Mapping[str, Requirement] = field(default_factory=dict[str, Requirement])
    plans: Mapping[str, PlanRequirement] = field(default_factory=dict[str, PlanRequirement])
    flags: Mapping[str, FlagRequirement] = field(default_factory=dict[str, FlagRequirement])

    def of(self, service: str) -> Requirement:
        """Return what `service` must be; nothing where nothing is required."""
        return self.services.get(service, Requirement())


def load_requirements(root: Path) -> Requirements:
    """Return the requirements of a system's folder. Raises SpecError for a file that is wrong."""
    if not (root / FILE).exists():
        return Requirements()
    try:
        _, spec = read(root / FILE, ConformanceFile)
    except Problems as problems:
        raise first(problems.errors) from None
    return Requirements(
        services={
            name: Requirement(covers=tuple(item.covers), inventory=_inventory(item.inventory), facts=dict(item.facts))
            for name, item in spec.services.items()
        },
        plans={
            name: PlanRequirement(covers=tuple(item.covers), percent=tuple(item.percent))
            for name, item in spec.plans.items()
        },
        flags={name: required_flag(item) for name, item in spec.flags.items()},
    )


def _inventory(item: InventorySpec) -> Inventory:
    return Inventory(
        ports=None if item.ports is None else tuple(item.ports),
        health=item.health,
        start_period_s=item.start_period_s,
        memory_gb=item.memory_gb,
        cpus=item.cpus,
        gpus_max=item.gpus_max,
        gpu=item.gpu,
    )


def requirement_problems(
    root: Path, services: Mapping[str, ServiceSpec], plans: Mapping[str, PlanSpec], flags: Sequence[Flag]
) -> list[SpecError]:
    """Return everything that is wrong with conformance.yaml, where there is one."""
    if not (root / FILE).exists():
        return []
    try:
        document, spec = read(root / FILE, ConformanceFile)
    except Problems as problems:
        return list(problems.errors)
    wrong: list[SpecError] = []
    for name, item in spec.services.items():
        if name not in services:
            wrong.append(unknown(document, ("services", name), name, services, "services"))
            continue
        for key, message in _inventory(item.inventory).differences(build.service(name, services[name])):
            wrong.append(document.problem(("services", name, "inventory", key), message, mend="correct either"))
    for name, item in spec.plans.items():
        plan = plans.get(name)
        if plan is None:
            wrong.append(unknown(document, ("plans", name), name, plans, "plans of rollout.yaml"))
        elif [stage.share for stage in plan.stages] != item.percent:
            shares = ", ".join(f"{stage.share:g}" for stage in plan.stages)
            message = f"found {shares} in rollout.yaml, expected {', '.join(f'{share:g}' for share in item.percent)}"
            wrong.append(document.problem(("plans", name), message, mend="correct the stages of that plan"))
    return [*wrong, *check_required(document, spec, flags)]
