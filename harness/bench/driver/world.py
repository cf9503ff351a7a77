"""One simulated world: a rollout that is driven through its faults by process after process, until it is over."""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.bench.driver.disk import CrashError, Disk, SimulatedEvidence, SimulatedJournal, no_space
from harness.bench.driver.hooks import SimulatedHooks, refusal
from harness.bench.driver.rules import Rule, Rules
from harness.bench.driver.traffic import SimulatedFlags, SimulatedRouter, Traffic
from harness.bench.driver.truth import SimulatedMetrics, Truth, TruthfulJudge
from harness.bench.driver.weather import Fault, Weather
from harness.model.errors import EnvironmentProblem, LostLeaseError
from harness.model.event import Event, Noted
from harness.model.status import Decision
from harness.planning.resume import left_by
from harness.planning.rollout import Phase, State
from harness.run.driver import Driver, Parts

_LIVES = 8  # then faults cease, and one more process must bring the rollout to its end
_MOST_CALLS = 20_000  # of one world: many times what the longest rollout needs
_WALL = 1_700_000_000.0
_EARLY_S = 25.0  # what comes once comes within this time


@dataclass(slots=True, eq=False)
class Process:
    """One life of a driver. It dies at its call number `dies_at`, 0 for never."""

    number: int
    dies_at: int
    calls: int = 0
    frozen: bool = False
    disk_failed: bool = False
    interrupted: bool = False
    promoted_before: bool = False
    over_before: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """What one world came to."""

    seed: int
    end: str
    lives: int
    hits: Counter[str]
    checks: Counter[str]
    broken: list[tuple[Rule, str]]
    trace: list[str]


class _Endless(BaseException):
    """A driver that does not come to an end."""


