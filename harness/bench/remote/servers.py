"""A plain HTTP server as a user may have one, in four shapes; it knows nothing of rollgate, and imports none of it.

`python servers.py --shape threads --port 8000`: GET /health, and GET /answer?q=N for {"answer": 2 N, "quality": ...}.
What is wrong with a release is said by options: answers that fail, that take longer, that now and then take very long.
Times of answers are lognormal. The shapes: `threads` keeps connections, `closing` has HTTP/1.0 and closes them,
`chunked` answers in chunks from an event loop, and `front` is the application before two others, which reads a flag.
"""

import argparse
import asyncio
import bisect
import hashlib
import http.client
import itertools
import json
import os
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

Told = tuple[int, str, bytes]  # status, type, content
_BUCKETS = 10_000
_BOUNDS_MS = (10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000, 2000)


class Shop:
    """What the server does, whatever it speaks."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Take the options over."""
        self.options, self.draw, self.lock = options, random.Random(options.seed), threading.Lock()
        self.answered, self.failed, self.took = 0, 0, [0] * (len(_BOUNDS_MS) + 1)

    def answer(self, target: str) -> tuple[float, Told]:
        """Return how long the answer to a request target takes, seconds, and the answer."""
        url = urlsplit(target)
        if url.path == "/health":
            return 0.0, _told(200, {"status": "ok", "version": self.options.version})
        if url.path == "/metrics":
            return 0.0, (200, "text/plain; version=0.0.4", self.metrics().encode())
        if url.path != "/answer":
            return 0.0, _told(404, {"error": "there is /health and /answer?q=N"})
        try:
            number = int(parse_qs(url.query)["q"][0])
        except (KeyError, ValueError):
            return 0.0, _told(400, {"error": "q must be a number"})
        options = self.options
        with self.lock:
            self.answered += 1
            if options.dies_after and self.answered > options.dies_after:
                os._exit(1)
            seconds = options.median_ms / 1e3 * self.draw.lognormvariate(0.0, options.spread) * options.slower
            if self.draw.random() < options.tail:
                seconds *= options.tail_factor
            failing, quality = self.draw.random() < options.errors, self.draw.uniform(0.8, 1.0)
            failing = failing and (not options.errors_while or Path(options.errors_while).exists())
            self.failed += failing
            self.took[bisect.bisect_left(_BOUNDS_MS, seconds * 1e3)] += 1
        if failing:
            return seconds, _told(500, {"error": "something went wrong"})
        return seconds, _told(200, {"answer": 2 * number, "quality": round(quality, 3)})

    def metrics(self) -> str:
        """Return what Prometheus scrapes."""
        with self.lock:
            counts = list(itertools.accumulate(self.took))
            good = self.answered - self.failed
            lines = [
                f'shop_requests_total{{outcome="{name}"}} {n}' for name, n in (("ok", good), ("error", self.failed))
            ]
        bounds = [*(str(bound / 1e3) for bound in _BOUNDS_MS), "+Inf"]
        lines += [f'shop_seconds_bucket{{le="{le}"}} {n}' for le, n in zip(bounds, counts, strict=True)]
        return "\n".join(lines) + "\n"


def _told(status: int, body: dict[str, object]) -> Told:
    return status, "application/json", json.dumps(body).encode()


class Threads(BaseHTTPRequestHandler):
    """One thread a connection, which is kept."""

    shop: Shop
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer."""
        seconds, (status, kind, content) = self.shop.answer(self.path)
        time.sleep(seconds)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        """Say nothing."""


class Closing(Threads):
    """HTTP/1.0: each answer ends with its connection."""

    protocol_version = "HTTP/1.0"


class Front(Threads):
    """The application that users reach: sends a session to the new service as far as its feature flag says."""

    options: argparse.Namespace

    def do_GET(self) -> None:
        """Ask the one or the other, and pass its answer on."""
        flags = json.loads(Path(self.options.flags).read_text(encoding="utf-8"))
        session = self.headers.get("X-Session-ID") or str(random.random())
        bucket = int.from_bytes(hashlib.sha256(session.encode()).digest()[:4], "big") % _BUCKETS
        arm = "candidate" if bucket < flags[self.options.flag] * 100 else "baseline"
        port = self.options.candidate if arm == "candidate" else self.options.baseline
        status, content = _ask(port, self.path)
        self.send_response(status)
        self.send_header("X-Arm", arm)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _ask(port: int, path: str) -> tuple[int, bytes]:
    """Return status and body of the service behind; 502 where it does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 502, b'{"error": "bad gateway"}'
    finally:
        connection.close()


class Chunked:
    """An event loop, answers in chunks."""

    def __init__(self, shop: Shop) -> None:
        """Serve `shop`."""
        self.shop = shop

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until its client leaves it."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                seconds, (status, kind, text) = self.shop.answer(head.split(" ")[1])
                await asyncio.sleep(seconds)
                reason = http.client.responses[status]
                writer.write(
                    f"HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
                )
                for part in (text[:7], text[7:]):
                    writer.write(b"%x\r\n%s\r\n" % (len(part), part))
                writer.write(b"0\r\n\r\n")
                await writer.drain()
                if "connection: close" in head.lower():
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def serve(self, port: int) -> None:
        """Serve until the process ends."""
        server = await asyncio.start_server(self.talk, "127.0.0.1", port)
        await server.serve_forever()


class Busy(ThreadingHTTPServer):
    """Takes many connections at once."""

    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    """Serve on 127.0.0.1 until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=("threads", "closing", "chunked", "front"), default="threads")
    parser.add_argument("--version", default="1.0")
    for name in ("--port", "--seed", "--dies-after", "--baseline", "--candidate"):
        parser.add_argument(name, type=int, default=0)
    for name, value in {"--median-ms": 40.0, "--spread": 0.35, "--slower": 1.0, "--tail-factor": 1.0}.items():
        parser.add_argument(name, type=float, default=value)
    for name in ("--errors", "--tail"):
        parser.add_argument(name, type=float, default=0.0)
    for name in ("--flags", "--flag", "--errors-while"):
        parser.add_argument(name, default="")
    options = parser.parse_args()
    shop = Shop(options)
    if options.shape == "chunked":
        asyncio.run(Chunked(shop).serve(options.port))
        return
    Threads.shop, Front.options = shop, options
    handler = {"threads": Threads, "closing": Closing, "front": Front}[options.shape]
    Busy(("127.0.0.1", options.port), handler).serve_forever()


if __name__ == "__main__":
    main()
