"""From raw samples to interval evidence: frames of one scrape, their differences, and what is wrong with them. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.model.evidence import Arm, Evidence, Kind, Source
from harness.model.system import Signal

Key = tuple[str, tuple[tuple[str, str], ...]]  # what the series is for, and its labels
_BUCKET = "bucket"


@dataclass(frozen=True, slots=True)
class Frame:
    """Every needed series of one arm at one scrape; `at` in seconds since the epoch, to the millisecond."""

    at: float
    values: Mapping[Key, float]


@dataclass(slots=True)
class ArmSeries:
    """What a window of raw samples holds of one arm: frames in order of time, and faults.

    `away` tells that nothing but the lack of series is wrong: whoever should expose them does not.
    """

    frames: list[Frame] = field(default_factory=list[Frame])
    faults: list[str] = field(default_factory=list[str])
    away: bool = False


class SeriesAwayError(ValueError):
    """A scrape lacks series that whoever was scraped should expose."""


def selectors(signal: Signal) -> dict[str, str]:
    """Return what must be asked for a signal: use -> selector; empty where Prometheus has nothing of it."""
    if signal.histogram:
        name, brace, labels = signal.histogram.partition("{")
        return {_BUCKET: f"{name}_bucket{brace}{labels}"}
    if signal.bad and signal.total:
        return {"bad": signal.bad, "total": signal.total}
    return {"gauge": signal.gauge} if signal.gauge else {}


def arms_of(signal: Signal) -> tuple[Arm | None, ...]:
    """Return whose series a signal must have: both arms', or the stack's (None)."""
    return tuple(Arm) if signal.arm_label else (None,)


def read_frames(signal: Signal, answers: Mapping[str, Sequence[Mapping[str, Any]]], arm: Arm | None) -> ArmSeries:
    """Return one arm's frames from range-vector answers (use -> matrix).

    Faults: two instances for one arm, the same series twice, a use without series, a scrape that lacks a
    series which others have. The newest scrape may lack one answer's samples, since the queries are made one
    after the other: it is left for the next time.
    """
    result = ArmSeries()
    instances: set[str] = set()
    scrapes: dict[float, dict[Key, float]] = {}
    keys: set[Key] = set()
    twice = False
    for use, matrix in answers.items():
        mine = [row for row in matrix if _is_of(row["metric"], signal, arm)]
        if not mine:
            result.faults.append(f"no series {use}: {selectors(signal)[use]}")
            result.away = True
        for row in mine:
            key = (use, tuple(sorted((str(k), str(v)) for k, v in row["metric"].items())))
            if key in keys:
                result.faults.append(f"the series {use} {dict(key[1])} came twice")
                twice = True
            keys.add(key)
            instances.add(str(row["metric"].get("instance", "")))
            for at, value in row["values"]:
                scrapes.setdefault(round(float(at), 3), {})[key] = float(value)
    if len(instances) > 1:
        result.faults.append(f"series of {len(instances)} instances for one arm: {', '.join(sorted(instances))}")
    result.away = result.away and not twice and len(instances) <= 1
    if not result.faults:
        result.frames = [Frame(at, scrapes[at]) for at in sorted(scrapes)]
        if result.frames and len(result.frames[-1].values) < len(keys):
            result.frames.pop()
    return result


def evidence(signal: Signal, arm: Arm | None, before: Frame | None, now: Frame) -> Evidence | None:
    """Return what happened between two scrapes of one arm; None where nothing can be said yet.

    A counter that fell was reset: its new value is its increment. One that appears counts from 0 where the same
    instance was scraped before and had others of its use: it was made since then. Raises ValueError, naming the
    series, for NaN, Inf, missing buckets or more violations than units; SeriesAwayError for a series that is gone.
    """
    _finite(now)
    if signal.gauge and not signal.histogram and not signal.bad:
        value = sum(now.values.values()) * signal.scale
        return Evidence(
            kind=Kind.GAUGE, source=Source.PROMETHEUS, signal=signal.name, arm=arm, start_s=now.at, end_s=now.at,
            value=value,
        )  # fmt: skip
    if before is None or _origins(now.values.keys()) - _origins(before.values.keys()):
        return None
    gone = before.values.keys() - now.values.keys()
    if gone:
        msg = f"series gone: {_name(min(gone))}"
        raise SeriesAwayError(msg)
    grown = {key: value - before.values.get(key, 0.0) for key, value in now.values.items()}
    grown = {key: now.values[key] if rise < 0 else rise for key, rise in grown.items()}
    if signal.histogram:
        return _histogram(signal, arm, before.at, now.at, grown)
    bad, total = (sum(rise for (use, _), rise in grown.items() if use == wanted) for wanted in ("bad", "total"))
    if bad > total + 1e-6:
        msg = f"{bad:g} violations of {total:g} units between two scrapes"
        raise ValueError(msg)
    return Evidence(
        kind=Kind.EVENTS, source=Source.PROMETHEUS, signal=signal.name, arm=arm, start_s=before.at, end_s=now.at,
        n=round(total), bad=min(round(bad), round(total)),
    )  # fmt: skip


def _histogram(signal: Signal, arm: Arm | None, start: float, end: float, grown: Mapping[Key, float]) -> Evidence:
    cumulative: dict[float, float] = {}
    for (_, labels), rise in grown.items():
        bound = dict(labels).get("le", "")
        if not bound:
            msg = f"a bucket without `le`: {dict(labels)}"
            raise ValueError(msg)
        cumulative[float(bound)] = cumulative.get(float(bound), 0.0) + rise
    bounds = sorted(cumulative)
    if len(bounds) < 2 or not math.isinf(bounds[-1]):  # noqa: PLR2004 - one bound and +Inf
        msg = f"missing buckets: only le = {', '.join(f'{b:g}' for b in bounds)}"
        raise ValueError(msg)
    totals = [round(cumulative[bound]) for bound in bounds]
    counts = [high - low for low, high in zip([0, *totals], totals, strict=False)]
    if min(counts) < 0:
        msg = "buckets that do not add up: a wider one grew by less than a narrower one"
        raise ValueError(msg)
    return Evidence(
        kind=Kind.HISTOGRAM, source=Source.PROMETHEUS, signal=signal.name, arm=arm, start_s=start, end_s=end,
        n=totals[-1], bounds=tuple(bound * signal.scale for bound in bounds[:-1]), counts=tuple(counts),
    )  # fmt: skip


def _origins(keys: Iterable[Key]) -> set[tuple[str, str]]:
    """Return the uses that series serve, each with the instance that exposes them.

    Each use is a query of its own, and two windows do not begin at the same moment: only within one use does a
    scrape without a series show that the series was not there.
    """
    return {(use, dict(labels).get("instance", "")) for use, labels in keys}


def _finite(frame: Frame) -> None:
    for key, value in frame.values.items():
        if not math.isfinite(value):
            msg = f"{value} in {_name(key)}"
            raise ValueError(msg)


def _name(key: Key) -> str:
    labels = dict(key[1])
    name = labels.pop("__name__", key[0])
    return f"{name}{{{', '.join(f'{label}={value}' for label, value in labels.items())}}}"


def _is_of(labels: Mapping[str, str], signal: Signal, arm: Arm | None) -> bool:
    return arm is None or labels.get(signal.arm_label) == arm.value


def first_words(faults: Iterable[str], most: int = 3) -> str:
    """Join the first few faults to one line."""
    listed = list(faults)
    more = f" (and {len(listed) - most} more)" if len(listed) > most else ""
    return "; ".join(listed[:most]) + more
