"""What another policy would have made of a stored run, as text and as JSON."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from harness.planning.replay import Course, Moment
from harness.wiring import Replayed


def as_document(found: Replayed, policy: str) -> dict[str, Any]:
    """Return plain JSON values; times are seconds since the rollout's start."""
    outcome = found.outcome
    return {
        "policy": policy,
        "recorded": {
            "decision": found.decision,
            "cause": found.cause,
            "reason": found.reason,
            "at_s": found.recorded_s,
        },
        "replayed": {
            "decision": outcome.decision,
            "cause": outcome.cause,
            "reason": outcome.reason,
            "moment": asdict(outcome.moment) if outcome.moment else None,
            "notes": list(outcome.notes),
        },
        "claims": list(found.claims),
        "guardrails": [asdict(course) for course in found.courses],
        "judgements": [asdict(judgement) for judgement in found.judgements],
    }


def as_lines(found: Replayed, policy: str) -> Iterator[str]:
    """Yield what a person reads."""
    took = "before any stage" if found.recorded_s is None else f"{found.recorded_s:.1f} s after the rollout's start"
    yield f"recorded:  {found.decision}, cause {found.cause}, {took}: {found.reason}"
    outcome = found.outcome
    if outcome.decision is None or outcome.cause is None or outcome.moment is None:
        yield f"{policy}: no decision: {outcome.reason}"
    else:
        word = f"{outcome.decision}, cause {outcome.cause}, {_moment(outcome.moment)}"
        yield f"{policy}: {word}{_sooner(found, outcome.moment)}: {outcome.reason}"
    for note in outcome.notes:
        yield f"  note: {note}"
    for claim in found.claims:
        yield f"  judged so: {claim}"
    yield ""
    for course in found.courses:
        yield from _course(course)


def _course(course: Course) -> Iterator[str]:
    told = [
        f"{word} {_moment(moment)}"
        for word, moment in (("failed", course.failed), ("passed", course.passed))
        if moment is not None
    ]
    yield f"{course.last:<14} {course.id:<28} {course.source:<11} {'; '.join(told) or 'neither failed nor passed'}"


def _moment(moment: Moment) -> str:
    return f"at {moment.at_s:.1f} s, stage {moment.stage}, {moment.requests} requests of the candidate"


def _sooner(found: Replayed, moment: Moment) -> str:
    if found.recorded_s is None:
        return ""
    gain = found.recorded_s - moment.at_s
    if abs(gain) < 1.0:
        return ""
    return f" ({abs(gain):.1f} s {'sooner' if gain > 0 else 'later'} than recorded)"
