"""Ratio and quantile objectives against a number, by exact binomial bounds."""

import math

from harness.judge.binomial import log_evidence_above, log_evidence_below, lower_bound, needed_to_pass, upper_bound
from harness.judge.buckets import Buckets
from harness.judge.finding import Finding, Look, Terms, missing, of, percent
from harness.judge.newest import SHOWN, NewestStage
from harness.judge.restarts import EXCESS, Restarts
from harness.model.evidence import Arm, Evidence, Kind
from harness.model.objective import Measure
from harness.model.plan import StagePlan
from harness.model.status import Status

_NONE = -700.0  # a log e-value that is next to nothing
_STAGE_CONFIDENCE = 1 - math.exp(-SHOWN)
_EXCUSE = 0.9  # the confidence at which a baseline that misses a number, too, takes the blame from the release


class _Tally:
    """Units and violations of one arm: over all judged stages, over the newest one, and since each began."""

    def __init__(self, plan: StagePlan) -> None:
        self.bad = self.n = self.stage_bad = self.stage_n = 0
        self.stages = NewestStage(plan)
        self.peak = -math.inf
        self._restarts = Restarts(len(plan.stages) - 1, EXCESS)
        self._since = [(0, 0)]  # what had been counted when the first stage began, and each later one

    def add(self, stage: str, bad: int, n: int) -> None:
        if self.stages.enter(stage):
            self.stage_bad = self.stage_n = 0
            if self._restarts.left(len(self._since)):
                self._since.append((self.bad, self.n))
        self.bad += bad
        self.n += n
        if stage == self.stages.name:
            self.stage_bad += bad
            self.stage_n += n

    def weigh(self, limit: float) -> None:
        """Look at the evidence that the share lies above `limit`: from the start, and anew with each stage."""
        logs = [log_evidence_above(self.bad - bad, self.n - n, limit) for bad, n in self._since]
        self.peak = max(self.peak, self._restarts.average([max(value, _NONE) for value in logs]))

    def violates(self, limit: float, confidence: float) -> bool:
        """Tell whether the share is shown to be above `limit`, over all or in the newest stage."""
        stage, whole = (self.stage_bad, self.stage_n), (self.bad, self.n)
        return any(lower_bound(bad, n, confidence) > limit for bad, n in (stage, whole))


