"""Anytime-valid bounds on the mean of scores in [0, 1], by betting.

Waudby-Smith and Ramdas (2023): a gambler bets on every score that it lies above a supposed mean m, another
that it lies below. If the mean is m, neither can expect to get rich: their capital is a martingale, and by
Ville's inequality the chance that it ever reaches 1/a is at most a. So the means at which neither has got rich
are a confidence sequence: it holds at all looks at once. Stakes come from the past (the predictable plug-in):
they shrink as the past's spread and the number of scores call for.

Capital is kept for each supposed mean of a grid, never the scores: memory does not grow with the stream. It falls
(rises) steadily along the grid, so the grid's neighbours bound what lies between them: the interval is rounded
outward and its coverage is exact. A score that is known only to lie between two numbers counts as the worse
one for each gambler.

Arrays have leading axes `shape` (() for one stream); scores lie along a last axis, with how often each came.
"""

import math
from dataclasses import dataclass

import numpy as np

from harness.judge.bets import Array, Numbers

GRID: Array = np.linspace(0.0, 1.0, 201)
DIFFERENCES: Array = np.linspace(-1.0, 1.0, 401)
_MOST = 0.5  # of the capital: what a gambler may stake on one score
_AT_ONCE = 0.8  # of the stakes, for the gambler who begins with the first interval
_BOLD = 200.0  # scores: who begins later stakes as one does who expects to be done within so many


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one arm in one interval: between `low` and `high`, `counts` times each; all (..., k), in [0, 1]."""

    low: Array
    high: Array
    counts: Array

    @property
    def n(self) -> Array:
        """How many there are, shape (...)."""
        return self.counts.sum(axis=-1)

    @property
    def total(self) -> Array:
        """Their sum, each taken in the middle of what is known of it."""
        return (self.counts * (self.low + self.high) / 2).sum(axis=-1)


class Moments:
    """Mean and variance of the scores so far, each begun with one score's worth of a guess (1/2 and 1/4)."""

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        """Start with the guess alone."""
        self.n: Array = np.zeros(shape)
        self._total: Array = np.full(shape, 0.5)
        self._squares: Array = np.full(shape, 0.25)

    def update(self, scores: Scores) -> None:
        """Take one interval in."""
        self.n = self.n + scores.n
        self._total = self._total + scores.total
        apart = (scores.low + scores.high) / 2 - self.mean[..., None]
        self._squares = self._squares + (scores.counts * np.square(apart)).sum(axis=-1)

    @property
    def mean(self) -> Array:
        """The mean, in (0, 1)."""
        return self._total / (self.n + 1)

    @property
    def variance(self) -> Array:
        """The variance of one score, above 0."""
        return self._squares / (self.n + 1)


class Capital:
    """What the two gamblers own at each supposed value, as logs; `peak`s are the most that they ever owned.

    Who bets on low scores all the time is ruined by a long good past, and could not win it back from what breaks
    late. So others of his kind begin at each interval, with ever smaller parts of the stakes: `late` is what all of
    them own together, those who have not begun yet included. That is a martingale too.
    """

    def __init__(self, points: Array, shape: tuple[int, ...]) -> None:
        """Start with 1 everywhere; `points` rise."""
        self.points = points
        self.above: Array = np.zeros((*shape, len(points)))  # evidence that the truth lies above each point
        self.below: Array = np.zeros((*shape, len(points)))
        self.peak_above: Array = self.above
        self.peak_below: Array = self.below
        self._begun: Array = np.full_like(self.below, -math.inf)  # what those own who have begun
        self._intervals = 0

    def add(self, above: Array, below: Array, bold: Array) -> None:
        """Add one interval's log gains; `bold` are those of who begins later and bets on low scores."""
        if self._intervals:
            begins = math.log(self._waiting(self._intervals) - self._waiting(self._intervals + 1))
            self._begun = np.logaddexp(self._begun, begins) + bold
        self._intervals += 1
        self.above = self.above + above
        self.below = self.below + below
        self.peak_above = np.maximum(self.peak_above, self.above)
        self.peak_below = np.maximum(self.peak_below, self.below)

    @property
    def late(self) -> Array:
        """Evidence that the truth lies below each point, or has come to lie there."""
        if not self._intervals:
            return self.below
        first = math.log(_AT_ONCE) + self.below
        return np.logaddexp(first, np.logaddexp(self._begun, math.log(self._waiting(self._intervals))))

    @staticmethod
    def _waiting(intervals: int) -> float:
        """Return the part of the stakes that waits after so many intervals, at least one."""
        return (1 - _AT_ONCE) / intervals

    def interval(self, alpha: float) -> tuple[Array, Array]:
        """Return the running intersection (low, high): the chance that it ever misses the truth is at most alpha."""
        rich = math.log(2 / alpha)
        first = (self.peak_above >= rich).sum(axis=-1)  # points from the left that are too small
        last = (self.peak_below >= rich).sum(axis=-1)  # points from the right that are too large
        return self.points[np.maximum(first, 1) - 1], self.points[-np.maximum(last, 1)]

    def at(self, value: float) -> int:
        """Return the index of a point; it must be one."""
        return int(np.argmin(np.abs(self.points - value)))


