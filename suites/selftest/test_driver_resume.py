"""A driver that dies anywhere, and the one that goes on: nothing twice, nothing lost, the same end."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from doubles import PlainRouter, SimulatedClock

from harness.adapters.evidence_files import EvidenceFiles
from harness.adapters.journal import SqliteJournal
from harness.model.errors import EnvironmentProblem, LostLeaseError
from harness.model.evidence import Evidence
from harness.model.judgement import Judgement
from harness.model.plan import Stage, StagePlan
from harness.model.status import Cause, Decision, Status
from harness.planning.resume import left_by
from harness.planning.rollout import Phase, State, towards
from harness.run.driver import Driver, Parts
from harness.run.sinks import Fanout

pytestmark = pytest.mark.selftest

PLAN = StagePlan(
    name="t",
    stages=tuple(Stage(id=f"{s:g}", share=s, min_bake_s=2, max_bake_s=4) for s in (10, 50, 100)),
    warmup_s=0,
    settle_s=0.5,
    deadline_s=60,
    patience_s=2,
)


class CrashError(BaseException):
    """The process is gone: nothing of it runs any more, no clean-up either."""


@dataclass
class Fuse:
    """Counts the points at which a process could die, and dies at one of them."""

    at: int = 10**9
    passed: int = 0

    def point(self) -> None:
        self.passed += 1
        if self.passed == self.at:
            raise CrashError


@dataclass
class StageJudge:
    """Fails from the stage `bad` on; "" for a release that passes."""

    bad: str = ""

    def observe(self, records: Sequence[Evidence]) -> None:
        pass

    def look(self, *, at: float, stage: str, final: bool) -> tuple[Judgement, ...]:  # noqa: ARG002
        status = Status.FAIL if stage == self.bad else Status.PASS
        return (Judgement(id="x.errors", status=status, requirement="", source="client", reason="as told"),)


@dataclass
class World:
    """What outlives a driver: the disk, the router, the flags, and the time."""

    folder: Path
    bad: str = ""
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    router: PlainRouter = field(default_factory=PlainRouter)
    flags: dict[str, float] = field(default_factory=lambda: {"batch": 0.0})
    plan: StagePlan = PLAN
    base: float = 0.0

    def driver(self, fuse: Fuse) -> "Mortal":
        """Return a new process's driver, which dies where `fuse` says."""
        return Mortal(self, fuse)


class FusedFlags:
    """Flags with a point of death on either side of each change."""

    def __init__(self, values: dict[str, float], fuse: Fuse) -> None:
        self._values, self._fuse = values, fuse

    def read(self) -> Mapping[str, float]:
        return dict(self._values)

    def set(self, name: str, percent: float) -> None:
        self._fuse.point()
        self._values[name] = percent
        self._fuse.point()


class FusedRouter:
    """The router behind points of death."""

    sticky = True

    def __init__(self, router: PlainRouter, fuse: Fuse) -> None:
        self._router, self._fuse = router, fuse
        self.read = router.read

    def set_limit(self, limit: int) -> None:
        self._fuse.point()
        self._router.set_limit(limit)
        self._fuse.point()

    def hold_lease(self) -> None:
        self._router.hold_lease()
        self._fuse.point()

    def drop_lease(self) -> None:
        self._router.drop_lease()


