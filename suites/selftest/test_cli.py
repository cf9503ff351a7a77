"""The command line: contract codes, one clear error, nothing left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harness import spec
from harness.cli.main import app
from harness.model.errors import EnvironmentProblem, SpecError
from harness.paths import share_root
from harness.wiring import gate

pytestmark = pytest.mark.selftest

MINIMAL = share_root() / "stack" / "systems" / "minimal"


def rollgate(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    command = [sys.executable, "-m", "harness.cli.main", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "NO_COLOR": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A user's own copy of the smallest system."""
    folder = tmp_path / "mine"
    shutil.copytree(MINIMAL, folder)
    return folder


def edit(path: Path, old: str, new: str) -> None:
    """Plant a mistake; the text to replace must be there."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


MISTAKES = {
    "malformed YAML": ("system.yaml", "services:\n", "services: [\n", "system.yaml:"),
    "an unknown key": ("rollout.yaml", "warmup_s: 3", "warm_up_s: 3", "warm_up_s"),
    "a threshold that is no bucket bound": ("objectives.yaml", "threshold: 200", "threshold: 222", "objectives.yaml:"),
    "a plan that does not rise": ("rollout.yaml", "share: 50", "share: 10", "rollout.yaml:"),
    "a time that is no number": ("rollout.yaml", "deadline_s: 120", "deadline_s: soon", "deadline_s"),
    "an unknown service in traffic": ("system.yaml", "gateway: app", "gateway: nobody", "gateway"),
    "a missing locust file": ("scenarios.yaml", "scenarios/answer.py", "scenarios/none.py", "scenarios.yaml:"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_data_is_one_line_and_exit_code_2(system: Path, tmp_path: Path, mistake: str) -> None:
    """File, key and mend are named; nothing starts, nothing is left, no traceback."""
    name, old, new, named = MISTAKES[mistake]
    edit(system / name, old, new)
    done = rollgate("gate", str(system), "--out", str(tmp_path / "out"), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1
    assert named in lines[0]
    assert name in lines[0]
    assert "—" in lines[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("gate", "nosuchsystem"),
        ("gate", "minimal", "--release", "nosuchrelease"),
        ("gate", "minimal", "--plan", "nosuchplan"),
        ("gate", "minimal", "--provider", "nosuchprovider"),
        ("gate", "minimal", "--drill", "nosuchdrill"),
        ("gate", "minimal", "--time-scale", "0"),
        ("gate", "minimal", "--time-scale", "nan"),
        ("gate", "minimal", "--time-scale", "inf"),
        ("gate", "researchflow", "--require-real"),
        ("gate",),
        ("judge", "nosuchrun"),
        ("explain", "nosuchrun", "x"),
        ("abort", "nosuchrun", "--reason", "x"),
        ("nosuchcommand",),
    ],
    ids=" ".join,
)
def test_a_wrong_call_is_exit_code_2_without_a_traceback(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Every wrong name says what was expected; nothing is written."""
    done = rollgate(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_system_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the terminal shows and what the gate runs is one reading: files edited in between change neither."""
    reads: list[Path] = []
    load = spec.load_system
    monkeypatch.setattr(spec, "load_system", lambda root: reads.append(root) or load(root))
    with pytest.raises(SpecError, match="nosuch"):
        app(["gate", "minimal", "--release", "nosuch"], standalone_mode=False)
    assert reads == [MINIMAL]


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    """--out at a folder that holds a run is refused, and the run stays as it was."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "verdict.json").write_text("{}")
    done = rollgate("gate", "minimal", "--out", str(tmp_path / "run"), cwd=tmp_path)
    assert (done.returncode, (tmp_path / "run" / "verdict.json").read_text()) == (2, "{}")


def test_init_gives_a_sound_system_of_ones_own(tmp_path: Path) -> None:
    """init, then validate: sound; init again into it: refused."""
    assert rollgate("init", "own", cwd=tmp_path).returncode == 0
    assert rollgate("validate", "own", cwd=tmp_path).returncode == 0
    assert rollgate("init", "own", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize("name", ["minimal", "researchflow"])
def test_the_systems_that_ship_are_sound_and_their_plan_prints_the_same_twice(tmp_path: Path, name: str) -> None:
    """Validate finds nothing; plan is deterministic and starts nothing."""
    done = rollgate("validate", str(share_root() / "stack" / "systems" / name), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (rollgate("plan", name, cwd=tmp_path) for _ in range(2))
    assert first.returncode == 0
    assert first.stdout == second.stdout
    assert "stage 10" in first.stdout
    assert list(tmp_path.iterdir()) == []


def test_history_survives_broken_folders(tmp_path: Path) -> None:
    """A folder without a readable verdict is listed with its problem, and is no error."""
    (tmp_path / "reports" / "broken").mkdir(parents=True)
    (tmp_path / "reports" / "broken" / "verdict.json").write_text("{")
    done = rollgate("history", "--json", cwd=tmp_path)
    listed = [(run["run_id"], bool(run["problem"])) for run in json.loads(done.stdout)]
    assert (done.returncode, listed) == (0, [("broken", True)])


def test_a_full_disk_is_the_machines_problem_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little space for a run is told before its folder is made: exit code 4, with the mend."""
    monkeypatch.setattr(gate, "_MIN_FREE", 2**60)
    with pytest.raises(EnvironmentProblem, match="MiB free") as caught:
        gate.run_gate("minimal", out=tmp_path / "out")
    assert (caught.value.exit_code, "--out" in caught.value.mend) == (4, True)
    assert list(tmp_path.iterdir()) == []


def test_a_copy_that_fails_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up while the system's files are copied is no traceback."""

    def full(*_args: object, **_options: object) -> None:
        raise shutil.Error([("a", "b", "[Errno 28] No space left on device")])

    monkeypatch.setattr(gate.shutil, "copytree", full)
    with pytest.raises(EnvironmentProblem, match="No space left"):
        gate.run_gate("minimal", out=tmp_path / "out")


def test_a_defect_of_ours_is_one_line_and_kept_in_a_file(tmp_path: Path) -> None:
    """An unforeseen exception ends in exit code 4 with the file that holds its traceback."""
    script = (
        "import sys, harness.cli.main as m\n"
        "def broken(*a, **k): raise RuntimeError('x' * 5000)\n"
        "m.app = broken\n"
        "m.main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "ROLLGATE_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 4
    assert len(done.stderr.splitlines()) == 1
    assert len(done.stderr) < 500
    assert "RuntimeError" in next((tmp_path / "crashes").iterdir()).read_text(encoding="utf-8")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_says_so_in_one_line_and_leaves_nothing_running(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Any command, here while a set-up tool runs: exit code 130, and the tool is ended with it."""
    script = (
        "import harness.wiring as w, harness.cli.main as m\n"
        "from harness.adapters.tool import hear\n"
        "tell = lambda line: print(line, flush=True)\n"
        "w.diagnose = lambda *_, **__: hear(['sh', '-c', 'echo $$; exec sleep 60'], each_line=tell)\n"
        "m.main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", script, "doctor"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        tool = int(process.stdout.readline())
        process.send_signal(number)
        _, said = process.communicate(timeout=50)
    assert (process.returncode, said) == (130, "rollgate: interrupted\n")
    assert not psutil.pid_exists(tool)


def test_a_reader_that_goes_away_does_not_change_the_exit_code(tmp_path: Path) -> None:
    """Output into a closed pipe is still the command's own exit code, not that of a failed release."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "harness.cli.main", "plan", "researchflow"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, stdout=write, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_run_inside_the_systems_own_folder_is_not_copied_into_itself(system: Path, tmp_path: Path) -> None:
    """`--out` below the system's folder, as `rollgate gate .` does by default."""
    loaded = spec.load_system(system)
    out = system / "reports" / "run"
    out.mkdir(parents=True)
    gate.keep_spec(loaded, out)
    assert (out / "system" / "system.yaml").is_file()
    assert not (out / "system" / "reports").exists()
    inside = tmp_path / "mine" / "elsewhere"
    inside.mkdir()
    gate.keep_spec(loaded, inside)
    assert not (inside / "system" / "elsewhere").exists()
