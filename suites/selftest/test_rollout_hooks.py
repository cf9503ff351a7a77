"""Hooks in the driver: a stage waits for the one before it, guardrails watch meanwhile, and nothing told changes it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest
from doubles import PlainRouter, SimulatedClock

from harness.adapters.evidence_files import EvidenceFiles
from harness.adapters.journal import SqliteJournal
from harness.model.errors import EnvironmentProblem
from harness.model.event import Event, Noted
from harness.model.evidence import Evidence
from harness.model.hook import AFTER, BEFORE, NOTIFY, Delivered, Delivery
from harness.model.judgement import Judgement
from harness.model.plan import OnInconclusive, Stage, StagePlan
from harness.model.status import Cause, Decision, Status
from harness.planning.resume import left_by
from harness.planning.rollout import Phase, State
from harness.ports import Entry
from harness.run.driver import Driver, Parts

pytestmark = pytest.mark.selftest

PLAN = StagePlan(
    name="t",
    stages=tuple(Stage(id=f"{s:g}", share=s, min_bake_s=2, max_bake_s=4) for s in (10, 50, 100)),
    warmup_s=0,
    settle_s=0.5,
    deadline_s=60,
    patience_s=2,
    holdout=0,
)
NEVER = 1e9
Answer = tuple[float, bool, str]


@dataclass
class Judge:
    """Passes, until it is told to say something else."""

    says: Callable[[str], Status] = lambda _stage: Status.PASS

    def observe(self, records: Sequence[Evidence]) -> None:
        pass

    def look(self, *, at: float, stage: str, final: bool) -> tuple[Judgement, ...]:  # noqa: ARG002
        return (Judgement(id="x.errors", status=self.says(stage), requirement="", source="client", reason="as told"),)


@dataclass
class PlannedHooks:
    """Hooks whose answers come after a while of simulated time: (seconds, ok, words) by the delivery's id."""

    clock: SimulatedClock
    plan: Callable[[Delivery], Answer] = lambda _one: (0.0, True, "status 204")
    names: frozenset[str] = frozenset({BEFORE, AFTER, NOTIFY})
    rollout: str = "r1"
    sent: list[Delivery] = field(default_factory=list[Delivery])
    under_way: list[tuple[float, Delivered]] = field(default_factory=list[tuple[float, Delivered]])

    @property
    def asks(self) -> bool:
        return BEFORE in self.names

    def has(self, hook: str) -> bool:
        return hook in self.names

    def send(self, delivery: Delivery) -> None:
        if self.has(delivery.hook):
            self.sent.append(delivery)
            seconds, ok, said = self.plan(delivery)
            due = self.clock.monotonic() + seconds
            self.under_way.append((due, Delivered(id=delivery.id, hook=delivery.hook, ok=ok, said=said)))

    def collect(self) -> Sequence[Delivered]:
        now = self.clock.monotonic()
        found = [one for due, one in self.under_way if due <= now]
        self.under_way = [pair for pair in self.under_way if pair[0] > now]
        return found

    def finish(self) -> Sequence[Delivered]:
        found = [replace(one, ok=one.ok and due < NEVER) for due, one in self.under_way]
        self.under_way = []
        return found

    def kinds(self) -> list[str]:
        return [one.id.removeprefix("r1/") for one in self.sent]


