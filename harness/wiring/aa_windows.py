"""How often would the judge have rolled back an equal release? A/A evidence, cut into rollouts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from harness.judge import Judge
from harness.model.calibration import Calibration
from harness.model.evidence import Evidence
from harness.model.objective import Objective
from harness.model.plan import StagePlan
from harness.planning.rollout import failed
from harness.wiring.aa_evidence import STAGE, Chunk, compared, measured

_SLACK_S = 2.0  # evidence older than a warm-up by this still feeds it: records come in whole intervals


@dataclass(frozen=True, slots=True)
class Window:
    """One made-up rollout: `[start_s, end_s)` of a chunk."""

    chunk: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarms:
    """How many windows were judged, and what failed in those that failed."""

    windows: int
    false: int
    failing: tuple[str, ...] = ()


def shortest_s(plan: StagePlan) -> float:
    """Return the shortest rollout of a plan, s: every stage left as soon as it may be."""
    return max(plan.interval_s, sum(stage.min_bake_s for stage in plan.stages))


def windows_of(chunks: Sequence[Chunk], length_s: float) -> list[Window]:
    """Cut the chunks into windows of `length_s`, side by side; what is left at a chunk's end is not used."""
    found: list[Window] = []
    for number, chunk in enumerate(chunks):
        start, end = chunk.span
        count = int((end - start + 1e-6) // length_s)
        found += [Window(number, start + k * length_s, start + (k + 1) * length_s) for k in range(count)]
    return found


def false_alarms(
    objectives: Sequence[Objective],
    plan: StagePlan,
    chunks: Sequence[Chunk],
    draft: Calibration,
) -> Alarms:
    """Judge every window by `plan`, calibrated by the other half of the evidence.

    `draft` is the calibration but for its dispersions and alarms. Fewer than two windows have no other half:
    none is judged then.
    """
    windows = windows_of(chunks, shortest_s(plan))
    middle = len(windows) // 2
    if not middle:
        return Alarms(windows=0, false=0)
    early, late = _halves(chunks, windows[middle])
    known = [
        replace(draft, dispersions=measured(objectives, plan, half).dispersions(), windows=0, false_alarms=0)
        for half in (late, early)
    ]
    failing: list[str] = []
    for number, window in enumerate(windows):
        found = _failing(objectives, plan, chunks[window.chunk], window, known[number >= middle])
        if found:
            failing.append(found)
    return Alarms(windows=len(windows), false=len(failing), failing=tuple(failing))


def _halves(chunks: Sequence[Chunk], middle: Window) -> tuple[list[list[Evidence]], list[list[Evidence]]]:
    """Return the evidence before and from `middle` on, chunk by chunk; the warm-up of a chunk goes to both."""
    early: list[list[Evidence]] = [list(chunk.records) for chunk in chunks[: middle.chunk]]
    late: list[list[Evidence]] = [list(chunk.records) for chunk in chunks[middle.chunk + 1 :]]
    cut = chunks[middle.chunk].records
    before = [r for r in cut if r.start_s < middle.start_s or r.stage != STAGE]
    after = [r for r in cut if r.start_s >= middle.start_s or r.stage != STAGE]
    if any(r.stage == STAGE for r in before):
        early.append(before)
    return early, [after, *late]


def _failing(
    objectives: Sequence[Objective], plan: StagePlan, chunk: Chunk, window: Window, calibration: Calibration
) -> str:
    """Return the guardrails that fail at any look of the window, "" for none."""
    judge = Judge(compared(objectives), plan, calibration)
    judge.observe(_warm_up(chunk, window, plan))
    for at, batch in _batches(chunk, window):
        judge.observe(batch)
        bad = failed(judge.look(at=at, stage=STAGE, final=False))
        if bad:
            return "; ".join(f"{one.id}: {one.reason}" for one in bad)
    return ""


def _warm_up(chunk: Chunk, window: Window, plan: StagePlan) -> list[Evidence]:
    """Return what went before the window, as its warm-up."""
    begin = window.start_s - plan.warmup_s - plan.settle_s - _SLACK_S
    return [
        replace(record, stage="warmup")
        for record in chunk.records
        if begin <= record.start_s and record.end_s <= window.start_s + 1e-6
    ]


def _batches(chunk: Chunk, window: Window) -> Iterator[tuple[float, list[Evidence]]]:
    """Yield each look within the window, with the window's records that had come by then."""
    done = 0
    for look in chunk.looks:
        batch = [r for r in chunk.records[done : look.after] if window.start_s - 1e-6 <= r.start_s < window.end_s]
        done = look.after
        if window.start_s < look.at <= window.end_s:
            yield look.at, batch
