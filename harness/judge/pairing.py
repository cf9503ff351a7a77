"""Two arms' records of one signal, brought together interval by interval."""

from bisect import insort
from dataclasses import replace

from harness.model.evidence import Arm, Evidence, Kind

_WAITING = 64  # records of one arm kept while their partners are awaited


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
    holds two stages. An interval is handed on when the next one begins, so the newest evidence may wait for up to
    `length_s`.
    """

    def __init__(self, length_s: float) -> None:
        """Start with nothing waiting."""
        self._length_s = length_s
        self._pairs = Pairing()
        self._key: tuple[str, str, int] | None = None
        self._open: list[tuple[Evidence, Evidence]] = []

    def add(self, record: Evidence) -> list[tuple[Evidence | None, Evidence | None]]:
        """Take a record; return what is complete: judging intervals of both arms, and records left alone."""
        ready: list[tuple[Evidence | None, Evidence | None]] = []
        for baseline, candidate in self._pairs.add(record):
            if baseline is None or candidate is None or _length(baseline) >= 0.99 * self._length_s:
                ready.append((baseline, candidate))
                continue
            key = (baseline.stage, candidate.stage, int(candidate.start_s // self._length_s))
            if self._open and key != self._key:
                ready.append(self._close())
            self._key = key
            self._open.append((baseline, candidate))
        return ready

    def flush(self) -> list[tuple[Evidence | None, Evidence | None]]:
        """Return the judging interval that is still open, if any: no more will come."""
        return [self._close()] if self._open else []

    def _close(self) -> tuple[Evidence, Evidence]:
        closed, self._open = self._open, []
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
        bad=sum(record.bad for record in records) if first.kind is not Kind.HISTOGRAM else first.bad,
        counts=counts,
    )


def _length(record: Evidence) -> float:
    return record.end_s - record.start_s


def _reach(one: Evidence, other: Evidence) -> float:
    return 0.6 * max(one.end_s - one.start_s, other.end_s - other.start_s, 0.01)


def _ordered(arm: Arm, mine: Evidence, other: Evidence | None) -> tuple[Evidence | None, Evidence | None]:
    return (mine, other) if arm is Arm.BASELINE else (other, mine)


def _start(record: Evidence) -> float:
    return record.start_s
