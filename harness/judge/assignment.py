"""The router on trial: does the candidate get the share that was asked for?"""

import math

import numpy as np

from harness.judge.bets import Array, Numbers, log_mean_exp
from harness.judge.binomial import log_betas
from harness.judge.finding import Finding, Look, Terms, missing, percent
from harness.model.evidence import Evidence, Kind
from harness.model.status import Status

ALARM = math.log(1000)
# A broad and a narrow guess around the configured share, in pseudo units, and their weights: a doubled share is
# found about as soon by any of them, one of 12 % instead of 10 % soonest by the narrow one.
_PRIORS, _WEIGHTS = (20.0, 500.0), (0.2, 0.8)
_ENOUGH = 13.0  # expected log e-value of a doubled share: an alarm at ALARM then has a power of about 80 %


class AssignmentTrial:
    """Sequential sample-ratio test on units of assignment first seen in judged stages.

    For each configured share a Beta mixture around it is held against the share itself; the e-values of
    different shares multiply. At 1000 the router is at fault: an error, never the release's failure.
    Passes once so many units were seen that a doubled share (above one half: a halved remainder) would
    have been found.
    """

    def __init__(self, terms: Terms) -> None:
        """Start with nothing seen."""
        self._terms = terms
        self._seen: dict[float, tuple[int, int]] = {}
        self._peak = 0.0

    def observe(self, record: Evidence) -> None:
        """Count the units first seen in one interval."""
        if record.kind is not Kind.ASSIGNMENT:
            msg = f"{record.signal}: expected assignments, found {record.kind}"
            raise ValueError(msg)
        if not self._terms.judges(record):
            return
        n, candidate = self._seen.get(record.share, (0, 0))
        self._seen[record.share] = (n + record.n, candidate + record.bad)
        self._peak = max(self._peak, sum(float(misrouting(*counts, share)) for share, counts in self._seen.items()))

    def settle(self) -> None:
        """Nothing waits for the end of a batch."""

    def find(self, look: Look) -> Finding:
        """Judge the router so far."""
        total = sum(n for n, _ in self._seen.values())
        if not total:
            return missing(look, "no unit of assignment was seen in a judged stage", fatal=True)
        candidate = sum(k for _, k in self._seen.values())
        asked = sum(n * share for share, (n, _) in self._seen.items())
        shares = ", ".join(f"{k} of {n} at {percent(share)}" for share, (n, k) in sorted(self._seen.items()) if n)
        seen = f"on the candidate: {shares} asked"
        power = sum(n * _doubled(share) for share, (n, _) in self._seen.items())
        needed = None
        if self._peak >= ALARM:
            status, reason = Status.ERROR, f"the router misroutes: {seen}"
        elif power >= _ENOUGH:
            status, reason = Status.PASS, f"{seen}; a doubled share would have been found"
        else:
            needed = math.ceil(total * (_ENOUGH - power) / power) if power > 0 else None
            status, reason = Status.INCONCLUSIVE, f"{seen}; too few to find even a doubled share"
        return Finding(status=status, reason=reason, estimate=100 * (candidate - asked) / total, n=total, needed=needed)


def _clip(share: float) -> float:
    """Keep an all-or-nothing share testable: one stray unit in a thousand is no alarm by itself."""
    return min(max(share, 0.001), 0.999)


def misrouting(n: Numbers, candidate: Numbers, share: float) -> Array:
    """Return the log e-value against "each of `n` units went to the candidate with chance `share`", elementwise.

    `candidate` of them did. At `ALARM` the router is at fault.
    """
    p = _clip(share)
    n, candidate = np.asarray(n, dtype=float), np.asarray(candidate, dtype=float)
    null = candidate * math.log(p) + (n - candidate) * math.log1p(-p)
    logs = [
        log_betas(prior * p + candidate, prior * (1 - p) + n - candidate)
        - log_betas(np.asarray(prior * p), np.asarray(prior * (1 - p)))
        - null
        for prior in _PRIORS
    ]
    return log_mean_exp(np.stack(logs, axis=-1), _WEIGHTS)


def _doubled(share: float) -> float:
    """Return the log evidence that one unit carries, on average, if the share were doubled."""
    p = _clip(share)
    q = min(2 * p, (1 + p) / 2)
    return q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))
