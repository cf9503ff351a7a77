"""Latency read from bucket counts: merging, quantiles, the share above a bound."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from harness.model.evidence import Evidence

FINE = ".fine"  # the same latencies as the signal before it, in finer buckets: for drawing, not for judging


def rank(signal: str, n: int) -> tuple[bool, int, str]:
    """Order latency signals: what a user waits for (…latency) before its parts, then the busiest."""
    return (not signal.endswith("latency"), -n, signal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts by upper bounds in seconds; the last count is the overflow. Empty: no bounds, no counts."""

    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()

    @property
    def n(self) -> int:
        """Return how many latencies were counted."""
        return sum(self.counts)

    @classmethod
    def merged(cls, records: Iterable[Evidence]) -> "Histogram":
        """Add up records of one signal. Records with other bounds than the first are left out: no guesses."""
        bounds: tuple[float, ...] = ()
        counts: list[int] = []
        for record in records:
            if not counts:
                bounds, counts = record.bounds, list(record.counts)
            elif record.bounds == bounds:
                counts = [a + b for a, b in zip(counts, record.counts, strict=True)]
        return cls(bounds=bounds, counts=tuple(counts))

    def quantile(self, q: float) -> float | None:
        """Return the q-quantile in seconds, log-linear within its bucket; None without data.

        A quantile in the overflow bucket is only known to lie above the last bound: inf.
        """
        rank = q * self.n
        if not self.n:
            return None
        below = 0
        for index, count in enumerate(self.counts):
            if count and below + count >= rank:
                if index == len(self.bounds):
                    return math.inf
                high = self.bounds[index]
                low = self.bounds[index - 1] if index else high / 2
                return low * (high / low) ** ((rank - below) / count) if low > 0 else high * (rank - below) / count
            below += count
        return math.inf

    def above(self) -> list[tuple[float, float]]:
        """Return (bound in seconds, share of latencies above it) for every bound."""
        left, total = self.n, self.n
        points: list[tuple[float, float]] = []
        for bound, count in zip(self.bounds, self.counts, strict=False):
            left -= count
            points.append((bound, left / total if total else 0.0))
        return points
