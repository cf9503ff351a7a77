"""The rollout's state machine: what moves traffic, and what never may."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.judgement import Judgement
from harness.model.plan import OnInconclusive, Stage, StagePlan
from harness.model.status import Cause, Decision, Status
from harness.planning import rollout as ro

pytestmark = pytest.mark.selftest

SHARES = (10.0, 25.0, 50.0, 75.0, 100.0)


def make_plan(*, proof: str = "last", on_inconclusive: OnInconclusive = OnInconclusive.ROLLBACK) -> StagePlan:
    """Five stages of 2 to 4 s."""
    return StagePlan(
        name="t",
        stages=tuple(Stage(id=f"{s:g}", share=s, min_bake_s=2, max_bake_s=4) for s in SHARES),
        warmup_s=0,
        settle_s=0,
        deadline_s=60,
        patience_s=3,
        proof=proof,
        on_inconclusive=on_inconclusive,
    )


def judged(status: Status, *, severity: str = "critical", estimate: float | None = None) -> Judgement:
    """One judgement of `status`."""
    return Judgement(
        id="x.errors",
        status=status,
        requirement="",
        source="client",
        threshold=1.0,
        estimate=estimate,
        severity=severity,
        reason=f"it is {status}",
    )


def drive(
    plan: StagePlan, statuses: "list[Status]", *, estimate: float | None = 0.0, at_confirm: Status | None = None
) -> tuple[ro.State, list[float], ro.Finish | None]:
    """Play the driver: obey every action, take one of `statuses` a second; return the end, moves and finish."""
    now, moves, finish = 0.0, list[float](), None
    state, actions = ro.step(plan, ro.State(), ro.Begin(at=now))
    queue = list(actions)
    while finish is None:
        while queue:
            action = queue.pop(0)
            match action:
                case ro.Move():
                    moves.append(action.share)
                    state, more = ro.step(plan, state, ro.Moved(at=now, share=action.share))
                case ro.Confirm():
                    last = judged(at_confirm or Status.PASS)
                    state, more = ro.step(plan, state, ro.Confirmed(at=now, judgements=(last,)))
                case ro.Finish():
                    finish, more = action, ()
            queue.extend(more)
        if finish is None:
            now += 1.0
            if not statuses:
                break
            status = statuses.pop(0)
            look = ro.Look(at=now, judgements=(judged(status, estimate=estimate),))
            state, more = ro.step(plan, state, look)
            queue.extend(more)
    return state, moves, finish


def test_a_proven_release_climbs_every_stage_and_is_promoted() -> None:
    """All looks pass: 10, 25, 50, 75, the holdout at the last stage, then everything."""
    state, moves, finish = drive(make_plan(), [Status.PASS] * 40)
    assert moves == [10, 25, 50, 75, 95, 100]
    assert finish is not None
    assert (finish.decision, finish.cause, state.share) == (Decision.PROMOTE, Cause.PROOF, 100)


def test_a_failing_guardrail_sends_all_traffic_back_at_once() -> None:
    """One fail on the third look ends the rollout at 0 %, because of the release."""
    state, moves, finish = drive(make_plan(), [Status.PASS, Status.PASS, Status.FAIL])
    assert moves[-1] == 0
    assert finish is not None
    assert (finish.decision, finish.cause, state.share) == (Decision.ROLLBACK, Cause.RELEASE, 0)
    assert "x.errors" in finish.reason


@pytest.mark.parametrize("status, cause", [(Status.ERROR, Cause.ENVIRONMENT), (Status.INCONCLUSIVE, Cause.EVIDENCE)])
def test_want_of_proof_holds_up_to_the_bound_and_then_goes_back(status: Status, cause: Cause) -> None:
    """Neither an error nor missing proof is ever promoted, nor blamed on the release."""
    plan = make_plan(proof="each")
    _, moves, finish = drive(plan, [status] * 40)
    assert moves == [10, 0]
    assert finish is not None
    assert (finish.decision, finish.cause) == (Decision.ROLLBACK, cause)


def test_a_plan_may_hold_instead_of_going_back() -> None:
    """`on_inconclusive: hold` leaves the traffic where it is."""
    plan = make_plan(proof="each", on_inconclusive=OnInconclusive.HOLD)
    state, moves, finish = drive(plan, [Status.INCONCLUSIVE] * 40)
    assert finish is not None
    assert (moves, state.share, finish.decision) == ([10], 10, Decision.HOLD)


def test_doubt_keeps_a_stage_to_its_longest_bake() -> None:
    """An unproven guardrail whose estimate lies beyond its threshold uses up max_bake before going on."""
    _, calm, _ = drive(make_plan(), [Status.INCONCLUSIVE] * 3, estimate=0.5)
    _, doubt, _ = drive(make_plan(), [Status.INCONCLUSIVE] * 3, estimate=2.0)
    assert (calm, doubt) == ([10, 25], [10])


def test_a_stage_until_proven_waits_for_proof_while_both_arms_have_traffic() -> None:
    """Calm but unproven, such a stage uses its longest bake; proven, it ends at its shortest."""
    plan = make_plan()
    waiting = replace(plan, stages=(replace(plan.stages[0], until_proven=True), *plan.stages[1:]))
    _, open_, _ = drive(waiting, [Status.INCONCLUSIVE] * 3)
    _, late, _ = drive(waiting, [Status.INCONCLUSIVE] * 4)
    _, proven, _ = drive(waiting, [Status.PASS] * 2)
    assert (open_, late, proven) == ([10], [10, 25], [10, 25])


def test_a_confirmation_that_fails_undoes_the_promotion() -> None:
    """The drained load's last evidence counts: errors there are no promotion."""
    _, moves, finish = drive(make_plan(), [Status.PASS] * 40, at_confirm=Status.ERROR)
    assert moves[-1] == 0
    assert finish is not None
    assert (finish.decision, finish.cause) == (Decision.ROLLBACK, Cause.ENVIRONMENT)


