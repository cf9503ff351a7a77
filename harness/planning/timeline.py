"""Which stage an interval of evidence lay in, and what a stage saw: pure bookkeeping."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from harness.model.evidence import Arm, Evidence, Kind, Source

WARMUP = "warmup"


@dataclass(frozen=True, slots=True)
class Window:
    """From `at` (epoch seconds) on, the candidate's configured share was `share` in [0, 1]."""

    at: float
    stage: str
    share: float


@dataclass(slots=True)
class Timeline:
    """The moves of one rollout. `settle_s` after each, evidence is a transition's and belongs to no stage."""

    settle_s: float
    windows: list[Window] = field(default_factory=list[Window])

    def moving(self, at: float) -> None:
        """Close the current window: what follows is a transition, until `moved`."""
        self.windows.append(Window(at, "", self.windows[-1].share if self.windows else 0.0))

    def moved(self, at: float, stage: str, share: float) -> None:
        """Open a window."""
        self.windows.append(Window(at, stage, share))

    def place(self, record: Evidence) -> Evidence:
        """Return `record` with the stage and share of the window that holds it wholly, or stage ""."""
        window = next((w for w in reversed(self.windows) if w.at <= record.start_s), None)
        if window is None:
            return record
        later = next((w for w in self.windows if w.at > record.start_s), None)
        settled = window.stage and (record.start_s >= window.at + self.settle_s or window.stage == WARMUP)
        whole = later is None or record.end_s <= later.at
        return replace(record, stage=window.stage if settled and whole else "", share=window.share)


@dataclass(slots=True)
class ArmTally:
    """What clients saw of one arm during one stage."""

    n: int = 0
    bounds: tuple[float, ...] = ()
    counts: list[int] = field(default_factory=list[int])

    def add(self, record: Evidence) -> None:
        """Add one latency histogram."""
        self.n += record.n
        if record.bounds != self.bounds:
            self.bounds, self.counts = record.bounds, [0] * len(record.counts)
        self.counts = [a + b for a, b in zip(self.counts, record.counts, strict=True)]

    def quantile_ms(self, q: float) -> float | None:
        """Return the upper bound, ms, of the bucket that holds the nearest-rank q-quantile; None beyond all."""
        total = sum(self.counts)
        if total == 0:
            return None
        rank, seen = math.ceil(total * q), 0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            seen += count
            if seen >= rank:
                return bound * 1000.0
        return None


@dataclass(slots=True)
class StageTally:
    """Per-arm tallies of one stage, from the client's finest latency histogram."""

    signal: str
    arms: dict[Arm, ArmTally] = field(default_factory=lambda: {arm: ArmTally() for arm in Arm})

    def add(self, records: Sequence[Evidence], stage: str) -> None:
        """Add what belongs to `stage`."""
        for record in records:
            ours = record.signal == self.signal and record.source is Source.CLIENT and record.kind is Kind.HISTOGRAM
            if ours and record.stage == stage and record.arm is not None:
                self.arms[record.arm].add(record)
