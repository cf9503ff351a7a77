"""Objectives on bounded scores: answer quality, similarity, toxicity."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.judge.finding import WARMUP, Finding, Look, Terms, missing
from harness.judge.newest import SHOWN, NewestStage
from harness.judge.pairing import Pairing
from harness.judge.ratio import more_to_reach
from harness.judge.restarts import EXCESS, Restarts
from harness.judge.scores import DIFFERENCES, GRID, Array, Capital, DifferenceBets, MeanBets, Scores
from harness.model.evidence import Arm, Evidence, Kind, Source
from harness.model.objective import Against
from harness.model.plan import RollbackOn
from harness.model.status import Status

_SLACK = 1e-9
_EXCUSE = -math.log(1 - 0.9)  # evidence that the baseline misses a number, too, as for shares
_TOP = 1e-6  # how far from 1 a scaled last bound may come to lie


class QualityTrial:
    """Holds the candidate's mean score to a number, or to the baseline's mean less a margin.

    Scores lie in [0, 1]. A record is a gauge, one score for its interval (the mean of several is one, too), or a
    histogram of scores, each known by the bucket that it lies in: bounds rise within (0, 1], the first bucket
    begins at 0. What lies above 1 is no score: of the candidate it counts as the worst one, for an answer that hides
    its score must not be better off than one that shows it; of the baseline it may have been any score, and an error
    only where most of them are unreadable. The threshold is in "%"
    of the whole scale against a number and in "points" of it against the baseline. With `>=` or `>` a high score is
    good, else a low one.

    Used: records of judged stages; against the baseline, pairs of the same interval (the baseline's warm-up and its
    unpaired records guide the stakes alone). Fails when the evidence that the candidate is beyond the threshold,
    gathered from the start and anew at any time since, reached 1/alpha of this trial at any time (a plan that never
    rolls back by comparison: against a number alone); passes while the evidence that it is within reaches 1 / (1 -
    confidence). A candidate that misses a number which the baseline's mean misses too, over all or by what it is shown
    to have come to, is an error: the machine or the stack; so is one that misses it by unreadable scores while no score
    of the baseline was seen. Nothing passes while the newest stage alone looks beyond the threshold. The interval holds
    at all looks at once.
    """

    def __init__(self, terms: Terms) -> None:
        """Raise ValueError for a unit or a threshold that means nothing here."""
        objective = terms.objective
        self._paired = objective.against is Against.BASELINE
        wanted = "points" if self._paired else "%"
        inside = 0 <= terms.threshold < 100 if self._paired else 0 < terms.threshold < 100  # noqa: PLR2004 - percent
        if objective.unit != wanted or not inside:
            msg = f"objective {objective.id}: a score is held to a number in % strictly between 0 and 100, or to the "
            msg += f"baseline with a margin in points; found {terms.threshold:g} {objective.unit!r}"
            raise ValueError(msg)
        self._terms = terms
        self._side = _Side(high_is_good=objective.comparator in {">", ">="}, paired=self._paired)
        self._edge = self._side.turned(terms.threshold / 100)
        points = np.unique(np.append(DIFFERENCES if self._paired else GRID, self._edge))
        error = 1 - terms.confidence
        # Of the whole, and of each stage after the first, about the edge alone; one of the two lists is used.
        self._differences = [DifferenceBets(alpha=error, points=points)] if self._paired else []
        self._means = [] if self._paired else [MeanBets(alpha=error, points=points)]
        self._baseline = MeanBets(alpha=error, points=np.array([self._edge]))  # against a number: does it miss it, too?
        self._capital: Capital = self._bets[0].capital
        self._at = self._capital.at(self._edge)
        self._restarts = Restarts(len(terms.plan.stages) - 1, EXCESS)
        self._peak = -math.inf
        self._pairs = Pairing()
        self._arms = {arm: _Sum() for arm in Arm}
        self._newest = {arm: _Sum() for arm in Arm}  # of the newest stage alone
        self.stages = NewestStage(terms.plan)
        self._alone: MeanBets | None = None  # the newest stage's scores against the baseline's past
        self._unread, self._why = dict.fromkeys(Arm, 0), dict.fromkeys(Arm, "")
        self._shape: tuple[Kind, tuple[float, ...]] | None = None

    def observe(self, record: Evidence) -> None:
        """Take one interval of one arm."""
        if not self._terms.judges(record):
            if self._paired and record.arm is Arm.BASELINE and record.stage == WARMUP and not _beyond(record):
                self._differences[0].learn(self._read(record))
            return
        if record.arm is None:
            msg = f"{record.signal}: a score needs the arm that it belongs to"
            raise ValueError(msg)
        scores = self._read(record)
        if self._paired:
            for baseline, candidate in self._pairs.add(record):
                self._pair(baseline, candidate)
            return
        self._count(record, scores)
        if record.arm is Arm.CANDIDATE:
            for bets in self._means:
                bets.update(scores)
            self._weigh()
        elif not _beyond(record):
            self._baseline.update(scores)

    @property
    def _bets(self) -> Sequence[MeanBets | DifferenceBets]:
        return self._differences or self._means

    def _begin(self) -> None:
        """Bet anew: a stage follows another."""
        baseline = self._arms[Arm.BASELINE]
        self._newest = {arm: _Sum() for arm in Arm}
        edge = baseline.mean + self._edge
        usable = self._paired and baseline.n and 0 < edge < 1
        self._alone = MeanBets(alpha=1 - self._terms.confidence, points=np.array([edge])) if usable else None
        if self._restarts.left(len(self._bets)):
            error, points = 1 - self._terms.confidence, np.array([self._edge])
            if self._paired:
                self._differences.append(DifferenceBets(alpha=error, points=points))
            else:
                self._means.append(MeanBets(alpha=error, points=points))

    def _weigh(self) -> None:
        first = float(self._capital.late[self._at])
        worth = self._restarts.average([first, *(float(bets.capital.below[0]) for bets in self._bets[1:])])
        self._peak = max(self._peak, worth)

    def _count(self, record: Evidence, scores: Scores) -> None:
        if _beyond(record) and record.arm is not None:
            self._unread[record.arm] += _beyond(record)
            self._why[record.arm] = self._why[record.arm] or (f" ({record.note})" if record.note else "")
        if self.stages.enter(record.stage):
            self._begin()
        if record.arm is not None:
            shown = scores if record.arm is Arm.CANDIDATE or not _beyond(record) else self._read(_shown(record))
            self._arms[record.arm].add(shown)
            if record.stage == self.stages.name:
                self._newest[record.arm].add(shown)

    def _pair(self, baseline: Evidence | None, candidate: Evidence | None) -> None:
        if baseline and candidate:
            scores_c, scores_b = self._read(candidate), self._read(baseline)
            if float(scores_c.n) and float(scores_b.n):
                self._count(candidate, scores_c)
                self._count(baseline, scores_b)
                for bets in self._differences:
                    bets.update(scores_c, scores_b)
                if self._alone is not None and candidate.stage == self.stages.name:
                    self._alone.update(scores_c)
                self._weigh()
        elif baseline:
            self._differences[0].learn(self._read(baseline))

    def _read(self, record: Evidence) -> Scores:
        """Return a record's scores, turned so that high is good; ValueError where they are none."""
        if record.kind is Kind.GAUGE and record.value is not None:
            low, high, counts = np.array([record.value]), np.array([record.value]), np.ones(1)
        elif record.kind is Kind.HISTOGRAM and record.bounds:
            low, high = np.array([0.0, *record.bounds[:-1]]), np.array(record.bounds)
            counts = np.array(record.counts[:-1], dtype=float)
        else:
            msg = f"{record.signal}: a score is a gauge or a histogram, found {record.kind}"
            raise ValueError(msg)
        if low.min() < 0 or high.max() > 1 + _SLACK:
            msg = f"{record.signal}: a score outside 0 to 1"
            raise ValueError(msg)
        if record.kind is Kind.HISTOGRAM and abs(record.bounds[-1] - 1) > _TOP:
            msg = f"{record.signal}: the last bound is {record.bounds[-1]:g}, expected 1, the top of the scale: "
            msg += "correct the signal's `scale`"
            raise ValueError(msg)
        if self._shape not in {None, (record.kind, record.bounds)}:
            msg = f"{record.signal}: the kind or the bucket bounds changed during the run"
            raise ValueError(msg)
        self._shape = record.kind, record.bounds
        worst = 0.0 if self._side.high_is_good else 1.0
        ends = (worst, worst) if record.arm is Arm.CANDIDATE else (0.0, 1.0)
        low, high = np.append(low, ends[0]), np.append(np.minimum(high, 1.0), ends[1])
        return self._side.scores(low, high, np.append(counts, float(_beyond(record))))

    def settle(self) -> None:
        """Nothing waits for the end of a batch."""

    def find(self, look: Look) -> Finding:
        """Judge what was seen so far."""
        candidate, baseline = self._arms[Arm.CANDIDATE], self._arms[Arm.BASELINE]
        if not candidate.n:
            what = "no interval in which both arms were scored" if self._paired else "no score of the candidate"
            told = "in a judged stage"
            if self._terms.source is Source.CLIENT:
                told += "; are there requests of the load whose path begins with the score's `requests`?"
            return missing(look, f"{what} {told}", fatal=False)
        status, reason = self._decide(candidate, baseline)
        needed = None
        if status is Status.INCONCLUSIVE:
            proof, wanted = float(self._capital.above[self._at]), -math.log(1 - self._terms.confidence)
            needed = more_to_reach(proof, wanted, math.ceil(candidate.n))
            reason += f"; about {needed} more scores of the candidate would settle it" if needed else ""
        low, high = self._side.ends(*self._capital.interval(1 - self._terms.confidence))
        value = float(self._differences[0].difference) if self._paired else candidate.mean
        return Finding(
            status=status,
            reason=reason,
            estimate=100 * self._side.back(value),
            interval=(100 * low, 100 * high),
            n=round(candidate.n + (baseline.n if self._paired else 0)),
            needed=needed,
        )

    def _decide(self, candidate: "_Sum", baseline: "_Sum") -> tuple[Status, str]:
        side, threshold = self._side, self._terms.threshold
        seen = f"candidate's mean score {_mean(side, candidate)}"
        limit = f"limit {threshold:g} %"
        if self._unread[Arm.CANDIDATE]:
            why = self._why[Arm.CANDIDATE]
            seen += f", {self._unread[Arm.CANDIDATE]} of them unreadable and taken as the worst{why}"
        if self._unread[Arm.BASELINE] > baseline.n:
            most = f"{self._unread[Arm.BASELINE]} answers of the baseline cannot be read{self._why[Arm.BASELINE]}"
            return Status.ERROR, f"{seen}; {most}, more than can: the measurement, not the release"
        if self._paired:
            gap = 100 * side.back(float(self._differences[0].difference))
            seen += f" against the baseline's {_mean(side, baseline)} in the same intervals, {gap:+.2f} points"
            limit = f"margin {threshold:g} points"
        compares = not self._paired or self._terms.gating.mode is not RollbackOn.ABSOLUTE
        if compares and self._peak >= -math.log(self._terms.alpha):
            if not self._paired and baseline.n and self._excused(baseline):
                both = f"the baseline misses it too, {_mean(side, baseline)}"
                return Status.ERROR, f"{seen}, {limit}; {both}: the machine or the stack, not the release"
            if self._unread[Arm.CANDIDATE] and not baseline.n:
                return Status.ERROR, f"{seen}, {limit}; no score of the baseline shows that there should be one"
            return Status.FAIL, f"{seen}: beyond the {limit}, beyond chance"
        if float(self._capital.above[self._at]) >= -math.log(1 - self._terms.confidence):
            late = self._late()
            if late:
                alone = f"{late} in stage {self.stages.name} alone"
                return Status.INCONCLUSIVE, f"{seen}: within the {limit} over all, but {alone}"
            if not self._shown():
                return Status.INCONCLUSIVE, f"{seen}: within the {limit} over all, not yet in stage {self.stages.name}"
            return Status.PASS, f"{seen}: shown within the {limit}"
        return Status.INCONCLUSIVE, f"{seen}: neither shown within nor beyond the {limit}"

    def _excused(self, baseline: "_Sum") -> bool:
        """Tell whether the baseline misses the number, too: over all, or now."""
        return baseline.mean < self._edge or float(self._baseline.capital.late[0]) >= _EXCUSE

    def _shown(self) -> bool:
        """Tell whether the newest stage alone brings enough to pass; the first one has brought all that there is."""
        if len(self._bets) == 1:
            return True
        own = [float(self._bets[-1].capital.above[0])]
        own += [float(self._alone.capital.above[0])] if self._alone is not None else []
        return max(own) >= SHOWN

    def _late(self) -> str:
        """Return how the newest stage alone looks beyond the threshold; "" where it does not."""
        candidate, baseline = self._newest[Arm.CANDIDATE], self._newest[Arm.BASELINE]
        if not candidate.n or (self._paired and not baseline.n):
            return ""
        value = candidate.mean - baseline.mean if self._paired else candidate.mean
        if value >= self._edge:
            return ""
        return f"{100 * self._side.back(value):+.2f} points" if self._paired else _mean(self._side, candidate)


