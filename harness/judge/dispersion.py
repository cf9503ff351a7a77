"""Noise that belongs to one arm: how large it is, and how far it must temper the evidence.

A slow instance, a collection pause, a busy neighbour: such noise moves one arm's share for a while, whatever
the release. A test that takes every request for independent then finds differences that are none. The remedy
is to measure the noise where it is pure, between two instances of the same release (A/A), as the long-run
variance G of the difference of their log odds, and to divide each interval's evidence by the factor phi by
which that noise inflates the variance of its score.
"""

import numpy as np

from harness.judge.bets import Array, Numbers

LAGS = 16  # intervals over which an arm's noise may be remembered
_KAPPA = 1.5  # G is estimated and noise has heavy tails: temper by more than the estimate
_FLOOR = 1e-9


class LongRunVariance:
    """G: the variance of two halves' difference in log odds, with its memory over `lags` intervals.

    From scores r_t (observed minus expected on one half) and their binomial variances v_t: the excess
    r_t^2 - v_t over v_t^2 estimates the noise's variance, r_t r_{t-k} over v_t v_{t-k} its autocovariance;
    G = gamma_0 + 2 sum_k gamma_k. Read `value` before `update`: then it rests on the past alone. Of the
    `intervals` seen, only the `informative` ones, with a variance above 0, say anything.
    """

    def __init__(self, shape: tuple[int, ...] = (), *, lags: int = LAGS) -> None:
        """Start with nothing known: G = 0."""
        self._top: Array = np.zeros((lags + 1, *shape))
        self._bottom: Array = np.zeros((lags + 1, *shape))
        self._scores: Array = np.zeros((lags, *shape))
        self._variances: Array = np.zeros((lags, *shape))
        self.intervals = self.informative = 0

    def update(self, score: Numbers, variance: Numbers) -> None:
        """Take one interval in; a variance of 0 (nobody served, or nothing bad) says nothing."""
        self._top[0] += np.square(score) - variance
        self._bottom[0] += np.square(variance)
        self._top[1:] += score * self._scores
        self._bottom[1:] += variance * self._variances
        self._scores = np.roll(self._scores, 1, axis=0)
        self._variances = np.roll(self._variances, 1, axis=0)
        self._scores[0], self._variances[0] = score, variance
        self.intervals += 1
        self.informative += bool(np.any(np.asarray(variance) > 0))

    def gap(self) -> None:
        """Note that time passed unseen: the next interval has no neighbours."""
        self._scores[:], self._variances[:] = 0.0, 0.0

    @property
    def value(self) -> Array:
        """G, never negative."""
        gamma = self._top / np.maximum(self._bottom, _FLOOR)
        return np.maximum(gamma[0] + 2 * gamma[1:].sum(axis=0), 0.0)


def binary_score(bad_1: Numbers, n_1: Numbers, bad_2: Numbers, n_2: Numbers) -> tuple[Array, Array]:
    """Return the first half's bad count minus its expectation, and the variance given the total (hypergeometric)."""
    bad, n = np.asarray(bad_1 + bad_2, dtype=float), np.maximum(np.asarray(n_1 + n_2, dtype=float), 1)
    score = bad_1 - bad * n_1 / n
    variance = bad * (n - bad) * n_1 * n_2 / (n * n * np.maximum(n - 1, 1))
    return np.asarray(score), np.maximum(variance, 0.0)


def ordinal_score(counts_1: Array, counts_2: Array, scores: Array) -> tuple[Array, Array]:
    """Return the same for latency classes along the last axis, each worth its score."""
    both = counts_1 + counts_2
    n_1, n_2 = counts_1.sum(axis=-1), counts_2.sum(axis=-1)
    n = np.maximum(n_1 + n_2, 1)
    total, squares = both @ scores, both @ np.square(scores)
    score = counts_1 @ scores - total * n_1 / n
    spread = np.maximum(squares / n - np.square(total / n), 0.0)
    return score, n_1 * n_2 / np.maximum(n - 1, 1) * spread


def tempering(
    g: Numbers, unit_variance: Numbers, *, n_c: Numbers, n_b: Numbers, halves: tuple[Array, Array] | None = None
) -> Array:
    """Return phi >= 1, by which an interval's log evidence is divided.

    `unit_variance` is that of one unit's score, p (1 - p) for a share p. `halves` are the counts of a baseline
    served by two instances, whose noise partly averages out; None for one instance, as noisy as the candidate.
    """
    n_c, n_b = np.asarray(n_c, dtype=float), np.asarray(n_b, dtype=float)
    score_variance = unit_variance * n_c * n_b / np.maximum(n_c + n_b, 1)
    arms = 1.0
    if halves is not None:
        one, two = halves
        arms = 0.5 * (1 + (np.square(one) + np.square(two)) / np.square(np.maximum(one + two, 1)))
    return 1 + _KAPPA * arms * np.asarray(g) * score_variance


class PastShares:
    """Shares learnt from earlier intervals with a half-life counted in intervals; the prior fades last.

    The shares of `shape` lie in [floor, ceiling]. `n` broadcasts: several shares may be of the same units.
    """

    def __init__(
        self,
        shape: tuple[int, ...] = (),
        *,
        prior: Numbers = 0.01,
        prior_n: float = 200.0,
        half_life: float = 80.0,
        bounds: tuple[float, float] = (2e-4, 0.97),
    ) -> None:
        """Start at `prior`, worth `prior_n` units."""
        self._prior, self._prior_n, self._keep, self._bounds = prior, prior_n, 0.5 ** (1 / half_life), bounds
        self._bad: Array = np.zeros(shape)
        self._n: Array = np.zeros(shape)

    def update(self, bad: Numbers, n: Numbers) -> None:
        """Take one interval in."""
        self._bad = self._bad * self._keep + bad
        self._n = self._n * self._keep + n

    @property
    def value(self) -> Array:
        """The shares now."""
        share = (self._bad + self._prior * self._prior_n) / (self._n + self._prior_n)
        return np.clip(share, *self._bounds)
