"""However a gate is ended, by kill -9 at any moment or by a signal, it leaves nothing behind."""

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness.paths import cache_root

pytestmark = pytest.mark.selftest

_CLEAN_WITHIN_S = 5.0
_MOMENTS = [round(random.Random(9).uniform(0.5, 12.0), 2) for _ in range(10)]


def listening(processes: list[psutil.Process]) -> set[int]:
    """Return the TCP ports on which any of `processes` listens."""
    ports: set[int] = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            ports |= {c.laddr.port for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    return ports


def runs_still(process: psutil.Process) -> bool:
    """Tell whether a process runs: it may end between any two questions."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def leftovers(before: list[psutil.Process], ports: set[int], states: set[str]) -> list[str]:
    """Return what is still there of a run: processes, ports, state folders, shared memory."""
    alive = [process for process in before if runs_still(process)]
    held = listening([p for p in psutil.process_iter() if p.pid != os.getpid()]) & ports if not alive else set[int]()
    runs = cache_root() / "run"
    folders = {f.name for f in runs.iterdir()} & states if runs.is_dir() else set[str]()
    return [*(f"process {p.pid}" for p in alive), *(f"port {p}" for p in held), *(f"folder {f}" for f in folders)]


class Running:
    """A gate of the smallest system in a process of its own, and what it had when it was looked at."""

    def __init__(self, out: Path) -> None:
        self.out = out
        command = [sys.executable, "-m", "harness.cli.main", "gate", "minimal", "--out", str(out)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        self.gate = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.children: list[psutil.Process] = []
        self.ports: set[int] = set()
        self.states: set[str] = set()

    def look(self) -> None:
        """Keep the descendants, their ports and the run's state folder."""
        self.children = psutil.Process(self.gate.pid).children(recursive=True)
        self.ports = listening(self.children)
        runs = cache_root() / "run"
        text = description_of(self.out)
        self.states = {f.name for f in runs.iterdir() if f.name in text} if runs.is_dir() else set()

    def left(self) -> list[str]:
        """Wait until nothing is left, five seconds at most; return what is."""
        deadline = time.monotonic() + _CLEAN_WITHIN_S
        while (found := leftovers(self.children, self.ports, self.states)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """A gate that has just been started."""
    run = Running(tmp_path / "out")
    yield run
    if run.gate.poll() is None:
        run.gate.kill()
    run.gate.wait()


@pytest.mark.parametrize("moment", _MOMENTS)
def test_kill_9_at_a_random_moment_leaves_nothing_running(running: Running, moment: float) -> None:
    """Processes, ports and the run's state are gone within five seconds, whatever phase the gate was in."""
    time.sleep(moment)  # the moment is what is tested
    running.look()
    running.gate.kill()
    running.gate.wait()
    assert running.left() == []


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interrupt_in_the_rollout_ends_in_130_with_a_verdict(running: Running, signal_: signal.Signals) -> None:
    """The traffic goes back first, the verdict says who ended it, nothing is left; a second signal changes nothing."""
    moved = running.out / "evidence" / "judged.jsonl"
    deadline = time.monotonic() + 60
    while not (moved.exists() and '"stage":"10"' in moved.read_text(encoding="utf-8")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    running.look()
    running.gate.send_signal(signal_)
    with contextlib.suppress(ProcessLookupError):
        running.gate.send_signal(signal_)
    assert running.gate.wait(timeout=30) == 130
    verdict = json.loads((running.out / "verdict.json").read_text(encoding="utf-8"))
    assert (verdict["exit_code"], verdict["decision"], verdict["cause"]) == (130, "rollback", "operator")
    with contextlib.closing(sqlite3.connect(running.out / "journal.sqlite")) as journal:
        moves = [json.loads(row[0])["to"] for row in journal.execute("select what from entries where kind = 'outcome'")]
    assert moves[-1] == 0
    assert running.left() == []


def description_of(out: Path) -> str:
    """Return what the run's own description says, "" before it was written: it names the run's id."""
    description = out / "stack.json"
    return description.read_text(encoding="utf-8") if description.exists() else ""
