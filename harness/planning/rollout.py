"""The rollout as a state machine: `step(plan, state, event) -> (state, actions)`, pure and total.

Traffic moves only by the actions that come out of here, and each answers an event that says what really
happened: an action is a wish, `Moved` and `MoveFailed` are facts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from harness.model.judgement import Judgement, overall
from harness.model.plan import OnInconclusive, Stage, StagePlan
from harness.model.status import Cause, Decision, Status

FULL = 100.0
UNASKED = 1_000_000  # more stages than any plan has: no hook is asked


class Phase(StrEnum):
    """Where a rollout stands."""

    READY = "ready"
    WAITING = "waiting"  # for the hook before the next stage; the share stays as it is
    MOVING = "moving"
    BAKING = "baking"
    PAUSED = "paused"
    CONFIRMING = "confirming"
    PROMOTING = "promoting"
    RETURNING = "returning"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One rollout. `share` is the candidate's share in percent that the router last confirmed.

    It goes from `base`, where it returns to when it fails, to `goal`. `allowed` is the highest stage that may be
    entered without asking; `refused_at` is when the hook before the next one last said no, 0 while it is asked.
    """

    phase: Phase = Phase.READY
    index: int = -1
    share: float = 0.0
    started_at: float = 0.0
    entered_at: float = 0.0
    decision: Decision | None = None
    cause: Cause | None = None
    reason: str = ""
    retries: int = 0
    base: float = 0.0
    goal: float = FULL
    allowed: int = UNASKED
    refused_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """Start the ramp; where it `asks`, a hook must allow each stage before it is entered."""

    at: float
    asks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """A later process goes on. The rollout had lasted `elapsed_s` when the one before was last heard of."""

    at: float
    elapsed_s: float
    asks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The hook before the stage number `index` allows it."""

    at: float
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The hook before the stage number `index` does not allow it, or gives no answer."""

    at: float
    index: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """The router confirmed `share` percent."""

    at: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveFailed:
    """The router did not take a move."""

    at: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The judge looked."""

    at: float
    judgements: tuple[Judgement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """The load was drained and the last evidence judged."""

    at: float
    judgements: tuple[Judgement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An operator's word: pause, hold, promote or abort."""

    at: float
    verb: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """The harness must end now (interrupt, or a part of it failed)."""

    at: float
    reason: str
    cause: Cause


Event = Begin | Resumed | Allowed | Refused | Moved | MoveFailed | Look | Confirmed | Order | Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Ask the hook before the stage number `index`, which gets `share` percent."""

    index: int
    stage: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Set the candidate's share, in percent."""

    share: float
    stage: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirm:
    """Drain the load and judge the last evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The rollout is over."""

    decision: Decision
    cause: Cause
    reason: str


Action = Ask | Move | Confirm | Finish
Step = tuple[State, tuple[Action, ...]]
_NONE: tuple[Action, ...] = ()
_MOVE_RETRIES = 3
_ASK_AGAIN_S = 5.0
_WATCHED = frozenset({Phase.WAITING, Phase.BAKING, Phase.PAUSED})  # where a guardrail's breach brings traffic back


def towards(plan: StagePlan, base: float, goal: float) -> StagePlan:
    """Return the plan's stages between `base` and `goal`, in percent, and `goal` itself as the last one.

    It bakes as long as the plan's first stage at or above it. Nothing is held back below 100 %. ValueError where
    there is no way up.
    """
    if not 0 <= base < goal <= FULL:
        msg = f"there is no way up from {base:g} to {goal:g} %"
        raise ValueError(msg)
    above = next((stage for stage in plan.stages if stage.share >= goal), plan.stages[-1])
    last = above if above.share == goal else replace(above, id=f"{goal:g}", share=goal)
    between = tuple(stage for stage in plan.stages if base < stage.share < goal)
    before = max((stage.share for stage in between), default=base)
    holdout = plan.holdout if goal == FULL and FULL - plan.holdout > before else 0.0
    return replace(plan, stages=(*between, last), holdout=holdout)


