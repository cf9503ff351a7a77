"""The judge's numbers against other people's code, closed forms, and sums over every possible outcome."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from judge_streams import events, latencies, objective_of, plan_of, verdict_on
from scipy import integrate, optimize, stats

from harness.judge import Judge
from harness.judge.assignment import misrouting
from harness.judge.bets import CAP, Counts, Excess, PastRate, Within, log_mean_exp, nearest
from harness.judge.binomial import (
    at_least,
    at_most,
    log_evidence_above,
    log_evidence_below,
    lower_bound,
    needed_to_pass,
    newcombe,
    student_quantile,
    upper_bound,
    wilson,
)
from harness.judge.blocks import BlockContest
from harness.judge.contest import NOMINAL, SCORES, BinaryContest, OrdinalContest, classes, combine, falling, shifted
from harness.judge.dispersion import LongRunVariance, PastShares, binary_score, ordinal_score, tempering
from harness.judge.finding import Finding, Look, Terms
from harness.judge.gating import Gating
from harness.judge.ratio import RatioTrial, Standardised, more_to_reach
from harness.model.calibration import Calibration, Dispersion
from harness.model.evidence import Arm, Evidence, Kind, Source
from harness.model.objective import Against, Measure
from harness.model.plan import RollbackOn
from harness.model.status import Status

pytestmark = pytest.mark.selftest

COUNTS = [(0, 1), (0, 37), (1, 1), (1, 60), (3, 50), (49, 50), (50, 50), (120, 4000), (999, 2000)]


@pytest.mark.parametrize("bad, n", COUNTS)
@pytest.mark.parametrize("confidence", [0.9, 0.99, 0.9999])
def test_bounds_of_a_share_are_scipys_exact_ones(bad: int, n: int, confidence: float):
    """One-sided at a level is one end of the two-sided interval at twice the error; and the Beta quantiles."""
    both = stats.binomtest(bad, n).proportion_ci(1 - 2 * (1 - confidence), "exact")
    assert lower_bound(bad, n, confidence) == pytest.approx(both.low, rel=1e-6, abs=1e-12)
    assert upper_bound(bad, n, confidence) == pytest.approx(both.high, rel=1e-6, abs=1e-12)
    if 0 < bad < n:
        assert upper_bound(bad, n, confidence) == pytest.approx(stats.beta.ppf(confidence, bad + 1, n - bad))
        assert lower_bound(bad, n, confidence) == pytest.approx(stats.beta.ppf(1 - confidence, bad, n - bad + 1))


@pytest.mark.parametrize("bad, n", COUNTS)
@pytest.mark.parametrize("confidence", [0.8, 0.99])
def test_wilsons_interval_is_scipys(bad: int, n: int, confidence: float):
    """Without continuity correction."""
    theirs = stats.binomtest(bad, n).proportion_ci(confidence, "wilson")
    assert wilson(bad / n, n, confidence) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert wilson(0.5, 0, confidence) == (0.0, 1.0)


def test_newcombes_interval_is_the_published_one():
    """Newcombe 1998, table II: 56 of 70 against 48 of 80 at 95 %, and 9 of 10 against 3 of 10; its square-and-add."""
    assert newcombe((56 / 70, 70), (48 / 80, 80), 0.95) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert newcombe((9 / 10, 10), (3 / 10, 10), 0.95) == pytest.approx((0.1705, 0.8090), abs=5e-5)
    assert newcombe((10 / 10, 10), (0.0, 20), 0.95) == pytest.approx((0.6791, 1.0), abs=5e-5)


@pytest.mark.parametrize("bad, n, share", [(3, 50, 0.05), (0, 20, 0.01), (20, 20, 0.9), (7, 100, 0.07)])
def test_tails_of_the_binomial_and_students_t_are_scipys(bad: int, n: int, share: float):
    """Whole arrays at once."""
    counts = np.array([bad, 0.0])
    assert at_most(counts, n, share) == pytest.approx(stats.binom.cdf(counts, n, share))
    assert at_least(counts, n, share) == pytest.approx(stats.binom.sf(counts - 1, n, share))
    assert student_quantile(share, n) == pytest.approx(stats.t.ppf(share, n))


@pytest.mark.parametrize("limit", [0.001, 0.01, 0.05, 0.3, 0.6])
@pytest.mark.parametrize("bad, n", [(1, 1), (2, 5), (30, 200), (400, 600)])
def test_evidence_above_a_limit_is_the_integral_that_it_claims_to_be(bad: int, n: int, limit: float):
    """The Beta prior cut off at the limit, integrated numerically over the likelihood ratio."""
    if bad <= n * limit:
        assert log_evidence_above(bad, n, limit) == -math.inf
        return
    b = max(1.0, 0.25 / limit - 1)

    def logs(p: float) -> float:
        ratio = bad * math.log(p / limit) + (n - bad) * (math.log1p(-p) - math.log1p(-limit))
        return ratio + float(stats.beta.logpdf(p, 1.0, b) - stats.beta.logsf(limit, 1.0, b))

    top = min(max(bad / (b + n - 1), limit + 1e-6), 0.999)
    spread = math.sqrt(top * (1 - top) / (n + b))
    points = [p for p in (top - 3 * spread, top, top + 3 * spread) if limit < p < 1]
    value, _ = integrate.quad(lambda p: math.exp(logs(p) - logs(top)), limit, 1 - 1e-12, points=points, limit=400)
    assert log_evidence_above(bad, n, limit) == pytest.approx(math.log(value) + logs(top), abs=1e-6)


def test_evidence_at_the_limit_or_about_no_limit_is_none_or_certain():
    """Exactly at the limit nothing speaks above it; above nothing at all a single bad one is proof."""
    assert log_evidence_above(1, 20, 0.05) == -math.inf
    assert log_evidence_above(0, 0, 0.05) == -math.inf
    assert log_evidence_above(1, 20, 0.0) == math.inf
    assert log_evidence_above(20, 20, 1.0) == -math.inf
    assert log_evidence_below(1, 20, 0.05) == -math.inf
    assert log_evidence_below(0, 20, 1.0) == -math.inf
    assert log_evidence_below(0, 0, 0.05) == -math.inf
    assert log_evidence_below(0, 20, 0.0) == -math.inf


@pytest.mark.parametrize("limit, level", [(0.05, 0.05), (0.05, 0.03), (0.3, 0.3), (0.5, 0.45)])
@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.01])
def test_the_chance_of_ever_alarming_at_the_limit_is_at_most_alpha(limit: float, level: float, alpha: float):
    """Exactly, for 250 looks: all streams of that length, grouped by their counts, alarms taken out as they come."""
    alive, alarmed = np.array([1.0]), 0.0
    for n in range(1, 251):
        alive = np.append(alive * (1 - level), 0.0) + np.append(0.0, alive * level)
        rich = np.array([log_evidence_above(bad, n, limit) >= -math.log(alpha) for bad in range(n + 1)])
        alarmed += float(alive[rich].sum())
        alive[rich] = 0.0
    assert 0 < alarmed <= alpha
    assert alarmed + alive.sum() == pytest.approx(1)


@pytest.mark.parametrize("bad, n, limit", [(0, 40, 0.05), (1, 90, 0.05), (3, 400, 0.02), (0, 1, 0.1), (5, 40, 0.4)])
def test_evidence_below_a_limit_is_its_integral(bad: int, n: int, limit: float):
    """The truncated Beta mixture, by numbers."""
    b = max(1.0, 0.5 / limit)

    def prior(share: float) -> float:
        return share ** (0.5 - 1) * (1 - share) ** (b - 1)

    def likelihood(share: float) -> float:
        return (share / limit) ** bad * ((1 - share) / (1 - limit)) ** (n - bad)

    top = integrate.quad(lambda x: 2 * x * prior(x * x) * likelihood(x * x), 0, math.sqrt(limit))[0]
    bottom = integrate.quad(lambda x: 2 * x * prior(x * x), 0, math.sqrt(limit))[0]
    assert log_evidence_below(bad, n, limit) == pytest.approx(math.log(top / bottom), rel=1e-6)
    assert log_evidence_below(bad + n, n + bad, limit) == -math.inf


def test_the_requests_needed_to_pass_are_the_fewest():
    """One fewer does not pass; a rate at the limit never will."""
    for bad, n in ((0, 0), (0, 50), (1, 100)):
        more = needed_to_pass(bad, n, 0.05, 0.99)
        assert more is not None
        rate = bad / n if n else 0.0

        def proven(extra: int, bad: int = bad, n: int = n, rate: float = rate) -> bool:
            return log_evidence_below(math.floor(bad + rate * extra), n + extra, 0.05) >= math.log(100)

        assert proven(more)
        assert more > 100 or not proven(more - 1)
    assert needed_to_pass(5, 100, 0.05, 0.99) is None


@pytest.mark.parametrize("margin", [0.001, 0.02, 0.2])
@pytest.mark.parametrize("weight", [0.02, 0.5, 0.9])
@pytest.mark.parametrize("p_c, p_b", [(0.06, 0.01), (0.001, 0.01), (0.5, 0.45), (0.9, 0.3), (0.01, 0.6)])
def test_the_nearest_null_is_what_a_minimiser_finds(p_c: float, p_b: float, weight: float, margin: float):
    """The weighted divergence from (p_c, p_b) to (q + margin, q), by scipy over q."""

    def divergence(q: float) -> float:
        pairs = ((weight, p_c, q + margin), (1 - weight, p_b, q))
        return sum(w * (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))) for w, p, q in pairs)

    found = optimize.minimize_scalar(
        divergence, bounds=(1e-9, 1 - margin - 1e-9), method="bounded", options={"xatol": 1e-12}
    )
    q_c, q_b = nearest(np.array([p_c]), np.array([p_b]), np.array([weight]), np.array([margin]))
    assert q_c[0] - q_b[0] == pytest.approx(margin)
    assert divergence(float(q_b[0])) <= found.fun + 1e-13
    slope = weight * (q_c - p_c) / (q_c * (1 - q_c)) + (1 - weight) * (q_b - p_b) / (q_b * (1 - q_b))
    assert slope[0] == pytest.approx(0, abs=1e-9)


def test_without_units_or_on_one_arm_alone_the_nearest_null_costs_nothing_or_explains_it():
    """No units: evidence 0. Only the candidate served: the null takes the candidate's own share."""
    one, other = np.array([0.3]), np.array([0.1])
    assert Counts(0, 0, 0, 0).log_e(one, other, 0.05) == pytest.approx([0.0])
    assert Counts(1, 1, 0, 0).log_e(one, other, 0.05) == pytest.approx([0.0], abs=1e-9)
    assert Counts(1, 1, 0, 0).log_e(one, other, 0.0) == pytest.approx([0.0], abs=1e-9)
    assert Counts(5, 10, 0, 0).log_e(one, other, 0.05) == pytest.approx([0.0], abs=1e-9)
    assert Counts(0, 0, 5, 10).log_e(one, other, 0.05) == pytest.approx([0.0], abs=1e-9)


