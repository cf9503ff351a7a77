"""One GET whose whole answer has a deadline: a service that drips must not hold up whoever asks."""

import io
import socket
import time
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MOST_BYTES = 1 << 20  # an exporter's page is its health endpoint in places, and runs to a hundred KiB
_AS_WRITTEN = "/%?&=#:;,@!$'()*+~[]"


class NoAnswer(Exception):
    """The peer spoke, but gave no whole answer."""


def get(address: str, path: str, *, within_s: float) -> tuple[int, str]:
    """Return (status, text) of http://`address``path`; no redirect is followed and no proxy asked.

    OSError when nobody answers, TimeoutError among them when the answer is not whole `within_s` seconds after
    the call, however steadily its bytes come; NoAnswer when it is cut short, no HTTP or too long.
    """
    until_s = time.monotonic() + within_s
    host, _, port = address.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=within_s) as connection:
        asked = f"GET {quote(path, safe=_AS_WRITTEN)} HTTP/1.1\r\nHost: {address}\r\n"
        asked += "Accept: */*\r\nConnection: close\r\n\r\n"
        connection.sendall(asked.encode())
        with HTTPResponse(cast("socket.socket", _Readable(connection, until_s))) as answer:
            try:
                return _whole(answer)
            except HTTPException as error:
                msg = f"no whole HTTP answer: {error or type(error).__name__}"
                raise NoAnswer(msg) from error


def _whole(answer: HTTPResponse) -> tuple[int, str]:
    answer.begin()
    body = answer.read(MOST_BYTES + 1)
    if len(body) > MOST_BYTES:
        msg = f"the answer is longer than {MOST_BYTES >> 10} KiB"
        raise NoAnswer(msg)
    if answer.length:
        msg = f"the answer was cut off, {answer.length} bytes short"
        raise NoAnswer(msg)
    return answer.status, body.decode("utf-8", "replace")


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
