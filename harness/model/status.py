"""Judgement statuses, the decision on the traffic, its cause, and the exit code they end in."""

from collections.abc import Iterable
from enum import IntEnum, StrEnum


class Status(StrEnum):
    """What one check found. `fail` is the release's, `error` is ours or the machine's."""

    PASS = "pass"  # noqa: S105 - a status, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"
    NOT_APPLICABLE = "not_applicable"


class Decision(StrEnum):
    """What happened to the traffic."""

    PROMOTE = "promote"
    HOLD = "hold"
    ROLLBACK = "rollback"


class Cause(StrEnum):
    """Why the decision fell."""

    PROOF = "proof"
    RELEASE = "release"
    EVIDENCE = "evidence"
    ENVIRONMENT = "environment"
    OPERATOR = "operator"


class ExitCode(IntEnum):
    """Exit codes of gate, rollout, judge and pipeline."""

    PROMOTED = 0
    RELEASE = 1
    USAGE = 2
    NO_EVIDENCE = 3
    ENVIRONMENT = 4
    INTERRUPTED = 130


_WORST_FIRST = (Status.FAIL, Status.ERROR, Status.INCONCLUSIVE, Status.PASS)


def merge(statuses: Iterable[Status]) -> Status:
    """Return the worst of `statuses`: fail > error > inconclusive > pass.

    `not_applicable` is ignored; nothing left, or nothing given, is `error`: no data never passes.
    """
    seen = set(statuses)
    return next((status for status in _WORST_FIRST if status in seen), Status.ERROR)


def exit_code(decision: Decision, cause: Cause) -> ExitCode:
    """Return the exit code of a finished run."""
    if decision is Decision.PROMOTE:
        return ExitCode.PROMOTED
    if cause is Cause.RELEASE:
        return ExitCode.RELEASE
    if cause is Cause.ENVIRONMENT:
        return ExitCode.ENVIRONMENT
    return ExitCode.NO_EVIDENCE
