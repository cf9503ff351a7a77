"""What users got, and what that says of moved weights and of a rollback."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from harness.model.evidence import Arm
from harness.ports import Entry


class Got(NamedTuple):
    """One request: wall-clock seconds, the arm that answered ("" for nobody), "" or what failed."""

    sent: float
    ended: float
    arm: str
    failure: str


def read_answers(path: Path) -> list[Got]:
    """Return the whole lines of a file of answers, in order of sending."""
    text = path.read_text(encoding="utf-8")
    return sorted(Got(*json.loads(line)) for line in text[: text.rfind("\n") + 1].splitlines())


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A time in which weights moved, or did not. Wall clock, s; `moves` is 0 where nothing moved."""

    begin: float
    end: float
    moves: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What the users of some blocks got."""

    seconds: float
    moves: int
    requests: int
    failures: Mapping[str, int]
    candidate: int
    p50_ms: float
    p99_ms: float

    @property
    def failed(self) -> int:
        """Requests that got no 2xx answer."""
        return sum(self.failures.values())


def served(blocks: Iterable[Block], answers: Sequence[Got]) -> Served:
    """Count what was sent within `blocks`."""
    told = list(blocks)
    within = [one for one in answers if any(block.begin <= one.sent < block.end for block in told)]
    times = sorted(one.ended - one.sent for one in within if not one.failure)
    return Served(
        seconds=sum(block.end - block.begin for block in told),
        moves=sum(block.moves for block in told),
        requests=len(within),
        failures=Counter(one.failure for one in within if one.failure),
        candidate=sum(one.arm == Arm.CANDIDATE for one in within),
        p50_ms=_quantile_ms(times, 0.5),
        p99_ms=_quantile_ms(times, 0.99),
    )


def _quantile_ms(ordered: Sequence[float], q: float) -> float:
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] * 1e3 if ordered else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """A rollback: seconds from the first bad answer of the candidate to each of the rest; None for what never came.

    `decided` is the journal's intent to go back, `at_zero` its confirmed outcome, `last` the end of the candidate's
    last answer, and `late` how many of its answers were *sent for* after the outcome. `bad` are the failed requests
    from the first bad answer on, `others` those of them that were not the candidate's.
    """

    decided: float | None
    at_zero: float | None
    last: float | None
    late: int
    bad: int
    others: int
    planted_to_breach: float


def returned(answers: Sequence[Got], entries: Sequence[Entry], planted: float, until: float) -> Returned | None:
    """Measure one rollback of the rollout whose journal is `entries`; None where nobody ever got a bad answer.

    Times before `planted` and after `until` (wall clock, s) count for nothing.
    """
    seen = [one for one in answers if planted <= one.sent < until]
    breach = min((one.ended for one in seen if one.failure and one.arm == Arm.CANDIDATE), default=None)
    if breach is None:
        return None
    decided = next((e.at for e in entries if e.kind == "intent" and e.what["to"] == 0 and e.at >= planted), None)
    zero = next((e.at for e in entries if _went(e, planted)), None)
    candidates = [one for one in seen if one.arm == Arm.CANDIDATE]
    bad = [one for one in seen if one.failure and one.ended >= breach]
    return Returned(
        decided=None if decided is None else decided - breach,
        at_zero=None if zero is None else zero - breach,
        last=max(one.ended for one in candidates) - breach,
        late=sum(one.sent > zero for one in candidates) if zero is not None else len(candidates),
        bad=len(bad),
        others=sum(one.arm != Arm.CANDIDATE for one in bad),
        planted_to_breach=breach - planted,
    )


def _went(entry: Entry, planted: float) -> bool:
    return entry.kind == "outcome" and entry.what["to"] == 0 and bool(entry.what["ok"]) and entry.at >= planted
