"""The driver's lease on the router: a port that answers the router's health check as long as the driver lives.

A driver that dies stops listening, one that is frozen stops answering; either way the router's check fails and all
traffic goes back to the baseline.
"""

import os
import socket
import threading
from pathlib import Path

from harness.model.errors import EnvironmentProblem

TOKEN = b"rollgate-lease"  # the router expects it: another program on this port does not hold the lease
_BACKLOG = 16
_ANSWER = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (len(TOKEN), TOKEN)


class Lease:
    """Answers at an address that the router must reach, from a thread until dropped."""

    def __init__(self, at: tuple[str, int] | Path) -> None:
        """Begin to answer on (host, port), or on a socket file; EnvironmentProblem when another driver has it."""
        self._closing = threading.Event()
        self._file = at if isinstance(at, Path) else None
        try:
            self._socket = _listening_file(at) if isinstance(at, Path) else _listening_port(at)
        except OSError as error:
            where = at if isinstance(at, Path) else f"port {at[1]}"
            msg = f"cannot hold the lease on {where}: {error.strerror}"
            raise EnvironmentProblem(msg, mend="end the other driver of this stack") from error
        self._socket.settimeout(0.2)
        self._thread = threading.Thread(target=self._serve, name="lease", daemon=True)
        self._thread.start()

    def drop(self) -> None:
        """Stop answering; safe to call twice."""
        self._closing.set()
        self._thread.join()
        self._socket.close()
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:  # the timeout, or a check that went away
                continue
            with connection:
                try:
                    connection.settimeout(0.5)
                    if connection.recv(1024):
                        connection.sendall(_ANSWER)
                except OSError:
                    continue


def _listening_port(at: tuple[str, int]) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # checks leave TIME_WAIT behind
        made.bind(at)
        made.listen(_BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def _listening_file(at: Path) -> socket.socket:
    """Listen on a socket file that the router's user may use too; what a dead driver left is replaced."""
    folder = os.open(at.parent, os.O_RDONLY)
    short = Path(f"/proc/self/fd/{folder}")  # a socket's address may be no longer than some 100 bytes
    reached = str((short if short.exists() else at.parent) / at.name)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knocking:
            if knocking.connect_ex(reached) != 0:
                at.unlink(missing_ok=True)
        made.bind(reached)
        at.chmod(0o666)  # who reaches it, the folder says
        made.listen(_BACKLOG)
    except OSError:
        made.close()
        raise
    finally:
        os.close(folder)
    return made
