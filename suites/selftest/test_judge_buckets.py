"""Latency counts with weights: bounds of a quantile."""

import numpy as np
import pytest
from judge_streams import latencies

from harness.judge.buckets import Buckets
from harness.model.evidence import Arm, Evidence

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
