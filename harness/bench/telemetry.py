"""Corrupt telemetry: fuzzed record streams through the live judge, none of which may end in a promotion.

Half of the candidates are good, and one series that must speak for them is void throughout; the others are bad
(or turn bad when a series falls silent) in the one signal that is corrupted wherever it is measured.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from harness.bench.streams import Array
from harness.judge import Judge, overall
from harness.model.evidence import Arm, Evidence, Kind, Source, Unit
from harness.model.objective import Against, Measure, Objective
from harness.model.plan import Stage, StagePlan
from harness.model.status import Status

SECONDS, RATE = 40, 500  # of a stream; requests a second and arm
_NOTICED = 20  # seconds after which silence must be noticed
_ERRORS, _WRONG, _LATENCY = "query.error", "query.wrong", "query.latency"
_BOTH = (Source.CLIENT, Source.PROMETHEUS)
_MEASURED = {_ERRORS: _BOTH, _WRONG: (Source.CLIENT,), _LATENCY: _BOTH}
_BOUNDS = tuple(0.005 * 1.15**step for step in range(30))
_STEPS_SLOWER = 6  # buckets up: 2.3 times as long
_BEGAN = 1_000_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One fuzzed rollout: what the candidate does from second `since` on, and what is corrupted how."""

    bad: str  # "", or the signal in which the candidate is bad
    since: int
    corruption: str
    targets: frozenset[tuple[Source, str]]
    share: float  # of the target's records that are corrupted
    arm: Arm


def promoted(seed: np.random.SeedSequence, runs: int) -> list[Story]:
    """Return the stories, of `runs`, that the live judge would promote."""
    rng = np.random.default_rng(seed)
    stories = [tell(rng) for _ in range(runs)]
    return [story for story in stories if decide(story, rng) is Status.PASS]


def tell(rng: np.random.Generator) -> Story:
    """Draw a story."""
    signal = str(rng.choice(list(_MEASURED)))
    corruption = str(rng.choice(sorted(CORRUPTIONS)))
    if rng.random() < 0.5:  # noqa: PLR2004 - even odds
        source = _MEASURED[signal][int(rng.integers(len(_MEASURED[signal])))]
        return Story(
            bad="",
            since=0,
            corruption=corruption,
            targets=frozenset({(source, signal)}),
            share=1.0,
            arm=list(Arm)[int(rng.integers(2))],
        )
    silent = corruption in _SILENT
    return Story(
        bad=signal,
        since=int(rng.integers(0, SECONDS - _NOTICED)) if silent else 0,
        corruption=corruption,
        targets=frozenset((source, signal) for source in _MEASURED[signal]),
        share=1.0 if silent else float(rng.uniform(0.02, 1.0)),
        arm=Arm.CANDIDATE if silent else list(Arm)[int(rng.integers(2))],
    )


def new_judge() -> Judge:
    """Return a live judge of errors and latency, from the client and from Prometheus."""
    return Judge(_OBJECTIVES, _PLAN)


def good_second(second: int, rng: np.random.Generator) -> Iterator[Evidence]:
    """Yield what every collector says of one second of a good candidate."""
    return _second(None, second, rng)


def decide(story: Story | None, rng: np.random.Generator) -> Status:
    """Judge one stream (None: a good candidate, sound telemetry) as the gate does, to its last look."""
    judge = new_judge()
    for second in range(SECONDS):
        records = list(_second(story, second, rng))
        if story is not None:
            records = [made for record in records for made in _corrupted(story, record, second, rng)]
        judge.observe(records)
    return overall(judge.look(at=_BEGAN + SECONDS, stage="50", final=True))


def _corrupted(story: Story, record: Evidence, second: int, rng: np.random.Generator) -> list[Evidence]:
    if (record.source, record.signal) not in story.targets or record.arm is not story.arm:
        return [record]
    if second < story.since or rng.random() >= story.share:
        return [record]
    try:
        return CORRUPTIONS[story.corruption](record, rng)
    except ValueError:  # the record contradicts itself: no collector could have made it
        return []


def _second(story: Story | None, second: int, rng: np.random.Generator) -> Iterator[Evidence]:
    start = _BEGAN + second

    def report(source: Source, signal: str) -> Evidence:
        return Evidence(
            kind=Kind.EVENTS, source=source, signal=signal, start_s=start, end_s=start + 1, n=1, unit=Unit.PROBE,
            stage="50", share=0.5,
        )  # fmt: skip

    yield report(Source.PROBE, "load")
    yield report(Source.PROMETHEUS, "metrics")
    units = int(rng.poisson(RATE / 2))
    yield Evidence(
        kind=Kind.ASSIGNMENT, source=Source.CLIENT, signal="assignment", start_s=start, end_s=start + 1,
        n=units, bad=int(rng.binomial(units, 0.5)), unit=Unit.SESSION, stage="50", share=0.5,
    )  # fmt: skip
    for arm in Arm:
        bad = story.bad if story is not None and arm is Arm.CANDIDATE and second >= story.since else ""
        n = int(rng.poisson(RATE))
        counts = tuple(int(c) for c in rng.multinomial(n, _bucket_shares(_STEPS_SLOWER if bad == _LATENCY else 0)))
        for signal in (_ERRORS, _WRONG):
            violated = int(rng.binomial(n, 0.15 if bad == signal else 0.005))
            for source in _MEASURED[signal]:
                yield Evidence(
                    kind=Kind.EVENTS, source=source, signal=signal, arm=arm, start_s=start, end_s=start + 1, n=n,
                    bad=violated, stage="50", share=0.5,
                )  # fmt: skip
        for source in _MEASURED[_LATENCY]:
            yield Evidence(
                kind=Kind.HISTOGRAM, source=source, signal=_LATENCY, arm=arm, start_s=start, end_s=start + 1, n=n,
                bounds=_BOUNDS, counts=counts, stage="50", share=0.5,
            )  # fmt: skip