def _pairs(n_c: int, n_b: int, share_c: float, share_b: float) -> Iterator[tuple[int, int, float]]:
    """Yield every outcome of one interval with its chance."""
    for bad_c, bad_b in product(range(n_c + 1), range(n_b + 1)):
        yield bad_c, bad_b, float(stats.binom.pmf(bad_c, n_c, share_c) * stats.binom.pmf(bad_b, n_b, share_b))


@pytest.mark.parametrize("phi", [1.0, 3.0])
@pytest.mark.parametrize("n_c, n_b", [(1, 1), (3, 12), (8, 4)])
@pytest.mark.parametrize("share", [0.0, 0.002, 0.01, 0.1, 0.5, 0.95, 1.0])
def test_a_contest_of_equal_shares_gains_nothing_on_average(share: float, n_c: int, n_b: int, phi: float):
    """Exactly, whatever was predicted; two intervals are products of such means, so their mean is at most 1 too."""
    for predicted in (0.001, 0.05, 0.6):
        mean = 0.0
        for bad_c, bad_b, chance in _pairs(n_c, n_b, share, share):
            contest = BinaryContest()
            contest.update(Counts(bad_c, n_c, bad_b, n_b), p_b=np.asarray(predicted), phi=phi)
            mean += chance * math.exp(float(contest.log_e))
        assert mean <= 1 + 1e-12


def test_a_contest_of_unequal_shares_gains_and_is_directed():
    """The planted opposite: the worse candidate's mean is above 1, a better candidate's below."""
    means = []
    for share_c, share_b in ((0.5, 0.1), (0.1, 0.5)):
        mean = 0.0
        for bad_c, bad_b, chance in _pairs(8, 8, share_c, share_b):
            contest = BinaryContest()
            contest.update(Counts(bad_c, 8, bad_b, 8), p_b=np.asarray(0.1))
            mean += chance * math.exp(float(contest.log_e))
        means.append(mean)
    assert means[0] > 1.5
    assert means[1] < 1


def test_a_contest_is_its_formula():
    """One interval by hand: the average over bets of the likelihood ratio, tempered and capped."""
    predicted, bad_c, n_c, bad_b, n_b, phi = 0.02, 4, 50, 1, 60, 1.3
    total = 0.0
    for multiple, weight in zip((2.0, 3.0, 5.0), (0.5, 0.25, 0.25), strict=True):
        odds = multiple * predicted / (1 - predicted)
        p_c = odds / (1 + odds)
        common = (n_c * p_c + n_b * predicted) / (n_c + n_b)
        log_e = bad_c * math.log(p_c / common) + (n_c - bad_c) * math.log((1 - p_c) / (1 - common))
        log_e += bad_b * math.log(predicted / common) + (n_b - bad_b) * math.log((1 - predicted) / (1 - common))
        total += weight * math.exp(min(log_e / phi, 1.5))
    contest = BinaryContest()
    contest.update(Counts(bad_c, n_c, bad_b, n_b), p_b=np.asarray(predicted), phi=phi)
    assert float(contest.log_e) == pytest.approx(math.log(total), rel=1e-12)
    one = BinaryContest(bets=((2.3,), (1.0,)))
    one.update(Counts(bad_c, n_c, bad_b, n_b), p_b=np.asarray(predicted))
    first = float(one.log_e)
    one.update(Counts(bad_c, n_c, bad_b, n_b), p_b=np.asarray(predicted), phi=1.0)
    assert float(one.log_e) == pytest.approx(2 * first, rel=1e-12)
    for _ in range(2):
        contest.update(Counts(50, 50, 0, 60), p_b=np.asarray(predicted))
    assert float(contest.log_e) <= math.log(total) + 2 * CAP + 1e-12
    assert CAP == 1.5


def _compositions(n: int, parts: int) -> Iterator[tuple[int, ...]]:
    if parts == 1:
        yield (n,)
        return
    for first in range(n + 1):
        for rest in _compositions(n - first, parts - 1):
            yield (first, *rest)


@pytest.mark.parametrize("phi", [1.0, 2.5])
@pytest.mark.parametrize("truth", [(0.5, 0.4, 0.09, 0.01), (0.1, 0.1, 0.1, 0.7), (0.97, 0.03, 0.0, 0.0)])
@pytest.mark.parametrize("predicted", [(0.5, 0.1, 0.01), (0.9, 0.5, 0.4)])
def test_an_ordinal_contest_of_equal_latencies_gains_nothing_on_average(
    predicted: Sequence[float], truth: Sequence[float], phi: float
):
    """Exactly, over all splits of three and four latencies into the classes, for any common law."""
    exceed, mean = np.array(predicted), 0.0
    for counts_c, counts_b in product(_compositions(3, 4), _compositions(4, 4)):
        chance = stats.multinomial.pmf(counts_c, 3, truth) * stats.multinomial.pmf(counts_b, 4, truth)
        if chance > 0:
            contest = OrdinalContest()
            contest.update(np.array(counts_c, dtype=float), np.array(counts_b, dtype=float), exceed=exceed, phi=phi)
            mean += float(chance) * math.exp(float(contest.log_e))
    assert mean <= 1 + 1e-9


