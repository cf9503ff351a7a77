"""The driver in a thousand simulated worlds full of faults; what is planted in it is found."""

import logging
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.bench.driver.bench import bench_driver
from harness.bench.driver.rules import Rule
from harness.bench.driver.runner import Result, chunks, worlds
from harness.bench.driver.traffic import SimulatedRouter
from harness.bench.driver.weather import Fault
from harness.bench.driver.world import World
from harness.cli.main import app
from harness.model.errors import EnvironmentProblem
from harness.planning import rollout
from harness.planning.resume import Left
from harness.run.driver import Driver

pytestmark = pytest.mark.selftest
WORLDS = 1_000


@pytest.fixture(scope="module")
def thousand() -> Result:
    """Return what the first thousand worlds came to."""
    return worlds(0, WORLDS)


def test_a_thousand_rollouts_hold_to_every_rule(thousand: Result) -> None:
    """Crashes, lost answers, full disks, frozen processes, operators: no rule is broken."""
    assert thousand.broken == []
    assert thousand.runs == WORLDS


def test_every_fault_was_really_hit_and_every_rule_really_checked(thousand: Result) -> None:
    """A fault that never strikes proves nothing; each place of a crash counts by itself."""
    struck = {fault for fault in Fault if any(hit.startswith(fault) for hit in thousand.hits)}
    assert struck == set(Fault)
    places = {hit for hit in thousand.hits if hit.startswith(Fault.CRASH)}
    assert len(places) >= 10
    assert {rule for rule in Rule if thousand.checks[rule]} == set(Rule)
    assert {end.split()[0] for end in thousand.ends} == {"promote", "hold", "rollback"}


def test_a_seed_replays_exactly() -> None:
    """Two worlds of one seed: the same steps at the same times."""
    for seed in range(60):
        one, two = (World(seed, tracing=True).run() for _ in range(2))
        assert one == two
        assert len(one.trace) > 5


class ActsFirst(Driver):
    """Planted: the router is told before the journal."""

    def _move(self, move: rollout.Move) -> rollout.Moved | rollout.MoveFailed:
        with suppress(EnvironmentProblem):
            self.parts.router.set_limit(round(move.share * 100))
        return super()._move(move)


class ForgetsTheLease(Driver):
    """Planted: a later process goes on without the lease."""

    def resume(self, left: Left) -> None:
        hold = self.parts.router.hold_lease
        self.parts.router.hold_lease = lambda: None  # type: ignore[method-assign]
        super().resume(left)
        self.parts.router.hold_lease = hold  # type: ignore[method-assign]


class LetsTheLeaseExpire(SimulatedRouter):
    """Planted: the lease is taken once and not renewed."""

    renews = False


class TakesItsWordForTheRouters(Driver):
    """Planted: after a crash the journal's intent is believed, the router is not asked."""

    def _stands(self, share: float) -> bool:  # noqa: ARG002
        return True


class TakesNoAnswerForNo(Driver):
    """Planted: a way back whose answers were lost counts as done."""

    def _move(self, move: rollout.Move) -> rollout.Moved | rollout.MoveFailed:
        answer = super()._move(move)
        if isinstance(answer, rollout.MoveFailed) and move.share == self.state.base:
            return rollout.Moved(at=answer.at, share=move.share)
        return answer


class ReadsNothingBack(SimulatedRouter):
    """Planted: what the router was told is what it has."""

    def read_back(self, limit: int) -> None:
        pass


class SkipsAStage(Driver):
    """Planted: the second stage is left out."""

    def _move(self, move: rollout.Move) -> rollout.Moved | rollout.MoveFailed:
        stages = self.plan.stages
        if len(stages) > 2 and move.stage == stages[1].id:
            self.state = rollout.replace(self.state, index=2)
            move = rollout.Move(share=rollout.stage_share(self.plan, stages[2]), stage=stages[2].id, why=move.why)
        return super()._move(move)