def stake(variance: Array, n: Numbers, alpha: float) -> Array:
    """Return the predictable plug-in's stake for the scores up to the `n`-th, before any limit."""
    n = np.maximum(np.asarray(n, dtype=float), 1.0)
    return np.sqrt(2 * math.log(2 / alpha) / (n * np.log1p(n) * variance))


class MeanBets:
    """Bets on one stream's mean, at every point of a grid of means.

    The expectation of each interval's scores, given the past, is the mean that is bounded; where it drifts, the
    evidence that the mean lies above a point is evidence that it did not always lie at or under it.
    """

    def __init__(self, shape: tuple[int, ...] = (), *, alpha: float, points: Array = GRID) -> None:
        """Stakes are tuned to an interval at `alpha`; `points` rise within [0, 1]."""
        self._alpha = alpha
        self._past = Moments(shape)
        self.capital = Capital(points, shape)

    def update(self, scores: Scores) -> None:
        """Take one interval in; its stakes come from the intervals before."""
        points = self.capital.points
        wanted = stake(self._past.variance, self._past.n + scores.n, self._alpha)[..., None]
        bold = stake(self._past.variance, np.minimum(self._past.n + scores.n, _BOLD), self._alpha)[..., None]
        with np.errstate(divide="ignore"):
            up, most = np.minimum(wanted, _MOST / points), _MOST / (1 - points)
        above = _gain(scores.low, scores.counts, points, up)
        below, bold = (_gain(scores.high, scores.counts, points, -np.minimum(one, most)) for one in (wanted, bold))
        self.capital.add(above, below, bold)
        self._past.update(scores)

    @property
    def mean(self) -> Array:
        """The mean so far, with its guess."""
        return self._past.mean


class DifferenceBets:
    """Bets on how far the candidate's mean lies above the baseline's within the same intervals.

    For a supposed difference d, the baseline's past gives a mean m; one gambler stakes a on each of the
    candidate's scores x and b on each of the baseline's y, with a n_c = b n_b. His gain, the product of all
    (1 + a (x - m - d)) (1 - b (y - m)), has mean at most exp(a n_c (mu_c - m - d) - b n_b (mu_b - m))
    = exp(a n_c (mu_c - mu_b - d)), whatever the means are: at most 1 while the difference is at most d. So what
    drifts on both arms cancels, and a wrong m costs only power.
    """

    def __init__(self, shape: tuple[int, ...] = (), *, alpha: float, points: Array = DIFFERENCES) -> None:
        """Stakes are tuned to an interval at `alpha`; `points` rise within [-1, 1]."""
        self._alpha = alpha
        self._past_c, self._past_b = Moments(shape), Moments(shape)
        self._units: Array = np.zeros(shape)
        self._weighted: Array = np.zeros(shape)
        self.capital = Capital(points, shape)

    def learn(self, baseline: Scores) -> None:
        """Let baseline's scores without a partner guide the stakes."""
        self._past_b.update(baseline)

    def update(self, candidate: Scores, baseline: Scores) -> None:
        """Take one interval of both arms in; its stakes come from the intervals before."""
        points, n_c, n_b = self.capital.points, candidate.n, baseline.n
        both = np.maximum(n_c + n_b, 1)
        units = n_c * n_b / both
        variance = (self._past_c.variance + self._past_b.variance) / 2
        most = _MOST * both / np.maximum(np.maximum(n_c, n_b), 1)
        wanted = np.minimum(stake(variance, self._units + units, self._alpha), most)
        bold = np.minimum(stake(variance, np.minimum(self._units + units, _BOLD), self._alpha), most)
        mean_b = np.clip(self._past_b.mean[..., None], -points, 1 - points)  # both means in [0, 1]
        mean_c = mean_b + points

        def gains(on: Array, scores_c: Array, scores_b: Array) -> Array:
            on_c, on_b = (on * n_b / both)[..., None], (on * n_c / both)[..., None]
            gained = _gain(scores_c, candidate.counts, mean_c, on_c)
            return gained + _gain(scores_b, baseline.counts, mean_b, -on_b)

        above = gains(wanted, candidate.low, baseline.high)
        below, bold = (gains(-on, candidate.high, baseline.low) for on in (wanted, bold))
        self.capital.add(above, below, bold)
        apart = candidate.total / np.maximum(n_c, 1) - baseline.total / np.maximum(n_b, 1)
        self._units, self._weighted = self._units + units, self._weighted + units * apart
        self._past_c.update(candidate)
        self._past_b.update(baseline)

    @property
    def difference(self) -> Array:
        """Candidate minus baseline, each interval weighted by what it tells; 0 before any."""
        return self._weighted / np.where(self._units > 0, self._units, 1.0)


def _gain(scores: Array, counts: Array, means: Array, stakes: Array) -> Array:
    """Return the log gains (..., points) of `stakes` (..., points) on scores (..., k) against `means`."""
    gains = np.log1p(stakes[..., None, :] * (scores[..., None] - means[..., None, :]))
    return (counts[..., None] * gains).sum(axis=-2)