class Mortal:
    """One process: a driver over the world, with everything that dies with it."""

    def __init__(self, world: World, fuse: Fuse) -> None:
        self.world = world
        self.journal = SqliteJournal(
            world.folder / "journal.sqlite", who="driver:test", clock=world.clock, rollout="r1", scope="batch"
        )
        self.store = EvidenceFiles(world.folder / "evidence")
        append = self.journal.append

        def fused(kind: str, what: Mapping[str, object], *, why: str = "", evidence: str = "") -> object:
            fuse.point()
            entry = append(kind, what, why=why, evidence=evidence)
            fuse.point()
            return entry

        self.journal.append = fused  # type: ignore[method-assign,assignment]
        parts = Parts(
            router=FusedRouter(world.router, fuse),
            journal=self.journal,
            judge=StageJudge(world.bad),
            store=self.store,
            clock=world.clock,
            sink=Fanout([]),
            flags=FusedFlags(world.flags, fuse),
            feature="batch",
        )
        self.driver = Driver(world.plan, parts)

    def begin(self) -> State:
        """Start a rollout from its beginning."""
        base, goal = self.world.base, self.world.plan.stages[-1].share
        self.journal.fence()
        self.journal.append("rollout", {"feature": "batch", "base": base, "goal": goal})
        self.driver.state = State(base=base, share=base, goal=goal)
        self.driver.parts.router.hold_lease()
        return self.driver.ramp()

    def go_on(self) -> State:
        """Take up what another process left."""
        left = left_by((entry.kind, entry.what) for entry in self.journal.entries())
        if left is None:
            return self.begin()
        self.driver.resume(left)
        return self.driver.ramp()

    def die(self) -> None:
        """What the system does with a dead process: it closes its files, and its lease ends."""
        self.journal.close()
        self.store.close()
        self.world.router.drop_lease()


def live(world: World, act: Callable[[Mortal], State], at: int = 10**9) -> tuple[State | None, Fuse]:
    """Let one process act until it ends or dies at point `at`."""
    fuse = Fuse(at=at)
    mortal = None
    try:
        mortal = world.driver(fuse)
        return act(mortal), fuse
    except CrashError:
        return None, fuse
    finally:
        if mortal is not None:
            mortal.die()


def steps(world: World) -> list[float]:
    """Return the shares of the confirmed moves, in order, and hold the journal to its chain."""
    journal = SqliteJournal(world.folder / "journal.sqlite", who="test", clock=world.clock, rollout="r1")
    assert journal.broken_link() is None
    made = [float(str(e.what["to"])) for e in journal.entries() if e.kind == "outcome" and e.what["ok"]]
    journal.close()
    return made


def ends(state: State | None) -> tuple[Phase, Decision | None, Cause | None]:
    """Return how a rollout ended."""
    assert state is not None
    return state.phase, state.decision, state.cause


CASES = {
    "good": World(folder=Path(), bad=""),
    "bad at 50": World(folder=Path(), bad="50"),
    "from 25 to 60": World(
        folder=Path(), plan=towards(PLAN, 25, 60), base=25.0, router=PlainRouter(limit=2500), flags={"batch": 25.0}
    ),
    "bad from 25": World(
        folder=Path(), bad="50", plan=towards(PLAN, 25, 60), base=25.0, router=PlainRouter(limit=2500),
        flags={"batch": 25.0},
    ),
}  # fmt: skip


def fresh(case: str, folder: Path) -> World:
    """Return a case's world of its own."""
    told = CASES[case]
    folder.mkdir()
    return replace(
        told, folder=folder, clock=SimulatedClock(), router=PlainRouter(limit=told.router.limit), flags=dict(told.flags)
    )


@pytest.mark.parametrize("case", CASES)
def test_killed_at_every_point_a_rollout_ends_as_if_nothing_had_happened(case: str, tmp_path: Path) -> None:
    """Enumerated: every journal write and act, both sides of each; no step twice or lost, one end."""
    calm = fresh(case, tmp_path / "calm")
    state, fuse = live(calm, Mortal.begin)
    wanted, path = ends(state), steps(calm)
    assert fuse.passed > 30
    for at in range(1, fuse.passed + 1):
        world = fresh(case, tmp_path / f"{at}")
        died, _ = live(world, Mortal.begin, at)
        assert died is None
        state, _ = live(world, Mortal.go_on)
        assert (at, ends(state)) == (at, wanted)
        assert (at, steps(world)) == (at, path)
        assert world.router.limit == calm.router.limit
        assert world.flags == calm.flags