def stage_share(plan: StagePlan, stage: Stage) -> float:
    """Return the share that a stage really gets: the last one keeps the plan's holdout on the baseline."""
    return min(stage.share, FULL - plan.holdout) if stage is plan.stages[-1] else stage.share


def step(plan: StagePlan, state: State, event: Event) -> Step:
    """Return the next state and what must be done, for any event in any state."""
    if state.phase is Phase.DONE:
        return state, _NONE
    match event:
        case Begin() | Resumed():
            return _started(plan, state, event)
        case Allowed() | Refused():
            return _answered(plan, state, event)
        case Moved() | MoveFailed():
            return _moved(plan, state, event) if isinstance(event, Moved) else _move_failed(state, event)
        case Look():
            return _look(plan, state, event)
        case Confirmed():
            return _confirmed(plan, state, event)
        case Order():
            return _order(plan, state, event)
        case Stop():
            return _return(state, event.cause, event.reason)


def _enter(plan: StagePlan, state: State, index: int, why: str) -> Step:
    stage = plan.stages[index]
    share = stage_share(plan, stage)
    if index > state.allowed:
        waiting = replace(state, phase=Phase.WAITING, refused_at=0.0)
        return waiting, (Ask(index=index, stage=stage.id, share=share),)
    moving = replace(state, phase=Phase.MOVING, index=index, retries=0, reason="", refused_at=0.0)
    return moving, (Move(share=share, stage=stage.id, why=why),)


def _started(plan: StagePlan, state: State, event: Begin | Resumed) -> Step:
    """Begin, or go on as a later process, whose target may have a hook now, or none any more."""
    if isinstance(event, Begin):
        begun = replace(state, started_at=event.at, entered_at=event.at, allowed=-1 if event.asks else UNASKED)
        return _enter(plan, begun, 0, "the ramp begins")
    known = state.index if state.allowed == UNASKED else state.allowed
    allowed = known if event.asks else UNASKED
    return _resumed(plan, replace(state, started_at=event.at - event.elapsed_s, retries=0, allowed=allowed), event.at)


def _answered(plan: StagePlan, state: State, event: Allowed | Refused) -> Step:
    """Take a hook's answer, which may come late."""
    awaited = state.phase is Phase.WAITING and event.index == state.index + 1
    if isinstance(event, Refused):  # it neither promotes nor rolls back: the share stays as it is
        stage = plan.stages[min(event.index, len(plan.stages) - 1)].id
        reason = f"the hook before stage {stage} does not allow it: {event.reason}"
        return (replace(state, refused_at=event.at, reason=reason) if awaited else state), _NONE
    if event.index <= state.allowed:
        return state, _NONE
    known = replace(state, allowed=event.index)
    if not awaited:
        return known, _NONE
    if state.index < 0:
        return _enter(plan, known, 0, f"the hook before stage {plan.stages[0].id} allows it")
    # It bakes on, with all patience anew: the next look decides whether the stage may still be left.
    since = max(state.entered_at, event.at - plan.stages[state.index].max_bake_s)
    return replace(known, phase=Phase.BAKING, reason="", refused_at=0.0, entered_at=since), _NONE


def _resumed(plan: StagePlan, state: State, at: float) -> Step:
    """Go on from where the last process stood: its move is made again, a stage that was baking bakes anew."""
    match state.phase:
        case Phase.READY:
            return _enter(plan, replace(state, entered_at=at), 0, "the ramp begins")
        case Phase.WAITING if state.index < 0:
            return _enter(plan, state, 0, "the ramp begins")
        case Phase.PAUSED if state.index < 0:
            return state, _NONE
        case Phase.PAUSED:
            stage = plan.stages[state.index]
            return state, (Move(share=stage_share(plan, stage), stage=stage.id, why="resumed while paused"),)
        case Phase.PROMOTING:
            return state, (Move(share=state.goal, stage=plan.stages[-1].id, why="the promotion is resumed"),)
        case Phase.RETURNING:
            return state, (Move(share=state.base, stage="", why=f"resumed: {state.reason}"),)
        case _:
            return _enter(plan, state, state.index, f"resumed while {state.phase}")


