"""An operator's abort before the rollout is taken at once: nothing that comes later in the gate is begun."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
import test_driver as rigs
from doubles import SimulatedClock
from native_runs import ARMS, minimal

from harness.adapters.journal import SqliteJournal
from harness.judge.suites import judge_suites
from harness.model.judgement import ServiceRecord, Verdict
from harness.model.status import Cause, Decision, ExitCode, Status
from harness.ports import Case, InstanceState, Stack
from harness.run.driver import Driver
from harness.run.gate import Gate, Outside, Request, case_evidence

pytestmark = pytest.mark.selftest


class NoStack:
    """A stack without any service."""

    def records(self) -> Sequence[ServiceRecord]:
        return ()

    def instances(self) -> Sequence[InstanceState]:
        return ()


@dataclass
class Scene:
    """A gate over doubles, in which an order is given during the phase `when`."""

    folder: Path
    when: str
    verb: str = "abort"
    name: str = "scripted"
    begun: list[str] = field(default_factory=list[str])
    clock: SimulatedClock = field(default_factory=SimulatedClock)

    def up(self) -> Stack:
        self.reach("stack")
        return cast("Stack", NoStack())

    def down(self) -> None:
        self.reach("down")

    def run(self, stack: Stack, expression: str, *, stop: Callable[[], bool] = lambda: False) -> Sequence[Case]:
        del stack, expression
        self.reach("smoke")
        stopped = any(stop() for _ in range(3))
        self.begun += ["stopped"] * stopped
        return [Case(name="a", outcome="error" if stopped else "passed", covers=(), message="", seconds=0.0)]

    def reach(self, phase: str) -> None:
        """Note that a phase has begun, and give the order in the one that is asked for."""
        self.begun.append(phase)
        if phase == self.when:
            other = SqliteJournal(self.folder / "journal.sqlite", who="operator:me", clock=self.clock)
            other.append("order", {"verb": self.verb}, why="wrong build")
            other.close()

    def gate(self, rig: rigs.Rig) -> Gate:
        """Return the gate, whose driver is the rig's."""

        def connect(stack: Stack, on_stage: Callable[[str], None]) -> Driver:
            del stack, on_stage
            self.begun.append("connect")
            return rig.driver

        def write(verdict: Verdict, cases: Sequence[Case], tails: Mapping[str, str]) -> None:
            del verdict, cases, tails
            self.begun.append("report")

        request = Request(run_id="r", system=minimal(), plan=rigs.PLAN, arms=ARMS, out=self.folder, seed=1)
        outside = Outside(
            provider=self,
            connect=connect,
            journal=rig.journal,
            store=rig.driver.parts.store,
            clock=self.clock,
            sink=rig.sink,
            preflight=lambda: self.reach("preflight"),
            strike=lambda *_: None,
            gpu=lambda: (),
            write=write,
            suites=self,
        )
        return Gate(request, outside)


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    """Close what the rigs of a test opened."""
    yield from rigs.closing.__wrapped__()


ENDS = {
    "preflight": ["preflight", "down", "report"],
    "stack": ["preflight", "stack", "down", "report"],
    "smoke": ["preflight", "stack", "connect", "smoke", "stopped", "down", "report"],
}


@pytest.mark.parametrize("when", ENDS)
def test_an_abort_before_the_rollout_is_taken_in_its_phase(tmp_path: Path, when: str):
    """The suites are ended, later phases never begin, no traffic moves, and the verdict names the operator's reason."""
    rig = rigs.make_rig(tmp_path, [])
    scene = Scene(tmp_path, when)
    verdict = scene.gate(rig).go()
    assert scene.begun == ENDS[when]
    assert (verdict.decision, verdict.cause, verdict.exit_code) == (
        Decision.ROLLBACK,
        Cause.OPERATOR,
        ExitCode.NO_EVIDENCE,
    )
    assert "wrong build" in verdict.reason
    assert set(rig.router.history) <= {0}
    assert rig.router.lease is False


@pytest.mark.parametrize("shape", ["[{}]", "[app-{}]", "[{}-a word-x]"])
def test_a_case_that_bears_no_id_has_its_twin_on_the_other_arm(shape: str):
    """Broken on the candidate alone it is the release's; the same case on the baseline shows that the case is sound."""
    cases = [
        Case(name=f"t.py::t{shape.format(arm)}", outcome=outcome, covers=(), message="m", seconds=0.0, arm=arm)
        for arm, outcome in (("baseline", "passed"), ("candidate", "failed"))
    ]
    (judgement,) = judge_suites([record for case in cases for record in case_evidence(case, 1.0)])
    assert (judgement.status, judgement.n) == (Status.FAIL, 2)
    (alone,) = judge_suites(case_evidence(cases[1], 1.0))
    assert alone.status is Status.ERROR


def test_another_order_in_the_smoke_phase_ends_nothing(tmp_path: Path):
    """The negative control: a word that only a rollout can heed is left to the driver, and the gate goes on."""
    rig = rigs.make_rig(tmp_path, [])
    scene = Scene(tmp_path, "smoke", verb="pause")
    verdict = scene.gate(rig).go()
    assert "stopped" not in scene.begun
    assert verdict.decision is Decision.PROMOTE
    assert len(verdict.stages) == len(rigs.PLAN.stages)
