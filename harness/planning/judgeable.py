"""What can be judged of a deployed stack: objectives whose sources a target lacks are told apart, never passed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.model.evidence import Source
from harness.model.judgement import Judgement
from harness.model.objective import Objective, Severity
from harness.model.status import Status
from harness.model.system import Check, Service, System
from harness.model.target import Target

_ASKED = frozenset({"http", "tcp"})  # a redis check wants a password that a target file has no place for
_NOT_RUN = "conformance suites ask a stack that rollgate brought up; a deployed one is probed instead"
_NO_LOAD = "no load of rollgate's own is sent"
_NOT_SEEN = "the exits of a deployed stack's processes are not seen from outside"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgeable:
    """A system with the objectives that can be judged, each with the sources that are there; `absent` are the rest."""

    system: System
    absent: tuple[Judgement, ...] = ()

    @property
    def decides(self) -> bool:
        """Whether a guardrail is left."""
        return any(objective.severity is Severity.CRITICAL for objective in self.system.objectives)


def judgeable(system: System, target: Target, *, load: bool = True) -> Judgeable:
    """Return what can be judged of `system` where `target` stands.

    An objective with several sources keeps those that are there. A source that is not there is one judgement,
    `not_applicable`, with the reason. Without `load` there is no client to see anything.
    """
    kept: list[Objective] = []
    absent: list[Judgement] = []
    for objective in system.objectives:
        whys = {source: _lacking(objective, source, system, target, load=load) for source in objective.sources}
        lacking = {source: why for source, why in whys.items() if why}
        absent += [_not_applicable(objective, source, why) for source, why in lacking.items()]
        sources = tuple(source for source in objective.sources if source not in lacking)
        if sources:
            kept.append(replace(objective, sources=sources))
    return Judgeable(system=replace(system, objectives=tuple(kept)), absent=tuple(absent))


def deployed_checks(service: Service) -> Sequence[Check]:
    """Return the checks of a service that can be asked from outside."""
    return [check for check in service.checks if check.kind in _ASKED]


def _lacking(objective: Objective, source: Source, system: System, target: Target, *, load: bool) -> str:
    """Return why `source` is not there for an objective; "" when it is."""
    match source:
        case Source.PROMETHEUS:
            return "" if target.prometheus else "the target names no Prometheus"
        case Source.SUITE:
            return _NOT_RUN
        case Source.PROBE:
            return _unprobed(objective.signal, system)
        case Source.CLIENT:
            return "" if load else _NO_LOAD


def _unprobed(signal: str, system: System) -> str:
    """Return why nothing probes `signal`: only the gateway's own endpoints are known by address."""
    root, _, rest = signal.partition(".")
    gateway = system.service(system.traffic.gateway)
    if root == "restarts":
        return _NOT_SEEN
    if rest and rest.partition(".")[0] != gateway.name:
        return f"the target names no address of {rest.partition('.')[0]}"
    if root == "health" and gateway.health.kind not in _ASKED:
        return f"{gateway.name} has no health endpoint that can be asked from outside"
    if root == "check" and not deployed_checks(gateway):
        return f"{gateway.name} has no checks that can be asked from outside"
    return ""


def _not_applicable(objective: Objective, source: Source, why: str) -> Judgement:
    return Judgement(
        id=objective.id,
        status=Status.NOT_APPLICABLE,
        requirement=objective.requirement,
        source=source.value,
        unit=objective.unit,
        reason=f"not judged: {why}",
        severity=objective.severity.value,
        comparator=objective.comparator,
    )
