"""Runs worlds chunk by chunk, on several processes; what is stored already is not run again."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from harness.bench.driver.world import World
from harness.bench.pool import side_by_side
from harness.bench.sources import digest

CHUNK = 1_000
_RESTS_ON = ("harness.bench.driver.world",)
_KEPT = 20  # broken seeds that are named


@dataclass(slots=True)
class Result:
    """What many worlds came to. `worlds` counts the worlds that each fault struck, `broken` is (seed, rule, text)."""

    runs: int = 0
    lives: int = 0
    ends: Counter[str] = field(default_factory=Counter[str])
    hits: Counter[str] = field(default_factory=Counter[str])
    worlds: Counter[str] = field(default_factory=Counter[str])
    checks: Counter[str] = field(default_factory=Counter[str])
    failures: int = 0
    broken: list[tuple[int, str, str]] = field(default_factory=list[tuple[int, str, str]])

    def add(self, other: "Result") -> None:
        """Take another result in."""
        self.runs += other.runs
        self.lives += other.lives
        self.failures += other.failures
        for mine, theirs in (
            (self.ends, other.ends), (self.hits, other.hits), (self.worlds, other.worlds), (self.checks, other.checks)
        ):  # fmt: skip
            mine.update(theirs)
        self.broken = sorted([*self.broken, *other.broken])[:_KEPT]

    def write(self) -> dict[str, object]:
        """Return it as JSON would have it."""
        counters = {"ends": self.ends, "hits": self.hits, "worlds": self.worlds, "checks": self.checks}
        whole: dict[str, object] = {name: dict(sorted(counter.items())) for name, counter in counters.items()}
        return {"runs": self.runs, "lives": self.lives, "failures": self.failures, **whole, "broken": self.broken}

    @classmethod
    def read(cls, raw: dict[str, Any]) -> "Result":
        """Return what `write` gave; KeyError or TypeError for anything else."""
        counters = {name: Counter(cast("dict[str, int]", raw[name])) for name in ("ends", "hits", "worlds", "checks")}
        broken = [(int(seed), str(rule), str(text)) for seed, rule, text in raw["broken"]]
        return cls(
            runs=int(raw["runs"]), lives=int(raw["lives"]), failures=int(raw["failures"]), broken=broken, **counters
        )  # fmt: skip


def worlds(first: int, count: int) -> Result:
    """Run the worlds of `count` seeds from `first` on."""
    log = logging.getLogger("rollgate")
    level, whole = log.level, Result()
    log.setLevel(logging.CRITICAL)  # what the driver would log is held to the rules here
    try:
        _run(whole, first, count)
    finally:
        log.setLevel(level)
    whole.broken = whole.broken[:_KEPT]
    return whole


def _run(whole: Result, first: int, count: int) -> None:
    for seed in range(first, first + count):
        told = World(seed).run()
        whole.runs += 1
        whole.lives += told.lives
        whole.ends[told.end] += 1
        whole.hits.update(told.hits)
        whole.worlds.update(told.hits.keys())
        whole.checks.update({str(rule): n for rule, n in told.checks.items()})
        if told.broken:
            whole.failures += 1
            rule, text = told.broken[0]
            whole.broken.append((seed, str(rule), text))


@dataclass(frozen=True, slots=True)
class Chunk:
    """The worlds of `count` seeds from `first` on, and the file of their result."""

    first: int
    count: int
    path: Path
    stamp: str

    def stored(self) -> Result | None:
        """Return the stored result; None where there is none, it is broken, or other code made it."""
        try:
            raw = cast("dict[str, Any]", json.loads(self.path.read_text(encoding="utf-8")))
            return Result.read(raw["result"]) if raw["stamp"] == self.stamp else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def store(self, done: Result) -> None:
        """Write the result, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        half = self.path.with_suffix(".part")
        half.write_text(json.dumps({"stamp": self.stamp, "result": done.write()}), encoding="utf-8")
        half.replace(self.path)

    def run(self) -> Result:
        """Run the worlds."""
        return worlds(self.first, self.count)


def chunks(rollouts: int, out: Path) -> list[Chunk]:
    """Return the work for seeds 0 to `rollouts` - 1."""
    code = digest(_RESTS_ON)
    sizes = [(first, min(CHUNK, rollouts - first)) for first in range(0, rollouts, CHUNK)]
    return [Chunk(first, count, out / f"{first:08d}.json", f"{code}-{count}") for first, count in sizes]


def run(work: Sequence[Chunk], *, jobs: int, console: Console) -> Result:
    """Do what is not stored yet, and return the whole. An interrupt keeps what is done."""
    whole, missing = Result(), list[Chunk]()
    for chunk in work:
        if (done := chunk.stored()) is None:
            missing.append(chunk)
        else:
            whole.add(done)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task("bench driver", total=len(work), completed=len(work) - len(missing))
        for chunk, done in side_by_side(missing, Chunk.run, min(jobs, len(missing))):
            chunk.store(done)
            whole.add(done)
            progress.update(task, advance=1)
    return whole