def test_killed_again_and_again_it_still_arrives(tmp_path: Path) -> None:
    """Every process dies a few points further on; each takes the rollout a little on."""
    world = fresh("good", tmp_path / "w")
    state, lives = None, 0
    while state is None and lives < 60:
        state, _ = live(world, Mortal.go_on if lives else Mortal.begin, at=6 + lives)
        lives += 1
    assert ends(state) == (Phase.DONE, Decision.PROMOTE, Cause.PROOF)
    assert lives > 3
    assert steps(world) == [10, 50, 95, 100]


def killed_while_baking(world: World, stage: str) -> None:
    """Kill the driver while it bakes a stage."""

    def watch(mortal: Mortal) -> State:
        sleep = world.clock.sleep

        def dying(seconds: float) -> None:
            if mortal.driver.state.phase is Phase.BAKING and mortal.driver.records[-1:] and (
                mortal.driver.plan.stages[mortal.driver.state.index].id == stage
            ):  # fmt: skip
                world.clock.sleep = sleep  # type: ignore[method-assign]
                raise CrashError
            sleep(seconds)

        world.clock.sleep = dying  # type: ignore[method-assign]
        return mortal.begin()

    state, _ = live(world, watch)
    assert state is None


def test_traffic_that_somebody_else_moved_meanwhile_is_not_pushed_up_again(tmp_path: Path) -> None:
    """An operator took the candidate to 0 by hand while the driver was dead: the rollout ends there and says so."""
    world = fresh("good", tmp_path / "w")
    killed_while_baking(world, "50")
    assert world.router.limit == 5000
    world.router.limit = 0
    world.router.history.clear()
    state, _ = live(world, Mortal.go_on)
    assert ends(state) == (Phase.DONE, Decision.ROLLBACK, Cause.ENVIRONMENT)
    assert state is not None
    assert "somebody else moved traffic" in state.reason
    assert set(world.router.history) == {0}
    assert world.flags["batch"] == 0


def test_a_stage_bakes_anew_after_a_crash_and_the_dead_time_does_not_count(tmp_path: Path) -> None:
    """Ten hours dead in the middle of 50 %: neither a proven stage nor a missed deadline."""
    world = fresh("good", tmp_path / "w")
    killed_while_baking(world, "50")
    world.clock.at += 36_000
    before = world.clock.at
    state, _ = live(world, Mortal.go_on)
    assert ends(state) == (Phase.DONE, Decision.PROMOTE, Cause.PROOF)
    assert world.clock.at - before > 2 * PLAN.stages[0].min_bake_s


def test_a_rollout_that_had_ended_is_not_begun_again(tmp_path: Path) -> None:
    """`--resume` after the end changes nothing."""
    world = fresh("bad at 50", tmp_path / "w")
    live(world, Mortal.begin)
    path = steps(world)
    world.router.history.clear()
    state, _ = live(world, Mortal.go_on)
    assert ends(state) == (Phase.DONE, Decision.ROLLBACK, Cause.RELEASE)
    assert steps(world) == path
    assert world.router.history == []


def test_an_order_given_while_no_driver_lived_is_taken(tmp_path: Path) -> None:
    """An operator's abort in the journal: the next process brings the traffic back."""
    world = fresh("good", tmp_path / "w")
    killed_while_baking(world, "50")
    operator = SqliteJournal(world.folder / "journal.sqlite", who="operator:me", clock=world.clock, rollout="r1")
    operator.append("order", {"verb": "abort"}, why="wrong build")
    operator.close()
    state, _ = live(world, Mortal.go_on)
    assert ends(state) == (Phase.DONE, Decision.ROLLBACK, Cause.OPERATOR)
    assert world.router.limit == 0


def order(world: World, *verbs: str) -> None:
    """Leave an operator's orders in the journal."""
    operator = SqliteJournal(world.folder / "journal.sqlite", who="operator:me", clock=world.clock, rollout="r1")
    for verb in verbs:
        operator.append("order", {"verb": verb}, why="wrong build")
    operator.close()


