"""The child's program of the real bench: the command itself, started from here so that it can be killed anywhere.

It lives in a process of its own. What the command uses is wrapped with points of death: at the chosen one the process
sends itself SIGKILL, which nothing can catch. The product knows nothing of this.
"""

import importlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from harness.adapters import clock, durable, evidence_files, flags_file, haproxy, journal, rollouts

PRELOADED = ["harness.cli.main", "harness.wiring.rollout", "harness.bench.driver.real_child"]
_COMMAND = "harness.cli.main"


@dataclass(slots=True)
class Fuse:
    """Counts the points that the process passes, once armed, and kills it at number `at`; 0 is never.

    `told` is the file that hears the name of each point passed.
    """

    at: int
    told: Path
    armed: bool = False
    passed: int = 0
    _file: int = field(init=False)

    def __post_init__(self) -> None:
        """Open the file."""
        self._file = os.open(self.told, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def point(self, name: str) -> None:
        """Pass a point; the last one, where it is the chosen one."""
        if not self.armed:
            return
        self.passed += 1
        os.write(self._file, f"{name}\n".encode())
        if self.passed == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, owner: object, method: str, name: Callable[[Sequence[object]], str], *, after: bool = True) -> None:
        """Put a point before `method` and one after it; `name` gets its arguments and returns "" where none is."""
        inner = getattr(owner, method)

        @wraps(inner)
        def outer(*args: object, **kwargs: object) -> object:
            what = name(args)
            if what:
                self.point(f"before {what}")
            answer = inner(*args, **kwargs)
            if what and after:
                self.point(f"after {what}")
            return answer

        setattr(owner, method, outer)


def _journal(fuse: Fuse) -> None:
    """Wrap the journal. The first fencing token arms the fuse: before it nothing has begun."""

    def fence(_: Sequence[object]) -> str:
        fuse.armed = True
        return "taking a fencing token"

    fuse.wrap(journal.SqliteJournal, "fence", fence)
    fuse.wrap(journal.SqliteJournal, "append", lambda args: f"journal entry {args[1]}")
    fuse.wrap(vars(journal)["_Transaction"], "__exit__", lambda _: "a commit", after=False)


def _acts(fuse: Fuse) -> None:
    """Wrap what moves traffic: each change of the map, on disk and in the router, of the flag, and of the lease."""
    fuse.wrap(haproxy.AdminSocket, "command", lambda args: _change(str(args[1])))
    fuse.wrap(haproxy.HAProxyRouter, "_write_map", lambda _: "the map on disk")
    for method in ("hold_lease", "drop_lease", "settle"):
        fuse.wrap(haproxy.HAProxyRouter, method, lambda _, what=method: what)
    fuse.wrap(flags_file.FileFlags, "set", lambda args: f"flag {args[2]} %")
    fuse.wrap(durable, "replace", lambda args: f"replacing {Path(str(args[0])).name}")
    fuse.wrap(durable, "write", lambda args: f"writing {Path(str(args[0])).name}")


def _change(line: str) -> str:
    """Return a command that changes HAProxy's map, without the map's name; "" for one that asks."""
    words = line.split()
    return f"`set {' '.join(words[3:])}`" if words[:2] == ["set", "map"] else ""


def _torn(fuse: Fuse) -> None:
    """Count evidence writes, in place of all else, and die in the middle of one."""
    inner = evidence_files.EvidenceFiles.append

    def append(self: Any, records: Any) -> None:  # noqa: ANN401 - as the method's own
        before = self._file.tell()
        inner(self, records)
        if records:
            if fuse.passed + 1 == fuse.at:
                whole = self._file.tell()
                os.truncate(self._file.fileno(), before + (whole - before) // 2)
            fuse.point("in an evidence write, torn")

    setattr(evidence_files.EvidenceFiles, "append", append)  # noqa: B010 - a method of the class, on purpose


@dataclass(frozen=True, slots=True)
class Steps:
    """A clock that stands until the other end of `line` says how long a sleep lasts beyond what was asked.

    It begins at `at`, seconds since the epoch.
    """

    line: "Connection[float, float]"
    at: float


def _by_steps(steps: Steps) -> None:
    """Replace the system's clock."""
    passed = 0.0

    def sleep(_: object, seconds: float) -> None:
        nonlocal passed
        steps.line.send(seconds)
        passed += seconds + steps.line.recv()

    def monotonic(_: object) -> float:
        return passed

    def now(_: object) -> float:
        return steps.at + passed

    for method in (sleep, monotonic, now):
        setattr(clock.SystemClock, method.__name__, method)


@contextmanager
def _unlocked(*_: object) -> Generator[None]:
    yield


def command(
    arguments: list[str],
    log: Path,
    *,
    at: int = 0,
    torn: int = 0,
    told: Path | None = None,
    barrier: Barrier | None = None,
    unlocked: bool = False,
    steps: "Steps | None" = None,
) -> None:
    """Run `rollgate` with `arguments`, its output to `log`; die at point `at`, or in evidence write number `torn`.

    `barrier`: begin together with others. `unlocked`: without the lock that a feature's driver holds on its machine.
    `steps`: time passes only where somebody lets it.
    """
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number in (1, 2):
        os.dup2(said, number)
    if told is not None:
        fuse = Fuse(at=torn or at, told=told)
        if torn:
            fuse.armed = True
            _torn(fuse)
        else:
            _journal(fuse)
            _acts(fuse)
    if unlocked:
        rollouts.RolloutFolder.driving = _unlocked  # pyright: ignore[reportAttributeAccessIssue]
    if steps is not None:
        _by_steps(steps)
    sys.argv = ["rollgate", *arguments]
    run = importlib.import_module(_COMMAND).main
    if barrier is not None:
        barrier.wait(60)
    run()


def _stepped() -> None:
    """Run the command under libfaketime, beside which only select sleeps by the clock that never steps."""

    def sleep(seconds: float, /) -> None:
        select.select([], [], [], seconds)

    setattr(time, "sleep", sleep)  # noqa: B010 - of the module, for all who use it
    importlib.import_module(_COMMAND).main()


if __name__ == "__main__":
    _stepped()
