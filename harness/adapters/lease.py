"""The driver's lease on the router: a port that answers the router's health check as long as the driver lives.

A driver that dies stops listening, one that is frozen stops answering; either way the router's check fails and all
traffic goes back to the baseline.
"""

import socket
import threading

from harness.model.errors import EnvironmentProblem

TOKEN = b"rollgate-lease"  # the router expects it: another program on this port does not hold the lease
_ANSWER = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (len(TOKEN), TOKEN)


class Lease:
    """Answers on `host`:`port`, which the router must reach, from a thread until dropped."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        """Begin to answer; EnvironmentProblem when the port is taken."""
        self._closing = threading.Event()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # checks leave TIME_WAIT behind
        try:
            self._socket.bind((host, port))
            self._socket.listen(16)
        except OSError as error:
            self._socket.close()
            msg = f"cannot hold the lease on port {port}: {error.strerror}"
            raise EnvironmentProblem(msg, mend="end the other driver of this stack") from error
        self._socket.settimeout(0.2)
        self._thread = threading.Thread(target=self._serve, name="lease", daemon=True)
        self._thread.start()

    def drop(self) -> None:
        """Stop answering; safe to call twice."""
        self._closing.set()
        self._thread.join()
        self._socket.close()

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
