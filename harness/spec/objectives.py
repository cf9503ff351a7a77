"""Cross-checks of objectives and plans: an objective that could never be judged is refused before anything starts."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.model.errors import SpecError
from harness.spec.document import Document, Key
from harness.spec.problems import suggestion, unknown
from harness.spec.schema import ObjectivesFile, ObjectiveSpec, PlanSpec, RolloutFile, ScenariosFile, SystemFile
from harness.spec.scores import check_comparator, check_part, check_source

_BUILT_IN = ("alerts", "assignment", "check", "health", "load", "metrics", "restarts", "suite")
_CLOSE = 1e-6  # looks: what rounding may do to a quotient of two decimals
_UNITS = {
    ("ratio", "number"): "%",
    ("ratio", "baseline"): "points",
    ("quantile", "number"): "ms",
    ("quantile", "baseline"): "%",
    ("score", "number"): "%",
    ("score", "baseline"): "points",
}
_SOURCE_OF = {
    "availability": "probe",
    "growth": "prometheus",
    "collected": "prometheus",
    "alerts": "prometheus",
    "suite": "suite",
}


def sources_of(objective: ObjectiveSpec) -> tuple[str, ...]:
    """Return the sources that the file names, or the one that fits the measure."""
    return tuple(objective.sources or (_SOURCE_OF.get(objective.measure, "client"),))


def check_objectives(
    document: Document,
    objectives: ObjectivesFile,
    system: SystemFile,
    rollout: RolloutFile | None,
    scenarios: ScenariosFile | None,
) -> Iterator[SpecError]:
    """Signals, thresholds, quantiles, units and stages of every objective."""
    stages = {
        stage_id(stage.id, stage.share) for plan in (rollout.plans if rollout else {}).values() for stage in plan.stages
    }
    for name, objective in objectives.objectives.items():
        at: Key = ("objectives", name)
        yield from _signal(document, at, objective, system)
        yield from check_source(document, at, objective, sources_of(objective), system=system, scenarios=scenarios)
        yield from check_comparator(document, at, objective)
        yield from _numbers(document, at, objective)
        yield from _alerts(document, at, objective, system)
        if objective.threshold is not None:
            yield from check_bound(document, (*at, "threshold"), objective, objective.threshold, system)
        if rollout:
            for index, stage in enumerate(objective.stages):
                if stage not in stages:
                    yield unknown(document, (*at, "stages", index), stage, stages, "stages of any plan")


def check_bound(
    document: Document, key: Key, objective: ObjectiveSpec, threshold: float, system: SystemFile
) -> Iterator[SpecError]:
    """A latency threshold must be a bucket bound with one above it: a count between bounds would be a guess.

    A score's lies within its scale, and a ratio's between none and all.
    """
    yield from check_part(document, key, objective, threshold)
    if objective.measure != "quantile" or objective.against != "number":
        return
    bounds = system.traffic.latency_bounds_ms
    listed = ", ".join(f"{bound:g}" for bound in bounds)
    if not any(math.isclose(bound, threshold, rel_tol=1e-9) for bound in bounds):
        yield document.problem(
            key,
            f"found {threshold:g} ms, expected one of traffic.latency_bounds_ms ({listed})",
            mend=f"add {threshold:g} to traffic.latency_bounds_ms in system.yaml, or choose one of them",
        )
    elif threshold >= bounds[-1] * (1 - 1e-9):
        yield document.problem(
            key,
            f"found {threshold:g} ms, the last of traffic.latency_bounds_ms, expected one bound above it",
            mend=f"add a bound above {threshold:g} to traffic.latency_bounds_ms in system.yaml",
        )


def _numbers(document: Document, at: Key, objective: ObjectiveSpec) -> Iterator[SpecError]:
    measured = objective.measure in ("ratio", "quantile", "growth", "score")
    if measured and objective.threshold is None:
        yield document.problem((*at, "threshold"), "missing, expected a number", mend="add `threshold: ...` here")
    if objective.threshold is not None and objective.threshold < 0:
        yield document.problem(
            (*at, "threshold"), f"found {objective.threshold:g}, expected 0 or more", mend="correct the value"
        )
    if (objective.measure == "quantile") != (objective.quantile is not None):
        found, mend = (
            ("missing, expected a number between 0 and 1", "add `quantile: 0.95`")
            if objective.quantile is None
            else (f"found a quantile beside measure `{objective.measure}`", "drop it, or set `measure: quantile`")
        )
        yield document.problem((*at, "quantile"), found, mend=mend)
    unit = _UNITS.get((objective.measure, objective.against))
    if unit and objective.unit != unit:
        yield document.problem(
            (*at, "unit"),
            f"found `{objective.unit}`, expected `{unit}` for a {objective.measure} against a {objective.against}",
            mend=f'write `unit: "{unit}"` and the threshold in it',
        )


def _alerts(document: Document, at: Key, objective: ObjectiveSpec, system: SystemFile) -> Iterator[SpecError]:
    """An objective on alerts is read from Prometheus, and from nothing else."""
    if objective.measure != "alerts":
        return
    if objective.signal != "alerts":
        found = f"found `{objective.signal}`, expected `alerts` for measure `alerts`"
        yield document.problem((*at, "signal"), found, mend="write `signal: alerts`")
    if sources_of(objective) != ("prometheus",):
        found = f"found {', '.join(sources_of(objective))}, expected prometheus, whose rules tell which alerts fire"
        yield document.problem((*at, "sources"), found, mend="write `sources: [prometheus]`")
    elif not system.traffic.metrics_service:
        found = "found `alerts`, and the system names no Prometheus that could tell them"
        yield document.problem((*at, "measure"), found, mend="name it in traffic.metrics_service of system.yaml")


def _signal(document: Document, at: Key, objective: ObjectiveSpec, system: SystemFile) -> Iterator[SpecError]:
    signal = system.signals.get(objective.signal)
    if signal is None:
        if objective.measure != "score" and not _is_built_in(objective.signal, system):
            yield unknown(
                document, (*at, "signal"), objective.signal, [*system.signals, *_BUILT_IN], "signals of system.yaml"
            )
        return
    needs: Mapping[str, tuple[bool, str]] = {
        "ratio": (bool(signal.bad and signal.total), "`bad` and `total`"),
        "quantile": (bool(signal.histogram), "`histogram`"),
        "growth": (bool(signal.gauge), "`gauge`"),
        "score": (bool(signal.histogram or (signal.gauge and not signal.bad)), "`histogram` or `gauge`"),
    }
    for index, source in enumerate(sources_of(objective)):
        key = (*at, "sources", index)
        if source == "client" and not signal.client:
            yield document.problem(
                key, f"found client, but `{objective.signal}` has none", mend="add `client: true` to that signal"
            )
        has, keys = needs.get(objective.measure, (True, ""))
        if source == "prometheus" and not has:
            yield document.problem(
                key,
                f"found prometheus, but `{objective.signal}` lacks {keys} for a {objective.measure}",
                mend=f"add {keys} to that signal in system.yaml",
            )


def _is_built_in(name: str, system: SystemFile) -> bool:
    if name in _BUILT_IN:
        return True
    head, _, rest = name.partition(".")
    if head == "suite":
        return True
    if head == "health":
        return rest in system.services
    service, _, check = rest.partition(".")
    return head == "check" and service in system.services and (not check or check in system.services[service].checks)


def check_plans(
    document: Document, rollout: RolloutFile, objectives: ObjectivesFile | None, system: SystemFile | None
) -> Iterator[SpecError]:
    """Stages rise to their end, bakes, deadlines and intervals fit, and what names objectives names known ones."""
    for name, plan in rollout.plans.items():
        at: Key = ("plans", name)
        yield from _stages(document, at, plan)
        if plan.interval_s is not None:
            yield from check_interval(document, (*at, "interval_s"), plan.interval_s, plan.look_s)
        if objectives is None:
            continue
        yield from check_margins(document, (*at, "margins"), plan.margins, objectives, system)
        yield from check_choices(document, at, plan.weights, plan.informational, objectives)


def interval_of(given: float | None, look_s: float) -> float:
    """Return the judging interval, s: as given, or the first whole number of looks that makes a second."""
    return given if given is not None else look_s * max(1, math.ceil(1 / look_s - _CLOSE))


def check_interval(document: Document, key: Key, interval_s: float, look_s: float) -> Iterator[SpecError]:
    """A judging interval is a whole number of looks: evidence comes in that grain."""
    looks = interval_s / look_s
    if looks < 1 - _CLOSE:
        yield document.problem(
            key,
            f"found {interval_s:g}, expected at least look_s = {look_s:g}",
            mend=f"write {look_s:g} or a multiple of it",
        )
    elif abs(looks - round(looks)) > _CLOSE:
        yield document.problem(
            key,
            f"found {interval_s:g}, expected a multiple of look_s = {look_s:g}",
            mend=f"write {math.ceil(looks) * look_s:g}, or change look_s",
        )


def check_margins(
    document: Document,
    at: Key,
    margins: Mapping[str, float],
    objectives: ObjectivesFile,
    system: SystemFile | None,
) -> Iterator[SpecError]:
    """Margins name objectives, are no less than 0, and can be counted exactly."""
    for name, value in margins.items():
        key: Key = (*at, name)
        objective = objectives.objectives.get(name)
        if objective is None:
            yield unknown(document, key, name, objectives.objectives, "objectives")
        elif value < 0:
            yield document.problem(key, f"found {value:g}, expected 0 or more", mend="correct the value")
        elif system:
            yield from check_bound(document, key, objective, value, system)


def check_choices(
    document: Document, at: Key, weights: Mapping[str, float], informational: Sequence[str], objectives: ObjectivesFile
) -> Iterator[SpecError]:
    """Weights name objectives; what is only shown was a guardrail before, and one guardrail is left to decide."""
    known = objectives.objectives
    for name in weights:
        if name not in known:
            yield unknown(document, (*at, "weights", name), name, known, "objectives")
    guardrails = {name for name, objective in known.items() if objective.severity == "critical"}
    for index, name in enumerate(informational):
        key: Key = (*at, "informational", index)
        if name not in known:
            yield unknown(document, key, name, guardrails, "guardrails")
        elif name not in guardrails:
            severity = known[name].severity
            yield document.problem(
                key, f"found `{name}`, which is no guardrail (severity {severity})", mend="drop it here"
            )
        elif name in informational[:index]:
            yield document.problem(key, f"found `{name}` twice, expected it once", mend="drop one of the two")
    if guardrails and guardrails <= set(informational):
        yield document.problem(
            (*at, "informational"), "found every guardrail, expected one left that decides", mend="drop one of them"
        )


def _stages(document: Document, at: Key, plan: PlanSpec) -> Iterator[SpecError]:
    before, seen = 0.0, dict[str, int]()
    for index, stage in enumerate(plan.stages):
        key: Key = (*at, "stages", index)
        share = min(stage.share, 100 - plan.holdout)
        if share <= before:
            held = f" (with a holdout of {plan.holdout:g})" if share < stage.share else ""
            yield document.problem(
                (*key, "share"),
                f"found {stage.share:g}{held} after {before:g}, expected shares that rise strictly",
                mend="order the stages by their share, each above the one before",
            )
        before = share
        if stage.min_bake_s > stage.max_bake_s:
            yield document.problem(
                (*key, "max_bake_s"),
                f"found {stage.max_bake_s:g}, expected at least min_bake_s = {stage.min_bake_s:g}",
                mend="raise max_bake_s or lower min_bake_s",
            )
        name = stage_id(stage.id, stage.share)
        if name in seen:
            yield document.problem((*key, "id"), f"found `{name}` twice, expected ids of their own", mend="rename one")
        seen[name] = index
    least = plan.warmup_s + sum(stage.min_bake_s for stage in plan.stages)
    if plan.deadline_s < least:
        yield document.problem(
            (*at, "deadline_s"),
            f"found {plan.deadline_s:g}, expected at least warm-up plus all min_bake_s = {least:g}",
            mend="raise the deadline",
        )


def stage_id(given: str, share: float) -> str:
    """Return a stage's id: as given, or its share."""
    return given or f"{share:g}"


def check_scenario(document: Document, scenarios: ScenariosFile, share: Path) -> Iterator[SpecError]:
    """The Locust file exists, under rollgate's data root or in the system's folder."""
    name = scenarios.scenario.locustfile
    if not any((base / name).is_file() for base in (share, document.path.parent)):
        known = [f"scenarios/{item.name}" for item in (share / "scenarios").glob("*.py")]
        yield document.problem(
            ("scenario", "locustfile"),
            f"found `{name}`, expected a Locust file under {share.name}/ or in the system's folder",
            mend=suggestion(name, known, "scenarios"),
        )
