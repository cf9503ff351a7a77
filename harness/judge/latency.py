"""A latency quantile against the baseline's, within the same intervals."""

import math

from harness.judge.bets import Counts, PastRate, Within
from harness.judge.buckets import Buckets
from harness.judge.difference import LatencyDifference, Noise, nearest_bound
from harness.judge.finding import WARMUP, Finding, Look, Terms, missing, of
from harness.judge.newest import SHOWN, NewestStage, StageProof
from harness.judge.pairing import Intervals
from harness.judge.ratio import more_to_reach
from harness.judge.restarts import RestartedExcess
from harness.judge.standardised import Standardised
from harness.model.evidence import Arm, Evidence, Kind
from harness.model.plan import RollbackOn
from harness.model.status import Status

_SLACK = 1 + 1e-9  # two ways to write the same bound
_LITTLE = 0.25  # of the share that may lie above the quantile: with less to be granted, next to nothing can be shown


class LatencyTrial:
    """Holds the candidate's quantile to (1 + margin) times the baseline's.

    Fail. Before each interval the baseline's past (warm-up included) gives its quantile, the threshold T =
    the bucket bound nearest to (1 + margin) times it (or the one below, where latencies hardly vary), and the
    baseline's own share above T. Within the
    interval the null is "the candidate's share above T exceeds the baseline's by no more than a release
    exactly at the margin would": by the baseline's past share above T / (1 + margin), which is about
    1 - quantile, minus that above T, and never less than nothing. Two equal arms satisfy it whatever
    drifts, and however wrong the past is.

    Pass. Over all judged intervals that both arms served, the upper bound of the ratio of the quantiles lies
    within 1 + margin. Every interval has the same weight n_c n_b / (n_c + n_b) in both arms, so that latency
    which drifts on both is the same mixture in both. The bounds of the two quantiles, each at `confidence`, are
    put together as the limits of two independent estimates (Zou and Donner 2008): their distances add in squares.
    What a bucket hides is no chance: it is added as it is, so that buckets wider than the margin never pass.
    The newest stage alone must not speak against it: there the candidate is not above each interval's T both more
    often than its quantile allows and by more than the margin grants over the baseline, and that it is not brings an
    e-value of 3 of its own.
    """

    def __init__(self, terms: Terms) -> None:
        """Raise ValueError for a margin that is not a relative one in %, or no quantile."""
        objective = terms.objective
        if objective.unit != "%" or objective.quantile is None or terms.threshold < 0:
            msg = f"objective {objective.id}: a quantile against the baseline has a quantile and a margin in %; "
            msg += f"found {terms.threshold:g} {objective.unit!r}, quantile {objective.quantile}"
            raise ValueError(msg)
        self._terms = terms
        self._level = objective.quantile
        self._ratio = 1 + terms.threshold / 100
        tail = 1 - self._level
        self._enough = max(50.0, 2 / tail)
        self._pairs = Intervals(terms.plan.interval_s)
        self.noise = Noise(terms.dispersion, measuring=terms.measures_noise)
        restarts = len(terms.plan.stages) - 1
        self.difference = LatencyDifference(terms.gating, self.noise, self._level, restarts)
        self._past_b, self._past_c = Buckets(max(2000.0, 40 / tail)), PastRate()
        self._candidate, self._baseline = Buckets(), Buckets()
        self._excess = RestartedExcess(restarts)
        self._n = 0
        self._beyond, self.stages = Standardised(), NewestStage(terms.plan)
        self._within = Within()
        self._newest = StageProof(self._within)
        self._granted = 0.0
        self._last_threshold = 0.0

    @property
    def started(self) -> bool:
        """Whether any record came."""
        return bool(self._past_b.n or self._candidate.n)

    def observe(self, record: Evidence) -> None:
        """Take one interval of one arm; it counts once its partner is there."""
        if record.kind is not Kind.HISTOGRAM:
            msg = f"{record.signal}: a quantile reads a histogram, found {record.kind}"
            raise ValueError(msg)
        if not self._terms.judges(record):
            if record.arm is Arm.BASELINE and record.stage == WARMUP:
                self._past_b.add(record)
            return
        for baseline, candidate in self._pairs.add(record):
            self._take(baseline, candidate)

    def _take(self, baseline: Evidence | None, candidate: Evidence | None) -> None:
        if baseline and candidate:
            if candidate.bounds != baseline.bounds:
                msg = f"{candidate.signal}: the arms' bucket bounds differ"
                raise ValueError(msg)
            self._bet(candidate, baseline)
        if baseline:
            self._past_b.add(baseline)

    def flush(self) -> None:
        """Judge what still waits for its judging interval to end: no more will come."""
        for baseline, candidate in self._pairs.flush():
            self._take(baseline, candidate)

    def settle(self) -> None:
        """Nothing waits for the end of a batch."""

    def _bet(self, candidate: Evidence, baseline: Evidence) -> None:
        phi = float(self.noise.phi(1 - self._level, candidate.n, baseline.n))
        both = candidate.n + baseline.n
        self._n += both
        self._candidate.add(candidate, worth=baseline.n / max(both, 1) / phi, phi=phi)
        self._baseline.add(baseline, worth=candidate.n / max(both, 1) / phi, phi=phi)
        past = self._past_b.quantile(self._level) if self._past_b.n >= self._enough else None
        if past is None:
            return
        if self.stages.enter(candidate.stage):
            self._excess.begin()
            self.difference.begin()
            self._newest = StageProof(self._within)
        self.difference.update(candidate, baseline, self._past_b)
        there, p_b, margin = self._threshold(past)
        over_c, over_b = sum(candidate.counts[there + 1 :]), sum(baseline.counts[there + 1 :])
        counts = Counts(over_c, candidate.n, over_b, baseline.n)
        past_c = self._past_c.towards(p_b)
        self._excess.update(counts, p_b=p_b, past_c=past_c, margin=margin, phi=phi)
        self._within.update(counts, p_b=p_b, past_c=past_c, margin=margin, phi=phi)
        if candidate.stage == self.stages.name:
            self._newest.add(counts, p_b=p_b, past_c=past_c, margin=margin, phi=phi)
        self._past_c.update(over_c, candidate.n)
        self._beyond.add(counts)
        self._granted = margin
        self._last_threshold = self._past_b.bounds[there]

    def _threshold(self, past: float) -> tuple[int, float, float]:
        """Return the bound to judge at, by its index, the baseline's past share above it, and the margin granted there.

        It is the bound nearest to the margin, the last one where the margin lies beyond it. But where latencies hardly
        vary, and that bound lies above the margin, a release at the margin would not exceed it either: a share of next
        to nothing is granted, and nothing can be shown there. Then it is the one below.
        """
        bounds = self._past_b.bounds
        there = nearest_bound(bounds, past * self._ratio)
        p_b, margin = self._grant(there)
        if margin < _LITTLE * (1 - self._level) and past < bounds[there - 1] < past * self._ratio < bounds[there]:
            below = self._grant(there - 1)
            if below[1] > margin:
                return there - 1, *below
        return there, p_b, margin

    def _grant(self, mark: int) -> tuple[float, float]:
        """Return the baseline's past share above a bound, and by how much a release at the margin exceeds it there."""
        above = float(self._past_b.above()[mark]) + 0.5 * (1 - self._level)
        p_b = above / (self._past_b.n + 1)
        return p_b, max(0.0, self._past_b.share_above(self._past_b.bounds[mark] / self._ratio) - p_b)

    def find(self, look: Look) -> Finding:
        """Judge what was counted so far."""
        if not (self._candidate.n and self._baseline.n):
            return missing(look, "no interval in which both arms served", fatal=False)
        candidate, baseline = self._candidate.quantile(self._level), self._baseline.quantile(self._level)
        estimate = 100 * (candidate / baseline - 1) if candidate and baseline else None
        lowest, highest = self._ratio_bounds(candidate, baseline)
        status, reason = self._decide(candidate, baseline, highest)
        return Finding(
            status=status,
            reason=reason,
            estimate=estimate,
            interval=(100 * (lowest - 1), 100 * (highest - 1)) if highest is not None else None,
            n=self._n,
            needed=self._needed(candidate, baseline, highest) if status is Status.INCONCLUSIVE else None,
        )

    def _ratio_bounds(self, candidate: float | None, baseline: float | None) -> tuple[float, float | None]:
        """Return bounds of the ratio of the arms' quantiles; 0 and None where too little is known."""
        if candidate is None or baseline is None:
            return 0.0, None
        error = 1 - self._terms.confidence
        low_c, high_c = self._candidate.bracket(self._level, error)
        low_b, high_b = self._baseline.bracket(self._level, error)
        (under_c, over_c), (under_b, over_b) = self._candidate.around(candidate), self._baseline.around(baseline)
        lowest, highest = 0.0, None
        if low_c and high_b:
            apart = math.hypot(_beyond(under_c, low_c), _beyond(high_b, over_b))
            lowest = under_c / over_b * math.exp(-apart)
        if high_c and low_b:
            apart = math.hypot(_beyond(high_c, over_c), _beyond(under_b, low_b))
            highest = over_c / under_b * math.exp(apart)
        return lowest, highest

    def _decide(self, candidate: float | None, baseline: float | None, highest: float | None) -> tuple[Status, str]:
        name, margin = f"p{100 * self._level:g}", self._terms.threshold
        seen = f"candidate's {name} {_ms(candidate)} against the baseline's {_ms(baseline)}"
        if candidate and baseline:
            seen += f" ({100 * (candidate / baseline - 1):+.0f} %)"
        beyond = self._beyond
        if beyond.n_c:
            seen += (
                f"; above each interval's threshold (the newest {_ms(self._last_threshold)}): candidate "
                f"{of(beyond.bad_c, beyond.n_c)}, baseline {of(beyond.bad_b, beyond.n_b)} in the same intervals"
            )
        if self._terms.gating.mode is RollbackOn.EXCESS and self._excess.peak >= -math.log(self._terms.alpha):
            return Status.FAIL, f"{seen}: beyond the margin of {margin:g} %"
        if highest is not None and highest <= self._ratio * _SLACK:
            now = self._newest.seen
            if now.bad_c > (1 - self._level) * now.n_c and now.difference > self._granted:
                late = (
                    f"but in stage {self.stages.name} alone {of(now.bad_c, now.n_c)} against {of(now.bad_b, now.n_b)}"
                )
                return Status.INCONCLUSIVE, f"{seen}: within {margin:g} % over all, {late}"
            if not self._newest.shown:
                still = f"not yet in stage {self.stages.name} alone"
                return Status.INCONCLUSIVE, f"{seen}: within {margin:g} % over all, {still}"
            return Status.PASS, f"{seen}: shown at most {100 * (highest - 1):+.0f} %, within {margin:g} %"
        return Status.INCONCLUSIVE, f"{seen}: {self._open(candidate, baseline, highest)}, the margin is {margin:g} %"

    def _open(self, candidate: float | None, baseline: float | None, highest: float | None) -> str:
        """Return why nothing is shown yet, in words."""
        if self._excess.peak >= -math.log(self._terms.alpha):
            return f"beyond the margin, for which {self._terms.gating.mode} does not roll back"
        if candidate is None or baseline is None:
            return "a quantile lies beyond the last bucket"
        if self._coarse(candidate, baseline):
            return "the buckets are too coarse to show more"
        return f"at most {100 * (highest - 1):+.0f} % is shown" if highest else "too few requests for a bound"

    def _coarse(self, candidate: float, baseline: float) -> bool:
        """Tell whether the buckets that the quantiles lie in are wider apart than the margin."""
        return self._candidate.around(candidate)[1] > self._ratio * _SLACK * self._baseline.around(baseline)[0]

    def _needed(self, candidate: float | None, baseline: float | None, highest: float | None) -> int | None:
        """Return the requests to come if the ratio's bound shrinks with the root of their number; None if none would.

        Once the bound is within, they are those that the newest stage still wants.
        """
        if candidate is None or baseline is None or highest is None or self._coarse(candidate, baseline):
            return None
        if highest <= self._ratio * _SLACK:
            seen = self._newest.seen
            return more_to_reach(self._newest.log_e, SHOWN, seen.n_c + seen.n_b)
        centre = math.log(self._candidate.around(candidate)[1] / self._baseline.around(baseline)[0])
        room = math.log(self._ratio) - centre
        return max(1, math.ceil(self._n * (((math.log(highest) - centre) / room) ** 2 - 1))) if room > 0 else None


class FinestLatencyTrial:
    """Judges the finer twin "<signal>.fine" of a latency signal where it is collected, else the signal itself."""

    def __init__(self, terms: Terms) -> None:
        """Prepare both; only one is judged, whichever is finer and there."""
        self._signal = terms.objective.signal
        self._coarse, self._fine = LatencyTrial(terms), LatencyTrial(terms)

    @property
    def judged(self) -> LatencyTrial:
        """The finer of the two that came."""
        return self._fine if self._fine.started else self._coarse

    def observe(self, record: Evidence) -> None:
        """Hand the record to its trial."""
        (self._coarse if record.signal == self._signal else self._fine).observe(record)

    def settle(self) -> None:
        """Nothing waits for the end of a batch."""

    def flush(self) -> None:
        """Judge what still waits."""
        self.judged.flush()

    def find(self, look: Look) -> Finding:
        """Judge the finer of the two that came."""
        return self.judged.find(look)


def _beyond(far: float, near: float) -> float:
    """Return how far `far` lies beyond `near`, as a logarithm; 0 where it does not."""
    return max(0.0, math.log(far / near))


def _ms(seconds: float | None) -> str:
    return "beyond the buckets" if seconds is None else f"{1000 * seconds:.3g} ms"
