"""The gate's kernels, put together as the gate puts them together, over many rollouts at once."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.bench.streams import THRESHOLD_SHARES, Array, Counts, Stream
from harness.judge.bets import Counts as Pair
from harness.judge.bets import PastRate, Within
from harness.judge.blocks import LATENCY_SCALES, BlockContest
from harness.judge.contest import (
    ERROR_BETS,
    SCORES,
    TAIL_BETS,
    BinaryContest,
    OrdinalContest,
    combine,
    falling,
)
from harness.judge.dispersion import LongRunVariance, PastShares, binary_score, ordinal_score

Times = NDArray[np.int64]
NEVER = int(np.iinfo(np.int32).max)  # the time of what never happened
FIRST_VIEW = (0.60, 0.10, 0.05)  # weights of errors, latency and tail of the first view
_OTHER_VIEWS = (0.14, 0.08, 0.03)  # of all other views together
_HALF_LIFE_S, _MEMORY_S = 1200.0, 240.0  # of what was learnt of the baseline; over which an arm's noise is remembered


def metric_weights(views: int) -> Array:
    """Return the weights, (views x 3), which sum to 1."""
    rest = [np.array(_OTHER_VIEWS) / max(1, views - 1)] * (views - 1)
    table = np.concatenate([np.array(FIRST_VIEW), *rest])
    return table / table.sum()


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """One interval of every rollout: `n` (runs, 1), `bad` (runs, views) and `slower` (runs, views, 3) by instance."""

    n: tuple[Array, ...]
    errors: tuple[Array, ...]
    slower: tuple[Array, ...]

    @property
    def classes(self) -> tuple[Array, ...]:
        """The counts of the four latency classes by instance."""
        return tuple(latency_classes(n, slower) for n, slower in zip(self.n, self.slower, strict=True))


def latency_classes(n: Array, slower: Array) -> Array:
    """Return counts of the four latency classes from the counts above three thresholds."""
    whole = np.broadcast_to(n, slower.shape[:-1])[..., None]
    edges = np.concatenate([whole, slower, np.zeros_like(whole)], axis=-1)
    return edges[..., :-1] - edges[..., 1:]


def _at(counts: Counts, index: int) -> tuple[Array, Array, Array]:
    return (
        counts.n[index].astype(float)[:, None],
        counts.errors[index].astype(float),
        counts.slower[index].astype(float),
    )


def calibration(stream: Stream) -> Iterator[Interval]:
    """Yield the A/A intervals before the ramp: the two halves of the baseline."""
    for index in range(stream.layout.calibration):
        n, errors, slower = zip(*(_at(half, index) for half in stream.halves), strict=True)
        yield Interval(n=n, errors=errors, slower=slower)


def ramp(stream: Stream) -> Iterator[Interval]:
    """Yield the intervals of the ramp: the two halves, then the candidate."""
    begin = stream.layout.calibration
    for index in range(stream.layout.intervals):
        parts = [_at(half, begin + index) for half in stream.halves]
        n, errors, slower = zip(*parts, _at(stream.candidate, index), strict=True)
        yield Interval(n=n, errors=errors, slower=slower)


class _Noise:
    """What is known of one metric's own noise: G of the halves; with `tempered` off, it is never believed."""

    def __init__(self, shape: tuple[int, ...], lags: int, *, tempered: bool) -> None:
        self._variance = LongRunVariance(shape, lags=lags)
        self._tempered = tempered

    def update(self, score: tuple[Array, Array]) -> None:
        if self._tempered:
            self._variance.update(*score)

    @property
    def value(self) -> Array | float:
        return self._variance.value if self._tempered else 0.0


class RolloutJudge:
    """Judges every metric of every rollout against equality of the arms, interval by interval."""

    def __init__(self, stream: Stream, *, tempered: bool = True) -> None:
        """Start with nothing learnt of `stream`; with `tempered` off noise of one arm's own is ignored."""
        shape = (stream.runs, stream.layout.views)
        every = stream.layout.interval_s
        half_life, lags = _HALF_LIFE_S / every, round(_MEMORY_S / every)
        self._past_errors = PastShares(shape, prior=0.01, half_life=half_life)
        self._past_slower = PastShares((*shape, 3), prior=np.array(THRESHOLD_SHARES), half_life=half_life)
        self._noises = [_Noise(shape, lags, tempered=tempered) for _ in range(3)]
        self._errors = BinaryContest(shape, bets=ERROR_BETS)
        self._latency = OrdinalContest(shape)
        self._tail = BinaryContest(shape, bets=TAIL_BETS)
        self._weights = metric_weights(stream.layout.views)

    def learn(self, seen: Interval) -> None:
        """Take in what the two halves of the baseline did."""
        (n_1, n_2), (bad_1, bad_2), (slow_1, slow_2) = seen.n[:2], seen.errors[:2], seen.slower[:2]
        classes_1, classes_2 = latency_classes(n_1, slow_1), latency_classes(n_2, slow_2)
        self._noises[0].update(binary_score(bad_1, n_1, bad_2, n_2))
        self._noises[1].update(ordinal_score(classes_1, classes_2, SCORES))
        self._noises[2].update(binary_score(slow_1[..., 2], n_1, slow_2[..., 2], n_2))
        self._past_errors.update(bad_1 + bad_2, n_1 + n_2)
        self._past_slower.update(slow_1 + slow_2, (n_1 + n_2)[..., None])

    def judge(self, seen: Interval) -> Array:
        """Take in one interval of the ramp; return the rollouts' combined log e-values."""
        n_1, n_2, n_c = seen.n
        n_b, halves = n_1 + n_2, (n_1, n_2)
        errors, latency, tail = (noise.value for noise in self._noises)
        p_b, exceed = self._past_errors.value, falling(self._past_slower.value)
        bad_1, bad_2, bad_c = seen.errors
        phi = BinaryContest.tempering(errors, p_b, n_c, n_b, halves)
        self._errors.update(Pair(bad_c, n_c, bad_1 + bad_2, n_b), p_b=p_b, phi=phi)
        one, two, classes_c = seen.classes
        phi = OrdinalContest.tempering(latency, exceed, n_c, n_b, halves)
        self._latency.update(classes_c, one + two, exceed=exceed, phi=phi)
        slow_1, slow_2, slow_c = (slower[..., 2] for slower in seen.slower)
        phi = BinaryContest.tempering(tail, exceed[..., 2], n_c, n_b, halves)
        self._tail.update(Pair(slow_c, n_c, slow_1 + slow_2, n_b), p_b=exceed[..., 2], phi=phi)
        self.learn(seen)
        return self.log_e

    @property
    def log_e(self) -> Array:
        """The rollouts' combined log e-values."""
        return _combined((self._errors.log_e, self._latency.log_e, self._tail.log_e), self._weights)


