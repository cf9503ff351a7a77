"""Growth of memory recomputed from its readings: blocks, what is skipped, every look at evidence to fail, and words."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from judge_streams import gauge, objective_of, plan_of
from scipy import stats

from harness.judge.finding import Finding, Look, Terms
from harness.judge.gating import gating
from harness.judge.growth import GrowthTrial
from harness.model.evidence import Arm, Evidence, Kind, Source
from harness.model.objective import Against, Measure
from harness.model.plan import Stage
from harness.model.status import Status

pytestmark = pytest.mark.selftest

C, B = Arm.CANDIDATE, Arm.BASELINE
_START = 100.0


def trial_of(limit: float = 20.0, alpha: float = 0.01, bake_s: float = 60.0) -> GrowthTrial:
    """Return a trial of "memory" under a plan of one stage."""
    plan = plan_of(stages=(Stage(id="50", share=50.0, min_bake_s=5.0, max_bake_s=bake_s),))
    objective = objective_of(Measure.GROWTH, "memory", limit, "MB/min", against=Against.BASELINE)
    return GrowthTrial(
        Terms(objective=objective, plan=plan, source=Source.PROMETHEUS, threshold=limit, alpha=alpha,
              gating=gating(plan, None, "it is new"))
    )  # fmt: skip


def read(
    trial: GrowthTrial,
    candidate: Sequence[float],
    baseline: Sequence[float],
    share: Sequence[float] | float = 0.5,
    step_s: float = 1.0,
) -> Finding:
    """Hand in readings of both arms every `step_s` seconds from 100 s on, MB, and return what is found at the end."""
    shares = np.broadcast_to(share, len(candidate))
    for index, (mine, other, now) in enumerate(zip(candidate, baseline, shares, strict=True)):
        for arm, value in ((B, other), (C, mine)):
            trial.observe(gauge("memory", arm, _START + index * step_s, 1e6 * value, share=float(now)))
    return trial.find(Look(at=_START + len(candidate) * step_s, stage="50", final=True))


class ByHand:
    """What the readings say, recomputed; MB, minutes at full traffic, and seconds."""

    def __init__(
        self, candidate: Sequence[float], baseline: Sequence[float], share: Sequence[float] | float = 0.5, *,
        step_s: float = 1.0, skip_s: float = 6.0, limit: float = 20.0, alpha: float = 0.01,
    ) -> None:  # fmt: skip
        times = step_s * np.arange(len(candidate))
        used = times >= skip_s
        times, shares = times[used], np.broadcast_to(share, len(candidate))[used]
        levels = {C: np.asarray(candidate)[used], B: np.asarray(baseline)[used]}
        shares = {C: shares, B: 1 - shares}
        self.blocks: list[dict[Arm, tuple[float, float]]] = []
        self.limit, self.failed = limit, ""
        length, look, left, begin = 2.0, 8, alpha, 0
        for end in range(1, len(times)):
            if times[end] - times[begin] < length:
                continue
            span = slice(begin, end + 1)
            minutes = {arm: np.trapezoid(shares[arm][span], times[span]) / 60 for arm in Arm}
            self.blocks.append({arm: (levels[arm][end] - levels[arm][begin], minutes[arm]) for arm in Arm})
            begin = end
            if len(warm := self.warm()) >= look:
                left /= 2
                look *= 2
                slope, half = self.slope(1 - left)
                if slope - half > limit and self.rate(warm[len(warm) // 2 :], C)[0] > limit and not self.failed:
                    self.failed = f"shown above {slope - half:.1f} MB a minute"
            if len(self.blocks) == 64:
                pairs = zip(self.blocks[::2], self.blocks[1::2], strict=True)
                self.blocks = [{arm: tuple(np.add(one[arm], two[arm])) for arm in Arm} for one, two in pairs]
                length, look = 2 * length, 32

    def warm(self) -> list[dict[Arm, tuple[float, float]]]:
        """Return the blocks after the first quarter of the candidate's exposure."""
        exposed = np.cumsum([block[C][1] for block in self.blocks])
        return [block for block, until in zip(self.blocks, exposed, strict=True) if until > exposed[-1] / 4]

    @staticmethod
    def rate(blocks: Sequence[dict[Arm, tuple[float, float]]], arm: Arm) -> tuple[float, float]:
        """Return the ratio estimate of growth to exposure, and its variance."""
        grown, exposed = np.array([block[arm] for block in blocks]).T
        rate = grown.sum() / exposed.sum()
        return rate, np.var(grown - rate * exposed, ddof=1) * len(blocks) / exposed.sum() ** 2

    def slope(self, level: float) -> tuple[float, float]:
        """Return the difference of the slopes and its one-sided half width."""
        warm = self.warm()
        (mine, var_c), (other, var_b) = self.rate(warm, C), self.rate(self.blocks, B)
        if other < 0:
            other = var_b = 0.0
        return mine - other, stats.t.ppf(level, len(warm) - 1) * np.sqrt(var_c + var_b)

    def agrees_with(self, found: Finding) -> None:
        """Assert that the finding is what was recomputed: every number, and every word."""
        slope, half = self.slope(0.99)
        assert found.n == len(self.warm())
        assert found.estimate == pytest.approx(slope, rel=1e-9, abs=1e-9)
        assert found.interval == pytest.approx((slope - half, slope + half), rel=1e-9, abs=1e-9)
        mine, other = self.rate(self.warm(), C)[0], self.rate(self.blocks, B)[0]
        says = f"at full traffic the candidate's memory grows by {mine:.1f} MB a minute, "
        says += f"the baseline's by {other:.1f}; limit {self.limit:g} more: "
        if self.failed:
            assert (found.status, found.reason) == (Status.FAIL, says + self.failed)
        elif slope + half <= self.limit:
            assert (found.status, found.reason) == (Status.PASS, f"{says}shown at most {slope + half:.1f}")
        else:
            open_ = f"{says}between {slope - half:.1f} and {slope + half:.1f}"
            assert (found.status, found.reason) == (Status.INCONCLUSIVE, open_)


