"""The faults of a known-bad release, brought in by public configuration."""

import asyncio
import logging
import os
import random
from collections import deque

from rollgate_gateway.settings import Faults

log = logging.getLogger("rollgate.gateway.faults")
REMEMBERED = 400
LEAST_TAIL_S = 0.1
LEAK_BYTE = b"\xa5"


class FaultInjector:
    """Draws, for each request, which faults it meets. The draws depend on the seed and their order alone."""

    def __init__(self, faults: Faults) -> None:
        """Start with no memory leaked and no request seen."""
        self._faults = faults
        self._draws = random.Random(faults.seed)
        self._seen: deque[float] = deque(maxlen=REMEMBERED)
        self._leaked: list[bytes] = []

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Arm the crash, where one is configured."""
        if self._faults.crash_after_s > 0:
            loop.call_later(self._faults.crash_after_s, _crash)

    def fails(self) -> bool:
        """Tell whether this request is answered with an error. Leaks the request's share of memory."""
        if self._faults.leak_kb > 0 and self._on():
            # Repeating a byte writes every page, so the memory is resident and not just reserved.
            self._leaked.append(LEAK_BYTE * int(self._faults.leak_kb * 1024))
        return self._drawn(self._faults.error_rate)

    def wrong(self) -> bool:
        """Tell whether this request gets the wrong documents."""
        return self._drawn(self._faults.wrong_rate)

    def delay_s(self, elapsed_s: float) -> float:
        """Return how long to hold back an answer that took `elapsed_s` by itself."""
        delay = (self._faults.delay_ms / 1000 + (self._faults.latency_factor - 1) * elapsed_s) if self._on() else 0.0
        if self._drawn(self._faults.tail_rate):
            delay += max(LEAST_TAIL_S, self._faults.tail_ms / 1000, (self._faults.tail_factor - 1) * self._p99())
        if self._faults.tail_rate > 0:
            self._seen.append(elapsed_s)
        return delay

    def _p99(self) -> float:
        ordered = sorted(self._seen)
        return ordered[int(0.99 * (len(ordered) - 1))] if ordered else 0.0

    def _drawn(self, rate: float) -> bool:
        return rate > 0 and self._on() and self._draws.random() < rate

    def _on(self) -> bool:
        """Tell whether faults act now."""
        return self._faults.switch is None or self._faults.switch.exists()


def _crash() -> None:
    log.critical("crashing as configured")
    os._exit(1)
