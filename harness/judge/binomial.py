"""Exact bounds on one share, and the anytime-valid evidence that a share lies above a number."""

import math
from typing import Any, cast

import numpy as np
import scipy.special as _scipy_special  # pyright: ignore[reportMissingTypeStubs] - it ships none
from numpy.typing import NDArray

Array = NDArray[np.float64]
Whole = NDArray[np.int64]
_special: Any = _scipy_special


def upper_bound(bad: int, n: int, confidence: float) -> float:
    """Return the one-sided Clopper-Pearson upper bound of a share: `bad` of `n` seen, at `confidence`.

    Nothing seen bounds nothing: 1.0.
    """
    if n <= 0 or bad >= n:
        return 1.0
    return float(_special.betaincinv(bad + 1, n - bad, confidence))


def lower_bound(bad: int, n: int, confidence: float) -> float:
    """Return the one-sided Clopper-Pearson lower bound of a share; 0.0 when nothing bad was seen."""
    if n <= 0 or bad <= 0:
        return 0.0
    return float(_special.betaincinv(bad, n - bad + 1, 1 - confidence))


def log_evidence_above(bad: int, n: int, limit: float) -> float:
    """Return the log e-value of "the share is above `limit`" after `bad` of `n`.

    Likelihood ratio of a Beta mixture over (limit, 1) to `limit` itself. Each ratio of the mixture is a
    supermartingale for every share at or under `limit`, so by Ville's inequality the chance that this ever
    reaches log(1/a), however often one looks, is at most a. The mixture leans to a few times the limit.
    """
    if n <= 0 or bad <= n * limit or not 0 < limit < 1:
        return -math.inf if bad <= n * limit else math.inf
    a, b = 1.0, max(1.0, 0.25 / limit - 1)
    mass = _special.betaincc(a, b, limit), _special.betaincc(a + bad, b + n - bad, limit)
    return _mixture(bad, n, limit, (a, b), mass)


def log_evidence_below(bad: int, n: int, limit: float) -> float:
    """Return the log e-value of "the share is below `limit`" after `bad` of `n`.

    The mirror of `log_evidence_above`: a Beta mixture over (0, limit) against `limit` itself, leaning to 0. Under
    every share at or above `limit` it reaches log(1/a) with a chance of at most a, however often one looks.
    """
    if n <= 0 or bad >= n * limit or not 0 < limit < 1:
        return -math.inf
    a, b = 0.5, max(1.0, 0.5 / limit)
    mass = _special.betainc(a, b, limit), _special.betainc(a + bad, b + n - bad, limit)
    return _mixture(bad, n, limit, (a, b), mass)


def _mixture(bad: int, n: int, limit: float, prior: tuple[float, float], mass: tuple[float, float]) -> float:
    """Return the log ratio of a Beta mixture on one side of `limit` to `limit` itself.

    `mass` is what the whole Beta has on that side before and after the counts; where nothing is left of it,
    the evidence is gone.
    """
    (a, b), (before, after) = prior, mass
    if after <= 0:
        return -math.inf
    ratio = float(_special.betaln(a + bad, b + n - bad)) - float(_special.betaln(a, b)) + math.log(after / before)
    return ratio - bad * math.log(limit) - (n - bad) * math.log1p(-limit)


def needed_to_pass(bad: int, n: int, limit: float, confidence: float) -> int | None:
    """Return how many more units would prove "below `limit`" at `confidence` if the rate stays; None if none would.

    The answer is the first of a grid of sizes that grows by 2 %, exact below 100 more.
    """
    rate = bad / n if n else 0.0
    if rate >= limit:
        return None
    wanted = -math.log(1 - confidence)
    more = 1
    while more < 10_000_000:  # noqa: PLR2004 - beyond any run
        if log_evidence_below(math.floor(bad + rate * more), n + more, limit) >= wanted:
            return more
        more += max(1, more // 50)
    return None


def wilson(share: float, n: float, confidence: float) -> tuple[float, float]:
    """Return Wilson's two-sided interval of a share seen in `n` (may be an effective size)."""
    if n <= 0:
        return 0.0, 1.0
    z = float(_special.ndtri(0.5 + confidence / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def newcombe(candidate: tuple[float, float], baseline: tuple[float, float], confidence: float) -> tuple[float, float]:
    """Return Newcombe's interval of the difference of two shares, each given as (share, n).

    Newcombe 1998, method 10: the squared distances of the Wilson limits, added.
    """
    (p, n), (q, m) = candidate, baseline
    low_p, high_p = wilson(p, n, confidence)
    low_q, high_q = wilson(q, m, confidence)
    low = p - q - math.hypot(p - low_p, high_q - q)
    high = p - q + math.hypot(high_p - p, q - low_q)
    return max(-1.0, low), min(1.0, high)


def at_most(bad: Array, n: Whole | int, share: float) -> Array:
    """Return P(Binomial(n, share) <= bad), elementwise over whole counts and sizes."""
    return cast("Array", _special.bdtr(bad, n, share))


def at_least(bad: Array, n: Whole | int, share: float) -> Array:
    """Return P(Binomial(n, share) >= bad), elementwise over whole counts and sizes."""
    return cast("Array", _special.bdtr(n - bad, n, 1 - share))


def student_quantile(level: float, freedom: int) -> float:
    """Return the `level` quantile of Student's t with `freedom` degrees of freedom."""
    return float(_special.stdtrit(freedom, level))


def log_betas(a: Array, b: Array) -> Array:
    """Return the logarithm of the Beta function, elementwise."""
    return cast("Array", _special.betaln(a, b))
