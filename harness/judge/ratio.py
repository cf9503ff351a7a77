"""A share of bad events against the baseline's, within the same intervals."""

import math

from harness.judge.bets import Counts, PastRate, Within
from harness.judge.binomial import newcombe
from harness.judge.difference import Noise, ShareDifference
from harness.judge.finding import WARMUP, Finding, Look, Terms, missing, of
from harness.judge.pairing import Intervals
from harness.judge.restarts import RestartedExcess
from harness.model.evidence import Arm, Evidence, Kind
from harness.model.plan import RollbackOn
from harness.model.status import Status


class Standardised:
    """Both arms' shares with every interval weighted by n_c n_b / (n_c + n_b), so that common drift cancels.

    Also the plain sums, for reading: `bad_c` of `n_c` on the candidate, `bad_b` of `n_b` on the baseline.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.bad_c = self.n_c = self.bad_b = self.n_b = 0
        self._weight = self._c = self._b = self._var_c = self._var_b = 0.0

    def add(self, counts: Counts) -> None:
        """Take one interval in that both arms saw."""
        bad_c, n_c, bad_b, n_b = int(counts.bad_c), int(counts.n_c), int(counts.bad_b), int(counts.n_b)
        self.bad_c += bad_c
        self.n_c += n_c
        self.bad_b += bad_b
        self.n_b += n_b
        if not (n_c and n_b):
            return
        weight = n_c * n_b / (n_c + n_b)
        self._weight += weight
        self._c += weight * bad_c / n_c
        self._b += weight * bad_b / n_b
        self._var_c += weight * weight / n_c
        self._var_b += weight * weight / n_b

    @property
    def difference(self) -> float:
        """Candidate minus baseline, as a share; 0.0 before any common interval."""
        return (self._c - self._b) / self._weight if self._weight else 0.0

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return Newcombe's interval of the difference, at the effective sizes of the weighted shares."""
        if not self._weight:
            return -1.0, 1.0
        size_c, size_b = self._weight**2 / self._var_c, self._weight**2 / self._var_b
        return newcombe((self._c / self._weight, size_c), (self._b / self._weight, size_b), confidence)


class NewestStage:
    """Both arms' shares in the newest judged stage alone: what was proven before says nothing of a later change."""

    def __init__(self) -> None:
        """Start without a stage."""
        self.name: str = ""
        self.seen = Standardised()

    def enter(self, stage: str) -> bool:
        """Begin anew where `stage` is another one; return whether it follows one."""
        before, self.name = self.name, stage
        if stage != before:
            self.seen = Standardised()
        return before not in {"", stage}


