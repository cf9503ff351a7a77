"""Two arms' records of one signal, brought together interval by interval."""

from bisect import insort

from harness.model.evidence import Arm, Evidence

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


def _reach(one: Evidence, other: Evidence) -> float:
    return 0.6 * max(one.end_s - one.start_s, other.end_s - other.start_s, 0.01)


def _ordered(arm: Arm, mine: Evidence, other: Evidence | None) -> tuple[Evidence | None, Evidence | None]:
    return (mine, other) if arm is Arm.BASELINE else (other, mine)


def _start(record: Evidence) -> float:
    return record.start_s