def levels(slopes: Sequence[tuple[int, float]], noise: float, seed: int, step_s: float = 1.0) -> np.ndarray:
    """Return levels, MB, that grow by so many MB a minute for so many readings, and wander."""
    rng = np.random.default_rng(seed)
    steps = [slope * step_s / 60 + noise * rng.standard_normal() for n, slope in slopes for _ in range(n)]
    return 500 + np.cumsum(steps)


STREAMS = {
    "steady": ([(70, 0.0)], [(70, 5.0)], 0.2),
    "a leak, found at the first look": ([(60, 900.0)], [(60, 60.0)], 4.0),
    "a leak at the second look": ([(20, 0.0), (80, 900.0)], [(100, 0.5)], 2.0),
    "a leak at the third look": ([(50, 0.0), (150, 900.0)], [(200, 60.0)], 2.0),
    "a leak once blocks were joined": ([(134, 0.0), (250, 900.0)], [(384, 60.0)], 2.0),
    "growth that ends": ([(24, 900.0), (40, 0.0)], [(64, 10.0)], 1.0),
    "noise": ([(60, 100.0)], [(60, 10.0)], 10.0),
    "a baseline that shrinks": ([(60, 10.0)], [(60, -300.0)], 0.5),
    "long, joined three times": ([(1500, 30.0)], [(1500, 5.0)], 1.0),
}


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("what", STREAMS)
def test_growth_is_what_its_readings_say(what: str, share: float):
    """The slope at full traffic, its interval, when it failed and by how much, or what is still open."""
    mine, others, noise = STREAMS[what]
    candidate, baseline = levels(mine, noise, 1), levels(others, noise / 2, 2)
    ByHand(candidate, baseline, share).agrees_with(read(trial_of(), candidate, baseline, share))


