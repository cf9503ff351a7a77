"""Latency counts of one arm, and what they say of a quantile."""

import math
from bisect import bisect_left

import numpy as np

from harness.judge.binomial import Array, at_least, at_most
from harness.model.evidence import Evidence

_ROUNDING = 1e-6  # of sums of weights that are whole numbers


class Buckets:
    """Latency counts of one arm, bucket by bucket; with `memory`, old ones fade as new ones come."""

    def __init__(self, memory: float = math.inf) -> None:
        """Start empty; `memory` in requests."""
        self.bounds: tuple[float, ...] = ()
        self._counts: Array = np.zeros(0)
        self._memory = memory
        self.n = 0.0
        self._squares: Array = np.zeros(0)

    def add(self, record: Evidence, *, worth: float = 1.0, phi: float = 1.0) -> None:
        """Add a record's counts; ValueError when its bounds are not those of the records before.

        Each request counts `worth` times; its arm's own noise multiplies the variance of the record by `phi`.
        """
        counts = worth * np.asarray(record.counts, dtype=float)
        if not len(self._counts):
            self.bounds = record.bounds
            self._counts, self._squares = np.zeros(len(record.counts)), np.zeros(len(record.counts))
        elif record.bounds != self.bounds:
            msg = f"{record.signal}: the bucket bounds changed during the run"
            raise ValueError(msg)
        keep = math.exp(-record.n / self._memory)
        self._counts = self._counts * keep + counts
        self.n = self.n * keep + worth * record.n
        self._squares = self._squares * keep + worth * phi * counts

    @property
    def size(self) -> float:
        """How many independent requests of one weight tell as much (Kish's effective size)."""
        squares = float(self._squares.sum())
        return self.n * self.n / squares if squares else 0.0

    def above(self) -> Array:
        """Return the counts above each bound, an array as long as `bounds`."""
        return np.cumsum(self._counts[::-1])[::-1][1:]

    def share_above(self, value: float) -> float:
        """Return the share above `value`, interpolated within its bucket (a guess: for predictions, not counts)."""
        index = bisect_left(self.bounds, value)
        if index >= len(self.bounds) or not self.n:
            return 0.0
        high = self.bounds[index]
        low = self.bounds[index - 1] if index else high / 2
        part = 1 - math.log(max(value, low) / low) / math.log(high / low)
        return (float(self.above()[index]) + part * float(self._counts[index])) / self.n

    def quantile(self, level: float) -> float | None:
        """Return the quantile, interpolated within its bucket; None in the overflow or without counts."""
        if not self.n:
            return None
        below = np.cumsum(self._counts)
        index = int(np.searchsorted(below, level * self.n))
        if index >= len(self.bounds):
            return None
        high = self.bounds[index]
        low = self.bounds[index - 1] if index else high / 2
        before = float(below[index - 1]) if index else 0.0
        inside = float(self._counts[index])
        part = (level * self.n - before) / inside if inside else 1.0
        return low * (high / low) ** min(max(part, 0.0), 1.0)

    def around(self, value: float) -> tuple[float, float]:
        """Return the edges of the bucket that a quantile lies in; the first one begins at half its end."""
        index = bisect_left(self.bounds, value * (1 - _ROUNDING))
        high = self.bounds[index]
        return self.bounds[index - 1] if index else high / 2, high

    def bracket(self, level: float, error: float) -> tuple[float | None, float | None]:
        """Return bounds (low, high) of the true quantile, each wrong with chance `error`; None if not shown.

        `high` is the first bound from which on at most 1 - level are shown to exceed, `low` the last one up to which
        at least as many are. Exact for requests of one weight. Else each bound has an effective size of its own, by
        the weights of what lies above it (Fay and Feuer 1997): a few heavy slow requests are not many.
        """
        above, squares = self.above(), np.cumsum(self._squares[::-1])[::-1][1:]
        some = squares > 0
        share = above / max(self.n, _ROUNDING)
        count = np.divide(np.square(above), squares, out=np.zeros_like(above), where=some)
        size = np.divide(count, share, out=np.full_like(above, self.size), where=some)
        n = np.floor(size + _ROUNDING).astype(np.int64)
        small = at_most(np.ceil(count - _ROUNDING), n, 1 - level) <= error
        large = at_least(np.floor(count + _ROUNDING), n, 1 - level) <= error
        first = len(small) - int(np.argmin(small[::-1])) if not small.all() else 0
        last = int(np.argmin(large)) - 1 if not large.all() else len(large) - 1
        return self.bounds[last] if last >= 0 else None, self.bounds[first] if first < len(self.bounds) else None