def _bucket_shares(steps: int) -> Array:
    """Return the buckets' shares of lognormal latencies (p50 20 ms, log sd .5), `steps` buckets up."""
    edges = (np.log(_BOUNDS) - math.log(0.02)) / 0.5 - steps * math.log(1.15) / 0.5
    below = np.array([0.0, *(0.5 * math.erfc(-edge / math.sqrt(2)) for edge in edges), 1.0])
    return np.diff(below)


def _number(value: float) -> Callable[[Evidence, np.random.Generator], list[Evidence]]:
    def put(record: Evidence, rng: np.random.Generator) -> list[Evidence]:
        field = ("start_s", "end_s", "share")[int(rng.integers(3))]
        changes: dict[str, float] = {field: value}
        return [replace(record, **changes)]  # pyright: ignore[reportArgumentType] - a number where one is due

    return put


def _shifted(record: Evidence, by: float) -> list[Evidence]:
    return [replace(record, start_s=record.start_s + by, end_s=record.end_s + by)]


def _nothing(record: Evidence) -> list[Evidence]:
    return [replace(record, n=0, bad=0, counts=(0,) * len(record.counts))]


def _other_bounds(record: Evidence, rng: np.random.Generator) -> list[Evidence]:
    if record.kind is not Kind.HISTOGRAM:
        return [replace(record, kind=Kind.HISTOGRAM)]
    keep = sorted(int(index) for index in rng.choice(len(record.bounds), size=3, replace=False))
    edges = [0, *(index + 1 for index in keep), len(record.counts)]
    counts = tuple(sum(record.counts[a:b]) for a, b in pairwise(edges))
    return [replace(record, bounds=tuple(record.bounds[index] for index in keep), counts=counts)]


def _reset(record: Evidence) -> list[Evidence]:
    """Return what the difference across a counter's restart would be: less than nothing."""
    return [replace(record, n=-record.n, bad=0, counts=tuple(-c for c in record.counts))]


CORRUPTIONS: dict[str, Callable[[Evidence, np.random.Generator], list[Evidence]]] = {
    "NaN": _number(math.nan),
    "infinite": _number(math.inf),
    "stale: no record": lambda _record, _rng: [],
    "empty: nobody counted": lambda record, _rng: _nothing(record),
    "counter reset": lambda record, _rng: _reset(record),
    "duplicate series": lambda record, _rng: [record, record],
    "duplicate with other numbers": lambda record, _rng: [record, *_nothing(record)],
    "clock ahead": lambda record, rng: _shifted(record, float(rng.uniform(20, 600))),
    "clock back": lambda record, rng: _shifted(record, -float(rng.integers(1, 40))),
    "more bad than seen": lambda record, _rng: [replace(record, bad=record.n + 1, counts=(*record.counts[1:], 9))],
    "other buckets": _other_bounds,
    "another kind": lambda record, _rng: [replace(record, kind=Kind.GAUGE, value=1.0, bounds=(), counts=())],
}
_SILENT = frozenset({"stale: no record", "empty: nobody counted"})
_OBJECTIVES = (
    Objective(
        id="errors",
        requirement="errors within 2 points of the baseline's",
        signal=_ERRORS,
        measure=Measure.RATIO,
        against=Against.BASELINE,
        threshold=2.0,
        unit="points",
        sources=_BOTH,
    ),
    Objective(
        id="wrong",
        requirement="wrong answers within 2 points of the baseline's",
        signal=_WRONG,
        measure=Measure.RATIO,
        against=Against.BASELINE,
        threshold=2.0,
        unit="points",
    ),
    Objective(
        id="latency",
        requirement="p95 within 60 % of the baseline's",
        signal=_LATENCY,
        measure=Measure.QUANTILE,
        against=Against.BASELINE,
        threshold=60.0,
        unit="%",
        quantile=0.95,
        sources=_BOTH,
    ),
    Objective(
        id="metrics",
        requirement="every series is there",
        signal="metrics",
        measure=Measure.COLLECTED,
        sources=(Source.PROMETHEUS,),
    ),
    Objective(id="router", requirement="the share is kept", signal="assignment", measure=Measure.ASSIGNMENT),
)
_PLAN = StagePlan(
    name="fuzz",
    stages=(Stage(id="50", share=50.0, min_bake_s=5.0, max_bake_s=float(SECONDS)),),
    warmup_s=5.0,
    settle_s=1.0,
    deadline_s=100.0,
    time_scale=8.0,
)
