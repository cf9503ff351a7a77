"""The report's words: statuses, decisions, numbers and durations as a reader wants them."""

import math
import re
from collections.abc import Sequence
from datetime import datetime

from harness.model.judgement import Judgement, ServiceKind, Verdict
from harness.model.status import Cause, Decision, Status

CATALOG_ID = re.compile(r"^(?:rf|rr|ml|rag|pl)\.[A-Za-z0-9_.]+$")

STATUS_WORDS = {
    Status.PASS: "pass",
    Status.FAIL: "fail",
    Status.INCONCLUSIVE: "inconclusive",
    Status.ERROR: "error",
    Status.NOT_APPLICABLE: "not applicable",
}
DECISION_WORDS = {Decision.PROMOTE: "Promoted", Decision.HOLD: "Held", Decision.ROLLBACK: "Rolled back"}
CAUSE_WORDS = {
    Cause.PROOF: "every critical objective was shown to hold",
    Cause.RELEASE: "because of the release",
    Cause.EVIDENCE: "for want of evidence: this blames nobody",
    Cause.ENVIRONMENT: "because of the machine or the harness: this says nothing about the release",
    Cause.OPERATOR: "by an operator's hand",
}
_WORST_FIRST = (Status.FAIL, Status.ERROR, Status.INCONCLUSIVE, Status.PASS, Status.NOT_APPLICABLE)
_SEVERITIES = ("critical", "warning", "info")
_MINUTE = 60.0


def worst_first(judgements: Sequence[Judgement]) -> list[Judgement]:
    """Return the judgements failing first, and among equals the critical ones first, then by id."""
    return sorted(judgements, key=lambda j: (_WORST_FIRST.index(j.status), _SEVERITIES.index(j.severity), j.id))


def headline(verdict: Verdict) -> str:
    """Return the verdict in one sentence."""
    moved = {
        Decision.PROMOTE: f"{verdict.candidate} was promoted",
        Decision.HOLD: f"{verdict.candidate} is held where it is",
        Decision.ROLLBACK: f"{verdict.candidate} was rolled back: all traffic is on {verdict.baseline}",
    }[verdict.decision]
    joint = ": " if verdict.decision is Decision.PROMOTE and verdict.cause is Cause.PROOF else ", "
    return f"{moved}{joint}{CAUSE_WORDS[verdict.cause]}."


def rehearsal_reasons(verdict: Verdict) -> list[str]:
    """Say why the run was a rehearsal and not the real thing; empty when it was real."""
    reasons: list[str] = []
    stand_ins = [s for s in verdict.services if s.kind is ServiceKind.STAND_IN]
    if stand_ins:
        reasons.append("stand-ins served for " + ", ".join(s.name for s in stand_ins))
    if verdict.time_scale != 1:
        reasons.append(f"every duration was divided by {number(verdict.time_scale)}")
    if verdict.rehearsal and not reasons:
        reasons.append("the run says so")
    return reasons


def counts(statuses: Sequence[Status]) -> list[tuple[Status, int]]:
    """Count statuses, worst first, leaving out those that did not occur."""
    return [(status, statuses.count(status)) for status in _WORST_FIRST if status in statuses]


def number(value: float) -> str:
    """Write a number with about three significant digits, thousands parted, no trailing zeros.

    >>> number(5000.0), number(0.01234), number(-3.14159), number(0)
    ('5,000', '0.0123', '-3.14', '0')
    """
    if not math.isfinite(value):
        return "∞" if value > 0 else "-∞" if value < 0 else "not a number"
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(digits, 8)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def measured(value: float | None, unit: str) -> str:
    """Write a value with its unit, "—" where there is none.

    >>> measured(2.5, "%"), measured(200, "ms"), measured(None, "ms")
    ('2.5 %', '200 ms', '—')
    """
    return "—" if value is None else f"{number(value)} {unit}".strip()


def interval(judgement: Judgement) -> str:
    """Write a judgement's confidence interval, "" where there is none."""
    if judgement.interval is None:
        return ""
    low, high = judgement.interval
    return f"{number(low)} to {number(high)} {judgement.unit}".strip()


def duration(seconds: float) -> str:
    """Write seconds as a person says them.

    >>> duration(0.42), duration(59.6), duration(95), duration(7265)
    ('0.4 s', '60 s', '1 min 35 s', '2 h 1 min')
    """
    if seconds < 10:  # noqa: PLR2004 - below ten seconds a tenth matters
        return f"{max(0.0, seconds):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if seconds < 100:  # noqa: PLR2004 - "95 s" reads worse than "1 min 35 s" only from here on
        return f"{round(seconds)} s" if seconds <= _MINUTE else f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def epoch(instant: str) -> float:
    """Return an RFC 3339 string as seconds since the epoch; 0.0 where it is none."""
    try:
        return datetime.fromisoformat(instant).timestamp()
    except ValueError:
        return 0.0


def took(verdict: Verdict) -> float:
    """Return the run's length in seconds."""
    return max(0.0, epoch(verdict.finished_at) - epoch(verdict.started_at))


def reproduce(verdict: Verdict) -> str:
    """Return the command that makes this run again, as far as the verdict knows it."""
    words = ["rollgate gate", verdict.system]
    for option, value in (
        ("--release", verdict.candidate.partition(" ")[0]),  # "name version"
        ("--baseline", verdict.baseline.partition(" ")[0]),
        ("--provider", verdict.provider),
        ("--plan", verdict.plan),
    ):
        words += [option, value] if value else []
    return " ".join([*words, "--seed", str(verdict.seed)])


def catalog_ids(*ids: str) -> tuple[str, ...]:
    """Return those of `ids` that are ids of the catalog, each once, in order."""
    return tuple(dict.fromkeys(i for i in ids if CATALOG_ID.match(i)))
