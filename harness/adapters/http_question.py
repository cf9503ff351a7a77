"""One GET or POST whose whole answer has a deadline: a service that drips must not hold up whoever asks."""

import io
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MOST_BYTES = 1 << 20  # an exporter's page is its health endpoint in places, and runs to a hundred KiB
_AS_WRITTEN = "/%?&=#:;,@!$'()*+~[]"


class NoAnswer(Exception):
    """The peer spoke, but gave no whole answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. Header names are lower case; of several alike the last one counts."""

    status: int
    headers: Mapping[str, str]
    text: str


def get(
    address: str,
    path: str,
    *,
    within_s: float,
    headers: Sequence[tuple[str, str]] = (),
    tls: ssl.SSLContext | None = None,
    name: str = "",
) -> Answer:
    """Return the answer of http://`address``path`, https with `tls`; no redirect is followed and no proxy asked.

    `name` is the host to ask for where the address is not it.

    OSError when nobody answers, TimeoutError among them when the answer is not whole `within_s` seconds after
    the call, however steadily its bytes come; NoAnswer when it is cut short, no HTTP or too long.
    """
    return _ask(_head("GET", name or address, path, headers), address, within_s=within_s, tls=tls, name=name)


def post(
    address: str,
    path: str,
    body: bytes,
    *,
    within_s: float,
    headers: Sequence[tuple[str, str]] = (),
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """Send `body` to http://`address``path`, and return the answer as `get` does."""
    head = _head("POST", address, path, (*headers, ("Content-Length", str(len(body)))))
    return _ask(head + body, address, within_s=within_s, tls=tls)


def _head(method: str, host: str, path: str, headers: Sequence[tuple[str, str]]) -> bytes:
    asked = f"{method} {quote(path, safe=_AS_WRITTEN)} HTTP/1.1\r\nHost: {host}\r\n"
    asked += "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"{asked}Accept: */*\r\nConnection: close\r\n\r\n".encode()


def _ask(request: bytes, address: str, *, within_s: float, tls: ssl.SSLContext | None, name: str = "") -> Answer:
    until_s = time.monotonic() + within_s
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    with socket.create_connection((host, int(port)), timeout=within_s) as plain:
        connection = tls.wrap_socket(plain, server_hostname=name.partition(":")[0] or host) if tls else plain
        connection.sendall(request)
        with connection, HTTPResponse(cast("socket.socket", _Readable(connection, until_s))) as answer:
            try:
                return _whole(answer)
            except HTTPException as error:
                msg = f"no whole HTTP answer: {error or type(error).__name__}"
                raise NoAnswer(msg) from error


def _whole(answer: HTTPResponse) -> Answer:
    answer.begin()
    body = answer.read(MOST_BYTES + 1)
    if len(body) > MOST_BYTES:
        msg = f"the answer is longer than {MOST_BYTES >> 10} KiB"
        raise NoAnswer(msg)
    if answer.length:
        msg = f"the answer was cut off, {answer.length} bytes short"
        raise NoAnswer(msg)
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return Answer(answer.status, headers, body.decode("utf-8", "replace"))


class _Readable:
    """What an HTTPResponse wants of a socket: a file to read from, here one with a deadline."""

    def __init__(self, connection: socket.socket, until_s: float) -> None:
        self._connection, self._until_s = connection, until_s

    def makefile(self, mode: str) -> io.BufferedReader:
        del mode
        return io.BufferedReader(_UntilDeadline(self._connection, self._until_s))


class _UntilDeadline(io.RawIOBase):
    """Every read has what is left until `until_s` (monotonic), not a timeout of its own."""

    def __init__(self, connection: socket.socket, until_s: float) -> None:
        self._connection, self._until_s = connection, until_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            msg = "timed out: the answer came in, but was not whole in time"
            raise TimeoutError(msg)
        self._connection.settimeout(left_s)
        return self._connection.recv_into(buffer)