@pytest.mark.parametrize("verbs", [("abort",), ("promote", "abort"), ("hold", "abort")])
def test_an_abort_comes_before_the_open_move_and_before_other_orders(verbs: tuple[str, ...], tmp_path: Path) -> None:
    """The driver dies between intent and act of a move up; with an abort in the journal nothing is raised any more."""
    for at in range(1, 60):
        world = fresh("good", tmp_path / f"{at}")
        state, _ = live(world, Mortal.begin, at)
        assert state is None
        order(world, *verbs)
        before = world.router.limit
        world.router.history.clear()
        state, _ = live(world, Mortal.go_on)
        if ends(state) == (Phase.DONE, Decision.PROMOTE, Cause.PROOF):  # the end was in the journal before
            assert world.router.history == []
        elif before or state is None or state.share:
            assert ends(state) == (Phase.DONE, Decision.ROLLBACK, Cause.OPERATOR)
            assert max(world.router.history, default=0) == 0


def test_every_stage_left_has_its_record_wherever_a_driver_dies(tmp_path: Path) -> None:
    """Each stage of a promoted rollout, none of a time before the rollout, none without a judgement."""
    _, fuse = live(fresh("good", tmp_path / "calm"), Mortal.begin)
    for at in range(1, fuse.passed + 1):
        world = fresh("good", tmp_path / f"{at}")
        live(world, Mortal.begin, at)
        live(world, Mortal.go_on)
        journal = SqliteJournal(world.folder / "journal.sqlite", who="test", clock=world.clock, rollout="r1")
        records = [entry.what for entry in journal.entries() if entry.kind == "stage"]
        journal.close()
        assert (at, {record["id"] for record in records}) == (at, {"10", "50", "100"})
        assert all(float(str(r["started_at"])) >= 1_000_000 and r["status"] == Status.PASS for r in records)


def test_a_way_back_that_fails_drops_the_lease_also_when_no_share_was_confirmed(tmp_path: Path) -> None:
    """The first move is made, its answer lost; then the router is gone: the lease must not be held any longer."""
    world = fresh("good", tmp_path / "w")
    mortal = world.driver(Fuse())

    def lost(limit: int) -> None:
        world.router.limit = limit or world.router.limit
        raise EnvironmentProblem("the router's answer is lost")

    mortal.driver.parts.router.set_limit = lost  # type: ignore[method-assign]
    state = mortal.begin()
    assert ends(state) == (Phase.DONE, Decision.ROLLBACK, Cause.ENVIRONMENT)
    assert world.router.limit == 1000
    assert not world.router.lease
    mortal.die()


def test_a_way_back_that_a_full_disk_kept_out_of_the_journal_is_not_forgotten(tmp_path: Path) -> None:
    """The state says 50 %, the last outcome says 0: the next process does not go up again."""
    world = fresh("good", tmp_path / "w")
    killed_while_baking(world, "50")
    world.router.limit, world.flags["batch"] = 0, 0.0
    world.router.history.clear()
    journal = SqliteJournal(world.folder / "journal.sqlite", who="driver:test", clock=world.clock, rollout="r1")
    journal.append("outcome", {"action": "move", "to": 0.0, "ok": True})
    journal.close()
    state, _ = live(world, Mortal.go_on)
    assert ends(state) == (Phase.DONE, Decision.ROLLBACK, Cause.ENVIRONMENT)
    assert set(world.router.history) <= {0}


def test_a_driver_overtaken_while_it_waits_to_try_again_moves_nothing_more(tmp_path: Path) -> None:
    """The router refuses once; in the wait before the second try another driver takes the next token."""
    world = fresh("good", tmp_path / "w")
    mortal = world.driver(Fuse())
    world.router.refusals = 1
    sleep = world.clock.sleep

    def slept(seconds: float) -> None:
        world.clock.sleep = sleep  # type: ignore[method-assign]
        other = SqliteJournal(
            world.folder / "journal.sqlite", who="driver:2", clock=world.clock, rollout="r1", scope="batch"
        )
        other.fence()
        other.close()
        sleep(seconds)

    world.clock.sleep = slept  # type: ignore[method-assign]
    with pytest.raises(LostLeaseError):
        mortal.begin()
    assert world.router.history == []
    mortal.die()


