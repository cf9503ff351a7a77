"""The driver's loop, with a simulated clock, a scripted judge and a real journal."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest
from doubles import PlainRouter, SimulatedClock

from harness.adapters.evidence_files import EvidenceFiles, read_evidence, read_looks
from harness.adapters.journal import SqliteJournal
from harness.model.errors import EnvironmentProblem
from harness.model.event import Event, TrafficMoved
from harness.model.evidence import Arm, Evidence, Kind, Source
from harness.model.judgement import Judgement
from harness.model.plan import Stage, StagePlan
from harness.model.status import Cause, Decision, Status
from harness.planning.rollout import Phase
from harness.ports import LoadHealth
from harness.run.driver import Driver, Parts

pytestmark = pytest.mark.selftest

PLAN = StagePlan(
    name="t",
    stages=tuple(Stage(id=f"{s:g}", share=s, min_bake_s=2, max_bake_s=4) for s in (10, 50, 100)),
    warmup_s=2,
    settle_s=0.5,
    deadline_s=60,
    patience_s=2,
)


PROBED = Evidence(kind=Kind.EVENTS, source=Source.PROBE, signal="health.x", start_s=0.0, end_s=0.0, n=1)


@dataclass
class ScriptedJudge:
    """Says what it is told, look by look, then repeats its last word."""

    statuses: Iterator[Status]
    said: Status = Status.PASS
    seen: int = 0

    def observe(self, records: Sequence[Evidence]) -> None:
        self.seen += len(records)

    def look(self, *, at: float, stage: str, final: bool) -> tuple[Judgement, ...]:  # noqa: ARG002
        if stage != "warmup":
            self.said = next(self.statuses, self.said)
        return (Judgement(id="x.errors", status=self.said, requirement="", source="client", reason="as told"),)


@dataclass
class SteadyLoad:
    """One latency record a second and arm."""

    clock: SimulatedClock
    since: float = 0.0
    stopped: bool = False

    def start(self) -> None:
        self.since = self.clock.now()

    def collect(self) -> Sequence[Evidence]:
        found: list[Evidence] = []
        while self.since + 1 <= self.clock.now():
            found += [
                Evidence(
                    kind=Kind.HISTOGRAM,
                    source=Source.CLIENT,
                    signal="x.latency",
                    arm=arm,
                    start_s=self.since,
                    end_s=self.since + 1,
                    n=5,
                    bounds=(0.1, 0.2),
                    counts=(4, 1, 0),
                )
                for arm in Arm
            ]
            self.since += 1
        return found

    def health(self) -> LoadHealth:
        return LoadHealth(running=not self.stopped)

    def stop(self) -> None:
        self.stopped = True

    def kill(self) -> None:
        self.stopped = True

    def stall(self, seconds: float) -> None:
        raise NotImplementedError


@dataclass
class PlainFlags:
    """Flags in memory."""

    values: dict[str, float] = field(default_factory=dict[str, float])

    def read(self) -> Mapping[str, float]:
        return self.values

    def set(self, name: str, percent: float) -> None:
        self.values[name] = percent


class Kept:
    """A sink that keeps events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        pass


@dataclass
class Rig:
    """A driver and everything round it."""

    driver: Driver
    router: PlainRouter
    flags: PlainFlags
    journal: SqliteJournal
    sink: Kept
    load: SteadyLoad


def make_rig(
    folder: Path, statuses: Sequence[Status], router: PlainRouter | None = None, plan: StagePlan = PLAN
) -> Rig:
    """Put a driver together over `folder`."""
    clock, flags, sink = SimulatedClock(), PlainFlags(), Kept()
    router = router or PlainRouter()
    load = SteadyLoad(clock)
    load.start()
    journal = SqliteJournal(folder / "journal.sqlite", who="driver:test", clock=clock)
    store = EvidenceFiles(folder / "evidence")
    _OPEN.append((journal, store))
    parts = Parts(
        router=router,
        journal=journal,
        judge=ScriptedJudge(iter(statuses)),
        store=store,
        clock=clock,
        sink=sink,
        load=load,
        flags=flags,
        feature="batch",
        latency_signal="x.latency",
    )
    return Rig(Driver(plan, parts), router, flags, journal, sink, load)