class Kept:
    """A sink that keeps notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def emit(self, event: Event) -> None:
        if isinstance(event, Noted):
            self.notes.append(event.text)

    def close(self) -> None:
        pass


@dataclass
class Rig:
    """A driver over a folder; `again` is the next process on the same disk."""

    folder: Path
    plan: StagePlan = PLAN
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    router: PlainRouter = field(default_factory=PlainRouter)
    judge: Judge = field(default_factory=Judge)
    hooks: PlannedHooks = field(init=False)
    sink: Kept = field(default_factory=Kept)
    orders: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])

    def __post_init__(self) -> None:
        self.hooks = PlannedHooks(self.clock)
        self._open: list[SqliteJournal | EvidenceFiles] = []
        sleep, start = self.clock.sleep, self.clock.at

        def slept(seconds: float) -> None:
            sleep(seconds)
            while self.orders and self.clock.at - start >= self.orders[0][0]:
                _, verb = self.orders.pop(0)
                self.journal.append("order", {"verb": verb}, why="as asked")

        self.clock.sleep = slept  # type: ignore[method-assign]

    def driver(self, **more: object) -> Driver:
        self.journal = SqliteJournal(
            self.folder / "journal.sqlite", who="driver:test", clock=self.clock, rollout="r1", scope="search"
        )
        self.journal._db.execute("pragma synchronous=off")  # noqa: SLF001 - nobody cuts this machine's power
        store = EvidenceFiles(self.folder / "evidence")
        self._open += [self.journal, store]
        parts = Parts(
            router=self.router,
            journal=self.journal,
            judge=self.judge,
            store=store,
            clock=self.clock,
            sink=self.sink,
            hooks=self.hooks,
        )
        return Driver(self.plan, replace(parts, **more))

    def run(self, **more: object) -> State:
        driver = self.driver(**more)
        self.journal.fence()
        self.journal.append("rollout", {"feature": "search", "base": 0, "goal": 100})
        driver.ramp()
        return self.end(driver)

    def again(self) -> State:
        driver = self.driver()
        left = left_by((entry.kind, entry.what) for entry in self.journal.entries())
        assert left is not None
        driver.resume(left)
        driver.ramp()
        return self.end(driver)

    def end(self, driver: Driver) -> State:
        state = driver.state
        assert state.decision is not None
        assert state.cause is not None
        driver.end_hooks(state.decision, state.cause, state.reason)
        return state

    def entries(self, *kinds: str) -> list[Entry]:
        assert self.journal.broken_link() is None
        return [entry for entry in self.journal.entries() if not kinds or entry.kind in kinds]

    def close(self) -> None:
        for one in self._open:
            one.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A rig whose release is good and whose hooks allow all."""
    made = Rig(tmp_path)
    yield made
    made.close()


def test_each_stage_is_asked_for_first_and_told_of_afterwards(rig: Rig) -> None:
    """Before 10, 50 and 100, after each, and the begin and the end: in order, each once, each journaled twice."""
    state = rig.run()
    assert (state.decision, rig.router.history) == (Decision.PROMOTE, [1000, 5000, 10000])
    assert rig.hooks.kinds() == [
        "notify/began",
        "before/10",
        "before/50",
        "after/10",
        "before/100",
        "after/50",
        "after/100",
        "notify/ended",
    ]
    told = [str(entry.what["id"]) for entry in rig.entries("hook")]
    assert told == [one.id for one in rig.hooks.sent]
    assert sorted(told) == sorted(str(entry.what["id"]) for entry in rig.entries("hooked"))
    order = [(entry.kind, entry.what.get("id") or entry.what.get("to")) for entry in rig.entries()]
    for share, name in ((10, "10"), (50, "50"), (100, "100")):
        assert order.index(("hook", f"r1/before/{name}")) < order.index(("hooked", f"r1/before/{name}"))
        assert order.index(("hooked", f"r1/before/{name}")) < order.index(("intent", float(share)))


def test_a_stage_does_not_bake_longer_for_a_hook_that_answers_at_once(rig: Rig, tmp_path: Path) -> None:
    """With hooks and without: the same moves, not more than two looks a stage apart."""
    rig.run()
    with_hooks = rig.clock.at
    (tmp_path / "plain").mkdir()
    plain = Rig(tmp_path / "plain")
    plain.run(hooks=None)
    plain.close()
    assert with_hooks - plain.clock.at < 2 * len(PLAN.stages) * PLAN.look_s