def _moved(plan: StagePlan, state: State, event: Moved) -> Step:
    at_rest = replace(state, share=event.share, retries=0)
    match state.phase:
        case Phase.MOVING if event.share == stage_share(plan, plan.stages[state.index]):
            return replace(at_rest, phase=Phase.BAKING, entered_at=event.at), _NONE
        case Phase.PROMOTING if event.share == state.goal:
            return _done(at_rest)
        case Phase.RETURNING if event.share == state.base:
            return _done(at_rest)
        case _:
            return at_rest, _NONE


def _move_failed(state: State, event: MoveFailed) -> Step:
    if state.phase is Phase.RETURNING:
        if state.retries < _MOVE_RETRIES:
            again = replace(state, retries=state.retries + 1)
            return again, (Move(share=state.base, stage="", why=f"once more, after: {event.reason}"),)
        stuck = f"{state.reason}; and the way back failed: {event.reason} (the lease ends candidate traffic)"
        return _done(replace(state, reason=stuck, cause=Cause.ENVIRONMENT))
    return _return(state, Cause.ENVIRONMENT, f"traffic could not be moved: {event.reason}")


def _look(plan: StagePlan, state: State, event: Look) -> Step:
    failing = failed(event.judgements)
    if failing and state.phase in _WATCHED:
        return _return(state, Cause.RELEASE, "; ".join(f"{j.id}: {j.reason}" for j in failing))
    if state.phase is Phase.PAUSED and event.at - state.started_at >= plan.deadline_s:
        return _return(state, Cause.OPERATOR, "paused by the operator until the plan's deadline")
    if state.phase is Phase.WAITING:
        return _wait(plan, state, event.at)
    if state.phase is not Phase.BAKING:
        return state, _NONE
    stage, last = plan.stages[state.index], state.index == len(plan.stages) - 1
    baked = event.at - state.entered_at
    status = overall(event.judgements)
    late = baked >= stage.max_bake_s
    needs_proof = last or plan.proof == "each" or (stage.until_proven and not late)
    if baked >= stage.min_bake_s and _may_go_on(status, event.judgements, needs_proof=needs_proof, late=late):
        if last:
            return replace(state, phase=Phase.CONFIRMING), (Confirm(),)
        return _enter(
            plan, state, state.index + 1, f"stage {stage.id} baked {baked:.1f} s and nothing speaks against it"
        )
    over = baked >= stage.max_bake_s + plan.patience_s or event.at - state.started_at >= plan.deadline_s
    if over:
        return _deadline(plan, state, status, event.judgements)
    return state, _NONE


def _wait(plan: StagePlan, state: State, at: float) -> Step:
    """Ask the hook again where it has said no, until the plan's deadline; then do what the plan says."""
    if at - state.started_at >= plan.deadline_s:
        why = state.reason or f"the hook before stage {plan.stages[state.index + 1].id} gave no answer"
        return _without_proof(plan, state, Cause.ENVIRONMENT, f"{why}, until the plan's deadline")
    if state.refused_at and at - state.refused_at >= _ASK_AGAIN_S:
        return _enter(plan, state, state.index + 1, state.reason)
    return state, _NONE


def _may_go_on(status: Status, judgements: Sequence[Judgement], *, needs_proof: bool, late: bool) -> bool:
    """Tell whether a stage may be left: by proof, or (where none is needed yet) for want of doubt."""
    if status is Status.PASS:
        return True
    if needs_proof or status is not Status.INCONCLUSIVE:
        return False
    return late or not any(doubtful(j) for j in judgements)


def doubtful(judgement: Judgement) -> bool:
    """Tell whether a guardrail is unproven and its estimate already lies beyond its threshold."""
    return judgement.severity == "critical" and judgement.status is Status.INCONCLUSIVE and judgement.beyond


