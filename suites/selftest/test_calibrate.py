"""A/A runs over a simulated stack: collected in chunks, resumed, dropped where the load was bad, kept and used."""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import pytest
from doubles import SimulatedClock
from judge_streams import GOOD, Truth, World
from stored_runs import SYSTEM, WorldLoad, drive, moment, store_run

from harness import spec
from harness.model.calibration import ENOUGH_INTERVALS, Calibration, Dispersion
from harness.model.errors import EnvironmentProblem, SpecError
from harness.model.evidence import Arm
from harness.model.judgement import Verdict
from harness.model.status import Cause, Decision, ExitCode, Status
from harness.ports import LoadHealth, Sink
from harness.run.driver import Driver, Judging
from harness.run.gate import Request
from harness.wiring import calibrate as wired
from harness.wiring import judging
from harness.wiring.aa_evidence import chunk_folders, read_chunks
from harness.wiring.aa_windows import Window, shortest_s, windows_of
from harness.wiring.calibration_words import Asked, left_s, status, summary
from harness.wiring.gate import GateResult
from harness.wiring.judging import home_of, how_it_gates, kept_calibrations, known, own_folder, stored_calibrations
from harness.wiring.replay import judge_again, judge_by_policy

pytestmark = pytest.mark.selftest


@dataclass
class Told:
    """Keeps what was said."""

    lines: list[str] = field(default_factory=list[str])
    seen: list[tuple[float, int, float]] = field(default_factory=list[tuple[float, int, float]])

    def collected(self, intervals: float, wanted: int, left: float) -> None:
        self.seen.append((intervals, wanted, left))

    def say(self, text: str) -> None:
        self.lines.append(text)


@dataclass
class Bench:
    """In the place of a real run: the driver over a simulated stack, in simulated time that ends about now."""

    clock: SimulatedClock
    requests: list[Request] = field(default_factory=list[Request])
    bad_load: set[int] = field(default_factory=set[int])
    interrupt: int = 0
    truth: Truth = GOOD

    def __call__(
        self, request: Request, judge: Judging, *, sinks: Sequence[Sink] = (), suites: bool, feature: bool
    ) -> GateResult:
        assert not suites
        assert not feature
        self.requests.append(request)
        number = len(self.requests)
        world = World(self.truth, request.plan.load_rate, request.seed, now=math.ceil(self.clock.at))
        code, driver = ExitCode.NO_EVIDENCE, None
        if number == self.interrupt:
            sinks = [*sinks, _Interrupting(self.clock.at + 40)]
        try:
            with _load_that_is(sound=number not in self.bad_load):
                driver, _ = drive(request.out, request.plan, judge, world, self.clock, sinks=sinks)
        except KeyboardInterrupt:
            code = ExitCode.INTERRUPTED
        self.clock.at += 20
        return GateResult(verdict=_verdict(request, driver), exit_code=int(code), out=request.out, cases=())


class _Interrupting:
    """A person who presses Ctrl-C once time has come."""

    def __init__(self, at: float) -> None:
        self._at = at

    def emit(self, event: object) -> None:
        if getattr(event, "at", 0.0) > self._at:
            self._at = math.inf
            raise KeyboardInterrupt

    def close(self) -> None:
        pass


class _load_that_is:  # noqa: N801 - reads as a phrase
    """Makes the simulated load say of itself that it could not keep its rate."""

    def __init__(self, *, sound: bool) -> None:
        self._patch = pytest.MonkeyPatch()
        self._sound = sound

    def __enter__(self) -> None:
        if not self._sound:
            ill = LoadHealth(running=True, problems=("the load could not keep its rate",))
            self._patch.setattr(WorldLoad, "health", lambda _self: ill)

    def __exit__(self, *_: object) -> None:
        self._patch.undo()


def _verdict(request: Request, driver: Driver | None) -> Verdict:
    """Write the chunk's verdict as a run would; only what a calibration reads of it."""
    verdict = Verdict(
        run_id="x", system="x", baseline="", candidate="", decision=Decision.HOLD, cause=Cause.EVIDENCE,
        status=Status.INCONCLUSIVE, exit_code=ExitCode.NO_EVIDENCE, rehearsal=True, plan="", started_at="",
        finished_at="", evidence_digest="", reason=driver.state.reason if driver else "interrupted",
    )  # fmt: skip
    (request.out / "verdict.json").write_text(json.dumps({"reason": verdict.reason}))
    return verdict


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own copy of a system, with a cache of its own."""
    monkeypatch.setenv("ROLLGATE_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(SYSTEM, tmp_path / "mine"))


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Simulated runs in the place of real ones."""
    made = Bench(SimulatedClock(float(math.floor(time.time()) - 5000)))
    monkeypatch.setattr(wired, "run_request", made)
    return made


