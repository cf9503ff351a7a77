"""The simulated disk: a journal that is durable when an append returns, and evidence that a crash can tear."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.bench.driver.weather import Fault
from harness.model.errors import EnvironmentProblem, LostLeaseError
from harness.model.evidence import Evidence
from harness.ports import Entry

if TYPE_CHECKING:
    from harness.bench.driver.world import Process, World

_GENESIS = "0" * 64
_BODY = json.JSONEncoder(sort_keys=True, default=str).encode  # made once: a million rollouts write 15 million entries


class CrashError(BaseException):
    """The process is gone: nothing of it runs any more, no clean-up either."""


@dataclass(slots=True)
class Disk:
    """What outlives every process."""

    entries: list[Entry] = field(default_factory=list[Entry])
    token: int = 0
    evidence: list[bytes] = field(default_factory=list[bytes])
    torn: bool = False

    def write(self, at: float, kind: str, who: str, what: Mapping[str, object], *, why: str, evidence: str) -> Entry:
        """Append one entry, chained to the one before it."""
        body = _BODY(what)
        previous = self.entries[-1].hash if self.entries else _GENESIS
        seq = len(self.entries) + 1
        digest = _digest(seq, at, kind, who, body, why, evidence, previous)
        kept = json.loads(body)
        self.entries.append(Entry(
            seq=seq, at=at, kind=kind, who=who, what=kept, why=why, evidence=evidence, previous=previous, hash=digest
        ))  # fmt: skip
        return self.entries[-1]

    def whole(self) -> bool:
        """Tell whether every link of the journal's chain holds."""
        previous = _GENESIS
        for e in self.entries:
            body = _BODY(e.what)
            digest = _digest(e.seq, e.at, e.kind, e.who, body, e.why, e.evidence, previous)
            if e.previous != previous or e.hash != digest:
                return False
            previous = e.hash
        return True


def _digest(*row: object) -> str:
    return hashlib.sha256(repr(row).encode()).hexdigest()


class SimulatedJournal:
    """One process's handle of the journal."""

    def __init__(self, world: "World", process: "Process") -> None:
        """Belong to `process`, without a fencing token yet."""
        self._world, self._process = world, process
        self._token: int | None = None

    def fence(self) -> int:
        """Take the next token; EnvironmentProblem while the disk is full."""
        world = self._world
        world.call(self._process, "taking a fencing token")
        world.check_space(self._process)
        world.disk.token += 1
        self._token = world.disk.token
        world.rules.fenced(self._process)
        return self._token

    def append(self, kind: str, what: Mapping[str, object], *, why: str = "", evidence: str = "") -> Entry:
        """Append; a crash leaves the entry written, or not."""
        world = self._world
        world.call(self._process, "in a journal write, nothing written")
        if self._token is not None and self._token != world.disk.token:  # to read that needs no space
            raise LostLeaseError("another driver took over")
        world.check_space(self._process)
        entry = world.disk.write(world.now(), kind, f"driver:{self._process.number}", what, why=why, evidence=evidence)
        world.say(f"journal {entry.seq}: {kind} {_short(what)} {why}")
        world.rules.wrote(self._process, entry)
        world.point(self._process, "in a journal write, all written")
        return entry

    def entries(self) -> Sequence[Entry]:
        """Return all entries, oldest first."""
        return self._world.disk.entries

    def since(self, seq: int, kind: str) -> Sequence[Entry]:
        """Return the entries of `kind` after `seq`."""
        found = [entry for entry in self._world.disk.entries[seq:] if entry.kind == kind]
        self._world.rules.ordered(found)
        return found

    def close(self) -> None:
        """Do nothing: a process that ends closes its files."""


def _short(what: Mapping[str, object]) -> str:
    named = (
        "phase",
        "index",
        "share",
        "to",
        "ok",
        "found",
        "id",
        "decision",
        "cause",
        "verb",
        "router",
        "flag",
        "intent",
    )
    return ", ".join(f"{name}={what[name]}" for name in named if name in what)


class SimulatedEvidence:
    """One process's evidence store: it cuts what a crash tore, and goes on from there."""

    def __init__(self, world: "World", process: "Process") -> None:
        """Open what is on the disk."""
        self._world, self._process = world, process
        if world.disk.torn:
            world.disk.evidence.pop()
            world.disk.torn = False
        self._hash = hashlib.sha256()
        for line in world.disk.evidence:
            self._hash.update(line)

    def append(self, records: Sequence[Evidence]) -> None:
        """Write `records`; a crash leaves some of them, and half of one."""
        if not records:
            return
        world = self._world
        lines = [f"{r.signal} {r.start_s} {r.end_s} {r.n} {r.bad} {r.stage}\n".encode() for r in records]
        try:
            world.call(self._process, "in an evidence write, torn")
        except CrashError:
            whole = world.weather.rng.randrange(len(lines))
            world.disk.evidence += [*lines[:whole], lines[whole][:5]]
            world.disk.torn = True
            raise
        world.check_space(self._process)
        world.disk.evidence += lines
        for line in lines:
            self._hash.update(line)

    def looked(self, *, at: float, stage: str, final: bool) -> None:
        """Keep nothing: looks are not judged again here."""
        del at, stage, final
        self._world.check_space(self._process)

    def digest(self) -> str:
        """Return the digest of what stands on the disk."""
        return f"sha256:{self._hash.hexdigest()}"


def no_space(fault: Fault) -> EnvironmentProblem:
    """Return the error of a full disk."""
    return EnvironmentProblem(f"cannot write: {fault}")
