"""How the generator is: its counts, its punctuality, its heartbeat. Written twice a second."""

import json
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from harness.planning.histogram import Histogram, log_linear_bounds

WINDOW_S = 20.0
_LAG_BOUNDS_S = log_linear_bounds(0.00001, 80.0, 16)
_QUANTILES = (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadStatus:
    """One report. `at` is wall seconds; lags and overheads in milliseconds; `fault` is "" while all is well.

    `phase` is "calibrating", "running", "draining" or "done". `scheduled` counts what should have been sent by
    `at`; in the window, likewise. `ended` counts answers, errors and timeouts: sent == ended once done.
    `unrouted` counts those ended that named no arm: no judgement of an arm sees them.
    """

    at: float
    pid: int
    phase: str
    worker: int = 0
    workers: int = 1
    scheduled: int = 0
    sent: int = 0
    ended: int = 0
    outstanding: int = 0
    timeouts: int = 0
    errors: int = 0
    late: int = 0
    unrouted: int = 0
    window_s: float = 0.0
    window_scheduled: int = 0
    window_sent: int = 0
    lag_window_ms: Mapping[str, float] = field(default_factory=dict[str, float])
    lag_total_ms: Mapping[str, float] = field(default_factory=dict[str, float])
    cpu_share: float = 0.0
    overhead_ms: Mapping[str, float] = field(default_factory=dict[str, float])
    fault: str = ""


def write_status(path: Path, status: LoadStatus) -> None:
    """Replace the file at once: a reader sees the old report or the new one."""
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps(asdict(status)), encoding="utf-8")
    fresh.replace(path)


def read_status(path: Path) -> LoadStatus | None:
    """Return the latest report, None while there is none."""
    try:
        raw = cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
    known = {field.name for field in fields(LoadStatus)}
    return LoadStatus(**{name: value for name, value in raw.items() if name in known})


class Punctuality:
    """Send lags, over the whole run and over the last `WINDOW_S` seconds."""

    def __init__(self) -> None:
        """Start with nothing sent."""
        self._total = Histogram(_LAG_BOUNDS_S)
        self._seconds: deque[tuple[int, Histogram]] = deque()

    def add(self, at_s: float, lag_s: float) -> None:
        """Count a request that was picked up at `at_s` (monotonic), `lag_s` after its time."""
        second = int(at_s)
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append((second, Histogram(_LAG_BOUNDS_S)))
            while self._seconds[0][0] < second - WINDOW_S:
                self._seconds.popleft()
        self._seconds[-1][1].add(lag_s)
        self._total.add(lag_s)

    def window_ms(self) -> dict[str, float]:
        """Return p50, p99 and p99.9 of the last seconds, in milliseconds; empty when nothing was sent."""
        window = Histogram(_LAG_BOUNDS_S)
        for _, histogram in self._seconds:
            window.merge(histogram)
        return quantiles_ms(window)

    def total_ms(self) -> dict[str, float]:
        """Return the same of the whole run."""
        return quantiles_ms(self._total)


def quantiles_ms(histogram: Histogram) -> dict[str, float]:
    """Return p50, p99, p99.9 of a histogram of seconds, in milliseconds; overflow reads as the last bound."""
    if not histogram.n:
        return {}
    last = histogram.bounds[-1]
    return {name: round(min(histogram.quantile(p), last) * 1e3, 3) for name, p in _QUANTILES}


class Pace:
    """The counts and the processor time of the last `WINDOW_S` seconds, from marks made twice a second."""

    def __init__(self) -> None:
        """Start without a mark."""
        self._marks: deque[tuple[float, int, int, float]] = deque()

    def mark(self, at_s: float, scheduled: int, sent: int) -> tuple[float, int, int, float]:
        """Return (window seconds, scheduled, sent, share of a core) since the oldest mark kept."""
        times = os.times()
        self._marks.append((at_s, scheduled, sent, times.user + times.system))
        while len(self._marks) > 2 and at_s - self._marks[1][0] >= WINDOW_S:  # noqa: PLR2004 - oldest and newest
            self._marks.popleft()
        old, new = self._marks[0], self._marks[-1]
        window_s = new[0] - old[0]
        return window_s, new[1] - old[1], new[2] - old[2], (new[3] - old[3]) / window_s if window_s else 0.0
