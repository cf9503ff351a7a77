"""Processes under their watchdogs: nothing outlives the harness, exits are counted, settings do not leak."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from native_runs import processes_in, until

from harness.adapters import processes
from harness.model.errors import EnvironmentProblem

pytestmark = pytest.mark.selftest

# A child that starts a grandchild in a session of its own, deaf to SIGTERM, which listens on a port.
DEAF = """
import os, signal, socket, sys, time
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    listener = socket.socket(); listener.bind(("127.0.0.1", 0)); listener.listen()
    open(sys.argv[1], "w").write(f"{os.getpid()} {listener.getsockname()[1]}")
time.sleep(600)
"""
HARNESS = """
import sys, time
from pathlib import Path
from harness.adapters import processes
folder = Path(sys.argv[1])
(folder / "i" / "one").mkdir(parents=True)
processes.start([sys.executable, "-c", sys.argv[2], str(folder.parent / "told")], env={}, cwd=folder / "i" / "one",
                log=folder.parent / "log", shm_prefixes=[sys.argv[3]], folders=[folder / "i" / "one"], root=folder)
print("up", flush=True)
time.sleep(600)
"""


def start(tmp_path: Path, code: str, *arguments: str, restart: bool = False) -> processes.Process:
    """Run Python code under a watchdog."""
    command = [sys.executable, "-c", code, *arguments]
    return processes.start(command, env={}, cwd=tmp_path, log=tmp_path / "log", restart=restart)


def told(path: Path) -> tuple[int, int]:
    """Return the grandchild's pid and port."""
    assert until(lambda: path.is_file() and len(path.read_text(encoding="ascii").split()) == 2)
    pid, port = path.read_text(encoding="ascii").split()
    return int(pid), int(port)


def test_stopping_ends_a_deaf_grandchild_in_its_own_session(tmp_path: Path) -> None:
    """The program leaves a grandchild that ignores SIGTERM and has its own session."""
    process = start(tmp_path, DEAF, str(tmp_path / "told"))
    grandchild, _ = told(tmp_path / "told")

    process.terminate(grace=1.0)

    assert not psutil.pid_exists(grandchild)
    assert process.poll() == -signal.SIGTERM


def test_a_plain_child_would_leave_that_grandchild_behind(tmp_path: Path) -> None:
    """The planted violation: without a watchdog the same check finds the grandchild alive."""
    with subprocess.Popen([sys.executable, "-c", DEAF, str(tmp_path / "told")], cwd=tmp_path) as child:
        grandchild, _ = told(tmp_path / "told")
        child.terminate()
    try:
        assert psutil.pid_exists(grandchild)
        assert processes_in(tmp_path)
    finally:
        os.kill(grandchild, signal.SIGKILL)


def test_a_killed_harness_leaves_no_process_no_shared_memory_no_folder_no_port(tmp_path: Path) -> None:
    """Kill -9 of the harness: all is gone within 5 s."""
    run, prefix = tmp_path / "run", f"rollgate_selftest_{os.getpid()}_"
    shared = Path("/dev/shm", f"{prefix}region")  # noqa: S108 - the very place
    command = [sys.executable, "-c", HARNESS, str(run), DEAF, prefix]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as harness:
        assert harness.stdout is not None
        assert harness.stdout.readline() == b"up\n"
        if shared.parent.is_dir():
            shared.write_bytes(b"0")
        _, port = told(tmp_path / "told")
        harness.kill()

    def clean() -> bool:
        listening = {one.laddr.port for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN}
        return not (processes_in(tmp_path) or shared.exists() or run.exists() or port in listening)

    assert until(clean, within=5.0)


def test_an_exit_that_nobody_asked_for_is_counted_and_the_program_started_again(tmp_path: Path) -> None:
    """The program exits with 3 at once, again and again."""
    process = start(tmp_path, "raise SystemExit(3)", restart=True)

    assert until(lambda: process.restarts >= 2)
    assert process.exit_note == "exited with 3"
    assert process.poll() is None
    process.terminate(grace=0.5)


def test_without_restart_the_exit_code_is_the_programs(tmp_path: Path) -> None:
    """One exit, one code, no second start."""
    process = start(tmp_path, "raise SystemExit(7)")

    assert until(lambda: process.poll() is not None)
    assert (process.poll(), process.restarts) == (7, 1)
    process.terminate(grace=0.1)


def test_a_crash_is_told_by_its_signal(tmp_path: Path) -> None:
    """The program is killed from outside."""
    process = start(tmp_path, "import time; time.sleep(600)")

    os.kill(process.pid, signal.SIGKILL)

    assert until(lambda: process.poll() is not None)
    assert process.exit_note == "killed by SIGKILL"
    process.terminate(grace=0.1)


def test_a_drill_kills_for_good_and_counts_no_restart(tmp_path: Path) -> None:
    """`kill` leaves a restarting program dead."""
    process = start(tmp_path, "import time; time.sleep(600)", restart=True)

    process.kill()

    assert not process.running
    assert not until(lambda: process.running, within=0.8)
    assert process.restarts == 0
    process.terminate(grace=0.1)


def test_a_stopped_program_is_killed_after_its_grace(tmp_path: Path) -> None:
    """SIGSTOP makes it deaf to everything but SIGKILL."""
    process = start(tmp_path, "import time; time.sleep(600)")
    pid = process.pid
    os.kill(pid, signal.SIGSTOP)

    process.terminate(grace=0.3)

    assert not psutil.pid_exists(pid)


def test_the_program_sees_its_own_environment_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret of the harness's environment does not reach it; what is needed does."""
    monkeypatch.setenv("SECRET_OF_THE_PARENT", "x")
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    env = processes.clean_environment() | {"OWN": "1"}
    process = processes.start([sys.executable, "-c", code], env=env, cwd=tmp_path, log=tmp_path / "log")
    assert until(lambda: process.poll() is not None)
    process.terminate(grace=0.1)

    seen = json.loads((tmp_path / "log").read_text(encoding="utf-8"))

    assert "SECRET_OF_THE_PARENT" not in seen
    assert {"OWN", "PATH"} <= seen.keys()
    assert "127.0.0.1" in seen["NO_PROXY"]


@pytest.mark.parametrize("command", [["/nowhere/program"], ["/etc/passwd"]])
def test_a_program_that_cannot_run_is_one_clear_error(tmp_path: Path, command: list[str]) -> None:
    """A missing file, and one that may not be executed."""
    with pytest.raises(EnvironmentProblem, match=r"cannot start .*: (No such file|Permission denied)"):
        processes.start(command, env={}, cwd=tmp_path, log=tmp_path / "log")


def test_a_log_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    """The log's folder is away."""
    with pytest.raises(EnvironmentProblem, match="No such file"):
        processes.start([sys.executable, "-V"], env={}, cwd=tmp_path, log=tmp_path / "away" / "log")
