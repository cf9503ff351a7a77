"""`rollgate calibrate`: A/A on the running stack, chunk by chunk, until its noise is known."""

import fcntl
import math
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from harness import spec
from harness.adapters.clock import SystemClock
from harness.model.calibration import ENOUGH_INTERVALS, Calibration, Uncalibrated, check
from harness.model.errors import EnvironmentProblem, SpecError
from harness.model.event import Event, Looked, Noted, PhaseStarted, StageStarted
from harness.model.evidence import Arm, Evidence
from harness.model.judgement import Judgement
from harness.model.plan import OnInconclusive, Stage, StagePlan
from harness.model.status import ExitCode, Status
from harness.paths import cache_root
from harness.report.atomic import write_text
from harness.run.gate import Request, rfc3339
from harness.wiring.aa_evidence import STAGE, Kept, begin_chunk, comparisons, read_chunks
from harness.wiring.aa_windows import Alarms, false_alarms, shortest_s
from harness.wiring.calibration_words import CHUNK, Asked, Progress, calibrator_of, left_s, spoken
from harness.wiring.choices import choose_plan
from harness.wiring.gate import check_space, keep_spec, new_run_id, run_request
from harness.wiring.judging import home_of, kept_calibrations, own_folder, this_machine

_SPARE = 5  # intervals at a chunk's edges that its moves and its drain take
_SHARE = 50.0
_MOST_IDLE = 2  # chunks in a row that brought nothing


class _Collecting:
    """In the judge's place: it lets the one stage end in its time, and decides nothing."""

    def observe(self, records: Sequence[Evidence]) -> None:
        """Nothing is kept here: the evidence is on disk."""

    def look(self, *, at: float, stage: str, final: bool) -> tuple[Judgement, ...]:  # noqa: ARG002 - the loop's contract
        status = Status.INCONCLUSIVE if final else Status.PASS
        requirement = "both arms serve the baseline's release, side by side"
        reason = "an A/A run collects and decides nothing"
        return (Judgement(id="calibration.aa", status=status, requirement=requirement, source="client", reason=reason),)


class _Watch:
    """Tells the progress of a chunk from the run's events."""

    def __init__(self, asked: Asked, there: int, progress: Progress) -> None:
        self._asked, self._there, self._progress = asked, there, progress
        self._began: float | None = None
        self._phase = ""

    def emit(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, PhaseStarted):
            self._phase = event.name
        elif isinstance(event, Noted) and (event.level != "info" or self._phase == "preflight"):
            self._progress.say(event.text)
        elif isinstance(event, StageStarted):
            self._began = event.at
        elif isinstance(event, Looked) and self._began is not None:
            now = self._there + max(0.0, (event.at - self._began) / self._asked.plan.interval_s)
            self._progress.collected(now, self._asked.intervals, left_s(self._asked, now, running=True))

    def close(self) -> None:
        """Nothing is open."""


def asked_for(
    system: str, *, plan: str | None = None, intervals: int = ENOUGH_INTERVALS, out: Path | None = None
) -> Asked:
    """Return what was asked for; SpecError where it is wrong or cannot be calibrated."""
    loaded = spec.load_system(spec.find_system(system))
    chosen = choose_plan(loaded, "native", plan)
    if intervals < 1:
        msg = f"found {intervals}, expected at least 1"
        raise SpecError(msg, key="--intervals", mend=f"{ENOUGH_INTERVALS} make a calibration that a gate uses")
    if not comparisons(loaded.objectives):
        msg = "no ratio or quantile is held against the baseline"
        where = str(loaded.root / "objectives.yaml")
        raise SpecError(msg, where=where, key="objectives", mend="there is nothing to calibrate here")
    kept_calibrations(loaded)  # a bad file is told now, not after hours
    name = own_folder(loaded).name
    folder = out or cache_root() / "calibrate" / name / chosen.name
    baseline = spec.load_release(spec.find_release(loaded, "baseline"), loaded)
    return Asked(system=loaded, plan=chosen, baseline=baseline, folder=folder.resolve(), intervals=intervals)


def calibrate(asked: Asked, progress: Progress) -> tuple[Calibration | None, int]:
    """Collect what is wanting, then write the calibration; return it and the exit code.

    A run that is cut short keeps what it has and returns None.
    """
    with alone(asked.folder):
        code = _collect(asked, progress)
        if code:
            return None, code
        kept = read_chunks(asked.folder, asked.conditions, time.time())
        made = conclude(asked, kept, progress)
    _write(asked, made, progress)
    return made, int(ExitCode.PROMOTED)


