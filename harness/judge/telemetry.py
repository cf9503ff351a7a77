"""What no judgement may rest on: numbers that are none, records that contradict themselves, the same interval twice.

Evidence refuses most of this when it is built. It is checked again here, and more of it, because a record may also
come from a file, or from a collector that got it wrong: nothing that a trial could stumble over may reach it.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

from harness.model.evidence import EVIDENCE_VERSION, Arm, Evidence, Kind, Source, Unit

_REMEMBERED = 256  # intervals kept for each series; what is older than all of them can't be told from a duplicate
_OVERLAP = 0.5  # of the shorter interval: more is the same time counted twice
_MOST_COUNT = 2**53  # beyond it a float no longer counts one by one
_MOST_SECONDS = 1e11  # some three thousand years
_MOST_VALUE = 1e18
_AHEAD_S = 15.0  # two honest clocks are never so far apart
_COLLECTED = frozenset({Source.CLIENT, Source.PROMETHEUS})  # whose intervals tile time; probes may overlap


class Telemetry:
    """Checks every record before a trial sees it, and remembers which series are corrupt, for good.

    `faults` maps (source, signal) to what is wrong, in words. Memory is bounded by the number of series.
    """

    def __init__(self) -> None:
        """Start with nothing seen."""
        self._seen: dict[tuple[Source, str, Arm | None], list[tuple[float, float]]] = {}
        self._newest: dict[tuple[Source, str], float] = {}
        self.faults: dict[tuple[Source | str, str], str] = {}

    def accept(self, record: Evidence) -> bool:
        """Tell whether the record may be judged; otherwise its series is marked corrupt. Never raises."""
        fault = _malformed(record) or _contradiction(record) or self._repetition(record)
        if fault:
            self.mark(record, fault)
            return False
        key = (record.source, record.signal)
        self._newest[key] = max(record.end_s, self._newest.get(key, record.end_s))
        return True

    def mark(self, record: Evidence, fault: str) -> None:
        """Mark a record's series as corrupt; the first fault is kept."""
        signal = _word(record.signal)
        arm = f" of the {_word(record.arm)}" if record.arm is not None else ""
        self.faults.setdefault((_source(record), signal), f"corrupt evidence, {signal}{arm}: {fault}")

    def ahead(self, source: Source, signals: Sequence[str], at: float) -> float:
        """Return by how many seconds these signals' newest record lies after `at`; 0.0 where clocks may do that."""
        prefixes = tuple(signal + "." for signal in signals)
        ends = (
            end
            for (whose, signal), end in self._newest.items()
            if whose is source and (signal in signals or signal.startswith(prefixes))
        )
        ahead = max(ends, default=at) - at
        return ahead if ahead > _AHEAD_S else 0.0

    def _repetition(self, record: Evidence) -> str:
        if record.source is Source.SUITE:  # a case is no interval: several may bear one id and one time
            return ""
        seen = self._seen.setdefault((record.source, record.signal, record.arm), [])
        span = (record.start_s, record.end_s)
        place = bisect_left(seen, (record.start_s, -math.inf))
        if place < len(seen) and seen[place][0] == record.start_s:
            return f"the interval that starts at {record.start_s:.3f} came twice"
        if len(seen) == _REMEMBERED and not place:
            return f"the interval that starts at {record.start_s:.3f} came too late to tell it from a duplicate"
        if record.source in _COLLECTED and record.kind is not Kind.GAUGE:
            for other in seen[max(place - 1, 0) : place + 1]:
                if _overlap(span, other):
                    both = f"the intervals that start at {span[0]:.3f} and {other[0]:.3f} overlap"
                    return f"{both}: a clock went back"
        seen.insert(place, span)
        if len(seen) > _REMEMBERED:
            del seen[0]
        return ""


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    common = min(one[1], other[1]) - max(one[0], other[0])
    return common > _OVERLAP * min(one[1] - one[0], other[1] - other[0]) and common > 0


def _word(name: object) -> str:
    """Return a name, or what stands in its place."""
    return str(name)[:80] if isinstance(name, str) and name else f"(a nameless {type(name).__name__})"


def _source(record: Evidence) -> Source | str:
    """Return who measured, also where a file wrote it as plain text."""
    word = _word(record.source)
    return next((source for source in Source if source.value == word), word)


def _malformed(record: Evidence) -> str:
    """Return which field is not of its type; types are promises that a file need not keep."""
    told: Any = record
    known = ((told.kind, Kind), (told.source, Source), (told.unit, Unit), (told.arm, Arm | None))
    if not all(isinstance(value, kind) for value, kind in known):
        return "a kind, source, unit or arm that is unknown"
    if not all(isinstance(text, str) for text in (told.signal, told.stage, told.note)) or not told.signal:
        return "a signal, stage or note that is no text"
    if not _is(told.version, Integral) or told.version != EVIDENCE_VERSION:
        return f"not version {EVIDENCE_VERSION} of a record"
    if not (isinstance(told.bounds, tuple) and isinstance(told.counts, tuple)):
        return "buckets that are no list of numbers"
    if not all(_is(number, Integral) for number in (told.n, told.bad, *record.counts)):
        return "a count that is no whole number"
    numbers = (told.start_s, told.end_s, told.share, *record.bounds)
    if not all(_is(number, Real) for number in numbers) or not (told.value is None or _is(told.value, Real)):
        return "a number that is none"
    return ""


def _is(number: object, kind: type[Integral | Real]) -> bool:
    return number is not True and number is not False and isinstance(number, kind)


def _contradiction(record: Evidence) -> str:
    numbers = (record.start_s, record.end_s, record.share, record.value or 0.0, *record.bounds)
    if not all(-math.inf < number < math.inf for number in numbers):
        return "a number that is NaN or infinite"
    counts = (record.n, record.bad, *record.counts)
    if min(counts) < 0:
        return "a negative count"
    seconds = max(abs(number) for number in (record.start_s, record.end_s, record.share, *record.bounds))
    if max(counts) > _MOST_COUNT or seconds > _MOST_SECONDS or abs(record.value or 0.0) > _MOST_VALUE:
        return "a number beyond belief"
    if record.end_s < record.start_s:
        return "an interval that ends before it starts"
    if not 0 <= record.share <= 1:
        return f"a share of {record.share}"
    return _misshapen(record)


def _misshapen(record: Evidence) -> str:
    """Return how a record's numbers contradict its kind."""
    if record.kind is not Kind.HISTOGRAM:
        if record.bad > record.n:
            return "more violations than units"
        if record.bounds or record.counts:
            return f"buckets in {record.kind}"
        return "no value" if record.kind is Kind.GAUGE and record.value is None else ""
    if not record.bounds or len(record.counts) != len(record.bounds) + 1:
        return f"{len(record.bounds)} bucket bounds with {len(record.counts)} counts"
    if record.bounds[0] <= 0 or any(low >= high for low, high in pairwise(record.bounds)):
        return "bucket bounds that do not rise from above 0"
    if sum(record.counts) != record.n:
        return f"buckets that hold {sum(record.counts)} of {record.n}"
    return ""
