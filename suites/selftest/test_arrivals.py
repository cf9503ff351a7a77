"""The arrival schedule and the histogram: same seed, same plan; nothing lost by splitting or merging."""

from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.planning.arrivals import PROCESSES, arrivals, partition
from harness.planning.histogram import Histogram, log_linear_bounds

pytestmark = pytest.mark.selftest

processes = st.sampled_from(PROCESSES)
rates = st.floats(0.5, 200)
seeds = st.integers(0, 2**32)
bounds = st.lists(st.floats(0.001, 10), min_size=1, max_size=8, unique=True).map(sorted)
values = st.lists(st.floats(0, 20), max_size=40)


@given(processes, rates, seeds)
def test_the_same_seed_gives_the_same_schedule(process: str, rate: float, seed: int) -> None:
    """Two plans from the same arguments are equal, request by request."""
    first, second = (list(arrivals(process=process, rate=rate, seconds=3, seed=seed)) for _ in range(2))
    assert first == second


def test_another_seed_gives_another_schedule() -> None:
    """The planted opposite: a schedule that ignored its seed would pass the law above."""
    one, two = (list(arrivals(process="poisson", rate=40, seconds=3, seed=seed)) for seed in (1, 2))
    assert [a.at_s for a in one] != [a.at_s for a in two]
    assert {a.session for a in one}.isdisjoint(a.session for a in two)


@given(processes, rates, seeds, st.integers(1, 7))
def test_the_slices_of_n_workers_make_up_one_workers_schedule(
    process: str, rate: float, seed: int, workers: int
) -> None:
    """Every arrival belongs to exactly one worker, whatever their number."""
    whole = list(arrivals(process=process, rate=rate, seconds=2, seed=seed))
    slices = [
        list(partition(arrivals(process=process, rate=rate, seconds=2, seed=seed), worker, workers))
        for worker in range(workers)
    ]
    assert sorted(arrival for part in slices for arrival in part) == whole


@pytest.mark.parametrize("process", PROCESSES)
def test_the_rate_is_the_one_asked_for(process: str) -> None:
    """20,000 arrivals take their time to within 2 %."""
    last = list(islice(arrivals(process=process, rate=50, seconds=10**6, seed=7), 20_000))[-1]
    assert last.at_s == pytest.approx(400, rel=0.02)


def test_sessions_are_short_and_marked_at_their_first_request() -> None:
    """About three requests each; `first` exactly once, before the rest; keys never come back."""
    seen: dict[str, int] = {}
    for arrival in arrivals(process="poisson", rate=40, seconds=300, seed=5):
        assert arrival.first == (arrival.session not in seen)
        seen[arrival.session] = seen.get(arrival.session, 0) + 1
    assert max(seen.values()) <= 5
    assert sum(seen.values()) / len(seen) == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("arguments", [{"process": "burst"}, {"rate": 0.0}, {"seconds": -1.0}, {"rate": float("nan")}])
def test_a_plan_that_makes_no_sense_is_refused(arguments: dict[str, object]) -> None:
    """Unknown process, no rate, negative time, NaN."""
    good: dict[str, object] = {"process": "poisson", "rate": 1.0, "seconds": 1.0, "seed": 0}
    with pytest.raises(ValueError, match="arrival"):
        arrivals(**{**good, **arguments})  # type: ignore[arg-type]


def test_a_worker_outside_the_workers_is_refused() -> None:
    """Worker 2 of 2 would silently send nothing that anybody misses."""
    with pytest.raises(ValueError, match=r"0\.\.1"):
        partition([], 2, 2)


@given(bounds, values)
def test_a_histogram_counts_each_bound_exactly(upper: list[float], seen: list[float]) -> None:
    """The counts up to a bound are the values at or under it: a value at the bound is within it."""
    histogram = Histogram(upper)
    for value in [*seen, *upper]:
        histogram.add(value)
    for index, bound in enumerate(upper):
        assert sum(histogram.counts[: index + 1]) == sum(value <= bound for value in [*seen, *upper])
    assert sum(histogram.counts) == histogram.n == len(seen) + len(upper)


@given(bounds, values, values)
def test_merged_histograms_equal_one_that_saw_all(upper: list[float], left: list[float], right: list[float]) -> None:
    """Bit-identical counts, in either order."""
    parts = [Histogram(upper) for _ in range(4)]
    for part, seen in zip(parts, (left, right, left, right), strict=True):
        for value in seen:
            part.add(value)
    parts[0].merge(parts[1])
    parts[3].merge(parts[2])
    whole = Histogram(upper)
    for value in [*left, *right]:
        whole.add(value)
    assert parts[0].counts == parts[3].counts == whole.counts
    assert parts[0].n == whole.n


def test_histograms_of_other_bounds_do_not_merge() -> None:
    """Adding counts of unlike buckets would be a silent lie."""
    with pytest.raises(ValueError, match="equal bounds"):
        Histogram([1, 2]).merge(Histogram([1, 3]))


@given(st.lists(st.floats(0.001, 30), min_size=1, max_size=60), st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_the_nearest_rank_to_within_its_bucket(seen: list[float], p: float) -> None:
    """Never below the truth, and at most one bucket (1/16) above it."""
    histogram = Histogram(log_linear_bounds(0.001, 32, 16))
    for value in seen:
        histogram.add(value)
    truth = sorted(seen)[max(1, -int(-len(seen) * p // 1)) - 1]
    assert truth <= histogram.quantile(p) <= max(0.001, truth * (1 + 1 / 16)) * (1 + 1e-12)


def test_log_linear_bounds_rise_by_at_most_a_step() -> None:
    """The relative width of every bucket is bounded, and the upper end is covered."""
    found = log_linear_bounds(0.0005, 32, 8)
    assert found[0] == 0.0005
    assert found[-1] >= 32
    assert all(a < b <= a * 1.1251 for a, b in pairwise(found))
