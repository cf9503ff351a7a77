"""Ports: what the loops need from the outside, as Protocols. Adapters fill them, wiring connects them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.model.event import Event
from harness.model.evidence import Arm, Evidence
from harness.model.hook import Delivered, Delivery
from harness.model.judgement import ServiceRecord


class Clock(Protocol):
    """Time. `now` is seconds since the epoch, `monotonic` never steps; `sleep` may be simulated."""

    def now(self) -> float: ...
    def monotonic(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...


class Sink(Protocol):
    """A listener to the events of a run. It must not raise for want of a terminal."""

    def emit(self, event: Event) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceState:
    """A service instance as the provider sees it. `restarts` counts exits that nobody asked for."""

    name: str  # "redis", "gateway[candidate]"
    service: str
    arm: Arm | None
    running: bool
    restarts: int = 0
    exit_note: str = ""


class Stack(Protocol):
    """A stack that is up."""

    def address(self, service: str, port: str, arm: Arm | None = None) -> str:
        """Return "host:port"; KeyError for a service or port that the inventory lacks."""
        ...

    def secret(self, name: str) -> str: ...
    def instances(self) -> Sequence[InstanceState]: ...
    def records(self) -> Sequence[ServiceRecord]: ...
    def log_tail(self, instance: str, lines: int = 40) -> str: ...
    def kill(self, service: str, arm: Arm | None = None) -> None:
        """End a service by SIGKILL and leave it dead: for drills."""
        ...


class Provider(Protocol):
    """Brings a system up, or takes one that is deployed."""

    name: str

    def up(self) -> Stack:
        """Start everything in parallel, in dependency order; EnvironmentProblem when a part stays down."""
        ...

    def down(self) -> None:
        """Stop what `up` started and remove its state; safe to call twice, never raises for dead parts."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterState:
    """What the router says of itself. `limit` is in basis points of 10,000 buckets.

    A router that checks no arms says that both are up; one without a lease never says that it is held. `settled` is
    what of the limit needs no lease, None where nothing can be settled.
    """

    limit: int
    lease_held: bool
    candidate_up: bool
    baseline_up: bool
    settled: int | None = None


class Router(Protocol):
    """The one thing that moves traffic; only the driver holds it.

    `sticky`: raising the limit never moves a user out of the candidate. `returns_alone`: all traffic is back on the
    baseline by itself, within seconds, when the driver dies or freezes.
    """

    name: str
    sticky: bool
    returns_alone: bool

    def read(self) -> RouterState:
        """Ask the router itself; EnvironmentProblem when it does not answer."""
        ...

    def set_limit(self, limit: int) -> None:
        """Set the candidate's limit (0..10000) and read it back; idempotent; EnvironmentProblem if not taken."""
        ...

    def hold_lease(self) -> None:
        """Begin to hold the lease: while held, candidate traffic is allowed; it ends with the process.

        Does nothing where traffic does not return alone: there only the next driver takes it back.
        """
        ...

    def drop_lease(self) -> None: ...

    def settle(self, limit: int) -> None:
        """Make `limit` the share that needs no lease, and read it back; EnvironmentProblem if not taken.

        A limit set below it takes it down too. Does nothing where traffic does not return alone.
        """
        ...


class Flags(Protocol):
    """Feature flags, read live by the application. Percent in [0, 100]."""

    def read(self) -> Mapping[str, float]: ...
    def set(self, name: str, percent: float) -> None: ...


class Hooks(Protocol):
    """Webhooks of a rollout. Nothing here blocks but `finish`, and nothing raises: what fails is an answer too.

    `rollout` begins the id of every delivery, `asks` tells whether a hook must allow each stage.
    """

    rollout: str
    asks: bool

    def has(self, hook: str) -> bool: ...
    def send(self, delivery: Delivery) -> None:
        """Begin to deliver; what has no such hook is dropped. The same id twice is delivered twice."""
        ...

    def collect(self) -> Sequence[Delivered]:
        """Return what came of deliveries since the last call."""
        ...

    def finish(self) -> Sequence[Delivered]:
        """Wait, within the hooks' own bounds, for all that tell; what still asks is given up. Return as `collect`."""
        ...


class Metrics(Protocol):
    """Evidence from Prometheus."""

    def collect(self) -> Sequence[Evidence]:
        """Return what came since the last call, one record per signal and arm; never raises for a dead server.

        A source that is away yields an `events` record of signal "metrics" with n=1, bad=1 and a note.
        """
        ...


class Probes(Protocol):
    """Health endpoints and service-specific checks, asked directly."""

    def collect(self) -> Sequence[Evidence]:
        """Probe everything once, in parallel: signals "health.<service>" and "check.<service>.<name>".

        Source PROBE, unit PROBE, arm set for per-arm services; also gauge "restarts" per arm.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadHealth:
    """Is the instrument itself sound? `problems` is empty when it is; each names its mend."""

    running: bool
    problems: tuple[str, ...] = ()


class Load(Protocol):
    """Open-loop load, in processes of its own."""

    def start(self) -> None: ...
    def collect(self) -> Sequence[Evidence]:
        """Return the interval records that the generator completed since the last call."""
        ...

    def health(self) -> LoadHealth: ...
    def stop(self) -> None:
        """Drain and stop; afterwards `collect` yields the rest and `health` the final reconciliation."""
        ...

    def kill(self) -> None: ...
    def stall(self, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One journal entry. `seq` counts from 1; `hash` covers the entry and `previous`."""

    seq: int
    at: float
    kind: str
    who: str
    what: Mapping[str, object]
    why: str
    evidence: str
    previous: str
    hash: str


class Journal(Protocol):
    """The durable record: intent before acting, outcome after. An append is on disk when it returns."""

    def append(self, kind: str, what: Mapping[str, object], *, why: str = "", evidence: str = "") -> Entry: ...
    def entries(self) -> Sequence[Entry]: ...
    def since(self, seq: int, kind: str) -> Sequence[Entry]:
        """Return the entries of `kind` after `seq`, also those that another process appended."""
        ...

    def fence(self) -> int:
        """Take the next fencing token; an older holder's appends then raise LostLeaseError."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One finished test case of a suite.

    `covers` are catalog ids, proven at `level` (live, simulated or static); `arm` is whom it was about ("" the stack).
    """

    name: str
    outcome: str  # passed, failed, error, skipped
    covers: tuple[str, ...]
    message: str
    seconds: float
    arm: str = ""
    level: str = "live"


class Suites(Protocol):
    """Runs suites/ through pytest in a process of its own."""

    def run(self, stack: Stack, expression: str, *, stop: Callable[[], bool] = lambda: False) -> Sequence[Case]:
        """Return the finished cases; once `stop()` is true the run is ended, within a fraction of a second."""
        ...


class EvidenceStore(Protocol):
    """Append-only evidence on disk, under the run's `evidence/`."""

    def append(self, records: Sequence[Evidence]) -> None: ...
    def looked(self, *, at: float, stage: str, final: bool) -> None:
        """Keep when the judge looked, and after which record: a replay looks at the same moments."""
        ...

    def digest(self) -> str:
        """Return "sha256:..." over all bytes appended so far."""
        ...


class Workspace(Protocol):
    """Where a run keeps its files."""

    run_id: str
    out: Path
    state: Path
