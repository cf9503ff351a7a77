"""Two arms of a deployed system: small HTTP servers that say who they are, one of which can fail."""

import json
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast
from urllib.parse import parse_qs, urlsplit

from harness.model.evidence import Arm


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, arm: Arm, fails: Callable[[], bool]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.arm, self.fails = arm, fails

    def handle_error(self, request: object, client_address: object) -> None:
        """A peer that is killed in the middle of an answer is what this is for."""


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30

    def do_GET(self) -> None:
        """Answer as the minimal system's application does, or with an error where the arm fails."""
        server, url = cast("_Server", self.server), urlsplit(self.path)
        status, body = 200, {"status": "ok"}
        if url.path == "/answer":
            number = int(parse_qs(url.query).get("q", ["0"])[0])
            bad = server.fails()
            status, body = (500, {"error": "on purpose"}) if bad else (200, {"answer": 2 * number, "quality": 0.9})
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("X-Arm", server.arm)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        """Say nothing."""


@contextmanager
def two_arms(fails: Callable[[], bool]) -> Generator[Mapping[Arm, int]]:
    """Serve both arms on 127.0.0.1 and yield their ports; the candidate errs while `fails()` says so."""
    servers = {arm: _Server(arm, fails if arm is Arm.CANDIDATE else lambda: False) for arm in Arm}
    for server in servers.values():
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield {arm: server.server_port for arm, server in servers.items()}
    finally:
        for server in servers.values():
            server.shutdown()
            server.server_close()
