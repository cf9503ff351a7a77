"""A script that makes models: its lines are passed on, its failure is one line, and it never outlives the harness."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from native_runs import processes_in, until

from harness.adapters.prepare import run_script
from harness.model.errors import EnvironmentProblem

pytestmark = pytest.mark.selftest

SLOW = """
import os, pathlib, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", sys.argv[2]])
pathlib.Path(sys.argv[2], "began").write_text("")
time.sleep(600)
"""
HARNESS = """
import sys
from pathlib import Path
from harness.adapters.prepare import run_script
run_script(Path(sys.argv[1]), Path(sys.argv[2]), print)
"""


def script(tmp_path: Path, text: str) -> Path:
    """Return a script with this text."""
    path = tmp_path / "make.py"
    path.write_text(text)
    return path


def test_its_lines_are_passed_on_and_nothing_is_left(tmp_path: Path) -> None:
    """It is told where the cache is; its log goes when it ends."""
    heard: list[str] = []
    run_script(script(tmp_path, "import sys\nprint('one')\nprint(sys.argv[1:])\n"), tmp_path / "cache", heard.append)
    assert heard == ["one", f"['--cache', '{tmp_path / 'cache'}']"]
    assert list((tmp_path / "cache").iterdir()) == []


def test_its_failure_is_its_last_word(tmp_path: Path) -> None:
    """A script that exits with an error, and one that is killed without a word."""
    for text, says in (("raise SystemExit('no room')", "make.py failed: no room"), (KILLED, "killed by SIGKILL")):
        with pytest.raises(EnvironmentProblem, match=says):
            run_script(script(tmp_path, text), tmp_path / "cache", lambda _: None)
    assert list((tmp_path / "cache").iterdir()) == []


KILLED = "import os\nos.kill(os.getpid(), 9)\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_is_gone_with_the_harness(tmp_path: Path, number: int) -> None:
    """The harness is killed while the script and a child of it work: both end, and their folder goes."""
    cache = tmp_path / "cache"
    command = [sys.executable, "-c", HARNESS, str(script(tmp_path, SLOW)), str(cache)]
    with subprocess.Popen(command) as harness:
        assert until((cache / "began").is_file, within=20.0)
        assert len(processes_in(tmp_path)) >= 3
        os.kill(harness.pid, number)
    assert until(lambda: not processes_in(tmp_path))
    assert until(lambda: [path.name for path in cache.iterdir()] == ["began"])  # the last thing a watchdog does


def test_a_plain_child_would_stay(tmp_path: Path) -> None:
    """The planted violation: started without a watchdog, the same script is still there."""
    plain = "import subprocess, sys; subprocess.run([sys.executable, sys.argv[1], '--cache', sys.argv[2]])"
    (tmp_path / "cache").mkdir()
    command = [sys.executable, "-c", plain, str(script(tmp_path, SLOW)), str(tmp_path / "cache")]
    with subprocess.Popen(command, start_new_session=True) as harness:
        assert until((tmp_path / "cache" / "began").is_file, within=20.0)
        group = os.getpgid(harness.pid)
        os.kill(harness.pid, signal.SIGKILL)
    try:
        assert not until(lambda: not processes_in(tmp_path), within=1.0)
    finally:
        os.killpg(group, signal.SIGKILL)
