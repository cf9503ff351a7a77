"""What no judgement may rest on: NaN, negative numbers, and the same interval twice."""

import math
from collections import deque

from harness.model.evidence import Arm, Evidence, Kind, Source

_REMEMBERED = 256  # starts kept for each series; what is older than all of them can't be told from a duplicate


class Telemetry:
    """Checks every record before a trial sees it, and remembers which series are corrupt, for good."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self._starts: dict[tuple[Source, str, Arm | None], deque[float]] = {}
        self.faults: dict[tuple[Source, str], str] = {}

    def accept(self, record: Evidence) -> bool:
        """Tell whether the record may be judged; otherwise its series is marked corrupt."""
        fault = _contradiction(record) or self._repetition(record)
        if fault:
            self.mark(record, fault)
        return not fault

    def mark(self, record: Evidence, fault: str) -> None:
        """Mark a record's series as corrupt; the first fault is kept."""
        arm = f" of the {record.arm}" if record.arm else ""
        self.faults.setdefault((record.source, record.signal), f"corrupt evidence, {record.signal}{arm}: {fault}")

    def _repetition(self, record: Evidence) -> str:
        if record.source is Source.SUITE:  # a case is no interval: several may bear one id and one time
            return ""
        key = (record.source, record.signal, record.arm)
        starts = self._starts.setdefault(key, deque(maxlen=_REMEMBERED))
        if record.start_s in starts:
            return f"the interval that starts at {record.start_s:.3f} came twice"
        if len(starts) == _REMEMBERED and record.start_s < min(starts):
            return f"the interval that starts at {record.start_s:.3f} came too late to tell it from a duplicate"
        starts.append(record.start_s)
        return ""


def _contradiction(record: Evidence) -> str:
    numbers = (record.start_s, record.end_s, record.share, record.n, record.bad, *record.bounds, *record.counts)
    if record.value is not None:
        numbers = (*numbers, record.value)
    if not all(math.isfinite(number) for number in numbers):
        return "a number that is NaN or infinite"
    if record.n < 0 or record.bad < 0 or (record.counts and min(record.counts) < 0):
        return "a negative count"
    if record.kind is not Kind.HISTOGRAM and record.bad > record.n:
        return "more violations than units"
    if not 0 <= record.share <= 1:
        return f"a share of {record.share}"
    return ""