@pytest.mark.parametrize("choice", OnInconclusive)
def test_a_failing_hook_holds_until_the_deadline_and_then_the_plan_chooses(rig: Rig, choice: OnInconclusive) -> None:
    """The hook before 50 says 500 for ever: 10 % stays, it is asked again under one id, and the plan ends it."""
    rig.plan = replace(PLAN, on_inconclusive=choice)
    rig.hooks.plan = lambda one: (0.5, one.id != "r1/before/50", "status 500")
    began = rig.clock.at
    state = rig.run()
    assert rig.clock.at - began >= PLAN.deadline_s - 1
    held = choice is OnInconclusive.HOLD
    assert (state.decision, state.cause) == (Decision.HOLD if held else Decision.ROLLBACK, Cause.ENVIRONMENT)
    assert rig.router.history == [1000] if held else [1000, 0]
    assert "the hook before stage 50 does not allow it: status 500" in state.reason
    asked = [one for one in rig.hooks.sent if one.id == "r1/before/50"]
    assert 5 <= len(asked) <= 15
    assert rig.hooks.kinds().count("notify/waiting-50") == 1
    assert any("hook before failed" in note for note in rig.sink.notes)


def test_a_hook_that_hangs_holds_too_and_the_driver_goes_on_looking(rig: Rig) -> None:
    """No answer at all: the candidate stays at 10 %, the judge looks every second, the deadline ends it."""
    looks: list[float] = []

    def says(_stage: str) -> Status:
        looks.append(rig.clock.at)
        return Status.PASS

    rig.judge.says = says
    rig.hooks.plan = lambda one: (NEVER if one.id == "r1/before/50" else 0, True, "late")
    state = rig.run()
    assert (state.decision, rig.router.history) == (Decision.ROLLBACK, [1000, 0])
    assert "gave no answer" in state.reason
    assert max(later - one for one, later in pairwise(looks)) < 2
    (outcome,) = [entry for entry in rig.entries("hooked") if entry.what["id"] == "r1/before/50"]
    assert outcome.what["ok"] is False


def test_a_hook_that_allows_late_lets_the_stage_begin_then(rig: Rig) -> None:
    """30 s of no, then yes: promoted, and the last word counts."""
    since = rig.clock.at
    rig.hooks.plan = lambda one: (0.1, one.id != "r1/before/50" or rig.clock.at > since + 30, "status")
    state = rig.run()
    assert (state.decision, rig.router.history) == (Decision.PROMOTE, [1000, 5000, 10000])
    assert rig.clock.at - since > 30


WAITS: dict[str, tuple[Callable[[Delivery], Answer], list[tuple[float, str]]]] = {
    "baking": (lambda _one: (0, True, "ok"), []),
    "paused by the operator": (lambda _one: (0, True, "ok"), [(2.5, "pause")]),
    "waiting while a hook hangs": (lambda one: (NEVER if one.id == "r1/before/50" else 0, True, "ok"), []),
    "waiting while a hook refuses": (lambda one: (0, one.id != "r1/before/50", "status 403"), []),
    "paused while a hook hangs": (
        lambda one: (NEVER if one.id == "r1/before/50" else 0, True, "ok"),
        [(6, "pause")],
    ),
}


@pytest.mark.covers("rf.rollout.behaviour", level="simulated")
@pytest.mark.parametrize("case", WAITS)
def test_a_breach_brings_traffic_back_at_the_next_look_wherever_the_rollout_waits(rig: Rig, case: str) -> None:
    """Planted at second 12, or while 10 % bakes: back at 0 within two looks, by the release's fault."""
    rig.hooks.plan, rig.orders = WAITS[case]
    since = rig.clock.at
    breach = 1.5 if case == "baking" else 12
    rig.judge.says = lambda _stage: Status.FAIL if rig.clock.at - since > breach else Status.PASS
    state = rig.run()
    assert (state.decision, state.cause, rig.router.limit) == (Decision.ROLLBACK, Cause.RELEASE, 0)
    assert rig.router.history == [1000, 0]
    assert rig.clock.at - since < breach + 3


