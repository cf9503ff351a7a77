"""A gate: provision, conform, load, roll out by the driver, judge, report, tear down."""

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar

from harness.judge import overall
from harness.judge.suites import judge_suites
from harness.model.errors import EnvironmentProblem, RollgateError
from harness.model.event import Decided, Noted, PhaseEnded, PhaseStarted
from harness.model.evidence import Arm, Evidence, Kind, Source, Unit
from harness.model.judgement import Judgement, ServiceKind, ServiceRecord, Verdict
from harness.model.plan import StagePlan
from harness.model.status import Cause, Decision, ExitCode, Status, exit_code
from harness.model.system import Drill, Release, System
from harness.planning import rollout
from harness.ports import Case, Clock, EvidenceStore, Hooks, Journal, Provider, Sink, Stack, Suites
from harness.run.driver import Driver
from harness.run.hooks import HookCalls

T = TypeVar("T")
_LOG = logging.getLogger("rollgate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for.

    `started_at` is epoch seconds (None: when the gate goes); `gates` says how the judge compares, in plain words.
    """

    run_id: str
    system: System
    plan: StagePlan
    arms: Mapping[Arm, Release]
    out: Path
    seed: int
    require_real: bool = False
    drill: Drill | None = None
    started_at: float | None = None
    gates: tuple[str, ...] = ()


class Connected(Protocol):
    """Makes the driver once the stack's addresses are known."""

    def __call__(self, stack: Stack, on_stage: Callable[[str], None]) -> Driver:
        """Return the driver of `stack`; `on_stage` is called when a stage has begun."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """The effects of a gate, ready made. `hooks` makes those that are told of an end that came before the driver."""

    provider: Provider
    connect: Connected
    journal: Journal
    store: EvidenceStore
    clock: Clock
    sink: Sink
    preflight: Callable[[], None]
    strike: Callable[[Drill, Stack, Driver], None]
    gpu: Callable[[], tuple[str, ...]]
    write: Callable[[Verdict, Sequence[Case], Mapping[str, str]], None]
    redact: Callable[[str], str] = str
    shielded: Callable[[], AbstractContextManager[None]] = nullcontext
    suites: Suites | None = None
    hooks: Callable[[], Hooks | None] = lambda: None


@dataclass(slots=True)
class Gate:
    """One run of a gate. `go` always ends in a verdict, also when a part of the harness fails."""

    request: Request
    outside: Outside
    cases: Sequence[Case] = ()
    driver: Driver | None = None
    stack: Stack | None = None
    _smoke: tuple[Judgement, ...] = ()
    _services: tuple[ServiceRecord, ...] = ()
    _tails: dict[str, str] = field(default_factory=dict[str, str])
    _started: float = 0.0

    def go(self) -> Verdict:
        """Run all phases; return the verdict, which is on disk by then."""
        asked = self.request.started_at
        self._started = self.outside.clock.now() if asked is None else asked
        self.outside.journal.append("run", self._describe(), why="a gate was asked for")
        try:
            ending = self._run()
        except KeyboardInterrupt:
            ending = self._interrupted()
        except _AbortedError as order:
            ending = _Ending(Decision.ROLLBACK, Cause.OPERATOR, f"operator: {order}; no traffic was moved")
        except RollgateError as error:
            ending = _Ending(Decision.ROLLBACK, Cause.ENVIRONMENT, str(error))
        except Exception as error:  # noqa: BLE001 - a run that began always ends in a verdict
            _LOG.exception("a defect of the harness ended the run")
            reason = f"internal error: {type(error).__name__}: {str(error)[:200]} — see logs/rollgate.log"
            ending = _Ending(Decision.ROLLBACK, Cause.ENVIRONMENT, reason)
        with self.outside.shielded():
            return self._end(ending)

    def _end(self, ending: "_Ending") -> Verdict:
        """Tear down, then tell; from here on nothing interrupts."""
        self._keep_tails()
        self._tear_down()
        with self._going_on("the hooks could not be told"):
            self._tell_hooks(ending)
        verdict = self._verdict(ending)
        what = {"decision": verdict.decision, "cause": verdict.cause}
        with self._going_on("the verdict could not be journaled"):
            self.outside.journal.append("verdict", what, why=verdict.reason)
        self._phase("report", lambda: self.outside.write(verdict, self.cases, self._tails))
        self.outside.sink.emit(Decided(verdict=verdict, at=self.outside.clock.now()))
        return verdict

    def _tell_hooks(self, ending: "_Ending") -> None:
        """Notify of the end, also of one that came before there was a driver."""
        if self.driver is not None:
            self.driver.end_hooks(ending.decision, ending.cause, ending.reason)
        elif (hooks := self.outside.hooks()) is not None:
            calls = HookCalls(hooks, self.outside.journal, self._note)
            if (ended := calls.end(ending.decision, ending.cause, ending.reason, 0.0)) is not None:
                calls.again([ended])
            calls.finish()

    def _note(self, text: str, level: str) -> None:
        self.outside.sink.emit(Noted(text=text, at=self.outside.clock.now(), level=level))

    def _interrupted(self) -> "_Ending":
        """Say how an interrupted run ended: by its rollout's end where that had come before the signal."""
        state = self.driver.state if self.driver else None
        if state is not None and state.decision is not None and state.cause not in {None, Cause.OPERATOR}:
            return _Ending(state.decision, state.cause or Cause.OPERATOR, state.reason)
        return _Ending(Decision.ROLLBACK, Cause.OPERATOR, "interrupted: traffic is on the baseline", interrupted=True)

    @contextmanager
    def _going_on(self, what: str) -> Generator[None]:
        """Whatever fails in here is told and kept, and the steps after it are still taken."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the next step of the tear-down must be taken
            _LOG.exception("%s", what)
            self.outside.sink.emit(Noted(text=f"{what}: {error}", at=self.outside.clock.now(), level="error"))

    def _run(self) -> "_Ending":
        self._phase("preflight", self.outside.preflight)
        self._heed()
        self.stack = stack = self._phase("stack", self.outside.provider.up)
        self._heed()
        self._services = tuple(stack.records())
        self._refuse_rehearsal()
        driver = self.driver = self.outside.connect(stack, self._strike)
        self._phase("reconcile", driver.reconcile)
        for text in self._stays():
            self.outside.sink.emit(Noted(text=text, at=self.outside.clock.now(), level="warning"))
        if self.outside.suites is not None:
            self._phase("smoke", self._conform)
            self._heed()
            failing = [j for j in self._smoke if j.status is Status.FAIL]
            if failing:
                reason = "before any traffic: " + "; ".join(f"{j.id}: {j.reason}" for j in failing)
                return _Ending(Decision.ROLLBACK, Cause.RELEASE, reason)
            broken = [f"{j.id}: {j.reason}" for j in self._smoke if j.status is Status.ERROR]
            if not any(j.status is Status.PASS for j in self._smoke):
                broken.append("no conformance case was judged")
            if broken:
                reason = "before any traffic: " + "; ".join(broken)
                return _Ending(Decision.ROLLBACK, Cause.ENVIRONMENT, reason)
        if driver.parts.load is not None:
            self._phase("load", driver.parts.load.start)
        self._phase("warmup", driver.warm_up)
        state = self._phase("rollout", driver.ramp)
        if state.decision is None or state.cause is None:
            msg = f"the rollout ended in phase {state.phase} without a decision"
            raise EnvironmentProblem(msg, mend="this is a defect of rollgate: keep the run's folder")
        return _Ending(state.decision, state.cause, state.reason)

    def _abort_asked(self) -> str | None:
        """Return why an operator wants the run to end; None while nobody does. The driver takes all other orders."""
        orders = self.outside.journal.since(0, "order")
        return next((order.why for order in orders if order.what.get("verb") == "abort"), None)

    def _heed(self) -> None:
        """End the run here when an operator has asked for it: no candidate traffic has been sent yet."""
        why = self._abort_asked()
        if why is not None:
            raise _AbortedError(why)

    def _conform(self) -> None:
        """Run the suites against the stack and take their results in as evidence."""
        suites, stack = self.outside.suites, self.stack
        if suites is None or stack is None:
            return
        self.cases = suites.run(stack, "smoke", stop=lambda: self._abort_asked() is not None)
        at = self.outside.clock.now()
        records = [record for case in self.cases for record in case_evidence(case, at)]
        self.outside.store.append(records)
        if self.driver is not None:
            self.driver.parts.judge.observe(records)
        self._smoke = judge_suites(records)

    def _strike(self, stage: str) -> None:
        drill = self.request.drill
        if drill is not None and drill.stage == stage and self.stack is not None and self.driver is not None:
            self.outside.sink.emit(Noted(text=f"drill: {drill.title or drill.name}", at=self.outside.clock.now()))
            self.outside.journal.append("drill", {"name": drill.name, "action": drill.action}, why="asked for")
            self.outside.strike(drill, self.stack, self.driver)

    def _refuse_rehearsal(self) -> None:
        reasons = self._rehearsal()
        if self.request.require_real and reasons:
            msg = f"--require-real: this run could only be a rehearsal ({'; '.join(reasons)})"
            raise EnvironmentProblem(msg, mend="use a provider with the real parts and a plan with time_scale 1")

    def _rehearsal(self) -> list[str]:
        stand_ins = [f"{s.name} is a stand-in" for s in self._services if s.kind is ServiceKind.STAND_IN]
        scale = self.request.plan.time_scale
        return stand_ins + ([f"time is compressed {scale:g} times"] if scale != 1 else [])

    def _keep_tails(self) -> None:
        if self.stack is not None:
            for instance in self.stack.instances():
                with self._going_on(f"the log of {instance.name} could not be read"):
                    self._tails[instance.name] = self.stack.log_tail(instance.name)

    def _tear_down(self) -> None:
        """End candidate traffic, then the load, then the servers it talks to, each whatever became of the others."""

        def down() -> None:
            if self.driver is not None:
                with self._going_on("the lease could not be dropped"):
                    self.driver.parts.router.drop_lease()
                if self.driver.parts.load is not None:
                    with self._going_on("the load could not be stopped"):
                        self.driver.parts.load.stop()
            with self._going_on("the stack could not be taken down"):
                self.outside.provider.down()

        self._phase("teardown", down)

    def _phase(self, name: str, act: Callable[[], T]) -> T:
        clock, sink = self.outside.clock, self.outside.sink
        sink.emit(PhaseStarted(name=name, at=clock.now()))
        ok = False
        try:
            result = act()
            ok = True
        finally:
            sink.emit(PhaseEnded(name=name, at=clock.now(), ok=ok))
        return result

    def _verdict(self, ending: "_Ending") -> Verdict:
        request, driver = self.request, self.driver
        judgements = self._all_judgements()
        return Verdict(
            run_id=request.run_id,
            system=request.system.name,
            baseline=f"{request.arms[Arm.BASELINE].name} {request.arms[Arm.BASELINE].version}",
            candidate=f"{request.arms[Arm.CANDIDATE].name} {request.arms[Arm.CANDIDATE].version}",
            decision=ending.decision,
            cause=ending.cause,
            status=_status(ending, judgements),
            exit_code=ExitCode.INTERRUPTED if ending.interrupted else exit_code(ending.decision, ending.cause),
            rehearsal=bool(self._rehearsal()),
            plan=request.plan.name,
            started_at=rfc3339(self._started),
            finished_at=rfc3339(self.outside.clock.now()),
            evidence_digest=self.outside.store.digest(),
            reason=self.outside.redact(ending.reason),
            claims=self._claims(),
            stages=tuple(driver.records) if driver else (),
            judgements=judgements,
            services=self._services,
            gpu=self.outside.gpu(),
            time_scale=request.plan.time_scale,
            seed=request.seed,
            provider=self.outside.provider.name,
        )

    def _claims(self) -> tuple[str, ...]:
        gates = (f"gating: {how}" for how in self.request.gates)
        return (
            *self.request.plan.claims,
            *self._stays(),
            *gates,
            *(f"rehearsal: {reason}" for reason in self._rehearsal()),
        )

    def _stays(self) -> tuple[str, ...]:
        """Say what a router does not do that lets traffic stay with the candidate."""
        router = self.driver.parts.router if self.driver else None
        if router is None or router.returns_alone:
            return ()
        return (f"router {router.name}: traffic does not go back by itself if rollgate dies during the rollout",)

    def _all_judgements(self) -> tuple[Judgement, ...]:
        smoke = {j.id for j in self._smoke}
        judged = tuple(j for j in self.driver.judgements if j.id not in smoke) if self.driver else ()
        stages = _stage_judgement(self.request, self.driver)
        return tuple(replace(j, reason=self.outside.redact(j.reason)) for j in (*judged, *self._smoke, *stages))

    def _describe(self) -> dict[str, object]:
        request = self.request
        return {
            "run_id": request.run_id,
            "system": request.system.name,
            "plan": request.plan.name,
            "seed": request.seed,
            "baseline": request.arms[Arm.BASELINE].name,
            "candidate": request.arms[Arm.CANDIDATE].name,
        }


class _AbortedError(Exception):
    """An operator's word came before the rollout; its text is the reason that was given."""


@dataclass(frozen=True, slots=True)
class _Ending:
    decision: Decision
    cause: Cause
    reason: str
    interrupted: bool = False


def _status(ending: _Ending, judgements: Sequence[Judgement]) -> Status:
    """Return the run's status: the merged one, never better than what the decision says."""
    if ending.decision is Decision.PROMOTE:
        return overall(judgements)
    if ending.cause is Cause.RELEASE:
        return Status.FAIL
    return Status.ERROR if ending.cause is Cause.ENVIRONMENT else Status.INCONCLUSIVE


def _stage_judgement(request: Request, driver: Driver | None) -> tuple[Judgement, ...]:
    """Judge the ramp itself: a promotion went through every stage of its plan, in order."""
    if driver is None or driver.state.decision is not Decision.PROMOTE:
        return ()
    wanted = [rollout.stage_share(request.plan, stage) for stage in request.plan.stages]
    seen = [record.share for record in driver.records]
    whole = wanted == seen
    return (
        Judgement(
            id="rollout.stages",
            status=Status.PASS if whole else Status.ERROR,
            requirement=f"a promotion passes the stages {', '.join(f'{s:g}' for s in wanted)} % in order",
            source="journal",
            n=len(seen),
            reason=f"the router confirmed {', '.join(f'{s:g}' for s in seen)} %",
        ),
    )


def case_evidence(case: Case, at: float) -> list[Evidence]:
    """Return one record for each id that `case` covers.

    Where it covers none, its name without the arm is the id: both arms' cases of a test are judged as twins.
    A skipped case counts nothing (`n` 0, note "skipped: ..."); one that broke instead of failing says "error: ...".
    """
    names = case.covers or (_twins_name(case),)
    counted = int(case.outcome != "skipped")
    bad = int(case.outcome not in {"passed", "skipped"})
    note = f"{case.name}: {case.message}" if bad or not counted else ""
    if case.outcome not in {"passed", "failed"}:
        note = f"{case.outcome}: {note}"
    arm = Arm(case.arm) if case.arm else None
    return [
        Evidence(
            kind=Kind.EVENTS,
            source=Source.SUITE,
            signal=f"suite.{name}",
            start_s=at,
            end_s=at,
            arm=arm,
            unit=Unit.CASE,
            stage="smoke",
            n=counted,
            bad=bad,
            note=note,
        )
        for name in names
    ]


def _twins_name(case: Case) -> str:
    """Return a case's name without its arm among the parameters: "t.py::t[candidate-x]" is "t.py::t[x]"."""
    head, bracket, parameters = case.name.partition("[")
    if not (case.arm and bracket):
        return case.name
    left = "-".join(part for part in parameters.removesuffix("]").split("-") if part != case.arm)
    return f"{head}[{left}]" if left else head


def rfc3339(at: float) -> str:
    """Write epoch seconds as a moment in UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
