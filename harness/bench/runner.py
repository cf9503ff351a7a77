"""Runs the bench chunk by chunk, on several processes; what is stored already is not run again."""

import hashlib
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from harness.bench.cells import Cell, Kind, Tier
from harness.bench.measure import Part, measure
from harness.bench.pool import side_by_side
from harness.bench.sources import digest
from harness.bench.tally import Tally

_OPPONENTS_RUNS = 2_000  # the full tier measures the other tools on no more
_ROLLOUTS = ("harness.bench.streams", "harness.bench.subject", "harness.bench.oracle")
_RESTS_ON = {
    Kind.SPEED: ("harness.bench.speed", "harness.bench.telemetry"),
    Kind.TELEMETRY: ("harness.bench.telemetry",),
    Kind.ROUTER: ("harness.bench.measure", "harness.judge.assignment"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One piece of work, and the file that holds its result."""

    cell: Cell
    part: Part
    index: int
    path: Path
    stamp: str

    def stored(self) -> "Result | None":
        """Return the stored result; None where there is none, it is broken, or older code made it."""
        try:
            raw = cast("dict[str, Any]", json.loads(self.path.read_text(encoding="utf-8")))
            if raw["stamp"] != self.stamp:
                return None
            tallies = {
                str(rule): Tally(int(runs), Counter({int(time): int(count) for time, count in counts}))
                for rule, (runs, counts) in raw["tallies"].items()
            }
            return Result(self.cell, tallies, {str(name): float(value) for name, value in raw["values"].items()})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def store(self, done: "Result") -> None:
        """Write the result, whole or not at all."""
        tallies = {rule: (tally.runs, sorted(tally.counts.items())) for rule, tally in done.tallies.items()}
        text = json.dumps({"stamp": self.stamp, "tallies": tallies, "values": done.values}, separators=(",", ":"))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        half = self.path.with_suffix(".part")
        half.write_text(text, encoding="utf-8")
        half.replace(self.path)

    def run(self) -> "Result":
        """Measure it, from a seed of its cell's name and its index alone."""
        entropy = zlib.crc32(self.cell.name.encode())
        seed = np.random.SeedSequence(entropy, spawn_key=(self.index,))
        measured = measure(self.cell, self.part, seed, self.cell.chunk)
        return Result(self.cell, {rule: Tally.of(times) for rule, times in measured.times.items()}, measured.values)


@dataclass(slots=True)
class Result:
    """All that was measured of a cell: a tally for each rule, and plain values."""

    cell: Cell
    tallies: dict[str, Tally] = field(default_factory=dict[str, Tally])
    values: dict[str, float] = field(default_factory=dict[str, float])

    def add(self, done: "Result") -> None:
        """Take a chunk in."""
        for rule, tally in done.tallies.items():
            self.tallies.setdefault(rule, Tally()).add(tally)
        self.values |= done.values


def chunks(cells: Sequence[Cell], tier: Tier, out: Path, *, runs: int | None = None) -> list[Chunk]:
    """Return the work: every cell of the tier, or `runs` rollouts of every cell, in whole chunks.

    First chunks come first, so that a bench cut short has seen a little of everything.
    """
    work: list[Chunk] = []
    for cell in cells:
        wanted = cell.runs_of(tier) if runs is None else min(runs, max(cell.runs))
        count = -(-wanted // cell.chunk)
        work += [_chunk(cell, Part.JUDGE, index, out) for index in range(count)]
        if cell.opponents and tier is Tier.FULL:
            others = min(count, -(-_OPPONENTS_RUNS // cell.chunk))
            work += [_chunk(cell, Part.OPPONENTS, index, out) for index in range(others)]
    return sorted(work, key=lambda chunk: chunk.index)


def _chunk(cell: Cell, part: Part, index: int, out: Path) -> Chunk:
    modules = ("harness.bench.opponents",) if part is Part.OPPONENTS else _RESTS_ON.get(cell.kind, _ROLLOUTS)
    asked = repr(replace(cell, title="", question="", runs=(0, 0, 0), bars=()))
    stamp = hashlib.sha256(f"{digest(modules)} {asked} {index}".encode()).hexdigest()[:16]
    return Chunk(cell=cell, part=part, index=index, path=out / cell.name / f"{part}-{index:03d}.json", stamp=stamp)


def run(work: Sequence[Chunk], *, jobs: int, console: Console) -> dict[str, Result]:
    """Do what is not stored yet; return the results by cell. An interrupt keeps what is done."""
    results: dict[str, Result] = {chunk.cell.name: Result(chunk.cell) for chunk in work}
    missing: list[Chunk] = []
    for chunk in work:
        if (done := chunk.stored()) is None:
            missing.append(chunk)
        else:
            results[chunk.cell.name].add(done)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task("bench judge", total=len(work), completed=len(work) - len(missing))
        for chunk, done in _done(missing, jobs):
            chunk.store(done)
            results[chunk.cell.name].add(done)
            progress.update(task, advance=1, description=f"{chunk.cell.name:24.24}")
    return results


def _done(missing: Sequence[Chunk], jobs: int) -> Iterator[tuple[Chunk, Result]]:
    if jobs <= 1 or len(missing) <= 1:
        yield from ((chunk, chunk.run()) for chunk in missing)
        return
    # Speed is measured by itself: other processes would slow it.
    alone = [chunk for chunk in missing if chunk.cell.kind is Kind.SPEED]
    yield from ((chunk, chunk.run()) for chunk in alone)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rest = [chunk for chunk in missing if chunk.cell.kind is not Kind.SPEED]
    yield from side_by_side(rest, Chunk.run, jobs)
