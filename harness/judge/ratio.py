"""A share of bad events against the baseline's, within the same intervals."""

import math

from harness.judge.bets import Counts, PastRate, Within
from harness.judge.difference import Noise, ShareDifference
from harness.judge.finding import WARMUP, Finding, Look, Terms, missing, of
from harness.judge.newest import SHOWN, NewestStage, StageProof
from harness.judge.pairing import Intervals
from harness.judge.restarts import RestartedExcess
from harness.judge.standardised import Standardised
from harness.model.evidence import Arm, Evidence, Kind
from harness.model.plan import RollbackOn
from harness.model.status import Status


class RatioTrial:
    """Holds the candidate's share of bad events to the baseline's plus a margin in percentage points.

    Used: pairs of intervals of judged stages that both arms saw; the baseline's warm-up and unpaired
    intervals feed only the predictable rate that the bets start from. Fails when the e-process against
    "at most the margin above the baseline" reaches 1/alpha of this trial: a release whose excess lies within
    the margin is never rolled back for it but with that chance. Passes when the e-process against "at least
    the margin above" reaches 1 / (1 - confidence), and the newest stage alone does not look worse than the margin and
    brings an e-value of 3 of its own.
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
        self._seen, self.stages = Standardised(), NewestStage(terms.plan)
        self._newest = StageProof(self._within)

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
            if self.stages.enter(candidate.stage):
                self._excess.begin()
                self.difference.begin()
                self._newest = StageProof(self._within)
            self._bet(counts, newest=candidate.stage == self.stages.name)
        if baseline:
            self._past_b.update(baseline.bad, baseline.n)

    def settle(self) -> None:
        """Nothing waits for the end of a batch."""

    def flush(self) -> None:
        """Judge what still waits for its judging interval to end: no more will come."""
        for baseline, candidate in self._pairs.flush():
            self._take(baseline, candidate)

    def _bet(self, counts: Counts, *, newest: bool) -> None:
        p_b = self._past_b.rate
        past_c = self._past_c.towards(p_b)
        phi = self.noise.phi(p_b, counts.n_c, counts.n_b)
        self._excess.update(counts, p_b=p_b, past_c=past_c, margin=self._margin, phi=phi)
        self._within.update(counts, p_b=p_b, past_c=past_c, margin=self._margin, phi=phi)
        if newest:
            self._newest.add(counts, p_b=p_b, past_c=past_c, margin=self._margin, phi=phi)
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
        beyond = self._excess.peak >= -math.log(self._terms.alpha)
        if beyond and self._terms.gating.mode is RollbackOn.EXCESS:
            strength = f"e-value {_power(self._excess.peak)}, rolls back at {_power(-math.log(self._terms.alpha))}"
            return Status.FAIL, f"{counts}: beyond the margin of {margin:g} points ({strength})", None
        proof, wanted = float(self._within.log_e), -math.log(1 - self._terms.confidence)
        newest = self._newest
        if proof >= wanted and newest.seen.difference > self._margin:
            now = f"{100 * newest.seen.difference:+.2f} points in stage {self.stages.name} alone"
            return Status.INCONCLUSIVE, f"{counts}: within the margin of {margin:g} points over all, but {now}", None
        if proof >= wanted and newest.shown:
            return Status.PASS, f"{counts}: shown within the margin of {margin:g} points", None
        units = newest.seen.n_c + newest.seen.n_b
        if proof >= wanted:
            needed = more_to_reach(newest.log_e, SHOWN, units)
            open_ = f"within the margin of {margin:g} points over all, not yet in stage {self.stages.name} alone"
        else:
            needed = more_to_reach(proof, wanted, units, newest.paired)
            open_ = f"neither within nor beyond the margin of {margin:g} points"
        if beyond:
            open_ = f"beyond the margin of {margin:g} points, for which {self._terms.gating.mode} does not roll back"
        tail = f"; about {needed} more requests would settle it" if needed else ""
        return Status.INCONCLUSIVE, f"{counts}: {open_}{tail}", needed


def more_to_reach(proof: float, wanted: float, n: int, gained: float | None = None) -> int | None:
    """Return how many more units lift log evidence from `proof` to `wanted`; None if none do.

    `n` units brought `gained`, all of `proof` unless told: a new share of traffic has a rate of its own.
    """
    gained = proof if gained is None else gained
    return math.ceil((wanted - proof) * n / gained) if gained > 0 and proof < wanted else None


def _power(log_value: float) -> str:
    return f"10^{log_value / math.log(10):.1f}"