_OPEN: list[tuple[SqliteJournal, EvidenceFiles]] = []


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    """Close what the rigs of a test opened."""
    yield
    while _OPEN:
        journal, store = _OPEN.pop()
        journal.close()
        store.close()


def run(rig: Rig) -> None:
    """All of a rollout."""
    rig.driver.reconcile()
    rig.driver.warm_up()
    rig.driver.ramp()


def test_a_good_release_ends_at_everything_with_its_flag_in_step(tmp_path: Path) -> None:
    """Router and flag climb together through 10, 50, 95 to 100 %, and every move is journaled twice."""
    rig = make_rig(tmp_path, [Status.PASS])
    run(rig)
    assert rig.router.history == [0, 1000, 5000, 9500, 10000]
    assert rig.flags.values == {"batch": 100.0}
    kinds = [e.kind for e in rig.journal.entries() if e.kind not in {"state", "stage"}]
    assert kinds == ["intent", "outcome"] * 5 + ["finish"]
    assert rig.load.stopped


def test_without_a_holdout_the_last_stage_is_a_stage_of_its_own(tmp_path: Path) -> None:
    """A plan of holdout 0 bakes at 100 % and keeps a record of it, before the promotion is written down."""
    rig = make_rig(tmp_path, [Status.PASS], plan=replace(PLAN, holdout=0))
    run(rig)
    assert [record.share for record in rig.driver.records] == [10, 50, 100]
    assert rig.driver.records[-1].n_candidate > 0
    assert rig.router.limit == 10000


def test_intent_is_on_disk_before_the_router_is_told(tmp_path: Path) -> None:
    """A crash inside the router's call leaves the intent as the journal's last entry."""
    rig = make_rig(tmp_path, [Status.PASS])
    rig.driver.reconcile()

    def die(_limit: int) -> None:
        raise SystemExit(9)

    rig.router.set_limit = die  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        rig.driver.ramp()
    last = rig.journal.entries()[-1]
    assert (last.kind, last.what["to"]) == ("intent", 10.0)


@pytest.mark.parametrize("crash_at", range(10))
def test_after_a_crash_anywhere_the_next_driver_starts_from_the_baseline(tmp_path: Path, crash_at: int) -> None:
    """Ten crash points: the driver dies at its n-th act; the next one finds the truth and takes it back to 0."""
    rig = make_rig(tmp_path, [Status.PASS])
    acts = 0
    real_set, real_append = rig.router.set_limit, rig.journal.append

    def count() -> None:
        nonlocal acts
        acts += 1
        if acts == crash_at + 3:
            raise SystemExit(9)

    def set_limit(limit: int) -> None:
        real_set(limit)
        count()

    def append(kind: str, what: Mapping[str, object], *, why: str = "", evidence: str = "") -> object:
        count()
        return real_append(kind, what, why=why, evidence=evidence)

    rig.router.set_limit = set_limit  # type: ignore[method-assign]
    rig.journal.append = append  # type: ignore[method-assign,assignment]
    with pytest.raises(SystemExit):
        run(rig)
    rig.journal.close()
    after = make_rig(tmp_path, [Status.PASS], PlainRouter(limit=rig.router.limit))
    after.driver.reconcile()
    assert after.router.limit == 0
    assert after.journal.broken_link() is None


def test_a_failing_look_returns_traffic_and_flag_to_the_baseline(tmp_path: Path) -> None:
    """The release is named as the cause, and the stage record says that it failed."""
    rig = make_rig(tmp_path, [Status.PASS, Status.PASS, Status.PASS, Status.FAIL])
    run(rig)
    assert (rig.router.limit, rig.flags.values["batch"]) == (0, 0.0)
    assert (rig.driver.state.decision, rig.driver.state.cause) == (Decision.ROLLBACK, Cause.RELEASE)
    assert rig.driver.records[-1].status is Status.FAIL


def test_a_refused_move_is_retried_and_then_is_the_environments_fault(tmp_path: Path) -> None:
    """Two refusals are ridden out; a router that stays dead ends the rollout with cause environment."""
    rig = make_rig(tmp_path, [Status.PASS])
    rig.driver.reconcile()
    rig.router.refusals = 2
    rig.driver.ramp()
    assert rig.driver.state.decision is Decision.PROMOTE
    (tmp_path / "b").mkdir()
    dead = make_rig(tmp_path / "b", [Status.PASS])
    dead.driver.reconcile()
    dead.router.refusals = 10_000
    dead.driver.ramp()
    assert (dead.driver.state.phase, dead.driver.state.cause) == (Phase.DONE, Cause.ENVIRONMENT)


