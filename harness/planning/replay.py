"""A stored rollout taken again under another policy: what it would have come to, as far as its evidence goes.

The looks and the evidence are those of the recorded ramp. Where the other policy would have left a stage sooner, its
evidence is taken as it was; where it would have stayed longer, the evidence of that longer stay does not exist, and
the replay says so instead of guessing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.model.judgement import Judgement
from harness.model.plan import StagePlan
from harness.model.status import Cause, Decision, Status
from harness.planning import rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One look: seconds since the rollout's start, the recorded stage, the candidate's requests so far."""

    at_s: float
    stage: str
    requests: int


@dataclass(slots=True, kw_only=True)
class Course:
    """One guardrail's way through a replay: the first looks at which it failed and passed, and how it stood last."""

    id: str
    source: str
    failed: Moment | None = None
    passed: Moment | None = None
    last: Status = Status.INCONCLUSIVE
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a replay came to. `decision` is None where the evidence ends before there is one."""

    decision: Decision | None
    cause: Cause | None
    reason: str
    moment: Moment | None
    notes: tuple[str, ...] = ()


class Replay:
    """Feeds recorded looks to the rollout's state machine under `plan`."""

    def __init__(self, plan: StagePlan, entered: Mapping[str, float]) -> None:
        """Start before the ramp. `entered` maps the stages that were reached to when, in order; epoch seconds."""
        self._plan, self._entered = plan, dict(entered)
        self._index = {stage.id: number for number, stage in enumerate(plan.stages)}
        self._began = min(self._entered.values(), default=0.0)
        self._state = rollout.State()
        self._ready = self._confirming = False
        self._newest: tuple[Moment, tuple[Judgement, ...]] | None = None
        self._outcome: Outcome | None = None
        self._notes: list[str] = []
        self.courses: dict[tuple[str, str], Course] = {}

    def look(self, *, at: float, stage: str, final: bool, judgements: Sequence[Judgement], requests: int) -> None:
        """Take one recorded look; `requests` is what the candidate served until then."""
        if stage not in self._entered or stage not in self._index:
            return
        moment = Moment(at_s=at - self._began, stage=stage, requests=requests)
        self._follow(moment, judgements)
        if self._outcome is None:
            self._advance(stage, moment)
        if self._outcome is None:
            self._decide(at, moment, tuple(judgements), final=final)

    def finish(self, ended_at: float) -> Outcome:
        """Return what the replay came to; `ended_at` is when the recorded rollout was over, epoch seconds."""
        if self._outcome is None and self._newest is not None and not self._ready:
            self._again(ended_at)
        if self._outcome is not None:
            return replace(self._outcome, notes=tuple(self._notes))
        ends = "the evidence ends before this policy would have decided"
        if self._newest is None:
            why = "no stage of the rollout was looked at"
        elif self._confirming:
            why = "it was ready to promote, but there is no last look with the load drained"
        else:
            why = f"it would have kept baking stage {self._newest[0].stage}"
        return self._end(None, None, f"{ends}: {why}", self._newest[0] if self._newest else None)

    def _follow(self, moment: Moment, judgements: Sequence[Judgement]) -> None:
        for one in judgements:
            if one.severity != "critical":
                continue
            course = self.courses.setdefault((one.id, one.source), Course(id=one.id, source=one.source))
            course.last, course.reason = one.status, one.reason
            if one.status is Status.FAIL and course.failed is None:
                course.failed = moment
            if one.status is Status.PASS and course.passed is None:
                course.passed = moment

    def _advance(self, stage: str, moment: Moment) -> None:
        """Go to the recorded stage, if this policy would have gone there by then."""
        index, before = self._index[stage], self._state
        if index == before.index:
            return
        entered = self._entered[stage]
        if before.index < 0:
            before = rollout.step(self._plan, before, rollout.Begin(at=self._began))[0]
        else:
            self._again(entered)
            if self._outcome is not None:
                return
            if not self._ready or index != before.index + 1:
                name = self._plan.stages[before.index].id
                stayed = f"it would have stayed in stage {name} beyond the {entered - before.entered_at:.1f} s recorded"
                reason = f"the evidence ends before this policy would have decided: {stayed}"
                self._outcome = self._end(None, None, reason, moment)
                return
            before = replace(before, phase=rollout.Phase.MOVING, index=index)
        share = rollout.stage_share(self._plan, self._plan.stages[index])
        self._state = rollout.step(self._plan, before, rollout.Moved(at=entered, share=share))[0]
        self._ready = False

    def _again(self, at: float) -> None:
        """Ask the newest look once more, as of `at`: the recorded step came a moment after the look it rests on."""
        if self._newest is not None and not self._ready:
            moment, judgements = self._newest
            self._step(rollout.Look(at=at, judgements=judgements), moment)

    def _decide(self, at: float, moment: Moment, judgements: tuple[Judgement, ...], *, final: bool) -> None:
        if final:
            self._again(at)
            if self._outcome is None and self._confirming:
                confirming = replace(self._state, phase=rollout.Phase.CONFIRMING)
                self._state, self._confirming = confirming, False
                self._step(rollout.Confirmed(at=at, judgements=judgements), moment)
        elif not self._confirming:
            self._step(rollout.Look(at=at, judgements=judgements), moment)
        self._newest = moment, judgements

    def _step(self, event: rollout.Look | rollout.Confirmed, moment: Moment) -> None:
        """Take one step; a stage that would be left is kept as long as it was recorded."""
        after, _ = rollout.step(self._plan, self._state, event)
        if after.decision is not None:
            self._outcome = self._end(after.decision, after.cause, after.reason, moment)
        elif after.phase in {rollout.Phase.MOVING, rollout.Phase.CONFIRMING} and not self._ready:
            self._ready = True
            self._confirming = after.phase is rollout.Phase.CONFIRMING
            self._tell_early(event.at, moment)

    def _tell_early(self, at: float, moment: Moment) -> None:
        later = [entered for entered in self._entered.values() if entered > self._entered[moment.stage]]
        if later and min(later) - at > self._plan.look_s:
            sooner, recorded = at - self._state.entered_at, min(later) - self._state.entered_at
            self._notes.append(
                f"it would have left stage {moment.stage} after {sooner:.1f} s, not {recorded:.1f} s; "
                "from there on the evidence is that of the slower ramp"
            )

    def _end(self, decision: Decision | None, cause: Cause | None, reason: str, moment: Moment | None) -> Outcome:
        return Outcome(decision=decision, cause=cause, reason=reason, moment=moment, notes=tuple(self._notes))
