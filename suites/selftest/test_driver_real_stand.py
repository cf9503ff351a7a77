"""A driver goes on only from where it left traffic: hands, freezes, lost answers, ends told twice, stale evidence."""

from collections.abc import Callable
from pathlib import Path

import pytest
from doubles import SimulatedClock
from test_driver_resume import Fuse, Mortal, World, ends, fresh, killed_while_baking, live, steps

from harness.adapters.evidence_files import EvidenceFiles
from harness.bench.driver.world import World as SimulatedWorld
from harness.model.errors import EnvironmentProblem, LostLeaseError
from harness.model.evidence import Evidence, Kind, Source, Unit
from harness.model.status import Cause, Decision
from harness.planning.resume import left_by
from harness.planning.rollout import Phase, State
from harness.run.driver import Driver

pytestmark = pytest.mark.selftest


def struck(world: World, stage: str, strike: Callable[[Mortal], float]) -> tuple[State, Mortal]:
    """Drive a rollout; during one sleep of a stage's bake `strike` happens, and the sleep lasts as much longer."""
    mortal = world.driver(Fuse())
    sleep, done = world.clock.sleep, list[str]()

    def striking(seconds: float) -> None:
        state, stages = mortal.driver.state, mortal.driver.plan.stages
        if not done and state.phase is Phase.BAKING and stages[state.index].id == stage:
            done.append(stage)
            seconds += strike(mortal)
        sleep(seconds)

    world.clock.sleep = striking  # type: ignore[method-assign]
    try:
        return mortal.begin(), mortal
    except LostLeaseError:
        mortal.die()
        raise
    finally:
        world.clock.sleep = sleep  # type: ignore[method-assign]


HANDS: dict[str, Callable[[World], object]] = {
    "router raised": lambda world: setattr(world.router, "limit", 10_000),
    "router lowered": lambda world: setattr(world.router, "limit", 0),
    "flag raised": lambda world: world.flags.update(batch=80.0),
    "flag lowered": lambda world: world.flags.update(batch=0.0),
}


@pytest.mark.parametrize("hand", HANDS)
def test_a_hand_on_router_or_flag_ends_the_rollout_at_the_base(hand: str, tmp_path: Path) -> None:
    """Whichever way: nothing is pushed up from there, and the reason names what was found."""
    world = fresh("good", tmp_path / "w")

    def moved(_: Mortal) -> float:
        HANDS[hand](world)
        return 0.0

    state, mortal = struck(world, "50", moved)
    assert ends(state) == (Phase.DONE, Decision.ROLLBACK, Cause.ENVIRONMENT)
    assert "somebody else moved traffic" in state.reason
    assert (world.router.limit, world.flags["batch"], max(world.router.history)) == (0, 0.0, 5000)
    mortal.die()


def test_a_freeze_is_reconciled_and_the_stage_bakes_anew(tmp_path: Path) -> None:
    """A minute in the middle of 50 %: a `resume` entry, no step twice, and two seconds more before 100 %."""
    world = fresh("good", tmp_path / "w")
    state, mortal = struck(world, "50", lambda _: 60.0)
    assert ends(state) == (Phase.DONE, Decision.PROMOTE, Cause.PROOF)
    entries = mortal.journal.entries()
    thawed = next(entry for entry in entries if entry.kind == "resume")
    after = next(e for e in entries if e.kind == "intent" and e.seq > thawed.seq)
    assert after.at - thawed.at >= 2
    assert float(str(thawed.what["away_s"])) == pytest.approx(60, abs=0.1)
    assert [e.what["id"] for e in entries if e.kind == "stage"] == ["10", "50", "100"]
    mortal.die()
    assert steps(world) == [10, 50, 95, 100]


def test_a_frozen_driver_that_was_overtaken_moves_nothing(tmp_path: Path) -> None:
    """Another took the token meanwhile: the thawed one ends before it asks for anything."""
    world = fresh("good", tmp_path / "w")
    other = world.driver(Fuse())

    def overtake(_: Mortal) -> float:
        other.journal.fence()
        world.router.history.clear()
        return 60.0

    with pytest.raises(LostLeaseError):
        struck(world, "50", overtake)
    assert world.router.history == []
    other.die()


