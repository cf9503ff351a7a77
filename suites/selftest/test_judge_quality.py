"""Bounded scores: bets that are fair, intervals that hold at every look, and verdicts from them."""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judge_streams import gauge, objective_of, plan_of, verdict_on

from harness.judge import Judge
from harness.judge.finding import Terms
from harness.judge.gating import Gating
from harness.judge.quality import QualityTrial
from harness.judge.scores import DIFFERENCES, GRID, Capital, DifferenceBets, MeanBets, Scores
from harness.model.evidence import Arm, Evidence, Kind, Source
from harness.model.objective import Against, Measure, Objective
from harness.model.plan import RollbackOn, Stage
from harness.model.status import Status

pytestmark = pytest.mark.selftest

C, B = Arm.CANDIDATE, Arm.BASELINE
HIGH = objective_of(Measure.SCORE, "answer.quality", 70, "%", comparator=">=")
LOW = objective_of(Measure.SCORE, "answer.quality", 30, "%")
PAIRED = objective_of(Measure.SCORE, "answer.quality", 5, "points", comparator=">=", against=Against.BASELINE)
TENTHS = tuple(k / 10 for k in range(1, 11))


def exact(*values: float) -> Scores:
    """Return scores that are known exactly, one each."""
    array = np.array(values, dtype=float)
    return Scores(array, array, np.ones(len(values)))


def test_capital_is_that_of_the_published_process():
    """Twelve scores, one by one: log capital at three means as the authors' package `confseq` 0.0.11 gives it."""
    bets = MeanBets(alpha=0.05, points=np.array([0.3, 0.5, 0.7]))
    for value in (0.9, 0.2, 0.75, 1.0, 0.6, 0.0, 0.85, 0.95, 0.4, 0.7, 0.8, 1.0):
        bets.update(exact(value))
    assert bets.capital.above == pytest.approx(CONFSEQ_ABOVE, rel=1e-9)
    assert bets.capital.below == pytest.approx(CONFSEQ_BELOW, rel=1e-9)


def test_capital_that_begins_later_is_the_sum_of_its_parts():
    """Five scores: four fifths of the stakes from the first one on, then .1, .033, .017 and .01; .04 still wait."""
    bets = MeanBets(alpha=0.05, points=np.array([0.3, 0.5]))
    worth = [bets.capital.below]
    for value in (0.9, 0.8, 0.1, 0.0, 0.2):
        bets.update(exact(value))
        worth.append(bets.capital.below)
    parts = [0.8, *(0.2 / (k * (k + 1)) for k in range(1, 5))]
    by_hand = 0.04 + sum(part * np.exp(worth[-1] - then) for part, then in zip(parts, worth, strict=False))
    assert np.exp(bets.capital.late) == pytest.approx(by_hand, rel=1e-12)
    assert MeanBets(alpha=0.05).capital.late == pytest.approx(np.zeros(len(GRID)))


CONFSEQ_ABOVE = [4.969401761737271, 1.427027513943839, -0.5582366034037163]
CONFSEQ_BELOW = [-4.287247287199012, -3.1354614327165247, -0.921081624450192]


@pytest.mark.parametrize("points", [np.array([0.2, 0.5, 0.8])])
@pytest.mark.parametrize("values, chances", [((0.0, 1.0), (0.7, 0.3)), ((0.1, 0.6, 0.9), (0.5, 0.25, 0.25))])
def test_no_gambler_gains_on_average_at_the_true_mean(
    points: np.ndarray, values: tuple[float, ...], chances: tuple[float, ...]
):
    """Exactly, over all streams of four intervals: the capital's mean is 1 at the mean, and at most 1 beyond it."""
    mean = float(np.dot(values, chances))
    grid = np.unique(np.append(points, mean))
    above, below, late = np.zeros((3, len(grid)))
    for picks in product(range(len(values)), repeat=4):
        bets = MeanBets(alpha=0.05, points=grid)
        for index in picks:
            bets.update(exact(values[index]))
        weight = float(np.prod([chances[index] for index in picks]))
        above += weight * np.exp(bets.capital.above)
        below += weight * np.exp(bets.capital.below)
        late += weight * np.exp(bets.capital.late)
    at = int(np.argmin(np.abs(grid - mean)))
    assert above[at] == pytest.approx(1)
    assert below[at] == pytest.approx(1)
    assert late[at] == pytest.approx(1)
    assert np.all(late[: at + 1] <= 1 + 1e-12)
    assert np.all(above[at:] <= 1 + 1e-12)
    assert np.all(below[: at + 1] <= 1 + 1e-12)
    assert np.any(above[:at] > 1.05) or np.any(below[at + 1 :] > 1.05)


@settings(max_examples=25)
@given(
    level=st.sampled_from([0.2, 0.5, 0.9]), effect=st.sampled_from([-0.1, 0.0, 0.1]),
    n_c=st.integers(1, 3), n_b=st.integers(1, 3),
)  # fmt: skip
def test_a_difference_is_bet_on_fairly_whatever_the_level(level: float, effect: float, n_c: int, n_b: int):
    """Exactly, over all outcomes of two intervals with the level moving between them."""
    points = np.array([effect - 0.2, effect, effect + 0.2])
    bets, sums = {}, np.zeros((2, 3))
    outcomes = [
        (k_c, k_b, l_c, l_b) for k_c, k_b in product(range(n_c + 1), range(n_b + 1))
        for l_c, l_b in product(range(n_c + 1), range(n_b + 1))
    ]  # fmt: skip
    for k_c, k_b, l_c, l_b in outcomes:
        weight, bets = 1.0, DifferenceBets(alpha=0.05, points=points)
        for good_c, good_b, base in ((k_c, k_b, level), (l_c, l_b, 1 - level)):
            p_b = min(max(base, -effect), 1 - effect)
            weight *= _chance(good_c, n_c, p_b + effect) * _chance(good_b, n_b, p_b)
            bets.update(_binary(good_c, n_c), _binary(good_b, n_b))
        sums += weight * np.exp([bets.capital.above, bets.capital.below])
    assert sums[0, 1] <= 1 + 1e-12
    assert sums[1, 1] <= 1 + 1e-12
    assert sums[0, 2] <= 1 + 1e-12
    assert sums[1, 0] <= 1 + 1e-12


