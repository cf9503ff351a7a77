"""One objective's evidence that the candidate is worse than its baseline at all, and the noise of its arms."""

import math

import numpy as np

from harness.judge.bets import Array, Counts
from harness.judge.blocks import LATENCY_SCALES, BlockContest
from harness.judge.buckets import Buckets
from harness.judge.contest import NOMINAL, SCORES, TAIL_BETS, BinaryContest, OrdinalContest, falling
from harness.judge.dispersion import LongRunVariance, binary_score, ordinal_score, tempering
from harness.judge.gating import Gating
from harness.judge.restarts import DIFFERENCE, RestartedBets
from harness.model.calibration import Dispersion
from harness.model.evidence import Evidence
from harness.model.plan import RollbackOn

_TAIL = 0.99  # from this quantile on a latency is judged by its tail alone


class Noise:
    """What is known of two arms' noise, for tempering; while `measuring`, what an A/A run shows of it."""

    def __init__(self, known: Dispersion | None, *, measuring: bool = False) -> None:
        """Start from a calibration's dispersion, or from none."""
        self._known = known
        self.measuring = measuring
        self.contest, self.level = LongRunVariance(), LongRunVariance()

    @property
    def contest_g(self) -> float:
        """G of the whole distribution, or of the share of bad events; 0 where not calibrated."""
        return self._known.contest if self._known else 0.0

    def phi(self, share: float | Array, n_c: float | Array, n_b: float | Array) -> Array:
        """Return the tempering of an interval's evidence on a share, by G at the level that is judged."""
        return tempering(self._known.level if self._known else 0.0, share * (1 - share), n_c=n_c, n_b=n_b)

    def measure_level(self, counts: Counts) -> None:
        """Learn from an interval's counts on the share that is judged, while measuring."""
        if self.measuring:
            self.level.update(*binary_score(counts.bad_c, counts.n_c, counts.bad_b, counts.n_b))

    def gap(self) -> None:
        """Note that time passed unseen: what comes next has no neighbour."""
        self.contest.gap()
        self.level.gap()


class ShareDifference:
    """A share of bad events, by tempered bets or by blocks, begun anew with each stage."""

    def __init__(self, gating: Gating, noise: Noise, restarts: int = 0) -> None:
        """Choose by the run's way of gating; judges nothing where it compares against margins or not at all."""
        self._noise = noise
        self._contest: BinaryContest | BlockContest | None = None
        if gating.mode is RollbackOn.DIFFERENCE:
            self._contest = BinaryContest()
        elif gating.mode is RollbackOn.BLOCKS:
            self._contest = BlockContest()
        self._worth = RestartedBets(self._contest, restarts, DIFFERENCE) if self._contest else None

    def begin(self) -> None:
        """Note that a stage begins."""
        if self._worth is not None:
            self._worth.begin()

    def update(self, counts: Counts, p_b: Array) -> None:
        """Take one interval in; `p_b` from earlier ones."""
        if self._contest is not None and self._worth is not None:
            self._contest.update(counts, p_b=p_b, phi=self._noise.phi(p_b, counts.n_c, counts.n_b))
            self._worth.settle()
        self._noise.measure_level(counts)

    @property
    def log_e(self) -> float | None:
        """The log e-value against equality; None where nothing is judged."""
        return None if self._worth is None else self._worth.log_e


