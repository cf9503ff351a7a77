"""Counts by bucket: exact to merge, and exact at every bound."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from math import ceil, log2


class Histogram:
    """Values counted by increasing upper bounds (inclusive); the last count is the overflow."""

    __slots__ = ("bounds", "counts", "n")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Start empty; ValueError unless `bounds` increase."""
        if not bounds or any(a >= b for a, b in pairwise(bounds)):
            msg = f"a histogram needs increasing bounds, found {tuple(bounds)}"
            raise ValueError(msg)
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.n = 0

    def add(self, value: float) -> None:
        """Count one value; above the last bound (or infinite) it lies in the overflow."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.n += 1

    def merge(self, other: "Histogram") -> None:
        """Add the counts of `other`, which must have the same bounds (ValueError)."""
        if other.bounds != self.bounds:
            msg = "histograms merge only with equal bounds"
            raise ValueError(msg)
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.n += other.n

    def quantile(self, p: float) -> float:
        """Return the bound of the bucket that holds the nearest rank ceil(n*p): an upper estimate.

        Infinity where that is the overflow; ValueError when nothing was counted.
        """
        if not self.n:
            msg = "an empty histogram has no quantile"
            raise ValueError(msg)
        rank, seen = max(1, ceil(self.n * p)), 0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            seen += count
            if seen >= rank:
                return bound
        return float("inf")


def log_linear_bounds(low: float, high: float, steps: int) -> tuple[float, ...]:
    """Return bounds from `low` to at least `high`: each octave split into `steps` equal parts.

    The widest bucket is 1/`steps` of its lower bound, which bounds the relative error.
    """
    if not 0 < low < high or steps < 1:
        msg = f"bounds need 0 < low < high and steps >= 1, found {low}, {high}, {steps}"
        raise ValueError(msg)
    octaves = ceil(log2(high / low) - 1e-9)
    return (low, *(low * 2**octave * (1 + step / steps) for octave in range(octaves) for step in range(1, steps + 1)))
