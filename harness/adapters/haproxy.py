"""HAProxy as the router: a limit in a map, changed by the runtime API, and the driver's lease.

The configuration keeps these names: backends `baseline`, `candidate` and `lease`, each with one server of the same
name; a map file with the key `candidate`, whose value is the limit in 0..10000, and the key `settled`, the part of it
that needs no lease; an admin socket at level admin, as a file or on a TCP port. See the router template of each system.

| parameter | meaning |
|---|---|
| `admin` | path of the admin socket, or HOST:PORT |
| `map_file` | where the map lies, if it can be written from here: then the share outlives a reload and a restart |
| `map_name` | what HAProxy calls the map (its path there); "" finds the one map that has the key |
| `lease_port`, `lease_host` | where the driver answers HAProxy's check; without any traffic does not return alone |
| `lease_file` | the same as a socket file in a folder that both see, for an HAProxy in a container |
"""

import os
import re
import socket
import time
from pathlib import Path

from harness.adapters.lease import Lease
from harness.model.errors import EnvironmentProblem
from harness.ports import RouterState

BUCKETS = 10_000
KEY = "candidate"
SETTLED = "settled"
_VALUE = re.compile(r'found=yes.*\bvalue="(?P<value>[^"]*)"')
_MAP = re.compile(r"^-?\d+ \((?P<name>[^)]+)\)", re.MULTILINE)
_TCP = re.compile(r"(?P<host>[^/]+):(?P<port>\d{1,5})")
_RUNNING = "2"  # srv_op_state of a server that is up
_TIMEOUT_S = 3.0
_LONGEST_SOCKET_PATH = 100
_LEASE_SEEN_S = 5.0


class AdminSocket:
    """HAProxy's runtime API."""

    def __init__(self, address: Path | str) -> None:
        """Use the socket file at `address`, or HOST:PORT."""
        self.address = str(address)
        self._tcp = _TCP.fullmatch(self.address)

    def command(self, line: str) -> str:
        """Send one command and return the answer; EnvironmentProblem when HAProxy does not answer."""
        try:
            with self._connected() as connection:
                connection.sendall(line.encode() + b"\n")
                chunks: list[bytes] = []
                while chunk := connection.recv(65536):
                    chunks.append(chunk)
        except OSError as error:
            msg = f"the router does not answer on {self.address}: {error.strerror or error}"
            raise EnvironmentProblem(msg, mend="read the router's log") from error
        return b"".join(chunks).decode()

    def _connected(self) -> socket.socket:
        if self._tcp:
            return socket.create_connection((self._tcp["host"], int(self._tcp["port"])), timeout=_TIMEOUT_S)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(_TIMEOUT_S)
            _connect(connection, Path(self.address))
        except OSError:
            connection.close()
            raise
        return connection