class LatencyDifference:
    """A latency, by the classes between its p50, p90 and p99 or, for a tail objective, by the share above p99.

    Thresholds are the bucket bounds nearest to the baseline's past quantiles. With buckets too coarse to tell
    the three apart, the share above the objective's own quantile is judged. Judged by blocks, there are no
    classes: the shares above the objective's own quantile and above the median are. All begin anew with each stage.
    """

    def __init__(self, gating: Gating, noise: Noise, level: float, restarts: int = 0) -> None:
        """Choose by the run's way of gating."""
        self._noise, self._level = noise, level
        self._ordinal: OrdinalContest | None = None
        self._shares: list[tuple[float, BinaryContest | BlockContest]] = []
        if gating.mode is RollbackOn.DIFFERENCE:
            self._ordinal = OrdinalContest() if level < _TAIL else None
            self._shares = [(level, BinaryContest(bets=TAIL_BETS))]
        elif gating.mode is RollbackOn.BLOCKS:
            self._shares = [(level, BlockContest())]
            self._shares += [(0.5, BlockContest(scales=LATENCY_SCALES))] if level < _TAIL else []
        asked = [*(contest for _, contest in self._shares), *([] if self._ordinal is None else [self._ordinal])]
        self._worth = [RestartedBets(contest, restarts, DIFFERENCE) for contest in asked]

    def begin(self) -> None:
        """Note that a stage begins."""
        for worth in self._worth:
            worth.begin()

    def update(self, candidate: Evidence, baseline: Evidence, past: Buckets) -> None:
        """Take one interval in; `past` is the baseline's, from earlier intervals."""
        classes = self._level < _TAIL and (self._ordinal is not None or self._noise.measuring)
        marks = _marks(past) if classes else None
        if marks is not None:
            self._update_classes(candidate, baseline, past, marks)
        for level, contest in self._shares if self._ordinal is None or marks is None else ():
            counts, share = _above(candidate, baseline, past, level)
            contest.update(counts, p_b=share, phi=self._noise.phi(share, counts.n_c, counts.n_b))
        for worth in self._worth:
            worth.settle()
        if self._noise.measuring:
            self._noise.measure_level(_above(candidate, baseline, past, self._level)[0])

    def _update_classes(self, candidate: Evidence, baseline: Evidence, past: Buckets, marks: list[int]) -> None:
        counts_c, counts_b = _classes(candidate, marks), _classes(baseline, marks)
        if self._ordinal is not None:
            exceed = falling((past.above()[marks] + 20 * NOMINAL) / (past.n + 20))
            n_c, n_b = np.asarray(float(candidate.n)), np.asarray(float(baseline.n))
            phi = OrdinalContest.tempering(self._noise.contest_g, exceed, n_c, n_b)
            self._ordinal.update(counts_c, counts_b, exceed=exceed, phi=phi)
        if self._noise.measuring:
            self._noise.contest.update(*ordinal_score(counts_c, counts_b, SCORES))

    @property
    def log_e(self) -> float | None:
        """The log e-value against equality, averaged over what is judged; None where nothing is."""
        logs = [worth.log_e for worth in self._worth]
        return float(np.logaddexp.reduce(logs) - np.log(len(logs))) if logs else None


def _above(candidate: Evidence, baseline: Evidence, past: Buckets, level: float) -> tuple[Counts, Array]:
    """Return both arms' counts above the bound nearest to the baseline's past quantile, and its past share there."""
    value = past.quantile(level)
    mark = len(past.bounds) - 1 if value is None else nearest_bound(past.bounds, value)
    over_c, over_b = sum(candidate.counts[mark + 1 :]), sum(baseline.counts[mark + 1 :])
    share = np.clip((past.above()[mark] + 1 - level) / (past.n + 1), 1e-5, 0.97)
    return Counts(over_c, candidate.n, over_b, baseline.n), share


def _marks(past: Buckets) -> list[int] | None:
    """Return the indices of the bounds nearest to the past p50, p90 and p99; None where they are not three."""
    values = [past.quantile(float(1 - share)) for share in NOMINAL]
    marks = sorted({nearest_bound(past.bounds, value) for value in values if value is not None})
    return marks if len(marks) == len(NOMINAL) else None


def _classes(record: Evidence, marks: list[int]) -> Array:
    edges = np.array([0, *(mark + 1 for mark in marks)])
    return np.add.reduceat(np.asarray(record.counts, dtype=float), edges)


def nearest_bound(bounds: tuple[float, ...], value: float) -> int:
    """Return the index of the bound nearest to `value` on a logarithmic scale."""
    return min(range(len(bounds)), key=lambda index: abs(math.log(bounds[index] / value)))
