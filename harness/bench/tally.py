"""When a rule acted, over many rollouts: counted by time, so that chunks add up."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from harness.bench.subject import NEVER, Times
from harness.judge.binomial import lower_bound, upper_bound

_TWO_SIDED = 0.975


@dataclass(slots=True)
class Tally:
    """`counts` maps a time to the number of rollouts in which the rule acted then; the rest of `runs` never saw it."""

    runs: int = 0
    counts: Counter[int] = field(default_factory=Counter[int])

    @classmethod
    def of(cls, times: Times) -> "Tally":
        """Count a chunk's times."""
        happened = times[times < NEVER]
        values, counts = np.unique(happened, return_counts=True)
        return cls(len(times), Counter(dict(zip(values.tolist(), counts.tolist(), strict=True))))

    def add(self, other: "Tally") -> None:
        """Take another chunk's in."""
        self.runs += other.runs
        self.counts.update(other.counts)

    @property
    def hits(self) -> int:
        """In how many rollouts the rule acted at all."""
        return self.counts.total()

    @property
    def share(self) -> float:
        """In what share of the rollouts it acted; 0 of none."""
        return self.hits / self.runs if self.runs else 0.0

    def share_bounds(self, confidence: float = _TWO_SIDED) -> tuple[float, float]:
        """Return exact bounds on the share, each at `confidence`."""
        return lower_bound(self.hits, self.runs, confidence), upper_bound(self.hits, self.runs, confidence)

    def at_rank(self, rank: int) -> float:
        """Return the time of the rollout at `rank` from 0, in order; infinite where it never came."""
        before = 0
        for time in sorted(self.counts):
            before += self.counts[time]
            if rank < before:
                return float(time)
        return math.inf

    @property
    def median(self) -> float:
        """The median time, infinite when half of the rollouts never saw it."""
        return self.at_rank(self.runs // 2)

    def median_bounds(self, spread: float = 1.96) -> tuple[float, float]:
        """Return the order statistics `spread` standard deviations round the median."""
        half = spread * math.sqrt(self.runs) / 2
        low, high = math.floor(self.runs / 2 - half), math.ceil(self.runs / 2 + half)
        return (self.at_rank(low) if low >= 0 else 0.0), self.at_rank(min(high, max(0, self.runs - 1)))

    def reached(self, times: Iterable[float]) -> list[float]:
        """Return the share of rollouts in which the rule had acted by each of the rising `times`."""
        ordered = sorted(self.counts)
        sums = np.concatenate([[0], np.cumsum([self.counts[time] for time in ordered])])
        indices = np.searchsorted(np.array(ordered), np.array(list(times)), side="right")
        return [float(value) / max(1, self.runs) for value in sums[indices]]
