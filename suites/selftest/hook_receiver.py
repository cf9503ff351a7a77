"""A receiver of webhooks on loopback: it checks signatures as the specification says, and fails on purpose."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = "hook-secret-5d1e"  # noqa: S105 - of this test alone
_HANG_S = 30.0


@dataclass
class Receiver:
    """What it answers by path, and what it got. What `hangs`, a path or PATH#STAGE, gets no answer in the test."""

    answers: dict[str, int] = field(default_factory=dict[str, int])
    hangs: set[str] = field(default_factory=set[str])
    secret: str = SECRET
    location: str = ""
    got: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    forged: int = 0
    port: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def told(self, path: str, kind: str = "") -> list[dict[str, object]]:
        """Return the bodies that `path` got, of one type."""
        return [one for one in list(self.got) if one["path"] == path and kind in {"", one["type"]}]


def signed(secret: str, name: str, timestamp: str, body: bytes) -> str:
    """Compute a signature by the words of the specification, not by the code under test."""
    key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
    content = b".".join((name.encode(), timestamp.encode(), body))
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


@contextmanager
def receiving(receiver: Receiver) -> Generator[Receiver]:
    """Serve `receiver` on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            name, timestamp = self.headers["webhook-id"], self.headers["webhook-timestamp"]
            if not hmac.compare_digest(
                self.headers["webhook-signature"], signed(receiver.secret, name, timestamp, body)
            ):
                receiver.forged += 1
                self._tell(401)
                return
            told = {**json.loads(body), "path": self.path, "timestamp": int(timestamp)}
            assert told["id"] == name
            receiver.got.append(told)
            if receiver.hangs & {self.path, f"{self.path}#{told.get('stage')}"}:
                receiver.ended.wait(_HANG_S)
                return
            self._tell(receiver.answers.get(self.path, 204))

        def _tell(self, status: int) -> None:
            self.send_response(status)
            if receiver.location:
                self.send_header("Location", receiver.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

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
        receiver.ended.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