def test_a_warning_never_decides() -> None:
    """A failing objective of severity `warning` alone is no reason to go back (nor is it proof)."""
    plan = make_plan()
    state, _ = ro.step(plan, ro.State(), ro.Begin(at=0))
    state, _ = ro.step(plan, state, ro.Moved(at=0, share=10))
    look = ro.Look(at=3, judgements=(judged(Status.PASS), judged(Status.FAIL, severity="warning")))
    state, actions = ro.step(plan, state, look)
    assert isinstance(actions[0], ro.Move)
    assert actions[0].share == 25


def test_a_move_that_fails_is_the_environments_fault_and_is_retried_only_on_the_way_back() -> None:
    """The way up stops at the first refusal; the way back tries again, then says that it is stuck."""
    plan = make_plan()
    state, _ = ro.step(plan, ro.State(), ro.Begin(at=0))
    state, actions = ro.step(plan, state, ro.MoveFailed(at=1, reason="socket gone"))
    assert actions == (ro.Move(share=0.0, stage="", why="traffic could not be moved: socket gone"),)
    tries = 0
    while not isinstance(actions[0], ro.Finish):
        tries += 1
        state, actions = ro.step(plan, state, ro.MoveFailed(at=2, reason="socket gone"))
    assert tries == 4
    assert actions[0].cause is Cause.ENVIRONMENT
    assert "way back failed" in actions[0].reason


def test_orders_of_an_operator_are_obeyed_and_named() -> None:
    """Pause stops the clock of a stage, promote goes on, abort goes back; exit cause is the operator."""
    plan = make_plan()
    state, _ = ro.step(plan, ro.State(), ro.Begin(at=0))
    state, _ = ro.step(plan, state, ro.Moved(at=0, share=10))
    state, _ = ro.step(plan, state, ro.Order(at=1, verb="pause", reason="lunch"))
    state, actions = ro.step(plan, state, ro.Look(at=50, judgements=(judged(Status.PASS),)))
    assert (state.phase, actions) == (ro.Phase.PAUSED, ())
    state, _ = ro.step(plan, state, ro.Order(at=51, verb="promote", reason="back"))
    assert state.phase is ro.Phase.BAKING
    state, actions = ro.step(plan, state, ro.Order(at=52, verb="abort", reason="no"))
    assert actions == (ro.Move(share=0.0, stage="", why="operator: no"),)
    assert state.cause is Cause.OPERATOR


