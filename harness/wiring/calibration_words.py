"""What is to be calibrated, how far it is, and what came of it, in words."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.judge.binomial import upper_bound
from harness.judge.calibrate import Calibrator
from harness.model.calibration import ENOUGH_INTERVALS, Calibration
from harness.model.plan import StagePlan
from harness.model.system import Release, System
from harness.wiring.aa_evidence import Conditions, Kept, measured, read_chunks
from harness.wiring.aa_windows import shortest_s
from harness.wiring.judging import how_it_gates, kept_calibrations, this_machine

CHUNK = 240  # intervals: long beside bringing a stack up, short enough to lose little when a load goes wrong
_UP_S = 30.0  # what bringing a stack up and down was seen to take, for want of anything measured here


class Progress(Protocol):
    """Hears how far a calibration is."""

    def collected(self, intervals: float, wanted: int, left_s: float) -> None:
        """`intervals` of `wanted` are there; the rest takes about `left_s`."""
        ...

    def say(self, text: str) -> None:
        """Say a line."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be calibrated, and where its evidence lies."""

    system: System
    plan: StagePlan
    baseline: Release
    folder: Path
    intervals: int

    @property
    def conditions(self) -> Conditions:
        """What all the evidence must have in common."""
        plan = self.plan
        return Conditions(
            system=self.system.name,
            plan=plan.name,
            baseline=f"{self.baseline.name} {self.baseline.version}",
            interval_s=plan.interval_s,
            load_rate=plan.load_rate,
            look_s=plan.look_s,
            time_scale=plan.time_scale,
            machine=this_machine(),
            bounds=" ".join(f"{bound:g}" for bound in self.system.traffic.bounds_s),
        )


def calibrator_of(asked: Asked, kept: Kept) -> Calibrator:
    """Return what the chunks that count show of the noise."""
    return measured(asked.system.objectives, asked.plan, [chunk.records for chunk in kept.chunks])


def left_s(asked: Asked, there: float, *, running: bool = False) -> float:
    """Return about how long the rest takes, s; a chunk that is `running` has been brought up already."""
    wanting = max(0.0, asked.intervals - there)
    chunks = math.ceil(wanting / CHUNK) - (running and wanting > 0)
    return wanting * asked.plan.interval_s + chunks * (_UP_S + asked.plan.warmup_s)


def status(asked: Asked, progress: Progress) -> None:
    """Say what is there and what is wanting; nothing is started."""
    kept = read_chunks(asked.folder, asked.conditions, time.time())
    for line in kept.dropped:
        progress.say(f"not used: {line}")
    there = calibrator_of(asked, kept).intervals
    progress.say(f"evidence: {there} of {asked.intervals} intervals of {asked.plan.interval_s:g} s in {asked.folder}")
    if there < asked.intervals:
        progress.say(f"wanted: {asked.intervals - there} more, about {spoken(left_s(asked, there))}")
    for name, one in sorted(kept_calibrations(asked.system).items()):
        progress.say(
            f"kept: plan {name}, made {one.made_at} on {one.machine}: {one.intervals} intervals, "
            f"{one.false_alarms} false alarms in {one.windows} windows"
        )
    for how in how_it_gates(asked.system, asked.plan):
        progress.say(f"a gate by plan {asked.plan.name} now: {how}")


def summary(asked: Asked, made: Calibration) -> list[str]:
    """Return what a person wants to know of a calibration."""
    window = spoken(shortest_s(asked.plan))
    under = f"{made.intervals} intervals of {made.interval_s:g} s, {made.load_rate:g} requests a second"
    lines = [
        f"A/A of {made.system} by plan {made.plan}: {under}, on {made.machine}",
        f"{'objective':<28} {'source':<11} {'G contest':>10} {'G level':>10} intervals informative",
    ]
    lines += [
        f"{one.objective:<28} {one.source:<11} {one.contest:>10.4f} {one.level:>10.4f} "
        f"{one.intervals:>9} {one.informative:>11}"
        for one in made.dispersions
    ]
    if made.windows:
        most = 100 * upper_bound(made.false_alarms, made.windows, 0.95)
        seen = f"{made.false_alarms} of {made.windows} windows of {window}"
        lines.append(
            f"false alarms: {seen}, each judged with the noise of the other half (at most {most:.0f} % at "
            f"95 % confidence; the plan's alpha is {100 * asked.plan.alpha:g} %)"
        )
    else:
        lines.append(f"false alarms: not judged, the evidence holds no two windows of {window} (the shortest rollout)")
    if made.wanted:
        lines.append(f"a gate will not use it yet: it wants {made.wanted} more intervals of {ENOUGH_INTERVALS}")
    lines += [f"a gate by plan {asked.plan.name} now: {how}" for how in how_it_gates(asked.system, asked.plan)]
    return lines


def spoken(seconds: float) -> str:
    """Write a duration as a person says it."""
    if seconds < 90:  # noqa: PLR2004 - below that, seconds say more
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"  # noqa: PLR2004
