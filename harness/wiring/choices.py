"""What a user may choose of a run: provider and plan."""

import math
from dataclasses import replace
from pathlib import Path

from harness.model.errors import SpecError
from harness.model.plan import StagePlan
from harness.model.system import System

_FLOOR_S = 0.5  # Prometheus is scraped no more often than this, and the judge sees nothing newer
_DEFAULT_PLANS = {"remote": "full"}  # of a system that names none


def choose_provider(asked: str, target: Path | None = None) -> str:
    """Return the provider to use; SpecError for one that this build does not have, or that `target` does not fit."""
    if asked == "remote":
        if target is None:
            msg = "the remote provider needs to know where the stack is"
            raise SpecError(msg, key="--provider", mend="add --target FILE; docs/remote.md shows one")
        return asked
    if target is not None:
        msg = f"a target file is for --provider remote, found --provider {asked}"
        raise SpecError(msg, key="--target", mend="add --provider remote, or drop --target")
    if asked in {"auto", "native"}:
        return "native"
    msg = f"provider {asked!r} is not available in this build"
    raise SpecError(msg, key="--provider", mend="use --provider native")


def choose_plan(system: System, provider: str, asked: str | None, time_scale: float = 1.0) -> StagePlan:
    """Return the asked plan, or the provider's default one, with every duration divided by `time_scale`."""
    name = asked or dict(system.default_plans).get(provider, _DEFAULT_PLANS.get(provider, "quick"))
    plan = next((plan for plan in system.plans if plan.name == name), None)
    if plan is None:
        known = ", ".join(p.name for p in system.plans)
        msg = f"there is no plan {name!r}"
        raise SpecError(msg, where=str(system.root / "rollout.yaml"), key="plans", mend=f"choose one of {known}")
    if not (math.isfinite(time_scale) and time_scale > 0):
        msg = f"found {time_scale:g}, expected a finite number above 0"
        raise SpecError(msg, key="--time-scale", mend="1 keeps real time")
    return plan if time_scale == 1 else compressed(plan, time_scale)


def compressed(plan: StagePlan, scale: float) -> StagePlan:
    """Return `plan` with every duration divided by `scale`."""
    stages = tuple(
        replace(stage, min_bake_s=stage.min_bake_s / scale, max_bake_s=stage.max_bake_s / scale)
        for stage in plan.stages
    )
    look_s = min(plan.look_s, max(_FLOOR_S, plan.look_s / scale))
    return replace(
        plan,
        stages=stages,
        warmup_s=plan.warmup_s / scale,
        settle_s=min(plan.settle_s, max(_FLOOR_S, plan.settle_s / scale)),
        look_s=look_s,
        # Still a whole number of looks: evidence comes in that grain.
        interval_s=min(plan.interval_s, look_s * max(1, math.ceil(plan.interval_s / scale / look_s - 1e-6))),
        deadline_s=plan.deadline_s / scale,
        patience_s=plan.patience_s / scale,
        time_scale=plan.time_scale * scale,
    )
