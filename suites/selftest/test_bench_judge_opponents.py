"""The other tools' rules: each flags what it must, and leaves alone what it must."""

import numpy as np
import pytest

from harness.bench.opponents import RULES, arms, asymptotic_sequence, failure_limit, threshold_counter
from harness.bench.oracle import oracle
from harness.bench.streams import Effect, Layout, Noise, Stream, World, draw
from harness.bench.subject import NEVER

pytestmark = pytest.mark.selftest
LAYOUT = Layout(shares=(0.5,), intervals=240, calibration=720, views=2)
AWFUL = Effect(errors=10.0, latency=3.0, stuck=0.3)
MUCH = World(requests_min=40_000)


def stream(world: World, effect: Effect | None = None, layout: Layout = LAYOUT, runs: int = 12) -> Stream:
    """Draw rollouts at half the traffic."""
    return draw(np.random.SeedSequence(3), world, effect or Effect(), layout, runs)


@pytest.fixture(scope="module")
def good() -> Stream:
    """As good as its baseline, with much traffic."""
    return stream(MUCH)


@pytest.fixture(scope="module")
def awful() -> Stream:
    """Worse in everything."""
    return stream(MUCH, AWFUL)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_rolls_an_awful_candidate_back(name: str, awful: Stream):
    """Ten times the errors, three times the latency."""
    times = RULES[name](awful)
    assert np.all(times < NEVER)
    assert times.min() >= 1
    assert times.max() <= LAYOUT.intervals


# The relative criteria and the tests of a thousand looks flag good candidates: that is their finding, not a defect.
@pytest.mark.parametrize("name", [name for name in RULES if "each minute" not in name])
def test_a_rule_leaves_a_good_candidate_with_much_traffic_alone(name: str, good: Stream):
    """Shares are known to a tenth: every threshold is far away."""
    assert np.mean(RULES[name](good) < NEVER) <= 1 / 12


@pytest.mark.parametrize("name", [name for name in RULES if "each minute" in name])
def test_a_repeated_test_leaves_most_good_candidates_alone_where_it_looks_but_ten_times(name: str):
    """With few looks its level still holds roughly."""
    short = Layout(shares=(0.5,), intervals=40, calibration=0, views=2)
    assert np.mean(RULES[name](stream(MUCH, layout=short, runs=200)) < NEVER) < 0.1


def test_the_counter_counts_missing_minutes_and_the_limit_stops_after_five_blanks():
    """No traffic at all: the counter acts in minute 1, 5 and 10, the limit in minute 5."""
    nobody = stream(World(requests_min=1e-9))
    minute = 4
    assert set(threshold_counter(nobody, failures=1)) == {minute}
    assert set(threshold_counter(nobody, failures=20)) == {10 * minute}  # two metrics miss each minute
    assert set(failure_limit(nobody, limit=0)) == {5 * minute}


def test_the_asymptotic_sequence_holds_its_level_on_independent_requests_and_breaks_on_noise():
    """The published property, and its limit."""
    rare = asymptotic_sequence(stream(World(requests_min=4000), runs=200))
    assert np.mean(rare < NEVER) <= 0.03
    noisy = World(requests_min=4000, own=Noise(errors=0.5, memory=0.8))
    assert np.mean(asymptotic_sequence(stream(noisy, runs=100)) < NEVER) > 0.5


def test_the_oracle_keeps_its_level_and_is_the_fastest():
    """At most one in a hundred good ones; a threefold rate within minutes."""
    world = World(requests_min=400)
    assert np.mean(oracle(stream(world, runs=300), odds=3.0) < NEVER) <= 0.02
    fast = np.median(oracle(stream(world, Effect(errors=3.0), runs=300), odds=3.0))
    assert fast * 0.25 == pytest.approx(4.2, abs=1.0)


def test_the_oracle_that_knows_the_noise_holds_where_the_other_does_not():
    """Arm noise of .5 with memory .8: false alarms of most good candidates, or of few."""
    noise = Noise(errors=0.5, memory=0.8)
    made = stream(World(requests_min=2000, own=noise), runs=200)
    assert np.mean(oracle(made, odds=3.0) < NEVER) > 0.1
    assert np.mean(oracle(made, odds=3.0, noise=noise.long_run) < NEVER) < 0.05


def test_series_add_up_over_looks():
    """A minute is four intervals."""
    made = stream(World())
    fine, coarse = arms(made)[0], arms(made, 60.0)[0]
    assert coarse.bad[0] == pytest.approx(fine.bad[:4].sum(axis=0))
    assert len(coarse.n) == LAYOUT.intervals // 4
