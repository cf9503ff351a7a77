"""The newest stage, which nothing that was proven before it may outvote."""

import math

import numpy as np

from harness.judge.bets import Array, Counts, Numbers, Within, log_mean_exp
from harness.judge.standardised import Standardised
from harness.model.plan import StagePlan

SHOWN = math.log(3)  # the evidence that the newest stage itself must bring to a pass: a third of releases at their
# margin would bring it by chance, once everything before spoke for them; more where the baseline got better just then
_UNPLANNED = 1e-6  # how far after the newest one a stage lies that no plan names
_PAST = 200.0  # units of the baseline's past that its newest stage is read with: a holdout sees few of its own


class NewestStage:
    """Which judged stage is the newest one, in the order of the plan: late records of older ones change nothing."""

    def __init__(self, plan: StagePlan) -> None:
        """Start before the first stage."""
        self._order = {stage.id: float(index) for index, stage in enumerate(plan.stages)}
        self._place = -1.0
        self.name = ""

    def enter(self, stage: str) -> bool:
        """Note a record's stage; return whether a stage begins with it that follows another."""
        place = self._order.setdefault(stage, self._place + _UNPLANNED)
        if place <= self._place:
            return False
        follows, self.name, self._place = bool(self.name), stage, place
        return follows

    def reached(self, stage: str) -> bool:
        """Tell whether `stage`, or a later one, was entered; one that the plan does not name asks nothing."""
        return self._order.get(stage, -math.inf) <= self._place


class StageProof:
    """Evidence from one stage alone that the candidate's share is within the margin above the baseline's.

    Two e-values, the better of which counts. One compares the arms within the same intervals, as everything does; it
    learns little where a holdout is all that is left of the baseline. The other holds the candidate to the
    baseline's past plus the margin, drawn towards what the baseline does in this stage; it bets half on the
    baseline's share and half on the candidate's own past.
    """

    def __init__(self, within: Within) -> None:
        """Start with nothing seen; `within` goes on from what it is worth now."""
        self.seen = Standardised()
        self._within, self._mark = within, within.mark()
        self._alone: Array = np.zeros(2)

    def add(self, counts: Counts, *, p_b: Numbers, past_c: Numbers, margin: float, phi: Numbers) -> None:
        """Take one interval in, which `within` has taken already; shares are those of earlier intervals."""
        seen = self.seen
        past = (seen.bad_b + _PAST * float(p_b)) / (seen.n_b + _PAST)
        edge = past + margin
        bets: Array = np.array([past, min(float(past_c), edge)])
        if 0 < past < edge < 1 and bets[1] > 0:
            bad, good = counts.bad_c, counts.n_c - counts.bad_c
            self._alone += (bad * np.log(bets / edge) + good * np.log((1 - bets) / (1 - edge))) / np.asarray(phi)
        seen.add(counts)

    @property
    def log_e(self) -> float:
        """The evidence so far."""
        return max(float(log_mean_exp(self._alone)), self.paired)

    @property
    def paired(self) -> float:
        """That of the arms within the same intervals."""
        return float(self._within.since(self._mark))

    @property
    def shown(self) -> bool:
        """Whether this stage brings enough to pass."""
        return self.log_e >= SHOWN
