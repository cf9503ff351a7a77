"""Judging intervals stay whole however late slow answers make their parts."""

from collections.abc import Iterable, Iterator
from math import ceil

import judge_streams as streams
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.judge.bets import Counts
from harness.judge.blocks import BlockContest
from harness.judge.calibrate import Calibrator
from harness.judge.pairing import Intervals
from harness.model.evidence import Arm, Evidence
from harness.model.objective import Against, Measure
from harness.wiring.aa_evidence import measured

pytestmark = pytest.mark.selftest

Pair = tuple[Evidence | None, Evidence | None]


def seconds(order: Iterable[float], stage: str = "50") -> Iterator[Evidence]:
    """Yield both arms' seconds in the order in which they come."""
    for at in order:
        for arm in Arm:
            yield streams.events("q.error", arm, float(at), 20, 1, stage=stage, share=0.5)


def slow(median_s: float, spread: float, length: int, look_s: int = 5, seed: int = 1) -> list[int]:
    """Return seconds in the order in which their slowest of 40 answers lets them come, by looks."""
    rng = np.random.default_rng(seed)
    slowest = (median_s * np.exp(spread * rng.standard_normal((length, 40)))).max(axis=1)
    return sorted(range(length), key=lambda at: (ceil((at + 1 + slowest[at]) / look_s), at))


def fed(intervals: Intervals, records: Iterable[Evidence]) -> list[Pair]:
    """Return what is handed on of these."""
    return [pair for record in records for pair in intervals.add(record)]


def spans(pairs: Iterable[Pair]) -> list[tuple[float, float, int]]:
    """Return start, end and units of each pair's candidate."""
    return [(c.start_s, c.end_s, c.n) for _, c in pairs if c]


@pytest.mark.parametrize("median_s, spread", [(0.02, 0.47), (1.0, 0.77), (3.0, 0.7), (20.0, 0.5)])
def test_slow_answers_leave_judging_intervals_whole(median_s: float, spread: float):
    """1,500 seconds by intervals of 15 s, a look every 5 s: a hundred intervals, in order, and nothing lost."""
    intervals = Intervals(15.0)
    ready = fed(intervals, seconds(slow(median_s, spread, 1500)))
    made = spans(ready + intervals.flush())
    assert len(made) == 100
    assert sum(n for _, _, n in made) == 1500 * 20
    assert [ceil(end / 15) - 1 for _, end, _ in made[10:]] == list(range(10, 100))  # at first, lateness is being learnt
    assert np.median([n for _, _, n in made]) == 15 * 20


def test_what_comes_in_order_waits_for_nothing():
    """An interval is handed on with the first second of the next, also after a slow time is over."""
    intervals = Intervals(5.0)
    assert [len(fed(intervals, seconds([at]))) for at in range(11)] == [0] * 5 + [1] + [0] * 4 + [1]
    fed(intervals, seconds([15, 14, 13, 12, 11]))
    fed(intervals, seconds(range(16, 400)))
    assert [len(fed(intervals, seconds([at]))) for at in range(400, 406)] == [1, 0, 0, 0, 0, 1]
    assert len(intervals.flush()) == 1


def test_a_block_of_intervals_is_as_long_as_its_intervals():
    """Twenty intervals of 15 s are five minutes, also where answers take three seconds."""
    intervals, contest = Intervals(15.0), BlockContest()
    for baseline, candidate in fed(intervals, seconds(slow(3.0, 0.7, 3600))) + intervals.flush():
        assert baseline is not None
        assert candidate is not None
        contest.update(Counts(candidate.bad, candidate.n, baseline.bad, baseline.n))
    assert contest.blocks == 12


def test_a_calibration_counts_an_interval_once():
    """Two runs of ten minutes, answers of three seconds: forty intervals each, the last one of each run, too."""
    objective = streams.objective_of(Measure.RATIO, "q.error", 1.0, "points", id="two", against=Against.BASELINE)
    plan = streams.plan_of(interval_s=15.0)
    order = slow(3.0, 0.7, 600)
    found = measured([objective], plan, [list(seconds(order)), list(seconds(at + 9000 for at in order))])
    assert found.intervals == 80
    alone = Calibrator([objective], plan)
    alone.observe(list(seconds(order)))
    assert alone.intervals < 40
    alone.gap()
    assert alone.intervals == 40


def test_what_is_late_beyond_all_experience_joins_the_oldest_open_interval_of_its_stage():
    """Second 3 comes after the interval that it lay in: it counts once, in the next one, with both arms' parts."""
    intervals = Intervals(10.0)
    ready = fed(intervals, seconds([0, 1, 2, 4, 5, 6, 7, 8, 9, 10]))
    assert spans(ready) == [(0, 10, 9 * 20)]
    assert fed(intervals, seconds([3])) == []
    ((baseline, candidate),) = intervals.flush()
    assert baseline is not None
    assert candidate is not None
    assert (baseline.n, candidate.n, baseline.bad, candidate.bad) == (40, 40, 2, 2)


