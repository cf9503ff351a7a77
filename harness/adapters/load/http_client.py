"""A lean HTTP/1.1 client with exact timestamps: pooled connections, one request at a time on each.

An HTTP library's overhead would lie inside every latency; here a request costs one write and one parse.
"""

import asyncio
import ssl
import time
from dataclasses import dataclass, field
from typing import cast

from httptools import HttpParserError, HttpResponseParser

from harness.adapters.load.workload import Request

_INFORMATIONAL = range(100, 200)


@dataclass(slots=True)
class Exchange:
    """An answer and its times (monotonic nanoseconds; `end_ns` 0: not whole). Header names are lower case."""

    sent_ns: int = 0
    first_byte_ns: int = 0
    end_ns: int = 0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytearray = field(default_factory=bytearray)


class ExchangeError(Exception):
    """No whole answer came back. `kind` is "timeout", "refused", "reset" or "malformed".

    `exchange` is what had come by then: headers that arrived say whose failure it is.
    """

    def __init__(self, kind: str, exchange: Exchange) -> None:
        """Keep `kind`, the failure's name in the accounts, and the part of the answer that was seen."""
        super().__init__(kind)
        self.kind, self.exchange = kind, exchange


def render(request: Request, host: str, extra: tuple[tuple[str, str], ...] = ()) -> bytes:
    """Return the request's bytes on the wire; ValueError for a line break where none may be."""
    lines = [f"{request.method} {request.path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in (*request.headers, *extra)]
    if request.body or request.method not in ("GET", "HEAD", "DELETE"):
        lines.append(f"Content-Length: {len(request.body)}")
    if any("\r" in line or "\n" in line for line in lines):
        msg = f"a request's path and headers hold no line breaks: {request.method} {request.path!r}"
        raise ValueError(msg)
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + request.body


class _Connection(asyncio.Protocol):
    """One connection: `send` writes a request and returns the future of its exchange."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.idle_since = time.monotonic()
        self.reusable = True
        self._waiter: asyncio.Future[Exchange] | None = None
        self._exchange = Exchange()
        self._parser = HttpResponseParser(self)
        self._to_eof = True

    def send(self, payload: bytes, exchange: Exchange) -> asyncio.Future[Exchange]:
        """Fill `exchange` as the answer comes in, so that its part is there when the wait is given up."""
        transport = cast("asyncio.Transport", self.transport)
        self._exchange = exchange
        exchange.sent_ns = time.monotonic_ns()
        self._waiter = asyncio.get_running_loop().create_future()
        self._to_eof = True
        transport.write(payload)
        return self._waiter

    def abort(self) -> None:
        self.reusable = False
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:  # an answer that nobody asked for: this connection is out of step
            self.abort()
            return
        if not self._exchange.first_byte_ns:
            self._exchange.first_byte_ns = time.monotonic_ns()
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            self.abort()
            self._fail("malformed")

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        if self._exchange.status and self._to_eof and exc is None:
            self._finish()  # a body without length ends with its connection
        self._fail("reset")

    # Callbacks of the parser.
    def on_message_begin(self) -> None:
        if self._waiter is None:  # a second answer in the first one's wake: it must not become the next request's
            self._exchange = Exchange()
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("latin-1").lower()
        self._exchange.headers[key] = value.decode("latin-1")
        if key in ("content-length", "transfer-encoding"):
            self._to_eof = False

    def on_headers_complete(self) -> None:
        self._exchange.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._exchange.body += body

    def on_message_complete(self) -> None:
        if self._exchange.status in _INFORMATIONAL:
            self._exchange.headers.clear()
            self._to_eof = True
            return
        self.reusable = self.reusable and self._parser.should_keep_alive()
        self._finish()

    def _finish(self) -> None:
        self._exchange.end_ns = time.monotonic_ns()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(self._exchange)
        self._waiter = None

    def _fail(self, kind: str) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ExchangeError(kind, self._exchange))
        self._waiter = None


class Client:
    """A bounded pool of connections to one address.

    An idle connection is dropped after `max_idle_s`, well before a server's keep-alive ends it: a request
    on a connection that is being closed would be blamed on the server. Nothing is ever retried.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None,
        max_connections: int,
        max_idle_s: float = 2.0,
        tls_name: str = "",
    ) -> None:
        """Connect to nothing yet. `tls_name` is whom the certificate must name, where that is not `host`."""
        self._host, self._port, self._tls, self._tls_name = host, port, tls, tls_name or host
        self._max_idle_s = max_idle_s
        self._slots = asyncio.Semaphore(max_connections)
        self._idle: list[_Connection] = []

    async def exchange(self, payload: bytes, *, timeout_s: float) -> Exchange:
        """Send one rendered request and return its answer; ExchangeError when none came in time."""
        exchange = Exchange()
        try:
            async with asyncio.timeout(timeout_s), self._slots:
                return await self._exchange(payload, exchange)
        except TimeoutError:
            kind = "timeout"
        except ConnectionRefusedError:
            kind = "refused"
        except OSError:
            kind = "reset"
        raise ExchangeError(kind, exchange)

    async def _exchange(self, payload: bytes, exchange: Exchange) -> Exchange:
        connection = await self._connect()
        try:
            await connection.send(payload, exchange)
        except BaseException:
            connection.abort()
            raise
        if connection.reusable:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        else:
            connection.abort()
        return exchange

    async def _connect(self) -> _Connection:
        self._drop_aged()
        while self._idle:
            if (connection := self._idle.pop()).reusable:
                return connection
        loop = asyncio.get_running_loop()
        server_name = self._tls_name if self._tls else None
        _, connection = await loop.create_connection(
            _Connection, self._host, self._port, ssl=self._tls, server_hostname=server_name
        )
        return connection

    def _drop_aged(self) -> None:
        """The pool is a stack, so the oldest connections lie at its bottom."""
        oldest = time.monotonic() - self._max_idle_s
        while self._idle and self._idle[0].idle_since < oldest:
            self._idle.pop(0).abort()

    def close(self) -> None:
        """Drop every idle connection."""
        while self._idle:
            self._idle.pop().abort()
