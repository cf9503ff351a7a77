"""From two scrapes to what happened between them: each reading typed, none guessed, nothing raised."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from harness.model.evidence import Arm, Evidence, Kind, Source
from harness.model.system import Signal

Key = tuple[str, tuple[tuple[str, str], ...]]  # what the series is for, and its labels
Rises = Mapping[Key, float]


@dataclass(frozen=True, slots=True)
class Frame:
    """Every needed series of one arm at one scrape; `at` in seconds since the epoch, to the millisecond."""

    at: float
    values: Mapping[Key, float]


class Reading(StrEnum):
    """What two scrapes of one arm turned out to be."""

    OK = "ok"
    FIRST = "first"  # counting starts here
    RESET = "reset"  # a process began anew: what it counted since, or no record where that can't be told
    LATE = "late"  # scrapes were missed: the record is right, and of a longer interval
    DUPLICATE = "duplicate"  # the same scrape again, or the same bucket twice
    BACKWARD = "backward"  # the clock went back
    STALE = "stale"  # a series has no value
    GONE = "gone"  # a series is no longer exposed
    UNTOLD = "untold"  # violations were exposed and no longer are, while units are
    MISSING = "missing"  # buckets are missing
    MALFORMED = "malformed"  # numbers that contradict each other


_SOUND = frozenset({Reading.OK, Reading.FIRST, Reading.RESET, Reading.LATE})
_MISSED = 2.5  # paces between two scrapes from which on one was missed
_ROUNDING = 1e-6
_BAD, _TOTAL = "bad", "total"  # uses
_MOST = 1e18  # beyond any counter; also keeps sums finite


@dataclass(frozen=True, slots=True, kw_only=True)
class Increment:
    """What lies between two scrapes: its type, why, and the record where there is one."""

    reading: Reading
    reason: str = ""
    record: Evidence | None = None

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong with the series; without a record nothing can be said yet."""
        return self.reading in _SOUND


class _Refused(Exception):
    """Why there is no record."""

    def __init__(self, reading: Reading, reason: str) -> None:
        super().__init__(reason)
        self.increment = Increment(reading=reading, reason=reason)


def increment(signal: Signal, arm: Arm | None, before: Frame | None, now: Frame, *, pace_s: float = 0.0) -> Increment:
    """Return what happened between two scrapes of one arm; `pace_s` is the usual time between them, 0 for unknown.

    A counter that fell was reset with its process: then every counter of the instance counts from 0. Where
    one that had counted before did not fall, a part was reset, or it has outgrown its old value: which of the
    two can't be told, and the interval is left out. A series that appears counts from 0 where the same instance
    was scraped before and had others of its use, or, of violations, had units: it was made since then. Likewise
    violations without any series are none yet, and series that a reset took away begin anew with the first to count;
    violations that go without one are UNTOLD. A gauge is read as it stands.
    A record that is not just the next one, after a reset or of a longer interval, says why in its note.
    """
    try:
        return _increment(signal, arm, before, now, pace_s)
    except _Refused as refused:
        return refused.increment


def _increment(signal: Signal, arm: Arm | None, before: Frame | None, now: Frame, pace_s: float) -> Increment:
    for frame in (now, before):
        _check_values(frame.values if frame else {})
    gauge = bool(signal.gauge) and not signal.histogram and not signal.bad
    if not gauge and min(now.values.values(), default=0.0) < 0:
        raise _Refused(Reading.MALFORMED, f"a counter below 0: {_name(min(now.values, key=now.values.__getitem__))}")
    if before is not None and now.at <= before.at:
        again = now.at == before.at
        what = f"the scrape of {now.at:.3f} came " + ("again" if again else f"after the one of {before.at:.3f}")
        raise _Refused(Reading.DUPLICATE if again else Reading.BACKWARD, what)
    blank = Evidence(
        kind=Kind.GAUGE, source=Source.PROMETHEUS, signal=signal.name, arm=arm, start_s=now.at, end_s=now.at, value=0.0
    )
    if gauge:
        value = sum(now.values.values()) * signal.scale
        return Increment(reading=Reading.OK, record=replace(blank, value=value))
    if before is None or _unknown(now.values, before.values):
        return Increment(reading=Reading.FIRST, reason="counting starts with this scrape")
    _check_gone(before.values, now.values)
    rises, reading, reason = _rises(before, now)
    if rises is None:
        return Increment(reading=reading, reason=reason)
    if pace_s and reading is Reading.OK and now.at - before.at > _MISSED * pace_s:
        reading, reason = Reading.LATE, f"{now.at - before.at:.1f} s between two scrapes, {pace_s:g} s is usual"
    blank = replace(blank, start_s=before.at, value=None, kind=Kind.EVENTS, note=reason)
    record = _histogram(blank, signal, rises) if signal.histogram else _events(blank, rises)
    return Increment(reading=reading, reason=reason, record=record)


def _rises(before: Frame, now: Frame) -> tuple[Rises | None, Reading, str]:
    """Return each counter's rise, or None where a reset leaves it open; the reading, and its reason."""
    old = {key: before.values.get(key, 0.0) for key in now.values}
    fell = _fallen(before.values, now.values)
    if not fell:
        return {key: value - old[key] for key, value in now.values.items()}, Reading.OK, ""
    torn = [key for key, value in now.values.items() if _instance(key) in fell and 0 < old[key] <= value]
    where = ", ".join(sorted(fell)) or "the instance"
    if torn:
        what = f"counters of {where} fell, but not {_name(min(torn))}: the interval is left out"
        return None, Reading.RESET, what
    rises = {key: value if _instance(key) in fell else value - old[key] for key, value in now.values.items()}
    return rises, Reading.RESET, f"counters of {where} began anew"


