"""The bench's rollouts have the moments that they are said to have."""

import numpy as np
import pytest

from harness.bench.streams import (
    THRESHOLD_SHARES,
    Counts,
    Effect,
    Latency,
    Layout,
    Noise,
    Stream,
    World,
    draw,
    exceedance,
    shares_over_time,
)

pytestmark = pytest.mark.selftest
SHORT = Layout(intervals=60, calibration=60, views=2)
HUGE = 400_000.0  # requests a minute at which counting noise is small


def stream(world: World, effect: Effect | None = None, layout: Layout = SHORT, runs: int = 50) -> Stream:
    """Draw rollouts of one seed."""
    return draw(np.random.SeedSequence(7), world, effect or Effect(), layout, runs)


def error_rate(served: Counts, view: int = 0) -> float:
    """Return the share of errors of one instance."""
    return served.errors[..., view].sum() / served.n.sum()


def log_rates(served: Counts, view: int = 0) -> np.ndarray:
    """Return the log error rate of each interval and rollout."""
    return np.log((served.errors[..., view] + 0.5) / np.maximum(served.n, 1))


def test_the_same_seed_gives_the_same_rollouts_and_another_seed_others():
    """Every count is equal, or not."""
    one, two = stream(World()), stream(World())
    assert np.array_equal(one.candidate.slower, two.candidate.slower)
    assert np.array_equal(one.halves[1].errors, two.halves[1].errors)
    other = draw(np.random.SeedSequence(8), World(), Effect(), SHORT, 50)
    assert not np.array_equal(one.candidate.errors, other.candidate.errors)


def test_traffic_is_split_as_the_ramp_asks_and_evenly_between_the_halves():
    """Ten percent first, ninety-five last."""
    made = stream(World(requests_min=5000))
    n = [half.n[SHORT.calibration :] for half in made.halves]
    total = made.candidate.n + n[0] + n[1]
    got = made.candidate.n.sum(axis=1) / total.sum(axis=1)
    assert got == pytest.approx(shares_over_time(SHORT), abs=0.01)
    assert n[0].sum() == pytest.approx(n[1].sum(), rel=0.01)
    assert total.mean() == pytest.approx(1250, rel=0.01)


def test_errors_and_latencies_have_their_shares_in_every_view():
    """One percent of errors; half, a tenth and a hundredth above the thresholds."""
    made = stream(World(requests_min=5000))
    for served in (*made.halves, made.candidate):
        for view in range(2):
            assert error_rate(served, view) == pytest.approx(0.01, rel=0.05)
            above = served.slower[..., view, :].sum(axis=(0, 1)) / served.n.sum()
            assert above == pytest.approx(np.array(THRESHOLD_SHARES), rel=0.05)


@pytest.mark.parametrize("kind", list(Latency))
def test_every_latency_has_its_thresholds_at_the_same_shares_and_slows_down(kind: Latency):
    """Also bimodal and Pareto ones."""
    world = World(latency=kind)
    assert exceedance(world, np.zeros(1))[0] == pytest.approx(np.array(THRESHOLD_SHARES), rel=1e-6)
    assert np.all(exceedance(world, np.full(1, 0.1)) > exceedance(world, np.zeros(1)))


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.8, 0.95])
def test_noise_of_an_arm_has_its_deviation_and_memory_and_is_its_own(memory: float):
    """Log error rates of one arm; nothing in common with the other's."""
    layout = Layout(intervals=10, calibration=400, views=1, latencies=False)
    made = stream(World(requests_min=HUGE, own=Noise(errors=0.2, memory=memory)), layout=layout, runs=60)
    rates = [log_rates(half) for half in made.halves]
    assert rates[0].std() == pytest.approx(0.2, rel=0.12)
    one = rates[0] - rates[0].mean()
    assert (one[1:] * one[:-1]).mean() / one.var() == pytest.approx(memory, abs=0.06)
    assert abs(np.corrcoef(rates[0].ravel(), rates[1].ravel())[0, 1]) < 0.1