def _by_hand(points: np.ndarray, past_b: list[float], intervals: list[tuple[list[float], list[float]]]) -> np.ndarray:
    """Return (above, below) of a difference's bets straight from the definition, at alpha 0.1."""
    past_c, past_b, units = [], list(past_b), 0.0
    logs = np.zeros((2, len(points)))
    for scores_c, scores_b in intervals:
        n_c, n_b = len(scores_c), len(scores_b)
        units += n_c * n_b / (n_c + n_b)
        variance = (_spread(past_c) + _spread(past_b)) / 2
        wanted = np.sqrt(2 * np.log(2 / 0.1) / (max(units, 1) * np.log(1 + max(units, 1)) * variance))
        wanted = min(wanted, 0.5 * (n_c + n_b) / max(n_c, n_b))
        on_c, on_b = wanted * n_b / (n_c + n_b), wanted * n_c / (n_c + n_b)
        for at, point in enumerate(points):
            mean_b = (0.5 + sum(past_b)) / (1 + len(past_b))
            mean_b = max(min(mean_b, 1 - point, 1.0), -point, 0.0)
            for sign, row in ((1, 0), (-1, 1)):
                logs[row, at] += sum(np.log(1 + sign * on_c * (x - mean_b - point)) for x in scores_c)
                logs[row, at] += sum(np.log(1 - sign * on_b * (y - mean_b)) for y in scores_b)
        past_c, past_b = past_c + scores_c, past_b + scores_b
    return logs


def _spread(past: list[float]) -> float:
    """Return the variance with its guess; these tests' intervals before the last hold one score each."""
    total, squares = 0.5, 0.25
    for n, value in enumerate(past, start=1):
        total += value
        squares += (value - total / (n + 1)) ** 2
    return squares / (len(past) + 1)


@pytest.mark.parametrize("sizes", [(1, 1), (3, 2), (2, 9), (30, 1), (60, 50)])
def test_a_differences_capital_is_its_definition(sizes: tuple[int, int]):
    """After a baseline's past of two scores and an interval of one score each; supposed differences up to the whole."""
    rng = np.random.default_rng(6)
    points = np.array([-1.0, -0.9, -0.05, 0.0, 0.6, 1.0])
    last = (list(rng.uniform(0.1, 0.9, sizes[0])), list(rng.uniform(0.1, 0.9, sizes[1])))
    intervals = [([0.7], [0.95]), last]
    bets = DifferenceBets(alpha=0.1, points=points)
    for value in (0.9, 0.8):
        bets.learn(exact(value))
    for scores_c, scores_b in intervals:
        bets.update(exact(*scores_c), exact(*scores_b))
    above, below = _by_hand(points, [0.9, 0.8], intervals)
    assert bets.capital.above == pytest.approx(above)
    assert bets.capital.below == pytest.approx(below)
    weight = sizes[0] * sizes[1] / sum(sizes)
    expected = 0.5 * (0.7 - 0.95) + weight * (np.mean(last[0]) - np.mean(last[1]))
    assert float(bets.difference) == pytest.approx(expected / (0.5 + weight))


def test_an_interval_is_where_neither_gambler_ever_owned_two_over_alpha():
    """At exactly that capital a mean is out; two streams at once; nothing out is the whole grid."""
    capital = Capital(np.array([0.0, 0.25, 0.5, 0.75, 1.0]), (2,))
    rich, poor = np.log(2 / 0.1), np.log(2 / 0.1) - 1e-9
    capital.add(
        np.array([[9.0, rich, poor, 0.0, 0.0], [poor, 0.0, 0.0, 0.0, 0.0]]),
        np.array([[0.0, 0.0, 0.0, poor, rich], [0.0, 0.0, rich, 9.0, 9.0]]),
        np.zeros((2, 5)),
    )
    capital.add(*np.full((3, 2, 5), -5.0))
    low, high = capital.interval(0.1)
    assert low == pytest.approx([0.25, 0.0])
    assert high == pytest.approx([1.0, 0.5])
    assert capital.at(0.75) == 3
    fresh = Capital(np.array([0.2, 0.8]), ())
    assert [float(end) for end in fresh.interval(0.1)] == [0.2, 0.8]


def _chance(k: int, n: int, p: float) -> float:
    from scipy.stats import binom  # noqa: PLC0415 - heavy, used here alone

    return float(binom.pmf(k, n, min(max(p, 0.0), 1.0)))


def _binary(good: int, n: int) -> Scores:
    return Scores(np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.array([float(n - good), float(good)]))


