"""A target's rollouts, as its journal tells them: which there were, which are open, which exclude each other. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from harness.model.plan import StagePlan
from harness.model.system import Flag
from harness.planning.flags import IMMEDIATE, related
from harness.planning.resume import Left, left_by
from harness.planning.rollout import stage_share, towards

UP, DOWN, ROLLBACK = "up", "down", "rollback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """One rollout of the journal. `way` is "up" through stages, "down" or "rollback" at once; shares in percent.

    `router` names whom it steers, "" for a router of the feature's own; `load` says whether it sent load.
    """

    id: str
    feature: str
    way: str
    base: float
    goal: float
    plan: str
    time_scale: float
    router: str
    load: bool
    who: str
    at: float
    left: Left


def opening(past: Past) -> dict[str, object]:
    """Return what a rollout's first entry says."""
    fields = ("feature", "way", "base", "goal", "plan", "time_scale", "router", "load", "who")
    return {name: getattr(past, name) for name in fields}


def pasts(entries: Iterable[tuple[float, str, Mapping[str, object]]]) -> list[Past]:
    """Return the rollouts that entries (moment, kind, what) tell of, oldest first.

    Raises KeyError, TypeError or ValueError for entries that rollgate did not write.
    """
    told: dict[str, list[tuple[float, str, Mapping[str, object]]]] = {}
    for entry in entries:
        told.setdefault(str(entry[2].get("rollout", "")), []).append(entry)
    found = (_past(name, own) for name, own in told.items() if name)
    return [one for one in found if one is not None]


def _past(name: str, entries: Sequence[tuple[float, str, Mapping[str, object]]]) -> Past | None:
    left = left_by((kind, what) for _, kind, what in entries)
    first = next(((at, what) for at, kind, what in entries if kind == "rollout"), None)
    if left is None or first is None:
        return None
    at, what = first
    return Past(
        id=name,
        feature=str(what["feature"]),
        way=str(what["way"]),
        base=float(cast("float", what["base"])),
        goal=float(cast("float", what["goal"])),
        plan=str(what["plan"]),
        time_scale=float(cast("float", what["time_scale"])),
        router=str(what["router"]),
        load=bool(what["load"]),
        who=str(what["who"]),
        at=at,
        left=left,
    )


def excluded_by(known: Sequence[Past], flags: Sequence[Flag], feature: str, router: str) -> tuple[Past, str] | None:
    """Return an open rollout beside which none of `feature` may begin, with the reason; None where there is none.

    Features that depend on each other exclude each other, and so do rollouts that would steer the same `router`.
    """
    for one in known:
        if one.left.finished:
            continue
        open_one = f"rollout {one.id} of `{one.feature}` is not finished"
        if one.feature == feature:
            return one, open_one
        if related(flags, feature, one.feature):
            return one, f"{open_one}, and one of `{feature}` and `{one.feature}` depends on the other"
        if router and router == one.router:
            return one, f"{open_one}, and it steers the same router, which knows one share alone"
    return None


def newest_up(known: Sequence[Past], feature: str) -> Past | None:
    """Return the newest rollout of `feature` that went up."""
    return next((one for one in reversed(known) if one.feature == feature and one.way == UP), None)


def way_up(plan: StagePlan, flag: Flag, base: float, goal: float) -> StagePlan:
    """Return the plan from `base` to `goal`; a flag that is switched at once has its last stage alone."""
    found = towards(plan, base, goal)
    if flag.strategy != IMMEDIATE:
        return found
    last = found.stages[-1]
    return replace(found, stages=(last,), holdout=0.0)


def outline_up(plan: StagePlan, feature: str, base: float, goal: float, *, asks: bool = False) -> list[str]:
    """Return the way up as numbered lines; where it `asks`, a hook must allow each stage."""
    steps = ["first look: both arms answer, router and flag agree"]
    if plan.warmup_s:
        steps.append(f"watch for {plan.warmup_s:g} s without moving anything")
    for stage in plan.stages:
        bake = f"bake {stage.min_bake_s:g} to {stage.max_bake_s:g} s"
        asked = "once the hook before it allows it, " if asks else ""
        steps.append(f"stage {stage.id}: {asked}{feature} to {stage_share(plan, stage):g} %; {bake}")
    steps.append(f"judge the whole; {goal:g} % when every guardrail is proven, and it stays there")
    steps.append(f"a fail at any look: {base:g} % at once; no proof by the bounds: {plan.on_inconclusive}")
    return [f"{number:3d}. {step}" for number, step in enumerate(steps, 1)]


def outline_down(moves: Sequence[tuple[str, float]]) -> list[str]:
    """Return moves made at once, (flag, percent) each, as numbered lines."""
    return [f"{number:3d}. {name} to {share:g} % at once" for number, (name, share) in enumerate(moves, 1)]
