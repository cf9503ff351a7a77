"""A gate, put together from its parts."""

import logging
import os
import secrets
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from harness import spec
from harness.adapters.clock import SystemClock
from harness.adapters.evidence_files import EvidenceFiles, read_evidence
from harness.adapters.journal import SqliteJournal
from harness.adapters.load import check_scenario
from harness.adapters.probes import StackProbes
from harness.adapters.prometheus import PrometheusMetrics
from harness.model.errors import EnvironmentProblem, RollgateError, SpecError
from harness.model.event import Noted
from harness.model.evidence import Arm, Evidence
from harness.model.judgement import Verdict
from harness.model.plan import StagePlan
from harness.model.system import Drill, Release, System
from harness.ports import Case, Sink, Stack
from harness.report.files import write_all
from harness.report.redact import redact
from harness.run.drill import strike
from harness.run.driver import Driver, Judging, Parts
from harness.run.gate import Gate, Outside, Request, rfc3339
from harness.run.sinks import Fanout, Recorder
from harness.wiring import remote
from harness.wiring.choices import choose_plan, choose_provider
from harness.wiring.judging import Known, keep_calibrations, kept_calibrations, known, this_machine
from harness.wiring.site import DockerSite, NativeSite, Site, Sited, expected_of

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


def run_gate(
    system: str | System,
    *,
    provider: str = "auto",
    target: Path | None = None,
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

    `target` is the file that says where a deployed stack is, for the remote provider. Raises SpecError (exit code 2)
    for bad input; a run that began always ends in a verdict.
    """
    loaded = system if isinstance(system, System) else spec.load_system(spec.find_system(system))
    chosen = choose_provider(provider, target, loaded)
    stage_plan = choose_plan(loaded, chosen, plan, time_scale)
    if require_real and stage_plan.time_scale != 1:
        msg = f"plan {stage_plan.name} compresses time {stage_plan.time_scale:g} times: only a rehearsal"
        raise SpecError(msg, key="--require-real", mend="choose a plan with time_scale 1, or drop --require-real")
    deployed = None
    if target is not None:
        remote.refuse_changes({"--release": release, "--baseline": baseline, "--drill": drill})
        deployed = remote.deployed(loaded, target)
        loaded, stage_plan = deployed.system, deployed.plan(stage_plan)
    check_scenario(loaded)
    fault = _load_drill(loaded, drill)
    arms = deployed.arms() if deployed else _arms(loaded, baseline, release)
    run_id = new_run_id(loaded.name)
    started = round(SystemClock().now(), 3)
    noise = remote.no_calibration() if deployed else _noise(loaded, stage_plan, started)
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
    keep_spec(loaded, folder, hidden=deployed.holds_secret if deployed else lambda _path: False)
    keep_calibrations(noise, folder / "system")
    if deployed is None:
        here = DockerSite if chosen == "docker" else NativeSite
        return run_request(request, judge, sinks=sinks, suites=suites, site=here)
    deployed.keep(folder)
    judging, site = remote.PartJudge(judge, deployed.absent), partial(remote.RemoteSite, deployed)
    return run_request(request, judging, sinks=sinks, suites=suites, site=site)


def _arms(system: System, baseline: str | None, candidate: str | None) -> dict[Arm, Release]:
    return {
        Arm.BASELINE: spec.load_release(spec.find_release(system, baseline or "baseline"), system),
        Arm.CANDIDATE: spec.load_release(spec.find_release(system, candidate or "good"), system),
    }


def _noise(system: System, plan: StagePlan, started: float) -> Known:
    return known(plan, kept_calibrations(system), rfc3339(started), machine=this_machine())


def run_request(
    request: Request,
    judge: Judging,
    *,
    sinks: Sequence[Sink] = (),
    suites: bool = True,
    feature: bool = True,
    site: Sited = NativeSite,
) -> GateResult:
    """Run what was asked for in its folder, which is there; without `feature` no flag follows the traffic.

    `site` makes the place of the run: this machine, or a deployed stack.
    """
    folder = request.out
    recorder = Recorder()
    sink = Fanout([*sinks, recorder])
    gate = _assemble(request, sink, recorder, judge, site(request, sink.emit), suites=suites, feature=feature)
    defects = logging.FileHandler(folder / "logs" / "rollgate.log", delay=True)
    log = logging.getLogger("rollgate")
    log.addHandler(defects)
    propagates, log.propagate = log.propagate, False
    try:
        verdict = gate.go()
    finally:
        sink.close()
        log.removeHandler(defects)
        log.propagate = propagates
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


def keep_spec(system: System, out: Path, *, hidden: Callable[[Path], bool] = lambda _path: False) -> None:
    """Copy the system's files into the run, so that it can be judged again from its folder alone.

    What is `hidden` is left out.
    """

    def not_runs(folder: str, names: list[str]) -> set[str]:
        """Leave out the run itself, where it lies inside the system's folder, and what else is no data."""
        inside = {name for name in names if out.is_relative_to((Path(folder) / name).resolve())}
        secret = {name for name in names if hidden(Path(folder) / name)}
        return inside | secret | ({"__pycache__", "reports", ".git"} & set(names))

    try:
        shutil.copytree(system.root, out / "system", ignore=not_runs)
    except (OSError, shutil.Error) as error:
        msg = f"cannot copy the system's files into {out}: {str(error)[:200]}"
        raise EnvironmentProblem(msg, mend="free space, or choose another --out") from error


def _assemble(
    request: Request, sink: Fanout, recorder: Recorder, judge: Judging, site: Site, *, suites: bool, feature: bool
) -> Gate:
    clock, out = SystemClock(), request.out
    journal = SqliteJournal(out / "journal.sqlite", who=f"driver:{os.getpid()}", clock=clock)
    store = EvidenceFiles(out / "evidence")

    def note(text: str) -> None:
        sink.emit(Noted(text=text, at=clock.now()))

    command = shlex.join(["rollgate", *sys.argv[1:]]) if sys.argv[0].endswith(("rollgate", "main.py")) else ""

    def connect(stack: Stack, on_stage: Callable[[str], None]) -> Driver:
        reached = site.reach(stack)
        parts = Parts(
            router=reached.router,
            journal=journal,
            judge=judge,
            store=store,
            clock=clock,
            sink=sink,
            load=reached.load,
            expected=expected_of(request.system),
            metrics=reached.metrics,
            probes=reached.probes,
            flags=reached.flags if feature else None,
            feature=request.system.traffic.feature if feature and reached.flags is not None else "",
            hooks=reached.hooks,
            refuses=reached.refuses if feature else lambda _share: "",
            latency_signal=_finest_latency(request.system),
            on_stage=on_stage,
        )
        return Driver(request.plan, parts)

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
            secrets=site.secrets,
            command=command,
        )
        for problem in written.problems:
            note(f"report: {problem}")
        lost = [problem for problem in written.problems if problem.startswith("verdict.json")]
        if lost:
            raise EnvironmentProblem(lost[0], mend="the run ends without a verdict: free space, then run it again")

    outside = Outside(
        provider=site.provider,
        connect=connect,
        journal=journal,
        store=store,
        clock=clock,
        sink=sink,
        preflight=site.preflight,
        strike=strike,
        gpu=site.gpus,
        write=write,
        redact=lambda text: redact(text, site.secrets),
        shielded=shielded,
        suites=site.suites() if suites else None,
        hooks=site.hooks,
    )
    return Gate(request, outside)


def _finest_latency(system: System) -> str:
    latency = next((s.name for s in system.signals if s.client and s.name.endswith(".latency")), "")
    return f"{latency}.fine" if latency else ""


def check_space(out: Path) -> None:
    """Raise EnvironmentProblem where `out` has no room for a run."""
    free = shutil.disk_usage(out).free
    if free < _MIN_FREE:
        msg = f"{out} has {free // 2**20} MiB free, a run needs {_MIN_FREE // 2**20} MiB"
        raise EnvironmentProblem(msg, mend="free space or choose another --out")
