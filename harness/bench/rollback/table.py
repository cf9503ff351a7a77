"""The bench's table."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from harness.bench.rollback.answers import Returned, Served
from harness.model.system import Release


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What was measured: `rate` requests a second, blocks of `block_s` seconds; `origin` is the code."""

    system: str
    feature: str
    plan: str
    rate: float
    pairs: int
    block_s: float
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What users got while weights stood still, and while they moved."""

    still: Served
    moving: Served


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack:
    """One live rollout that had to go back. `code` is its command's exit code, `reason` its last words."""

    release: Release
    code: int
    reason: str
    told: Returned | None
    limit: int

    @property
    def sound(self) -> bool:
        """Whether it went back for the release's fault, at once, and the candidate answered nobody afterwards."""
        told = self.told
        return self.code == 1 and self.limit == 0 and told is not None and not (told.others or told.late)


_MOVED_HEAD = [
    "| weights | seconds | moves | requests | by the candidate | failed | p50 ms | p99 ms |",
    "|---|---|---|---|---|---|---|---|",
]
_BACK_HEAD = [
    "| candidate | decision | 0 % | its last answer | asked of it after 0 % | its failures | others' | exit | right |",
    "|---|---|---|---|---|---|---|---|---|",
]


def moved_line(name: str, one: Served) -> str:
    """Return one row of the first table."""
    failed = ", ".join(f"{count} {kind}" for kind, count in one.failures.items()) or "0"
    cells = [name, f"{one.seconds:.0f}", str(one.moves), str(one.requests), str(one.candidate), failed]
    return "| " + " | ".join([*cells, f"{one.p50_ms:.0f}", f"{one.p99_ms:.0f}"]) + " |"


def back_line(one: RolledBack) -> str:
    """Return one row of the second."""
    told = one.told
    seconds = [told.decided, told.at_zero, told.last] if told else [None] * 3
    counts = [str(n) for n in (told.late, told.bad - told.others, told.others)] if told else ["-"] * 3
    cells = [one.release.title, *("-" if s is None else f"{s:.2f} s" for s in seconds), *counts, str(one.code)]
    return "| " + " | ".join([*cells, "yes" if one.sound else "**NO**"]) + " |"


def markdown(asked: Setting, moved: Moved, backs: Sequence[RolledBack]) -> str:
    """Return the whole page."""
    return f"""\
# Moved weights and rollbacks under load: {asked.system}

Made by `rollgate bench rollback --system {asked.system} --rate {asked.rate:g} --pairs {asked.pairs}`,
of {asked.origin}. The real stack on this machine's loopback ({os.cpu_count()} cores),
{asked.rate:g} requests a second through HAProxy: open loop, nothing retried, each answer's own times.

## Moved weights

{asked.pairs} blocks of {asked.block_s:g} s in which weights stand still at 50 % (the peer), by turns with blocks in
which they move every 0.2 s to another of 0, 10, 25, 50, 75 and 100 %.

{_lines(_MOVED_HEAD)}
{moved_line("still", moved.still)}
{moved_line("moving", moved.moving)}

## Rollback of a bad feature

`rollgate rollout --feature {asked.feature} --target-percentage 50 --plan {asked.plan}` raises it by what Prometheus
and probes see of these users; at 50 % the candidate turns bad. Seconds are from its first bad answer to the driver's
decision (the intent in the journal), to the router's confirmed 0 %, and to the end of the candidate's last answer; then
how many of its answers were asked for after the 0 %, and how many requests failed in all.

{_lines(_BACK_HEAD)}
{_lines([back_line(one) for one in backs])}

{_lines([f"- {one.release.name}: {one.reason}" for one in backs])}
"""


def _lines(lines: Sequence[str]) -> str:
    return "\n".join(lines)
