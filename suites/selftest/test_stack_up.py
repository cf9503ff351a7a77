"""A stack without a gate outlives its command, tells of itself, and is gone when it, or its keeper, is ended."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from harness import spec
from harness.adapters.stack_file import read_description
from harness.paths import cache_root
from harness.wiring import stack

pytestmark = pytest.mark.selftest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
_GONE_S = 30.0


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """`run("up", "minimal")`: one command; what a test left up is taken down in the end."""

    def one(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "harness.cli.main", "stack", *words]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)

    yield one
    one("down", "minimal")


@pytest.fixture(scope="module")
def folder() -> Path:
    """Where the keeper of the smallest system lives."""
    return stack.folder_of(spec.load_system(spec.find_system("minimal")))


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Stacks of these tests lie in a cache of their own, with the programs of the user's: two runs must not meet."""
    kept, own = cache_root(), tmp_path_factory.mktemp("cache")
    for name in ("programs", "tools", "models"):
        if (kept / name).exists():
            (own / name).symlink_to(kept / name)
    before = os.environ.get("ROLLGATE_CACHE")
    os.environ["ROLLGATE_CACHE"] = str(own)
    yield
    if before is None:
        del os.environ["ROLLGATE_CACHE"]
    else:
        os.environ["ROLLGATE_CACHE"] = before


def keepers(folder: Path) -> list[int]:
    """Return the processes that the instances of a stack belong to."""
    return [one["keeper"] for one in read_description(folder / stack.STACK)["instances"]]


def await_gone(pids: list[int]) -> list[int]:
    """Return which of the processes still live after some time."""
    deadline = time.monotonic() + _GONE_S
    while (left := [pid for pid in pids if lives(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def lives(pid: int) -> bool:
    """Tell whether a process runs: one that nobody has waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_stack_outlives_its_command_and_is_taken_down(run: Run, folder: Path):
    """The seven steps in order, endpoints that answer, a second one refused, logs; and nothing left in the end."""
    done = run("up", "minimal", "--provider", "native")
    assert done.returncode == 0, done.stdout
    steps = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert [line[:5] for line in steps] == [f"[{number}/7]" for number in range(1, 8)]
    pids = keepers(folder)
    assert all(lives(pid) for pid in pids)

    again = run("up", "minimal", "--provider", "native")
    assert again.returncode == 2
    assert "is up already" in again.stdout
    told = run("status", "minimal")
    assert told.returncode == 0, told.stdout
    assert "app[candidate]" in told.stdout
    assert "DOWN" not in told.stdout
    assert run("logs", "minimal", "router").stdout.startswith("==> router <==")
    assert run("logs", "minimal", "nobody").returncode == 2

    down = run("down", "minimal")
    assert "is down" in down.stdout
    assert await_gone(pids) == []
    assert not folder.exists()
    assert not list((cache_root() / "run").iterdir())
    assert "no stack of minimal was up" in run("down", "minimal").stdout
    assert run("status", "minimal").returncode == 4


def test_a_part_that_ended_is_told(run: Run, folder: Path):
    """`status` says DOWN and ends with 4 where an instance is gone; a killed keeper takes all with it."""
    assert run("up", "minimal", "--provider", "native").returncode == 0
    pids = keepers(folder)
    router = read_description(folder / stack.STACK)["instances"]
    dead = next(one["keeper"] for one in router if one["service"] == "router")
    os.kill(dead, signal.SIGKILL)
    assert await_gone([dead]) == []
    deadline = time.monotonic() + _GONE_S
    while (told := run("status", "minimal")).returncode == 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert told.returncode == 4
    assert any("router" in line and "DOWN" in line for line in told.stdout.splitlines())

    keeper = stack._alive(folder)  # noqa: SLF001
    os.kill(keeper, signal.SIGKILL)
    assert await_gone([keeper, *pids]) == []
    assert run("status", "minimal").returncode == 4


def test_a_stack_that_does_not_come_up_leaves_nothing(run: Run, folder: Path, tmp_path: Path):
    """Bad words are refused before anything starts; a service that ends at once is named, and no keeper stays."""
    before = set(psutil.pids())
    assert run("up", "minimal", "--provider", "podman").returncode == 2
    assert run("up", "minimal", "--provider", "remote").returncode == 2
    assert run("up", "minimal", "--release", str(tmp_path / "none.yaml"), "--provider", "native").returncode == 2
    root = tmp_path / "minimal"
    shutil.copytree(spec.find_system("minimal"), root)
    text = (root / "system.yaml").read_text(encoding="utf-8")
    command = 'command: ["${python}", "${system}/app.py"]'
    assert command in text
    broken = text.replace(command, 'command: ["${python}", "-c", "raise SystemExit(3)"]')
    (root / "system.yaml").write_text(broken, encoding="utf-8")
    up = run("up", str(root), "--provider", "native")
    assert up.returncode == 4, up.stdout
    assert "app[baseline] does not come up: it exited with 3" in up.stdout
    assert "Traceback" not in up.stdout
    assert not (folder / stack.STACK).exists() or run("status", "minimal").returncode == 4
    assert not [one for one in set(psutil.pids()) - before if _is_keeper(one)]


def _is_keeper(pid: int) -> bool:
    try:
        return "harness.wiring.stack" in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
