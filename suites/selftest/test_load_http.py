"""The lean HTTP client: every framing of a body, connections reused and aged, failures told apart."""

import asyncio
from contextlib import suppress

import pytest

from harness.adapters.load.http_client import Client, ExchangeError, render
from harness.adapters.load.workload import Request

pytestmark = [pytest.mark.selftest, pytest.mark.asyncio]

ASK = render(Request("GET", "/"), "h")


async def answered(*answers: bytes, close: bool = False, idle_s: float = 2.0, pause_s: float = 0.0) -> list[object]:
    """Send a request for each answer, one after another; return (status, body, connection number) or the failure."""
    connections, remaining = 0, list(answers)
    talks: list[asyncio.Task[None] | None] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        talks.append(asyncio.current_task())
        try:
            while remaining and await reader.readuntil(b"\r\n\r\n"):
                writer.write(remaining.pop(0))
                await writer.drain()
                if close:
                    break
            else:
                await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    client = Client("127.0.0.1", server.sockets[0].getsockname()[1], tls=None, max_connections=4, max_idle_s=idle_s)
    found: list[object] = []
    for _ in answers:
        try:
            exchange = await client.exchange(ASK, timeout_s=0.5)
            assert exchange.sent_ns <= exchange.first_byte_ns <= exchange.end_ns
            found.append((exchange.status, bytes(exchange.body), connections))
        except ExchangeError as error:
            found.append(error.kind)
        await asyncio.sleep(pause_s)
    client.close()
    server.close()
    await asyncio.wait_for(asyncio.gather(*filter(None, talks)), 5)
    return found


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def test_a_connection_is_reused() -> None:
    """Three answers over one connection."""
    assert await answered(OK, OK, OK) == [(200, b"ok", 1)] * 3


async def test_an_idle_connection_is_dropped_before_the_server_may_drop_it() -> None:
    """Older than its bound, it is replaced: a request on a closing connection would blame the server."""
    assert await answered(OK, OK, idle_s=0.01, pause_s=0.03) == [(200, b"ok", 1), (200, b"ok", 2)]


async def test_a_connection_that_the_server_gives_up_is_not_used_again() -> None:
    """Connection: close is honoured."""
    last = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    assert await answered(last, OK) == [(200, b"ok", 1), (200, b"ok", 2)]


async def test_every_framing_of_a_body_is_read() -> None:
    """Chunked; none (204); after an interim 100; with the body in one piece."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n"
    empty = b"HTTP/1.1 204 No Content\r\n\r\n"
    interim = b"HTTP/1.1 100 Continue\r\n\r\n" + OK
    assert await answered(chunked, empty, interim) == [(200, b"ok", 1), (204, b"", 1), (200, b"ok", 1)]


async def test_a_body_without_length_ends_with_its_connection() -> None:
    """The old way; and an answer cut within its announced length is a reset."""
    assert await answered(b"HTTP/1.1 200 OK\r\n\r\nok", close=True) == [(200, b"ok", 1)]
    assert await answered(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", close=True) == ["reset"]


async def test_a_failure_keeps_what_was_seen_of_the_answer() -> None:
    """Headers that arrived before a cut, a stall or nonsense come with the failure; without any there are none."""
    head = b"HTTP/1.1 200 OK\r\nX-Arm: candidate\r\n"
    whole = {"x-arm": "candidate", "content-length": "9"}
    assert await seen(head + b"Content-Length: 9\r\n\r\nok", close=True) == ("reset", whole)
    assert await seen(head + b"Content-Length: 9\r\n\r\nok", close=False) == ("timeout", whole)
    kind, headers = await seen(head + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n", close=False)
    assert (kind, headers["x-arm"]) == ("malformed", "candidate")
    assert await seen(b"", close=True) == ("reset", {})
    assert await seen(b"", close=False) == ("timeout", {})


async def seen(answer: bytes, *, close: bool) -> tuple[str, dict[str, str]]:
    """Ask for an answer that fails, after a sound one on the same connection; return (kind, headers)."""
    over = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for data in (OK, answer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(data)
        await writer.drain()
        if not close:
            await over.wait()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    client = Client("127.0.0.1", server.sockets[0].getsockname()[1], tls=None, max_connections=1)
    assert (await client.exchange(ASK, timeout_s=5)).end_ns
    with pytest.raises(ExchangeError) as failed:
        await client.exchange(ASK, timeout_s=0.3)
    over.set()
    client.close()
    server.close()
    assert failed.value.exchange.end_ns == 0
    return failed.value.kind, failed.value.exchange.headers


async def test_nonsense_and_silence_are_told_apart() -> None:
    """Bytes that are no HTTP are malformed; no answer in time is a timeout."""
    assert await answered(b"SSH-2.0-x\r\n\r\n") == ["malformed"]
    assert await answered(b"") == ["timeout"]


async def test_a_second_answer_that_nobody_asked_for_spoils_the_connection() -> None:
    """The next request must not read the stray answer as its own."""
    first, second = await answered(OK, OK, pause_s=0.02)
    assert (first, second) == ((200, b"ok", 1), (200, b"ok", 1))
    stray = OK + b"HTTP/1.1 500 Stray\r\nContent-Length: 0\r\n\r\n"
    first, second = await answered(stray, OK, pause_s=0.02)
    assert second == (200, b"ok", 2)


async def test_line_breaks_in_a_path_or_header_are_refused() -> None:
    """They would smuggle a second request."""
    for request in (Request("GET", "/\r\nX: y"), Request("GET", "/", headers=(("A", "b\r\nc: d"),))):
        with pytest.raises(ValueError, match="line breaks"):
            render(request, "h")