class NumberTrial:
    """Holds the candidate's share of violations against a fixed limit.

    A quantile is a share too: "p95 <= T" is "at most 5 % take longer than T", counted at the bucket bound T.
    Used: both arms' records of judged stages (not warm-up, smoke, transitions). Fails when the anytime-valid
    evidence that the candidate's share lies above the limit, gathered from the start and anew in each stage, reached
    1/alpha of this trial; passes when that of its lying below reaches 1 / (1 - confidence), and the newest stage
    alone does not lie above it and brings an e-value of 3 of its own. The bounds shown are the exact ones at this
    look. When the baseline is shown to miss the limit, too, over the same stages or over the newest of them, a
    failure says nothing about the release and becomes an error.
    """

    def __init__(self, terms: Terms) -> None:
        """Raise ValueError for a unit or a comparator that the measure has no meaning for."""
        self._terms = terms
        self._limit, self._bound_s = _limit(terms)
        self._arms = {arm: _Tally(terms.plan) for arm in Arm}
        self._latencies = Buckets()

    @property
    def stages(self) -> NewestStage:
        """Which stages the candidate was seen in."""
        return self._arms[Arm.CANDIDATE].stages

    def observe(self, record: Evidence) -> None:
        """Count one interval of one arm."""
        if record.arm is None or not self._terms.judges(record):
            return
        if self._bound_s is None:
            if record.kind is not Kind.EVENTS:
                msg = f"{record.signal}: a ratio reads events, found {record.kind}"
                raise ValueError(msg)
            bad = record.bad
        else:
            bad = record.slower_than(self._bound_s)
            if record.arm is Arm.CANDIDATE:
                self._latencies.add(record)
        tally = self._arms[record.arm]
        tally.add(record.stage, bad, record.n)
        tally.weigh(self._limit)

    def settle(self) -> None:
        """Nothing waits for the end of a batch."""

    def find(self, look: Look) -> Finding:
        """Judge what was counted so far."""
        candidate, baseline = self._arms[Arm.CANDIDATE], self._arms[Arm.BASELINE]
        if not candidate.n:
            return missing(look, "no request of the candidate was counted in a judged stage", fatal=False)
        confidence = self._terms.confidence
        status, reason = self._decide(candidate, baseline)
        needed = None
        if status is Status.INCONCLUSIVE:
            counted, wanted = (candidate.bad, candidate.n), confidence
            if self._proven(candidate):
                counted, wanted = (candidate.stage_bad, candidate.stage_n), _STAGE_CONFIDENCE
            needed = needed_to_pass(*counted, self._limit, wanted)
            reason += f"; about {needed} more requests of the candidate would settle it" if needed else ""
        estimate, interval = self._estimate(candidate)
        return Finding(status=status, reason=reason, estimate=estimate, interval=interval, n=candidate.n, needed=needed)

    def _estimate(self, candidate: _Tally) -> tuple[float | None, tuple[float, float] | None]:
        """Return the share in %, or the quantile in its unit, with the one-sided bounds on either side."""
        confidence = self._terms.confidence
        if self._bound_s is None:
            low = lower_bound(candidate.bad, candidate.n, confidence)
            high = upper_bound(candidate.bad, candidate.n, confidence)
            return 100 * candidate.bad / candidate.n, (100 * low, 100 * high)
        scale = self._terms.threshold / self._bound_s
        level = 1 - self._limit
        estimate = self._latencies.quantile(level)
        first, last = self._latencies.bracket(level, 1 - confidence)
        interval = (scale * first, scale * last) if first is not None and last is not None else None
        return None if estimate is None else scale * estimate, interval

    def _decide(self, candidate: _Tally, baseline: _Tally) -> tuple[Status, str]:
        what = "violations" if self._bound_s is None else f"answers slower than {1000 * self._bound_s:g} ms"
        seen = f"candidate {of(candidate.bad, candidate.n)} {what}, limit {percent(self._limit)}"
        alarm = -math.log(self._terms.alpha)
        both = f"{seen}; the baseline misses it too: {of(baseline.bad, baseline.n)}"
        if candidate.peak >= alarm:
            if baseline.violates(self._limit, _EXCUSE):
                return Status.ERROR, f"{both}: the machine or the stack, not the release"
            return Status.FAIL, f"{seen}: above it beyond chance; baseline {of(baseline.bad, baseline.n)}"
        over = candidate.bad > self._limit * candidate.n or candidate.stage_bad > self._limit * candidate.stage_n
        if baseline.peak >= alarm and over:
            return Status.ERROR, f"{both}: the machine or the stack, not the release"
        high = upper_bound(candidate.bad, candidate.n, self._terms.confidence)
        bound = f"at most {percent(high)} at {100 * self._terms.confidence:g} % confidence"
        if self._proven(candidate):
            now, n = candidate.stage_bad, candidate.stage_n
            if now > self._limit * n:
                return Status.INCONCLUSIVE, f"{seen}: {bound}, but the newest stage alone is above it: {of(now, n)}"
            if log_evidence_below(now, n, self._limit) < SHOWN:
                return Status.INCONCLUSIVE, f"{seen}: {bound}, not yet in the newest stage alone: {of(now, n)}"
            return Status.PASS, f"{seen}: {bound}"
        return Status.INCONCLUSIVE, f"{seen}: {bound}, not yet proven to be within the limit"

    def _proven(self, candidate: _Tally) -> bool:
        """Tell whether the share is shown to be within the limit, whenever this is asked."""
        wanted = -math.log(1 - self._terms.confidence)
        return log_evidence_below(candidate.bad, candidate.n, self._limit) >= wanted


def _limit(terms: Terms) -> tuple[float, float | None]:
    """Return the limit on the share of violations, and the latency bound in seconds (None for a ratio)."""
    objective = terms.objective
    upward = objective.comparator in {">", ">="}
    if objective.measure is Measure.RATIO and objective.unit == "%":
        limit = terms.threshold / 100
        limit = 1 - limit if upward else limit
        if 0 < limit < 1:
            return limit, None
    scale = {"ms": 0.001, "s": 1.0}.get(objective.unit)
    if objective.measure is Measure.QUANTILE and scale and objective.quantile and not upward:
        return 1 - objective.quantile, terms.threshold * scale
    msg = (
        f"objective {objective.id}: a ratio against a number is in % strictly between 0 and 100, "
        f"a quantile in ms or s with <= and its quantile; found {objective.measure} "
        f"{objective.comparator} {terms.threshold:g} {objective.unit!r}"
    )
    raise ValueError(msg)
