"""Resident memory of the process that serves an address of this machine, and of all that it started."""

import socket
from urllib.parse import urlsplit

import psutil

_DEFAULT_PORTS = {"http": 80, "https": 443}


class ServerProcess:
    """The process that listens where `url` points, as far as this machine lets us see it.

    Ollama runs each model in a child of its own, so children count. A server on another machine, in a container or of
    another user is not seen.
    """

    def __init__(self, url: str) -> None:
        """Look at nothing yet."""
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
        self._process: psutil.Process | None = None

    def resident_bytes(self) -> float | None:
        """Return the bytes; None where the process is not seen. Blocks for some milliseconds."""
        try:
            if self._process is None or not self._process.is_running():
                self._process = self._found()
            if self._process is None:
                return None
            total = self._process.memory_info().rss
            for child in self._process.children(recursive=True):
                total += _resident(child)
        except (psutil.Error, OSError):
            self._process = None
            return None
        return float(total)

    def _found(self) -> psutil.Process | None:
        if not _is_here(self._host):
            return None
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == self._port and connection.pid:
                return psutil.Process(connection.pid)
        return None


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0  # it ended meanwhile


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return socket.inet_aton(host)[0] == 127  # noqa: PLR2004 - 127.0.0.0/8 is this machine
    except OSError:
        return host == "::1"