@pytest.mark.parametrize("seed", range(6))
def test_growth_is_what_its_readings_say_while_the_share_rises(seed: int):
    """10 %, 30 %, then 60 % of the traffic, read every half second or every two; the leak belongs to the traffic."""
    step_s = (0.5, 2.0)[seed % 2]
    n = int(90 / step_s)
    share = np.repeat([0.1, 0.3, 0.6], n // 3)
    rng = np.random.default_rng(seed)
    candidate = 500 + np.cumsum(60.0 * (1 + seed) * share * step_s / 60 + 0.5 * rng.standard_normal(n))
    baseline = levels([(n, 20.0)], 0.5, seed, step_s)
    by_hand = ByHand(candidate, baseline, share, step_s=step_s, alpha=0.1)
    by_hand.agrees_with(read(trial_of(alpha=0.1), candidate, baseline, share, step_s))


@pytest.mark.parametrize("bake_s, skipped", [(30.0, 5), (60.0, 6), (100.0, 10), (600.0, 60), (700.0, 60)])
def test_the_first_tenth_of_the_planned_bakes_is_skipped_from_5_to_60_seconds(bake_s: float, skipped: int):
    """A second before the first whole block of 2 s there is none; of one or two a quarter is no block."""
    for n, blocks in ((skipped + 2, 0), (skipped + 3, 1), (skipped + 5, 2)):
        found = read(trial_of(bake_s=bake_s), [200.0] * n, [200.0] * n)
        reason = f"no evidence: {blocks} of 8 blocks of readings after the first {skipped} s"
        assert found == Finding(status=Status.INCONCLUSIVE, reason=reason)


def test_eight_blocks_after_the_first_quarter_are_enough():
    """Ten blocks of 2 s, of which the first two are a fifth of the exposure; nine leave seven."""
    assert read(trial_of(), [200.0] * 25, [200.0] * 25).reason.startswith("no evidence: 7 of 8 blocks")
    found = read(trial_of(), [200.0] * 27, [200.0] * 27)
    assert (found.status, found.n) == (Status.PASS, 8)


def test_growth_exactly_at_its_limit_passes_and_is_never_proven_beyond():
    """40 MB a minute against 20, limit 20, without any noise; of twelve equal blocks three are a quarter."""
    steps = np.arange(14)
    found = read(trial_of(bake_s=30.0), 100 + 20.0 * steps, 100 + 10.0 * steps, share=0.0, step_s=30.0)
    reason = (
        "at full traffic the candidate's memory grows by 40.0 MB a minute, the baseline's by 20.0; limit 20 more: "
        "shown at most 20.0"
    )
    assert found == Finding(status=Status.PASS, reason=reason, estimate=20.0, interval=(20.0, 20.0), n=9)


def test_growth_whose_newer_half_stands_still_is_not_failed_however_steep_the_older_one():
    """Limit 0, alpha .2: 8 warm blocks, four that grow and four of exactly nothing. Were the last to grow, it fails."""
    grown = np.repeat([0.0, 10.0, 0.0], [1, 17, 8])
    still = read(trial_of(0.0, 0.2, 30.0), 100 + np.cumsum(grown), [100.0] * 26)
    assert (still.status, still.n) == (Status.INCONCLUSIVE, 8)
    grown[-1] = 1.0
    assert read(trial_of(0.0, 0.2, 30.0), 100 + np.cumsum(grown), [100.0] * 26).status is Status.FAIL


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_without_a_split_the_exposure_is_all_of_the_time(share: float):
    """No share is known: both arms count in full. All of it the candidate's: the baseline's growth is none."""
    candidate, baseline = levels([(60, 50.0)], 1.0, 3), levels([(60, 30.0)], 1.0, 4)
    found = read(trial_of(), candidate, baseline, share)
    by_hand = ByHand(candidate, baseline if share == 0 else candidate * 0 + 1, 0.5)
    (mine, var_c), (other, var_b) = by_hand.rate(by_hand.warm(), C), by_hand.rate(by_hand.blocks, B)
    slope, half = (mine - other) / 2, stats.t.ppf(0.99, found.n - 1) * np.sqrt(var_c + var_b) / 2
    assert found.estimate == pytest.approx(slope, rel=1e-9)
    assert found.interval == pytest.approx((slope - half, slope + half), rel=1e-9)


def test_a_baseline_that_ends_where_it_began_brings_its_noise():
    """Its growth is 0, not less: the interval is as wide as both arms' noise makes it."""
    candidate = levels([(60, 10.0)], 0.2, 5)
    baseline = 300.0 + np.tile([0.0, 1.0, 4.0, 1.0], 15)
    baseline[[6, -2]] = 300.0
    ByHand(candidate, baseline).agrees_with(read(trial_of(), candidate, baseline))


def test_a_gauge_may_read_zero_bytes():
    """From nothing to 60 MB; a byte more or less would show."""
    candidate, baseline = np.linspace(0, 60, 60), np.linspace(0, 1, 60)
    candidate[:9] = baseline[:9] = 0.0
    ByHand(candidate, baseline).agrees_with(read(trial_of(), candidate, baseline))


def test_the_candidates_readings_count_once_the_baseline_was_read():
    """20 s of the candidate alone, and readings of neither arm, are as if they had not been."""
    trial, plain = trial_of(), trial_of()
    for at in range(20):
        trial.observe(gauge("memory", C, float(at), 1e6 * at))
    for stack in (gauge("memory", C, 101.5, 9e9), gauge("memory", C, 107.0, 9e9)):
        trial.observe(replace(stack, arm=None))
    candidate, baseline = levels([(60, 50.0)], 1.0, 6), levels([(60, 5.0)], 1.0, 7)
    expected = read(plain, candidate, baseline)
    for at in (102.5, 112.5):
        trial.observe(replace(gauge("memory", C, at, 9e9), arm=None))
    assert read(trial, candidate, baseline) == expected


@pytest.mark.parametrize("changes", [{"value": -1.0}, {"kind": Kind.EVENTS}], ids=["negative", "no gauge"])
def test_memory_that_is_no_gauge_is_refused(changes: dict[str, object]):
    """A value alone makes no gauge, and no memory is below 0."""
    record: Evidence = replace(gauge("memory", C, 0.0, 1.0), **changes)
    with pytest.raises(ValueError, match=r"^memory: memory is a gauge that is not negative$"):
        trial_of().observe(record)
