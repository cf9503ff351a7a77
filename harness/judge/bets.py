"""E-processes on two arms: is the candidate's share beyond the baseline's plus a margin, or within it?

For one interval with n_c and n_b units, a predictable alternative (p_c, p_b), and a null that is a half
plane of shares (q_c <= q_b + d, or >=), let (q_c, q_b) be the point of the null nearest to the alternative
in Kullback-Leibler divergence weighted by the counts. Then
    e = prod over units of alternative(unit) / nearest(unit)
has mean <= 1 under every point of the null: each unit's factor has mean 1 + (theta - q) * g, the logarithm
of the product is at most n_c (theta_c - q_c) g_c + n_b (theta_b - q_b) g_b, and that is <= 0 because the
null is convex. So shares may drift from interval to interval as they like; products over intervals and
averages over alternatives stay e-values, and Ville's inequality makes every look free.

Everything here works on arrays over many rollouts at once (`shape`), or on one rollout (`shape=()`): the
gate and the bench run the same lines. Alternatives lie along a last axis of their own.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Numbers = Array | float  # what `shape` broadcasts

CAP = 1.5  # the most that one interval may add to the evidence against a release, in log e: a hiccup decides nothing
_EPS = 1e-9
_WITHIN = (0.9, 0.1)  # weights of the promoting bets: on equal shares, on the past rate
_STEPS = np.log([1.6, 2.3, 3.5, 5.5])


class Counts:
    """One interval's counts, arrays of one shape: `bad` of `n` on the candidate (c) and the baseline (b)."""

    __slots__ = ("bad_b", "bad_c", "n_b", "n_c")

    def __init__(self, bad_c: Numbers, n_c: Numbers, bad_b: Numbers, n_b: Numbers) -> None:
        """Keep the four counts as floats."""
        self.bad_c, self.n_c = np.asarray(bad_c, dtype=float), np.asarray(n_c, dtype=float)
        self.bad_b, self.n_b = np.asarray(bad_b, dtype=float), np.asarray(n_b, dtype=float)

    def log_e(self, p_c: Array, p_b: Array, margin: Numbers) -> Array:
        """Return the log e-values of alternatives (p_c, p_b) against the line q_c = q_b + margin.

        `p_c` and `p_b` carry the alternatives along their last axis; so does the result. An interval without
        units says nothing: 0. Alternatives lie strictly inside (0, 1).
        """
        n_c, n_b = self.n_c[..., None], self.n_b[..., None]
        bad_c, bad_b = self.bad_c[..., None], self.bad_b[..., None]
        total = n_c + n_b
        weight = np.where(total > 0, n_c / np.maximum(total, 1), 0.5)
        q_c, q_b = nearest(p_c, p_b, weight, np.asarray(margin, dtype=float)[..., None])
        value: Array = bad_c * np.log(p_c / q_c) + (n_c - bad_c) * np.log((1 - p_c) / (1 - q_c))
        value += bad_b * np.log(p_b / q_b) + (n_b - bad_b) * np.log((1 - p_b) / (1 - q_b))
        return value


def nearest(p_c: Array, p_b: Array, weight: Array, margin: Array) -> tuple[Array, Array]:
    """Return the points (q + margin, q) nearest to (p_c, p_b); `weight` is the candidate's share of the units.

    Newton steps kept inside a shrinking bracket: the slope in q rises, so its root is bracketed by the two
    one-armed answers p_b and p_c - margin.
    """
    if not np.any(margin):
        q: Array = weight * p_c + (1 - weight) * p_b
        return q, q
    other = np.maximum(p_c - margin, _EPS)
    low, high = np.minimum(p_b, other), np.minimum(np.maximum(p_b, other), 1 - margin - _EPS)
    q = np.clip(weight * (p_c - margin) + (1 - weight) * p_b, low, high)
    for _ in range(40):
        q_c = q + margin
        v_c, v_b = q_c * (1 - q_c), q * (1 - q)
        slope = weight * (q_c - p_c) / v_c + (1 - weight) * (q - p_b) / v_b
        low, high = np.where(slope < 0, q, low), np.where(slope < 0, high, q)
        bend = weight * (1 / v_c - (q_c - p_c) * (1 - 2 * q_c) / v_c**2)
        bend += (1 - weight) * (1 / v_b - (q - p_b) * (1 - 2 * q) / v_b**2)
        step = q - slope / np.where(bend > 0, bend, 1.0)
        inside = (bend > 0) & (low <= step) & (step <= high)  # an end is where Newton arrives
        moved = np.where(inside, step, (low + high) / 2)
        done = np.abs(moved - q) <= 1e-12 * q
        q = moved
        if np.all(done | (high - low < 1e-13)):  # noqa: PLR2004 - far below any count's effect
            break
    return q + margin, q