def test_a_breach_before_the_first_stage_gives_no_traffic_at_all(rig: Rig) -> None:
    """The first hook hangs and the candidate fails: the rollout ends, and nobody was ever sent there."""
    rig.hooks.plan = lambda one: (NEVER if one.hook == BEFORE else 0, True, "ok")
    rig.judge.says = lambda _stage: Status.FAIL
    state = rig.run()
    assert (state.decision, state.cause, set(rig.router.history)) == (Decision.ROLLBACK, Cause.RELEASE, {0})


ORDERS: dict[str, tuple[list[tuple[float, str]], Decision, list[int]]] = {
    "promote passes the hook over": ([(10, "promote")], Decision.PROMOTE, [1000, 5000, 10000]),
    "hold": ([(10, "hold")], Decision.HOLD, [1000]),
    "abort": ([(10, "abort")], Decision.ROLLBACK, [1000, 0]),
    "pause, then promote, twice": (
        [(10, "pause"), (15, "promote"), (20, "promote")],
        Decision.PROMOTE,
        [1000, 5000, 10000],
    ),
}


@pytest.mark.parametrize("case", ORDERS)
def test_the_operators_hand_reaches_a_rollout_that_waits_for_a_hook(rig: Rig, case: str) -> None:
    """The hook before 50 hangs for ever; the operator's word is taken all the same."""
    rig.orders, decision, moves = ORDERS[case]
    rig.orders = list(rig.orders)
    rig.hooks.plan = lambda one: (NEVER if one.id == "r1/before/50" else 0, True, "ok")
    state = rig.run()
    assert (state.decision, rig.router.history) == (decision, moves)


FIRST: dict[str, tuple[list[tuple[float, str]], Decision, list[int]]] = {
    "promote": ([(3, "promote")], Decision.PROMOTE, [1000, 5000, 10000]),
    "hold": ([(3, "hold")], Decision.HOLD, []),
    "pause until the deadline": ([(3, "pause")], Decision.ROLLBACK, [0]),
    "pause, promote, promote": ([(3, "pause"), (6, "promote"), (9, "promote")], Decision.PROMOTE, [1000, 5000, 10000]),
}


@pytest.mark.parametrize("case", FIRST)
def test_the_operators_hand_before_the_first_stage(rig: Rig, case: str) -> None:
    """The first hook hangs: nothing has moved yet, and each word ends where it says."""
    rig.orders, decision, moves = FIRST[case]
    rig.orders = list(rig.orders)
    rig.hooks.plan = lambda one: (NEVER if one.id == "r1/before/10" else 0, True, "ok")
    state = rig.run()
    assert (state.decision, rig.router.history) == (decision, moves)


def test_what_only_tells_changes_nothing_when_it_fails(rig: Rig) -> None:
    """After-hooks and notifications answer 500, or nothing: promoted all the same, told and journaled."""
    rig.hooks.plan = lambda one: (NEVER if one.hook == NOTIFY else 0, one.hook == BEFORE, "status 500")
    state = rig.run()
    assert (state.decision, rig.router.history) == (Decision.PROMOTE, [1000, 5000, 10000])
    failed = {str(entry.what["hook"]) for entry in rig.entries("hooked") if not entry.what["ok"]}
    assert failed == {AFTER, NOTIFY}
    assert any("hook after failed (r1/after/10): status 500" in note for note in rig.sink.notes)


def test_a_hook_alone_that_tells_lets_nothing_wait(rig: Rig) -> None:
    """Without a hook before, no stage waits."""
    rig.hooks.names = frozenset({NOTIFY})
    state = rig.run()
    assert state.decision is Decision.PROMOTE
    assert rig.hooks.kinds() == ["notify/began", "notify/ended"]
    assert not any(entry.what.get("phase") == Phase.WAITING for entry in rig.entries("state"))