@pytest.mark.parametrize("shape", [(2.0, 2.0), (18.0, 2.0), (0.3, 0.3), (1.0, 30.0)])
def test_intervals_hold_at_all_looks_at_once(shape: tuple[float, float]):
    """2,000 streams of 300 scores, a look after each: at most 5 % ever miss the mean, and they get narrow."""
    rng = np.random.default_rng(7)
    runs, mean = 2000, shape[0] / sum(shape)
    points = np.array([mean])
    bets = MeanBets((runs,), alpha=0.05, points=points)
    for _ in range(300):
        values = rng.beta(*shape, size=(runs, 1))
        bets.update(Scores(values, values, np.ones((runs, 1))))
    rich = np.log(2 / 0.05)
    missed = (bets.capital.peak_above[:, 0] >= rich) | (bets.capital.peak_below[:, 0] >= rich)
    assert missed.sum() <= 2000 * 0.05 + 3 * np.sqrt(2000 * 0.05 * 0.95)
    one = MeanBets(alpha=0.05)
    for value in rng.beta(*shape, size=2000):
        one.update(exact(value))
    low, high = one.capital.interval(0.05)
    assert low < mean < high
    assert high - low < 0.13


def test_a_grid_only_ever_widens_the_interval():
    """At every look the interval from five points holds the one from a fine grid."""
    rng = np.random.default_rng(3)
    coarse, fine = MeanBets(alpha=0.05, points=np.linspace(0, 1, 6)), MeanBets(alpha=0.05, points=GRID)
    for value in rng.beta(8, 2, size=400):
        coarse.update(exact(value))
        fine.update(exact(value))
        (low, high), (inner_low, inner_high) = coarse.capital.interval(0.05), fine.capital.interval(0.05)
        assert low <= inner_low + 1e-12
        assert high >= inner_high - 1e-12
        assert low < high


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_capital_runs_steadily_along_the_grid(values: list[float]):
    """What excludes a mean excludes all beyond it: that is what makes rounding outward exact."""
    bets = MeanBets(alpha=0.05)
    for value in values:
        bets.update(exact(value))
    assert np.all(np.diff(bets.capital.above) <= 1e-12)
    assert np.all(np.diff(bets.capital.below) >= -1e-12)
    paired = DifferenceBets(alpha=0.05)
    for one, other in pairwise(values):
        paired.update(exact(one, other), exact(other))
    assert np.all(np.diff(paired.capital.above) <= 1e-12)
    assert np.all(np.diff(paired.capital.below) >= -1e-12)


def test_intervals_only_shrink_and_memory_does_not_grow():
    """The running intersection; the state has as many numbers after 10 intervals as after 500."""
    rng = np.random.default_rng(1)
    bets, sizes, before = MeanBets(alpha=0.05), set(), (0.0, 1.0)
    for _ in range(500):
        bets.update(exact(*rng.random(5)))
        now = bets.capital.interval(0.05)
        assert before[0] <= now[0] < now[1] <= before[1]
        before = now
        sizes.add(sum(np.asarray(v).size for v in vars(bets.capital).values()))
    assert len(sizes) == 1


def test_many_streams_at_once_are_each_what_they_are_alone():
    """The bench's arrays and the gate's single stream are the same numbers."""
    rng = np.random.default_rng(2)
    stream = rng.random((3, 20, 4))
    many, pairs = MeanBets((3,), alpha=0.05), DifferenceBets((3,), alpha=0.05)
    ones, alone = [MeanBets(alpha=0.05) for _ in range(3)], [DifferenceBets(alpha=0.05) for _ in range(3)]
    counts = np.ones((3, 4))
    for at in range(20):
        values = stream[:, at]
        many.update(Scores(values, values, counts))
        pairs.update(Scores(values, values, counts), Scores(values[::-1], values[::-1], counts))
        for row in range(3):
            ones[row].update(exact(*values[row]))
            alone[row].update(exact(*values[row]), exact(*values[2 - row]))
    for row in range(3):
        assert many.capital.above[row] == pytest.approx(ones[row].capital.above)
        assert pairs.capital.below[row] == pytest.approx(alone[row].capital.below)
        assert pairs.difference[row] == pytest.approx(float(alone[row].difference))


def score(arm: Arm, at: float, value: float, **changes: object) -> Evidence:
    """Return one interval's mean score, by the client."""
    return gauge("answer.quality", arm, at, value, source=Source.CLIENT, end_s=at + 1.0, **changes)


def tenths(arm: Arm, at: float, values: np.ndarray, **changes: object) -> Evidence:
    """Return one interval's scores in buckets of a tenth."""
    counts = np.bincount(np.clip(np.ceil(values * 10).astype(int) - 1, 0, 9), minlength=11)
    return Evidence(
        **{"kind": Kind.HISTOGRAM, "source": Source.CLIENT, "signal": "answer.quality", "arm": arm, "start_s": at,
           "end_s": at + 1.0, "stage": "50", "share": 0.5, "n": len(values), "bounds": TENTHS,
           "counts": tuple(int(c) for c in counts), **changes}
    )  # fmt: skip


def _gauges(seconds: int, mean_c: float, mean_b: float, seed: int = 1) -> Iterator[Evidence]:
    rng = np.random.default_rng(seed)
    for at in range(seconds):
        yield score(B, at, float(np.clip(rng.normal(mean_b, 0.1), 0, 1)))
        yield score(C, at, float(np.clip(rng.normal(mean_c, 0.1), 0, 1)))


@pytest.mark.parametrize(
    "mean_c, mean_b, status", [(0.85, 0.85, Status.PASS), (0.5, 0.85, Status.FAIL), (0.5, 0.55, Status.ERROR)]
)
def test_a_mean_score_against_a_number(mean_c: float, mean_b: float, status: Status):
    """A good one, a bad one, and one that the baseline misses too; 120 intervals of one score."""
    judgement = verdict_on(HIGH, list(_gauges(120, mean_c, mean_b)))
    assert judgement.status is status, judgement.reason
    assert judgement.estimate == pytest.approx(100 * mean_c, abs=3)
    assert judgement.interval is not None
    assert judgement.interval[0] < 100 * mean_c < judgement.interval[1]
    assert judgement.n == 120