class HearsNobody(Driver):
    """Planted: orders are not read."""

    def _take_orders(self, *, only_abort: bool = False) -> None:
        pass


class LooksNowhere(Driver):
    """Planted: where the router is meanwhile is not asked."""

    def _elsewhere(self, intent: float | None = None) -> str:  # noqa: ARG002
        return ""


PLANTED: dict[str, tuple[type[Driver], type[SimulatedRouter], set[Rule]]] = {
    "acts before its intent": (ActsFirst, SimulatedRouter, {Rule.INTENT}),
    "lease not taken up by the next process": (ForgetsTheLease, SimulatedRouter, {Rule.LEASE, Rule.TRUTH}),
    "lease not renewed": (Driver, LetsTheLeaseExpire, {Rule.LEASE}),
    "weight not read again after a crash": (TakesItsWordForTheRouters, SimulatedRouter, {Rule.OUTCOME}),
    "weight not read again after a lost answer": (TakesNoAnswerForNo, SimulatedRouter, {Rule.AGREE}),
    "weight never read back": (Driver, ReadsNothingBack, {Rule.OUTCOME}),
    "a stage is skipped": (SkipsAStage, SimulatedRouter, {Rule.LADDER}),
    "orders are not heard": (HearsNobody, SimulatedRouter, {Rule.ABORT}),
    "a hand on the router is not seen": (LooksNowhere, SimulatedRouter, {Rule.HAND}),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_caught_within_some_hundred_worlds(bug: str) -> None:
    """Each by the rule that it breaks."""
    driver, router, wanted = PLANTED[bug]
    for seed in range(600):
        broken = {rule for rule, _ in World(seed, driver=driver, router=router).run().broken}
        if broken & wanted:
            return
    pytest.fail(f"{bug}: not caught")


def test_the_bench_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    """A stored chunk is not run again, one of other code is; the table names faults and rules."""
    said: list[str] = []
    tables = tmp_path / "tables"
    assert bench_driver(20, jobs=1, out=tmp_path / "out", tables=tables, echo=said.append) == 0
    (chunk,) = chunks(20, tmp_path / "out")
    kept = chunk.stored()
    assert kept is not None
    kept.ends = Counter({"marked": 20})
    chunk.store(kept)
    assert bench_driver(20, jobs=1, out=tmp_path / "out", tables=tables, echo=said.append) == 0
    text = (tables / "table.md").read_text(encoding="utf-8")
    assert "marked" in text
    assert all(rule in text for rule in Rule)
    chunk.path.write_text(chunk.path.read_text(encoding="utf-8").replace(chunk.stamp, "older"), encoding="utf-8")
    assert chunk.stored() is None


def test_a_broken_rule_fails_the_bench_and_names_its_seed(tmp_path: Path) -> None:
    """A stored failure: exit code 1, the seed to replay, a row in the table."""
    (chunk,) = chunks(20, tmp_path)
    chunk.store(Result(runs=20, failures=1, broken=[(7, "a rule", "what was found")]))
    said: list[str] = []
    assert bench_driver(20, jobs=1, out=tmp_path, tables=None, echo=said.append) == 1
    assert "--seed 7" in said[0]
    assert "| 7 | a rule | what was found |" in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_one_seed_is_shown_step_by_step() -> None:
    """`rollgate bench driver --seed 5`."""
    answer = CliRunner().invoke(app, ["bench", "driver", "--seed", "5"])
    assert answer.exit_code == 0
    assert "journal 1: rollout" in answer.output
    assert "every rule held" in answer.output


def test_simulated_rollouts_leave_the_log_as_it_was():
    """What is silenced meanwhile speaks again after them."""
    log = logging.getLogger("rollgate")
    level = log.level
    worlds(0, 1)
    assert log.level == level


@pytest.mark.parametrize("seed", [480938, 622442, 760185, 813663])
def test_what_broke_a_rule_once_in_a_million_holds(seed: int):
    """Ctrl-C while a held share is made to stay; a disk that is full just when a stage's record is written."""
    assert World(seed).run().broken == []
