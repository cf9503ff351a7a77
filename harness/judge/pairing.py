"""Two arms' records of one signal, brought together interval by interval."""

import math
from bisect import insort
from dataclasses import replace

from harness.model.evidence import Arm, Evidence

_WAITING = 64  # records of one arm kept while their partners are awaited
_LATEST_S = 300.0  # behind the newest; no request waits so long for its answer, and nothing later is waited for
_FORGETTING = 0.9  # of the lateness seen, from interval to interval

_Key = tuple[int, str, str]  # an interval's number, and both arms' stages


class Pairing:
    """Pairs the arms' records whose intervals start together, within 0.6 of an interval.

    Prometheus scrapes two targets at a fixed offset, so the nearest starts belong together. Records may come
    late (an interval with a slow request closes after younger ones). What waits too long for a partner is
    handed back alone: in a short interval an arm with little traffic may have served nothing.
    """

    def __init__(self) -> None:
        """Start with nothing waiting."""
        self._waiting: dict[Arm, list[Evidence]] = {arm: [] for arm in Arm}

    def add(self, record: Evidence) -> list[tuple[Evidence | None, Evidence | None]]:
        """Take a record; return the (baseline, candidate) pairs that are now complete, None for no partner.

        Raises ValueError for a record without an arm.
        """
        if record.arm is None:
            msg = f"{record.signal}: a comparison with the baseline needs the arm of every record"
            raise ValueError(msg)
        mine = record.arm
        others = self._waiting[Arm.BASELINE if mine is Arm.CANDIDATE else Arm.CANDIDATE]
        partner = min(others, key=lambda other: abs(other.start_s - record.start_s), default=None)
        if partner is not None and abs(partner.start_s - record.start_s) <= _reach(partner, record):
            others.remove(partner)
            return [_ordered(mine, record, partner)]
        insort(self._waiting[mine], record, key=_start)
        if len(self._waiting[mine]) > _WAITING:
            return [_ordered(mine, self._waiting[mine].pop(0), None)]
        return []


class Intervals:
    """Pairs brought together into judging intervals of `length_s`, counted from the epoch.

    Records as long as that, or longer, stay as they are. An interval ends early where the stage changes: no record
    holds two stages. Slow answers make records come late, after younger ones; so an interval is handed on whole, in
    order, once a pair came that begins later than its end by as much as pairs have been late of late: at once where
    they come in order. What comes later still joins the oldest open interval of its stage, both arms' parts together:
    a piece of its own would count as an interval of a second or two, and noise is measured by intervals. It is handed
    on alone where no interval of its stage is open, or where it is so late that a clock must be wrong.
    """

    def __init__(self, length_s: float) -> None:
        """Start with nothing waiting."""
        self._length_s = length_s
        self._pairs = Pairing()
        self._open: dict[_Key, list[tuple[Evidence, Evidence]]] = {}  # in order of time
        self._newest = self._closed = -math.inf  # the latest start of a pair; where what was handed on ends
        self._late_s = 0.0

    def add(self, record: Evidence) -> list[tuple[Evidence | None, Evidence | None]]:
        """Take a record; return what is complete: judging intervals of both arms, and records left alone."""
        ready: list[tuple[Evidence | None, Evidence | None]] = []
        for baseline, candidate in self._pairs.add(record):
            if baseline is None or candidate is None or _length(baseline) >= 0.99 * self._length_s:
                ready.append((baseline, candidate))
            else:
                ready += self._take(baseline, candidate)
        return ready

    def flush(self) -> list[tuple[Evidence | None, Evidence | None]]:
        """Return the judging intervals that are still open, in order: no more will come, or not of this time."""
        self._newest = self._closed = -math.inf
        return [self._close(key) for key in tuple(self._open)]

    def _take(self, baseline: Evidence, candidate: Evidence) -> list[tuple[Evidence, Evidence]]:
        late = self._newest - candidate.start_s
        if late > _LATEST_S:
            return [(baseline, candidate)]
        self._late_s = max(self._late_s, late)
        key = (int(candidate.start_s // self._length_s), baseline.stage, candidate.stage)
        if key not in self._open and candidate.start_s < self._closed:
            same = [other for other in self._open if other[1:] == key[1:]]
            if not same:
                return [(baseline, candidate)]
            key = same[0]
        pairs = self._open.setdefault(key, [])
        insort(pairs, (baseline, candidate), key=_began)
        if len(pairs) == 1:
            self._open = dict(sorted(self._open.items(), key=lambda item: _began(item[1][0])))
        self._newest = max(self._newest, candidate.start_s)
        return self._due()

    def _due(self) -> list[tuple[Evidence, Evidence]]:
        """Hand on what no more is expected of."""
        due: list[tuple[Evidence, Evidence]] = []
        keys = list(self._open)
        for key, after in zip(keys, [*keys[1:], None], strict=True):
            end = (key[0] + 1) * self._length_s
            if after is not None:  # sooner where another stage begins
                end = min(end, _began(self._open[after][0]))
            if self._newest < end + self._late_s:
                break
            self._closed = max(self._closed, end)
            self._late_s *= _FORGETTING if self._late_s > 0.01 * self._length_s else 0.0
            due.append(self._close(key))
        return due

    def _close(self, key: _Key) -> tuple[Evidence, Evidence]:
        closed = self._open.pop(key)
        return _merged([baseline for baseline, _ in closed]), _merged([candidate for _, candidate in closed])


def _merged(records: list[Evidence]) -> Evidence:
    """Return one record of all; ValueError when histograms' bounds differ."""
    first = records[0]
    if any(record.bounds != first.bounds for record in records):
        msg = f"{first.signal}: the bucket bounds changed during the run"
        raise ValueError(msg)
    counts = tuple(sum(column) for column in zip(*(record.counts for record in records), strict=True))
    return replace(
        first,
        end_s=max(record.end_s for record in records),
        n=sum(record.n for record in records),
        bad=sum(record.bad for record in records),
        counts=counts,
    )


def _length(record: Evidence) -> float:
    return record.end_s - record.start_s


def _reach(one: Evidence, other: Evidence) -> float:
    return 0.6 * max(one.end_s - one.start_s, other.end_s - other.start_s, 0.01)


def _ordered(arm: Arm, mine: Evidence, other: Evidence | None) -> tuple[Evidence | None, Evidence | None]:
    return (mine, other) if arm is Arm.BASELINE else (other, mine)


def _began(pair: tuple[Evidence, Evidence]) -> float:
    return pair[1].start_s


def _start(record: Evidence) -> float:
    return record.start_s
