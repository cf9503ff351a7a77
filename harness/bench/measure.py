"""One chunk of one cell: its rollouts drawn from a seed, and the time at which each rule acts on each of them."""

from dataclasses import dataclass

import numpy as np

from harness.bench import opponents, speed, subject, telemetry
from harness.bench.cells import ROLLGATE, Cell, Kind, Router
from harness.bench.streams import draw
from harness.bench.subject import NEVER, Times
from harness.judge.assignment import ALARM, misrouting

SPRT, NOISY_SPRT = "SPRT that knows the effect", "SPRT that knows effect and noise"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a chunk gave: for each rule the times of all its rollouts (NEVER among them), and plain values."""

    times: dict[str, Times]
    values: dict[str, float]


def measure(cell: Cell, seed: np.random.SeedSequence, runs: int, *, opponents_too: bool) -> Measured:
    """Measure `runs` rollouts; the same seed gives the same times."""
    match cell.kind:
        case Kind.SPEED:
            return Measured(times={}, values=speed.values())
        case Kind.TELEMETRY:
            promoted = len(telemetry.promoted(seed, runs))
            times = np.where(np.arange(runs) < promoted, 1, NEVER).astype(np.int64)
            return Measured(times={ROLLGATE: times}, values={})
        case Kind.ROUTER:
            return Measured(times={ROLLGATE: _alarms(cell.router, seed, runs)}, values={})
        case Kind.CALIBRATED | Kind.BLOCKS | Kind.PROMOTION:
            return Measured(times=_rollouts(cell, seed, runs, opponents_too=opponents_too), values={})


def _rollouts(cell: Cell, seed: np.random.SeedSequence, runs: int, *, opponents_too: bool) -> dict[str, Times]:
    stream = draw(seed, cell.world, cell.effect, cell.layout, runs)
    if cell.kind is Kind.PROMOTION:
        return {ROLLGATE: subject.promotions(stream, margin=cell.margin, tempered=cell.tempered)}
    if cell.kind is Kind.BLOCKS:
        times = {ROLLGATE: subject.block_rollbacks(stream)}
    else:
        times = {ROLLGATE: subject.rollbacks(stream, tempered=cell.tempered)}
    if cell.oracle:
        times[SPRT] = opponents.oracle(stream, odds=cell.effect.errors)
        if noise := cell.world.own.long_run:
            times[NOISY_SPRT] = opponents.oracle(stream, odds=cell.effect.errors, noise=noise)
    if cell.opponents and opponents_too:
        times |= {name: rule(stream) for name, rule in opponents.RULES.items()}
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