def _combined(metrics: tuple[Array, ...], weights: Array) -> Array:
    """Return the rollouts' log e-values from those of their metrics, (runs, views) each."""
    parts = np.stack(metrics, axis=-1)
    return combine(parts.reshape(parts.shape[0], -1), weights)


def first_times(paths: Iterator[Array], level: float, runs: int) -> Times:
    """Return how many intervals passed until each rollout's path first reached `level`; NEVER if it did not."""
    times = np.full(runs, NEVER, dtype=np.int64)
    for index, path in enumerate(paths, 1):
        times = np.where((times == NEVER) & (path >= level), index, times)
        if np.all(times < NEVER):
            break
    return times


def rollbacks(stream: Stream, *, alpha: float = 0.01, tempered: bool = True) -> Times:
    """Return when the calibrated judge rolls each rollout back, in intervals."""
    judge = RolloutJudge(stream, tempered=tempered)
    for seen in calibration(stream):
        judge.learn(seen)
    return first_times((judge.judge(seen) for seen in ramp(stream)), -math.log(alpha), stream.runs)


def block_rollbacks(stream: Stream, *, alpha: float = 0.01) -> Times:
    """Return when the judge without calibration, by blocks of intervals, rolls each rollout back."""
    shape = (stream.runs, stream.layout.views)
    errors, latency, tail = BlockContest(shape), BlockContest(shape, scales=LATENCY_SCALES), BlockContest(shape)
    weights = metric_weights(stream.layout.views)

    def path() -> Iterator[Array]:
        for seen in ramp(stream):
            n_1, n_2, n_c = seen.n
            bad_1, bad_2, bad_c = seen.errors
            slow_1, slow_2, slow_c = seen.slower
            errors.update(Pair(bad_c, n_c, bad_1 + bad_2, n_1 + n_2))
            slow_b = slow_1 + slow_2
            latency.update(Pair(slow_c[..., 0], n_c, slow_b[..., 0], n_1 + n_2))
            tail.update(Pair(slow_c[..., 2], n_c, slow_b[..., 2], n_1 + n_2))
            yield _combined((errors.log_e, latency.log_e, tail.log_e), weights)

    return first_times(path(), -math.log(alpha), stream.runs)


def promotions(stream: Stream, *, margin: float, confidence: float = 0.95, tempered: bool = True) -> Times:
    """Return when the first view's errors are shown to be within `margin` of the baseline's, in intervals."""
    shape, every = (stream.runs, 1), stream.layout.interval_s
    past_b, past_c = PastShares(shape, half_life=_HALF_LIFE_S / every), PastRate(shape)
    noise, within = _Noise(shape, round(_MEMORY_S / every), tempered=tempered), Within(shape)

    def learn(seen: Interval) -> None:
        (n_1, n_2), (bad_1, bad_2) = seen.n[:2], (bad[:, :1] for bad in seen.errors[:2])
        noise.update(binary_score(bad_1, n_1, bad_2, n_2))
        past_b.update(bad_1 + bad_2, n_1 + n_2)

    def path() -> Iterator[Array]:
        for seen in ramp(stream):
            n_1, n_2, n_c = seen.n
            bad_1, bad_2, bad_c = (bad[:, :1] for bad in seen.errors)
            p_b, n_b = past_b.value, n_1 + n_2
            phi = BinaryContest.tempering(noise.value, p_b, n_c, n_b, (n_1, n_2))
            pair = Pair(bad_c, n_c, bad_1 + bad_2, n_b)
            within.update(pair, p_b=p_b, past_c=past_c.towards(p_b), margin=margin, phi=phi)
            past_c.update(bad_c, n_c)
            learn(seen)
            yield within.log_e[:, 0]

    for seen in calibration(stream):
        learn(seen)
    return first_times(path(), -math.log(1 - confidence), stream.runs)