def failed(judgements: Sequence[Judgement]) -> tuple[Judgement, ...]:
    """Return the guardrails that fail."""
    return tuple(j for j in judgements if j.severity == "critical" and j.status is Status.FAIL)


def _confirmed(plan: StagePlan, state: State, event: Confirmed) -> Step:
    if state.phase is not Phase.CONFIRMING:
        return state, _NONE
    failing = failed(event.judgements)
    if failing:
        return _return(state, Cause.RELEASE, "; ".join(f"{j.id}: {j.reason}" for j in failing))
    status = overall(event.judgements)
    if status is Status.PASS:
        promoting = replace(
            state,
            phase=Phase.PROMOTING,
            decision=Decision.PROMOTE,
            cause=Cause.PROOF,
            reason="every guardrail is proven within its bound",
        )
        if state.share == state.goal:
            return _done(promoting)
        last = plan.stages[-1].id
        return promoting, (Move(share=state.goal, stage=last, why="promotion: every guardrail is proven"),)
    return _deadline(plan, state, status, event.judgements)


def _deadline(plan: StagePlan, state: State, status: Status, judgements: Sequence[Judgement]) -> Step:
    cause = Cause.ENVIRONMENT if status is Status.ERROR else Cause.EVIDENCE
    open_ones = [j for j in judgements if j.severity == "critical" and j.status is status]
    what = "; ".join(f"{j.id}: {j.reason}" for j in open_ones) or "no guardrail was judged"
    return _without_proof(plan, state, cause, f"no proof within the plan's bounds: {what}")


def _without_proof(plan: StagePlan, state: State, cause: Cause, reason: str) -> Step:
    """Do what the plan says at a deadline."""
    if plan.on_inconclusive is OnInconclusive.HOLD:
        return _done(replace(state, decision=Decision.HOLD, cause=cause, reason=reason))
    return _return(state, cause, reason)


def _order(plan: StagePlan, state: State, event: Order) -> Step:
    said = f"operator: {event.reason}"
    match event.verb:
        case "abort":
            return _return(state, Cause.OPERATOR, said)
        case "hold" if state.phase in _WATCHED:
            return _done(replace(state, decision=Decision.HOLD, cause=Cause.OPERATOR, reason=said))
        case "pause" if state.phase in {Phase.BAKING, Phase.WAITING}:
            return replace(state, phase=Phase.PAUSED, reason=""), _NONE
        case "promote" if state.phase is Phase.WAITING:
            return _enter(plan, replace(state, allowed=state.index + 1), state.index + 1, said)
        case "promote" if state.phase is Phase.PAUSED and state.index < 0:
            return _enter(plan, state, 0, said)
        case "promote" if state.phase is Phase.PAUSED:
            return replace(state, phase=Phase.BAKING, entered_at=event.at), _NONE
        case "promote" if state.phase is Phase.BAKING:  # a hook is still asked
            if state.index + 1 < len(plan.stages):
                return _enter(plan, state, state.index + 1, said)
            return replace(state, phase=Phase.CONFIRMING), (Confirm(),)
        case _:
            return state, _NONE


def _return(state: State, cause: Cause, reason: str) -> Step:
    if state.phase is Phase.RETURNING:
        # The way back may have been cut short by whatever asks again: an act that is idempotent is repeated.
        return state, (Move(share=state.base, stage="", why=reason),)
    returning = replace(state, phase=Phase.RETURNING, decision=Decision.ROLLBACK, cause=cause, reason=reason, retries=0)
    return returning, (Move(share=state.base, stage="", why=reason),)


def _done(state: State) -> Step:
    decision, cause = state.decision or Decision.HOLD, state.cause or Cause.ENVIRONMENT
    finished = replace(state, phase=Phase.DONE, decision=decision, cause=cause)
    return finished, (Finish(decision=decision, cause=cause, reason=state.reason),)