def test_an_ordinal_contest_is_its_formula_and_finds_what_is_slower():
    """By hand for one shift; slower latencies gain, faster ones lose."""
    exceed, shift = np.array([0.5, 0.1, 0.01]), 0.25
    p_b = np.array([0.5, 0.4, 0.09, 0.01])
    above = stats.norm.cdf(stats.norm.ppf(exceed) + shift)
    p_c = -np.diff(np.concatenate([[1.0], above, [0.0]]))
    counts_c, counts_b = np.array([20.0, 25.0, 8.0, 2.0]), np.array([55.0, 42.0, 12.0, 1.0])
    n_c, n_b = counts_c.sum(), counts_b.sum()
    common = (n_c * p_c + n_b * p_b) / (n_c + n_b)
    expected = (counts_c * np.log(p_c / common)).sum() + (counts_b * np.log(p_b / common)).sum()
    one = OrdinalContest(bets=((shift,), (1.0,)))
    one.update(counts_c, counts_b, exceed=exceed, phi=2.0)
    assert float(one.log_e) == pytest.approx(min(expected / 2, CAP), rel=1e-9)
    one.update(counts_c, counts_b, exceed=exceed)
    assert float(one.log_e) == pytest.approx(min(expected / 2, CAP) + min(expected, CAP), rel=1e-9)
    slower, faster = OrdinalContest(), OrdinalContest()
    slower.update(counts_c, counts_b, exceed=exceed)
    faster.update(counts_b, 2 * counts_c, exceed=exceed)
    assert float(slower.log_e) > 0 > float(faster.log_e)


def test_an_ordinal_contest_without_two_arms_says_nothing():
    """Nobody served; one latency on one arm, which the null explains as well."""
    exceed = np.array([0.9, 0.5, 0.4])
    for counts_c, counts_b in (
        ((0, 0, 0, 0), (0, 0, 0, 0)),
        ((0, 0, 0, 1), (0, 0, 0, 0)),
        ((0, 0, 0, 0), (1, 0, 0, 0)),
    ):
        contest = OrdinalContest()
        contest.update(np.array(counts_c, dtype=float), np.array(counts_b, dtype=float), exceed=exceed)
        assert float(contest.log_e) == pytest.approx(0.0, abs=1e-12)


def test_contests_of_many_rollouts_are_each_what_they_are_alone():
    """Shares, classes and blocks, in arrays of six."""
    rng = np.random.default_rng(8)
    exceed = np.array([0.5, 0.1, 0.01])
    many, ones = OrdinalContest((6,)), [OrdinalContest() for _ in range(6)]
    binary, singles = BinaryContest((6,)), [BinaryContest() for _ in range(6)]
    blocks, alone = BlockContest((6,), intervals=2), [BlockContest(intervals=2) for _ in range(6)]
    for _ in range(6):
        counts_c = rng.multinomial(20, [0.4, 0.4, 0.15, 0.05], size=6).astype(float)
        counts_b = rng.multinomial(30, [0.5, 0.4, 0.09, 0.01], size=6).astype(float)
        share = rng.uniform(0.01, 0.2, 6)
        many.update(counts_c, counts_b, exceed=np.tile(exceed, (6, 1)), phi=np.full(6, 1.2))
        both = Counts(counts_c[:, 3], 20, counts_b[:, 3], 30)
        binary.update(both, p_b=share, phi=1.2)
        blocks.update(both)
        for row in range(6):
            ones[row].update(counts_c[row], counts_b[row], exceed=exceed, phi=1.2)
            single = Counts(counts_c[row, 3], 20, counts_b[row, 3], 30)
            singles[row].update(single, p_b=share[row], phi=1.2)
            alone[row].update(single)
    assert many.log_e == pytest.approx([float(one.log_e) for one in ones])
    assert binary.log_e == pytest.approx([float(one.log_e) for one in singles])
    assert blocks.log_e == pytest.approx([float(one.log_e) for one in alone])
    spread = BlockContest((3,), intervals=1)
    spread.update(Counts(3, 10, 0, 30))
    assert spread.log_e.shape == (3,)


def test_classes_shifts_and_scores_are_what_they_say():
    """Shares between thresholds; the probit's shift; the score is the log ratio a unit of shift."""
    assert classes(NOMINAL) == pytest.approx([0.5, 0.4, 0.09, 0.01])
    assert shifted(NOMINAL, 0.0) == pytest.approx(classes(NOMINAL))
    moved = stats.norm.sf(stats.norm.isf(NOMINAL) - 0.6)
    assert shifted(NOMINAL, 0.6) == pytest.approx(-np.diff([1.0, *moved, 0.0]))
    extreme = shifted(np.array([1.0, 0.5, 0.0]), 0.2)
    assert extreme == pytest.approx(shifted(np.array([1 - 1e-4, 0.5, 1e-4]), 0.2))
    assert pytest.approx(np.log(shifted(NOMINAL, 0.1) / classes(NOMINAL)) / 0.1) == SCORES
    assert np.all(np.diff(SCORES) > 0)
    assert falling(np.array([0.2, 0.3, 0.0])) == pytest.approx([0.2, 0.196, 1e-4])
    assert falling(np.array([1.0, 0.99, 0.98])) == pytest.approx([0.97, 0.97 * 0.98, 0.97 * 0.98**2])


@pytest.mark.parametrize("kind, low, high", [(Excess, 0.0, 0.05), (Within, 0.05, 0.3)])
@pytest.mark.parametrize("phi", [1.0, 2.0])
def test_two_intervals_of_bets_against_a_margin_gain_nothing_on_average(
    kind: type[Excess] | type[Within], low: float, high: float, phi: float
):
    """Exactly, through `update`, with the candidate's past rate learnt from the first interval and shares that move."""
    margin, n = 0.05, 3
    for level, moved, extra in ((0.1, 0.3, low), (0.3, 0.02, high), (0.0, 0.0, high)):
        mean = 0.0
        shares = [(level + extra, level), (moved + extra, moved)]
        for one in _pairs(n, n, *shares[0]):
            for two in _pairs(n, n, *shares[1]):
                mean += one[2] * two[2] * math.exp(_two(kind(), (one, two), n, margin, phi))
        assert mean <= 1 + 1e-9, (level, moved, extra)


def _two(
    bets: Excess | Within, intervals: Sequence[tuple[int, int, float]], n: int, margin: float, phi: float
) -> float:
    past_c, past_b = PastRate(prior_bad=0.2, prior_n=2.0), PastRate(prior_bad=0.2, prior_n=2.0)
    for bad_c, bad_b, _ in intervals:
        p_b = past_b.rate
        counts = Counts(bad_c, n, bad_b, n)
        bets.update(counts, p_b=p_b, past_c=past_c.towards(p_b, 2.0), margin=margin, phi=phi)
        past_c.update(bad_c, n)
        past_b.update(bad_b, n)
    return float(bets.log_e)


def _bet(p_c: float, p_b: float, margin: float, counts: tuple[int, int, int, int]) -> float:
    """Return the log e-value of (p_c, p_b) against its nearest null, found by scipy."""
    bad_c, n_c, bad_b, n_b = counts

    def slope(q: float) -> float:
        return n_c * (q + margin - p_c) / ((q + margin) * (1 - q - margin)) + n_b * (q - p_b) / (q * (1 - q))

    q = optimize.brentq(slope, 1e-12, 1 - margin - 1e-12, xtol=1e-15)
    arms = ((bad_c, n_c, p_c, q + margin), (bad_b, n_b, p_b, q))
    return sum(k * math.log(p / at) + (n - k) * math.log((1 - p) / (1 - at)) for k, n, p, at in arms)


@pytest.mark.parametrize("past_c", [0.005, 0.04, 0.0699, 0.0701, 0.3])
@pytest.mark.parametrize("phi", [1.0, 1.7])
def test_within_is_the_average_of_its_two_bets(past_c: float, phi: float):
    """Equal shares, and the candidate's own past rate, which says nothing once it lies beyond the margin."""
    counts = (1, 40, 2, 60)
    bets = Within()
    bets.update(Counts(*counts), p_b=0.02, past_c=past_c, margin=0.05, phi=phi)
    own = _bet(past_c, 0.02, 0.05, counts) / phi if past_c < 0.07 else 0.0
    expected = 0.9 * math.exp(_bet(0.02, 0.02, 0.05, counts) / phi) + 0.1 * math.exp(own)
    assert float(bets.log_e) == pytest.approx(math.log(expected), rel=1e-6)
    usual, plain = Within(), Within()
    usual.update(Counts(*counts), p_b=0.02, past_c=past_c, margin=0.05)
    plain.update(Counts(*counts), p_b=0.02, past_c=past_c, margin=0.05, phi=1)
    assert float(usual.log_e) == float(plain.log_e)


