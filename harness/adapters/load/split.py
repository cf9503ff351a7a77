"""The load's own split: which arm a session goes to, by an order on disk that is read again and again.

One side writes the order (`harness.adapters.client_split`), the other follows it here and writes what it has taken.
Both files are replaced whole, so that a reader sees the old one or the new one.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import xxhash

from harness.model.evidence import Arm

BUCKETS = 10_000
READ_S = 0.1  # how often the order is read
BEAT_S = 0.2  # how often its holder says that it lives
LOST_S = 0.9  # so long without a word, and everything is the baseline's


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked: buckets below `limit` go to the candidate while the lease is held; `beat` counts its words."""

    limit: int = 0
    held: bool = False
    beat: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a generator does: the limit that it took, whether it sees the lease held, and its process."""

    limit: int
    leased: bool
    pid: int


def write_order(path: Path, order: Order) -> None:
    """Replace the order; OSError when the disk refuses."""
    _replace(path, asdict(order))


def read_order(path: Path) -> Order:
    """Return the order; what is away or malformed asks for nothing: all to the baseline."""
    raw = _read(path)
    limit, held, beat = raw.get("limit"), raw.get("held"), raw.get("beat")
    if type(limit) is not int or not 0 <= limit <= BUCKETS or type(beat) is not int:
        return Order()
    return Order(limit=limit, held=held is True, beat=beat)


def taken_file(folder: Path, worker: int) -> Path:
    """Return where generator `worker` says what it has taken."""
    return folder / f"split-taken-{worker}.json"


def read_taken(folder: Path) -> list[Taken]:
    """Return what the generators that still run have taken."""
    found = [_read(path) for path in sorted(folder.glob("split-taken-*.json"))]
    told = [Taken(limit=int(raw["limit"]), leased=bool(raw["leased"]), pid=int(raw["pid"])) for raw in found if raw]
    return [one for one in told if _runs(one.pid)]


class Follower:
    """The generator's side. `arm` answers at once; `follow` reads the order."""

    def __init__(self, order: Path, taken: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Send everything to the baseline until an order is read."""
        self._order_file, self._taken_file, self._clock = order, taken, clock
        self._order: Order | None = None
        self._heard = float("-inf")
        self._limit = 0
        self._told: Taken | None = None

    def follow(self) -> None:
        """Take the newest order in. A holder that has not spoken for `LOST_S` seconds holds nothing any more."""
        order, now = read_order(self._order_file), self._clock()
        if self._order is not None and order.beat != self._order.beat:  # an old word on disk is none
            self._heard = now
        self._order = order
        leased = order.held and now - self._heard < LOST_S
        self._limit = order.limit if leased else 0
        taken = Taken(limit=order.limit, leased=leased, pid=os.getpid())
        if taken != self._told:
            _replace(self._taken_file, asdict(taken))
            self._told = taken

    def arm(self, key: str) -> Arm:
        """Return the arm of an assignment key: the same one for as long as the limit does not fall below its bucket."""
        return Arm.CANDIDATE if bucket(key) < self._limit else Arm.BASELINE

    def end(self) -> None:
        """Take back what was said: nobody follows any more."""
        self._limit = 0
        self._taken_file.unlink(missing_ok=True)


def bucket(key: str) -> int:
    """Return the bucket of an assignment key, by the hash that routers, flags and harness share."""
    return xxhash.xxh32(key.encode()).intdigest() % BUCKETS


def _replace(path: Path, values: dict[str, Any]) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(values), encoding="utf-8")
    draft.replace(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        raw: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
