"""The evidence of A/A runs: chunks on disk, each a run's folder, and which of them count."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from harness.adapters.evidence_files import KeptLook, read_evidence, read_looks
from harness.judge.calibrate import Calibrator
from harness.judge.finding import Look
from harness.judge.instrument import Instrument
from harness.model.calibration import MAX_AGE_DAYS
from harness.model.codec import parse_json
from harness.model.errors import SpecError
from harness.model.evidence import Evidence, Source
from harness.model.objective import Against, Measure, Objective
from harness.model.plan import StagePlan

STAGE = "aa"
_META = "conditions.json"
_DAY_S = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What must be the same for two chunks to count as one A/A run; `bounds` are those of the latency's buckets."""

    system: str
    plan: str
    baseline: str
    interval_s: float
    load_rate: float
    look_s: float
    time_scale: float
    machine: str
    bounds: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One stretch of A/A: its evidence in the order in which the judge would have seen it, and the looks."""

    folder: Path
    records: Sequence[Evidence]
    looks: Sequence[KeptLook]

    @property
    def judged(self) -> Sequence[Evidence]:
        """The records in which both arms served side by side."""
        return [record for record in self.records if record.stage == STAGE]

    @property
    def span(self) -> tuple[float, float]:
        """When that began and ended, epoch seconds."""
        ours = self.judged
        return min(record.start_s for record in ours), max(record.end_s for record in ours)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The chunks that count, oldest first, and a line for each that does not."""

    chunks: tuple[Chunk, ...]
    dropped: tuple[str, ...]


def chunk_folders(folder: Path) -> list[Path]:
    """Return the folders of all chunks, oldest first."""
    return sorted(path for path in folder.glob("chunk-*") if path.is_dir())


def begin_chunk(folder: Path, conditions: Conditions) -> Path:
    """Create the next chunk's folder and keep its conditions there."""
    numbers = [int(path.name.partition("-")[2]) for path in chunk_folders(folder) if path.name[6:].isdigit()]
    new = folder / f"chunk-{max(numbers, default=0) + 1:04d}"
    (new / "logs").mkdir(parents=True)
    (new / _META).write_text(json.dumps(asdict(conditions), indent=2) + "\n", encoding="utf-8")
    return new


def read_chunks(folder: Path, conditions: Conditions, now: float) -> Kept:
    """Read every chunk under `folder`; `now` in epoch seconds."""
    chunks: list[Chunk] = []
    dropped: list[str] = []
    for path in chunk_folders(folder):
        why, chunk = _read(path, conditions, now)
        if chunk is not None:
            chunks.append(chunk)
        else:
            dropped.append(f"{path.name}: {why}")
    return Kept(chunks=tuple(chunks), dropped=tuple(dropped))


def _read(path: Path, conditions: Conditions, now: float) -> tuple[str, Chunk | None]:
    other = _differs(path, conditions)
    if other:
        return other, None
    try:
        records, looks = _records(path), read_looks(path)
    except SpecError as error:
        return str(error), None
    chunk = Chunk(folder=path, records=records, looks=[look for look in looks if look.after <= len(records)])
    if not chunk.judged or not chunk.looks:
        return _cause(path) or "both arms never served", None
    age = (now - chunk.span[1]) / _DAY_S
    if age > MAX_AGE_DAYS:
        return f"{age:.0f} days old, good for {MAX_AGE_DAYS:.0f}", None
    fault = load_fault(chunk)
    return (f"the load was not sound: {fault}", None) if fault else ("", chunk)


def _records(path: Path) -> list[Evidence]:
    """Return a chunk's records; of one that was killed, those before the torn line."""
    found: list[Evidence] = []
    try:
        for record in read_evidence(path):
            found.append(record)  # noqa: PERF402 - what came before an error is kept
    except SpecError:
        if (path / "verdict.json").exists():
            raise
    return found


def _differs(path: Path, conditions: Conditions) -> str:
    """Return in what a chunk's conditions differ; "" where they are the same."""
    try:
        there = cast("dict[str, Any]", parse_json((path / _META).read_text(encoding="utf-8")))
        there.setdefault("bounds", conditions.bounds)  # not kept at first
        found = [(name, there[name], value) for name, value in asdict(conditions).items() if there[name] != value]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"its {_META} cannot be read"
    return "; ".join(f"{name} was {old}, is {new}" for name, old, new in found)


def _cause(path: Path) -> str:
    """Return why a chunk ended before both arms served, as its verdict says."""
    try:
        verdict = cast("dict[str, Any]", parse_json((path / "verdict.json").read_text(encoding="utf-8")))
        return str(verdict["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def load_fault(chunk: Chunk) -> str:
    """Return what was wrong with the load; "" where it was sound all along.

    The rule is the judge's own: what a gate would call an error in what clients measured is no calibration.
    """
    load = Instrument("the load generator", 10**9, strict_end=True)
    for record in chunk.records:
        if record.signal == "load" and record.source is not Source.CLIENT:
            load.observe(record)
    last = chunk.looks[-1]
    if load.faulty(Look(at=last.at, stage=last.stage, final=last.final)):
        return load.note
    return "" if load.reports else "it never reported"


def compared(objectives: Sequence[Objective]) -> tuple[Objective, ...]:
    """Return the objectives as an A/A run judges them: all of them, in its one stage too."""
    return tuple(replace(objective, stages=()) for objective in objectives)


def measured(objectives: Sequence[Objective], plan: StagePlan, chunks: Sequence[Sequence[Evidence]]) -> Calibrator:
    """Return what the chunks' records show of the arms' noise."""
    calibrator = Calibrator(compared(objectives), plan)
    for records in chunks:
        calibrator.observe(records)
        calibrator.gap()
    return calibrator


def comparisons(objectives: Sequence[Objective]) -> int:
    """Return how many objectives are compared with the baseline in a way that noise can fool."""
    noisy = {Measure.RATIO, Measure.QUANTILE}
    return sum(o.against is Against.BASELINE and o.measure in noisy for o in objectives)
