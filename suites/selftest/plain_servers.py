"""Two plain HTTP servers of a user's own: they know nothing of arms, and are good, erring, slow or dead on purpose."""

import asyncio
import json
import random
import ssl
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

_QUIET = 10  # turns of the loop
REASONS = {200: "OK", 401: "Unauthorized", 404: "Not Found", 500: "Internal Server Error"}


@dataclass
class Plain:
    """One server. `median_s` of its answers' time; `tail` is the share of answers that take `tail_factor` as long.

    `wants` are headers without which it answers 401. It says `version` in X-Version, where that is not "". What it
    is sent, it says again in every failing answer: `heard` keeps it too.
    """

    version: str = ""
    arm: str = ""
    median_s: float = 0.02
    error_rate: float = 0.0
    tail: float = 0.0
    tail_factor: float = 4.0
    wants: Mapping[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    port: int = 0
    answered: int = 0
    heard: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"


@contextmanager
def plain(*servers: Plain) -> Generator[None]:
    """Serve all of `servers` on free loopback ports, from one thread."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(_serve(servers, ready, stop)), daemon=True)
    thread.start()
    assert ready.wait(5)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
        loop.close()


async def _serve(servers: tuple[Plain, ...], ready: threading.Event, stop: asyncio.Event) -> None:
    listening, writers = [], set()
    for number, one in enumerate(servers):
        talk = _Talk(one, random.Random(18 + number), writers)
        server = await asyncio.start_server(talk, "127.0.0.1", one.port, ssl=one.tls)
        one.port = server.sockets[0].getsockname()[1]
        listening.append(server)
    ready.set()
    await stop.wait()
    quiet = 0
    while quiet < _QUIET:  # a server that closes while it accepts would leave that connection open
        await asyncio.sleep(0)
        talks = asyncio.all_tasks() - {asyncio.current_task()}
        quiet = 0 if talks else quiet + 1
        for writer in writers:
            writer.close()
        if talks:
            await asyncio.wait(talks, timeout=0.05)
    for server in listening:
        server.close()


class _Talk:
    """Serves one connection after another."""

    def __init__(self, one: Plain, chance: random.Random, writers: set[asyncio.StreamWriter]) -> None:
        self._one, self._chance, self._writers = one, chance, writers

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                request, *lines = head.split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                writer.write(await self._answer(request.split(" ")[1], headers))
                await writer.drain()
                if headers.get("connection") == "close":
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self._writers.discard(writer)
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, target: str, headers: Mapping[str, str]) -> bytes:
        one, url = self._one, urlsplit(target)
        one.heard.update(headers.values())
        if any(headers.get(name.lower()) != value for name, value in one.wants.items()):
            return self._told(401, {"error": "who are you?", "heard": dict(headers)})
        if url.path == "/health":
            return self._told(200, {"status": "ok"})
        if url.path != "/answer":
            return self._told(404, {"error": "there is /health and /answer?q=N"})
        one.answered += 1
        seconds = one.median_s * self._chance.lognormvariate(0.0, 0.25)
        await asyncio.sleep(seconds * (one.tail_factor if self._chance.random() < one.tail else 1.0))
        if self._chance.random() < one.error_rate:
            return self._told(500, {"error": "on purpose", "heard": dict(headers)})
        number = int(parse_qs(url.query)["q"][0])
        return self._told(200, {"answer": 2 * number, "quality": 0.9})

    def _told(self, status: int, body: Mapping[str, object]) -> bytes:
        content = json.dumps(body).encode()
        told = f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Length: {len(content)}\r\n"
        for name, value in (("X-Version", self._one.version), ("X-Arm", self._one.arm)):
            told += f"{name}: {value}\r\n" if value else ""
        return f"{told}\r\n".encode() + content
