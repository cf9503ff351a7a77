"""All comparisons with the baseline as one question: one alarm for metrics, looks and stages together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.judge.contest import combine
from harness.judge.finding import Finding, Terms, Trial, percent
from harness.judge.latency import FinestLatencyTrial, LatencyTrial
from harness.judge.ratio import RatioTrial
from harness.model.evidence import Source
from harness.model.objective import Severity
from harness.model.status import Status

_CARRIES = 0.1  # of the averaged evidence: who brought that much of it is named
_ALONE = math.log(20)  # or who would convince by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """One objective judged from one source."""

    terms: Terms
    trial: Trial
    signals: tuple[str, ...]

    @property
    def source(self) -> Source:
        """Where its evidence comes from."""
        return self.terms.source


class Pool:
    """The comparisons with the baseline as one question: is the release worse at all?

    The average of their e-values, weighted by their parts of alpha, is an e-value however they depend on each
    other; once it has reached one over those parts' sum, the release has failed. Named are the objectives that
    carried it there: whoever holds a tenth of the average, or an e-value of 20 of its own.
    """

    def __init__(self, seats: Sequence[Seat]) -> None:
        """Take the guardrails among the seats that compare."""
        guardrails = [seat for seat in seats if seat.terms.objective.severity is Severity.CRITICAL]
        self._seats = [seat for seat in guardrails if _difference(seat.trial) is not None]
        parts = np.array([seat.terms.alpha for seat in self._seats])
        self._alarm = -math.log(parts.sum()) if len(parts) else math.inf
        self._weights = parts / parts.sum() if len(parts) else parts
        self._named: tuple[Seat, ...] = ()

    def settle(self) -> None:
        """Weigh what the newest batch brought."""
        if self._named or not self._seats:
            return
        values = np.array([_difference(seat.trial) for seat in self._seats], dtype=float)
        total = float(combine(values, self._weights))
        if total >= self._alarm:
            carried = self._weights * np.exp(values - total) >= _CARRIES
            guilty = carried | (values >= _ALONE)
            self._named = tuple(seat for seat, named in zip(self._seats, guilty, strict=True) if named)

    def named(self, seat: Seat, finding: Finding) -> Finding:
        """Return the finding, failed where its seat is one of those that carried the alarm."""
        if seat not in self._named:
            return finding
        reason = f"{finding.reason}; worse than the baseline beyond chance: over all comparisons, looks and stages "
        reason += (
            f"together this happens to an equal release with a chance of at most {percent(math.exp(-self._alarm))}"
        )
        return replace(finding, status=Status.FAIL, reason=reason, needed=None)


def _difference(trial: Trial) -> float | None:
    """Return a comparison's log e-value against equality; None where it asks no such question."""
    if isinstance(trial, FinestLatencyTrial):
        trial = trial.judged
    return trial.difference.log_e if isinstance(trial, RatioTrial | LatencyTrial) else None