@dataclass(slots=True)
class _Sum:
    """Scores of one arm: how many, and their sum."""

    n: float = 0.0
    total: float = 0.0

    def add(self, scores: Scores) -> None:
        self.n += float(scores.n)
        self.total += float(scores.total)

    @property
    def mean(self) -> float:
        return self.total / self.n if self.n else 0.0


@dataclass(frozen=True, slots=True)
class _Side:
    """Which end of the scale is good. Inside, high always is: other scores are turned round."""

    high_is_good: bool
    paired: bool

    def scores(self, low: Array, high: Array, counts: Array) -> Scores:
        """Return scores that are better the higher they are."""
        return Scores(low, high, counts) if self.high_is_good else Scores(1 - high, 1 - low, counts)

    def turned(self, threshold: float) -> float:
        """Return the threshold inside: the least mean, or the least difference."""
        if self.paired:
            return -threshold
        return threshold if self.high_is_good else 1 - threshold

    def back(self, value: float) -> float:
        """Return a mean or a difference as it is outside."""
        if self.high_is_good:
            return value
        return -value if self.paired else 1 - value

    def ends(self, low: Array, high: Array) -> tuple[float, float]:
        """Return an interval as it is outside."""
        first, last = sorted((self.back(float(low)), self.back(float(high))))
        return first, last


def _beyond(record: Evidence) -> int:
    """Return how many of a histogram's scores lie above its last bound."""
    return record.counts[-1] if record.kind is Kind.HISTOGRAM and record.counts else 0


def _shown(record: Evidence) -> Evidence:
    """Return a histogram without what lies above its last bound."""
    return replace(record, n=record.n - _beyond(record), counts=(*record.counts[:-1], 0))


def _mean(side: _Side, scores: _Sum) -> str:
    value = scores.mean if side.high_is_good else 1 - scores.mean
    return f"{100 * value:.1f} % ({scores.n:.0f} scores)"
