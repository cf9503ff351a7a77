"""A small HTTP server of known behaviour for the load's selftests, in a thread of its own."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

HANG_UP = b"\0hang up"  # at the end of an answer's bytes: close the connection after what stands before it


@dataclass
class Seen:
    """What the server saw. `answer` may be replaced while it serves."""

    answer: "Callable[[str, str], Awaitable[bytes | None]]"
    port: int = 0
    requests: int = 0
    sessions: set[str] = field(default_factory=set)


def reply(body: str, *, status: str = "200 OK", arm: str = "baseline", header: str = "X-Arm") -> bytes:
    """Return an answer's bytes; no arm header where `arm` is empty."""
    told = f"{header}: {arm}\r\n" if arm else ""
    return f"HTTP/1.1 {status}\r\n{told}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def doubled(path: str) -> str:
    """Return the right answer to /answer?q=N."""
    number = int(parse_qs(urlsplit(path).query)["q"][0])
    return f'{{"answer": {2 * number}}}'


async def right(path: str, session: str) -> bytes | None:
    """Answer rightly after 2 ms, a quarter of the sessions as the candidate."""
    await asyncio.sleep(0.002)
    return reply(doubled(path), arm="candidate" if hash(session) % 4 == 0 else "baseline")


@contextmanager
def serving(answer: Callable[[str, str], Awaitable[bytes | None]]) -> Generator[Seen]:
    """Serve on a free loopback port; `answer(path, session)` gives the bytes, None (or HANG_UP at their end) closes."""
    seen, loop, ready = Seen(answer), asyncio.new_event_loop(), threading.Event()
    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(_serve(seen, ready, stop)), daemon=True)
    thread.start()
    assert ready.wait(5)
    try:
        yield seen
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
        loop.close()


async def _serve(seen: Seen, ready: threading.Event, stop: asyncio.Event) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                lines = head.split("\r\n")
                session = next(line for line in lines if line.startswith("X-Session-ID: ")).partition(": ")[2]
                seen.requests += 1
                seen.sessions.add(session)
                data = await seen.answer(lines[0].split()[1], session)
                if data is None:
                    break
                writer.write(data.removesuffix(HANG_UP))
                await writer.drain()
                if data.endswith(HANG_UP):
                    break
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    seen.port = server.sockets[0].getsockname()[1]
    ready.set()
    await stop.wait()
    server.close()
    talks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in talks:
        task.cancel()
    await asyncio.gather(*talks, return_exceptions=True)
