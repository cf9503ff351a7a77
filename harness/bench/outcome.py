"""A cell's results held against its bars, and against what was recorded before."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.bench.cells import ROLLGATE, Bar, Cell, Kind, Standing, Statistic
from harness.bench.runner import Result
from harness.bench.tally import Tally
from harness.judge.binomial import at_least, lower_bound

_SURE = 0.999  # before fewer runs than a full bench has may fail a safety bar
_ONE_SIDED = 0.95
_CHANGED = 1e-4  # the chance under which a difference from the record is no chance
_SPREAD = 3.9  # the same, in standard deviations of the median's rank

Recorded = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One bar of one cell: what was measured, with 95 % bounds, in the bar's unit; `runs` rollouts.

    `met` is None where nothing was measured; `broken` is a safety bar that fails the bench.
    """

    cell: Cell
    bar: Bar | None
    rule: str
    statistic: Statistic
    measured: float
    low: float
    high: float
    runs: int
    met: bool | None
    broken: bool = False

    @property
    def distance(self) -> float:
        """How far the measured lies on the wrong side of the bar, in the bar's unit; 0 where it is met."""
        if self.bar is None or self.met is not False:
            return 0.0
        return abs(self.measured - self.bar.wanted)


def readings(result: Result) -> list[Reading]:
    """Return a reading for each bar of a cell; for a cell without bars, what is worth showing of it."""
    cell = result.cell
    if cell.bars:
        return [_read(result, bar) for bar in cell.bars]
    tally = result.tallies.get(ROLLGATE, Tally())
    shown: list[Reading] = []
    for statistic in (Statistic.EVER, Statistic.MEDIAN):
        bar = Bar(wanted=0.0, statistic=statistic)
        measured, low, high = _measured(result, bar, tally)
        reading = Reading(
            cell=cell,
            bar=None,
            rule=ROLLGATE,
            statistic=statistic,
            measured=measured,
            low=low,
            high=high,
            runs=tally.runs,
            met=None,
        )
        shown.append(reading)
    return shown


def scale_of(cell: Cell) -> float:
    """Return what one step of the cell's times is worth in what is shown: minutes, or units of assignment."""
    return 1.0 if cell.kind is Kind.ROUTER else cell.minutes


def _read(result: Result, bar: Bar) -> Reading:
    cell, tally = result.cell, result.tallies.get(bar.rule, Tally())
    measured, low, high = _measured(result, bar, tally)
    known = not math.isnan(measured)
    met: bool | None = None
    if known:
        met = measured >= bar.wanted if bar.at_least else measured <= bar.wanted
        if bar.upper is not None and tally.runs >= max(cell.runs):
            met = met and tally.share_bounds(_ONE_SIDED)[1] <= bar.upper
    return Reading(
        cell=cell,
        bar=bar,
        rule=bar.rule,
        statistic=bar.statistic,
        measured=measured,
        low=low,
        high=high,
        runs=tally.runs,
        met=met,
        broken=cell.standing is Standing.SAFETY and met is False and _no_chance(cell, bar, tally),
    )


def _no_chance(cell: Cell, bar: Bar, tally: Tally) -> bool:
    """Tell whether a safety bar missed by few runs is missed beyond chance; a full bench decides by itself."""
    return tally.runs >= max(cell.runs) or lower_bound(tally.hits, tally.runs, _SURE) > bar.wanted


def _measured(result: Result, bar: Bar, tally: Tally) -> tuple[float, float, float]:
    """Return the statistic and its 95 % bounds; NaN where it was not measured."""
    if bar.statistic is Statistic.VALUE:
        value = result.values.get(bar.rule, math.nan)
        return value, value, value
    if not tally.runs:
        return math.nan, math.nan, math.nan
    if bar.statistic is Statistic.EVER:
        return tally.share, *tally.share_bounds()
    scale = scale_of(result.cell)
    median, (low, high) = tally.median, tally.median_bounds()
    if bar.statistic is Statistic.MEDIAN:
        return median * scale, low * scale, high * scale
    other = result.tallies.get(bar.against, Tally())
    if not other.runs or not math.isfinite(other.median):
        return math.nan, math.nan, math.nan
    other_low, other_high = other.median_bounds()
    return median / other.median, low / other_high, high / other_low


def record(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Return what a later bench is to be held against: shares and medians of rollgate, in steps of time."""
    kept: dict[str, dict[str, float]] = {}
    for result in results:
        tally = result.tallies.get(ROLLGATE)
        if tally is not None and tally.runs:
            low, high = tally.median_bounds(_SPREAD)
            kept[result.cell.name] = {"runs": tally.runs, "hits": tally.hits} | {
                name: value
                for name, value in (("median", tally.median), ("median_low", low), ("median_high", high))
                if math.isfinite(value)
            }
    return kept


def regressions(results: Sequence[Result], recorded: Recorded) -> list[str]:
    """Return a line for each cell that is worse than recorded, beyond the chance of the simulation."""
    lines: list[str] = []
    for result in results:
        before, tally = recorded.get(result.cell.name), result.tallies.get(ROLLGATE)
        if before is None or tally is None or not tally.runs:
            continue
        lines += [f"{result.cell.name}: {said}" for said in _worse(result.cell, tally, before)]
    return lines


def _worse(cell: Cell, tally: Tally, before: Mapping[str, float]) -> list[str]:
    runs, hits = int(before["runs"]), int(before["hits"])
    said: list[str] = []
    now_bad, then_bad = (tally.runs - tally.hits, runs - hits) if cell.wanted else (tally.hits, hits)
    if _grew(now_bad, tally.runs, then_bad, runs):
        what = "seldomer" if cell.wanted else "more often"
        said.append(f"{what} than recorded: {tally.share:.2%} of {tally.runs}, was {hits / runs:.2%} of {runs}")
    low, then_high = tally.median_bounds(_SPREAD)[0], before.get("median_high", math.inf)
    if cell.wanted and low > then_high:
        scale = scale_of(cell)
        said.append(f"later than recorded: median {tally.median * scale:.4g}, was {before['median'] * scale:.4g}")
    return said


def _grew(now: int, now_runs: int, then: int, then_runs: int) -> bool:
    """Tell whether rare events grew beyond chance: of all of them, too many fell to the newer runs."""
    total = now + then
    if not total:
        return False
    chance = float(at_least(np.array(float(now)), total, now_runs / (now_runs + then_runs)))
    return chance < _CHANGED and now / now_runs > then / then_runs
