"""Simulated rollouts with known truth: evidence as the collectors would hand it over, by seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
import yaml

from harness.adapters.load.intervals import FINE_BOUNDS_S
from harness.judge import Judge
from harness.model.evidence import Arm, Evidence, Kind, Source, Unit
from harness.model.judgement import Judgement
from harness.model.objective import Measure, Objective
from harness.model.plan import Stage, StagePlan
from harness.model.status import Cause, Decision
from harness.paths import share_root
from harness.planning import rollout
from harness.spec import build
from harness.spec.schema import ObjectivesFile, RolloutFile

COARSE_S = tuple(b / 1000 for b in (5, 10, 20, 50, 100, 200, 500, 1000, 1500, 5000, 8000, 10000, 15000))
_FINE, COARSE = np.array(FINE_BOUNDS_S), np.array(COARSE_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What the candidate does; the defaults are a release as good as its baseline.

    Latencies are lognormal (p50 19 ms, p95 41 ms, as measured on two cores at 40 requests a second) with a
    rare slow mode; every arm and second has log noise of its own, .1 on all requests and .2 in the tail;
    `memory` is the correlation of an arm's noise from one second to the next.
    """

    errors: float = 0.0002
    wrong: float = 0.005
    stale: float = 0.005
    slower: float = 1.0
    tail_share: float = 0.0
    tail_s: float = 0.25
    leak_mb_min: float = 0.0
    warm_mb: float = 8.0
    noise: float = 0.1
    tail_noise: float = 0.2
    memory: float = 0.0
    misroute: float = 1.0


GOOD = Truth()
KNOWN_BAD = {
    "errors 3 %": (Truth(errors=0.03), "canary.error_rate"),
    "p95 +60 %": (Truth(slower=1.6), "canary.latency_p95"),
    "p99 x4 in 3 %": (Truth(tail_share=0.03), "canary.latency_p99"),
    "recall -10 points": (Truth(wrong=0.105), "canary.recall"),
    "stale index": (Truth(stale=1.0), "canary.freshness"),
    "leak 60 MB/min": (Truth(leak_mb_min=60.0), "canary.memory"),
}


def researchflow() -> tuple[tuple[Objective, ...], dict[str, StagePlan]]:
    """Return the objectives and plans of the system that ships."""
    folder = share_root() / "stack/systems/researchflow"
    objectives = ObjectivesFile.model_validate(_yaml(folder / "objectives.yaml")).objectives
    plans = RolloutFile.model_validate(_yaml(folder / "rollout.yaml")).plans
    return (
        tuple(build.objective(name, spec) for name, spec in objectives.items()),
        {name: build.plan(name, spec) for name, spec in plans.items()},
    )