def test_where_low_scores_are_good_everything_is_turned_round():
    """The mirror of a stream has the mirror of its judgement."""
    stream = list(_gauges(120, 0.85, 0.85))
    mirror = [score(record.arm, record.start_s, 1 - (record.value or 0.0)) for record in stream]
    high, low = verdict_on(HIGH, stream), verdict_on(LOW, mirror)
    assert (high.status, low.status) == (Status.PASS, Status.PASS)
    assert high.estimate == pytest.approx(100 - (low.estimate or 0))
    assert high.interval is not None
    assert low.interval == pytest.approx((100 - high.interval[1], 100 - high.interval[0]))
    assert verdict_on(LOW, stream).status is Status.ERROR


def test_few_scores_are_inconclusive_and_say_how_many_more_would_settle_it():
    """Ten scores."""
    judgement = verdict_on(HIGH, list(_gauges(10, 0.85, 0.85)))
    assert judgement.status is Status.INCONCLUSIVE
    assert judgement.needed
    assert f"about {judgement.needed} more scores" in judgement.reason


def _histograms(seconds: int, drop: float, *, drift: float = 0.0, n: int = 20) -> Iterator[Evidence]:
    rng = np.random.default_rng(5)
    for at in range(seconds):
        level = 0.8 - drift * at / seconds
        for arm, mean in ((B, level), (C, level - drop)):
            yield tenths(arm, at, np.clip(rng.normal(mean, 0.15, size=n), 0.001, 1))


@pytest.mark.parametrize("drift", [0.0, 0.4])
@pytest.mark.parametrize("drop, status", [(-0.1, Status.PASS), (0.25, Status.FAIL), (0.05, Status.INCONCLUSIVE)])
def test_scores_against_the_baseline_whatever_both_drift_by(drop: float, drift: float, status: Status):
    """Histograms of 20 scores, 60 intervals, margin 5 points: buckets of a tenth cost up to ten points."""
    judgement = verdict_on(PAIRED, list(_histograms(60, drop, drift=drift)))
    assert judgement.status is status, judgement.reason
    assert judgement.estimate == pytest.approx(-100 * drop, abs=3)
    assert judgement.n == 60 * 40


def test_single_scores_are_paired_by_their_interval():
    """Gauges of both arms, against the baseline."""
    assert verdict_on(PAIRED, list(_gauges(400, 0.85, 0.85))).status is Status.PASS
    assert verdict_on(PAIRED, list(_gauges(400, 0.65, 0.85))).status is Status.FAIL


def test_a_good_candidate_that_later_breaks_is_no_longer_passed():
    """Proof to pass is that of now, evidence to fail is kept."""
    good, bad = list(_gauges(60, 0.85, 0.85)), list(_gauges(120, 0.3, 0.85))
    later = [score(r.arm, r.start_s + 60, r.value or 0.0) for r in bad]
    assert verdict_on(HIGH, good).status is Status.PASS
    assert verdict_on(HIGH, good + later).status is Status.FAIL


def test_only_the_baselines_warm_up_is_used_and_nothing_else_of_unjudged_stages():
    """A candidate's warm-up at zero changes nothing."""
    stream = list(_gauges(60, 0.85, 0.85))
    early = [score(C, at - 100, 0.0, stage=stage) for at, stage in enumerate(("warmup", "", "smoke"))]
    assert verdict_on(HIGH, early + stream) == verdict_on(HIGH, stream)
    silent = verdict_on(PAIRED, [score(B, at, 0.9) for at in range(20)])
    assert silent.status is Status.INCONCLUSIVE
    assert "both arms" in silent.reason


