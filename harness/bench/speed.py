"""How fast the judge is, and that its memory does not grow with the stream."""

import pickle
import time

import numpy as np

from harness.bench.streams import Effect, Layout, Noise, World, draw
from harness.bench.subject import RolloutJudge, ramp
from harness.bench.telemetry import good_second, new_judge
from harness.model.evidence import Evidence, Kind, Source

_STREAM_S, _KERNEL_RUNS = 60, 250
_COUNTED = {Kind.EVENTS, Kind.HISTOGRAM}


def values() -> dict[str, float]:
    """Measure on one core; observations are requests counted once for each signal and source they are judged by."""
    live, records = _live()
    return {
        "live observations/s": live,
        "live records/s": records,
        "kernel observations/s": _kernel(),
        "memory after 4 x the records": _memory(),
    }


def _live() -> tuple[float, float]:
    """Return observations and records a second through the live judge, a look after each second of the stream."""
    rng = np.random.default_rng(1)
    batches = [list(good_second(second, rng)) for second in range(_STREAM_S)]
    judge = new_judge()
    began = time.process_time()
    for batch in batches:
        judge.observe(batch)
        judge.look(at=batch[0].end_s, stage="50", final=False)
    took = time.process_time() - began
    return sum(map(_observations, batches)) / took, sum(map(len, batches)) / took


def _observations(batch: list[Evidence]) -> int:
    return sum(record.n for record in batch if record.kind in _COUNTED and record.arm is not None)


def _kernel() -> float:
    """Return observations a second through the kernels over many rollouts: 3 metrics x 4 views of 5000 a minute."""
    layout = Layout(intervals=60, calibration=0)
    world = World(requests_min=5000, own=Noise(errors=0.2, latency=0.1, memory=0.8))
    stream = draw(np.random.SeedSequence(1), world, Effect(), layout, _KERNEL_RUNS)
    judge = RolloutJudge(stream)
    began = time.process_time()
    for seen in ramp(stream):
        judge.judge(seen)
    took = time.process_time() - began
    requests = int(stream.candidate.n.sum()) + sum(int(half.n.sum()) for half in stream.halves)
    return requests * layout.views * 3 / took


def _memory() -> float:
    """Return the size of the live judge's state after 1200 s of the client's records over that after 300 s."""
    rng = np.random.default_rng(2)
    judge = new_judge()
    sizes: list[int] = []
    for second in range(1200):
        judge.observe([record for record in good_second(second, rng) if record.source is not Source.PROMETHEUS])
        if second + 1 in {300, 1200}:
            sizes.append(len(pickle.dumps(judge)))
    return sizes[1] / sizes[0]