def test_an_interrupt_brings_the_traffic_back_before_it_goes_on(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a stage: 0 % first, then KeyboardInterrupt for the caller."""
    rig = make_rig(tmp_path, [Status.PASS])
    rig.driver.reconcile()
    clock = rig.driver.parts.clock
    assert isinstance(clock, SimulatedClock)
    end = clock.at + 3

    def sleep(seconds: float) -> None:
        clock.at += seconds
        if clock.at > end:
            raise KeyboardInterrupt

    clock.sleep = sleep  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        rig.driver.ramp()
    assert rig.router.limit == 0
    assert rig.driver.state.phase is Phase.DONE


def test_an_order_from_another_process_is_taken_at_the_next_look(tmp_path: Path) -> None:
    """`abort` written to the journal by an operator ends the rollout with cause operator."""
    rig = make_rig(tmp_path, [Status.PASS])
    rig.driver.reconcile()
    other = SqliteJournal(tmp_path / "journal.sqlite", who="operator:me", clock=SimulatedClock())
    other.append("order", {"verb": "abort"}, why="wrong build")
    other.close()
    rig.driver.ramp()
    assert (rig.router.limit, rig.driver.state.cause) == (0, Cause.OPERATOR)
    assert "wrong build" in rig.driver.state.reason


def test_evidence_of_a_transition_belongs_to_no_stage(tmp_path: Path) -> None:
    """Intervals that straddle a move carry stage "", all others the stage and share they lay in."""
    rig = make_rig(tmp_path, [Status.PASS])
    run(rig)
    moves = [e.at for e in rig.sink.events if isinstance(e, TrafficMoved)]
    records = [r for r in read_evidence(tmp_path) if r.signal == "x.latency"]
    assert {r.stage for r in records} >= {"warmup", "10", "50", "100"}
    for record in records:
        straddles = any(record.start_s - PLAN.settle_s < at < record.end_s for at in moves[1:])
        assert not (straddles and record.stage not in {"", "warmup"})
    assert {r.share for r in records if r.stage == "50"} == {0.5}
    looks = read_looks(tmp_path)
    assert looks[-1].final
    assert looks[-1].after == len(list(read_evidence(tmp_path)))


def test_traffic_goes_back_even_when_the_journal_can_no_longer_be_written(tmp_path: Path) -> None:
    """A disk that fills up in the middle of a stage ends at 0 % all the same, and says so."""
    rig = make_rig(tmp_path, [Status.PASS, Status.PASS])
    rig.driver.reconcile()
    real = rig.journal.append

    def append(kind: str, what: Mapping[str, object], *, why: str = "", evidence: str = "") -> object:
        if rig.router.limit == 5000:
            msg = "cannot write the journal: disk full"
            raise EnvironmentProblem(msg)
        return real(kind, what, why=why, evidence=evidence)

    rig.journal.append = append  # type: ignore[method-assign,assignment]
    rig.driver.ramp()
    assert rig.router.limit == 0
    assert (rig.driver.state.phase, rig.driver.state.cause) == (Phase.DONE, Cause.ENVIRONMENT)
    assert "disk full" in rig.driver.state.reason


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_defect_of_the_harness_brings_the_traffic_back(tmp_path: Path) -> None:
    """An exception that nobody foresaw, raised by a collector at 50 %, ends at 0 % because of the environment."""
    rig = make_rig(tmp_path, [Status.PASS])
    rig.driver.reconcile()
    real = rig.load.collect

    def collect() -> Sequence[Evidence]:
        if rig.router.limit == 5000:
            raise KeyError("nobody foresaw this")
        return real()

    rig.load.collect = collect  # type: ignore[method-assign]
    rig.driver.ramp()
    assert (rig.router.limit, rig.driver.state.cause) == (0, Cause.ENVIRONMENT)
    assert "KeyError" in rig.driver.state.reason


def test_a_way_back_that_the_router_refuses_drops_the_lease(tmp_path: Path) -> None:
    """The router takes no more orders at 50 %: the lease goes, which ends candidate traffic."""
    rig = make_rig(tmp_path, [Status.PASS])
    rig.driver.reconcile()
    real = rig.router.set_limit

    def set_limit(limit: int) -> None:
        if rig.router.limit == 5000:
            msg = "socket gone"
            raise EnvironmentProblem(msg)
        real(limit)

    rig.router.set_limit = set_limit  # type: ignore[method-assign]
    rig.driver.ramp()
    assert (rig.router.limit, rig.router.lease) == (5000, False)
    assert (rig.driver.state.decision, rig.driver.state.cause) == (Decision.ROLLBACK, Cause.ENVIRONMENT)


def test_a_router_that_does_not_go_back_at_the_start_gets_no_lease(tmp_path: Path) -> None:
    """A limit left over that cannot be reset ends before the lease would let candidate traffic through."""
    rig = make_rig(tmp_path, [Status.PASS], PlainRouter(limit=5000, refusals=100))
    with pytest.raises(EnvironmentProblem, match="does not go back"):
        rig.driver.reconcile()
    assert rig.router.lease is False


def test_an_abort_before_the_ramp_never_exposes_the_candidate(tmp_path: Path) -> None:
    """An order given during the warm-up is taken there: no request ever reaches the candidate."""
    rig = make_rig(tmp_path, [Status.PASS])
    rig.driver.reconcile()
    rig.journal.append("order", {"verb": "abort"}, why="not today")
    rig.driver.warm_up()
    rig.driver.ramp()
    assert set(rig.router.history) == {0}
    assert rig.driver.state.cause is Cause.OPERATOR


def test_probes_go_on_when_the_wall_clock_is_set_back(tmp_path: Path) -> None:
    """An hour back in the middle of a stage: probing follows the clock that never steps."""
    rig = make_rig(tmp_path, [Status.PASS])
    asked: list[float] = []

    class Counting:
        def collect(self) -> Sequence[Evidence]:
            asked.append(rig.driver.parts.clock.monotonic())
            return []

    rig.driver.parts = replace(rig.driver.parts, probes=Counting())
    rig.driver.reconcile()
    clock = rig.driver.parts.clock
    assert isinstance(clock, SimulatedClock)
    now = clock.now
    clock.now = lambda: now() - (3600 if rig.router.limit >= 5000 else 0)  # type: ignore[method-assign]
    rig.driver.ramp()
    assert rig.driver.state.phase is Phase.DONE
    assert max(later - one for one, later in pairwise(asked)) < 5
    assert len([at for at in asked if at > asked[0] + 4]) > 2


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0])
def test_evidence_stays_in_its_stage_when_the_wall_clock_is_set(step_s: float, tmp_path: Path) -> None:
    """An hour back or on at 50 %: load, which counts from its start, and probes, by the wall, fit each stage."""
    plan = replace(PLAN, stages=tuple(replace(stage, min_bake_s=6, max_bake_s=8) for stage in PLAN.stages))
    rig = make_rig(tmp_path, [Status.PASS], plan=plan)
    clock, now = rig.load.clock, rig.load.clock.now
    rig.load.clock = SimulatedClock()  # its own: it never asks what the wall clock says now
    rig.load.clock.now = clock.monotonic  # type: ignore[method-assign]
    clock.now = lambda: now() + (step_s if rig.router.limit >= 5000 else 0)  # type: ignore[method-assign]

    class Probing:
        def collect(self) -> Sequence[Evidence]:
            at = clock.now()
            return [replace(PROBED, start_s=at, end_s=at)]

    rig.driver.parts = replace(rig.driver.parts, probes=Probing())
    run(rig)
    assert [(stage.id, stage.n_candidate >= 20) for stage in rig.driver.records] == [
        (stage.id, True) for stage in plan.stages
    ]
    kept = list(read_evidence(tmp_path))
    stages = {stage.id: stage for stage in rig.driver.records}
    for source in (Source.CLIENT, Source.PROBE):
        placed = [one for one in kept if one.source is source and one.signal != "load"]
        assert {one.stage for one in placed} >= {"10", "50", "100"}
        for one in placed:
            if (stage := stages.get(one.stage)) is not None:
                assert stage.started_at <= one.start_s <= one.end_s <= stage.ended_at + 0.1
                assert one.share == stage.share / 100
    looks = [look.at for look in read_looks(tmp_path)]
    assert looks == sorted(looks)
