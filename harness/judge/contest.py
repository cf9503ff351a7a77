"""Evidence that a candidate is not as good as its baseline, at all: the strictest of the judge's questions.

The null is equality within each interval: one common share, which may drift as it likes. For a predictable
share p_b and an alternative p_c = expit(logit p_b + step), the common share is taken where it fits both best,
so the e-value's mean is at most 1 whatever the true share is. Evidence is tempered for noise that belongs to
one arm (`harness.judge.dispersion`) and no interval may add more than `CAP`.
"""

from typing import Any, cast

import numpy as np
import scipy.special as _scipy_special  # pyright: ignore[reportMissingTypeStubs] - it ships none

from harness.judge.bets import CAP, Array, Bets, Counts, Numbers, log_mean_exp
from harness.judge.dispersion import tempering

_special: Any = _scipy_special
ERROR_BETS = (2.0, 3.0, 5.0), (0.5, 0.25, 0.25)  # multiples of the odds, their weights
TAIL_BETS = (1.5, 2.0, 4.0), (0.3, 0.4, 0.3)
SHIFTS = (0.03, 0.06, 0.12, 0.25, 0.6), (0.2, 0.25, 0.25, 0.15, 0.15)  # of the latency's probit; small ones first
NOMINAL = np.array([0.5, 0.1, 0.01])  # shares above the baseline's p50, p90 and p99
_LEAST = 1e-5


class BinaryContest(Bets):
    """Bets on a higher share of bad events."""

    def __init__(
        self, shape: tuple[int, ...] = (), *, bets: tuple[tuple[float, ...], tuple[float, ...]] = ERROR_BETS
    ) -> None:
        """Start with no evidence; `bets` are multiples of the odds, and their weights, which sum to 1."""
        multiples, weights = bets
        super().__init__(shape, len(multiples), weights)
        self._steps = np.log(multiples)

    def update(self, counts: Counts, *, p_b: Array, phi: Numbers = 1.0) -> None:
        """Take one interval in; `p_b` in (0, 1) from earlier intervals, `phi` >= 1 tempers."""
        odds = np.log(p_b / (1 - p_b))[..., None] + self._steps
        p_c = 1 / (1 + np.exp(-odds))
        value = counts.log_e(p_c, p_b[..., None], 0.0)
        self._logs += np.minimum(value / np.asarray(phi)[..., None], CAP)

    @staticmethod
    def tempering(g: Numbers, p_b: Array, n_c: Array, n_b: Array, halves: tuple[Array, Array] | None = None) -> Array:
        """Return phi for shares: the variance of one unit is p (1 - p)."""
        return tempering(g, p_b * (1 - p_b), n_c=n_c, n_b=n_b, halves=halves)


class OrdinalContest(Bets):
    """Bets on latencies shifted upward, read from how many fall between three thresholds set beforehand.

    Shifts are on the probit scale: at a lognormal latency of log standard deviation s, a shift of d is a
    latency exp(s d) times as long. Without small shifts a heavy tail is never found.
    """

    def __init__(
        self, shape: tuple[int, ...] = (), *, bets: tuple[tuple[float, ...], tuple[float, ...]] = SHIFTS
    ) -> None:
        """Start with no evidence; `bets` are shifts and their weights, which sum to 1."""
        shifts, weights = bets
        super().__init__(shape, len(shifts), weights)
        self._shifts = np.array(shifts)

    def update(self, counts_c: Array, counts_b: Array, *, exceed: Array, phi: Numbers = 1.0) -> None:
        """Take one interval in.

        `counts` are (..., 4): latencies up to the first threshold, up to the second, the third, above; `exceed`
        is (..., 3): the baseline's shares above the thresholds, falling, from earlier intervals.
        """
        p_b = np.maximum(classes(exceed), _LEAST)[..., None, :]
        p_c = np.maximum(shifted(exceed[..., None, :], self._shifts[:, None]), _LEAST)
        n_c, n_b = counts_c.sum(axis=-1), counts_b.sum(axis=-1)
        part = np.where(n_c + n_b > 0, n_c / np.maximum(n_c + n_b, 1), 0.5)[..., None, None]
        common = part * p_c + (1 - part) * p_b
        value = (counts_c[..., None, :] * np.log(p_c / common)).sum(axis=-1)
        value += (counts_b[..., None, :] * np.log(p_b / common)).sum(axis=-1)
        self._logs += np.minimum(value / np.asarray(phi)[..., None], CAP)

    @staticmethod
    def tempering(
        g: Numbers, exceed: Array, n_c: Array, n_b: Array, halves: tuple[Array, Array] | None = None
    ) -> Array:
        """Return phi for the classes' scores, whose variance the predicted shares give."""
        shares = classes(exceed)
        variance = shares @ np.square(SCORES) - np.square(shares @ SCORES)
        return tempering(g, variance, n_c=n_c, n_b=n_b, halves=halves)


def classes(exceed: Array) -> Array:
    """Return the shares of the classes (..., k + 1) from the falling shares above k thresholds."""
    whole = np.concatenate([np.ones((*exceed.shape[:-1], 1)), exceed, np.zeros((*exceed.shape[:-1], 1))], axis=-1)
    return whole[..., :-1] - whole[..., 1:]


def shifted(exceed: Array, shift: Numbers) -> Array:
    """Return the classes' shares after a shift of the probit: latencies grow, thresholds stay."""
    inside = np.clip(exceed, 1e-4, 1 - 1e-4)
    return classes(cast("Array", _special.ndtr(_special.ndtri(inside) + shift)))


def falling(exceed: Array) -> Array:
    """Return predicted shares above rising thresholds made strictly falling, inside (0, 1)."""
    result = np.clip(exceed, 1e-4, 0.97)
    for index in range(1, result.shape[-1]):
        result[..., index] = np.minimum(result[..., index], 0.98 * result[..., index - 1])
    return result


def _scores() -> Array:
    step = 0.1
    return np.log(shifted(NOMINAL, step) / classes(NOMINAL)) / step


SCORES: Array = _scores()  # what one latency of each class says of a shift, per unit of probit


def combine(log_es: Array, weights: Array) -> Array:
    """Return the log of the weighted average of e-values along the last axis: an e-value, however they depend."""
    return log_mean_exp(log_es, weights)