def _yaml(path: Path) -> object:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@dataclass(slots=True)
class World:
    """A stack under load, second by second."""

    truth: Truth
    rate: float
    seed: int
    now: float = 1_000_000.0
    rng: np.random.Generator = field(init=False)
    memory: dict[Arm, float] = field(default_factory=lambda: dict.fromkeys(Arm, 180e6))
    served: dict[Arm, int] = field(default_factory=lambda: dict.fromkeys(Arm, 0))
    mood: dict[Arm, float] = field(default_factory=lambda: dict.fromkeys(Arm, 0.0))

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.memory[Arm.BASELINE] += 8e6

    def second(self, stage: str, share: float) -> list[Evidence]:
        """Return what every collector says of the next second."""
        start, self.now = self.now, self.now + 1.0
        total = int(self.rng.poisson(self.rate))
        candidate = int(self.rng.binomial(total, min(1.0, share * self.truth.misroute)))
        common = {"stage": stage, "share": share, "start_s": start, "end_s": self.now}
        records: list[Evidence] = []
        for arm, n in ((Arm.BASELINE, total - candidate), (Arm.CANDIDATE, candidate)):
            records += self._arm(arm, n, common)
        units = int(self.rng.poisson(self.rate / 3))
        on = int(self.rng.binomial(units, min(1.0, share * self.truth.misroute)))
        records.append(
            Evidence(kind=Kind.ASSIGNMENT, source=Source.CLIENT, signal="assignment", unit=Unit.SESSION,
                     n=units, bad=on, **common)
        )  # fmt: skip
        return records + self._reports(common)

    def _arm(self, arm: Arm, n: int, common: dict) -> list[Evidence]:
        truth = self.truth if arm is Arm.CANDIDATE else GOOD
        bad = {
            "query.error": (n, int(self.rng.binomial(n, truth.errors))),
        }
        fresh = int(self.rng.binomial(n, 0.25))
        bad["query.stale"] = (fresh, int(self.rng.binomial(fresh, truth.stale)))
        bad["query.wrong"] = (n - fresh, int(self.rng.binomial(n - fresh, truth.wrong)))
        latency = self._latencies(arm, n, truth)
        records = [
            Evidence(kind=Kind.HISTOGRAM, source=Source.CLIENT, signal="query.latency.fine", arm=arm,
                     **counted(latency, _FINE), **common),
        ]  # fmt: skip
        for source in (Source.CLIENT, Source.PROMETHEUS):
            coarse = counted(latency, COARSE)
            records.append(
                Evidence(kind=Kind.HISTOGRAM, source=source, signal="query.latency", arm=arm, **coarse, **common)
            )
            for signal, (seen, violated) in bad.items():
                records.append(
                    Evidence(kind=Kind.EVENTS, source=source, signal=signal, arm=arm, n=seen, bad=violated, **common)
                )
        records.append(self._memory(arm, n, truth, common))
        return records

    def _latencies(self, arm: Arm, n: int, truth: Truth) -> np.ndarray:
        body = np.exp(math.log(0.019) + 0.4675 * self.rng.standard_normal(n)) * truth.slower
        memory = self.truth.memory
        self.mood[arm] = memory * self.mood[arm] + math.sqrt(1 - memory**2) * self.rng.standard_normal()
        body *= math.exp(self.truth.noise * self.mood[arm])
        slow = self.rng.random(n) < 0.01
        body[slow] *= 2.0 * math.exp(self.truth.tail_noise * self.rng.standard_normal())
        tail = self.rng.random(n) < truth.tail_share
        body[tail] = truth.tail_s * np.exp(0.2 * self.rng.standard_normal(int(tail.sum())))
        return body

    def _memory(self, arm: Arm, n: int, truth: Truth, common: dict) -> Evidence:
        before, self.served[arm] = self.served[arm], self.served[arm] + n
        warming = 0.0 if arm is Arm.BASELINE else truth.warm_mb
        grown = warming * (math.exp(-before / 150) - math.exp(-self.served[arm] / 150))
        grown += truth.leak_mb_min / 60 * n / self.rate
        grown += 0.3 * float(self.rng.standard_normal()) * (self.rng.random() < 0.2)
        self.memory[arm] += 1e6 * grown
        return Evidence(
            kind=Kind.GAUGE, source=Source.PROMETHEUS, signal="gateway.memory", arm=arm, value=self.memory[arm],
            **{**common, "start_s": common["end_s"]},
        )  # fmt: skip

    def _reports(self, common: dict) -> list[Evidence]:
        def report(source: Source, signal: str, arm: Arm | None = None) -> Evidence:
            return Evidence(kind=Kind.EVENTS, source=source, signal=signal, arm=arm, unit=Unit.PROBE, n=1, **common)

        def gauge(arm: Arm) -> Evidence:
            return Evidence(kind=Kind.GAUGE, source=Source.PROBE, signal="restarts", arm=arm, value=0.0, **common)

        suite = report(Source.SUITE, "suite.canary.feature_flag", Arm.CANDIDATE)
        return [
            report(Source.PROBE, "load"), report(Source.PROMETHEUS, "metrics"),
            *(report(Source.PROMETHEUS, "alerts", arm) for arm in Arm),
            *(report(Source.PROBE, signal, arm) for signal in ("health.gateway", "check.faiss.index") for arm in Arm),
            report(Source.PROBE, "health.redis"), *(gauge(arm) for arm in Arm), suite,
        ]  # fmt: skip


