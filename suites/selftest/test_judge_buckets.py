"""Latency counts with weights: bounds of a quantile."""

import math

import numpy as np
import pytest
from judge_streams import latencies
from scipy import stats

from harness.judge.buckets import Buckets
from harness.model.evidence import Arm, Evidence, Kind, Source

pytestmark = pytest.mark.selftest


def _second(rng: np.random.Generator, n: int, scale: float = 1.0) -> Evidence:
    return latencies("q.latency", Arm.CANDIDATE, 0.0, 0.02 * scale * np.exp(0.5 * rng.standard_normal(n)))


def test_requests_of_one_weight_bound_a_quantile_whatever_the_weight():
    """A weight of .3 for all is none."""
    rng = np.random.default_rng(1)
    plain, weighted = Buckets(), Buckets()
    for _ in range(20):
        record = _second(rng, 50)
        plain.add(record)
        weighted.add(record, worth=0.3)
    assert plain.size == pytest.approx(1000)
    assert weighted.size == pytest.approx(1000)
    for level, error in ((0.5, 0.025), (0.95, 0.025), (0.99, 0.05)):
        assert weighted.bracket(level, error) == plain.bracket(level, error)
        assert weighted.quantile(level) == pytest.approx(plain.quantile(level))


def test_noise_of_the_arms_own_makes_a_record_worth_as_many_requests_fewer():
    """A variance four times as large is a quarter of the requests."""
    buckets = Buckets()
    buckets.add(_second(np.random.default_rng(1), 800), worth=0.25, phi=4.0)
    assert buckets.size == pytest.approx(200)


def test_unequal_weights_bound_the_mixtures_quantile_at_its_level():
    """Half the weight on 40 requests of one latency, half on 400 of twice it: missed at most as often as said."""
    rng = np.random.default_rng(2)
    spread = np.exp(0.5 * rng.standard_normal(200_000))
    many = np.concatenate([0.02 * spread, 0.04 * spread])
    truth = float(np.quantile(many, 0.9))
    high_missed = low_missed = 0
    for _ in range(400):
        buckets = Buckets()
        buckets.add(_second(rng, 40), worth=1 / 40)
        buckets.add(_second(rng, 400, scale=2.0), worth=1 / 400)
        low, high = buckets.bracket(0.9, 0.05)
        high_missed += high is not None and high < truth
        low_missed += low is not None and low > truth
    assert high_missed <= 30  # 20 expected at most; 31 or more would come by chance in 1 of 100
    assert low_missed <= 30


def test_without_counts_nothing_is_shown():
    """Neither bound, nor a quantile."""
    empty = Buckets()
    assert (empty.size, empty.quantile(0.5)) == (0.0, None)
    empty.add(latencies("q.latency", Arm.CANDIDATE, 0.0, []))
    assert empty.bracket(0.5, 0.05) == (None, None)


# Up to 10, 20, 50 and 100 ms, and above: 25 latencies.
BOUNDS = (0.01, 0.02, 0.05, 0.1)


def _counts(*counts: int, **changes: object) -> Evidence:
    return Evidence(
        **{"kind": Kind.HISTOGRAM, "source": Source.CLIENT, "signal": "q.latency", "start_s": 0.0, "end_s": 1.0,
           "n": sum(counts), "bounds": BOUNDS, "counts": counts, **changes}
    )  # fmt: skip


def _filled(*counts: int) -> Buckets:
    buckets = Buckets()
    buckets.add(_counts(*counts))
    return buckets


@pytest.mark.parametrize(
    "value, above",
    [(0.015, 15 + 6 * (1 - math.log(1.5) / math.log(2))), (0.02, 15), (0.01, 21), (0.007, 21 + 4 * math.log2(10 / 7)),
     (0.005, 25), (0.001, 25), (0.06, 2 + 3 * math.log2(10 / 6)), (0.1, 2), (0.11, 0),
     (0.03, 5 + 10 * (1 - math.log(1.5) / math.log(2.5)))],
)  # fmt: skip
def test_a_share_above_a_value_is_interpolated_on_a_logarithmic_scale(value: float, above: float):
    """The first bucket begins at half its bound; in the overflow nothing is known to lie above."""
    assert _filled(4, 6, 10, 3, 2).share_above(value) == pytest.approx(above / 25)
    assert _filled(0, 0, 0, 0, 0).share_above(value) == 0.0
    assert Buckets().share_above(value) == 0.0


@pytest.mark.parametrize(
    "level, value",
    [(0.5, 0.02 * 2.5**0.25), (0.4, 0.02), (0.08, 0.005 * 2**0.5), (0.16, 0.01), (0.2, 0.01 * 2 ** (1 / 6)),
     (0.92, 0.1), (0.93, None), (0.8, 0.05)],
)  # fmt: skip
def test_a_quantile_is_interpolated_on_a_logarithmic_scale(level: float, value: float | None):
    """Within its bucket; none in the overflow."""
    assert _filled(4, 6, 10, 3, 2).quantile(level) == pytest.approx(value)
    assert _filled(0, 0, 10, 0, 0).quantile(0.5) == pytest.approx(0.02 * 2.5**0.5)
    assert _filled(0, 5, 0, 0, 5).quantile(0.5) == pytest.approx(0.02)
    assert _filled(0, 5, 0, 0, 5).quantile(0.0) == pytest.approx(0.01)


