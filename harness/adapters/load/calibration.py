"""How much of a latency is the client's own: measured each run against a server that times itself."""

import asyncio
import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress

from harness.adapters.load.http_client import Client, ExchangeError, render
from harness.adapters.load.workload import Request
from harness.planning.histogram import Histogram, log_linear_bounds

REQUESTS = 100
_SERVICE_S = 0.002
_GAP_S = 0.003
_BOUNDS_S = log_linear_bounds(0.00001, 10.0, 32)


async def overhead() -> Histogram:
    """Return the seconds that the client adds: its service time less the time that the server took.

    Sends at most `REQUESTS` requests in about half a second, over loopback.
    """
    histogram = Histogram(_BOUNDS_S)
    with _known_server() as port:
        client = Client("127.0.0.1", port, tls=None, max_connections=4)
        payload = render(Request("GET", "/"), "127.0.0.1")
        for _ in range(REQUESTS):
            with suppress(ExchangeError):
                exchange = await client.exchange(payload, timeout_s=1.0)
                took_ns = int(exchange.headers["x-took-ns"])
                histogram.add(max(0.0, (exchange.end_ns - exchange.sent_ns - took_ns) / 1e9))
            await asyncio.sleep(_GAP_S)
        client.close()
    return histogram


@contextmanager
def _known_server() -> Generator[int]:
    """Serve on a free port from a thread of its own, and yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            with suppress(OSError):  # not every system shuts a listener down; closing it then does
                listener.shutdown(socket.SHUT_RDWR)
    thread.join(1)


def _serve(listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while connection.recv(4096):
                    began = time.monotonic_ns()
                    time.sleep(_SERVICE_S)
                    took = time.monotonic_ns() - began
                    connection.sendall(f"HTTP/1.1 200 OK\r\nX-Took-Ns: {took}\r\nContent-Length: 0\r\n\r\n".encode())
