"""E-processes on two arms: is the candidate's share beyond the baseline's plus a margin, or within it?

For one interval with n_c and n_b units, a predictable alternative (p_c, p_b), and a null that is a half
plane of shares (q_c <= q_b + d, or >=), let (q_c, q_b) be the point of the null nearest to the alternative
in Kullback-Leibler divergence weighted by the counts. Then
    e = prod over units of alternative(unit) / nearest(unit)
has mean <= 1 under every point of the null: each unit's factor has mean 1 + (theta - q) * g, the logarithm
of the product is at most n_c (theta_c - q_c) g_c + n_b (theta_b - q_b) g_b, and that is <= 0 because the
null is convex. So shares may drift from interval to interval as they like; products over intervals and
averages over alternatives stay e-values, and Ville's inequality makes every look free.
"""

import math
from collections.abc import Sequence

CAP = 1.5  # the most that one interval may add to the evidence against a release, in log e: a hiccup decides nothing
_EPS = 1e-9
_MULTIPLES = tuple(math.log(x) for x in (1.6, 2.3, 3.5, 5.5))


def nearest(p_c: float, p_b: float, weight: float, margin: float) -> tuple[float, float]:
    """Return the point (q + margin, q) nearest to (p_c, p_b); `weight` is the candidate's share of the units."""
    if margin == 0:
        q = weight * p_c + (1 - weight) * p_b
        return q, q
    ends = (p_b, max(p_c - margin, _EPS))
    low, high = min(ends), min(max(ends), 1 - margin - _EPS)
    q = min(max(weight * (p_c - margin) + (1 - weight) * p_b, low), high)
    for _ in range(60):
        q_c = q + margin
        v_c, v_b = q_c * (1 - q_c), q * (1 - q)
        slope = weight * (q_c - p_c) / v_c + (1 - weight) * (q - p_b) / v_b
        if slope < 0:
            low = q
        else:
            high = q
        bend = weight * (1 / v_c - (q_c - p_c) * (1 - 2 * q_c) / v_c**2)
        bend += (1 - weight) * (1 / v_b - (q - p_b) * (1 - 2 * q) / v_b**2)
        step = q - slope / bend
        if high - low < 1e-13 or abs(step - q) < 1e-12 * q:  # noqa: PLR2004 - far below any count's effect
            break
        q = step if low < step < high else (low + high) / 2
    return q + margin, q


class Counts:
    """One interval's counts: `bad` of `n` on the candidate (c) and the baseline (b)."""

    __slots__ = ("bad_b", "bad_c", "n_b", "n_c")

    def __init__(self, bad_c: int, n_c: int, bad_b: int, n_b: int) -> None:
        """Keep the four counts."""
        self.bad_c, self.n_c, self.bad_b, self.n_b = bad_c, n_c, bad_b, n_b

    def log_e(self, p_c: float, p_b: float, margin: float) -> float:
        """Return the interval's log e-value of (p_c, p_b) against the line q_c = q_b + margin."""
        total = self.n_c + self.n_b
        if not total:
            return 0.0
        q_c, q_b = nearest(p_c, p_b, self.n_c / total, margin)
        value = 0.0
        if self.n_c:
            value += self.bad_c * math.log(p_c / q_c) + (self.n_c - self.bad_c) * math.log((1 - p_c) / (1 - q_c))
        if self.n_b:
            value += self.bad_b * math.log(p_b / q_b) + (self.n_b - self.bad_b) * math.log((1 - p_b) / (1 - q_b))
        return value


class Excess:
    """Evidence that the candidate's share is above the baseline's plus the margin: it rolls back.

    Averages bets on fixed multiples of the odds and one bet on the candidate's own past rate. `peak` is the
    highest log e-value ever reached, which is what Ville's inequality bounds.
    """

    def __init__(self) -> None:
        """Start with no evidence."""
        self._logs = [0.0] * (len(_MULTIPLES) + 1)
        self.peak = 0.0

    def update(self, counts: Counts, *, p_b: float, past_c: float, margin: float) -> None:
        """Take one interval in; `p_b` and `past_c` come from earlier intervals only."""
        edge = min(p_b + margin, 1 - 1e-6)
        odds = math.log(edge / (1 - edge))
        rates = [1 / (1 + math.exp(-(odds + step))) for step in _MULTIPLES]
        rates.append(past_c)
        for index, p_c in enumerate(rates):
            if edge * (1 + 1e-6) < p_c < 1 - 1e-9:
                self._logs[index] += min(counts.log_e(p_c, p_b, margin), CAP)
        self.peak = max(self.peak, self.log_e)

    @property
    def log_e(self) -> float:
        """The log of the averaged e-value now."""
        return _log_mean_exp(self._logs)


class Within:
    """Evidence that the candidate's share is below the baseline's plus the margin: it promotes.

    Averages a bet on equal shares and a bet on the candidate's own past rate.
    """

    def __init__(self) -> None:
        """Start with no evidence."""
        self._logs = [0.0, 0.0]

    def update(self, counts: Counts, *, p_b: float, past_c: float, margin: float) -> None:
        """Take one interval in; `p_b` and `past_c` come from earlier intervals only."""
        for index, p_c in enumerate((p_b, past_c)):
            if 0 < p_c < p_b + margin and p_b + margin < 1:
                self._logs[index] += counts.log_e(p_c, p_b, margin)

    @property
    def log_e(self) -> float:
        """The log of the averaged e-value now."""
        return _log_mean_exp(self._logs)


class PastRate:
    """A share learnt from earlier intervals, forgetting what is more than about `memory` units old."""

    def __init__(self, *, prior_bad: float = 0.5, prior_n: float = 50.0, memory: float = 4000.0) -> None:
        """Start from `prior_bad` of `prior_n`: a guess that real counts soon outweigh."""
        self._prior_bad, self._prior_n, self._memory = prior_bad, prior_n, memory
        self._bad = self._n = 0.0

    def update(self, bad: int, n: int) -> None:
        """Take one interval in."""
        keep = math.exp(-n / self._memory)
        self._bad = self._bad * keep + bad
        self._n = self._n * keep + n

    @property
    def rate(self) -> float:
        """The share, inside (0, 1)."""
        return min((self._bad + self._prior_bad) / (self._n + self._prior_n), 0.999)

    def towards(self, other: float, units: float = 50.0) -> float:
        """Return the share shrunk towards `other`, which counts as `units` units."""
        return min((self._bad + other * units) / (self._n + units), 0.999)


def _log_mean_exp(logs: Sequence[float]) -> float:
    top = max(logs)
    return top + math.log(sum(math.exp(value - top) for value in logs) / len(logs))
