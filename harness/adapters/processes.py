"""Starts processes, each under a watchdog of its own: nothing that is started here outlives the harness."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from harness.model.errors import EnvironmentProblem

_WATCHDOG = Path(__file__).with_name("watchdog.py")
_KEPT = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR")
_KEPT_NETWORK = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
    "https_proxy",
)
_FOR_PYTHON = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")  # an interpreter outside the system's folders may need them
_LOOPBACK = "127.0.0.1,localhost"


def clean_environment() -> dict[str, str]:
    """Return what a child needs of the harness's environment: PATH, HOME, locale, TLS and proxies, no more.

    Loopback never goes through a proxy.
    """
    env = {name: os.environ[name] for name in (*_KEPT, *_KEPT_NETWORK) if name in os.environ}
    for name in ("NO_PROXY", "no_proxy"):
        env[name] = ",".join(part for part in (os.environ.get(name, ""), _LOOPBACK) if part)
    return env


def start(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path,
    log: Path,
    shm_prefixes: Sequence[str] = (),
    restart: bool = False,
    folders: Sequence[Path] = (),
    root: Path | None = None,
) -> "Process":
    """Start `command` with exactly `env`; its output is appended to `log`.

    With `restart`, an exit that nobody asked for is followed by a new start after 0.5 s, and counted. When the
    process ends for good (or the harness is gone), the watchdog removes every name in /dev/shm that begins with one
    of `shm_prefixes`, and `folders` (all in one parent); the last watchdog of that parent also removes `root`.

    Raises EnvironmentProblem when the program cannot be started.
    """
    words = [str(word) for word in command]
    order: dict[str, object] = {
        "command": words,
        "env": dict(env),
        "cwd": str(cwd),
        "log": str(log),
        "restart": restart,
        "shm_prefixes": list(shm_prefixes),
        "folders": [str(folder) for folder in folders],
        "root": str(root or ""),
    }
    try:
        watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_WATCHDOG)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal is the harness's to handle
            env={name: os.environ[name] for name in _FOR_PYTHON if name in os.environ},
            bufsize=0,
        )
    except OSError as error:
        msg = f"cannot start a process: {error.strerror}"
        raise EnvironmentProblem(msg, mend="raise the limit of processes (ulimit -u) or free memory") from error
    process = Process(watchdog, name=Path(words[0]).name)
    process.tell(json.dumps(order))
    process.await_start()
    return process


class Process:
    """A process under its watchdog. Safe to use from several threads."""

    def __init__(self, watchdog: "subprocess.Popen[bytes]", name: str) -> None:
        """Take over a watchdog that has not read its order yet."""
        assert watchdog.stdin is not None  # noqa: S101 - opened with pipes
        assert watchdog.stdout is not None  # noqa: S101
        self._watchdog = watchdog
        self._commands = watchdog.stdin
        self._status = watchdog.stdout
        self._name = name
        self._lock = threading.RLock()
        self._buffer = b""
        self._failure = ""
        self._code: int | None = None
        self._restarts = 0
        self._note = ""
        self._pid = 0
        os.set_blocking(self._status.fileno(), False)

    @property
    def pid(self) -> int:
        """The program's process id; 0 while it does not run."""
        self._read()
        return self._pid

    @property
    def keeper(self) -> int:
        """The process id of the watchdog: the program and all its descendants are below it, after a restart too."""
        return self._watchdog.pid

    @property
    def restarts(self) -> int:
        """How often the program exited without being asked to."""
        self._read()
        return self._restarts

    @property
    def exit_note(self) -> str:
        """How the program ended last: "exited with 1", "killed by SIGKILL"; "" when it never did."""
        self._read()
        return self._note

    @property
    def running(self) -> bool:
        """Whether the program runs right now."""
        return self.pid != 0 and self._watchdog.poll() is None

    def poll(self) -> int | None:
        """Return the exit code (negative: the signal), None while it runs or is about to be started again."""
        self._read()
        if self._code is None and self._watchdog.poll() is not None:
            self._read()
            return self._code if self._code is not None else self._watchdog.returncode
        return self._code

    def terminate(self, grace: float = 5.0) -> None:
        """End it: SIGTERM, after `grace` seconds SIGKILL, descendants included. Returns when all is gone."""
        self.tell(f"stop {grace}")
        self._await_end(grace)

    def abandon(self) -> None:
        """End it by SIGKILL but keep its folders, for another process that is about to take its place."""
        self.tell("leave")
        self._await_end(0.0)

    def _await_end(self, grace: float) -> None:
        try:
            self._watchdog.wait(grace + 5.0)
        except subprocess.TimeoutExpired:
            self._watchdog.kill()  # the program has asked the kernel to die with it
            self._watchdog.wait()
        self._read()
        with self._lock:
            self._pid = 0
            for pipe in (self._commands, self._status):
                pipe.close()

    def kill(self) -> None:
        """End it by SIGKILL, descendants included, and leave it dead."""
        self.tell("kill")
        deadline = time.monotonic() + 5.0
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)

    def tell(self, line: str) -> None:
        """Send one line to the watchdog; one that is gone has done its work."""
        with self._lock:
            if self._commands.closed:
                return
            try:
                self._commands.write(line.encode() + b"\n")
            except (BrokenPipeError, ValueError):
                return

    def await_start(self) -> None:
        """Wait for the watchdog's first word; EnvironmentProblem when the program could not be started."""
        deadline = time.monotonic() + 20.0
        while not self._pid and not self._failure and self._code is None:
            self._read()
            if self._watchdog.poll() is not None or time.monotonic() > deadline:
                self._read()
                break
            time.sleep(0.002)
        if self._failure or not (self._pid or self._restarts):
            problem = self._failure or "its watchdog did not answer"
            self.terminate(0.0)
            msg = f"cannot start {self._name}: {problem}"
            raise EnvironmentProblem(msg, mend="check that the file exists, may be run, and fits this machine")

    def _read(self) -> None:
        with self._lock:
            while not self._status.closed:
                try:
                    chunk = os.read(self._status.fileno(), 65536)
                except BlockingIOError:
                    break
                if not chunk:
                    break
                self._buffer += chunk
            *lines, self._buffer = self._buffer.split(b"\n")
            for line in lines:
                self._take(cast("dict[str, object]", json.loads(line)))

    def _take(self, message: dict[str, object]) -> None:
        match message["event"]:
            case "started":
                self._pid = cast("int", message["pid"])
            case "failed":
                self._failure = str(message["note"])
                self._note = self._failure
                self._code = 127
            case _:
                self._pid = 0
                self._note = str(message["note"])
                self._restarts = cast("int", message["restarts"])
                if not message.get("again"):
                    self._code = cast("int", message["code"])
