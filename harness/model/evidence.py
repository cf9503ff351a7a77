"""Evidence records: the versioned, append-only contract between collectors, judge, replay and tests.

One record is one interval of one signal on one arm, from one source. Records are never changed after
they were written; a judgement can be made again from them alone.
"""

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

EVIDENCE_VERSION = 1


class Arm(StrEnum):
    """Who served: the release in place, or the one on trial."""

    BASELINE = "baseline"
    CANDIDATE = "candidate"


class Source(StrEnum):
    """Who measured."""

    CLIENT = "client"
    PROMETHEUS = "prometheus"
    PROBE = "probe"
    SUITE = "suite"


class Kind(StrEnum):
    """What the numbers of a record mean.

    - `events`: `n` units seen, `bad` of them violated (errors, wrong answers, failed probes).
    - `histogram`: `n` latencies counted into `counts` by `bounds` (seconds, upper, inclusive); the last
      count is the overflow, so `len(counts) == len(bounds) + 1`. Or `n` scores in 0..1: none may overflow.
    - `assignment`: `n` units of assignment (sessions or requests) first seen, `bad` of them on the candidate.
    - `gauge`: one reading, `value`, taken at `end_s`.
    """

    EVENTS = "events"
    HISTOGRAM = "histogram"
    ASSIGNMENT = "assignment"
    GAUGE = "gauge"


class Unit(StrEnum):
    """What is counted."""

    REQUEST = "request"
    SESSION = "session"
    PROBE = "probe"
    CASE = "case"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One interval of one signal.

    `start_s` and `end_s` are wall-clock seconds since the epoch. `stage` is the id of the stage that the
    interval lay in wholly ("10", "25", ..., "smoke", "warmup"), or "" when it straddles a change of
    traffic. `share` is the candidate's configured share in [0, 1] during the interval. `signal` is a name
    of the system's `signals` (or `health.<service>`, `suite.<id>`, `assignment`, `load`).
    """

    kind: Kind
    source: Source
    signal: str
    start_s: float
    end_s: float
    arm: Arm | None = None
    unit: Unit = Unit.REQUEST
    stage: str = ""
    share: float = 0.0
    n: int = 0
    bad: int = 0
    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    value: float | None = None
    note: str = ""
    version: int = EVIDENCE_VERSION

    def __post_init__(self) -> None:
        """Refuse a record that contradicts itself: it must never reach the judge."""
        if self.end_s < self.start_s:
            msg = f"evidence {self.signal}: interval ends ({self.end_s}) before it starts ({self.start_s})"
            raise ValueError(msg)
        if not 0 <= self.bad <= self.n and self.kind is not Kind.HISTOGRAM:
            msg = f"evidence {self.signal}: bad={self.bad} must lie in 0..n={self.n}"
            raise ValueError(msg)
        if self.kind is Kind.HISTOGRAM and (
            len(self.counts) != len(self.bounds) + 1
            or sum(self.counts) != self.n
            or min(self.counts) < 0
            or any(a >= b for a, b in pairwise(self.bounds))
        ):
            msg = (
                f"evidence {self.signal}: a histogram needs increasing bounds, one count more than bounds, "
                f"none negative, summing to n={self.n}; found {len(self.bounds)} bounds, "
                f"{len(self.counts)} counts summing to {sum(self.counts)}"
            )
            raise ValueError(msg)
        if self.kind is Kind.GAUGE and self.value is None:
            msg = f"evidence {self.signal}: a gauge needs a value"
            raise ValueError(msg)

    def slower_than(self, threshold_s: float) -> int:
        """Count latencies above `threshold_s`, which must be one of `bounds`.

        Raises ValueError when it is not: a count between bounds would be a guess.
        """
        for index, bound in enumerate(self.bounds):
            if abs(bound - threshold_s) <= 1e-9 * max(1.0, threshold_s):
                return sum(self.counts[index + 1 :])
        msg = f"evidence {self.signal}: {threshold_s} s is no bucket bound of {self.bounds}"
        raise ValueError(msg)