@pytest.mark.parametrize(
    "record",
    [
        score(C, 500, 1.2), score(C, 500, -0.1), replace(score(C, 500, 0.5), arm=None),
        tenths(C, 500, np.array([0.5]), n=2, counts=(0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1)),
        tenths(C, 500, np.array([0.5]), bounds=tuple(10 * b for b in TENTHS)),
        Evidence(kind=Kind.EVENTS, source=Source.CLIENT, signal="answer.quality", arm=C, start_s=500, end_s=501,
                 stage="50", share=0.5, n=3, bad=1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("objective", [HIGH, PAIRED])
def test_what_is_no_score_is_an_error_and_never_passes(objective: Objective, record: Evidence):
    """After a stream that passes."""
    stream = list(_gauges(400, 0.9, 0.88))
    assert verdict_on(objective, stream).status is Status.PASS
    judgement = verdict_on(objective, [*stream, record])
    assert judgement.status is Status.ERROR
    assert "corrupt evidence" in judgement.reason


def test_buckets_that_change_during_the_run_are_an_error():
    """Tenths, then fifths."""
    other = tenths(C, 500, np.array([0.5]), bounds=TENTHS[1::2], counts=(0, 0, 1, 0, 0, 0))
    judgement = verdict_on(HIGH, [*_histograms(60, 0.0), other])
    assert judgement.status is Status.ERROR
    assert "bounds changed" in judgement.reason


@pytest.mark.parametrize(
    "unit, threshold, against",
    [("ms", 70, Against.NUMBER), ("%", 0, Against.NUMBER), ("%", 100, Against.NUMBER), ("%", 5, Against.BASELINE),
     ("points", 100, Against.BASELINE), ("points", -1, Against.BASELINE)],
)  # fmt: skip
def test_a_threshold_that_means_nothing_is_refused(unit: str, threshold: float, against: Against):
    """A wrong unit, or nothing left to hold."""
    objective = objective_of(Measure.SCORE, "answer.quality", threshold, unit, against=against)
    with pytest.raises(ValueError, match="objective it"):
        Judge([objective], plan_of())


def test_scores_take_their_part_of_alpha_and_show_their_threshold():
    """Two objectives of equal weight fail at half of alpha each; the judgement names the threshold."""
    judgement = verdict_on(HIGH, list(_gauges(60, 0.85, 0.85)))
    assert judgement.threshold == 70
    stream = list(_gauges(14, 0.3, 0.85))
    other = objective_of(Measure.RATIO, "q.error", 5, "%", id="other", weight=1e6)
    alone, shared = Judge([HIGH], plan_of()), Judge([HIGH, other], plan_of())
    for judge in (alone, shared):
        judge.observe(stream)
    assert alone.look(at=20, stage="50", final=False)[0].status is Status.FAIL
    assert shared.look(at=20, stage="50", final=False)[0].status is Status.INCONCLUSIVE


def test_a_plan_that_never_rolls_back_by_comparison_does_not_by_scores_either():
    """Twenty points worse than the baseline: a failure by any other plan, against a number by this one, too."""
    rng = np.random.default_rng(1)
    records = [
        gauge("answer.quality", arm, float(at), float(rng.uniform(0.7, 0.9)) - 0.2 * (arm is C), source=Source.CLIENT)
        for at in range(400)
        for arm in (B, C)
    ]
    absolute = plan_of(rollback_on=RollbackOn.ABSOLUTE)
    assert verdict_on(PAIRED, records).status is Status.FAIL
    assert verdict_on(PAIRED, records, plan=absolute).status is Status.INCONCLUSIVE
    assert verdict_on(HIGH, records, plan=absolute).status is Status.FAIL


PAIRED_LOW = replace(PAIRED, comparator="<=")


def _told(scores: list[float]) -> str:
    return f"{100 * np.mean(scores):.1f} % ({len(scores)} scores)"


def _mean_by_hand(objective: Objective, scores_c: list[float]) -> tuple[str, float, Capital]:
    """Return what is said of scores against a number, the limit inside, and the capital."""
    high = objective.comparator == ">="
    edge = objective.threshold / 100 if high else 1 - objective.threshold / 100
    bets = MeanBets(alpha=0.01, points=np.unique(np.append(GRID, edge)))
    for value in scores_c:
        bets.update(exact(value if high else 1 - value))
    return f"candidate's mean score {_told(scores_c)}", edge, bets.capital


def _difference_by_hand(
    objective: Objective, scores_c: list[float], scores_b: list[float], warm: tuple[float, ...] = ()
) -> tuple[str, float, Capital]:
    """Return the same against the baseline."""
    high = objective.comparator == ">="
    edge = -objective.threshold / 100
    bets = DifferenceBets(alpha=0.01, points=np.unique(np.append(DIFFERENCES, edge)))
    for value in warm:
        bets.learn(exact(value))
    for one, other in zip(scores_c, scores_b, strict=True):
        bets.update(exact(one if high else 1 - one), exact(other if high else 1 - other))
    gap = 100 * (np.mean(scores_c) - np.mean(scores_b))
    seen = f"candidate's mean score {_told(scores_c)} against the baseline's {_told(scores_b)} in the same intervals"
    return f"{seen}, {gap:+.2f} points", edge, bets.capital


@pytest.mark.parametrize(
    "objective, mean_c, mean_b, seconds, status",
    [(HIGH, 0.85, 0.85, 120, Status.PASS), (HIGH, 0.5, 0.85, 120, Status.FAIL), (HIGH, 0.5, 0.55, 120, Status.ERROR),
     (HIGH, 0.8, 0.8, 15, Status.INCONCLUSIVE), (HIGH, 0.66, 0.85, 15, Status.INCONCLUSIVE),
     (LOW, 0.15, 0.15, 120, Status.PASS), (LOW, 0.5, 0.15, 120, Status.FAIL), (LOW, 0.5, 0.55, 120, Status.ERROR),
     (LOW, 0.2, 0.2, 15, Status.INCONCLUSIVE), (LOW, 0.34, 0.2, 15, Status.INCONCLUSIVE),
     (PAIRED, 0.85, 0.85, 400, Status.PASS), (PAIRED, 0.65, 0.85, 400, Status.FAIL),
     (PAIRED, 0.85, 0.85, 60, Status.INCONCLUSIVE), (PAIRED, 0.76, 0.85, 60, Status.INCONCLUSIVE),
     (PAIRED_LOW, 0.2, 0.2, 400, Status.PASS), (PAIRED_LOW, 0.4, 0.2, 400, Status.FAIL),
     (PAIRED_LOW, 0.2, 0.2, 60, Status.INCONCLUSIVE), (PAIRED_LOW, 0.29, 0.2, 60, Status.INCONCLUSIVE)],
)  # fmt: skip
def test_a_judgement_of_scores_is_its_bets_in_words(
    objective: Objective, mean_c: float, mean_b: float, seconds: int, status: Status
):
    """Against a number and the baseline, high or low scores good: status, words, estimate, interval, needed."""
    stream = list(_gauges(seconds, mean_c, mean_b))
    scores_c, scores_b = ([r.value or 0.0 for r in stream if r.arm is arm] for arm in (C, B))
    paired, high = objective.against is Against.BASELINE, objective.comparator == ">="
    seen, edge, capital = (
        _difference_by_hand(objective, scores_c, scores_b) if paired else _mean_by_hand(objective, scores_c)
    )
    judgement = verdict_on(objective, stream)
    limit = f"margin {objective.threshold:g} points" if paired else f"limit {objective.threshold:g} %"
    proof, wanted = float(capital.above[capital.at(edge)]), -math.log(1 - 0.99)
    needed = math.ceil((wanted - proof) * seconds / proof) if proof > 0 and status is Status.INCONCLUSIVE else None
    rest = f"; about {needed} more scores of the candidate would settle it" if needed else ""
    words = {
        Status.PASS: f"{seen}: shown within the {limit}",
        Status.FAIL: f"{seen}: beyond the {limit}, beyond chance",
        Status.ERROR: f"{seen}, {limit}; the baseline misses it too, {_told(scores_b)}: "
        "the machine or the stack, not the release",
        Status.INCONCLUSIVE: f"{seen}: neither shown within nor beyond the {limit}{rest}",
    }[status]
    assert (judgement.status, judgement.reason, judgement.needed) == (status, words, needed)
    value = np.mean(scores_c) - np.mean(scores_b) if paired else np.mean(scores_c)
    assert judgement.estimate == pytest.approx(100 * value)
    ends = [float(end) if high else ((0.0 if paired else 1.0) - float(end)) for end in capital.interval(1 - 0.99)]
    assert judgement.interval == pytest.approx(tuple(100 * end for end in sorted(ends)))
    assert judgement.n == seconds * (1 + paired)


def test_the_baselines_warm_up_and_lone_scores_guide_the_stakes():
    """By the difference's own bets; nobody else's warm-up does, and no other stage."""
    pairs = list(_gauges(30, 0.85, 0.8))
    scores_c, scores_b = ([r.value or 0.0 for r in pairs if r.arm is arm] for arm in (C, B))

    def needed(*warm: float) -> int:
        _, edge, capital = _difference_by_hand(PAIRED, scores_c, scores_b, warm)
        proof = float(capital.above[capital.at(edge)])
        return math.ceil((-math.log(1 - 0.99) - proof) * 30 / proof)

    warm = [score(B, at - 100.0, value, stage="warmup") for at, value in enumerate((0.9, 0.95))]
    others = [score(C, -80.0, 0.1, stage="warmup"), score(B, -70.0, 0.1, stage="smoke"), score(B, -60.0, 0.1, stage="")]
    assert len({needed(), needed(0.9), needed(0.9, 0.95)}) == 3
    assert verdict_on(PAIRED, warm + others + pairs).needed == needed(0.9, 0.95)
    # Of 65 that wait the oldest is handed back: the baseline's guides, the candidate's does not.
    lone = [score(arm, at + 1000.0 * (arm is C) - 3000, 0.9) for arm in (B, C) for at in range(65)]
    swapped = [pairs[index ^ 1] for index in range(len(pairs))]  # the baseline's meet their partners, none waits
    assert verdict_on(PAIRED, lone + swapped).needed == needed(0.9)


@pytest.mark.parametrize("arm", [B, C])
def test_an_interval_in_which_one_arm_was_not_scored_counts_for_nothing(arm: Arm):
    """An empty histogram beside a full one."""
    stream = list(_histograms(30, 0.0))
    empty = tenths(arm, 100, np.array([]))
    full = tenths(C if arm is B else B, 100, np.array([0.05] * 20))
    assert verdict_on(PAIRED, [*stream, empty, full]) == verdict_on(PAIRED, stream)


@pytest.mark.parametrize(
    "objective, what", [(HIGH, "no score of the candidate"), (PAIRED, "no interval in which both arms were scored")]
)
def test_without_scores_nothing_is_said_at_the_last_look_either(objective: Objective, what: str):
    """No evidence is no error of the release."""
    judgement = verdict_on(objective, [score(B, 0, 0.5)], final=True)
    hint = "are there requests of the load whose path begins with the score's `requests`?"
    said = (judgement.status, judgement.reason)
    assert said == (Status.INCONCLUSIVE, f"no evidence: {what} in a judged stage; {hint}")
    scraped = verdict_on(
        replace(objective, sources=(Source.PROMETHEUS,)),
        [replace(score(B, 0, 0.5), source=Source.PROMETHEUS)],
        final=True,
    )
    assert hint not in scraped.reason


@pytest.mark.parametrize("changes", [{"value": 0.5}, {"bounds": TENTHS, "counts": (0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0)}])
def test_counted_events_are_no_scores_whatever_else_they_hold(changes: dict[str, object]):
    """A value, or buckets."""
    gate = Gating(mode=RollbackOn.EXCESS, calibration=None, why="")
    trial = QualityTrial(
        Terms(objective=HIGH, plan=plan_of(), source=Source.CLIENT, threshold=70, alpha=0.01, gating=gate)
    )
    record = Evidence(
        **{"kind": Kind.EVENTS, "source": Source.CLIENT, "signal": "q", "arm": C, "start_s": 0.0, "end_s": 1.0,
           "stage": "50", "n": 1, **changes}
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"^q: a score is a gauge or a histogram, found events$"):
        trial.observe(record)


def test_a_score_a_rounding_error_above_one_is_one():
    """A billionth; not two."""
    stream = list(_gauges(60, 0.85, 0.85))
    assert verdict_on(HIGH, [*stream, score(C, 500, 1 + 1e-9)]).status is Status.PASS
    assert verdict_on(HIGH, [*stream, score(C, 500, 1 + 2e-9)]).status is Status.ERROR


@pytest.mark.parametrize("objective, fallen", [(HIGH, 0.5), (PAIRED, 0.5), (PAIRED, 0.8)])
def test_scores_that_fall_in_the_newest_stage_are_not_passed_on_what_came_before(objective: Objective, fallen: float):
    """400 good seconds, then 60 of another stage; scores that stay pass there."""
    good = list(_gauges(400, 0.9, 0.9))
    for mean, passes in ((0.9, True), (fallen, False)):
        late = [
            replace(r, start_s=r.start_s + 400, end_s=r.end_s + 400, stage="100") for r in _gauges(60, mean, 0.9, 2)
        ]
        judgement = verdict_on(objective, [*good, *late])
        assert (judgement.status is Status.PASS) is passes, judgement.reason
        assert judgement.needed is None or judgement.needed > 0


def test_a_histogram_whose_top_is_not_that_of_the_scale_is_an_error_of_its_scale():
    """0 to 5 stars taken for 0 to 50: a margin of 5 points would be one of 50."""
    short = tuple(bound / 10 for bound in TENTHS)
    judgement = verdict_on(
        PAIRED, [tenths(arm, at, np.array([0.9]), bounds=short) for at in range(9) for arm in (B, C)]
    )
    assert judgement.status is Status.ERROR
    assert "the last bound is 0.1, expected 1, the top of the scale" in judgement.reason


@pytest.mark.parametrize("threshold, against", [(0, Against.BASELINE), (99, Against.BASELINE), (0.5, Against.NUMBER)])
def test_the_least_that_a_threshold_may_be_is_held(threshold: float, against: Against):
    """No margin at all, nearly the whole scale, or half a percent of it."""
    unit = "points" if against is Against.BASELINE else "%"
    objective = objective_of(Measure.SCORE, "answer.quality", threshold, unit, against=against)
    assert verdict_on(objective, list(_gauges(10, 0.5, 0.5))).threshold == threshold


@pytest.mark.parametrize(
    "objective, usual, values, late",
    [(HIGH, 0.9, (0.6, 0.62), "61.0 % (2 scores)"), (HIGH, 0.9, (0.7, 0.7), ""),
     (LOW, 0.1, (0.4, 0.42), "41.0 % (2 scores)"), (PAIRED, 0.9, (0.8, 0.82), "-9.00 points"),
     (PAIRED, 0.9, (0.86, 0.86), ""), (PAIRED_LOW, 0.1, (0.2, 0.22), "+11.00 points")],
)  # fmt: skip
def test_scores_that_are_bad_in_the_newest_stage_alone_are_held_in_words(
    objective: Objective, usual: float, values: tuple[float, float], late: str
):
    """Two scores beyond the threshold after 300 good ones, or at it; a stage in which only the baseline was scored."""
    rng = np.random.default_rng(2)
    good = [score(arm, at, float(rng.normal(usual, 0.02))) for at in range(300) for arm in (B, C)]
    last = [score(arm, 300 + at, value if arm is C else usual, stage="100")
            for at, value in enumerate(values) for arm in (B, C)]  # fmt: skip
    judgement = verdict_on(objective, good + last)
    assert judgement.status is (Status.INCONCLUSIVE if late else Status.PASS), judgement.reason
    limit = f"{objective.threshold:g}" + (" points" if objective.against is Against.BASELINE else " %")
    assert (f"{limit} over all, but {late} in stage 100 alone" in judgement.reason) is bool(late)
    silent = verdict_on(objective, good + [record for record in last if record.arm is B])
    assert silent.status is Status.PASS


def _hidden(first: int, usual: float = 0.85) -> Iterator[Evidence]:
    """Yield two stages of 60 intervals of 20 answers; the candidate's show no score from the `first` interval on."""
    for at in range(120):
        stage = "50" if at < 60 else "100"
        yield tenths(B, at, np.full(20, usual), stage=stage)
        if at < first:
            yield tenths(C, at, np.full(20, usual), stage=stage)
        else:
            note = "20 of 20 answers without a score"
            yield tenths(C, at, np.empty(0), n=20, counts=(*(0,) * 10, 20), stage=stage, note=note)


TWO_STAGES = plan_of(stages=tuple(Stage(id=s, share=float(s), min_bake_s=5.0, max_bake_s=60.0) for s in ("50", "100")))
PAIRED_20 = objective_of(Measure.SCORE, "answer.quality", 20, "points", comparator=">=", against=Against.BASELINE)
PAIRED_20_LOW = objective_of(Measure.SCORE, "answer.quality", 20, "points", against=Against.BASELINE)


@pytest.mark.parametrize("objective, usual", [(HIGH, 0.85), (PAIRED_20, 0.85), (LOW, 0.15), (PAIRED_20_LOW, 0.15)])
def test_a_candidate_that_hides_its_scores_is_as_bad_as_one_with_the_worst(objective: Objective, usual: float):
    """All answers of its second stage, whichever end of the scale is the good one; with all shown it passes."""
    assert verdict_on(objective, list(_hidden(120, usual)), plan=TWO_STAGES).status is Status.PASS
    judgement = verdict_on(objective, list(_hidden(60, usual)), plan=TWO_STAGES)
    assert judgement.status is Status.FAIL, judgement.reason
    assert "1200 of them unreadable and taken as the worst (20 of 20 answers without a score)" in judgement.reason
    worst = 0.0 if objective.comparator == ">=" else 1.0
    level = usual if objective.against is Against.BASELINE else 0.0
    assert (judgement.estimate or 0) == pytest.approx(100 * ((worst + usual) / 2 - level), abs=4)


def test_hidden_scores_are_no_releases_fault_where_the_baselines_are_hidden_or_not_seen():
    """The same candidate against a number: beside a baseline that hides most scores, and without any baseline."""
    stream = list(_hidden(60))
    blind = tenths(B, 130, np.empty(0), n=9999, counts=(*(0,) * 10, 9999), note="all answers without a score")
    for records, words in (
        ([*stream, blind], "9999 answers of the baseline cannot be read (all answers without a score), more than can"),
        ([record for record in stream if record.arm is C], "no score of the baseline shows"),
    ):
        judgement = verdict_on(HIGH, records, plan=TWO_STAGES)
        assert judgement.status is Status.ERROR, judgement.reason
        assert words in judgement.reason


@pytest.mark.parametrize("objective", [HIGH, PAIRED_20])
@pytest.mark.parametrize("arm, stage", [(B, "warmup"), (C, "warmup"), (B, "smoke"), (C, ""), (None, "")])
def test_scores_that_cannot_be_read_in_unjudged_stages_count_for_nothing(
    objective: Objective, arm: Arm | None, stage: str
):
    """One such answer before a stream that passes."""
    stream = [tenths(who, at, np.full(20, 0.95)) for at in range(120) for who in (B, C)]
    early = tenths(B, -100, np.empty(0), n=1, counts=(*(0,) * 10, 1), stage=stage)
    assert verdict_on(objective, stream).status is Status.PASS
    assert verdict_on(objective, [replace(early, arm=arm), *stream]) == verdict_on(objective, stream)


@pytest.mark.parametrize(
    "comparator, good, bad", [(">", 0.9, 0.5), (">=", 0.9, 0.5), ("<", 0.1, 0.5), ("<=", 0.1, 0.5)]
)
def test_each_comparator_says_which_end_is_good(comparator: str, good: float, bad: float):
    """The limit is 70 % where high is good and 30 % where low is; the baseline is always good."""
    objective = replace(HIGH, comparator=comparator, threshold=70 if ">" in comparator else 30)
    for value, status in ((good, Status.PASS), (bad, Status.FAIL)):
        records = [score(arm, at, value if arm is C else good) for at in range(300) for arm in (B, C)]
        assert verdict_on(objective, records).status is status


@pytest.mark.parametrize("value, status", [(0.7079, Status.PASS), (0.7019, Status.FAIL)])
def test_a_limit_between_two_points_of_the_grid_is_held_itself(value: float, status: Status):
    """70.49 %, and a candidate that always scores a little more or less; the baseline scores more."""
    records = [score(arm, at, value if arm is C else 0.9) for at in range(4_000) for arm in (B, C)]
    assert verdict_on(replace(HIGH, threshold=70.49), records).status is status


@pytest.mark.parametrize("drop, status", [(0.0519, Status.PASS), (0.0579, Status.FAIL)])
def test_a_margin_between_two_points_of_the_grid_is_held_itself(drop: float, status: Status):
    """5.49 points, and a candidate that is always a little nearer or farther."""
    records = [score(arm, at, 0.8 - drop if arm is C else 0.8) for at in range(4_000) for arm in (B, C)]
    assert verdict_on(replace(PAIRED, threshold=5.49), records).status is status


@pytest.mark.parametrize("margin, status", [(5, Status.INCONCLUSIVE), (20, Status.PASS)])
def test_what_the_baseline_hides_may_have_been_any_score(margin: float, status: Status):
    """Half of its scores: with those its mean lies between 42.5 and 92.5 %, the candidate's is 85 %."""
    hidden = {"n": 20, "counts": (*(0,) * 8, 10, 0, 10)}
    stream = [tenths(arm, at, np.full(20, 0.85), **(hidden if arm is B else {})) for at in range(400) for arm in (B, C)]
    judgement = verdict_on(replace(PAIRED, threshold=margin), stream)
    assert judgement.status is status, judgement.reason


def test_why_scores_are_hidden_is_told_by_the_records_that_hide_them():
    """A note of a record that hides nothing is none; and where there is no note, nothing is added."""
    hidden = {"n": 20, "counts": (*(0,) * 10, 20)}
    stream = [tenths(arm, at, np.full(20, 0.85), note="all well") for at in range(60) for arm in (B, C)]
    for at in range(60, 200):
        stream += [tenths(B, at, np.full(20, 0.85)), tenths(C, at, np.empty(0), **hidden)]
    reason = verdict_on(HIGH, stream).reason
    seen = "candidate's mean score 25.5 % (4000 scores), 2800 of them unreadable and taken as the worst"
    assert reason == f"{seen}: beyond the limit 70 %, beyond chance"


def test_a_baseline_right_at_the_limit_does_not_miss_it():
    """75 %, of which the candidate's 50 % is the release's failure."""
    records = [score(arm, at, 0.5 if arm is C else 0.75) for at in range(300) for arm in (B, C)]
    assert verdict_on(replace(HIGH, threshold=75), records).status is Status.FAIL


@pytest.mark.parametrize("objective", [HIGH, PAIRED_20])
@pytest.mark.parametrize("before", [0, 10, 60, 600])
def test_a_long_good_past_hides_no_break_within_a_stage(objective: Objective, before: int):
    """All scores are .85, then all of the candidate's are 0: ten intervals are enough, however late it breaks."""
    records = [tenths(arm, at, np.full(20, 0.85)) for at in range(before) for arm in (B, C)]
    if before:
        assert verdict_on(objective, records).status is not Status.FAIL
    for at in range(before, before + 10):
        records += [tenths(B, at, np.full(20, 0.85)), tenths(C, at, np.zeros(20))]
    assert verdict_on(objective, records).status is Status.FAIL


@pytest.mark.parametrize("fallen, status", [(0.2, Status.ERROR), (0.85, Status.FAIL)])
def test_scores_that_fall_on_both_arms_at_once_are_not_the_releases(fallen: float, status: Status):
    """After a good minute all scores of the candidate are .2, those of the baseline as well, or still .85."""
    records = [tenths(arm, at, np.full(20, 0.85)) for at in range(60) for arm in (B, C)]
    for at in range(60, 75):
        records += [tenths(B, at, np.full(20, fallen)), tenths(C, at, np.full(20, 0.2))]
    judgement = verdict_on(HIGH, records)
    assert (judgement.status, "the machine or the stack" in judgement.reason) == (status, status is Status.ERROR)
