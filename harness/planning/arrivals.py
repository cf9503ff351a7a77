"""When requests are to be sent, and for whom: an open-loop schedule that depends on its seed alone."""

from collections.abc import Iterable, Iterator
from itertools import islice
from random import Random
from typing import NamedTuple

PROCESSES = ("constant", "poisson")

_MEAN_REQUESTS = 3  # a session sends 1 to 5 requests: short, so that every interval sees fresh sessions
_SLOTS_PER_RATE = 0.5  # sessions alive at a time, per request a second: one sends about every half second


class Arrival(NamedTuple):
    """One request to be sent.

    `at_s` counts from the start of the load, `first` marks the session's first request, `draw` lies
    uniformly in [0, 1) and is the workload's only source of chance for this request.
    """

    number: int
    at_s: float
    session: str
    first: bool
    draw: float


def arrivals(*, process: str, rate: float, seconds: float, seed: int) -> Iterator[Arrival]:
    """Yield the schedule of `rate` requests a second over [0, `seconds`), in order of time.

    The same arguments yield the same schedule on every machine. Raises ValueError for an unknown process,
    a rate that is not positive, or a negative duration.
    """
    if process not in PROCESSES:
        msg = f"arrival process is one of {', '.join(PROCESSES)}, found {process!r}"
        raise ValueError(msg)
    if not rate > 0 or not seconds >= 0:
        msg = f"arrivals need rate > 0 and seconds >= 0, found rate={rate}, seconds={seconds}"
        raise ValueError(msg)
    return _schedule(process, rate, seconds, seed)


def partition(schedule: Iterable[Arrival], worker: int, workers: int) -> Iterator[Arrival]:
    """Return the slice of `schedule` that belongs to `worker` of `workers` (0-based): every n-th arrival."""
    if not 0 <= worker < workers:
        msg = f"worker lies in 0..{workers - 1}, found {worker}"
        raise ValueError(msg)
    return islice(schedule, worker, None, workers)


def _schedule(process: str, rate: float, seconds: float, seed: int) -> Iterator[Arrival]:
    draws = Random(f"{seed}/draws")
    sessions = _sessions(rate, seed)
    for index, at_s in enumerate(_times(process, rate, seed)):
        if at_s >= seconds:
            return
        session, first = next(sessions)
        yield Arrival(index, at_s, session, first, draws.random())


def _times(process: str, rate: float, seed: int) -> Iterator[float]:
    if process == "constant":
        index = 0
        while True:
            yield index / rate
            index += 1
    gaps = Random(f"{seed}/times")
    at_s = gaps.expovariate(rate)
    while True:
        yield at_s
        at_s += gaps.expovariate(rate)


def _sessions(rate: float, seed: int) -> Iterator[tuple[str, bool]]:
    """Yield (key, first) of ever new short sessions, interleaved as those of concurrent users are."""
    chance = Random(f"{seed}/sessions")
    slots: list[tuple[str, int]] = [("", 0)] * max(1, round(rate * _SLOTS_PER_RATE))
    born = 0
    while True:
        slot = chance.randrange(len(slots))
        key, left = slots[slot]
        first = left == 0
        if first:
            key, left = f"s{seed:x}-{born}", chance.randint(1, 2 * _MEAN_REQUESTS - 1)
            born += 1
        slots[slot] = (key, left - 1)
        yield key, first