def test_of_two_drivers_the_older_one_moves_nothing_more(tmp_path: Path) -> None:
    """The one that is frozen while another takes over finds out at its next entry, and leaves everything alone."""
    world = fresh("good", tmp_path / "w")

    def overtaken(mortal: Mortal) -> State:
        sleep = world.clock.sleep

        def slept(seconds: float) -> None:
            sleep(seconds)
            if mortal.driver.state.index == 1:
                world.clock.sleep = sleep  # type: ignore[method-assign]
                other = SqliteJournal(
                    world.folder / "journal.sqlite", who="driver:2", clock=world.clock, rollout="r1", scope="batch"
                )
                other.fence()
                other.close()
                world.router.history.clear()

        world.clock.sleep = slept  # type: ignore[method-assign]
        return mortal.begin()

    with pytest.raises(LostLeaseError):
        live(world, overtaken)
    assert world.router.history == []


def test_drivers_of_other_scopes_do_not_exclude_each_other(tmp_path: Path) -> None:
    """Unrelated features in one journal: each has tokens of its own, and sees its own entries alone."""
    clock = SimulatedClock()
    one, two = (
        SqliteJournal(tmp_path / "j.sqlite", who=name, clock=clock, rollout=name, scope=name) for name in ("a", "b")
    )
    assert (one.fence(), two.fence(), two.fence()) == (1, 1, 2)
    one.append("intent", {"to": 10})
    two.append("intent", {"to": 50})
    assert [entry.what["to"] for entry in one.entries()] == [10]
    assert [entry.what["to"] for entry in two.entries()] == [50]
    assert one.broken_link() is None
    one.close()
    two.close()


def test_a_journal_of_a_newer_layout_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Layout 99: one clear error, and not a byte changed."""
    import sqlite3  # noqa: PLC0415 - this case alone

    path = tmp_path / "j.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("pragma user_version=99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(EnvironmentProblem, match="layout 99"):
        SqliteJournal(path, who="t", clock=SimulatedClock())
    assert path.read_bytes()[100:] == before[100:]


def test_evidence_that_a_crash_cut_short_is_gone_on_from(tmp_path: Path) -> None:
    """Half a line at the end: it is taken away, and the digest is that of what stands."""
    files = EvidenceFiles(tmp_path / "evidence")
    files.looked(at=1.0, stage="10", final=False)
    whole = files.digest()
    files.close()
    for name in ("judged.jsonl", "looks.jsonl"):
        with (tmp_path / "evidence" / name).open("ab") as file:
            file.write(b'{"half')
    again = EvidenceFiles(tmp_path / "evidence")
    again.looked(at=2.0, stage="10", final=False)
    assert again.digest() == whole
    again.close()
    assert (tmp_path / "evidence" / "looks.jsonl").read_text(encoding="utf-8").count("\n") == 2
    assert (tmp_path / "evidence" / "judged.jsonl").read_bytes() == b""


@pytest.mark.parametrize("base, goal, shares, holdout", [
    (0, 100, [10, 50, 100], 5), (0, 30, [10, 30], 0), (25, 60, [50, 60], 0), (50, 100, [100], 5), (10, 50, [50], 0),
    (95, 100, [100], 0), (0, 5, [5], 0),
])  # fmt: skip
def test_the_way_up_goes_through_the_plans_stages(base: float, goal: float, shares: list[float], holdout: float):
    """From where a feature stands to where it is wanted; what is held back at 100 % must leave a step to make."""
    way = towards(PLAN, base, goal)
    assert [stage.share for stage in way.stages] == shares
    assert way.holdout == holdout


@pytest.mark.parametrize("base, goal", [(50, 50), (50, 10), (-1, 10), (0, 101)])
def test_there_is_no_way_up_that_does_not_rise(base: float, goal: float) -> None:
    """Downward is one move, not a rollout."""
    with pytest.raises(ValueError, match="no way up"):
        towards(PLAN, base, goal)