def test_what_is_late_of_a_stage_that_is_over_is_handed_on_alone():
    """It bears its own stage's name, and no later stage's interval holds it."""
    intervals = Intervals(10.0)
    assert fed(intervals, seconds([0, 1, 3], "10")) == []
    ready = fed(intervals, [*seconds([5], "25"), *seconds(range(6, 10), "25")])
    assert [(c.stage, c.n) for _, c in ready if c] == [("10", 60)]
    ((baseline, candidate),) = fed(intervals, seconds([2], "10"))
    assert baseline is not None
    assert candidate is not None
    assert (baseline.stage, candidate.stage, candidate.n) == ("10", "10", 20)
    assert [(c.stage, c.n) for _, c in intervals.flush() if c] == [("25", 100)]


def test_two_stages_of_one_interval_wait_for_their_late_parts():
    """Once lateness is known: each gets its own, in order."""
    intervals = Intervals(10.0)
    fed(intervals, seconds([3, 0, 1, 2], "5"))
    ready = fed(intervals, [*seconds([4, 6], "10"), *seconds([7, 8], "25"), *seconds([5], "10"), *seconds([20], "25")])
    assert [(c.stage, c.n) for _, c in ready + intervals.flush() if c] == [
        ("5", 80),
        ("10", 60),
        ("25", 40),
        ("25", 20),
    ]


def test_one_clock_that_runs_ahead_stalls_nothing():
    """A second of an hour from now: those of today are handed on as they come."""
    intervals = Intervals(10.0)
    fed(intervals, seconds([0, 1, 3600]))
    assert [len(fed(intervals, seconds([at]))) for at in range(2, 30)] == [1] * 28


def test_what_waits_is_bounded():
    """A thousand seconds, each up to a minute late: never more than some minutes wait."""
    rng = np.random.default_rng(3)
    intervals, there, most = Intervals(2.0), 0, 0
    for at in sorted(range(1000), key=lambda at: at + rng.uniform(0, 60)):
        there += 20 - sum(c.n for _, c in fed(intervals, seconds([at])) if c)
        most = max(most, there)
    assert most <= 20 * 200
    assert sum(c.n for _, c in intervals.flush() if c) == there


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from(["10", "50"])), max_size=60, unique_by=lambda one: one[0])
)
def test_in_any_order_nothing_is_lost_counted_twice_or_of_two_stages(order: list[tuple[int, str]]):
    """Sixty seconds of two stages."""
    intervals = Intervals(10.0)
    ready = [pair for at, stage in order for pair in fed(intervals, seconds([at], stage))] + intervals.flush()
    for stage in ("10", "50"):
        mine = [pair for pair in ready if pair[1] and pair[1].stage == stage]
        assert sum(c.n for _, c in mine if c) == 20 * sum(one == stage for _, one in order)
        assert all(b and c and b.stage == c.stage and b.n == c.n for b, c in mine)
    assert intervals.flush() == []


def test_an_interval_that_begins_where_the_last_one_ended_is_one_of_its_own_and_comes_before_younger_ones():
    """Second 10 comes after second 20 had the first interval handed on: two intervals, in order of time."""
    intervals = Intervals(10.0)
    assert spans(fed(intervals, seconds([0, 20]))) == [(0, 1, 20)]
    assert fed(intervals, seconds([10])) == []
    assert spans(intervals.flush()) == [(10, 11, 20), (20, 21, 20)]


def test_what_ends_an_interval_over_a_gap_is_its_own_end():
    """Second 15 of an interval that nothing opened yet is not counted in the one after the gap."""
    intervals = Intervals(10.0)
    assert spans(fed(intervals, seconds([0, 40]))) == [(0, 1, 20)]
    assert fed(intervals, seconds([15])) == []
    assert spans(intervals.flush()) == [(15, 16, 20), (40, 41, 20)]


@pytest.mark.parametrize("late, alone", [(300, 0), (301, 1)])
def test_five_minutes_late_is_the_latest_that_is_believed(late: int, alone: int):
    """At five minutes a record still has its interval; a second later it is handed on alone."""
    intervals = Intervals(10.0)
    fed(intervals, seconds([late]))
    assert len(spans(fed(intervals, seconds([0])))) == alone


def test_lateness_is_forgotten_in_some_twenty_intervals():
    """A second late once: after thirty intervals in order each is handed on with the first second of the next."""
    intervals = Intervals(10.0)
    fed(intervals, seconds([1, 0, *range(2, 301)]))
    assert spans(fed(intervals, seconds(range(301, 310)))) == []
    assert spans(fed(intervals, seconds([310]))) == [(300, 310, 200)]