def asked(system: Path, intervals: int = 80) -> Asked:
    """What a user asks for."""
    return wired.asked_for(str(system), plan="quick", intervals=intervals)


def test_an_aa_run_is_half_and_half_of_one_release_and_decides_nothing(system: Path, bench: Bench):
    """Both arms have the baseline's release, one stage of 50 %, and the run ends in a hold for want of evidence."""
    told = Told()
    wired.calibrate(asked(system, 60), told)
    request = bench.requests[0]
    assert request.arms[Arm.BASELINE] is request.arms[Arm.CANDIDATE]
    assert request.arms[Arm.BASELINE].name == "baseline"
    assert [stage.share for stage in request.plan.stages] == [50.0]
    assert request.plan.load_rate == 45
    records = read_chunks(asked(system).folder, asked(system).conditions, time.time()).chunks[0].judged
    assert {record.share for record in records} == {0.5}
    assert "decides nothing" in json.loads((request.out / "verdict.json").read_text())["reason"]
    assert told.seen[-1][:2] == (pytest.approx(60, abs=8), 60)


def test_a_calibration_is_written_dated_and_read_back(system: Path, bench: Bench):
    """calibration.yaml lies in the system's folder, is sound, and says when, how long and on what machine."""
    want = asked(system)
    made, code = wired.calibrate(want, Told())
    assert code == 0
    assert made is not None
    assert made.intervals >= 80
    assert abs(datetime.fromisoformat(made.made_at).timestamp() - bench.clock.at) < 120
    assert made.machine == want.conditions.machine
    assert {d.objective for d in made.dispersions} == {
        "canary.error_rate", "canary.latency_p95", "canary.latency_p99", "canary.recall", "canary.freshness",
    }  # fmt: skip
    assert all(d.contest >= 0 and d.level >= 0 and d.intervals >= 80 for d in made.dispersions)
    assert spec.validate(system) == []
    assert kept_calibrations(want.system) == {"quick": made}
    assert made.windows == 2
    assert any("wants" in line and f"of {ENOUGH_INTERVALS}" in line for line in summary(want, made))


def test_windows_that_the_judge_would_have_rolled_back_are_counted_and_said(system: Path, bench: Bench):
    """The planted violation: an arm that breaks a bound fails in every window, and no gate uses that."""
    bench.truth, told = Truth(errors=0.4), Told()
    made, _ = wired.calibrate(asked(system), told)
    assert made is not None
    assert made.false_alarms == made.windows == 2
    assert sum(line.startswith("false alarm: rf.rollout.error_rate") for line in told.lines) == 2
    assert any("false alarms: 2 of 2 windows" in line for line in summary(asked(system), made))
    now = moment(time.time())
    assert known(asked(system).plan, {"quick": replace(made, intervals=960)}, now).calibration is None


def test_an_interrupted_run_keeps_its_evidence_and_says_what_it_still_wants(system: Path, bench: Bench):
    """Ctrl-C in the middle: exit 130, no calibration yet; the second call asks only for the rest."""
    bench.interrupt, told = 1, Told()
    made, code = wired.calibrate(asked(system), told)
    assert (made, code) == (None, 130)
    assert not (system / "calibration.yaml").exists()
    assert any(line.startswith("interrupted: ") and "more are wanted" in line for line in told.lines)
    first = read_chunks(asked(system).folder, asked(system).conditions, time.time())
    assert len(first.chunks) == 1
    made, code = wired.calibrate(asked(system), Told())
    assert code == 0
    assert made is not None
    assert made.intervals >= 80
    first_bake, second_bake = (request.plan.stages[0].min_bake_s for request in bench.requests)
    assert second_bake < first_bake - 20


