"""How this run compares the arms, and what it may therefore claim."""

from dataclasses import dataclass, replace

from harness.model.calibration import Calibration, Dispersion
from harness.model.plan import RollbackOn, StagePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Gating:
    """What proves a release bad against its baseline in this run, after fallbacks.

    `mode` is the plan's `rollback_on`, or `BLOCKS` where the plan asks for any difference and the system is not
    calibrated. `calibration` tempers the evidence of every comparison where there is one; `why` says why not.
    `unmeasured` names the comparisons that the calibration knows nothing of: they alone are judged by blocks.
    `unseen` names those of which the A/A run saw nothing bad, so that their noise counts as none.
    """

    mode: RollbackOn
    calibration: Calibration | None
    why: str
    unmeasured: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()

    def of(self, objective: str, source: str) -> "Gating":
        """Return how one comparison is gated: by blocks where any difference counts and its noise was not measured."""
        if self.mode is not RollbackOn.DIFFERENCE or self.dispersion(objective, source) is not None:
            return self
        return replace(self, mode=RollbackOn.BLOCKS, calibration=None)

    def dispersion(self, objective: str, source: str) -> Dispersion | None:
        """Return what is known of the arms' noise for one objective from one source."""
        return self.calibration.dispersion(objective, source) if self.calibration else None

    @property
    def claims(self) -> tuple[str, ...]:
        """The claims of this way of gating, in plain words."""
        return (_MODES[self.mode], self._noise())

    def _noise(self) -> str:
        made = self.calibration
        if made is not None:
            rest = f"; of {', '.join(self.unmeasured)} it knows nothing" if self.unmeasured else ""
            if rest and self.mode is RollbackOn.DIFFERENCE:
                rest += ", which blocks of intervals judge"
            if self.unseen:
                rest += f"; of {', '.join(self.unseen)} it saw nothing bad: their noise counts as none"
            return (
                f"calibrated: evidence is tempered for noise that belongs to one arm, by the A/A run of {made.made_at} "
                f"({made.intervals} intervals of {made.interval_s:g} s; {made.false_alarms} false alarms in "
                f"{made.windows} windows){rest}"
            )
        covered = {
            RollbackOn.BLOCKS: "blocks of intervals stand in for it, which is right but slow",
            RollbackOn.ABSOLUTE: "no rollback rests on a comparison",
        }.get(self.mode, "noise that belongs to one arm is covered only as far as it stays within the margins")
        return f"not calibrated ({self.why}): {covered}"


_MODES = {
    RollbackOn.EXCESS: "rolls back what is worse than its baseline by more than a margin; less may pass unseen",
    RollbackOn.DIFFERENCE: "rolls back what is worse than its baseline at all; promotes what is within every margin",
    RollbackOn.BLOCKS: (
        "rolls back what is worse than its baseline at all, in blocks of 20 intervals while at most half the traffic "
        "is the candidate's; promotes what is within every margin"
    ),
    RollbackOn.ABSOLUTE: "rolls back by objectives against numbers alone; the baseline is compared for promotion only",
}


def gating(plan: StagePlan, calibration: Calibration | None, why: str) -> Gating:
    """Return how a run gates: `why` says what keeps it from a calibration when `calibration` is None."""
    mode = plan.rollback_on
    if mode is RollbackOn.DIFFERENCE and calibration is None:
        mode = RollbackOn.BLOCKS
    used = None if mode is RollbackOn.BLOCKS else calibration
    blocks = "the plan judges by blocks" if calibration is not None else why
    return Gating(mode=mode, calibration=used, why=blocks or "no calibration was given")
