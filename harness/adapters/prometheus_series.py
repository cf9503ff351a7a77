"""From Prometheus' answers to frames of one scrape, and what is wrong with them. Pure.

What happened between two frames is `harness.judge.increments`' affair.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import dropwhile
from typing import Any

from harness.judge.increments import Frame, Key, Reading, increment
from harness.model.evidence import Arm, Evidence
from harness.model.system import Signal

__all__ = [
    "ArmSeries",
    "Frame",
    "SeriesAwayError",
    "ViolationsUntoldError",
    "arms_of",
    "evidence",
    "first_words",
    "read_frames",
    "selectors",
]

_BUCKET = "bucket"


@dataclass(slots=True)
class ArmSeries:
    """What a window of raw samples holds of one arm: frames in order of time, and faults.

    `away` tells that nothing but the lack of series is wrong: whoever should expose them does not. `unviolated` tells
    that there is no series of violations while there are units: client libraries make one at the first violation.
    """

    frames: list[Frame] = field(default_factory=list[Frame])
    faults: list[str] = field(default_factory=list[str])
    away: bool = False
    unviolated: bool = False


class SeriesAwayError(ValueError):
    """A scrape lacks series that whoever was scraped should expose."""


class ViolationsUntoldError(ValueError):
    """A scrape lacks a series of violations that was there before, though nothing was restarted."""


def selectors(signal: Signal) -> dict[str, str]:
    """Return what must be asked for a signal, in this order: use -> selector; empty where Prometheus has nothing.

    Violations come after units: a scrape that the answer for units holds is then known to them, too.
    """
    if signal.histogram:
        name, brace, labels = signal.histogram.partition("{")
        return {_BUCKET: f"{name}_bucket{brace}{labels}"}
    if signal.bad and signal.total:
        return {"total": signal.total, "bad": signal.bad}
    return {"gauge": signal.gauge} if signal.gauge else {}


def arms_of(signal: Signal) -> tuple[Arm | None, ...]:
    """Return whose series a signal must have: both arms', or the stack's (None)."""
    return tuple(Arm) if signal.arm_label else (None,)


def read_frames(signal: Signal, answers: Mapping[str, Sequence[Mapping[str, Any]]], arm: Arm | None) -> ArmSeries:
    """Return one arm's frames from range-vector answers (use -> matrix).

    Faults: two instances for one arm, the same series twice, a use without series, but for violations where there
    are units. The newest scrape may lack one answer's samples, since the queries are made one after the other: it is
    left for the next time.
    """
    result = ArmSeries()
    instances: set[str] = set()
    scrapes: dict[float, dict[Key, float]] = {}
    keys: set[Key] = set()
    twice = False
    owned = {use: [row for row in matrix if _is_of(row["metric"], signal, arm)] for use, matrix in answers.items()}
    result.unviolated = bool(owned.get("total")) and not owned.get("bad")
    for use, mine in owned.items():
        if not mine and not (use == "bad" and result.unviolated):
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
        if "total" in owned:  # what was asked of violations reaches further back
            result.frames = list(dropwhile(lambda frame: all(use != "total" for use, _ in frame.values), result.frames))
        if result.frames and len(result.frames[-1].values) < len(keys):
            result.frames.pop()
    return result


def evidence(signal: Signal, arm: Arm | None, before: Frame | None, now: Frame, *, pace_s: float) -> Evidence | None:
    """Return what happened between two scrapes of one arm; None where nothing can be said yet.

    `pace_s` is the usual time between scrapes: where some were missed, the record's note says so. Raises ValueError
    for what is wrong, naming the series; SeriesAwayError for one that is gone, ViolationsUntoldError where that hides
    violations.
    """
    made = increment(signal, arm, before, now, pace_s=pace_s)
    if made.reading is Reading.UNTOLD:
        raise ViolationsUntoldError(made.reason)
    if made.reading is Reading.GONE:
        raise SeriesAwayError(made.reason)
    if not made.sound:
        raise ValueError(made.reason)
    return made.record


def _is_of(labels: Mapping[str, str], signal: Signal, arm: Arm | None) -> bool:
    return arm is None or labels.get(signal.arm_label) == arm.value


def first_words(faults: Iterable[str], most: int = 3) -> str:
    """Join the first few faults to one line."""
    listed = list(faults)
    more = f" (and {len(listed) - most} more)" if len(listed) > most else ""
    return "; ".join(listed[:most]) + more
