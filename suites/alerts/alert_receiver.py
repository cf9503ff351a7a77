"""A receiver of Alertmanager's webhooks on the loopback, which also serves what stands in for exporters' inputs."""

import json
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from harness.planning.rules.live import Delivered


@dataclass
class Receiver:
    """What was delivered, in order; `pages` answers GET by path."""

    delivered: list[Delivered] = field(default_factory=list[Delivered])
    pages: dict[str, Callable[[], str]] = field(default_factory=dict[str, Callable[[], str]])
    port: int = 0

    @property
    def address(self) -> str:
        """Where it listens, "127.0.0.1:PORT"."""
        return f"127.0.0.1:{self.port}"

    def take(self, receiver: str, body: bytes, at: float) -> None:
        """Keep every alert of a notification."""
        self.delivered += [
            Delivered(
                receiver=receiver,
                alert=one["labels"]["alertname"],
                labels=one["labels"],
                annotations=one["annotations"],
                firing=one["status"] == "firing",
                at=at,
            )
            for one in json.loads(body)["alerts"]
        ]


@contextmanager
def receiving() -> Generator[Receiver]:
    """Listen on a free port."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            at = time.time()
            receiver.take(self.path.strip("/"), self.rfile.read(int(self.headers["Content-Length"])), at)
            self._answer(200, "")

        def do_GET(self) -> None:
            page = receiver.pages.get(self.path)
            self._answer(*((404, "") if page is None else (200, page())))

        def _answer(self, status: int, text: str) -> None:
            raw = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