def test_what_cannot_be_journaled_is_not_told_and_nothing_waits_for_it(rig: Rig) -> None:
    """The disk is full for what tells: promoted; for a hook before, the way is back: intent comes before the act."""
    driver = rig.driver()
    append = rig.journal.append

    def full(kind: str, what: Mapping[str, object], *, why: str = "", evidence: str = "") -> Entry:
        if kind == "hook" and what["hook"] != BEFORE:
            raise EnvironmentProblem("disk full")
        return append(kind, what, why=why, evidence=evidence)

    rig.journal.append = full  # type: ignore[method-assign]
    driver.ramp()
    assert rig.end(driver).decision is Decision.PROMOTE
    assert {one.hook for one in rig.hooks.sent} == {BEFORE}


def test_an_answer_that_cannot_be_journaled_lets_no_stage_begin(rig: Rig) -> None:
    """The disk is full when the hook before 50 says yes: it is asked again, and its next yes counts."""
    driver = rig.driver()
    append = rig.journal.append
    failed: list[str] = []

    def full(kind: str, what: Mapping[str, object], *, why: str = "", evidence: str = "") -> Entry:
        if kind == "hooked" and what["id"] == "r1/before/50" and not failed:
            failed.append(kind)
            raise EnvironmentProblem("disk full")
        return append(kind, what, why=why, evidence=evidence)

    rig.journal.append = full  # type: ignore[method-assign]
    driver.ramp()
    assert rig.end(driver).decision is Decision.PROMOTE
    assert rig.hooks.kinds().count("before/50") == 2
    kinds = [(entry.kind, entry.what.get("id", entry.what.get("to"))) for entry in rig.entries()]
    assert kinds.index(("hooked", "r1/before/50")) < kinds.index(("intent", 50.0))


class CrashError(BaseException):
    """The process is gone."""


def test_killed_at_every_hook_the_next_process_tells_the_same_under_the_same_id(tmp_path: Path) -> None:
    """Enumerated on both sides of every journal write and every sending: no fact lost, none under two ids."""
    short = replace(PLAN, stages=tuple(replace(PLAN.stages[i], min_bake_s=0) for i in (0, 2)))
    calm = Rig(tmp_path, short)
    calm.run()
    wanted, moves = set(calm.hooks.kinds()), calm.router.history
    points = 2 * len(calm.entries()) + len(calm.hooks.sent)
    bodies = {one.id: one.body for one in calm.hooks.sent}
    calm.close()
    for at in range(1, points + 1):
        folder = tmp_path / str(at)
        folder.mkdir()
        rig = Rig(folder, short)
        state = crashing(rig, at)
        if state is None:
            left = left_by((entry.kind, entry.what) for entry in rig.entries())
            if left is None or left.finished:
                rig.close()
                continue
            rig.orders = []
            state = rig.again()
        assert (at, state.decision) == (at, Decision.PROMOTE)
        heard = {one.id.removeprefix("r1/") for one in rig.hooks.sent}
        assert (at, wanted - heard - {"notify/began"}) == (at, set())
        assert (at, heard - wanted) == (at, set())
        for one in rig.hooks.sent:
            told, before = cast("dict[str, object]", one.body), bodies[one.id]
            assert (at, told["type"], told.get("stage")) == (at, before["type"], before.get("stage"))
        assert (at, [one for i, one in enumerate(rig.router.history) if one not in rig.router.history[:i]]) == (
            at,
            moves,
        )
        rig.close()


def crashing(rig: Rig, at: int) -> State | None:
    """Run a process that dies at its point `at`; None where it did."""
    driver = rig.driver()
    passed = 0

    def point() -> None:
        nonlocal passed
        passed += 1
        if passed == at:
            raise CrashError

    append, send = rig.journal.append, rig.hooks.send

    def fused(kind: str, what: Mapping[str, object], *, why: str = "", evidence: str = "") -> Entry:
        point()
        entry = append(kind, what, why=why, evidence=evidence)
        point()
        return entry

    def sending(one: Delivery) -> None:
        send(one)
        point()

    rig.journal.append = fused  # type: ignore[method-assign]
    rig.hooks.send = sending  # type: ignore[method-assign]
    try:
        rig.journal.fence()
        rig.journal.append("rollout", {"feature": "search", "base": 0, "goal": 100})
        driver.ramp()
        return rig.end(driver)
    except CrashError:
        return None
    finally:
        rig.hooks.send = send  # type: ignore[method-assign]
        rig.hooks.under_way = []
        rig.router.drop_lease()


