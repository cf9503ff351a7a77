"""A policy file: what to change of a plan when a stored run is judged again."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.model.errors import SpecError
from harness.model.plan import OnInconclusive, RollbackOn, Stage, StagePlan
from harness.model.system import System
from harness.spec.document import Document, Key
from harness.spec.objectives import check_choices, check_interval, check_margins
from harness.spec.problems import Problems, first, read, unknown
from harness.spec.schema import ObjectivesFile, PolicyFile, SystemFile


def apply_policy(path: Path, system: System, plan: StagePlan) -> StagePlan:
    """Return `plan` with what the policy file at `path` changes; seconds are the plan's own, before any time scale.

    Margins and weights change id by id, `informational` as a whole. Raises SpecError, the first of all that is wrong.
    """
    try:
        document, policy = read(path, PolicyFile)
        _, objectives = read(system.root / "objectives.yaml", ObjectivesFile)
        _, inventory = read(system.root / "system.yaml", SystemFile)
    except Problems as problems:
        raise first(problems.errors) from None
    errors = list(_problems(document, policy, objectives, inventory, plan))
    if errors:
        raise first(errors)
    return _applied(policy, plan)


def _problems(
    document: Document, policy: PolicyFile, objectives: ObjectivesFile, inventory: SystemFile, plan: StagePlan
) -> Iterator[SpecError]:
    if policy.interval_s is not None:
        yield from check_interval(document, ("interval_s",), policy.interval_s, plan.look_s)
    yield from check_margins(document, ("margins",), policy.margins, objectives, inventory)
    yield from check_choices(document, (), policy.weights, policy.informational or [], objectives)
    stages = {stage.id: stage for stage in plan.stages}
    for name, bake in policy.stages.items():
        key: Key = ("stages", name)
        if name not in stages:
            yield unknown(document, key, name, stages, f"stages of plan {plan.name}")
            continue
        least = stages[name].min_bake_s if bake.min_bake_s is None else bake.min_bake_s
        most = stages[name].max_bake_s if bake.max_bake_s is None else bake.max_bake_s
        if least > most:
            yield document.problem(
                key,
                f"found max_bake_s {most:g}, expected at least min_bake_s = {least:g}",
                mend="give both here, the larger one as max_bake_s",
            )


def _applied(policy: PolicyFile, plan: StagePlan) -> StagePlan:
    changed: dict[str, Any] = {}
    for name in ("alpha", "confidence", "interval_s", "proof"):
        if getattr(policy, name) is not None:
            changed[name] = getattr(policy, name)
    if policy.rollback_on is not None:
        changed["rollback_on"] = RollbackOn(policy.rollback_on)
    if policy.on_inconclusive is not None:
        changed["on_inconclusive"] = OnInconclusive(policy.on_inconclusive)
    if policy.informational is not None:
        changed["informational"] = tuple(policy.informational)
    return replace(
        plan,
        stages=tuple(_baked(policy, stage) for stage in plan.stages),
        margins=tuple({**dict(plan.margins), **policy.margins}.items()),
        weights=tuple({**dict(plan.weights), **policy.weights}.items()),
        **changed,
    )


def _baked(policy: PolicyFile, stage: Stage) -> Stage:
    bake = policy.stages.get(stage.id)
    if bake is None:
        return stage
    return replace(
        stage,
        min_bake_s=stage.min_bake_s if bake.min_bake_s is None else bake.min_bake_s,
        max_bake_s=stage.max_bake_s if bake.max_bake_s is None else bake.max_bake_s,
    )