class HAProxyRouter:
    """Moves traffic by one number in HAProxy's map."""

    name = "haproxy"
    sticky = True

    def __init__(
        self,
        admin: Path | str,
        map_file: Path | None = None,
        map_name: str = "",
        lease_port: int | None = None,
        *,
        lease_host: str = "127.0.0.1",
        lease_file: Path | None = None,
    ) -> None:
        """Talk to nobody yet. The parameters are those of the module's table."""
        self._admin = AdminSocket(admin)
        self._map_file = map_file
        self._map_name = map_name
        self._lease_at = lease_file or ((lease_host, lease_port) if lease_port else None)
        self._lease: Lease | None = None
        self.returns_alone = self._lease_at is not None

    def read(self) -> RouterState:
        """Ask HAProxy for the limit and the state of its servers."""
        up = self._servers_up()
        return RouterState(
            limit=self._limit(),
            lease_held=up["lease"] and self.returns_alone,
            candidate_up=up["candidate"],
            baseline_up=up["baseline"],
            settled=self._settled() if self.returns_alone else None,
        )

    def set_limit(self, limit: int) -> None:
        """Set the limit on disk, where that is in reach, then in the running router, and read it back.

        Raises ValueError outside 0..10000, EnvironmentProblem when HAProxy does not take it. A router that is away
        leaves nothing behind that a restart would raise: the disk then only ever takes a 0.
        """
        if not 0 <= limit <= BUCKETS:
            msg = f"a limit lies in 0..{BUCKETS}, found {limit}"
            raise ValueError(msg)
        if limit:
            self._limit()
            settled = self._settled()
            self._write_map(limit, None if settled is None else min(limit, settled))
        else:
            self._write_map(0, 0 if self._knows_settled() else None)
        if (self._settled() or 0) > limit:
            self._set(SETTLED, limit)
        self._set(KEY, limit)

    def hold_lease(self) -> None:
        """Begin to hold the lease and wait until HAProxy has seen it; EnvironmentProblem when it does not."""
        if self._lease_at is None:
            return
        where = self._lease_at if isinstance(self._lease_at, Path) else "{}:{}".format(*self._lease_at)
        if self._lease is None:
            self._lease = Lease(self._lease_at)
        deadline = time.monotonic() + _LEASE_SEEN_S
        while not self._servers_up()["lease"]:
            if time.monotonic() > deadline:
                self.drop_lease()
                msg = f"the router did not see the lease at {where} within {_LEASE_SEEN_S:g} s"
                raise EnvironmentProblem(msg, mend=f"read the router's log; it must reach {where}")
            time.sleep(0.02)

    def drop_lease(self) -> None:
        """Stop holding the lease: within about a second all traffic is on the baseline."""
        if self._lease is not None:
            self._lease.drop()
            self._lease = None

    def settle(self, limit: int) -> None:
        """Let `limit` stay on the candidate without a lease; it becomes part of the map, on disk first where in reach.

        Raises ValueError outside 0..10000 and above the limit, EnvironmentProblem when HAProxy does not take it.
        """
        if not self.returns_alone:
            return
        now = self._limit()
        if not 0 <= limit <= now:
            msg = f"what is settled lies in 0..{now}, the limit, found {limit}"
            raise ValueError(msg)
        if self._settled() is None:
            msg = f"the router's map {self._map()} has no key {SETTLED!r}: no share outlives its driver"
            mend = f"add the line `{SETTLED} 0`, and to the configuration what the shipped router.cfg does with it"
            raise EnvironmentProblem(msg, mend=mend)
        self._write_map(now, limit)
        self._set(SETTLED, limit)

    def _set(self, key: str, value: int) -> None:
        answer = self._admin.command(f"set map {self._map()} {key} {value}").strip()
        found = self._value(key)  # a refused value is answered with the same blank as success
        if found != value:
            named = "limit" if key == KEY else key
            msg = f"the router was told {named} {value} and has {found}" + (f": {answer}" if answer else "")
            raise EnvironmentProblem(msg, mend="end whatever else writes to the router's map")

    def _map(self) -> str:
        """Return HAProxy's name of the map; without one given, that of the only map with the key."""
        if not self._map_name:
            names: list[str] = _MAP.findall(self._admin.command("show map"))
            having = [name for name in names if _VALUE.search(self._admin.command(f"get map {name} {KEY}"))]
            if len(having) != 1:
                msg = f"the router has {len(having)} maps with the key {KEY!r}, expected one"
                raise EnvironmentProblem(msg, mend=f"the map file must have the line `{KEY} 0`, or name the map")
            self._map_name = having[0]
        return self._map_name

    def _limit(self) -> int:
        found = self._value(KEY)
        if found is None:
            msg = f"the router's map {self._map()} has no usable key {KEY!r}"
            raise EnvironmentProblem(msg, mend=f"the map file must have the line `{KEY} 0`")
        return found

    def _settled(self) -> int | None:
        return self._value(SETTLED)

    def _value(self, key: str) -> int | None:
        """Return what stands in the running map at `key`, None for nothing usable."""
        match = _VALUE.search(self._admin.command(f"get map {self._map()} {key}"))
        return int(match["value"]) if match and match["value"].isdigit() else None

    def _servers_up(self) -> dict[str, bool]:
        """Return whether each arm and the lease are up, by backend name."""
        lines = self._admin.command("show servers state").splitlines()
        heads: list[str] = next((line[1:].split() for line in lines if line.startswith("# ")), [""])
        up: dict[str, bool] = {}
        for line in lines:
            row = dict(zip(heads, line.split(), strict=False))
            name = row.get("be_name", "")
            if name in {"baseline", "candidate", "lease"} and not line.startswith("#"):
                up[name] = up.get(name, False) or row.get("srv_op_state") == _RUNNING
        if self._lease_at is None:
            up.setdefault("lease", False)
        if missing := {"baseline", "candidate", "lease"} - up.keys():
            msg = f"the router has no backend {', '.join(sorted(missing))}"
            raise EnvironmentProblem(msg, mend="the router's configuration must keep the names of the template")
        return up

    def _knows_settled(self) -> bool:
        """Tell whether the map on disk has the key: a configuration that knows none must not seem to."""
        try:
            found = self._map_file.read_text(encoding="ascii") if self._map_file else ""
        except (OSError, ValueError):
            return False
        return any(line.split()[:1] == [SETTLED] for line in found.splitlines())

    def _write_map(self, limit: int, settled: int | None) -> None:
        if self._map_file is None:
            return
        lines = f"{KEY} {limit}\n" + ("" if settled is None else f"{SETTLED} {settled}\n")
        draft = self._map_file.with_name(f".{self._map_file.name}.{os.getpid()}")
        try:
            draft.write_text(lines, encoding="ascii")
            draft.replace(self._map_file)
        except OSError as error:
            msg = f"cannot write the router's map {self._map_file}: {error.strerror}"
            raise EnvironmentProblem(msg, mend="free space, or make the folder writable") from error


def _connect(connection: socket.socket, path: Path) -> None:
    """Connect, also to a path that is longer than a socket's address may be (Linux)."""
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        connection.connect(str(path))
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
