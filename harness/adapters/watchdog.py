"""Runs one program, and ends it with everything it started when the harness goes away.

A script of its own, standard library only, started as `python -I -S watchdog.py`. The harness holds the other
end of its standard input: the first line is the order (JSON); further lines are "stop SECONDS" (end it and remove
what it owned), "kill" (end it and leave it dead) or "leave" (end it, keep its folders). The end of the file means
that the harness is gone. Every change is told as one JSON line on standard output:
`{"event": "started", "pid"}`, `{"event": "exited", "code", "note", "restarts", "again"}`, `{"event": "failed",
"note"}`.

On Linux it is the subreaper of its descendants, so that even a grandchild in a session of its own is found and
ended; elsewhere the program's process group is the best that can be had.
"""

import contextlib
import ctypes
import errno
import json
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TypedDict, cast

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LINUX = sys.platform == "linux"
_SHM = Path("/dev/shm")  # noqa: S108 - POSIX shared memory lives here
_LOST_GRACE_S = 1.5  # for the program, once the harness is gone
_REST_GRACE_S = 0.4  # for what the program left behind
_UNKILLABLE_S = 2.0  # a process in an uninterruptible wait is left behind after this
_BACK_OFF_S = 0.5
_PARENT_POLL_S = 1.0


class Order(TypedDict):
    """What to run. `folders` are removed at the end; then `root`, once its folder that held them is empty."""

    command: list[str]
    env: dict[str, str]
    cwd: str
    log: str
    restart: bool
    shm_prefixes: list[str]
    folders: list[str]
    root: str