def test_a_killed_chunk_counts_up_to_its_torn_line(system: Path, bench: Bench):
    """After kill -9 there is no verdict and half a line: what came before still counts; with a verdict it is forged."""
    wired.calibrate(asked(system, 60), Told())
    want = asked(system, 60)
    chunk = chunk_folders(want.folder)[0]
    file = chunk / "evidence" / "judged.jsonl"
    text = file.read_text()
    file.write_text(text[: len(text) * 2 // 3])
    kept = read_chunks(want.folder, want.conditions, time.time())
    assert kept.chunks == ()
    assert "judged.jsonl" in kept.dropped[0]
    (chunk / "verdict.json").unlink()
    kept = read_chunks(want.folder, want.conditions, time.time())
    assert len(kept.chunks) == 1
    assert 0 < len(kept.chunks[0].records) < text.count("\n")
    made, _ = wired.calibrate(want, Told())
    assert len(bench.requests) == 2
    assert made is not None
    assert made.intervals >= 60


def test_a_chunk_with_a_bad_load_is_dropped_and_said(system: Path, bench: Bench):
    """An unsound load makes no calibration: its chunk is named, another one takes its place."""
    bench.bad_load = {1}
    told = Told()
    made, code = wired.calibrate(asked(system), told)
    assert code == 0
    assert made is not None
    assert len(bench.requests) == 2
    assert [line for line in told.lines if "not used: chunk-0001: the load was not sound" in line]
    assert [line for line in told.lines if "could not keep its rate" in line]


def test_a_load_that_stays_bad_ends_in_one_clear_error(system: Path, bench: Bench):
    """Chunk after chunk without evidence is an environment problem, not an endless loop."""
    bench.bad_load = set(range(1, 99))
    with pytest.raises(EnvironmentProblem, match=r"brought nothing.*could not keep its rate"):
        wired.calibrate(asked(system), Told())
    assert len(bench.requests) == 2


CHANGES = {
    "another interval": ("rollout.yaml", "interval_s: 1\n", "interval_s: 2\n", "interval_s was 1.0, is 2.0"),
    "another rate": ("rollout.yaml", "load_rate: 45", "load_rate: 40", "load_rate was 45.0, is 40.0"),
    "other buckets": ("system.yaml", "[5, 10, 15, 20,", "[5, 10, 20,", "bounds was 0.005 0.01 0.015 0.02"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_evidence_of_other_conditions_is_not_mixed_in(change: tuple[str, str, str, str], system: Path, bench: Bench):
    """What was measured under another interval or load, or in other buckets, does not count, and is said."""
    wired.calibrate(asked(system, 60), Told())
    file, old, new, said = change
    path = system / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    want = asked(system, 60)
    kept = read_chunks(want.folder, want.conditions, time.time())
    assert kept.chunks == ()
    assert said in kept.dropped[0]
    assert len(bench.requests) == 1


def test_evidence_that_is_too_old_is_not_used(system: Path, bench: Bench):
    """A month later the same chunk does not count any more."""
    wired.calibrate(asked(system, 60), Told())
    want = asked(system, 60)
    kept = read_chunks(want.folder, want.conditions, time.time() + 31 * 86400)
    assert kept.chunks == ()
    assert "31 days old" in kept.dropped[0]
    assert bench.requests


def test_a_shorter_measurement_does_not_replace_a_complete_one(system: Path, bench: Bench):
    """60 intervals do not push out a calibration that a gate can use."""
    want = asked(system, 60)
    full = _complete(want)
    (system / "calibration.yaml").write_text(spec.calibration_text({"quick": full}))
    told = Told()
    wired.calibrate(want, told)
    assert kept_calibrations(want.system) == {"quick": full}
    assert any(line.startswith("kept: the complete calibration") for line in told.lines)
    assert bench.requests


def test_a_system_that_cannot_be_written_is_calibrated_in_the_users_own_folder(
    system: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """The shipped system of an installed package stays as it is; the gate reads the user's folder too."""
    monkeypatch.setattr("harness.wiring.judging.os.access", lambda *_: False)
    want = asked(system, 60)
    made, _ = wired.calibrate(want, Told())
    assert not (system / "calibration.yaml").exists()
    assert home_of(want.system) == own_folder(want.system) / "calibration.yaml"
    assert kept_calibrations(want.system) == {"quick": made}
    assert bench.requests


def test_two_calibrations_do_not_collect_in_one_folder(system: Path, bench: Bench):
    """The second one is told to wait, and touches nothing."""
    want = asked(system, 60)
    with wired.alone(want.folder), pytest.raises(EnvironmentProblem, match="another calibration"):
        wired.calibrate(want, Told())
    assert bench.requests == []


def test_status_says_what_is_there_and_starts_nothing(system: Path, bench: Bench):
    """--status: intervals there, intervals wanting, about how long, and how a gate would judge now."""
    told = Told()
    status(asked(system), told)
    assert bench.requests == []
    assert any("0 of 80 intervals" in line for line in told.lines)
    assert any("wanted: 80 more, about 2 min" in line for line in told.lines)
    assert any("not calibrated" in line for line in told.lines)
    assert left_s(asked(system), 80) == left_s(asked(system), 80, running=True) == 0
    assert left_s(asked(system), 70, running=True) == 10


@pytest.mark.parametrize("intervals", [0, -1])
def test_nothing_to_collect_is_bad_input(intervals: int, system: Path):
    """Fewer than one interval is refused."""
    with pytest.raises(SpecError, match="expected at least 1"):
        asked(system, intervals)


def test_a_system_without_a_comparison_is_refused(system: Path):
    """Where nothing is held against the baseline there is no noise to measure."""
    path = system / "objectives.yaml"
    text = path.read_text()
    kept, drop = [], False
    for line in text.splitlines():
        if line.startswith("  ") and not line.startswith("   "):
            drop = line.strip() in {
                "canary.error_rate:", "canary.latency_p95:", "canary.latency_p99:", "canary.recall:",
                "canary.freshness:",
            }  # fmt: skip
        if not drop:
            kept.append(line)
    path.write_text("\n".join(kept) + "\n")
    rollout = system / "rollout.yaml"
    lines = [
        line for line in rollout.read_text().splitlines() if not line.startswith("      canary.") or "memory" in line
    ]
    rollout.write_text("\n".join(lines) + "\n")
    with pytest.raises(SpecError, match="no ratio or quantile is held against the baseline"):
        asked(system)


def test_a_bad_calibration_is_told_before_anything_starts(system: Path, bench: Bench):
    """A file that cannot be trusted stops the calibration, the gate and the plan at once: exit 2."""
    (system / "calibration.yaml").write_text("schema: 1\nsystem: other\nplans: {}\n")
    with pytest.raises(SpecError, match=r"calibration.yaml:\d+"):
        asked(system)
    loaded = spec.load_system(system)
    with pytest.raises(SpecError):
        how_it_gates(loaded, loaded.plans[0])
    assert bench.requests == []


def test_windows_lie_side_by_side_within_their_chunk(system: Path, bench: Bench):
    """No window crosses from one chunk into the next, and what is left over is not used."""
    bench.interrupt = 1
    wired.calibrate(asked(system), Told())
    wired.calibrate(asked(system), Told())
    want = asked(system)
    chunks = read_chunks(want.folder, want.conditions, time.time()).chunks
    windows = windows_of(chunks, 10.0)
    spans = [chunk.span for chunk in chunks]
    assert len(windows) == sum(int((end - start) // 10) for start, end in spans)
    for window in windows:
        start, end = spans[window.chunk]
        assert start <= window.start_s < window.end_s <= end + 1e-6
    assert windows_of(chunks, 1e9) == []
    assert isinstance(windows[0], Window)
    assert shortest_s(want.plan) == 38


def _complete(want: Asked, **changes: object) -> Calibration:
    """A calibration that a gate of `want` may use now."""
    names = ("canary.error_rate", "canary.latency_p95", "canary.latency_p99", "canary.recall", "canary.freshness")
    made = Calibration(
        system=want.system.name, plan="quick", made_at=moment(time.time() - 3600), interval_s=1.0, load_rate=45.0,
        intervals=ENOUGH_INTERVALS, windows=24, false_alarms=0, machine="a test's",
        dispersions=tuple(
            Dispersion(objective=name, source="client", contest=0.02, level=0.1, intervals=960, informative=960)
            for name in names
        ),
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_gate_uses_what_it_may_and_says_why_not_otherwise(system: Path):
    """Usable; too few intervals; too old; of another interval; of another load; with false alarms; none at all."""
    want = asked(system)
    now = moment(time.time())

    def found(**changes: object) -> tuple[bool, str]:
        noise = known(want.plan, {"quick": _complete(want, **changes)}, now)
        claims = " ".join(noise.judge(want.system, want.plan).claims)
        return noise.calibration is not None, claims

    assert found()[0]
    assert "calibrated: evidence is tempered" in found()[1]
    assert found(intervals=900) == (False, found(intervals=900)[1])
    assert "wants 60 more intervals" in found(intervals=900)[1]
    assert "days old" in found(made_at=moment(time.time() - 40 * 86400))[1]
    assert "judged every 2 s" in found(interval_s=2.0)[1]
    assert "requests a second" in found(load_rate=9.0)[1]
    assert "would have been rolled back" in found(false_alarms=9)[1]
    assert "made on a test's, not on mine" in known(want.plan, {"quick": _complete(want)}, now, machine="mine").why
    nameless = {"quick": _complete(want, machine="")}
    assert "a machine that it does not name, not on mine" in known(want.plan, nameless, now, machine="mine").why
    assert known(want.plan, {"quick": _complete(want)}, now, machine="a test's").calibration is not None
    assert "no A/A run" in " ".join(known(want.plan, {}, now).judge(want.system, want.plan).claims)


def test_another_plans_calibration_serves_under_the_same_conditions(system: Path):
    """A plan without an A/A run of its own takes one of the same interval and load, and no other."""
    want = asked(system)
    now = moment(time.time())
    assert known(want.plan, {"full": _complete(want, plan="full")}, now).calibration is not None
    other = known(want.plan, {"full": _complete(want, plan="full", interval_s=15.0)}, now)
    assert other.calibration is None
    assert "every 15 s" in other.why


def test_a_run_keeps_its_calibration_and_is_judged_again_by_it(system: Path, tmp_path: Path):
    """The replay reads the run's own copy: a later calibration of the system changes nothing of the past."""
    want = asked(system)
    start = moment(1_000_000.0)
    made = _complete(want, made_at=moment(1_000_000.0 - 3600))
    (system / "calibration.yaml").write_text(spec.calibration_text({"quick": made}))
    run = tmp_path / "run"
    verdict = store_run(run, GOOD, root=system, at=start)
    assert any("calibrated: evidence is tempered" in claim for claim in verdict.claims)
    before, _ = judge_again(run)
    louder = replace(made, dispersions=tuple(replace(d, contest=50.0, level=50.0) for d in made.dispersions))
    (system / "calibration.yaml").write_text(spec.calibration_text({"quick": louder}))
    assert judge_again(run)[0] == before
    assert stored_calibrations(run, spec.load_system(run / "system")) == {"quick": made}
    (run / "system" / "calibration.yaml").write_text(spec.calibration_text({"quick": louder}))
    assert judge_again(run)[0] != before  # the planted violation: the copy is what is read


@pytest.mark.parametrize("gate_on", ["far", "here"])
def test_a_replay_uses_what_the_run_used_on_any_machine(
    gate_on: str, system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A calibration made "far" tempers a run there and not one "here": so do their replays, and say what is true."""
    made = _complete(asked(system), made_at=moment(1_000_000.0 - 3600), machine="far")
    (system / "calibration.yaml").write_text(spec.calibration_text({"quick": made}))
    run, policy = tmp_path / "run", tmp_path / "policy.yaml"
    policy.write_text("schema: 1\n")
    verdict = store_run(run, GOOD, root=system, at=moment(1_000_000.0), machine=gate_on)
    used = gate_on == "far"
    assert ("not calibrated (its A/A run was made on far, not on here)" not in verdict.claims[-1]) is used
    replays = []
    for machine in ("far", "here"):
        monkeypatch.setattr(judging, "this_machine", lambda machine=machine: machine)
        replays.append(judge_by_policy(run, policy))
    assert replays[0] == replays[1]
    assert [(j.id, j.reason) for j in replays[0].judgements] == [(j.id, j.reason) for j in verdict.judgements]
    said = replays[0].claims[-1]
    if used:
        assert said == verdict.claims[-1]
    else:
        assert said.startswith("not calibrated (the run had no calibration that it could use; ")


def rollgate(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would, with a cache of its own."""
    command = [sys.executable, "-m", "harness.cli.main", *arguments]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "NO_COLOR": "1", "ROLLGATE_CACHE": str(cwd / "cache")}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ("calibrate", "nosuchsystem"),
        ("calibrate", "minimal", "--plan", "nosuchplan"),
        ("calibrate", "minimal", "--intervals", "0"),
        ("calibrate", "minimal", "--intervals", "many"),
        ("calibrate",),
    ],
    ids=" ".join,
)
def test_a_wrong_call_is_exit_code_2_and_starts_nothing(arguments: tuple[str, ...], tmp_path: Path):
    """Every wrong word says what was expected; nothing is written."""
    done = rollgate(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["gate", "plan", "calibrate", "validate"])
def test_no_command_goes_on_with_a_bad_calibration(command: str, tmp_path: Path):
    """The wrong system's calibration: one line with file, line and mend, exit 2, and no run's folder."""
    mine = Path(shutil.copytree(SYSTEM.parent / "minimal", tmp_path / "mine"))
    (mine / "calibration.yaml").write_text("schema: 1\nsystem: researchflow\nplans: {}\n")
    done = rollgate(command, str(mine), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert lines
    assert all("calibration.yaml:" in line and "—" in line for line in lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


def test_status_is_for_reading(tmp_path: Path):
    """`rollgate calibrate SYSTEM --status` ends in 0, tells the wanting intervals on stdout, and makes no folder."""
    done = rollgate("calibrate", "minimal", "--status", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "0 of 960 intervals" in done.stdout
    assert list(tmp_path.iterdir()) == []