class RatioTrial:
    """Holds the candidate's share of bad events to the baseline's plus a margin in percentage points.

    Used: pairs of intervals of judged stages that both arms saw; the baseline's warm-up and unpaired
    intervals feed only the predictable rate that the bets start from. Fails when the e-process against
    "at most the margin above the baseline" reaches 1/alpha of this trial: a release whose excess lies within
    the margin is never rolled back for it but with that chance. Passes when the e-process against "at least
    the margin above" reaches 1 / (1 - confidence), and the newest stage alone does not look worse than the margin.
    """

    def __init__(self, terms: Terms) -> None:
        """Raise ValueError for a margin that is not in percentage points."""
        objective = terms.objective
        if objective.unit != "points" or not 0 <= terms.threshold < 100:  # noqa: PLR2004 - percent
            msg = f"objective {objective.id}: a ratio against the baseline has a margin in points, 0 to 100; "
            msg += f"found {terms.threshold:g} {objective.unit!r}"
            raise ValueError(msg)
        self._terms = terms
        self._margin = terms.threshold / 100
        self._pairs = Intervals(terms.plan.interval_s)
        self.noise = Noise(terms.dispersion, measuring=terms.measures_noise)
        restarts = len(terms.plan.stages) - 1
        self.difference = ShareDifference(terms.gating, self.noise, restarts)
        self._past_b, self._past_c = PastRate(), PastRate()
        self._excess, self._within = RestartedExcess(restarts), Within()
        self._seen, self._newest = Standardised(), NewestStage()

    def observe(self, record: Evidence) -> None:
        """Take one interval of one arm; it counts once its partner is there."""
        if record.kind is not Kind.EVENTS:
            msg = f"{record.signal}: a ratio reads events, found {record.kind}"
            raise ValueError(msg)
        if not self._terms.judges(record):
            if record.arm is Arm.BASELINE and record.stage == WARMUP:
                self._past_b.update(record.bad, record.n)
            return
        for baseline, candidate in self._pairs.add(record):
            self._take(baseline, candidate)

    def _take(self, baseline: Evidence | None, candidate: Evidence | None) -> None:
        if baseline and candidate:
            counts = Counts(candidate.bad, candidate.n, baseline.bad, baseline.n)
            if self._newest.enter(candidate.stage):
                self._excess.begin()
                self.difference.begin()
            self._newest.seen.add(counts)
            self._bet(counts)
        if baseline:
            self._past_b.update(baseline.bad, baseline.n)

    def settle(self) -> None:
        """Nothing waits for the end of a batch."""

    def flush(self) -> None:
        """Judge what still waits for its judging interval to end: no more will come."""
        for baseline, candidate in self._pairs.flush():
            self._take(baseline, candidate)

    def _bet(self, counts: Counts) -> None:
        p_b = self._past_b.rate
        past_c = self._past_c.towards(p_b)
        phi = self.noise.phi(p_b, counts.n_c, counts.n_b)
        self._excess.update(counts, p_b=p_b, past_c=past_c, margin=self._margin, phi=phi)
        self._within.update(counts, p_b=p_b, past_c=past_c, margin=self._margin, phi=phi)
        self.difference.update(counts, p_b)
        self._past_c.update(counts.bad_c, counts.n_c)
        self._seen.add(counts)

    def find(self, look: Look) -> Finding:
        """Judge what was counted so far."""
        seen = self._seen
        if not (seen.n_c and seen.n_b):
            return missing(look, "no interval in which both arms served", fatal=False)
        status, reason, needed = self._decide()
        low, high = seen.interval(self._terms.confidence)
        return Finding(
            status=status,
            reason=reason,
            estimate=100 * seen.difference,
            interval=(100 * low, 100 * high),
            n=seen.n_c + seen.n_b,
            needed=needed,
        )

    def _decide(self) -> tuple[Status, str, int | None]:
        seen, margin = self._seen, 100 * self._margin
        counts = (
            f"candidate {of(seen.bad_c, seen.n_c)} against baseline {of(seen.bad_b, seen.n_b)} "
            f"in the same intervals, {100 * seen.difference:+.2f} points"
        )
        alarm = -math.log(self._terms.alpha)
        if self._terms.gating.mode is RollbackOn.EXCESS and self._excess.peak >= alarm:
            strength = f"e-value {_power(float(self._excess.peak))}, rolls back at {_power(alarm)}"
            return Status.FAIL, f"{counts}: beyond the margin of {margin:g} points ({strength})", None
        proof, wanted = float(self._within.log_e), -math.log(1 - self._terms.confidence)
        if proof >= wanted and self._newest.seen.difference > self._margin:
            now = f"{100 * self._newest.seen.difference:+.2f} points in stage {self._newest.name} alone"
            return Status.INCONCLUSIVE, f"{counts}: within the margin of {margin:g} points over all, but {now}", None
        if proof >= wanted:
            return Status.PASS, f"{counts}: shown within the margin of {margin:g} points", None
        needed = more_to_reach(proof, wanted, seen.n_c + seen.n_b)
        tail = f"; about {needed} more requests would settle it" if needed else ""
        return Status.INCONCLUSIVE, f"{counts}: neither within nor beyond the margin of {margin:g} points{tail}", needed


def more_to_reach(proof: float, wanted: float, n: int) -> int | None:
    """Return how many more units lift log evidence from `proof` to `wanted` at its rate so far; None if none do."""
    return math.ceil((wanted - proof) * n / proof) if 0 < proof < wanted else None


def _power(log_value: float) -> str:
    return f"10^{log_value / math.log(10):.1f}"