def test_within_says_nothing_where_the_margin_leaves_nothing_to_be_beyond():
    """A baseline at 60 % with a margin of 40 points and more; a candidate's rate of 0."""
    for margin in (0.4, 0.6, 1.2):
        bets = Within()
        bets.update(Counts(1, 40, 30, 60), p_b=0.6, past_c=0.5, margin=margin)
        assert float(bets.log_e) == 0.0
    bets = Within()
    bets.update(Counts(0, 40, 1, 60), p_b=0.02, past_c=0.0, margin=0.05)
    expected = 0.9 * math.exp(_bet(0.02, 0.02, 0.05, (0, 40, 1, 60))) + 0.1
    assert float(bets.log_e) == pytest.approx(math.log(expected), rel=1e-6)


@pytest.mark.parametrize("past_c", [0.02, 0.0701, 0.3, 1.0])
@pytest.mark.parametrize("phi", [1.0, 1.7])
def test_excess_is_the_average_of_its_five_bets(past_c: float, phi: float):
    """Four multiples of the margin's odds, and the candidate's own past rate where it lies beyond the margin."""
    counts = (6, 40, 2, 60)
    bets = Excess()
    bets.update(Counts(*counts), p_b=0.02, past_c=past_c, margin=0.05, phi=phi)
    odds = [multiple * 0.07 / 0.93 for multiple in (1.6, 2.3, 3.5, 5.5)]
    logs = [min(_bet(o / (1 + o), 0.02, 0.05, counts) / phi, 1.5) for o in odds]
    logs.append(min(_bet(past_c, 0.02, 0.05, counts) / phi, 1.5) if 0.07 < past_c < 1 else 0.0)
    assert float(bets.log_e) == pytest.approx(math.log(np.mean(np.exp(logs))), rel=1e-6)
    assert float(bets.peak) == pytest.approx(max(0.0, float(bets.log_e)))
    usual, plain = Excess(), Excess()
    usual.update(Counts(*counts), p_b=0.02, past_c=past_c, margin=0.05)
    plain.update(Counts(*counts), p_b=0.02, past_c=past_c, margin=0.05, phi=1)
    assert float(usual.log_e) == float(plain.log_e)


def test_excess_says_nothing_where_nothing_can_be_beyond():
    """The baseline and the margin make up the whole."""
    bets = Excess()
    bets.update(Counts(40, 40, 30, 60), p_b=0.6, past_c=0.9, margin=0.5)
    assert float(bets.log_e) == pytest.approx(0.0, abs=1e-6)


def test_the_bets_gain_where_their_null_is_wrong():
    """The planted opposite, at the same margin."""
    for kind, share_c in ((Excess, 0.6), (Within, 0.0)):
        mean = sum(
            chance * math.exp(_two(kind(), [(bad_c, bad_b, chance)] * 2, 6, 0.3, 1.0))
            for bad_c, bad_b, chance in _pairs(6, 6, share_c, 0.1)
        )
        assert mean > 1.1, kind


def test_the_peak_is_kept_and_each_interval_adds_at_most_its_cap():
    """Evidence up, then down: the peak stays where it was."""
    bets, values = Excess(), []
    for bad_c in (30, 30, 30, 0, 0, 0):
        bets.update(Counts(bad_c, 50, 1, 50), p_b=0.02, past_c=0.3, margin=0.01)
        values.append(float(bets.log_e))
        assert float(bets.peak) == pytest.approx(max(0.0, *values))
    assert values[2] == pytest.approx(3 * CAP, abs=0.3)
    assert values[-1] < values[2]


@pytest.mark.parametrize("n_c, n_b", [(4, 4), (2, 6), (1, 9)])
@pytest.mark.parametrize("share", [0.005, 0.05, 0.3])
def test_blocks_of_equal_arms_gain_nothing_on_average(share: float, n_c: int, n_b: int):
    """Exactly, for a candidate that serves no more than its baseline."""
    mean = 0.0
    for bad_c, bad_b, chance in _pairs(n_c, n_b, share, share):
        contest = BlockContest(intervals=1)
        contest.update(Counts(bad_c, n_c, bad_b, n_b))
        mean += chance * math.exp(float(contest.log_e))
    assert mean <= 1 + 1e-12


def test_a_block_bets_once_on_its_sums_and_not_where_the_candidate_serves_more():
    """One block of three intervals, by hand; then one at 60 %."""
    contest = BlockContest(intervals=3, scales=(0.4,))
    for bad_c, bad_b in ((1, 0), (0, 2), (3, 0)):
        assert float(contest.log_e) == 0.0
        contest.update(Counts(bad_c, 10, bad_b, 30))
    assert contest.blocks == 1
    assert float(contest.log_e) == pytest.approx(math.log1p(math.tanh(0.4 * (4 - 6 * 30 / 120))))
    before = float(contest.log_e)
    for seen in range(3):
        assert contest.blocks == 1, seen
        contest.update(Counts(9, 60, 0, 40))
    assert (contest.blocks, float(contest.log_e)) == (2, before)


@pytest.mark.parametrize(
    "counts, expected",
    [((5, 21, 0, 19), math.tanh(2 * (5 - 5 * 21 / 40))), ((5, 22, 0, 18), 0.0), ((1, 1, 0, 1), math.tanh(1.0)),
     ((1, 1, 0, 9), math.tanh(1.8)), ((0, 0, 5, 9), 0.0), ((5, 9, 0, 0), 0.0), ((90, 100, 0, 100), 1 - 1e-6),
     ((0, 100, 90, 100), -1 + 1e-6)],
)  # fmt: skip
def test_a_blocks_bet_is_bounded_and_needs_both_arms(counts: tuple[int, int, int, int], expected: float):
    """At 52.5 % of the units, above; one unit each; one arm alone; as lopsided as can be."""
    contest = BlockContest(intervals=1, scales=(2.0,))
    contest.update(Counts(*counts))
    assert float(contest.log_e) == pytest.approx(math.log1p(expected), abs=1e-9)


