"""From evidence to what the plots draw: bins over time by arm, the stages, the looks, the moment of decision."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.model.evidence import Arm, Evidence, Kind, Source
from harness.model.judgement import StageRecord, Verdict
from harness.report.kept import Kept
from harness.report.latency import FINE, Histogram, rank

_MOST_BINS = 90
_FEWEST_FOR_P95 = 30  # with less in a bin, a p95 is hardly more than the slowest request
_WIDTHS_S = (1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0)

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The rollout over time. Times are seconds since `began` (epoch); shares in percent."""

    began: float
    length: float
    bin_s: float
    stages: tuple[StageRecord, ...]
    share: tuple[Point, ...]
    looks: tuple[float, ...]
    decided: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Bad events of one signal over time: per arm (bin start, bad, n), and the totals (bad, n)."""

    signal: str
    bins: dict[Arm, list[tuple[float, int, int]]]
    totals: dict[Arm, tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Latencies of one signal: per arm the p95 over time in ms, and the whole distribution."""

    signal: str
    p95: dict[Arm, list[Point]]
    whole: dict[Arm, Histogram]
    thresholds: tuple[tuple[str, float], ...]  # (what it says, ms)


def timeline(verdict: Verdict, evidence: Sequence[Evidence], kept: Kept) -> Timeline | None:
    """Return the rollout's time axis; None where neither stages nor evidence tell of one."""
    client = [r for r in evidence if r.source is Source.CLIENT]
    starts = [s.started_at for s in verdict.stages] or [r.start_s for r in client]
    ends = [s.ended_at for s in verdict.stages] or [r.end_s for r in client]
    if not starts:
        return None
    # A little of the warm-up shows how both arms were before traffic moved.
    began = max(min([r.start_s for r in client], default=min(starts)), min(starts) - 0.15 * (max(ends) - min(starts)))
    decided = min(max(ends), kept.decided or max(ends))
    length = max(max(ends) - began, 1e-3) * 1.02
    return Timeline(
        began=began,
        length=length,
        bin_s=next((w for w in _WIDTHS_S if length / w <= _MOST_BINS), _WIDTHS_S[-1]),
        stages=verdict.stages,
        share=_share(verdict, kept, began, length),
        looks=tuple(at - began for at in kept.looks if began <= at),
        decided=min(decided - began, length) if verdict.stages else None,
    )


def _share(verdict: Verdict, kept: Kept, began: float, length: float) -> tuple[Point, ...]:
    moves = [(at - began, after) for at, _before, after, _why in kept.moves]
    if not moves:
        moves = [(s.started_at - began, s.share) for s in verdict.stages]
        if verdict.stages and verdict.decision == "rollback":
            moves.append((verdict.stages[-1].ended_at - began, 0.0))
    points: list[Point] = [(0.0, 0.0)]
    for at, share in sorted(moves, key=lambda move: move[0]):
        at = min(max(at, 0.0), length)  # noqa: PLW2901 - a move before the picture is drawn at its edge
        points += [(at, points[-1][1]), (at, share)]
    return (*points, (length, points[-1][1]))


def counts(line: Timeline, evidence: Iterable[Evidence]) -> list[Counts]:
    """Return the client's bad events by signal, those with the most of them first."""
    found: dict[str, list[Evidence]] = defaultdict(list)
    for record in evidence:
        if record.kind is Kind.EVENTS and record.source is Source.CLIENT and record.arm is not None:
            found[record.signal].append(record)
    made = [_counts(line, signal, records) for signal, records in found.items()]
    return sorted(made, key=lambda c: (-sum(bad for bad, _n in c.totals.values()), c.signal))


def _counts(line: Timeline, signal: str, records: Sequence[Evidence]) -> Counts:
    bins: dict[Arm, dict[int, list[int]]] = {arm: defaultdict(lambda: [0, 0]) for arm in Arm}
    totals = {arm: [0, 0] for arm in Arm}
    for record in records:
        index = _bin(line, record)
        if record.arm is None or index is None:
            continue
        for cell in (bins[record.arm][index], totals[record.arm]):
            cell[0] += record.bad
            cell[1] += record.n
    return Counts(
        signal=signal,
        bins={arm: [(i * line.bin_s, bad, n) for i, (bad, n) in sorted(cells.items())] for arm, cells in bins.items()},
        totals={arm: (bad, n) for arm, (bad, n) in totals.items()},
    )


def latencies(
    line: Timeline, evidence: Iterable[Evidence], limits: Sequence[tuple[str, str, float]], verdict: Verdict
) -> list[Latency]:
    """Return the client's latencies by signal, the main one first, each in the finest buckets there are.

    Distributions cover the rollout's stages alone.
    """
    found: dict[str, list[Evidence]] = defaultdict(list)
    for record in evidence:
        if record.kind is Kind.HISTOGRAM and record.source is Source.CLIENT and record.arm is not None:
            found[record.signal].append(record)
    stages = {stage.id for stage in line.stages}
    made: list[tuple[int, Latency]] = []
    for signal, coarse in found.items():
        if signal.endswith(FINE):
            continue
        records = found.get(signal + FINE, coarse)
        counted = [r for r in records if not stages or r.stage in stages or (not r.stage and r.share > 0)]
        whole = {arm: Histogram.merged(r for r in counted if r.arm is arm) for arm in Arm}
        mine = _thresholds(signal, limits, verdict)
        p95 = {arm: _p95(line, [r for r in records if r.arm is arm]) for arm in Arm}
        made.append((sum(h.n for h in whole.values()), Latency(signal=signal, p95=p95, whole=whole, thresholds=mine)))
    return [latency for _n, latency in sorted(made, key=lambda pair: rank(pair[1].signal, pair[0]))]


def _p95(line: Timeline, records: Sequence[Evidence]) -> list[Point]:
    """Return (middle, p95 in ms) of bins wide enough to hold one."""
    bins: dict[int, list[Evidence]] = defaultdict(list)
    for record in records:
        index = _bin(line, record)
        if index is not None:
            bins[index].append(record)
    points: list[Point] = []
    held: list[Evidence] = []
    middles: list[float] = []
    for index in sorted(bins):
        held += bins[index]
        middles.append((index + 0.5) * line.bin_s)
        histogram = Histogram.merged(held)
        if histogram.n < _FEWEST_FOR_P95:
            continue  # too few: take the next bin in as well
        p95 = histogram.quantile(0.95)
        if p95 is not None:
            points.append((sum(middles) / len(middles), min(p95, histogram.bounds[-1]) * 1000))
        held, middles = [], []
    return points


def _thresholds(
    signal: str, limits: Sequence[tuple[str, str, float]], verdict: Verdict
) -> tuple[tuple[str, float], ...]:
    """Return (requirement, ms) of the signal's own bounds; where nothing says whose they are, all go to the latency."""
    said: dict[float, str] = {}
    for of, requirement, ms in limits:
        if of == signal:
            said.setdefault(ms, requirement)
    if not limits and signal.endswith("latency"):
        for j in verdict.judgements:
            if j.unit == "ms" and j.threshold:
                said.setdefault(j.threshold, j.requirement)
    return tuple((text, ms) for ms, text in sorted(said.items()))


def _bin(line: Timeline, record: Evidence) -> int | None:
    middle = (record.start_s + record.end_s) / 2 - line.began
    return int(middle // line.bin_s) if 0 <= middle <= line.length else None
