"""The state machine while it waits for a hook: laws that hold for any events in any order, and each edge by itself."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_rollout_plan import judged, make_plan

from harness.model.plan import OnInconclusive
from harness.model.status import Cause, Decision, Status
from harness.planning import rollout as ro

pytestmark = pytest.mark.selftest
PLAN = replace(make_plan(), holdout=0.0)
LAST = len(PLAN.stages) - 1

EVENTS = st.one_of(
    st.tuples(st.just("look"), st.sampled_from([Status.PASS, Status.PASS, Status.INCONCLUSIVE, Status.ERROR])),
    st.tuples(st.just("look"), st.just(Status.FAIL)),
    st.tuples(st.just("yes"), st.integers(0, LAST)),
    st.tuples(st.just("no"), st.integers(0, LAST)),
    st.tuples(st.just("order"), st.sampled_from(["pause", "promote", "hold", "abort"])),
    st.tuples(st.just("resume"), st.booleans()),
)


def event_of(said: tuple[str, object], now: float) -> ro.Event:
    """Return an event at `now`."""
    match said:
        case ("look", Status() as status):
            return ro.Look(at=now, judgements=(judged(status, estimate=0.0),))
        case ("yes", int(index)):
            return ro.Allowed(at=now, index=index)
        case ("no", int(index)):
            return ro.Refused(at=now, index=index, reason="status 500")
        case ("order", str(verb)):
            return ro.Order(at=now, verb=verb, reason="said")
        case _:
            return ro.Resumed(at=now, elapsed_s=now, asks=bool(said[1]))


def hold(before: ro.State, event: ro.Event, state: ro.State, actions: tuple[ro.Action, ...]) -> None:
    """Hold one step to the laws."""
    if isinstance(event, ro.Refused):
        assert (actions, state.phase, state.share, state.index) == ((), before.phase, before.share, before.index)
    for action in actions:
        if isinstance(action, ro.Ask):
            assert state.phase is ro.Phase.WAITING
            assert action.index == state.index + 1
    watched = before.phase in {ro.Phase.WAITING, ro.Phase.BAKING, ro.Phase.PAUSED}
    if watched and isinstance(event, ro.Look) and ro.failed(event.judgements):
        assert actions == (ro.Move(share=0.0, stage="", why=state.reason),)
        assert state.cause is Cause.RELEASE


@given(st.lists(EVENTS, max_size=60))
def test_whatever_comes_no_stage_begins_unasked_and_a_no_moves_nothing(said: list[tuple[str, object]]) -> None:
    """Any looks, answers of any stage at any time, orders and resumptions: the laws of a hook hold at every step."""
    state, actions = ro.step(PLAN, ro.State(), ro.Begin(at=0.0, asks=True))
    highest, asking = -1, True  # the highest stage that a hook, or an operator, has allowed
    for now, one in enumerate(said, 1):
        event = event_of(one, float(now))
        if isinstance(event, ro.Allowed):
            highest = max(highest, event.index)
        if one == ("order", "promote") and state.phase is ro.Phase.WAITING:
            highest = max(highest, state.index + 1)
        asking = asking and one != ("resume", False)
        before = state
        state, actions = ro.step(PLAN, state, event)
        hold(before, event, state, actions)
        for move in [action for action in actions if isinstance(action, ro.Move)]:
            up = [i for i, stage in enumerate(PLAN.stages) if before.share < stage.share <= move.share]
            assert not asking or max(up, default=-1) <= highest
            state, _ = ro.step(PLAN, state, ro.Moved(at=float(now), share=move.share))


def waiting(index: int = 0, **more: object) -> ro.State:
    """Return a rollout that waits for the hook after stage number `index`."""
    share = PLAN.stages[index].share if index >= 0 else 0.0
    state = ro.State(phase=ro.Phase.WAITING, index=index, share=share, allowed=index, started_at=1.0, entered_at=1.0)
    return replace(state, **more)


def look(at: float, status: Status = Status.PASS) -> ro.Look:
    """Return a look."""
    return ro.Look(at=at, judgements=(judged(status, estimate=0.0),))


def test_a_yes_is_not_enough_where_the_next_look_has_doubts() -> None:
    """Allowed, but the judge's sources are away by then: the stage is not left until they speak for it."""
    state, actions = ro.step(PLAN, waiting(), ro.Allowed(at=10, index=1))
    assert (state.phase, actions) == (ro.Phase.BAKING, ())
    state, actions = ro.step(PLAN, state, look(11, Status.ERROR))
    assert (state.phase, actions) == (ro.Phase.BAKING, ())
    state, actions = ro.step(PLAN, state, look(12))
    assert [type(action) for action in actions] == [ro.Move]
    assert state.index == 1


def test_a_long_wait_leaves_all_of_the_patience() -> None:
    """A yes after 40 s: an error then holds for the plan's patience, and is no deadline at once."""
    state, _ = ro.step(PLAN, waiting(), ro.Allowed(at=40, index=1))
    state, actions = ro.step(PLAN, state, look(41, Status.ERROR))
    assert actions == ()
    state, actions = ro.step(PLAN, state, look(44, Status.ERROR))
    assert isinstance(actions[0], ro.Move)
    assert (state.cause, actions[0].share) == (Cause.ENVIRONMENT, 0.0)


def test_a_no_is_asked_again_after_a_while_and_not_at_every_look() -> None:
    """Four looks of silence, then the question again."""
    state, _ = ro.step(PLAN, waiting(), ro.Refused(at=10, index=1, reason="status 403"))
    for at in (11, 12, 13, 14):
        state, actions = ro.step(PLAN, state, look(at))
        assert actions == ()
    state, actions = ro.step(PLAN, state, look(15))
    assert actions == (ro.Ask(index=1, stage="25", share=25.0),)
    assert "status 403" in state.reason


def test_answers_of_another_stage_do_not_count() -> None:
    """An old yes that comes late opens nothing; an old no says nothing."""
    state = waiting(index=1)
    assert ro.step(PLAN, state, ro.Allowed(at=5, index=1)) == (state, ())
    assert ro.step(PLAN, state, ro.Refused(at=5, index=1, reason="late")) == (state, ())


@pytest.mark.parametrize("choice", OnInconclusive)
def test_the_plans_deadline_ends_the_wait_by_its_own_choice(choice: OnInconclusive) -> None:
    """Also where it was never answered: the reason names the stage's hook."""
    plan = replace(PLAN, on_inconclusive=choice)
    state, actions = ro.step(plan, waiting(), look(1.0 + plan.deadline_s))
    held = choice is OnInconclusive.HOLD
    assert isinstance(actions[0], ro.Finish if held else ro.Move)
    assert (state.decision, state.cause) == (Decision.HOLD if held else Decision.ROLLBACK, Cause.ENVIRONMENT)
    assert "the hook before stage 25 gave no answer" in state.reason


def test_a_later_process_whose_target_has_no_hooks_any_more_waits_for_none() -> None:
    """And one whose target has them now asks for the next stage, not for the one that was begun."""
    event = ro.Resumed(at=5.0, elapsed_s=4.0)
    state, actions = ro.step(PLAN, waiting(index=-1), event)
    assert (state.phase, actions[0]) == (ro.Phase.MOVING, ro.Move(share=10.0, stage="10", why="the ramp begins"))
    baking = ro.State(phase=ro.Phase.BAKING, index=0, share=10.0, started_at=1.0)
    state, actions = ro.step(PLAN, baking, replace(event, asks=True))
    assert (state.phase, state.allowed) == (ro.Phase.MOVING, 0)
    assert isinstance(actions[0], ro.Move)
