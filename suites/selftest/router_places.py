"""What stands round a router in its tests: two arms that say who they are, and programs that are ended afterwards."""

import http.client
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from native_runs import need

from harness.adapters.programs import Program, ensure
from harness.model.evidence import Arm
from harness.paths import cache_root


class _Arm(ThreadingHTTPServer):
    daemon_threads = True
    arm = ""


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("X-Arm", self.server.arm)  # type: ignore[attr-defined]
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        pass


@contextmanager
def two_arms() -> Iterator[Mapping[Arm, int]]:
    """Serve both arms on 127.0.0.1; yield their ports."""
    servers = {arm: _Arm(("127.0.0.1", 0), _Answer) for arm in Arm}
    for arm, server in servers.items():
        server.arm = arm.value
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield {arm: server.server_port for arm, server in servers.items()}
    finally:
        for server in servers.values():
            server.shutdown()
            server.server_close()


def ask(port: int, sessions: Sequence[str], force: str = "") -> list[str]:
    """Send one request for each session to a router on 127.0.0.1; return the arms that answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    found: list[str] = []
    try:
        for session in sessions:
            headers = {"X-Session-ID": session} | ({"X-Rollgate-Arm": force} if force else {})
            try:
                answer = _answer(connection, headers)
            except (http.client.RemoteDisconnected, ConnectionError):  # a reload closes connections that were kept
                connection.close()
                answer = _answer(connection, headers)
            found.append(answer.getheader("X-Arm") or f"status {answer.status}")
    finally:
        connection.close()
    return found


def _answer(connection: http.client.HTTPConnection, headers: Mapping[str, str]) -> http.client.HTTPResponse:
    connection.request("GET", "/", headers=headers)
    answer = connection.getresponse()
    answer.read()
    return answer


def free_ports(count: int) -> list[int]:
    """Return ports on 127.0.0.1 that nobody has at the moment."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def accepts(port: int) -> bool:
    """Tell whether somebody listens on 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.5).close()
    except OSError:
        return False
    return True


def program(name: str) -> Program:
    """Return a real program; the test is skipped where it is not to be had."""
    need(name)
    return ensure([name], cache_root(), lambda _: None)[name]


class Running:
    """A program that runs until `end`; what it says goes to a file beside its folder's other files."""

    def __init__(self, command: Sequence[str | Path], folder: Path, env: Mapping[str, str]) -> None:
        """Start it; its standard input stays open until the end."""
        self._command, self._folder, self._env = [str(part) for part in command], folder, {**os.environ, **env}
        self.start()

    def start(self) -> None:
        """Start it, or start it again."""
        with (self._folder / "said.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, env=self._env, stdin=subprocess.PIPE, stdout=log, stderr=log
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it."""
        self._process.send_signal(number)

    def end(self) -> None:
        """End it; safe to call twice."""
        self._process.terminate()
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            pytest.fail(f"{self._command[0]} did not end when it was asked to")

    def said(self) -> str:
        """Return what it said so far."""
        return (self._folder / "said.log").read_text(encoding="utf-8", errors="replace")