@given(st.lists(st.sampled_from([Status.PASS, Status.INCONCLUSIVE, Status.ERROR, Status.FAIL]), max_size=60))
def test_no_run_of_looks_promotes_without_proof(statuses: list[Status]) -> None:
    """For any sequence of looks: promoted only if the last look passed; a fail seen is never promoted."""
    left = list(statuses)
    state, moves, finish = drive(make_plan(), left)
    seen = statuses[: len(statuses) - len(left)]
    if finish is not None and finish.decision is Decision.PROMOTE:
        assert Status.FAIL not in seen
        assert seen[-1] is Status.PASS
        assert moves[-1] == 100
    if Status.FAIL in seen and state.phase is ro.Phase.DONE:
        assert state.share == 0
    if finish is not None and finish.decision is Decision.ROLLBACK:
        assert state.share == 0


def test_a_thousand_simulated_rollouts_end_by_their_bound_and_in_a_known_state() -> None:  # noqa: C901, PLR0912 - one story
    """Random looks, refusals, orders and stops: every rollout ends, at 0 or 100 % or held, with a cause."""
    rng = random.Random(20)
    for _ in range(1000):
        plan = make_plan(proof=rng.choice(["last", "each"]))
        now, router, done = 0.0, 0.0, False
        state, actions = ro.step(plan, ro.State(), ro.Begin(at=now))
        queue = list(actions)
        for _ in range(400):
            while queue:
                match queue.pop(0):
                    case ro.Move() as move:
                        if rng.random() < 0.05:
                            event: ro.Event = ro.MoveFailed(at=now, reason="refused")
                        else:
                            router = move.share
                            event = ro.Moved(at=now, share=router)
                        state, more = ro.step(plan, state, event)
                        queue.extend(more)
                    case ro.Confirm():
                        final = judged(rng.choice([Status.PASS, Status.ERROR]))
                        state, more = ro.step(plan, state, ro.Confirmed(at=now, judgements=(final,)))
                        queue.extend(more)
                    case ro.Finish():
                        done = True
            if done:
                break
            now += 1.0
            roll = rng.random()
            if roll < 0.01:
                event = ro.Stop(at=now, reason="interrupted", cause=Cause.OPERATOR)
            elif roll < 0.02:
                event = ro.Order(at=now, verb=rng.choice(["abort", "hold"]), reason="said")
            else:
                status = rng.choices([Status.PASS, Status.INCONCLUSIVE, Status.ERROR, Status.FAIL], [80, 10, 7, 3])[0]
                event = ro.Look(at=now, judgements=(judged(status, estimate=0.5),))
            state, more = ro.step(plan, state, event)
            queue.extend(more)
        assert done
        assert state.cause is not None
        assert now <= plan.deadline_s + 1
        if state.decision is Decision.PROMOTE:
            assert router == 100
        elif state.decision is Decision.ROLLBACK and "way back failed" not in state.reason:
            assert router == 0


def test_a_second_stop_on_the_way_back_asks_again() -> None:
    """The way back may have been cut short: whoever stops again gets the move again."""
    plan = make_plan()
    state, _ = ro.step(plan, ro.State(), ro.Begin(at=0))
    state, _ = ro.step(plan, state, ro.Moved(at=0, share=10))
    stop = ro.Stop(at=1, reason="x", cause=Cause.OPERATOR)
    state, first = ro.step(plan, state, stop)
    state, second = ro.step(plan, state, stop)
    assert [a.share for a in (*first, *second) if isinstance(a, ro.Move)] == [0, 0]


def test_a_pause_ends_at_the_plans_deadline() -> None:
    """A forgotten pause does not keep the candidate's share for ever."""
    plan = make_plan()
    state, _ = ro.step(plan, ro.State(), ro.Begin(at=0))
    state, _ = ro.step(plan, state, ro.Moved(at=0, share=10))
    state, _ = ro.step(plan, state, ro.Order(at=1, verb="pause", reason="lunch"))
    state, actions = ro.step(plan, state, ro.Look(at=plan.deadline_s, judgements=(judged(Status.PASS),)))
    assert isinstance(actions[0], ro.Move)
    assert (actions[0].share, state.cause) == (0, Cause.OPERATOR)