def test_counts_fade_as_new_ones_come():
    """With a memory of 100 requests: by a factor of exp(-n / 100); weights and the arm's own noise too."""
    buckets = Buckets(100.0)
    buckets.add(_counts(4, 6, 10, 3, 2), worth=0.5, phi=2.0)
    buckets.add(_counts(0, 0, 0, 0, 40), worth=0.25, phi=3.0)
    keep = math.exp(-0.4)
    assert buckets.n == pytest.approx(12.5 * keep + 10)
    assert buckets.above() == pytest.approx([10.5 * keep + 10, 7.5 * keep + 10, 2.5 * keep + 10, keep + 10])
    assert buckets.size == pytest.approx(buckets.n**2 / (0.25 * 2 * 25 * keep + 0.0625 * 3 * 40))
    for_ever = Buckets()
    for _ in range(2):
        for_ever.add(_counts(4, 6, 10, 3, 2))
    assert (for_ever.n, for_ever.size, list(for_ever.above())) == (50, 50, [42, 30, 10, 4])


@pytest.mark.parametrize("counts", [(4, 6, 10, 3, 2), (40, 60, 100, 30, 20), (400, 3, 2, 1, 0), (0, 0, 0, 0, 9)])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("error", [0.2, 0.01])
def test_bounds_of_a_quantile_are_by_scipys_binomial_tails(counts: tuple[int, ...], level: float, error: float):
    """High: the lowest bound that is surely exceeded by fewer; low: the highest that is surely exceeded by more."""
    n = sum(counts)
    above = [sum(counts[index + 1 :]) for index in range(4)]
    small = [b for b, over in zip(BOUNDS, above, strict=True) if stats.binom.cdf(over, n, 1 - level) <= error]
    large = [b for b, over in zip(BOUNDS, above, strict=True) if stats.binom.sf(over - 1, n, 1 - level) <= error]
    wanted = (large[-1] if large else None, small[0] if small else None)
    assert _filled(*counts).bracket(level, error) == wanted


def test_a_bound_that_is_wrong_with_exactly_the_chance_allowed_is_shown():
    """One request at the median: wrong in every second case."""
    assert _filled(1, 0, 0, 0, 0).bracket(0.5, 0.5) == (None, 0.01)
    assert _filled(0, 0, 0, 0, 1).bracket(0.5, 0.5) == (0.1, None)


def test_bounds_with_unequal_weights_are_at_the_size_that_each_bounds_weights_leave():
    """30 requests and 20 half as worthy; above .02: 10 and 10, as good as 18 of 48; counts rounded to the safe side."""
    buckets = Buckets()
    buckets.add(_counts(0, 20, 10, 0, 0))
    buckets.add(_counts(0, 10, 7, 2, 1), worth=0.5)
    counts, sizes = np.array([40**2 / 35, 18, 3, 1]), np.array([45, 48, 80, 80])
    for level in (0.5, 0.7, 0.9, 0.99):
        for error in (0.3, 0.05, 0.01):
            small = list(stats.binom.cdf(np.ceil(counts), sizes, 1 - level) <= error)
            large = list(stats.binom.sf(np.floor(counts) - 1, sizes, 1 - level) <= error)
            high = next((BOUNDS[i] for i in range(4) if all(small[i:])), None)
            low = next((BOUNDS[i] for i in reversed(range(4)) if all(large[: i + 1])), None)
            assert buckets.bracket(level, error) == (low, high)


def test_a_few_heavy_slow_requests_are_not_many():
    """20 requests of a cold start weigh as much as 360 later ones; of the upper bounds .5 % may be too low."""
    rng = np.random.default_rng(1)
    missed = 0
    for _ in range(2000):
        buckets = Buckets()
        cold, later = int(rng.binomial(20, 0.3)), int(rng.binomial(2000, 0.005))  # a mixture of 5 % above .02
        buckets.add(_counts(0, 20 - cold, cold, 0, 0), worth=0.9)
        buckets.add(_counts(0, 2000 - later, later, 0, 0), worth=0.05)
        high = buckets.bracket(0.95, 0.005)[1]
        missed += high is not None and high < 0.05
    assert missed <= 20


def test_buckets_with_other_bounds_are_refused():
    """In words."""
    buckets = _filled(4, 6, 10, 3, 2)
    with pytest.raises(ValueError, match=r"^q\.latency: the bucket bounds changed during the run$"):
        buckets.add(_counts(1, 1, 1, 1, 1, bounds=(0.01, 0.02, 0.05, 0.2)))


def test_the_bucket_around_a_quantile_is_the_one_that_it_ends():
    """At a bound, or by rounding a little above it, the bucket below; the first one begins at half its end."""
    buckets = Buckets()
    bounds = np.array([0.01, 0.03, 0.1])
    buckets.add(latencies("q.latency", Arm.CANDIDATE, 0.0, [0.005] * 5 + [0.02] * 4 + [0.05], bounds))
    wanted = {
        0.002: (0.005, 0.01), 0.01: (0.005, 0.01), 0.0101: (0.01, 0.03), 0.03: (0.01, 0.03),
        0.0301: (0.03, 0.1), 0.1: (0.03, 0.1),
    }  # fmt: skip
    for value, edges in wanted.items():
        assert buckets.around(value) == pytest.approx(edges)
        assert buckets.around(value * (1 + 1e-9)) == pytest.approx(edges)
    assert buckets.quantile(0.5) == pytest.approx(0.01)