def test_memory_is_stated_for_fifteen_seconds_whatever_the_interval():
    """Three steps of 5 s remember as much as one of 15 s."""
    layout = Layout(intervals=10, calibration=600, interval_s=5.0, views=1, latencies=False)
    made = stream(World(requests_min=3 * HUGE, own=Noise(errors=0.2, memory=0.8)), layout=layout)
    one = log_rates(made.halves[0])
    one = one - one.mean()
    assert (one[3:] * one[:-3]).mean() / one.var() == pytest.approx(0.8, abs=0.06)


def test_common_noise_is_the_same_on_all_arms():
    """The halves move together."""
    made = stream(World(requests_min=HUGE, common=Noise(errors=0.5, memory=0.9)))
    one, two = (log_rates(half).ravel() for half in made.halves)
    assert np.corrcoef(one, two)[0, 1] > 0.95


def test_overdispersed_errors_vary_as_a_beta_binomial():
    """Variance n p (1 - p) (1 + (n - 1) rho)."""
    layout = Layout(intervals=10, calibration=400, views=1, latencies=False)
    made = stream(World(requests_min=1600, overdispersion=0.01), layout=layout)
    served = made.halves[0]
    expected = (served.n * 0.01 * 0.99 * (1 + (served.n - 1) * 0.01)).mean()
    assert np.square(served.errors[..., 0] - 0.01 * served.n).mean() == pytest.approx(expected, rel=0.1)


def test_errors_drift_on_both_arms_in_the_ramp_alone():
    """From one percent to three."""
    made = stream(World(requests_min=HUGE, drift_to=0.03))
    before, ramp = made.halves[0].errors[:60], made.halves[0].errors[60:]
    assert before.sum() / made.halves[0].n[:60].sum() / 2 == pytest.approx(0.01, rel=0.02)
    for errors, n in ((ramp, made.halves[0].n[60:]), (made.candidate.errors, made.candidate.n)):
        assert errors[-3:].sum() / n[-3:].sum() / 2 == pytest.approx(0.03, rel=0.1)


def test_gaps_are_silent_for_all_or_for_the_candidate_alone():
    """Three tenths of the intervals, and a tenth."""
    made = stream(World(requests_min=50_000, gaps=(0.3, 0.1)), runs=100)
    everybody = made.halves[0].n + made.halves[1].n
    assert (everybody == 0).mean() == pytest.approx(0.3, abs=0.02)
    assert (made.candidate.n == 0).mean() == pytest.approx(0.37, abs=0.02)


def test_a_restless_candidate_is_noisier_and_an_instance_differs_for_good():
    """The two worlds in which arms are not exchangeable."""
    layout = Layout(shares=(0.5,), intervals=200, calibration=0, views=1, latencies=False)
    own = Noise(errors=0.2, memory=0.5)
    made = stream(World(requests_min=HUGE, own=own, restless=1.5), layout=layout)
    assert log_rates(made.candidate).std() == pytest.approx(1.5 * log_rates(made.halves[0]).std(), rel=0.1)
    made = stream(World(requests_min=HUGE, instance=(0.3, 0.0)), layout=layout, runs=400)
    assert log_rates(made.candidate).mean(axis=0).std() == pytest.approx(0.3, rel=0.15)


@pytest.mark.parametrize(
    "effect, errors, above",
    [
        (Effect(errors=3.0), 0.03, (0.5, 0.1, 0.01)),
        (Effect(latency=1.2), 0.01, (0.642, 0.180, 0.0249)),
        (Effect(spread=1.25), 0.01, (0.5, 0.153, 0.0314)),
        (Effect(stuck=0.01), 0.01, (0.505, 0.109, 0.0199)),
    ],
)
def test_an_effect_changes_the_candidates_first_view_alone(effect: Effect, errors: float, above: tuple[float, ...]):
    """Expected shares computed by hand from the lognormal."""
    made = stream(World(requests_min=20_000), effect)
    assert error_rate(made.candidate) == pytest.approx(errors, rel=0.05)
    got = made.candidate.slower[..., 0, :].sum(axis=(0, 1)) / made.candidate.n.sum()
    assert got == pytest.approx(np.array(above), rel=0.03)
    assert error_rate(made.candidate, 1) == pytest.approx(0.01, rel=0.05)
    assert error_rate(made.halves[0]) == pytest.approx(0.01, rel=0.05)