def _events(blank: Evidence, rises: Rises) -> Evidence:
    bad, total = (sum(rise for (use, _), rise in rises.items() if use == wanted) for wanted in (_BAD, _TOTAL))
    if bad > total + _ROUNDING:
        raise _Refused(Reading.MALFORMED, f"{bad:g} violations of {total:g} units between two scrapes")
    return replace(blank, n=round(total), bad=min(round(bad), round(total)))


def _histogram(blank: Evidence, signal: Signal, rises: Rises) -> Evidence:
    """Return the sum of the histograms with each set of labels; bounds at or below 0 are joined to the next."""
    whole: dict[float, float] = {}
    for buckets in _by_labels(rises).values():
        if whole and buckets.keys() != whole.keys():
            lacking = ", ".join(f"{bound:g}" for bound in sorted(whole.keys() ^ buckets.keys()))
            raise _Refused(Reading.MISSING, f"missing buckets: le = {lacking} of one series and not of another")
        for bound, rise in buckets.items():
            whole[bound] = whole.get(bound, 0.0) + rise
    bounds = sorted(bound for bound in whole if bound > 0)
    if len(bounds) < 2 or not math.isinf(bounds[-1]):  # noqa: PLR2004 - one bound and +Inf
        raise _Refused(Reading.MISSING, f"missing buckets: only le = {', '.join(f'{b:g}' for b in bounds)}")
    totals = [round(whole[bound]) for bound in bounds]
    counts = [high - low for low, high in zip([0, *totals], totals, strict=False)]
    if min(counts) < 0:
        raise _Refused(Reading.MALFORMED, "buckets that do not add up: a wider one grew by less than a narrower one")
    return replace(
        blank,
        kind=Kind.HISTOGRAM,
        n=totals[-1],
        bounds=tuple(bound * signal.scale for bound in bounds[:-1]),
        counts=tuple(counts),
    )


def _by_labels(rises: Rises) -> dict[tuple[str, ...], dict[float, float]]:
    """Return the cumulative buckets of each set of labels."""
    series: dict[tuple[str, ...], dict[float, float]] = {}
    for (_, labels), rise in rises.items():
        others = tuple(f"{label}={value}" for label, value in labels if label != "le")
        bound = _bound(dict(labels).get("le", ""), others)
        buckets = series.setdefault(others, {})
        if bound in buckets:
            raise _Refused(Reading.DUPLICATE, f"the bucket le = {bound:g} came twice: {', '.join(others)}")
        buckets[bound] = rise
    return series


def _bound(text: str, labels: tuple[str, ...]) -> float:
    try:
        bound = float(text)
    except ValueError:
        bound = math.nan
    if math.isnan(bound):
        what = f"a bucket without `le`: {', '.join(labels)}" if not text else f"a bucket with le = {text}"
        raise _Refused(Reading.MALFORMED, what)
    return bound


def _check_values(values: Mapping[Key, float]) -> None:
    for key, value in values.items():
        if math.isnan(value):
            raise _Refused(Reading.STALE, f"{value} in {_name(key)}")
        if abs(value) > _MOST:
            raise _Refused(Reading.MALFORMED, f"{value} in {_name(key)}")


def _origins(keys: Iterable[Key]) -> set[tuple[str, str]]:
    """Return the uses that series serve, each with the instance that exposes them."""
    return {(key[0], _instance(key)) for key in keys}


def _unknown(now: Iterable[Key], before: Iterable[Key]) -> bool:
    """Tell whether a use of an instance is new, so that its history is not known.

    Each use is a query of its own, and two windows do not begin at the same moment: within one use a scrape without
    a series shows that the series was not there. The query for violations is made after the one for units and reaches
    further back: a scrape that has units and no violations had none.
    """
    known = _origins(before)
    fresh = _origins(now) - known
    return any(use != _BAD or (_TOTAL, instance) not in known for use, instance in fresh)


def _check_gone(before: Mapping[Key, float], now: Mapping[Key, float]) -> None:
    """Refuse a scrape without series that were there, unless the instance began anew and has others of the use."""
    fell, there = _fallen(before, now), _origins(now)
    gone = [
        key for key in before.keys() - now.keys()
        if _instance(key) not in fell or (key[0] != _BAD and (key[0], _instance(key)) not in there)
    ]  # fmt: skip
    untold = [key for key in gone if key[0] == _BAD and (_TOTAL, _instance(key)) in there]
    if untold:
        raise _Refused(Reading.UNTOLD, f"series gone, and no restart: {_name(min(untold))}")
    if gone:
        raise _Refused(Reading.GONE, f"series gone: {_name(min(gone))}")


def _fallen(before: Mapping[Key, float], now: Mapping[Key, float]) -> set[str]:
    """Return the instances of which a counter fell: their process began anew."""
    return {_instance(key) for key, value in now.items() if value < before.get(key, 0.0)}


def _instance(key: Key) -> str:
    return dict(key[1]).get("instance", "")


def _name(key: Key) -> str:
    labels = dict(key[1])
    name = labels.pop("__name__", key[0])
    return f"{name}{{{', '.join(f'{label}={value}' for label, value in labels.items())}}}"
