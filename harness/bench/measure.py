"""One chunk of one cell: its rollouts drawn from a seed, and the time at which each rule acts on each of them."""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from harness.bench import opponents, oracle, speed, subject, telemetry
from harness.bench.cells import ROLLGATE, Cell, Kind, Router
from harness.bench.streams import draw
from harness.bench.subject import NEVER, Times
from harness.judge.assignment import ALARM, misrouting


class Part(StrEnum):
    """What of a cell is measured together: rollgate with the oracles, or the other tools' rules."""

    JUDGE = "judge"
    OPPONENTS = "opponents"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a chunk gave: for each rule the times of all its rollouts (NEVER among them), and plain values."""

    times: dict[str, Times] = field(default_factory=dict[str, Times])
    values: dict[str, float] = field(default_factory=dict[str, float])


def measure(cell: Cell, part: Part, seed: np.random.SeedSequence, runs: int) -> Measured:
    """Measure `runs` rollouts; the same seed gives the same times, and both parts the same rollouts."""
    match cell.kind:
        case Kind.SPEED:
            return Measured(values=speed.values())
        case Kind.TELEMETRY:
            promoted = len(telemetry.promoted(seed, runs))
            return Measured(times={ROLLGATE: np.where(np.arange(runs) < promoted, 1, NEVER).astype(np.int64)})
        case Kind.ROUTER:
            return Measured(times={ROLLGATE: _alarms(cell.router, seed, runs)})
        case Kind.CALIBRATED | Kind.BLOCKS | Kind.PROMOTION:
            return Measured(times=_rollouts(cell, part, seed, runs))


def _rollouts(cell: Cell, part: Part, seed: np.random.SeedSequence, runs: int) -> dict[str, Times]:
    stream = draw(seed, cell.world, cell.effect, cell.layout, runs)
    if part is Part.OPPONENTS:
        return {name: rule(stream) for name, rule in opponents.RULES.items()}
    if cell.kind is Kind.PROMOTION:
        return {ROLLGATE: subject.promotions(stream, margin=cell.margin, tempered=cell.tempered)}
    if cell.kind is Kind.BLOCKS:
        times = {ROLLGATE: subject.block_rollbacks(stream)}
    else:
        times = {ROLLGATE: subject.rollbacks(stream, tempered=cell.tempered)}
    if cell.oracle:
        times[oracle.SPRT] = oracle.oracle(stream, odds=cell.effect.errors)
        if noise := cell.world.own.long_run:
            times[oracle.NOISY_SPRT] = oracle.oracle(stream, odds=cell.effect.errors, noise=noise)
    return times


def _alarms(router: Router, seed: np.random.SeedSequence, runs: int) -> Times:
    """Return how many units were counted when the sample-ratio test raised its alarm."""
    rng = np.random.default_rng(seed)
    shape = (runs, router.looks)
    if router.by_request:
        sessions = np.full(shape, max(1, round(router.per_look / router.requests)))
        on = rng.binomial(sessions, router.sent)
        more = router.requests - 1
        candidate = on + rng.poisson(on * more)
        n = candidate + (sessions - on) + rng.poisson((sessions - on) * more)
    else:
        n = np.full(shape, router.per_look)
        candidate = rng.binomial(n, router.sent)
    seen, taken = np.cumsum(n, axis=1), np.cumsum(candidate, axis=1)
    found = misrouting(seen.astype(float), taken.astype(float), router.share) >= ALARM
    first = np.take_along_axis(seen, found.argmax(axis=1)[:, None], axis=1)[:, 0]
    return np.where(found.any(axis=1), first, NEVER).astype(np.int64)
