"""Stored runs with known truth: the real driver, judge and stores over a simulated stack, in simulated time."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from doubles import PlainRouter, SimulatedClock
from judge_streams import Truth, World

from harness import spec
from harness.adapters.evidence_files import EvidenceFiles, read_evidence
from harness.adapters.journal import SqliteJournal
from harness.judge.suites import judge_suites
from harness.model.evidence import Evidence, Source
from harness.model.judgement import Verdict, overall
from harness.model.plan import StagePlan
from harness.model.status import exit_code
from harness.model.system import System
from harness.paths import share_root
from harness.ports import LoadHealth, Sink
from harness.report.verdict_json import dumps
from harness.run.driver import Driver, Judging, Parts
from harness.run.sinks import Fanout
from harness.wiring.judging import keep_calibrations, kept_calibrations, known

SYSTEM = share_root() / "stack" / "systems" / "researchflow"


@dataclass
class WorldLoad:
    """Everything that the collectors would say, at the share that the router has."""

    world: World
    clock: SimulatedClock
    router: PlainRouter

    def start(self) -> None:
        pass

    def collect(self) -> Sequence[Evidence]:
        found: list[Evidence] = []
        while self.world.now + 1 <= self.clock.monotonic():
            found += self.world.second("", self.router.limit / 10_000)
        return found

    def health(self) -> LoadHealth:
        return LoadHealth(running=True)

    def stop(self) -> None:
        pass

    def kill(self) -> None:
        raise NotImplementedError

    def stall(self, seconds: float) -> None:
        raise NotImplementedError


def moment(at: float) -> str:
    """Write epoch seconds as RFC 3339."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def drive(
    folder: Path, plan: StagePlan, judge: Judging, world: World, clock: SimulatedClock, *, sinks: Sequence[Sink] = ()
) -> tuple[Driver, str]:
    """Run the real driver by `plan` over a simulated world; return it, over, and the evidence's digest."""
    router = PlainRouter()
    journal = SqliteJournal(folder / "journal.sqlite", who="driver:test", clock=clock)
    store = EvidenceFiles(folder / "evidence")
    parts = Parts(
        router=router,
        journal=journal,
        judge=judge,
        store=store,
        clock=clock,
        sink=Fanout(list(sinks)),
        load=WorldLoad(world, clock, router),
        latency_signal="query.latency.fine",
    )
    driver = Driver(plan, parts)
    try:
        driver.reconcile()
        driver.warm_up()
        driver.ramp()
        return driver, store.digest()
    finally:
        store.close()
        journal.close()


def store_run(
    folder: Path,
    truth: Truth,
    *,
    seed: int = 1,
    plan: str = "quick",
    root: Path = SYSTEM,
    at: str = "",
    machine: str = "",
) -> Verdict:
    """Run a rollout over simulated evidence and leave its folder as a gate on `machine` would; return its verdict."""
    system: System = spec.load_system(root)
    stages: StagePlan = next(p for p in system.plans if p.name == plan)
    folder.mkdir(parents=True)
    shutil.copytree(root, folder / "system")
    clock = SimulatedClock()
    started = at or moment(clock.at)
    noise = known(stages, kept_calibrations(system), started, machine=machine)
    keep_calibrations(noise, folder / "system")
    judge = noise.judge(system, stages)
    driver, digest = drive(folder, stages, judge, World(truth, stages.load_rate, seed), clock)
    state = driver.state
    assert state.decision is not None
    assert state.cause is not None
    smoke = judge_suites([record for record in read_evidence(folder) if record.source is Source.SUITE])
    ids = {one.id for one in smoke}
    judgements = (*(one for one in driver.judgements if one.id not in ids), *smoke)
    verdict = Verdict(
        run_id=folder.name,
        system=system.name,
        baseline="baseline 1",
        candidate="candidate 2",
        decision=state.decision,
        cause=state.cause,
        status=overall(judgements),
        exit_code=exit_code(state.decision, state.cause),
        rehearsal=stages.time_scale != 1,
        plan=stages.name,
        started_at=started,
        finished_at=started,
        evidence_digest=digest,
        reason=state.reason,
        claims=(*stages.claims, *judge.claims),
        stages=tuple(driver.records),
        judgements=judgements,
        time_scale=stages.time_scale,
        seed=seed,
        provider="simulated",
    )
    (folder / "verdict.json").write_text(dumps(verdict), encoding="utf-8")
    return verdict
