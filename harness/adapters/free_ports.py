"""Free TCP ports on loopback, held until the service that gets them is about to start."""

import random
import socket
from pathlib import Path

import psutil

from harness.model.errors import EnvironmentProblem

_LOWEST = 20000
_TRIES = 400
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


class HeldPort:
    """A port that nobody else can bind until `release`."""

    def __init__(self, held: socket.socket) -> None:
        """Keep the bound socket open."""
        self._held: socket.socket | None = held
        self.number: int = held.getsockname()[1]

    def release(self) -> int:
        """Let go and return the number; the owner must bind it at once."""
        if self._held is not None:
            self._held.close()
            self._held = None
        return self.number


def hold_port() -> HeldPort:
    """Return a free port on 127.0.0.1, bound so that no other run takes it meanwhile.

    Ports are drawn below the range from which the kernel serves outgoing connections, so that none of those can
    slip in between release and bind. Raises EnvironmentProblem when there is none.
    """
    highest = _ephemeral_low() - 1
    draw = random.SystemRandom()
    for _ in range(_TRIES if highest > _LOWEST else 0):
        held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            held.bind(("127.0.0.1", draw.randint(_LOWEST, highest)))
        except OSError:
            held.close()
            continue
        return HeldPort(held)
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        held.bind(("127.0.0.1", 0))
    except OSError as error:
        held.close()
        msg = f"no free port on 127.0.0.1: {error.strerror}"
        raise EnvironmentProblem(msg, mend="end what holds the ports, see `ss -ltn`") from error
    return HeldPort(held)


def holder_of(port: int) -> str:
    """Return who listens on `port`, as "name (pid 12)"; "another process" where the system does not tell."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
                pid = connection.pid
                return f"{psutil.Process(pid).name()} (pid {pid})" if pid else "a process of another user"
    except (psutil.Error, OSError):
        pass
    return "another process"


def _ephemeral_low() -> int:
    try:
        return int(_EPHEMERAL.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError):
        return 49152  # IANA's and macOS's first ephemeral port