def counted(latency: np.ndarray, bounds: np.ndarray) -> dict:
    """Return the histogram fields of latencies in seconds."""
    counts = np.bincount(np.searchsorted(bounds, latency), minlength=len(bounds) + 1)
    return {
        "n": len(latency),
        "bounds": tuple(float(b) for b in bounds),
        "counts": tuple(int(c) for c in counts),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a simulated rollout ended."""

    decision: Decision
    cause: Cause
    seconds: float
    reason: str
    judgements: tuple[Judgement, ...]

    @property
    def failed(self) -> set[str]:
        """The ids of the judgements that fail."""
        return {j.id for j in self.judgements if j.status == "fail"}


def simulate(objectives: Sequence[Objective], plan: StagePlan, truth: Truth, seed: int) -> Outcome:
    """Run one rollout by the real state machine and judge on simulated evidence; two seconds are lost per move."""
    world, judge = World(truth, plan.load_rate, seed), Judge(objectives, plan)
    for _ in range(int(plan.warmup_s)):
        judge.observe(world.second("warmup", 0.0))
    began = world.now
    state, actions = rollout.step(plan, rollout.State(), rollout.Begin(at=world.now))
    judgements: tuple[Judgement, ...] = ()
    while not isinstance(actions[-1] if actions else None, rollout.Finish):
        action = actions[-1] if actions else None
        if isinstance(action, rollout.Move):
            for _ in range(2):
                judge.observe(world.second("", action.share / 100))
            event = rollout.Moved(at=world.now, share=action.share)
        elif isinstance(action, rollout.Confirm):
            judgements = judge.look(at=world.now, stage="100", final=True)
            event = rollout.Confirmed(at=world.now, judgements=judgements)
        else:
            stage = plan.stages[state.index].id
            judge.observe(world.second(stage, state.share / 100))
            judgements = judge.look(at=world.now, stage=stage, final=False)
            event = rollout.Look(at=world.now, judgements=judgements)
        state, actions = rollout.step(plan, state, event)
    return Outcome(
        decision=state.decision,
        cause=state.cause,
        seconds=world.now - began,
        reason=state.reason,
        judgements=judgements,
    )


def plan_of(**changes: object) -> StagePlan:
    """Return a plan of one stage "50" at 50 %, with `changes`."""
    values = {
        "name": "test", "stages": (Stage(id="50", share=50.0, min_bake_s=5.0, max_bake_s=60.0),), "warmup_s": 5.0,
        "settle_s": 1.0, "deadline_s": 100.0, **changes,
    }  # fmt: skip
    return StagePlan(**values)


def objective_of(measure: Measure, signal: str, threshold: float = 0.0, unit: str = "", **changes: object) -> Objective:
    """Return an objective called "it"."""
    return Objective(
        **{"id": "it", "requirement": "it holds", "signal": signal, "measure": measure, "threshold": threshold,
           "unit": unit, **changes}
    )  # fmt: skip


def events(signal: str, arm: Arm | None, at: float, n: int, bad: int = 0, **changes: object) -> Evidence:
    """Return one second of events from the client in stage "50"."""
    return Evidence(
        **{"kind": Kind.EVENTS, "source": Source.CLIENT, "signal": signal, "arm": arm, "start_s": at,
           "end_s": at + 1.0, "stage": "50", "share": 0.5, "n": n, "bad": bad, **changes}
    )  # fmt: skip


def latencies(
    signal: str, arm: Arm | None, at: float, seconds: Sequence[float], bounds: np.ndarray = _FINE, **changes: object
) -> Evidence:
    """Return one second of latencies from the client in stage "50", in fine buckets."""
    return Evidence(
        **{"kind": Kind.HISTOGRAM, "source": Source.CLIENT, "signal": signal, "arm": arm, "start_s": at,
           "end_s": at + 1.0, "stage": "50", "share": 0.5, **counted(np.array(seconds), bounds), **changes}
    )  # fmt: skip


def gauge(signal: str, arm: Arm, at: float, value: float, **changes: object) -> Evidence:
    """Return one reading from Prometheus in stage "50"."""
    return Evidence(
        **{"kind": Kind.GAUGE, "source": Source.PROMETHEUS, "signal": signal, "arm": arm, "start_s": at, "end_s": at,
           "stage": "50", "share": 0.5, "value": value, **changes}
    )  # fmt: skip


def vouched(*objectives: Objective, plan: StagePlan | None = None) -> Judge:
    """Return a judge whose instruments have reported on themselves, once and well."""
    judge = Judge(objectives, plan or plan_of())
    reports = (("load", Source.PROBE), ("metrics", Source.PROMETHEUS))
    judge.observe([events(signal, None, -1.0, 1, source=source) for signal, source in reports])
    return judge


def verdict_on(
    objective: Objective, records: Sequence[Evidence], *, final: bool = False, plan: StagePlan | None = None
) -> Judgement:
    """Judge one objective on records, a batch for each start, and return its first judgement."""
    own = objective.measure is Measure.COLLECTED  # reports are all that it judges
    judge = Judge([objective], plan or plan_of()) if own else vouched(objective, plan=plan)
    for _, batch in groupby(records, key=lambda record: record.start_s):
        judge.observe(list(batch))
    at = max((record.end_s for record in records), default=0.0)
    stage = max(((record.start_s, record.stage) for record in records if record.stage), default=(0.0, "50"))[1]
    return judge.look(at=at, stage=stage, final=final)[0]