@contextmanager
def alone(folder: Path) -> Generator[None]:
    """Hold the folder for this process alone."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w", encoding="utf-8")
    except OSError as error:
        msg = f"cannot write to {folder}: {error.strerror}"
        raise EnvironmentProblem(msg, mend="choose another --out") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            msg = f"another calibration collects in {folder}"
            raise EnvironmentProblem(msg, mend="wait for it, or choose another --out") from error
        yield


def _collect(asked: Asked, progress: Progress) -> int:
    """Run chunks until all intervals are there; return 0 then, 130 when interrupted."""
    idle = 0
    told: set[str] = set()
    before = -1
    while True:
        kept = read_chunks(asked.folder, asked.conditions, time.time())
        for line in kept.dropped:
            if line not in told:
                progress.say(f"not used: {line}")
                told.add(line)
        there = calibrator_of(asked, kept).intervals
        progress.collected(there, asked.intervals, left_s(asked, there))
        if there >= asked.intervals:
            return 0
        idle = idle + 1 if there <= before else 0
        if idle >= _MOST_IDLE:
            raise EnvironmentProblem(_stuck(asked, kept), mend="read logs/ in the newest chunk's folder")
        before = there
        if _run_chunk(asked, there, progress):
            there = calibrator_of(asked, read_chunks(asked.folder, asked.conditions, time.time())).intervals
            wanting = max(0, asked.intervals - there)
            progress.say(
                f"interrupted: {there} intervals are kept, {wanting} more are wanted, about "
                f"{spoken(left_s(asked, there))}; run it again to go on"
            )
            return int(ExitCode.INTERRUPTED)


def _run_chunk(asked: Asked, there: int, progress: Progress) -> bool:
    """Run one chunk; tell whether it was interrupted."""
    plan = chunk_plan(asked.plan, asked.intervals - there)
    try:
        check_space(asked.folder)
        folder = begin_chunk(asked.folder, asked.conditions)
        keep_spec(asked.system, folder)
    except OSError as error:
        msg = f"cannot write to {asked.folder}: {error.strerror}"
        raise EnvironmentProblem(msg, mend="free space, or choose another --out") from error
    bake = plan.stages[0].min_bake_s
    progress.say(f"{folder.name}: both arms serve {asked.baseline.name} {asked.baseline.version} for {spoken(bake)}")
    request = Request(
        run_id=new_run_id(asked.system.name),
        system=asked.system,
        plan=plan,
        arms={Arm.BASELINE: asked.baseline, Arm.CANDIDATE: asked.baseline},
        out=folder,
        seed=int(folder.name.partition("-")[2]),
        started_at=round(SystemClock().now(), 3),
    )
    watch = _Watch(asked, there, progress)
    result = run_request(request, _Collecting(), sinks=[watch], suites=False, feature=False)
    if result.exit_code not in {ExitCode.NO_EVIDENCE, ExitCode.INTERRUPTED}:
        progress.say(f"{folder.name} ended early: {result.verdict.reason}")
    return result.exit_code == ExitCode.INTERRUPTED


def chunk_plan(plan: StagePlan, wanting: int) -> StagePlan:
    """Return the plan of one chunk: half and half for as long as is wanted, and long enough for a rollout."""
    most = max(CHUNK, math.ceil(shortest_s(plan) / plan.interval_s) + 1)
    bake = (min(wanting, most) + _SPARE) * plan.interval_s + plan.settle_s
    return replace(
        plan,
        stages=(Stage(id=STAGE, share=_SHARE, min_bake_s=bake, max_bake_s=bake),),
        deadline_s=bake + plan.warmup_s + 60.0,
        on_inconclusive=OnInconclusive.HOLD,
        proof="last",
        holdout=0.0,
        margins=(),
        weights=(),
        informational=(),
        claims=("an A/A run: both arms serve the same release; it claims nothing",),
    )


def _stuck(asked: Asked, kept: Kept) -> str:
    empty = sorted({f"{d.objective} ({d.source})" for d in calibrator_of(asked, kept).dispersions() if not d.intervals})
    if kept.chunks and empty:
        return f"no interval in which both arms served was seen by {', '.join(empty)}"
    last = kept.dropped[-1] if kept.dropped else "no evidence came"
    return f"{_MOST_IDLE} chunks in a row brought nothing: {last}"


def conclude(asked: Asked, kept: Kept, progress: Progress) -> Calibration:
    """Return what the chunks show: the noise of every comparison, and the false alarms among its windows."""
    system, plan = asked.system, asked.plan
    calibrator = calibrator_of(asked, kept)
    draft = Calibration(
        system=system.name,
        plan=plan.name,
        made_at=rfc3339(min(chunk.span[1] for chunk in kept.chunks)),
        interval_s=plan.interval_s,
        load_rate=plan.load_rate,
        intervals=calibrator.intervals,
        windows=0,
        false_alarms=0,
        dispersions=calibrator.dispersions(),
        machine=this_machine(),
    )
    alarms: Alarms = false_alarms(system.objectives, plan, kept.chunks, draft)
    for one in alarms.failing:
        progress.say(f"false alarm: {one}")
    return replace(draft, windows=alarms.windows, false_alarms=alarms.false)


def _write(asked: Asked, made: Calibration, progress: Progress) -> None:
    """Write the calibration beside those of other plans; a better one of this plan is not replaced."""
    kept = kept_calibrations(asked.system)
    old = kept.get(made.plan)
    if made.wanted and old is not None and _usable(asked, old):
        progress.say(f"kept: the complete calibration of {old.made_at}; this one has only {made.intervals} intervals")
        return
    path = home_of(asked.system)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, spec.calibration_text({**kept, made.plan: made}))
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}"
        raise EnvironmentProblem(msg, mend="the evidence is kept: make room, then run it again") from error
    progress.say(f"written: {path}")


def _usable(asked: Asked, one: Calibration) -> bool:
    age = (datetime.now(UTC) - datetime.fromisoformat(one.made_at)).total_seconds() / 86400
    try:
        check(one, interval_s=asked.plan.interval_s, load_rate=asked.plan.load_rate, age_days=age)
    except Uncalibrated:
        return False
    return True
