"""Run a command with a Docker Engine: one that runs already, else one of its own that ends with it.

Usage: .ci/engine.py [--socket PATH] [--data FOLDER] [--wait SECONDS] COMMAND...

An engine that answers is used and left as it is. Where none does, one is started on a socket of its own (DOCKER_HOST in
the command's environment), as root, with `dockerd` from PATH or from the distribution's package docker.io; it is ended
when the command is, and by its watchdog where this script is killed. Exit: the command's code. On a machine that can't
have an engine the command does not run: one line `not_applicable: REASON`, exit code 0.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

from harness.adapters import processes
from harness.adapters.docker_session import connect
from harness.model.errors import EnvironmentProblem

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_INSTALL = ("apt-get", "install", "--yes", "--no-install-recommends", "docker.io")
_INSTALL_S = 240.0
_POLL_S = 0.2
_GRACE_S = 25.0  # dockerd gives containers 15 s
_COMMAND_GRACE_S = 60.0
_LAST_LINES = 40


class NotApplicable(Exception):
    """This machine can't have an engine; its text is the reason."""


@dataclass(frozen=True)
class Asked:
    """The command line."""

    command: Sequence[str]
    socket: str
    data: str
    wait_s: float


def main() -> int:
    """Return the exit code."""
    asked = _arguments()
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    try:
        return _with_engine(asked)
    except NotApplicable as reason:
        print(f"not_applicable: {reason}", flush=True)
        return 0
    except KeyboardInterrupt:
        print("ci: interrupted", file=sys.stderr, flush=True)
        return 130


def _arguments() -> Asked:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--socket", default="/var/run/docker.sock", help="where an engine would be that runs already")
    parser.add_argument("--data", default="/var/lib/docker", help="where one that is started keeps its images")
    parser.add_argument("--wait", type=float, default=60.0, help="seconds that it may take to answer")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    found = parser.parse_args()
    if not found.command:
        parser.error("name a command")
    return Asked(found.command, found.socket, found.data, found.wait)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # nothing disturbs the way back
    raise KeyboardInterrupt


def _with_engine(asked: Asked) -> int:
    given = os.environ.get("DOCKER_HOST")
    problem = _silence(given or f"unix://{asked.socket}")
    if not problem:
        print("ci: using the Docker Engine that runs already", flush=True)
        return _run(asked.command, {} if given else {"DOCKER_HOST": f"unix://{asked.socket}"})
    if given:
        raise NotApplicable(f"DOCKER_HOST is set, and {problem}")
    if sys.platform != "linux" or os.geteuid() != 0:
        raise NotApplicable(f"{problem}, and only root on Linux can start one")
    if running := _other_engine():
        raise NotApplicable(f"{problem}, but dockerd runs (pid {running}): it is left alone")
    if not shutil.which("dockerd"):
        _install(asked)
    folder = Path(tempfile.mkdtemp(prefix="rollgate-engine-"))
    try:
        return _with_own(asked, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # its watchdog has done it, where there was one


def _with_own(asked: Asked, folder: Path) -> int:
    socket, log = folder / "docker.sock", folder / "dockerd.log"
    command = ["dockerd", f"--host=unix://{socket}", f"--pidfile={folder}/docker.pid", f"--exec-root={folder}/exec"]
    began = time.monotonic()
    try:
        engine = processes.start(
            [*command, f"--data-root={asked.data}"],
            env=processes.clean_environment(),
            cwd=folder,
            log=log,
            folders=(folder,),
        )
    except EnvironmentProblem as problem:
        raise NotApplicable(f"dockerd cannot be started: {problem.message}") from None
    try:
        _await(engine, f"unix://{socket}", log, asked.wait_s)
        print(f"ci: a Docker Engine of its own answers after {time.monotonic() - began:.1f} s", flush=True)
        return _run(asked.command, {"DOCKER_HOST": f"unix://{socket}"})
    finally:
        engine.terminate(_GRACE_S)
        print("ci: the Docker Engine that was started is ended", flush=True)


def _silence(address: str) -> str:
    """Return why no engine answers at `address`, "" where one does."""
    before = os.environ.get("DOCKER_HOST")
    os.environ["DOCKER_HOST"] = address
    try:
        connect().close()
    except EnvironmentProblem as problem:
        return problem.message
    finally:
        if before is None:
            del os.environ["DOCKER_HOST"]
        else:
            os.environ["DOCKER_HOST"] = before
    return ""


def _other_engine() -> int:
    """Return the process id of a dockerd that runs, 0 for none: two on one data folder would spoil it."""
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == "dockerd":
            return process.pid
    return 0


def _install(asked: Asked) -> None:
    if not shutil.which("apt-get"):
        raise NotApplicable("no dockerd on PATH, and no apt-get to install docker.io with")
    print("ci: installing docker.io", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (_INSTALL, ("apt-get", "update"), _INSTALL):
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=_INSTALL_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotApplicable(f"docker.io cannot be installed: {error}") from None
        if command == _INSTALL and done.returncode == 0:
            break
    else:
        raise NotApplicable(f"docker.io cannot be installed: {_last(done.stderr)}")
    systemctl = shutil.which("systemctl")
    if systemctl and not _silence(f"unix://{asked.socket}"):  # a package may start its own
        subprocess.run([systemctl, "stop", "docker.socket", "docker.service"], capture_output=True, check=False)
    if not shutil.which("dockerd"):
        raise NotApplicable("docker.io was installed, and brought no dockerd")


def _await(engine: processes.Process, address: str, log: Path, wait_s: float) -> None:
    until = time.monotonic() + wait_s
    while _silence(address):
        if engine.poll() is not None:
            raise NotApplicable(f"dockerd does not run here: {engine.exit_note}: {_last(_text(log))}")
        if time.monotonic() > until:
            raise NotApplicable(f"dockerd does not answer within {wait_s:.0f} s: {_last(_text(log))}")
        time.sleep(_POLL_S)


def _run(command: Sequence[str], more: Mapping[str, str]) -> int:
    """Run the command to its end; an interrupt reaches it and is waited for."""
    early: list[int] = []  # an interrupt while the command starts must not lose it
    for number in _SIGNALS:
        signal.signal(number, lambda number, _: early.append(number))
    try:
        process = subprocess.Popen(list(command), env={**os.environ, **more})
    except OSError as error:
        print(f"ci: {command[0]}: {error.strerror}", file=sys.stderr, flush=True)
        return 127
    try:
        for number in _SIGNALS:
            signal.signal(number, _interrupt)
        if early:
            _interrupt(early[0], None)
        return _code(process.wait())
    except KeyboardInterrupt:
        process.terminate()
        try:
            process.wait(timeout=_COMMAND_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise


def _code(returned: int) -> int:
    return returned if returned >= 0 else 128 - returned


def _text(path: Path) -> str:
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:])
    except OSError:
        return ""


def _last(text: str) -> str:
    """Return the last line that tells of an error, else the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith("E:") or "level=fatal" in line or "failed" in line.lower()]
    return (telling or lines or ["it said nothing"])[-1][:300]


if __name__ == "__main__":
    sys.exit(main())
