"""What the release is worth, and a judge that says so as far as users' traffic shows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from harness.bench.driver.weather import Fault
from harness.model.evidence import Arm, Evidence, Kind, Source, Unit
from harness.model.judgement import Judgement
from harness.model.plan import OnInconclusive, Stage, StagePlan
from harness.model.status import Cause, Decision, Status
from harness.planning.rollout import FULL, stage_share, towards

if TYPE_CHECKING:
    from harness.bench.driver.world import Process, World

_NEAR = 1e-6


@dataclass(frozen=True, slots=True)
class Truth:
    """The release and its way up. It fails from stage number `bad` on; it is never proven where it is `silent`."""

    plan: StagePlan
    base: float
    goal: float
    bad: int
    silent: bool

    @classmethod
    def draw(cls, rng: Random) -> "Truth":
        """Draw a plan, from where to where it goes, and what the release is worth."""
        shares = sorted(rng.sample([5, 10, 25, 50, 75], rng.randint(1, 3)))
        plan = StagePlan(
            name="simulated",
            stages=tuple(_stage(rng, share) for share in (*shares, 100)),
            warmup_s=0,
            settle_s=0.5,
            deadline_s=120,
            patience_s=3,
            on_inconclusive=rng.choice(list(OnInconclusive)),
            holdout=rng.choice([0.0, 5.0]),
        )
        base = rng.choice([0.0, 0.0, 0.0, 20.0])
        goal = rng.choice([FULL, FULL, FULL, 60.0])
        way = towards(plan, base, goal)
        kind = rng.random()
        bad = rng.randrange(len(way.stages)) if kind < 0.4 else len(way.stages)  # noqa: PLR2004 - two in five are bad
        return cls(way, base, goal, bad, kind > 0.9)  # noqa: PLR2004 - one in ten is silent

    @property
    def is_bad(self) -> bool:
        """Whether the release fails at some stage."""
        return self.bad < len(self.plan.stages)

    def end(self) -> tuple[Decision, Cause]:
        """Return how a rollout without faults ends."""
        if self.is_bad:
            return Decision.ROLLBACK, Cause.RELEASE
        if not self.silent:
            return Decision.PROMOTE, Cause.PROOF
        held = self.plan.on_inconclusive is OnInconclusive.HOLD
        return Decision.HOLD if held else Decision.ROLLBACK, Cause.EVIDENCE

    def ladder(self) -> list[float]:
        """Return the shares from the base to the goal, in the order in which they may be taken."""
        stages = [stage_share(self.plan, stage) for stage in self.plan.stages]
        return [self.base, *stages, *([self.goal] if stages[-1] != self.goal else [])]


def _stage(rng: Random, share: float) -> Stage:
    shortest = rng.choice([1.0, 2.0, 3.0])
    return Stage(id=f"{share:g}", share=share, min_bake_s=shortest, max_bake_s=shortest + rng.choice([1.0, 3.0]))


class TruthfulJudge:
    """Says what is true of the release, where users see it; an error where they see another share than configured."""

    def __init__(self, world: "World", process: "Process") -> None:
        """Take in what is on the disk."""
        self._world, self._process = world, process
        self._observed = len(world.disk.evidence)

    def observe(self, records: Sequence[Evidence]) -> None:
        """Count: nothing may be judged that is not on disk."""
        self._observed += len(records)
        self._world.rules.observed(self._process, self._observed)

    def look(self, *, at: float, stage: str, final: bool) -> tuple[Judgement, ...]:
        """Judge `stage` by what users see now."""
        del at
        status, reason = self._status(stage)
        self._world.rules.looked(self._process, stage, status, final=final)
        return (Judgement(id="x.errors", status=status, requirement="", source="client", reason=reason),)

    def _status(self, stage: str) -> tuple[Status, str]:
        world, truth = self._world, self._world.truth
        index = next((i for i, known in enumerate(truth.plan.stages) if known.id == stage), -1)
        seen = world.traffic.seen(world.elapsed)
        if world.judge_errs():
            return Status.ERROR, "the judge's source is away"
        if index < 0 or seen <= truth.base:
            return Status.INCONCLUSIVE, "no user saw the candidate"
        if abs(seen - stage_share(truth.plan, truth.plan.stages[index])) > _NEAR:
            return Status.ERROR, f"users see {seen:g} %"
        if index >= truth.bad:
            return Status.FAIL, "it errs"
        return (Status.INCONCLUSIVE, "too few") if truth.silent else (Status.PASS, "proven")


class SimulatedMetrics:
    """Two records a look, one for each arm; sometimes one, or none."""

    def __init__(self, world: "World") -> None:
        """Read `world`'s time."""
        self._world = world
        self._since = world.now()

    def collect(self) -> Sequence[Evidence]:
        """Return what came since the last call."""
        now = self._world.now()
        start, end, self._since = min(self._since, now), now, now  # the wall clock may have stepped back
        records = [_record(arm, start, end) for arm in Arm]
        if self._world.weather.strikes(Fault.PARTIAL):
            return records[: self._world.weather.rng.randrange(len(records))]
        return records


def _record(arm: Arm, start: float, end: float) -> Evidence:
    return Evidence(
        kind=Kind.EVENTS, source=Source.PROBE, signal="x.errors", start_s=start, end_s=end, unit=Unit.PROBE, n=1,
        bad=0, arm=arm,
    )  # fmt: skip
