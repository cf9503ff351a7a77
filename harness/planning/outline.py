"""A gate's plan as numbered lines: what would be done, before anything is."""

from collections.abc import Sequence

from harness.model.plan import StagePlan
from harness.model.system import Service, System
from harness.planning.rollout import stage_share


def outline(system: System, plan: StagePlan, provider: str, gates: Sequence[str] = ()) -> list[str]:
    """Return the plan, a line a step; same input, same lines. `gates` says how the judge would compare the arms."""
    lines = [f"system {system.name}, provider {provider}, plan {plan.name}, time scale {plan.time_scale:g}"]
    steps: list[str] = ["preflight: programs, models, free space"]
    steps.append("start, in dependency order: " + ", ".join(_names(system, provider)))
    steps.append("traffic to the baseline; the lease is held from here on")
    if system.suites:
        steps.append("conformance smoke: " + ", ".join(system.suites))
    steps.append(f"open-loop load, {plan.load_rate:g} requests a second; warm up {plan.warmup_s:g} s")
    for stage in plan.stages:
        share = stage_share(plan, stage)
        flag = f", flag {system.traffic.feature} to {share:g} %" if system.traffic.feature else ""
        steps.append(
            f"stage {stage.id}: {share:g} % to the candidate{flag}; bake {stage.min_bake_s:g} to {stage.max_bake_s:g} s"
        )
    steps.append("drain the load, judge the whole; 100 % when every guardrail is proven")
    steps.append(f"a fail at any look: 0 % at once; no proof by the bounds: {plan.on_inconclusive}")
    steps.append("verdict, report, tear-down")
    lines += [f"{number:3d}. {step}" for number, step in enumerate(steps, 1)]
    if gates:
        lines.append(f"how the arms are compared, every {plan.interval_s:g} s:")
        lines += [f"     {how}" for how in gates]
    lines.append("held at every look:")
    margins = dict(plan.margins)
    for o in system.objectives:
        severity = "informational" if o.id in plan.informational else o.severity
        own = f" (this plan: {margins[o.id]:g} {o.unit})" if o.id in margins else ""
        lines.append(f"     {o.id} [{severity}]: {o.requirement}{own}")
    return lines


def _names(system: System, provider: str) -> list[str]:
    done: list[str] = []
    waiting = [s for s in system.services if provider not in dict(s.not_on)]
    while waiting:
        ready = [s for s in waiting if all(d in done or d not in {w.name for w in waiting} for d in s.depends)]
        if not ready:
            break
        done += [s.name for s in ready]
        waiting = [s for s in waiting if s.name not in done]
    return [name + _when(system.service(name), provider) for name in done]


def _when(service: Service, provider: str) -> str:
    if service.per_arm:
        return " (per arm)"
    return " (where there is a GPU)" if provider == "native" and service.native and service.native.needs_gpu else ""