def test_averages_of_evidence_are_averages_of_e_values():
    """Weights as given, or equal; also where the logs would overflow."""
    logs = np.array([[0.3, -2.0, 1.7], [800.0, 799.0, -50.0]])
    weights = np.array([0.6, 0.3, 0.1])
    assert combine(logs, weights)[0] == pytest.approx(math.log(np.exp(logs[0]) @ weights))
    assert combine(logs, weights)[1] == pytest.approx(800 + math.log(0.6 + 0.3 * math.exp(-1)))
    assert log_mean_exp(logs)[0] == pytest.approx(math.log(np.exp(logs[0]).mean()))


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_the_routers_evidence_gains_nothing_on_average_and_is_its_mixture(share: float):
    """Exactly 1 over all outcomes at the configured share; equal to scipy's Beta-binomial over the binomial."""
    for n in (1, 7, 40):
        counts = np.arange(n + 1)
        assert stats.binom.pmf(counts, n, share) @ np.exp(misrouting(n, counts, share)) == pytest.approx(1)
        mixture = [stats.betabinom.pmf(n // 2, n, size * share, size * (1 - share)) for size in (20.0, 500.0)]
        expected = math.log(np.average(mixture, weights=(0.2, 0.8)) / stats.binom.pmf(n // 2, n, share))
        assert float(misrouting(n, n // 2, share)) == pytest.approx(expected)


ROUTER = objective_of(Measure.ASSIGNMENT, "assignment")


def units(at: float, n: int, candidate: int, share: float) -> Evidence:
    """Return one second of sessions first seen."""
    return events("assignment", None, at, n, candidate, kind=Kind.ASSIGNMENT, share=share)


def _power(share: float, doubled: float) -> float:
    return doubled * math.log(doubled / share) + (1 - doubled) * math.log((1 - doubled) / (1 - share))


def test_the_router_is_told_what_was_seen_and_how_many_more_would_do():
    """By hand: the estimate is the excess in points, power adds up over shares, above one half the rest is halved."""
    records = [units(0, 20, 4, 0.1), units(1, 10, 1, 0.1), units(2, 0, 0, 0.3), units(3, 8, 7, 0.8)]
    judgement = verdict_on(ROUTER, records)
    power = 30 * _power(0.1, 0.2) + 8 * _power(0.8, 0.9)
    assert judgement.status is Status.INCONCLUSIVE
    assert judgement.n == 38
    assert judgement.estimate == pytest.approx(100 * (12 - (3 + 6.4)) / 38)
    assert judgement.needed == math.ceil(38 * (13 - power) / power)
    seen = "on the candidate: 5 of 30 at 10.0 %, 7 of 8 at 80.0 % asked"
    assert judgement.reason == f"{seen}; too few to find even a doubled share"
    assert verdict_on(ROUTER, [units(0, 1, 0, 0.1)]).needed == math.ceil((13 - _power(0.1, 0.2)) / _power(0.1, 0.2))


def test_the_router_passes_when_a_doubled_share_would_have_been_found():
    """13 expected: at 10 % that takes 293 sessions."""
    least = math.ceil(13 / _power(0.1, 0.2))
    judgement = verdict_on(ROUTER, [units(0, least, least // 10, 0.1)])
    assert (judgement.status, judgement.needed) == (Status.PASS, None)
    assert judgement.reason.endswith("% asked; a doubled share would have been found")
    assert verdict_on(ROUTER, [units(0, least - 1, least // 10, 0.1)]).status is Status.INCONCLUSIVE
    whole = verdict_on(ROUTER, [units(0, 5000, 5000, 1.0)])
    wanted = 13 - 5000 * _power(0.999, 0.9995)
    assert whole.needed == math.ceil(5000 * wanted / (13 - wanted))


def test_a_router_that_misroutes_is_an_error_and_stays_one():
    """At the first e-value of 1,000, by the mixture above; better sessions later do not clear it."""
    least = next(n for n in range(1, 100) if float(misrouting(n, n, 0.1)) >= math.log(1000))
    judgement = verdict_on(ROUTER, [units(0, least, least, 0.1), units(1, 4000, 0, 0.1)])
    assert (judgement.status, judgement.needed) == (Status.ERROR, None)
    assert judgement.reason.startswith(f"the router misroutes: on the candidate: {least} of ")
    early = verdict_on(ROUTER, [units(0, least - 1, least - 1, 0.1)])
    assert early.status is Status.INCONCLUSIVE


def test_a_router_nobody_asked_anything_is_not_judged():
    """No unit: inconclusive, at the end an error; another kind of record is corrupt."""
    for final, status in ((False, Status.INCONCLUSIVE), (True, Status.ERROR)):
        judgement = verdict_on(ROUTER, [units(0, 0, 0, 0.1), events("load", None, 0, 1)], final=final)
        assert judgement.status is status
        assert judgement.reason.startswith("no evidence: no unit of assignment was seen in a judged stage")
    corrupt = verdict_on(ROUTER, [events("assignment", None, 0, 5, 1)])
    assert corrupt.status is Status.ERROR
    assert corrupt.reason == "corrupt evidence, assignment: assignment: expected assignments, found events"


NUMBER = objective_of(Measure.RATIO, "q.error", 5, "%")
SLOW = objective_of(Measure.QUANTILE, "q.latency", 50, "ms", quantile=0.9)
POINT = objective_of(Measure.RATIO, "q.error", 2, "points", against=Against.BASELINE)
C, B = Arm.CANDIDATE, Arm.BASELINE


def test_a_share_a_little_above_its_number_is_told_by_hand():
    """7 of 100 at a limit of 5 %: neither failed nor passed, whatever the baseline; counts, bounds and words."""
    judgement = verdict_on(NUMBER, [events("q.error", C, 0, 60, 4), events("q.error", C, 1, 40, 3)])
    low, high = (stats.beta.ppf(0.01, 7, 94), stats.beta.ppf(0.99, 8, 93))
    assert (judgement.status, judgement.n, judgement.needed) == (Status.INCONCLUSIVE, 100, None)
    assert judgement.estimate == pytest.approx(7.0)
    assert judgement.interval == pytest.approx((100 * low, 100 * high))
    bound = f"at most {100 * high:.1f} % at 99 % confidence, not yet proven to be within the limit"
    assert judgement.reason == f"candidate 7 of 100 (7.0 %) violations, limit 5.0 %: {bound}"


def test_a_share_within_its_number_says_how_many_more_would_do():
    """1 of 60: so many more at that rate."""
    judgement = verdict_on(NUMBER, [events("q.error", C, 0, 60, 1)])
    assert judgement.needed == needed_to_pass(1, 60, 0.05, 0.99)
    assert judgement.reason.startswith("candidate 1 of 60 (1.7 %) violations, limit 5.0 %: at most ")
    assert judgement.reason.endswith(f"limit; about {judgement.needed} more requests of the candidate would settle it")
    passed = verdict_on(NUMBER, [events("q.error", C, 0, 900, 1)])
    assert (passed.status, passed.needed) == (Status.PASS, None)


def test_a_number_without_a_request_is_not_judged():
    """Not at the end either, where the instrument did report."""
    records = [events("q.error", B, 0, 60, 1), events("load", None, 0, 1)]
    for final in (False, True):
        judgement = verdict_on(NUMBER, records, final=final)
        assert judgement.status is Status.INCONCLUSIVE
        assert judgement.reason == "no evidence: no request of the candidate was counted in a judged stage"


@pytest.mark.parametrize(
    "baseline, status",
    [
        ([("25", 400, 4), ("50", 400, 4)], Status.FAIL),
        ([("25", 400, 4), ("50", 400, 36)], Status.ERROR),  # over all within, in the newest stage not
        ([("25", 400, 16), ("50", 400, 24)], Status.FAIL),  # 6 % of 400 is not shown to be more than 5 %
        ([("25", 400, 60), ("50", 400, 4)], Status.ERROR),  # in the newest stage within, over all not
        ([("25", 400, 20), ("50", 400, 20)], Status.FAIL),  # at the limit is within
        ([("25", 0, 0), ("50", 0, 0)], Status.FAIL),
        ([("50", 20, 0), ("50", 20, 6)], Status.ERROR),  # one stage in two intervals
        ([("50", 20, 0), ("50", 20, 3)], Status.FAIL),
        ([("50", 20, 2), ("50", 20, 0)], Status.FAIL),
        ([("25", 400, 4), ("50", 20, 6), ("50", 20, 0)], Status.ERROR),
        ([("25", 400, 4), ("50", 12, 3)], Status.ERROR),
        ([("25", 400, 4), ("50", 12, 2)], Status.FAIL),  # two bad ones of a holdout's dozen excuse no release
    ],
)
def test_what_the_baseline_misses_over_all_or_in_the_newest_stage_is_not_the_releases(
    baseline: list[tuple[str, int, int]], status: Status
):
    """The candidate's 15 % of 800 against 5 %."""
    stages = [events("q.error", B, at, n, bad, stage=stage) for at, (stage, n, bad) in enumerate(baseline)]
    candidate = [events("q.error", C, at, 400, 60, stage=stage) for at, stage in enumerate(("25", "50"))]
    judgement = verdict_on(NUMBER, [*stages, *candidate])
    assert judgement.status is status, judgement.reason
    n, bad = sum(n for _, n, _ in baseline), sum(bad for _, _, bad in baseline)
    seen = f"{bad} of {n} ({100 * bad / n:.1f} %)" if n else "0 of 0"
    if status is Status.FAIL:
        words = f"candidate 120 of 800 (15.0 %) violations, limit 5.0 %: above it beyond chance; baseline {seen}"
    else:
        words = (
            f"candidate 120 of 800 (15.0 %) violations, limit 5.0 %; the baseline misses it too: {seen}: the machine"
        )
    assert judgement.reason.startswith(words)


@pytest.mark.parametrize("bad, status", [(30, Status.ERROR), (4, Status.PASS)])
def test_a_baseline_that_surely_misses_a_number_makes_a_poor_candidate_an_error(bad: int, status: Status):
    """The baseline's 15 %; a candidate of 7.5 %, not surely above, and a good one."""
    records = [events("q.error", B, 0, 400, 60), events("q.error", C, 0, 400, bad)]
    assert verdict_on(NUMBER, records).status is status


@pytest.mark.parametrize("comparator", [">", ">="])
def test_an_availability_is_the_complement_of_its_violations(comparator: str):
    """At least 95 % well is at most 5 % bad; 100 %, 150 % or nothing is no number to be held to."""
    records = [events("q.error", C, 0, 60, 4), events("q.error", C, 1, 40, 3)]
    upward = replace(NUMBER, threshold=95, comparator=comparator)
    assert verdict_on(upward, records).reason == verdict_on(NUMBER, records).reason
    for threshold in (0, 100, 150):
        for direction in ("<=", comparator):
            with pytest.raises(ValueError, match="strictly between 0 and 100"):
                Judge([replace(NUMBER, threshold=threshold, comparator=direction)], plan_of())


@pytest.mark.parametrize("unit, scale", [("ms", 1000.0), ("s", 1.0)])
def test_a_quantile_against_a_number_is_bracketed_by_bucket_bounds(unit: str, scale: float):
    """200 latencies: 12 above 50 ms of 20 allowed; p90 lies between 20 and 50 ms, shown within 20 and 100."""
    bounds = np.array([0.01, 0.02, 0.05, 0.1, 0.2])
    seconds = [0.005] * 40 + [0.015] * 120 + [0.03] * 28 + [0.07] * 8 + [0.15] * 4
    objective = replace(SLOW, threshold=0.05 * scale, unit=unit)
    judgement = verdict_on(objective, [latencies("q.latency", C, 0, seconds, bounds)])
    assert judgement.estimate == pytest.approx(scale * 0.02 * (0.05 / 0.02) ** (20 / 28))
    above = {bound: sum(s > bound for s in seconds) for bound in bounds}
    high = next(b for b in bounds if stats.binom.cdf(above[b], 200, 0.1) <= 0.01)
    low = [b for b in bounds if stats.binom.sf(above[b] - 1, 200, 0.1) <= 0.01][-1]
    assert judgement.interval == pytest.approx((scale * low, scale * high))
    assert judgement.reason.startswith("candidate 12 of 200 (6.0 %) answers slower than 50 ms, limit 10.0 %")
    few = verdict_on(objective, [latencies("q.latency", C, 0, seconds[::40], bounds)])
    assert few.interval is None
    slow = verdict_on(objective, [latencies("q.latency", C, 0, [0.5] * 50, bounds)])
    assert (slow.estimate, slow.interval) == (None, None)
    quick = verdict_on(objective, [latencies("q.latency", C, 0, [0.005] * 200, bounds)])
    assert (quick.status, quick.interval) == (Status.PASS, None)


def test_shares_of_two_arms_are_weighed_interval_by_interval():
    """By hand: three common intervals, one of an arm alone that counts in the sums only."""
    rows = [(3, 30, 1, 60), (2, 50, 4, 20), (0, 10, 0, 15), (9, 40, 0, 0)]
    seen = Standardised()
    assert (seen.difference, seen.interval(0.95)) == (0.0, (-1.0, 1.0))
    for row in rows:
        seen.add(Counts(*row))
    assert (seen.bad_c, seen.n_c, seen.bad_b, seen.n_b) == (14, 130, 5, 95)
    weights = np.array([n_c * n_b / (n_c + n_b) for _, n_c, _, n_b in rows[:3]])
    shares_c = np.array([bad / n for bad, n, _, _ in rows[:3]])
    shares_b = np.array([bad / n for _, _, bad, n in rows[:3]])
    share_c, share_b = (float(weights @ shares / weights.sum()) for shares in (shares_c, shares_b))
    sizes = [float(weights.sum() ** 2 / (weights**2 / np.array(n)).sum()) for n in ((30, 50, 10), (60, 20, 15))]
    assert seen.difference == pytest.approx(share_c - share_b)
    assert seen.interval(0.95) == pytest.approx(newcombe((share_c, sizes[0]), (share_b, sizes[1]), 0.95))


def _rollout(rows: Sequence[tuple[int, int, int, int]], **changes: object) -> list[Evidence]:
    return [
        events("q.error", arm, at, n, bad, **changes)
        for at, (bad_c, n_c, bad_b, n_b) in enumerate(rows)
        for arm, n, bad in ((B, n_b, bad_b), (C, n_c, bad_c))
    ]


def _proof(rows: Sequence[tuple[int, int, int, int]], warm: tuple[int, int] = (0, 0)) -> tuple[float, float]:
    """Return the log evidence (within, the highest of excess) of a margin of 2 points, step by step."""
    within, excess, past_b, past_c = Within(), Excess(), PastRate(), PastRate()
    past_b.update(*warm)
    for bad_c, n_c, bad_b, n_b in rows:
        p_b = past_b.rate
        own = past_c.towards(p_b)
        for bets in (within, excess):
            bets.update(Counts(bad_c, n_c, bad_b, n_b), p_b=p_b, past_c=own, margin=0.02)
        past_c.update(bad_c, n_c)
        past_b.update(bad_b, n_b)
    return float(within.log_e), float(excess.peak)


def test_a_comparison_is_told_by_hand():
    """Not settled: estimate, interval, evidence and how much more of it is wanted; none can be told once it is lost."""
    rows = [(0, 60, 1, 60), (1, 50, 1, 70), (0, 60, 0, 60), (9, 9, 9, 9)]
    judgement = verdict_on(POINT, _rollout(rows), plan=plan_of(interval_s=1.0))
    seen = Standardised()
    for row in rows:
        seen.add(Counts(*row))
    proof, _ = _proof(rows)
    rest = [rows[0], rows[1], rows[2]]
    early, _ = _proof(rest)
    assert judgement.status is Status.INCONCLUSIVE
    before = verdict_on(POINT, _rollout(rest))
    low, high = Standardised(), None
    for row in rest:
        low.add(Counts(*row))
    high = low.interval(0.99)
    assert before.estimate == pytest.approx(100 * low.difference)
    assert before.interval == pytest.approx((100 * high[0], 100 * high[1]))
    assert before.n == 360
    assert early > 0
    assert before.needed == math.ceil((-math.log(0.01) - early) * 360 / early)
    assert before.reason == (
        f"candidate 1 of 170 (0.59 %) against baseline 2 of 190 (1.1 %) in the same intervals, "
        f"{100 * low.difference:+.2f} points: neither within nor beyond the margin of 2 points; "
        f"about {before.needed} more requests would settle it"
    )
    assert proof < 0
    assert judgement.needed is None
    assert judgement.reason.endswith("neither within nor beyond the margin of 2 points")


def test_a_comparison_fails_with_its_evidence_in_words():
    """The powers of ten of what was reached and of what rolls back."""
    rows = [(6, 40, 0, 40)] * 8
    judgement = verdict_on(POINT, _rollout(rows))
    _, peak = _proof(rows)
    assert judgement.status is Status.FAIL
    assert judgement.needed is None
    assert f"+15.00 points: beyond the margin of 2 points (e-value 10^{peak / math.log(10):.1f}" in judgement.reason
    assert judgement.reason.endswith(", rolls back at 10^2.0)")
    slowly = [(5, 60, 1, 60), (2, 60, 1, 60), (4, 60, 0, 60), (5, 60, 1, 60)] * 5
    judgement = verdict_on(POINT, _rollout(slowly))
    _, peak = _proof(slowly)
    assert 2 < peak / math.log(10) < 10
    assert f"(e-value 10^{peak / math.log(10):.1f}," in judgement.reason


def test_intervals_of_the_baseline_alone_guide_the_bets_only():
    """Seventy of them: no more than 64 may wait for a partner, so six are handed back, and one for the next to come."""
    rows = [(0, 60, 1, 60), (1, 50, 1, 70), (0, 60, 0, 60)]
    alone = [events("q.error", B, at - 500, 100, 4) for at in range(70)]
    judgement = verdict_on(POINT, [*alone, *_rollout(rows)])
    within, past_b, past_c = Within(), PastRate(), PastRate()
    for _ in range(7):
        past_b.update(4, 100)
    for bad_c, n_c, bad_b, n_b in rows:
        p_b = past_b.rate
        within.update(Counts(bad_c, n_c, bad_b, n_b), p_b=p_b, past_c=past_c.towards(p_b), margin=0.02)
        past_c.update(bad_c, n_c)
        past_b.update(bad_b, n_b)
    proof = float(within.log_e)
    assert judgement.n == 360
    assert judgement.needed == math.ceil((-math.log(0.01) - proof) * 360 / proof)


def test_the_baselines_warm_up_guides_the_bets_and_the_candidates_does_not():
    """By the evidence wanted, which tells the predicted share."""
    rows = [(0, 60, 1, 60), (1, 50, 1, 70), (0, 60, 0, 60)]
    warm = [events("q.error", B, -5, 500, 20, stage="warmup")]
    judgement = verdict_on(POINT, [*warm, *_rollout(rows)])
    proof, _ = _proof(rows, (20, 500))
    assert judgement.needed == (math.ceil((-math.log(0.01) - proof) * 360 / proof) if proof > 0 else None)
    assert verdict_on(POINT, _rollout(rows)).needed != judgement.needed
    for arm, stage in ((C, "warmup"), (B, "smoke"), (C, "smoke"), (B, "")):
        other = [events("q.error", arm, -5, 500, 20, stage=stage)]
        assert verdict_on(POINT, [*other, *_rollout(rows)]) == verdict_on(POINT, _rollout(rows))


def test_a_comparison_needs_both_arms_and_says_so():
    """Nothing at all, and an arm that counted nobody; at the end, too, where the instrument did report."""
    for rows in ([], [(0, 60, 0, 0)] * 3, [(0, 0, 0, 60)] * 3):
        for final in (False, True):
            records = [*_rollout(rows), events("load", None, 0, 1)]
            judgement = verdict_on(POINT, records, final=final)
            assert judgement.status is Status.INCONCLUSIVE
            assert judgement.reason == "no evidence: no interval in which both arms served"


@pytest.mark.parametrize("threshold, unit, fits", [
    (0, "points", True), (0.5, "points", True), (99.5, "points", True), (100, "points", False),
    (100.5, "points", False), (-0.5, "points", False), (2, "%", False),
])  # fmt: skip
def test_a_margin_is_in_points_from_nothing_to_less_than_all(threshold: float, unit: str, *, fits: bool):
    """Anything else is refused when the judge is made."""
    objective = replace(POINT, threshold=threshold, unit=unit)
    if fits:
        assert Judge([objective], plan_of())
        return
    with pytest.raises(ValueError, match="margin in points"):
        Judge([objective], plan_of())


@pytest.mark.parametrize("proof, more", [(2.0, 131), (0.5, 822), (0.0, None), (-1.0, None)])
def test_what_is_yet_to_come_is_extrapolated_from_what_came(proof: float, more: int | None):
    """100 units brought `proof` of the 4.61 wanted."""
    assert more_to_reach(proof, math.log(100), 100) == more


def _long_run(scores: np.ndarray, variances: np.ndarray, lags: int) -> float:
    """Return the long-run variance straight from its definition."""
    total = ((scores**2 - variances).sum()) / (variances**2).sum()
    for lag in range(1, lags + 1):
        products = (scores[lag:] * scores[:-lag]).sum()
        total += 2 * products / (variances[lag:] * variances[:-lag]).sum()
    return max(total, 0.0)


def test_the_long_run_variance_is_its_definition_on_a_stored_series():
    """Forty intervals of two halves with counts of their own."""
    rng = np.random.default_rng(11)
    bad_1, bad_2 = rng.poisson(3, 40).astype(float), rng.poisson(5, 40).astype(float)
    n_1, n_2 = rng.integers(40, 80, 40).astype(float), rng.integers(40, 80, 40).astype(float)
    bad_1[7] = bad_2[7] = 0.0
    score, variance = binary_score(bad_1, n_1, bad_2, n_2)
    running = LongRunVariance(lags=5)
    for one, two in zip(score, variance, strict=True):
        running.update(one, two)
    assert running.intervals == 40
    assert float(running.value) == pytest.approx(_long_run(score, variance, 5), rel=1e-12)
    smooth = np.repeat([2.0, -2.0], 20)
    steady = LongRunVariance(lags=5)
    for one in smooth:
        steady.update(one, 1.5)
    assert float(steady.value) == pytest.approx(_long_run(smooth, np.full(40, 1.5), 5), rel=1e-12)
    assert float(steady.value) > 1


def test_scores_are_those_of_the_hypergeometric_law():
    """Given the total, one half's bad count: its mean and variance by scipy; classes weigh in with their scores."""
    law = stats.hypergeom(90, 12, 40)
    score, variance = binary_score(7, 40, 5, 50)
    assert float(score) == pytest.approx(7 - law.mean())
    assert float(variance) == pytest.approx(law.var())
    worth = np.array([0.0, 1.0])
    ordinal, spread = ordinal_score(np.array([33.0, 7.0]), np.array([45.0, 5.0]), worth)
    assert float(ordinal) == pytest.approx(float(score))
    assert float(spread) == pytest.approx(float(variance))
    assert [float(v) for v in binary_score(0, 0, 0, 0)] == [0.0, 0.0]
    assert [float(v) for v in binary_score(1, 1, 0, 0)] == [0.0, 0.0]
    assert [float(v) for v in binary_score(1, 1, 0, 1)] == [0.5, 0.25]
    rows_1, rows_2 = np.array([[33.0, 7.0], [1.0, 0.0], [1.0, 0.0]]), np.array([[45.0, 5.0], [0.0, 0.0], [0.0, 1.0]])
    ordinals, spreads = ordinal_score(rows_1, rows_2, np.array([2.0, 3.0]))
    assert ordinals == pytest.approx([float(score), 0.0, -0.5])
    assert spreads == pytest.approx([float(variance), 0.0, 0.25])


def test_long_run_variances_of_many_rollouts_are_each_what_they_are_alone():
    """Four series with variances of their own."""
    rng = np.random.default_rng(12)
    many, ones = LongRunVariance((4,), lags=3), [LongRunVariance(lags=3) for _ in range(4)]
    for _ in range(25):
        scores, variances = rng.normal(0.3, 1, 4), rng.uniform(0.2, 3, 4)
        many.update(scores, variances)
        for row, one in enumerate(ones):
            one.update(scores[row], variances[row])
    assert many.value == pytest.approx([float(one.value) for one in ones])
    assert float(many.value.max()) > 0


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8])
def test_the_long_run_variance_finds_the_truth_of_autoregressive_noise(phi: float):
    """Two halves with AR(1) noise of stationary sd .3: the difference's long-run variance is 2 sd^2 (1+phi)/(1-phi)."""
    rng, runs, sd, n, base = np.random.default_rng(2), 60, 0.3, 2000.0, math.log(0.05 / 0.95)
    noise = rng.normal(0, sd, (2, runs))
    running = LongRunVariance((runs,), lags=16)
    for _ in range(3000):
        noise = phi * noise + rng.normal(0, sd * math.sqrt(1 - phi**2), (2, runs))
        shares = 1 / (1 + np.exp(-(base + noise)))
        bad = rng.binomial(int(n), shares).astype(float)
        running.update(*binary_score(bad[0], n, bad[1], n))
    truth = 2 * sd**2 * (1 + phi) / (1 - phi)
    assert float(np.mean(running.value)) == pytest.approx(truth, rel=0.12)


def test_a_gap_separates_neighbours():
    """After it, the products of lags begin anew."""
    with_gap, without = LongRunVariance(lags=2), LongRunVariance(lags=2)
    for one in (1.0, 1.0, 1.0):
        with_gap.update(one, 1.0)
        with_gap.gap()
        without.update(one, 1.0)
    assert float(with_gap.value) == 0.0
    assert float(without.value) == pytest.approx(4.0)
    without.gap()
    without.update(1.0, 1.0)
    assert float(without.value) == pytest.approx(4.0)


def test_tempering_is_its_formula_and_never_strengthens():
    """One instance; two equal halves average half of the noise out; no noise, no tempering."""
    harmonic = 0.02 * 0.98 * 100 * 300 / 400
    assert float(tempering(0.4, 0.02 * 0.98, n_c=100, n_b=300)) == pytest.approx(1 + 1.5 * 0.4 * harmonic)
    halves = (np.asarray(150.0), np.asarray(150.0))
    assert float(tempering(0.4, 0.02 * 0.98, n_c=100, n_b=300, halves=halves)) == pytest.approx(
        1 + 1.5 * 0.75 * 0.4 * harmonic
    )
    single = (np.asarray(1.0), np.asarray(0.0))
    assert float(tempering(0.4, 0.25, n_c=1, n_b=1, halves=single)) == pytest.approx(1 + 1.5 * 0.4 * 0.25 / 2)
    lopsided = (np.asarray(300.0), np.asarray(0.0))
    assert float(tempering(0.4, 0.02, n_c=100, n_b=300, halves=lopsided)) == pytest.approx(
        float(tempering(0.4, 0.02, n_c=100, n_b=300))
    )
    assert float(tempering(0.0, 0.25, n_c=1e6, n_b=1e6)) == 1.0
    assert float(tempering(1.0, 0.25, n_c=0, n_b=0)) == 1.0
    p_b, n_c, n_b = np.asarray(0.02), np.asarray(100.0), np.asarray(300.0)
    assert float(BinaryContest.tempering(0.4, p_b, n_c, n_b)) == pytest.approx(1 + 1.5 * 0.4 * harmonic)
    assert float(BinaryContest.tempering(0.4, p_b, n_c, n_b, halves)) == pytest.approx(1 + 1.5 * 0.75 * 0.4 * harmonic)
    spread = float(classes(NOMINAL) @ SCORES**2 - (classes(NOMINAL) @ SCORES) ** 2)
    expected = 1 + 1.5 * 0.4 * spread * 75
    assert float(OrdinalContest.tempering(0.4, NOMINAL, n_c, n_b)) == pytest.approx(expected)
    halved = 1 + 1.5 * 0.75 * 0.4 * spread * 75
    assert float(OrdinalContest.tempering(0.4, NOMINAL, n_c, n_b, halves)) == pytest.approx(halved)


def test_past_shares_forget_by_half_lives_and_stay_inside():
    """By hand: prior, one interval, a half-life later half as heavy."""
    past = PastShares(prior=0.1, prior_n=10.0, half_life=2.0)
    past.update(8.0, 20.0)
    assert float(past.value) == pytest.approx((8 + 1) / 30)
    past.update(0.0, 0.0)
    past.update(0.0, 0.0)
    assert float(past.value) == pytest.approx((4 + 1) / 20)
    for _ in range(50):
        past.update(1e5, 1e5)
    assert float(past.value) == 0.97
    low = PastShares(prior=1e-9)
    assert float(low.value) == 2e-4
    usual = PastShares()
    assert float(usual.value) == pytest.approx(0.01)
    usual.update(100.0, 200.0)
    usual.update(0.0, 0.0)
    kept = 0.5 ** (1 / 80)
    assert float(usual.value) == pytest.approx((100 * kept + 2) / (200 * kept + 200))


def test_past_rates_forget_by_their_memory_and_shrink_as_asked():
    """By hand."""
    past = PastRate(prior_bad=1.0, prior_n=10.0, memory=100.0)
    assert float(past.rate) == pytest.approx(0.1)
    past.update(5.0, 50.0)
    past.update(1.0, 100.0)
    kept = math.exp(-1)
    assert float(past.rate) == pytest.approx((5 * kept + 1 + 1) / (50 * kept + 100 + 10))
    assert float(past.towards(0.2, 20.0)) == pytest.approx((5 * kept + 1 + 4) / (50 * kept + 100 + 20))
    usual = PastRate()
    assert float(usual.rate) == pytest.approx(0.01)
    usual.update(10.0, 100.0)
    usual.update(0.0, 400.0)
    faded = math.exp(-0.1)
    assert float(usual.rate) == pytest.approx((10 * faded + 0.5) / (100 * faded + 400 + 50))
    assert float(usual.towards(0.2)) == pytest.approx((10 * faded + 10) / (100 * faded + 400 + 50))
    past.update(1e9, 1e9)
    assert float(past.rate) == 0.999
    assert float(past.towards(1.0)) == 0.999


@pytest.mark.parametrize("make", [Excess, Within])
def test_many_rollouts_at_once_are_each_what_they_are_alone(make: Callable[[tuple[int, ...]], Excess | Within]):
    """The bench's arrays and the gate's single rollout give the same numbers."""
    rng = np.random.default_rng(4)
    many, ones = make((5,)), [make(()) for _ in range(5)]
    for _ in range(30):
        n = rng.integers(0, 40, (2, 5))
        bad = rng.binomial(n, 0.2)
        p_b, past_c = rng.uniform(0.05, 0.4, 5), rng.uniform(0.05, 0.4, 5)
        many.update(Counts(bad[0], n[0], bad[1], n[1]), p_b=p_b, past_c=past_c, margin=0.05, phi=1.5)
        for row, one in enumerate(ones):
            counts = Counts(bad[0, row], n[0, row], bad[1, row], n[1, row])
            one.update(counts, p_b=p_b[row], past_c=past_c[row], margin=0.05, phi=1.5)
    assert many.log_e == pytest.approx([float(one.log_e) for one in ones])


def test_intervals_that_tell_anything_are_counted():
    """Those with a variance: three of four; of many rollouts at once, where any of them has one."""
    noise, many = LongRunVariance(), LongRunVariance((2,))
    for variance in (0.4, 0.0, 2.0, 1e-6):
        noise.update(0.1, variance)
        many.update(np.array([0.1, 0.1]), np.array([variance, 0.0]))
    assert (noise.intervals, noise.informative, many.informative) == (4, 3, 3)


@pytest.mark.parametrize("g", [0.0, 0.4])
def test_a_calibrated_share_is_bet_on_tempered(g: float):
    """By hand: how much more is needed shows the evidence to pass, a hair of alpha that to fail."""
    known = Dispersion(objective="it", source="client", contest=9.9, level=g, intervals=960, informative=960)
    made = Calibration(
        system="it", plan="quick", made_at="", interval_s=1.0, load_rate=9.0, intervals=960, windows=10,
        false_alarms=0, dispersions=(known,),
    )  # fmt: skip
    rows = [(6, 40, 0, 40), (9, 60, 1, 30)] * 3
    good = [(0, 60, 1, 60), (1, 50, 1, 70), (0, 60, 0, 60)]

    def found(rows: Sequence[tuple[int, int, int, int]], alpha: float) -> Finding:
        gate = Gating(mode=RollbackOn.EXCESS, calibration=made, why="")
        trial = RatioTrial(
            Terms(objective=POINT, plan=plan_of(), source=Source.CLIENT, threshold=2, alpha=alpha, gating=gate)
        )
        for record in _rollout(rows):
            trial.observe(record)
        return trial.find(Look(at=0.0, stage="50", final=False))

    for part in (rows, good):
        within, excess, past_b, past_c = Within(), Excess(), PastRate(), PastRate()
        for bad_c, n_c, bad_b, n_b in part:
            p_b = past_b.rate
            own, phi = past_c.towards(p_b), 1 + 1.5 * g * p_b * (1 - p_b) * n_c * n_b / (n_c + n_b)
            for bets in (within, excess):
                bets.update(Counts(bad_c, n_c, bad_b, n_b), p_b=p_b, past_c=own, margin=0.02, phi=phi)
            past_c.update(bad_c, n_c)
            past_b.update(bad_b, n_b)
        if part is rows:
            peak = float(excess.peak)
            assert found(rows, math.exp(1e-9 - peak)).status is Status.FAIL
            assert found(rows, math.exp(-1e-9 - peak)).status is Status.INCONCLUSIVE
    proof = float(within.log_e)
    assert proof > 0
    assert found(good, 0.01).needed == math.ceil((-math.log(1 - 0.99) - proof) * 360 / proof)
