"""kill -9 of the harness, at any moment of a gate, leaves nothing behind."""

import contextlib
import os
import random
import subprocess
import sys
import time
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


def leftovers(before: list[psutil.Process], ports: set[int], states: set[str]) -> list[str]:
    """Return what is still there of a run: processes, ports, state folders, shared memory."""
    alive = [p for p in before if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    held = listening([p for p in psutil.process_iter() if p.pid != os.getpid()]) & ports if not alive else set[int]()
    runs = cache_root() / "run"
    folders = {f.name for f in runs.iterdir()} & states if runs.is_dir() else set[str]()
    return [*(f"process {p.pid}" for p in alive), *(f"port {p}" for p in held), *(f"folder {f}" for f in folders)]


@pytest.mark.parametrize("moment", _MOMENTS)
def test_kill_9_at_a_random_moment_leaves_nothing_running(tmp_path: Path, moment: float) -> None:
    """Processes, ports and the run's state are gone within five seconds, whatever phase the gate was in."""
    runs = cache_root() / "run"
    known = {f.name for f in runs.iterdir()} if runs.is_dir() else set[str]()
    command = [sys.executable, "-m", "harness.cli.main", "gate", "minimal", "--out", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as gate:
        time.sleep(moment)  # the moment is what is tested
        harness = psutil.Process(gate.pid)
        children = harness.children(recursive=True)
        ports = listening(children)
        mine = str(tmp_path / "out")
        states = ({f.name for f in runs.iterdir()} if runs.is_dir() else set[str]()) - known
        states = {name for name in states if name in _run_of(mine)}
        gate.kill()
        gate.wait()
    deadline = time.monotonic() + _CLEAN_WITHIN_S
    while (left := leftovers(children, ports, states)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


def _run_of(out: str) -> str:
    """Return what the run's own description says, "" before it was written: it names the run's id."""
    description = Path(out) / "stack.json"
    return description.read_text(encoding="utf-8") if description.exists() else ""
