"""The rules of other tools on the same rollouts, by what their documentation and sources say; none of their code.

Every rule sees twelve indicators: for each view the shares of errors, of requests slower than the baseline's
p50, and of requests slower than its p99. Where a tool lets its user choose, the choice here is the kind one:
levels are divided among the indicators, thresholds leave room for twice the baseline's share. A rule answers
with the interval in which it first rolls back.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import scipy.special as _scipy_special  # pyright: ignore[reportMissingTypeStubs] - it ships none
from numpy.typing import NDArray

from harness.bench.streams import THRESHOLD_SHARES, Array, Counts, Layout, Stream
from harness.bench.subject import NEVER, Times, metric_weights

Flags = NDArray[np.bool_]

_special: Any = _scipy_special
ALPHA = 0.01
_LOOK_S = 60.0  # how often the tools that look at intervals of their own look
_INDICATORS = 3  # of a view
Rule = Callable[[Stream], Times]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Counts by look: `n` (looks, runs, 1), `bad` (looks, runs, indicators)."""

    n: Array
    bad: Array

    @property
    def share(self) -> Array:
        """Bad of seen; NaN where nothing was seen."""
        return np.where(self.n > 0, self.bad / np.maximum(self.n, 1), np.nan)

    def running(self) -> "Series":
        """Return the sums from the first look on."""
        return Series(n=np.cumsum(self.n, axis=0), bad=np.cumsum(self.bad, axis=0))

    def grouped(self, size: int) -> "Series":
        """Return the sums of `size` looks each; a last incomplete group is dropped."""
        count = len(self.n) // size
        n, bad = (part[: count * size] for part in (self.n, self.bad))
        return Series(
            n=n.reshape(count, size, *n.shape[1:]).sum(axis=1), bad=bad.reshape(count, size, *bad.shape[1:]).sum(axis=1)
        )


def arms(stream: Stream, every_s: float | None = None) -> tuple[Series, Series]:
    """Return the candidate's and the baseline's series over the ramp, summed over `every_s` seconds."""
    begin = stream.layout.calibration
    one, two = (_series(half, begin) for half in stream.halves)
    both = _series(stream.candidate, 0), Series(n=one.n + two.n, bad=one.bad + two.bad)
    size = _per_look(stream.layout, every_s)
    return both[0].grouped(size), both[1].grouped(size)


def _series(counts: Counts, begin: int) -> Series:
    parts = [counts.errors[begin:]]
    if counts.slower.shape[-1]:
        parts += [counts.slower[begin:, ..., 0], counts.slower[begin:, ..., 2]]
    bad = np.stack(parts, axis=-1).astype(float)
    return Series(n=counts.n[begin:, :, None].astype(float), bad=bad.reshape(*bad.shape[:2], -1))


def _per_look(layout: Layout, every_s: float | None) -> int:
    return max(1, round((every_s or layout.interval_s) / layout.interval_s))


def first(flags: Flags, per_look: int) -> Times:
    """Return the interval of the first true look (looks, runs); NEVER where there is none."""
    return np.where(flags.any(axis=0), (flags.argmax(axis=0) + 1) * per_look, NEVER).astype(np.int64)


def mann_whitney_judge(stream: Stream, *, looks: int = 3) -> Times:
    """Kayenta: 98 % Mann-Whitney intervals of every indicator's series, a weighted score, pass 95, marginal 75.

    Each look covers the time since the last one. An indicator is high when its interval lies above a quarter
    of the Hodges-Lehmann shift and the ratio of means is at least 1; half of the points missing scores 0.
    The candidate fails at any look under the marginal score, and at the last one under the pass score. As its
    documentation asks, arms of equal size are compared: of the larger one a random part.
    """
    candidate, baseline = (series.share for series in _of_equal_size(*arms(stream)))
    length = len(candidate) // looks
    weights = _weights_of(candidate.shape[-1])
    failed = np.zeros((looks, stream.runs), dtype=bool)
    for look in range(looks):
        span = slice(look * length, (look + 1) * length)
        score = 100 * (~_high(candidate[span], baseline[span])) @ weights
        gone = np.isnan(candidate[span]).mean(axis=0)[:, 0] >= 0.5  # noqa: PLR2004 - the rule's half
        score = np.where(gone, 0.0, score)
        failed[look] = score + 1e-9 < (95 if look == looks - 1 else 75)
    return first(failed, length)