class Watchdog:
    """One program and its descendants."""

    def __init__(self, order: Order) -> None:
        """Take the order; nothing runs yet."""
        self.order = order
        self.child = 0
        self.restarts = 0
        self.restart_at: float | None = None
        self.code: int | None = None
        self.buffer = b""
        self.parent = os.getppid()
        self.wake, wake_writer = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(wake_writer, False)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _wake_only)
        self.ended_by_signal = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        if _LINUX:
            _prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def _on_signal(self, *_: object) -> None:
        self.ended_by_signal = True

    def run(self) -> int:
        """Return the program's exit code once all is over; 0 when it was stopped on request."""
        self._spawn()
        while True:
            if self.code is not None and not self.order["folders"]:
                self._finish(0)
                return self.code & 0xFF
            readable = self._wait(self._timeout())
            if self.ended_by_signal or os.getppid() != self.parent:
                self._finish(_LOST_GRACE_S)
                return 0
            for line in self._commands() if 0 in readable else ():
                if line is None:
                    self._finish(_LOST_GRACE_S)
                    return 0
                verb, _, argument = line.partition(" ")
                if verb == "stop":
                    self._finish(float(argument or _LOST_GRACE_S))
                    return 0
                if verb in {"kill", "leave"}:
                    self._kill()
                if verb == "leave":
                    return 0
            self._reap()
            if self.restart_at is not None and time.monotonic() >= self.restart_at:
                self.restart_at = None
                self._spawn()

    def _timeout(self) -> float:
        if self.restart_at is None:
            return _PARENT_POLL_S
        return min(_PARENT_POLL_S, max(0.0, self.restart_at - time.monotonic()))

    def _wait(self, timeout: float) -> list[int]:
        readable, _, _ = select.select([0, self.wake], [], [], timeout)
        if self.wake in readable:
            with contextlib.suppress(BlockingIOError):
                os.read(self.wake, 4096)
        return readable

    def _commands(self) -> list[str | None]:
        """Return the complete lines that are there; None for the end of the file."""
        chunk = os.read(0, 65536)
        self.buffer += chunk
        *lines, self.buffer = self.buffer.split(b"\n")
        commands: list[str | None] = [line.decode() for line in lines]
        return commands if chunk else [*commands, None]

    def _spawn(self) -> None:
        self._sweep_shm()
        reader, writer = os.pipe()  # closed by a successful exec; else it carries the reason
        pid = os.fork()
        if pid == 0:
            _become(self.order, writer)
        os.close(writer)
        self.child = pid
        with os.fdopen(reader) as pipe:
            problem = pipe.read()
        if problem:
            os.waitpid(pid, 0)
            self.child, self.code = 0, 127
            _tell({"event": "failed", "note": problem})
        else:
            _tell({"event": "started", "pid": pid})

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.child:
                self.child = 0
                self._exited(status)

    def _exited(self, status: int) -> None:
        """Nobody asked for this exit: count it, and run the program again where the order says so."""
        self._end_rest(0)
        self.restarts += 1
        again = self.order["restart"]
        code = os.waitstatus_to_exitcode(status)
        if again:
            self.restart_at = time.monotonic() + _BACK_OFF_S
        else:
            self.code = code
        _tell({"event": "exited", "code": code, "note": _note(code), "restarts": self.restarts, "again": again})

    def _kill(self) -> None:
        """End everything by SIGKILL and leave it dead."""
        self.restart_at = None
        if self.child:
            os.kill(self.child, signal.SIGKILL)
            os.waitpid(self.child, 0)
            self.child = 0
        self._end_rest(0)
        self.code = -signal.SIGKILL
        _tell({"event": "exited", "code": self.code, "note": "killed on request", "restarts": self.restarts})

    def _finish(self, grace: float) -> None:
        """End the program by SIGTERM, after `grace` seconds by SIGKILL, then the rest; remove what it owned."""
        self.restart_at = None
        deadline = time.monotonic() + grace
        lost = grace <= _LOST_GRACE_S
        if self.child:
            _signal_one(self.child, signal.SIGTERM)
        while self.child and time.monotonic() < deadline:
            if lost:
                time.sleep(0.005)
            elif 0 in self._wait(0.05):
                commands = self._commands()
                lost = None in commands
                if lost or "kill" in commands:
                    deadline = min(deadline, time.monotonic() + (_LOST_GRACE_S if lost else 0.0))
            self._collect()
        if self.child:
            _signal_one(self.child, signal.SIGKILL)
        self._end_rest(_REST_GRACE_S)
        self._sweep_shm()
        self._remove_folders()

    def _collect(self) -> None:
        """Reap while everything is ending: an exit now is one that was asked for."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.child = 0
                return
            if pid == 0:
                return
            if pid == self.child:
                self.child = 0
                code = os.waitstatus_to_exitcode(status)
                _tell({"event": "exited", "code": code, "note": "stopped", "restarts": self.restarts})

    def _end_rest(self, grace: float) -> None:
        """End all descendants that are left: SIGTERM, and SIGKILL after `grace` seconds."""
        if not _LINUX:
            return
        deadline = time.monotonic() + grace
        for pid in _descendants() if grace else ():
            _signal_one(pid, signal.SIGTERM)
        while left := _descendants():
            if time.monotonic() >= deadline + _UNKILLABLE_S:
                return
            if time.monotonic() >= deadline:
                for pid in left:
                    _signal_one(pid, signal.SIGKILL)
            self._collect()
            time.sleep(0.002)
        self._collect()

    def _sweep_shm(self) -> None:
        prefixes = tuple(prefix for prefix in self.order["shm_prefixes"] if prefix)
        if prefixes and _SHM.is_dir():
            for path in _SHM.iterdir():
                if path.name.startswith(prefixes):
                    path.unlink(missing_ok=True)

    def _remove_folders(self) -> None:
        for folder in self.order["folders"]:
            shutil.rmtree(folder, ignore_errors=True)
        root = self.order["root"]
        if root and self.order["folders"]:
            try:  # only the last of the run's watchdogs finds the common folder empty
                Path(self.order["folders"][0]).parent.rmdir()
            except OSError:
                return
            shutil.rmtree(root, ignore_errors=True)


def _become(order: Order, pipe: int) -> None:
    """In the forked child: turn into the program, or tell the reason by `pipe` and leave."""
    try:
        os.setpgid(0, 0)
        if _LINUX:  # a watchdog that is killed itself must not leave the program behind
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(order["cwd"])
        os.execvpe(order["command"][0], order["command"], order["env"])  # noqa: S606 - no shell is wanted
    except OSError as error:
        where = error.filename or order["command"][0]
        os.write(pipe, f"{error.strerror}: {where}".encode())
    finally:
        os._exit(127)


def _descendants() -> list[int]:
    """Return all live descendants of this process, from /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_bytes()
        except OSError:
            continue
        state, parent = stat[stat.rindex(b")") + 2 :].split()[:2]
        if state != b"Z" or int(parent) == os.getpid():
            children.setdefault(int(parent), []).append(int(entry.name))
    found: list[int] = []
    heads = [os.getpid()]
    while heads:
        below = children.get(heads.pop(), [])
        found += below
        heads += below
    return found


def _wake_only(number: int, frame: FrameType | None) -> None:
    """Do nothing: a signal with a handler writes to the wake-up pipe, which is all that is wanted."""


def _signal_one(pid: int, number: int) -> None:
    try:
        if _LINUX:
            os.kill(pid, number)
        else:
            os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _note(code: int) -> str:
    if code >= 0:
        return f"exited with {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"killed by {name}"


def _tell(message: dict[str, object]) -> None:
    try:
        os.write(1, json.dumps(message).encode() + b"\n")
    except OSError as error:  # nobody listens any more: the end of the file follows
        if error.errno not in {errno.EPIPE, errno.EAGAIN}:
            raise


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def main() -> int:
    """Read the order, run it to its end."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return 0
        line += byte
    os.set_blocking(1, False)
    return Watchdog(cast("Order", json.loads(line))).run()


if __name__ == "__main__":
    sys.exit(main())