def test_a_process_that_waits_and_dies_asks_again_under_the_same_id(rig: Rig) -> None:
    """Killed while the hook before 50 hangs at 10 %: the next bakes 10 % anew, asks again, and goes on."""
    rig.hooks.plan = lambda one: (NEVER if one.id == "r1/before/50" else 0, True, "ok")
    driver = rig.driver()
    rig.journal.append("rollout", {"feature": "search", "base": 0, "goal": 100})
    sleep = rig.clock.sleep

    def die(seconds: float) -> None:
        sleep(seconds)
        if driver.state.phase is Phase.WAITING and driver.state.index == 0:
            raise CrashError

    rig.clock.sleep = die  # type: ignore[method-assign]
    with pytest.raises(CrashError):
        driver.ramp()
    rig.clock.sleep = sleep  # type: ignore[method-assign]
    rig.hooks.under_way = []
    rig.hooks.plan = lambda _one: (0, True, "ok")
    state = rig.again()
    assert state.decision is Decision.PROMOTE
    assert rig.hooks.kinds().count("before/50") == 2
    assert rig.hooks.kinds().count("before/10") == 1


def test_a_parent_lowered_during_the_rollout_ends_the_way_up(rig: Rig) -> None:
    """Planted at 10 %: the parent is worth 20 % from then on, so 50 is refused at that moment, and it goes back."""
    worth = {"parent": 100.0}

    def refuses(share: float) -> str:
        if rig.router.limit == 1000:
            worth["parent"] = 20.0
        return f"its parent is effective at {worth['parent']:g} %" if share > worth["parent"] else ""

    state = rig.run(refuses=refuses)
    assert (state.decision, state.cause) == (Decision.ROLLBACK, Cause.ENVIRONMENT)
    assert rig.router.history == [1000, 0]
    assert "its parent is effective at 20 %" in state.reason
    assert [entry.what["to"] for entry in rig.entries("intent")] == [10.0, 0.0]


def test_where_nobody_can_tell_whether_a_raise_may_be_made_it_is_not_made(rig: Rig) -> None:
    """The live flags cannot be read: nothing goes up."""

    def refuses(_share: float) -> str:
        raise EnvironmentProblem("the flags are away")

    state = rig.run(refuses=refuses)
    assert (state.decision, set(rig.router.history)) == (Decision.ROLLBACK, {0})
    assert "the flags are away" in state.reason


def test_a_journal_of_before_hooks_can_be_resumed_with_them(rig: Rig) -> None:
    """Its states know nothing of hooks: what was entered is not asked for, what comes next is."""
    driver = rig.driver(hooks=None)
    rig.journal.append("rollout", {"feature": "search", "base": 0, "goal": 100})
    append = rig.journal.append

    def older(kind: str, what: Mapping[str, object], *, why: str = "", evidence: str = "") -> Entry:
        kept = {name: value for name, value in what.items() if name not in {"allowed", "refused_at"}}
        return append(kind, kept, why=why, evidence=evidence)

    rig.journal.append = older  # type: ignore[method-assign]
    sleep = rig.clock.sleep

    def die(seconds: float) -> None:
        sleep(seconds)
        if rig.router.limit == 5000:
            raise CrashError

    rig.clock.sleep = die  # type: ignore[method-assign]
    with pytest.raises(CrashError):
        driver.ramp()
    rig.clock.sleep = sleep  # type: ignore[method-assign]
    state = rig.again()
    assert state.decision is Decision.PROMOTE
    assert [kind for kind in rig.hooks.kinds() if kind.startswith(BEFORE)] == ["before/100"]