class Bets:
    """Several bets at once, and the average of what they are worth: an e-value, also of what came since any moment."""

    def __init__(self, shape: tuple[int, ...], bets: int, weights: Sequence[float] | Array | None = None) -> None:
        """Start with no evidence on `bets` bets; their weights sum to 1, None for equal ones."""
        self._logs: Array = np.zeros((*shape, bets))
        self._weights = weights

    @property
    def log_e(self) -> Array:
        """The log of the averaged e-value now."""
        return log_mean_exp(self._logs, self._weights)

    @property
    def whole(self) -> bool:
        """Whether all that was seen has been bet on."""
        return True

    def mark(self) -> Array:
        """Return what `since` starts from."""
        return self._logs.copy()

    def since(self, mark: Array) -> Array:
        """Return the log of the averaged e-value of what came after `mark`."""
        return log_mean_exp(self._logs - mark, self._weights)


class Excess(Bets):
    """Evidence that the candidate's share is above the baseline's plus the margin: it rolls back.

    Averages bets on fixed multiples of the odds and one bet on the candidate's own past rate. `peak` is the
    highest log e-value ever reached, which is what Ville's inequality bounds.
    """

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        """Start with no evidence."""
        super().__init__(shape, len(_STEPS) + 1)
        self.peak: Array = np.zeros(shape)

    def update(self, counts: Counts, *, p_b: Numbers, past_c: Numbers, margin: Numbers, phi: Numbers = 1.0) -> None:
        """Take one interval in; `p_b` and `past_c` come from earlier intervals only.

        `phi` >= 1 tempers: noise of one arm's own makes an interval worth less than its counts.
        """
        p_b, past_c = np.asarray(p_b, dtype=float)[..., None], np.asarray(past_c, dtype=float)[..., None]
        edge = np.minimum(p_b + np.asarray(margin, dtype=float)[..., None], 1 - 1e-6)
        bets = 1 / (1 + np.exp(-(np.log(edge / (1 - edge)) + _STEPS)))
        p_c = np.concatenate([bets, np.broadcast_to(past_c, (*bets.shape[:-1], 1))], axis=-1)
        sound = (p_c > edge * (1 + 1e-6)) & (p_c < 1 - _EPS)
        value = counts.log_e(np.where(sound, p_c, edge), p_b, margin) / np.asarray(phi, dtype=float)[..., None]
        self._logs += np.where(sound, np.minimum(value, CAP), 0.0)
        self.peak = np.maximum(self.peak, self.log_e)


class Within(Bets):
    """Evidence that the candidate's share is below the baseline's plus the margin: it promotes.

    Averages a bet on equal shares, which most of the weight is on, and a bet on the candidate's own past rate.
    """

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        """Start with no evidence."""
        super().__init__(shape, len(_WITHIN), _WITHIN)

    def update(self, counts: Counts, *, p_b: Numbers, past_c: Numbers, margin: Numbers, phi: Numbers = 1.0) -> None:
        """Take one interval in; `p_b` and `past_c` come from earlier intervals only; `phi` as for `Excess`."""
        p_b, past_c = np.asarray(p_b, dtype=float)[..., None], np.asarray(past_c, dtype=float)[..., None]
        edge = p_b + np.asarray(margin, dtype=float)[..., None]
        p_c = np.concatenate(np.broadcast_arrays(p_b, past_c), axis=-1)
        sound = (p_c > 0) & (p_c < edge) & (edge < 1)
        value = counts.log_e(np.where(sound, p_c, p_b), p_b, np.where(edge < 1, edge - p_b, 0.0)[..., 0])
        self._logs += np.where(sound, value / np.asarray(phi, dtype=float)[..., None], 0.0)


class PastRate:
    """A share learnt from earlier intervals, forgetting what is more than about `memory` units old."""

    def __init__(
        self, shape: tuple[int, ...] = (), *, prior_bad: float = 0.5, prior_n: float = 50.0, memory: float = 4000.0
    ) -> None:
        """Start from `prior_bad` of `prior_n`: a guess that real counts soon outweigh."""
        self._prior_bad, self._prior_n, self._memory = prior_bad, prior_n, memory
        self._bad: Array = np.zeros(shape)
        self._n: Array = np.zeros(shape)

    def update(self, bad: Numbers, n: Numbers) -> None:
        """Take one interval in."""
        keep = np.exp(-np.asarray(n, dtype=float) / self._memory)
        self._bad = self._bad * keep + bad
        self._n = self._n * keep + n

    @property
    def rate(self) -> Array:
        """The share, inside (0, 1)."""
        return np.minimum((self._bad + self._prior_bad) / (self._n + self._prior_n), 0.999)

    def towards(self, other: Numbers, units: float = 50.0) -> Array:
        """Return the share shrunk towards `other`, which counts as `units` units."""
        return np.minimum((self._bad + np.asarray(other) * units) / (self._n + units), 0.999)


def log_mean_exp(logs: Array, weights: Sequence[float] | Array | None = None) -> Array:
    """Return the log of the weighted average (weights sum to 1; equal if None) of exp(logs) along the last axis."""
    top: Array = logs.max(axis=-1)
    parts = np.exp(logs - top[..., None])
    average: Array = parts.mean(axis=-1) if weights is None else parts @ np.asarray(weights)
    return top + np.log(average)