@dataclass(slots=True)
class World:
    """A world drawn from `seed`. `driver` and `router` are what a planted bug replaces."""

    seed: int
    driver: type[Driver] = Driver
    router: type[SimulatedRouter] = SimulatedRouter
    tracing: bool = False
    elapsed: float = 0.0
    step: float = 0.0
    away_until: float = 0.0
    full_until: float = 0.0
    erring_until: float = 0.0
    abort_pending: bool = False
    lives: int = 0
    calls: int = 0
    depth: int = 0
    acting: Process | None = None
    trace: list[str] = field(default_factory=list[str])
    disk: Disk = field(default_factory=Disk)
    truth: Truth = field(init=False)
    weather: Weather = field(init=False)
    traffic: Traffic = field(init=False)
    settles: bool = field(init=False)
    asks: bool = field(init=False)
    rules: Rules = field(init=False)
    _agenda: list[tuple[float, int, Callable[[], None]]] = field(init=False)
    _numbers: "itertools.count[int]" = field(init=False)

    def __post_init__(self) -> None:
        """Draw the release, its plan and the weather."""
        rng = random.Random(self.seed)
        self.truth = Truth.draw(rng)
        self.weather = Weather.draw(rng)
        base = self.truth.base
        self.traffic = Traffic(limit=round(base * 100), flag=base, leased=rng.random() < 0.6, settled=round(base * 100))  # noqa: PLR2004
        self.settles = rng.random() < 0.5  # noqa: PLR2004 - a gate's rollouts do not stay, a deployed stack's do
        self.asks = rng.random() < 0.4  # noqa: PLR2004 - two in five have a hook before each stage
        self.rules = Rules(self)
        self.rules.start()
        self._agenda, self._numbers = [], itertools.count()
        self._plan_faults()

    def _plan_faults(self) -> None:
        """Put on the agenda what comes once, or lasts a while."""
        weather, rng = self.weather, self.weather.rng
        planned = {
            Fault.OUTAGE: self._outage,
            Fault.DISK_FULL: self._full,
            Fault.JUDGE_ERROR: self._err,
            Fault.CLOCK_STEP: self._step,
            Fault.FOREIGN: self._foreign,
            Fault.ORDER: self._order,
            Fault.PARENT: self._lower_parent,
        }
        for fault, strike in planned.items():
            times = rng.randint(1, 2 if fault is not Fault.ORDER else 4) if weather.has(fault) else 0
            for _ in range(times):
                self.later(rng.uniform(0, _EARLY_S), strike)

    def run(self) -> Told:
        """Let processes live until the rollout is over, and say what came of it."""
        chance = random.getstate()  # the driver's jitter comes from here
        random.seed(self.seed)
        try:
            state = self._lives()
        except _Endless:
            state = None
        finally:
            random.setstate(chance)
        self.rules.closed(state)
        end = f"{state.decision} by {state.cause}" if state else "none"
        return Told(
            self.seed, end, self.lives, self.weather.hits, self.rules.checks, self.rules.broken, self.trace
        )  # fmt: skip

    def _lives(self) -> State | None:
        state = None
        while state is None and not self.weather.over:
            if self.lives >= _LIVES:
                self.weather.over = True
                self.away_until = self.full_until = self.erring_until = 0.0
            state = self._live()
            self._pass(self.weather.rng.choice([0.1, 1.0, 10.0]))
        if self.rules.over:
            state = self._live() or state  # `--resume` after the end; one that was not told is ended once more
        return state

    def _live(self) -> State | None:
        """Let one process begin the rollout, or go on with it; None where it did not come to the end."""
        self.lives += 1
        mortal = self.weather.has(Fault.CRASH) and not self.weather.over and self.weather.rng.random() < 0.8  # noqa: PLR2004
        process = Process(self.lives, self.weather.rng.randint(1, 90) if mortal else 0)
        process.over_before = self.rules.over
        before, self.acting = self.acting, process
        try:
            return self._driven(process)
        except CrashError:
            self.say("the process is dead")
        except (LostLeaseError, EnvironmentProblem) as error:
            self.say(f"the process ends: {error}")
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            self.rules.hold(Rule.SOUND, False, f"{type(error).__name__}: {error}")  # noqa: FBT003
        finally:
            self.acting = before
            if self.traffic.holder is process:
                self.traffic.holder = None
        return None

    def _driven(self, process: Process) -> State | None:
        driver, journal = self._new(process)
        left = left_by((entry.kind, entry.what) for entry in self.disk.entries)
        self.say("begins" if left is None else f"resumes from {left.state.phase}")
        try:
            if left is None:
                journal.fence()
                journal.append("rollout", {"feature": "feature", "base": self.truth.base, "goal": self.truth.goal})
                driver.state = State(base=self.truth.base, share=self.truth.base, goal=self.truth.goal)
                driver.parts.router.hold_lease()
            else:
                process.promoted_before = left.state.decision is Decision.PROMOTE
                driver.resume(left)
            driver.ramp()
        except KeyboardInterrupt:
            if not process.interrupted:  # a person's, at the bench
                raise
            self.say("interrupted")
        state = driver.state
        if state.phase is not Phase.DONE:
            return None
        if state.decision is not None and state.cause is not None:
            driver.end_hooks(state.decision, state.cause, state.reason)
        self.say(f"the end: {driver.state.decision} by {driver.state.cause}: {driver.state.reason}")
        self.rules.ended(process, driver.state)
        return driver.state

    def _new(self, process: Process) -> tuple[Driver, SimulatedJournal]:
        journal = SimulatedJournal(self, process)
        parts = Parts(
            router=self.router(self, process),
            journal=journal,
            store=SimulatedEvidence(self, process),
            judge=TruthfulJudge(self, process),
            clock=ProcessClock(self, process),
            sink=_Trace(self),
            metrics=SimulatedMetrics(self),
            flags=SimulatedFlags(self, process),
            feature="feature",
            settles=self.settles,
            hooks=SimulatedHooks(self, process),
            refuses=refusal(self, process),
        )
        return self.driver(self.truth.plan, parts), journal

    # ---- time

    def now(self) -> float:
        """Return the wall clock's time."""
        return _WALL + self.elapsed + self.step

    def later(self, delay: float, strike: Callable[[], None]) -> None:
        """Put `strike` on the agenda."""
        heapq.heappush(self._agenda, (self.elapsed + delay, next(self._numbers), strike))

    def _pass(self, seconds: float) -> None:
        end = self.elapsed + seconds
        while self._agenda and self._agenda[0][0] <= end:
            self.elapsed, _, strike = heapq.heappop(self._agenda)
            if not self.weather.over:
                strike()
        self.elapsed = end

    def sleep(self, process: Process, seconds: float) -> None:
        """Let `process` sleep: there it may be killed, frozen, overtaken, or interrupted."""
        self.point(process, "asleep")
        self._pass(seconds)
        weather = self.weather
        if weather.strikes(Fault.INTERRUPT):
            process.interrupted = True
            raise KeyboardInterrupt
        if not weather.strikes(Fault.STALL):
            return
        process.frozen = True
        self.say(f"life {process.number} is frozen")
        self._pass(weather.rng.uniform(0.5, 8))
        if self.depth == 0 and weather.strikes(Fault.TAKEOVER):
            self.depth += 1
            self._live()
            self.depth -= 1
        process.frozen = False
        self.say(f"life {process.number} goes on")
        self.rules.users_see()

    def call(self, process: Process, place: str) -> None:
        """Let one call of `process` take its time, or be its last."""
        self.point(process, place)
        slow = self.weather.strikes(Fault.DELAY)
        self._pass(self.weather.rng.uniform(0.1, 2) if slow else 0.002)

    def point(self, process: Process, place: str) -> None:
        """Pass a point at which `process` may die."""
        process.calls += 1
        self.calls += 1
        if self.calls > _MOST_CALLS:
            raise _Endless
        if process.calls == process.dies_at and not self.weather.over:
            self.weather.hits[f"{Fault.CRASH} {place}"] += 1
            self.say(f"killed {place}")
            raise CrashError

    # ---- what happens around the driver

    def away(self) -> bool:
        """Tell whether the router is away, and count what that hits."""
        return self._while(self.away_until, Fault.OUTAGE)

    def judge_errs(self) -> bool:
        """Tell whether the judge has errors now."""
        return self._while(self.erring_until, Fault.JUDGE_ERROR)

    def check_space(self, process: Process) -> None:
        """Raise EnvironmentProblem while the disk is full."""
        if self._while(self.full_until, Fault.DISK_FULL):
            process.disk_failed = True
            raise no_space(Fault.DISK_FULL)

    def _while(self, until: float, fault: Fault) -> bool:
        if self.elapsed >= until:
            return False
        self.weather.hits[fault] += 1
        return True

    def moved(self, limit: int, *, foreign: bool, why: str) -> None:
        """Change the router's limit, and look at what users see."""
        self.traffic.limit, self.traffic.foreign = limit, foreign
        self.traffic.settled = min(self.traffic.settled, limit)
        self.say(f"router: {limit / 100:g} % by {why}; users see {self.traffic.seen(self.elapsed):g} %")
        self.rules.users_see()

    def delivered_again(self, limit: int) -> None:
        """Bring an old command to the router a second time."""
        if self.traffic.limit != limit:
            self.weather.hits[Fault.DUPLICATE] += 1
            self.moved(limit, foreign=True, why="an old command, delivered again")

    def _outage(self) -> None:
        self.away_until = self.elapsed + self.weather.rng.uniform(0.2, 8)

    def _full(self) -> None:
        self.full_until = self.elapsed + self.weather.rng.uniform(0.2, 8)

    def _err(self) -> None:
        self.erring_until = self.elapsed + self.weather.rng.uniform(0.5, 8)

    def _step(self) -> None:
        self.weather.hits[Fault.CLOCK_STEP] += 1
        self.step += self.weather.rng.choice([-3600.0, -5.0, -0.5, 0.5, 5.0, 3600.0])
        self.say(f"the wall clock is now {self.step:+g} s off")

    def _foreign(self) -> None:
        limit = self.weather.rng.choice([0, 500, 3000, 10_000])
        if limit != self.traffic.limit:
            self.weather.hits[Fault.FOREIGN] += 1
            self.moved(limit, foreign=True, why="somebody's hand")

    def _lower_parent(self) -> None:
        self.traffic.parent = self.weather.rng.choice([0.0, 15.0, 55.0])
        self.weather.hits[Fault.PARENT] += 1
        self.say(f"the flags above are worth {self.traffic.parent:g} % now")

    def _order(self) -> None:
        if not self.disk.entries or self.rules.over:
            return
        verb = self.weather.rng.choice(["pause", "pause", "promote", "promote", "hold", "abort"])
        self.weather.hits[f"{Fault.ORDER}: {verb}"] += 1
        self.abort_pending |= verb == "abort"
        self.disk.write(self.now(), "order", "operator", {"verb": verb}, why="because", evidence="")
        self.say(f"the operator says {verb}")

    def say(self, text: str) -> None:
        """Add a line to the trace."""
        if self.tracing:
            life = self.acting.number if self.acting else 0
            self.trace.append(f"{self.elapsed:9.3f} s  life {life}  {text}")


@dataclass(frozen=True, slots=True)
class ProcessClock:
    """The clock as one process sees it."""

    world: World
    process: Process

    def now(self) -> float:
        """Return the wall clock's time, which may step."""
        return self.world.now()

    def monotonic(self) -> float:
        """Return time that never steps."""
        return self.world.elapsed

    def sleep(self, seconds: float) -> None:
        """Let the world go on."""
        self.world.sleep(self.process, seconds)


@dataclass(frozen=True, slots=True)
class _Trace:
    """A sink that traces what the driver has to say."""

    world: World

    def emit(self, event: Event) -> None:
        """Trace a note."""
        if isinstance(event, Noted):
            self.world.say(f"note: {event.text}")

    def close(self) -> None:
        """Do nothing."""