def test_a_share_moved_by_hand_just_before_the_end_is_not_promoted(tmp_path: Path) -> None:
    """Between the last look and the end the router goes to 70 %: back to the base."""
    world = fresh("good", tmp_path / "w")
    mortal = world.driver(Fuse())
    look = mortal.driver.parts.judge.look

    def looked(**how: object) -> object:
        if how["final"]:
            world.router.limit = 7000
        return look(**how)  # type: ignore[arg-type]

    mortal.driver.parts.judge.look = looked  # type: ignore[method-assign,assignment]
    state = mortal.begin()
    assert ends(state) == (Phase.DONE, Decision.ROLLBACK, Cause.ENVIRONMENT)
    assert world.router.limit == 0
    mortal.die()


def test_an_end_that_was_told_stays_told_whatever_the_last_state_said(tmp_path: Path) -> None:
    """A full disk kept the state out of the journal, not the end: the next process changes nothing."""
    world = fresh("good", tmp_path / "w")
    killed_while_baking(world, "50")
    mortal = world.driver(Fuse())
    what = {"action": "finish", "decision": Decision.ROLLBACK, "cause": Cause.OPERATOR, "share": 0.0}
    mortal.journal.append("finish", what, why="taken back")
    mortal.die()
    world.router.history.clear()
    state, _ = live(world, Mortal.go_on)
    assert ends(state) == (Phase.DONE, Decision.ROLLBACK, Cause.OPERATOR)
    assert world.router.history == []


def test_a_router_that_is_away_when_a_process_resumes_leaves_no_record_of_a_stage_it_did_not_see(
    tmp_path: Path,
) -> None:
    """It answers once and is away then: users go back, and no stage is said to have begun at 0."""
    world = fresh("good", tmp_path / "w")
    killed_while_baking(world, "50")
    mortal = world.driver(Fuse())
    left = left_by((entry.kind, entry.what) for entry in mortal.journal.entries())
    assert left is not None
    mortal.driver.resume(left)

    def away() -> object:
        raise EnvironmentProblem("the router does not answer")

    mortal.driver.parts.router.read = away  # type: ignore[method-assign,assignment]
    mortal.driver.ramp()
    records = [entry.what for entry in mortal.journal.entries() if entry.kind == "stage"]
    assert all(float(str(record["started_at"])) > 0 for record in records)
    mortal.die()


def record(n: int) -> Evidence:
    """Return one record."""
    return Evidence(kind=Kind.EVENTS, source=Source.PROBE, signal="x", start_s=n, end_s=n, unit=Unit.PROBE, n=n, bad=0)


def test_what_an_overtaken_process_still_writes_does_not_reach_the_evidence(tmp_path: Path) -> None:
    """Two stores of one folder: the older's records end with the newer's begin, and the digest is of what is there."""
    older = EvidenceFiles(tmp_path)
    older.append([record(1)])
    newer = EvidenceFiles(tmp_path)
    older.append([record(2)])
    older.looked(at=1.0, stage="10", final=False)
    newer.append([record(3)])
    for store in (older, newer):
        store.close()
    again = EvidenceFiles(tmp_path)
    assert again.digest() == newer.digest() != older.digest()
    assert (tmp_path / "looks.jsonl").read_text(encoding="utf-8") == ""
    again.close()


def test_a_clock_that_only_limps_is_no_freeze(tmp_path: Path) -> None:
    """Half a second late at every look, as on a busy machine: nothing is resumed."""
    world = fresh("good", tmp_path / "w")
    world.clock = Late()
    state, _ = live(world, Mortal.begin)
    assert ends(state) == (Phase.DONE, Decision.PROMOTE, Cause.PROOF)
    mortal = world.driver(Fuse())
    assert [entry for entry in mortal.journal.entries() if entry.kind == "resume"] == []
    mortal.die()


class Late(SimulatedClock):
    """Sleeps half a second too long."""

    def sleep(self, seconds: float) -> None:
        self.at += seconds + 0.5


def test_a_persons_interrupt_ends_the_bench_and_not_only_a_simulated_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a world's driver runs: it comes out; a simulated one stays inside."""

    def interrupted(self: Driver) -> State:
        del self
        raise KeyboardInterrupt

    monkeypatch.setattr(Driver, "ramp", interrupted)
    with pytest.raises(KeyboardInterrupt):
        SimulatedWorld(1).run()