def _of_equal_size(candidate: Series, baseline: Series) -> tuple[Series, Series]:
    """Return both series with the larger one thinned, without replacement, to the size of the smaller."""
    rng = np.random.default_rng(int(candidate.n.sum()))
    n = np.minimum(candidate.n, baseline.n)
    thinned: list[Series] = []
    for series in (candidate, baseline):
        kept = np.broadcast_to(n, series.bad.shape).astype(np.int64)
        bad = series.bad.astype(np.int64)
        good = np.broadcast_to(series.n, series.bad.shape).astype(np.int64) - bad
        thinned.append(Series(n=n, bad=rng.hypergeometric(bad, good, kept).astype(float)))
    return thinned[0], thinned[1]


def _weights_of(indicators: int) -> Array:
    if indicators % _INDICATORS:
        return np.full(indicators, 1 / indicators)
    return metric_weights(indicators // _INDICATORS)


def _high(candidate: Array, baseline: Array) -> Flags:
    """Return which series (runs, indicators) the Mann-Whitney rule calls high."""
    points, runs, indicators = candidate.shape
    pairs = points * points
    z = float(_special.ndtri(0.99))
    rank = max(0, round(pairs / 2 - z * math.sqrt(pairs * (2 * points + 1) / 12)))
    high = np.zeros((runs, indicators), dtype=bool)
    for indicator in range(indicators):
        one, two = np.nan_to_num(candidate[..., indicator].T), np.nan_to_num(baseline[..., indicator].T)
        differences = (one[:, :, None] - two[:, None, :]).reshape(runs, -1)
        ordered = np.partition(differences, (rank, pairs // 2), axis=1)
        low, shift = ordered[:, rank], ordered[:, pairs // 2]
        high[:, indicator] = (low > 0.25 * np.abs(shift)) & (one.mean(axis=1) >= two.mean(axis=1))
    return high


def threshold_counter(stream: Stream, *, failures: int) -> Times:
    """Flagger: each minute errors and tail of the candidate against thresholds; each miss counts, for good."""
    candidate, _ = arms(stream, _LOOK_S)
    misses = np.cumsum((~_sound(candidate)).sum(axis=-1), axis=0)
    return first(misses >= failures, _per_look(stream.layout, _LOOK_S))


def _sound(series: Series) -> Flags:
    """Return which of (errors, tail) of the first view are within twice the baseline's share; missing is not."""
    limits, columns = [2 * 0.01], [0]
    if series.bad.shape[-1] >= _INDICATORS:
        limits, columns = [*limits, 2 * THRESHOLD_SHARES[2]], [*columns, 2]
    share = np.where(series.n > 0, series.share, np.inf)[..., columns]
    return share <= np.array(limits)


def failure_limit(stream: Stream, *, limit: int) -> Times:
    """Argo Rollouts: a condition on each measurement; more than `limit` misses of one fail, so do 5 blanks in a row."""
    candidate, _ = arms(stream, _LOOK_S)
    blank = candidate.n[..., 0] == 0
    misses = np.cumsum(~_sound(candidate) & ~blank[..., None], axis=0).max(axis=-1)
    blanks = np.stack([np.all(blank[max(0, i - 4) : i + 1], axis=0) & (i >= 4) for i in range(len(blank))])  # noqa: PLR2004
    return first((misses > limit) | blanks, _per_look(stream.layout, _LOOK_S))


def relative_criteria(stream: Stream) -> Times:
    """Keptn: at each stage's end each indicator against the average of the last 3 evaluations, at most 10 % above.

    Up to 20 % above scores half. The weighted score must reach 75. The first evaluations to compare with are
    three stages' lengths of the baseline's calibration; later only those that passed.
    """
    layout = stream.layout
    length = layout.intervals // len(layout.shares)
    begin = layout.calibration - 3 * length
    if begin < 0:
        return np.full(stream.runs, NEVER, dtype=np.int64)
    one, two = (_series(half, begin) for half in stream.halves)
    before = Series(n=(one.n + two.n)[: 3 * length], bad=(one.bad + two.bad)[: 3 * length]).grouped(length)
    past: list[Array] = list(np.nan_to_num(before.share))
    weights = _weights_of(past[0].shape[-1])
    failed: list[Flags] = []
    for value in arms(stream)[0].grouped(length).share:
        average = np.stack(past[-3:]).mean(axis=0)
        full, half = value <= 1.1 * average, value <= 1.2 * average
        score = 100 * (0.5 * full + 0.5 * half) @ weights
        failed.append(score < 75)  # noqa: PLR2004 - the rule's mark
        passed = score >= 90  # noqa: PLR2004
        past = [*past[1:], np.where(passed[:, None], np.nan_to_num(value), past[-1])]
    return first(np.stack(failed), length)


def asymptotic_sequence(stream: Stream, *, tuned_for: float = 5000.0) -> Times:
    """GrowthBook: a one-sided asymptotic confidence sequence of the difference of shares, on all data so far."""
    candidate, baseline = (series.running() for series in arms(stream))
    alpha = ALPHA / candidate.bad.shape[-1]
    scale = -2 * math.log(alpha)
    rho2 = (scale + math.log(scale + 1)) / tuned_for
    n = np.maximum(candidate.n + baseline.n, 1)
    difference, variance = _difference(candidate, baseline)
    grown = n * rho2 + 1
    half = np.sqrt(n * variance * 2 * grown / (n**2 * rho2) * np.log1p(np.sqrt(grown) / (2 * alpha)))
    return first(np.any((difference > half) & _plenty(candidate, baseline), axis=-1), 1)


def repeated_z(stream: Stream) -> Times:
    """Return when a pooled z-test on all data so far, looked at each minute, first finds a higher share."""
    candidate, baseline = (series.running() for series in arms(stream, _LOOK_S))
    n_c, n_b = np.maximum(candidate.n, 1), np.maximum(baseline.n, 1)
    common = (candidate.bad + baseline.bad) / (n_c + n_b)
    error = np.sqrt(np.maximum(common * (1 - common), 1e-12) * (1 / n_c + 1 / n_b))
    z = (candidate.bad / n_c - baseline.bad / n_b) / error
    level = float(_special.ndtri(1 - ALPHA / candidate.bad.shape[-1]))
    return first(np.any((z > level) & _plenty(candidate, baseline), axis=-1), _per_look(stream.layout, _LOOK_S))


def repeated_t(stream: Stream, *, least: int = 5) -> Times:
    """Return when Welch's t-test on the points so far, a point a minute, first finds a higher mean."""
    candidate, baseline = (np.nan_to_num(series.share) for series in arms(stream, _LOOK_S))
    count = np.arange(1.0, len(candidate) + 1)[:, None, None]
    (mean_c, square_c), (mean_b, square_b) = (_moments(part, count) for part in (candidate, baseline))
    error = square_c + square_b
    freedom = error**2 / np.maximum((square_c**2 + square_b**2) / np.maximum(count - 1, 1), 1e-30)
    t = (mean_c - mean_b) / np.sqrt(np.maximum(error, 1e-12))
    level = cast("Array", _special.stdtrit(np.maximum(freedom, 1), 1 - ALPHA / candidate.shape[-1]))
    flags: Flags = np.any((t > level) & (error > 0), axis=-1)
    flags[: least - 1] = False
    return first(flags, _per_look(stream.layout, _LOOK_S))


def _moments(points: Array, count: Array) -> tuple[Array, Array]:
    """Return the running means, and their squared standard errors."""
    mean = np.cumsum(points, axis=0) / count
    square = np.maximum(np.cumsum(points**2, axis=0) / count - mean**2, 0) * count / np.maximum(count - 1, 1)
    return mean, square / count


def _difference(candidate: Series, baseline: Series) -> tuple[Array, Array]:
    n_c, n_b = np.maximum(candidate.n, 1), np.maximum(baseline.n, 1)
    p_c, p_b = candidate.bad / n_c, baseline.bad / n_b
    return p_c - p_b, p_c * (1 - p_c) / n_c + p_b * (1 - p_b) / n_b


def _plenty(candidate: Series, baseline: Series) -> Flags:
    """Return where enough bad events were seen for a normal approximation; before, the rules on sums wait."""
    return candidate.bad + baseline.bad >= 10  # noqa: PLR2004 - the usual rule of thumb


RULES: dict[str, Rule] = {
    "Mann-Whitney judge (Kayenta)": mann_whitney_judge,
    "threshold counter, 1 miss (Flagger)": lambda stream: threshold_counter(stream, failures=1),
    "threshold counter, 5 misses (Flagger)": lambda stream: threshold_counter(stream, failures=5),
    "threshold counter, 10 misses (Flagger)": lambda stream: threshold_counter(stream, failures=10),
    "failure limit 0 (Argo Rollouts)": lambda stream: failure_limit(stream, limit=0),
    "failure limit 3 (Argo Rollouts)": lambda stream: failure_limit(stream, limit=3),
    "relative criteria (Keptn)": relative_criteria,
    "asymptotic confidence sequence (GrowthBook)": asymptotic_sequence,
    "z-test each minute": repeated_z,
    "t-test each minute": repeated_t,
}
