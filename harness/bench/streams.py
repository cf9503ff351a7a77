"""Simulated rollouts with known truth: many at once, by seed.

A rollout is three instances that serve concurrently: two halves of the baseline and the candidate. Each
interval gives every instance a number of requests and, for each view of them, how many failed and how many
were slower than three thresholds (the baseline's true p50, p90 and p99). Views are drawn independently of one
another: that is the hardest case for false alarms; an effect touches the first view alone: that is the
hardest case for finding it.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import numpy as np
import scipy.optimize as _scipy_optimize  # pyright: ignore[reportMissingTypeStubs] - it ships none
import scipy.signal as _scipy_signal  # pyright: ignore[reportMissingTypeStubs]
import scipy.special as _scipy_special  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

Array = NDArray[np.float64]
Whole = NDArray[np.int32]

_optimize: Any = _scipy_optimize
_signal: Any = _scipy_signal
_special: Any = _scipy_special

MEMORY_S = 15.0  # the time step that `Noise.memory` is stated for
THRESHOLD_SHARES = (0.5, 0.1, 0.01)  # of the baseline's latencies above the three thresholds
_SLOW_MODE, _SLOW_SHARE, _FAST_SD = 1.5, 0.1, 0.3  # of the bimodal latency: log distance, share, log sd of each mode
_PARETO_INDEX = 1.5


class Latency(StrEnum):
    """The shape of one request's latency."""

    LOGNORMAL = "lognormal"
    BIMODAL = "bimodal"
    PARETO = "pareto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Autoregressive noise on the log error rate and on the log latency.

    `errors` and `latency` are stationary standard deviations, `memory` is the autocorrelation over 15 s.
    """

    errors: float = 0.0
    latency: float = 0.0
    memory: float = 0.0

    @property
    def long_run(self) -> float:
        """The long-run variance of two arms' difference in log error rate, in intervals of 15 s."""
        return 2 * self.errors**2 * (1 + self.memory) / (1 - self.memory)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is true of both releases.

    `requests_min` counts both arms together. `drift_to` is the error rate that the end of the ramp reaches,
    rising evenly on both arms. `overdispersion` is the correlation of two requests' errors within an interval
    of one instance (beta-binomial). `restless` multiplies the candidate's own noise. `instance` are standard
    deviations of a difference that an instance keeps for good: log error rate, log latency. `gaps` are the
    shares of intervals in which nobody sends, and in which the candidate alone gets nothing.
    """

    requests_min: float = 500.0
    error_rate: float = 0.01
    drift_to: float | None = None
    latency: Latency = Latency.LOGNORMAL
    log_sd: float = 0.5
    own: Noise = Noise()
    common: Noise = Noise()
    overdispersion: float = 0.0
    restless: float = 1.0
    instance: tuple[float, float] = (0.0, 0.0)
    gaps: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What the candidate does to the first view.

    `errors` multiplies the error rate, `latency` every latency, `spread` the log standard deviation of
    latencies round their median. `stuck` is the share of requests that get a latency far beyond every
    threshold: at .01 the p99 is that latency, the p90 hardly moves.
    """

    errors: float = 1.0
    latency: float = 1.0
    spread: float = 1.0
    stuck: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How long a rollout lasts and what is recorded of it.

    `shares` are the candidate's shares of traffic, a stage each, all of one length; `intervals` of
    `interval_s` seconds make up the ramp, `calibration` intervals of A/A lie before it. Without `latencies`
    only errors are drawn.
    """

    shares: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75, 0.95)
    intervals: int = 240
    interval_s: float = 15.0
    calibration: int = 960
    views: int = 4
    latencies: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one instance served: `n` (time, runs), `errors` (time, runs, views), `slower` (time, runs, views, 3)."""

    n: Whole
    errors: Whole
    slower: Whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Rollouts side by side; the halves' time begins `layout.calibration` intervals before the candidate's."""

    layout: Layout
    halves: tuple[Counts, Counts]
    candidate: Counts

    @property
    def runs(self) -> int:
        """How many rollouts there are."""
        return self.candidate.n.shape[1]


def draw(seed: np.random.SeedSequence, world: World, effect: Effect, layout: Layout, runs: int) -> Stream:
    """Draw `runs` rollouts; the same seed gives the same rollouts."""
    rng = np.random.default_rng(seed)
    whole = layout.calibration + layout.intervals
    n = _traffic(rng, world, layout, runs)
    shape = (whole, runs, layout.views)
    shared_errors = _noise(rng, world.common.errors, world.common, layout, shape)
    shared_latency = _noise(rng, world.common.latency, world.common, layout, shape)
    base = np.full(whole, math.log(world.error_rate))
    if world.drift_to is not None:
        base[layout.calibration :] = np.log(np.linspace(world.error_rate, world.drift_to, layout.intervals))
    instances: list[Counts] = []
    for index, candidate in enumerate((False, False, True)):
        begin = layout.calibration if candidate else 0
        own = (whole - begin, runs, layout.views)
        louder = world.restless if candidate else 1.0
        sd = louder * world.own.errors
        log_rate = base[begin:, None, None] + shared_errors[begin:] + _noise(rng, sd, world.own, layout, own)
        log_rate = log_rate - sd**2 / 2 + world.instance[0] * rng.standard_normal(own[1:])
        log_latency = shared_latency[begin:] + _noise(rng, louder * world.own.latency, world.own, layout, own)
        log_latency = log_latency + world.instance[1] * rng.standard_normal(own[1:])
        done = effect if candidate else Effect()
        served = _serve(
            rng, world, done, n[index], log_rate=log_rate, log_latency=log_latency, latencies=layout.latencies
        )
        instances.append(served)
    return Stream(layout=layout, halves=(instances[0], instances[1]), candidate=instances[2])


def shares_over_time(layout: Layout) -> Array:
    """Return the candidate's share in each interval of the ramp."""
    stage = np.minimum(np.arange(layout.intervals) * len(layout.shares) // layout.intervals, len(layout.shares) - 1)
    return np.array(layout.shares)[stage]


def _traffic(rng: np.random.Generator, world: World, layout: Layout, runs: int) -> list[Whole]:
    """Return the requests of the halves (whole time) and of the candidate (ramp)."""
    whole = layout.calibration + layout.intervals
    share = np.concatenate([np.zeros(layout.calibration), shares_over_time(layout)])[:, None]
    total = rng.poisson(world.requests_min * layout.interval_s / 60, (whole, runs))
    silent, deaf = world.gaps
    total[rng.random((whole, runs)) < silent] = 0
    candidate = rng.binomial(total, share)
    candidate[rng.random((whole, runs)) < deaf] = 0
    one = rng.binomial(total - candidate, 0.5)
    ramp = candidate[layout.calibration :]
    return [part.astype(np.int32) for part in (one, total - candidate - one, ramp)]


def _noise(rng: np.random.Generator, sd: float, noise: Noise, layout: Layout, shape: tuple[int, ...]) -> Array:
    """Return stationary AR(1) noise along the first axis."""
    if not sd:
        return np.zeros((shape[0], 1, 1))
    phi = noise.memory ** (layout.interval_s / MEMORY_S)
    steps = rng.standard_normal(shape)
    if not phi:
        return sd * steps
    steps[1:] *= math.sqrt(1 - phi * phi)
    return sd * cast("Array", _signal.lfilter([1.0], [1.0, -phi], steps, axis=0))


def _serve(
    rng: np.random.Generator,
    world: World,
    effect: Effect,
    n: Whole,
    *,
    log_rate: Array,
    log_latency: Array,
    latencies: bool,
) -> Counts:
    views = log_rate.shape[-1]
    shape = (*n.shape, views)
    rate = np.broadcast_to(np.exp(log_rate), shape).copy()
    rate[..., 0] *= effect.errors
    rate = np.minimum(rate, 0.95)
    if world.overdispersion:
        size = 1 / world.overdispersion - 1
        rate = np.clip(rate, 1e-6, 0.95)
        rate = rng.beta(rate * size, (1 - rate) * size)
    units = np.broadcast_to(n[..., None], shape)
    errors = rng.binomial(units, rate).astype(np.int32)
    slower = np.zeros((*shape, 3 if latencies else 0), dtype=np.int32)
    if latencies:
        above = np.broadcast_to(exceedance(world, log_latency)[..., :], (*shape, 3)).copy()
        if effect != Effect():
            moved = np.broadcast_to(log_latency, shape)[..., 0] + math.log(effect.latency)
            above[..., 0, :] = exceedance(world, moved, spread=effect.spread)
            above[..., 0, :] = effect.stuck + (1 - effect.stuck) * above[..., 0, :]
        left, before = units, np.ones(shape)
        for index in range(3):
            chance = np.clip(above[..., index] / np.maximum(before, 1e-12), 0.0, 1.0)
            left, before = rng.binomial(left, chance), above[..., index]
            slower[..., index] = left
    return Counts(n=n, errors=errors, slower=slower)


def exceedance(world: World, log_shift: Array, *, spread: float = 1.0) -> Array:
    """Return the shares above the three thresholds, along a new last axis, of latencies exp(`log_shift`) times as long.

    The thresholds are those at which a shift of 0 and a spread of 1 leave `THRESHOLD_SHARES`.
    """
    ndtr: Any = _special.ndtr
    shift = log_shift[..., None]
    if world.latency is Latency.PARETO:
        nominal = np.array(THRESHOLD_SHARES) ** (1 / spread)
        return np.minimum(nominal * np.exp(_PARETO_INDEX * shift / spread), 0.999)
    if world.latency is Latency.BIMODAL:
        at = _bimodal_thresholds() - shift
        sd = _FAST_SD * spread
        return cast("Array", (1 - _SLOW_SHARE) * ndtr(-at / sd) + _SLOW_SHARE * ndtr(-(at - _SLOW_MODE) / sd))
    at = cast("Array", -_special.ndtri(np.array(THRESHOLD_SHARES))) - shift / world.log_sd
    return cast("Array", ndtr(-at / spread))


def _bimodal_thresholds() -> Array:
    def excess(at: float, share: float) -> float:
        fast, slow = _special.ndtr(-at / _FAST_SD), _special.ndtr(-(at - _SLOW_MODE) / _FAST_SD)
        return float((1 - _SLOW_SHARE) * fast + _SLOW_SHARE * slow) - share

    return np.array([float(_optimize.brentq(excess, -5.0, 10.0, args=(share,))) for share in THRESHOLD_SHARES])
