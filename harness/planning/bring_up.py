"""How a stack is brought up for people, step by step, and how long its health is waited for: no step is taken here."""

from collections.abc import Mapping
from dataclasses import dataclass

from harness.model.preflight import Poll

STEPS = (  # (name, what it says when it begins); rf.pre.steps, in this order
    ("logs", "making the log directories"),
    ("composition", "validating the composition"),
    ("settings", "loading the environment"),
    ("start", "starting the services"),
    ("health", "waiting until every service is well"),
    ("summary", "where it answers"),
    ("next", "what to do next"),
)
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What follows from one answer: all is well, or another time in `wait_s`, or given up (`wait_s` is None)."""

    well: bool
    wait_s: float | None
    text: str


def after(poll: Poll, attempt: int, unwell: Mapping[str, str]) -> Asked:
    """Return what follows from attempt number `attempt` (from 1); `unwell` says why, by service; empty: all are well.

    Nothing is waited for after the last attempt.
    """
    count = f"attempt {attempt} of {poll.attempts}"
    if not unwell:
        return Asked(well=True, wait_s=None, text=f"{count}: every service is well")
    names = sorted(unwell)
    said = "; ".join(f"{name}: {unwell[name]}" for name in names[:_SHOWN])
    more = f"; and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    last = attempt >= poll.attempts
    return Asked(well=False, wait_s=None if last else poll.interval_s, text=f"{count}: {said}{more}")
