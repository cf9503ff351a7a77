"""What a user may choose of a run: provider and plan."""

import math
import os
from dataclasses import replace
from pathlib import Path

from harness.model.errors import RollgateError, SpecError
from harness.model.plan import StagePlan
from harness.model.system import System
from harness.spec.images import choose_images
from harness.wiring.composition import composition_of

_SOCKET = Path("/var/run/docker.sock")
_FLOOR_S = 0.5  # Prometheus is scraped no more often than this, and the judge sees nothing newer
_DEFAULT_PLANS = {"remote": "full"}  # of a system that names none


def choose_provider(asked: str, target: Path | None = None, system: System | None = None) -> str:
    """Return the provider to use; SpecError for one that this build does not have, or that `target` does not fit.

    `auto` is docker where an engine answers that has, or can pull, every pinned image of `system`, else native.
    """
    if asked == "remote":
        if target is None:
            msg = "the remote provider needs to know where the stack is"
            raise SpecError(msg, key="--provider", mend="add --target FILE; docs/remote.md shows one")
        return asked
    if target is not None:
        msg = f"a target file is for --provider remote, found --provider {asked}"
        raise SpecError(msg, key="--target", mend="add --provider remote, or drop --target")
    if asked == "auto":
        return "docker" if system is not None and docker_has_all(system) else "native"
    if asked in {"native", "docker"}:
        return asked
    msg = f"found {asked!r}, expected auto, native, docker or remote"
    raise SpecError(msg, key="--provider", mend="use --provider native")


def docker_has_all(system: System) -> bool:
    """Tell whether an engine answers that has, or can pull, the pinned image of every container that a gate starts."""
    if not (os.environ.get("DOCKER_HOST") or _SOCKET.is_socket()):
        return False
    from harness.adapters.docker_images import every_image  # noqa: PLC0415 - docker's client is slow to load

    try:
        kept = composition_of(system)
        chosen = choose_images(kept.images, os.environ)
        names = {
            service.name
            for service in system.services
            if "docker" not in dict(service.not_on) and not service.docker.optional
        }
        return every_image([chosen[one.image] for one in kept.composition.services if one.name in names])
    except RollgateError:
        return False


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
