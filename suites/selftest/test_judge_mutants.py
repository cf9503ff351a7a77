"""Edges and words of the judge that no other test looks at: each is here because a line could be changed unseen."""

import copy
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from judge_streams import events, latencies, objective_of, plan_of

from harness.judge.bets import Counts, Excess, PastRate
from harness.judge.blocks import ERROR_SCALES, LATENCY_SCALES, BlockContest
from harness.judge.buckets import Buckets
from harness.judge.contest import SCORES, TAIL_BETS, BinaryContest, OrdinalContest
from harness.judge.difference import LatencyDifference, Noise, ShareDifference
from harness.judge.dispersion import LongRunVariance, binary_score, ordinal_score
from harness.judge.finding import Finding, Look, Terms, of
from harness.judge.gating import Gating
from harness.judge.increments import Frame, Key, Reading, increment
from harness.judge.latency import FinestLatencyTrial, LatencyTrial
from harness.judge.number import NumberTrial
from harness.judge.pairing import Intervals, Pairing
from harness.judge.pool import Pool, Seat
from harness.judge.ratio import RatioTrial, Standardised
from harness.model.calibration import Calibration, Dispersion
from harness.model.evidence import Arm, Evidence, Kind, Source
from harness.model.objective import Against, Measure, Objective, Severity
from harness.model.plan import RollbackOn
from harness.model.status import Status
from harness.model.system import Signal

pytestmark = pytest.mark.selftest

B, C = Arm.BASELINE, Arm.CANDIDATE
ERRORS = Signal(name="query.error", bad="req", total="req")
LATENCY = Signal(name="query.latency", histogram="took", scale=0.5)
MEMORY = Signal(name="memory", gauge="rss", scale=2.0)


def key(use: str, **labels: str) -> Key:
    """Return a series' key: its use and its labels as they come."""
    return use, tuple(labels.items())


def errors(at: float, bad: float, total: float, **labels: str) -> Frame:
    """Return a scrape of two counters of "i:1"."""
    return Frame(at, {key(use, instance="i:1", **labels): n for use, n in (("bad", bad), ("total", total))})


def took(at: float, counts: Mapping[str, float], **labels: str) -> Frame:
    """Return a scrape of cumulative buckets by `le`."""
    return Frame(at, {key("bucket", instance="i:1", le=le, **labels): n for le, n in counts.items()})


def joined(*frames: Frame) -> Frame:
    """Return one scrape with the series of all."""
    return Frame(frames[0].at, {k: v for frame in frames for k, v in frame.values.items()})


TWO = joined(errors(10, 3, 50), Frame(10, {key("bad", instance="i:2"): 4.0, key("total", instance="i:2"): 60.0}))
BARE = Frame(10, {key("bad", code="500"): 4.0, key("total"): 60.0})
NONE = {"100": 0.0, "+Inf": 0.0}


@pytest.mark.parametrize(
    "before, now, signal, reading, reason",
    [
        (None, errors(10, 3, 50), ERRORS, Reading.FIRST, "counting starts with this scrape"),
        (errors(10, 3, 50), errors(10, 4, 60), ERRORS, Reading.DUPLICATE, "the scrape of 10.000 came again"),
        (errors(10, 3, 50), errors(9, 4, 60), ERRORS, Reading.BACKWARD,
         "the scrape of 9.000 came after the one of 10.000"),
        (None, errors(10, -1, -2), ERRORS, Reading.MALFORMED, "a counter below 0: total{instance=i:1}"),
        (None, errors(10, math.nan, 2), ERRORS, Reading.STALE, "nan in bad{instance=i:1}"),
        (None, errors(10, 1.1e18, 2), ERRORS, Reading.MALFORMED, "1.1e+18 in bad{instance=i:1}"),
        (None, errors(10, 0, 1e18), ERRORS, Reading.FIRST, "counting starts with this scrape"),
        (TWO, Frame(11, {key("total", instance="i:1"): 60.0, key("total", instance="i:2"): 60.0}), ERRORS,
         Reading.UNTOLD, "series gone, and no restart: bad{instance=i:1}"),
        (errors(10, 3, 50), errors(13, 3, 50), ERRORS, Reading.LATE, "3.0 s between two scrapes, 1 s is usual"),
        (errors(10, 3, 50), errors(12, 3, 50), ERRORS, Reading.OK, ""),
        (TWO, joined(errors(11, 0, 0), Frame(11, {key("bad", instance="i:2"): 0.0, key("total", instance="i:2"): 1.0})),
         ERRORS, Reading.RESET, "counters of i:1, i:2 began anew"),
        (BARE, Frame(11, {key("bad", code="500"): 0.0, key("total"): 1.0}), ERRORS, Reading.RESET,
         "counters of the instance began anew"),
        (TWO, joined(errors(11, 3, 0), Frame(11, {key("bad", instance="i:2"): 0.0, key("total", instance="i:2"): 6e1})),
         ERRORS, Reading.RESET, "counters of i:1, i:2 fell, but not bad{instance=i:1}: the interval is left out"),
        (errors(10, 1, 50, __name__="req", code="500"), errors(11, 2, 7, __name__="req", code="500"), ERRORS,
         Reading.RESET, "counters of i:1 fell, but not req{instance=i:1, code=500}: the interval is left out"),
        (errors(10, 0, 50), errors(11, 9, 53), ERRORS, Reading.MALFORMED,
         "9 violations of 3 units between two scrapes"),
        (errors(10, 0, 50), errors(11, 3, 53), ERRORS, Reading.OK, ""),
        (took(1, NONE), took(2, {"100": 6.0, "+Inf": 5.0}), LATENCY, Reading.MALFORMED,
         "buckets that do not add up: a wider one grew by less than a narrower one"),
        (took(1, {"100": 0.0}), took(2, {"100": 6.0}), LATENCY, Reading.MISSING, "missing buckets: only le = 100"),
        (took(1, {"100": 0.0, "200": 0.0}), took(2, {"100": 6.0, "200": 6.0}), LATENCY, Reading.MISSING,
         "missing buckets: only le = 100, 200"),
        (joined(took(1, NONE, r="a"), took(1, {"200": 0.0, "+Inf": 0.0}, r="b")),
         joined(took(2, NONE, r="a"), took(2, {"200": 0.0, "+Inf": 0.0}, r="b")), LATENCY, Reading.MISSING,
         "missing buckets: le = 100, 200 of one series and not of another"),
        (took(1, {"100": 0.0, "1e2": 0.0}, r="a"), took(2, {"100": 1.0, "1e2": 2.0}, r="a"), LATENCY, Reading.DUPLICATE,
         "the bucket le = 100 came twice: instance=i:1, r=a"),
        (took(1, {"": 0.0}, r="a"), took(2, {"": 1.0}, r="a"), LATENCY, Reading.MALFORMED,
         "a bucket without `le`: instance=i:1, r=a"),
        (Frame(1, {key("bucket", r="a"): 0.0}), Frame(2, {key("bucket", r="a"): 0.0}), LATENCY, Reading.MALFORMED,
         "a bucket without `le`: r=a"),
        (took(1, {"a lot": 0.0}), took(2, {"a lot": 1.0}), LATENCY, Reading.MALFORMED, "a bucket with le = a lot"),
    ],
)  # fmt: skip
def test_what_two_scrapes_are_is_told_in_full(
    before: Frame | None, now: Frame, signal: Signal, reading: Reading, reason: str
):
    """At a usual pace of one second; where nothing is wrong, nothing is said."""
    made = increment(signal, C, before, now, pace_s=1.0)
    assert (made.reading, made.reason) == (reading, reason)
    assert made.record is None or made.record.note == reason


def test_a_pace_is_known_only_where_it_is_told():
    """Four seconds between two scrapes: late at a pace of 1.5 s, nothing at an unknown one; so is 1.3 s at 0.5 s."""
    assert increment(ERRORS, C, errors(10, 0, 5), errors(14, 0, 6), pace_s=1.5).reading is Reading.LATE
    assert increment(ERRORS, C, errors(10, 0, 5), errors(14, 0, 6)).reading is Reading.OK
    assert increment(ERRORS, C, errors(10, 0, 5), errors(11.3, 0, 6), pace_s=0.5).reading is Reading.LATE


def test_a_record_between_two_scrapes_is_whole():
    """Of counters, of one bucket beside the overflow, and of a gauge; a histogram wins over a gauge."""
    common = {"source": Source.PROMETHEUS, "arm": C}
    made = increment(ERRORS, C, errors(10, 0, 5), errors(11, 2, 9))
    assert made.record == Evidence(kind=Kind.EVENTS, signal="query.error", start_s=10, end_s=11, n=4, bad=2, **common)
    made = increment(LATENCY, C, took(1, {"0.5": 1.0, "+Inf": 4.0}), took(2, {"0.5": 1.0, "+Inf": 7.0}))
    whole = {"n": 3, "bounds": (0.25,), "counts": (0, 3)}
    assert made.record == Evidence(kind=Kind.HISTOGRAM, signal="query.latency", start_s=1, end_s=2, **whole, **common)
    both = Signal(name="query.latency", histogram="took", gauge="rss", scale=0.5)
    assert (
        increment(both, C, took(1, {"0.5": 1.0, "+Inf": 4.0}), took(2, {"0.5": 1.0, "+Inf": 7.0})).record == made.record
    )
    rates = Signal(name="query.error", bad="req", total="req", gauge="rss")
    assert increment(rates, C, errors(10, 0, 5), errors(11, 2, 9)).record.kind is Kind.EVENTS
    made = increment(MEMORY, C, None, Frame(3, {key("gauge"): 2.5}))
    assert made.record == Evidence(kind=Kind.GAUGE, signal="memory", start_s=3, end_s=3, value=5.0, **common)


def test_a_scrape_without_any_series_is_no_counter_below_zero():
    """Nothing was exposed yet: counting starts; later, everything is gone."""
    assert increment(ERRORS, C, None, Frame(1, {})).reading is Reading.FIRST
    assert increment(ERRORS, C, errors(1, 0, 1), Frame(2, {})).reading is Reading.GONE


def at(arm: Arm, start_s: float, length_s: float = 1.0, **changes: object) -> Evidence:
    """Return an interval of events."""
    return events("q.error", arm, start_s, 10, 1, end_s=start_s + length_s, **changes)


@pytest.mark.parametrize(
    "one, other, paired",
    [((0.0, 1.0), (0.6, 1.0), True), ((0.0, 1.0), (0.61, 1.0), False), ((0.0, 1.0), (2.9, 5.0), True),
     ((0.0, 5.0), (2.9, 1.0), True), ((0.0, 5.0), (3.1, 1.0), False), ((0.0, 0.0), (0.005, 0.0), True),
     ((0.0, 0.0), (0.007, 0.0), False), ((-0.6, 1.0), (0.0, 1.0), True), ((1e3, 1.0), (1000.7, 1.0), False)],
)  # fmt: skip
def test_partners_start_within_six_tenths_of_the_longer_interval(
    one: tuple[float, float], other: tuple[float, float], *, paired: bool
):
    """Readings without a length within 6 ms; whichever arm comes first, the baseline is told first."""
    for first, second in ((B, C), (C, B)):
        pairing = Pairing()
        records = {first: at(first, *one), second: at(second, *other)}
        assert pairing.add(records[first]) == []
        assert pairing.add(records[second]) == ([(records[B], records[C])] if paired else [])


def test_the_nearest_partner_is_taken_and_only_once():
    """Of two that are near enough; the other one waits for its own."""
    pairing = Pairing()
    near, far = at(B, 0.5), at(B, 0.0)
    assert pairing.add(far) + pairing.add(near) == []
    candidates = [at(C, 0.45), at(C, 0.4)]
    assert [pairing.add(candidate) for candidate in candidates] == [[(near, candidates[0])], [(far, candidates[1])]]
    assert pairing.add(at(C, 0.42)) == []


@pytest.mark.parametrize("arm", [B, C])
def test_the_oldest_of_sixty_five_that_wait_is_handed_back_alone(arm: Arm):
    """By its start, though it came last."""
    pairing = Pairing()
    for start in range(64):
        assert pairing.add(at(arm, float(start))) == []
    oldest = at(arm, -5.0)
    assert pairing.add(oldest) == [(oldest, None) if arm is B else (None, oldest)]


def test_a_record_without_an_arm_is_no_partner():
    """It is refused in words."""
    with pytest.raises(ValueError, match=r"^q\.error: a comparison with the baseline needs the arm of every record$"):
        Pairing().add(events("q.error", None, 0.0, 10))


@pytest.mark.parametrize("length_s, as_it_is", [(0.99, True), (0.98, False), (3.0, True)])
def test_what_is_as_long_as_a_judging_interval_stays_as_it_is(length_s: float, *, as_it_is: bool):
    """Within a hundredth; what is shorter waits for the next interval to begin."""
    intervals = Intervals(1.0)
    assert intervals.add(at(B, 0.0, length_s)) == []
    assert len(intervals.add(at(C, 0.0, length_s))) == as_it_is


def test_a_judging_interval_is_the_sum_of_what_lay_in_it():
    """Counts are added and the last end is kept, also where the longest came first; a pair of a later one ends it."""
    intervals = Intervals(10.0)
    bounds = np.array([0.01, 0.02])
    pieces = [(20.0, 5.0, [0.005, 0.015]), (21.0, 1.0, [0.03, 0.005]), (29.9, 0.05, [0.015])]
    for start, length, seconds in pieces:
        for arm in Arm:
            assert intervals.add(latencies("q", arm, start, seconds, bounds, end_s=start + length)) == []
    lone = at(B, 25.0)
    assert intervals.add(lone) == []
    assert intervals.add(latencies("q", B, 30.0, [], bounds)) == []
    ((baseline, candidate),) = intervals.add(latencies("q", C, 30.0, [], bounds))
    for arm, record in ((B, baseline), (C, candidate)):
        whole = latencies("q", arm, 20.0, [0.005, 0.015, 0.03, 0.005, 0.015], bounds, end_s=29.95)
        assert record == whole
        assert record.counts == (2, 2, 1)


@pytest.mark.parametrize("who", [B, C])
def test_either_arms_stage_ends_a_judging_interval(who: Arm):
    """The pair before is handed on, as it was."""
    intervals = Intervals(10.0)
    first = {arm: at(arm, 20.0, stage="10") for arm in Arm}
    later = {arm: at(arm, 21.0, stage="50" if arm is who else "10") for arm in Arm}
    ready = [pair for record in (*first.values(), *later.values()) for pair in intervals.add(record)]
    assert ready == [(first[B], first[C])]


def test_bounds_that_change_within_a_judging_interval_are_refused():
    """Whichever of its records has others."""
    intervals = Intervals(10.0)
    for start, bound in ((20.0, 0.01), (21.0, 0.02)):
        for arm in Arm:
            intervals.add(latencies("q", arm, start, [0.001], np.array([bound])))
    intervals.add(latencies("q", B, 30.0, [], np.array([0.02])))
    with pytest.raises(ValueError, match=r"^q: the bucket bounds changed during the run$"):
        intervals.add(latencies("q", C, 30.0, [], np.array([0.02])))


def terms_of(objective: Objective, mode: RollbackOn, alpha: float = 0.01, **changes: object) -> Terms:
    """Return an objective's terms in an uncalibrated run."""
    gate = Gating(mode=mode, calibration=None, why="it is new")
    return Terms(
        **{"objective": objective, "plan": plan_of(), "source": Source.CLIENT, "threshold": objective.threshold,
           "alpha": alpha, "gating": gate, **changes}
    )  # fmt: skip


POINT = objective_of(Measure.RATIO, "q.error", 1, "points", against=Against.BASELINE)
P90 = objective_of(Measure.QUANTILE, "q.latency", 50, "%", against=Against.BASELINE, quantile=0.9)


def seat(log_e: float, alpha: float = 0.01, mode: RollbackOn = RollbackOn.DIFFERENCE, **changes: object) -> Seat:
    """Return a comparison that has brought so much evidence."""
    terms = terms_of(replace(POINT, **changes), mode, alpha)
    trial = RatioTrial(terms)
    if mode is RollbackOn.DIFFERENCE:
        trial.difference = SimpleNamespace(log_e=log_e)
    return Seat(terms=terms, trial=trial, signals=("q.error",))


def named(*seats: Seat) -> list[bool]:
    """Return whose finding fails by the pool."""
    pool = Pool(seats)
    pool.settle()
    passing = Finding(status=Status.PASS, reason="shown", needed=7)
    return [pool.named(one, passing).status is Status.FAIL for one in seats]


def test_the_pool_fails_at_one_over_the_sum_of_the_parts_of_alpha():
    """One alone at its own alarm, and a hair below; two of equal parts that are each at the sum's alarm."""
    alarm = -math.log(0.01)
    assert named(seat(alarm)) == [True]
    assert named(seat(math.nextafter(alarm, 0))) == [False]
    assert named(seat(-math.log(0.03), 0.01), seat(-math.log(0.03) + 0.001, 0.02)) == [True, True]
    assert named(seat(-math.log(0.03), 0.01), seat(-math.log(0.03) - 0.001, 0.02)) == [False, False]


def test_the_pool_names_who_carries_a_tenth_of_the_evidence_or_would_convince_alone():
    """Beside one that is far beyond the alarm."""
    strong = -math.log(0.02) + 1
    tenth = strong - math.log(9)
    assert named(seat(strong), seat(tenth + 0.001)) == [True, True]
    assert named(seat(strong), seat(tenth - 0.001)) == [True, False]
    assert named(seat(20.0), seat(math.log(20))) == [True, True]
    assert named(seat(20.0), seat(math.nextafter(math.log(20), 0))) == [True, False]
    assert named(seat(20.0, 0.001), seat(-5.0, 0.009)) == [True, False]


def test_the_pool_weighs_evidence_by_the_parts_of_alpha():
    """A hundredth of the weight needs a hundred times the evidence; a tenth of the average is of the weighted one."""
    alarm = -math.log(0.1)
    assert named(seat(alarm + math.log(100) - 0.001, 0.001), seat(-50.0, 0.099)) == [False, False]
    assert named(seat(alarm + math.log(100) + 0.001, 0.001), seat(-50.0, 0.099)) == [True, False]
    assert named(seat(2.9, 0.005), seat(2.5, 0.095)) == [False, True]


def test_only_guardrails_that_ask_for_any_difference_are_pooled():
    """Shown alone, or held to a margin alone: no part, and no share of alpha."""
    alarm = -math.log(0.01)
    assert named(seat(alarm), seat(99.0, severity=Severity.INFO)) == [True, False]
    assert named(seat(alarm), seat(99.0, mode=RollbackOn.EXCESS)) == [True, False]
    assert named() == []
    assert named(seat(99.0, mode=RollbackOn.ABSOLUTE)) == [False]


def test_once_named_the_guilty_stay_and_nobody_joins_them():
    """The first alarm is what the bound speaks of."""
    first, second = seat(9.0), seat(-9.0)
    pool = Pool([first, second])
    pool.settle()
    first.trial.difference.log_e, second.trial.difference.log_e = -9.0, 9.0
    pool.settle()
    passing = Finding(status=Status.PASS, reason="shown", estimate=1.0, interval=(0.0, 2.0), n=3, needed=7)
    assert pool.named(second, passing) is passing
    words = "shown; worse than the baseline beyond chance: over all comparisons, looks and stages together "
    words += "this happens to an equal release with a chance of at most 2.0 %"
    assert pool.named(first, passing) == replace(passing, status=Status.FAIL, reason=words, needed=None)


def test_a_latency_in_the_pool_is_the_finer_of_the_two_that_came():
    """Alone in it."""
    terms = terms_of(P90, RollbackOn.DIFFERENCE)
    trial = FinestLatencyTrial(terms)
    trial.judged.difference = SimpleNamespace(log_e=99.0)
    assert named(Seat(terms=terms, trial=trial, signals=("q.latency",))) == [True]
    trial.observe(latencies("q.latency.fine", B, 0.0, [0.01]))
    trial.judged.difference = SimpleNamespace(log_e=0.0)
    assert named(Seat(terms=terms, trial=trial, signals=("q.latency",))) == [False]


KNOWN = Dispersion(objective="it", source="client", contest=0.4, level=0.3, intervals=960, informative=960)


def test_noise_tempers_by_the_level_that_is_judged_and_classes_by_all():
    """Each G in its place; unknown noise tempers nothing."""
    noise = Noise(KNOWN)
    assert float(noise.phi(0.1, 30, 60)) == pytest.approx(1 + 1.5 * 0.3 * 0.1 * 0.9 * 30 * 60 / 90)
    assert noise.contest_g == 0.4
    assert (float(Noise(None).phi(0.1, 30, 60)), Noise(None).contest_g) == (1.0, 0.0)
    assert (Noise(None).measuring, Noise(None, measuring=True).measuring) == (False, True)


def test_noise_is_measured_only_where_both_arms_serve_the_same():
    """From the counts at the level; a gap leaves no neighbours in either of the two."""
    counts = Counts(7, 30, 2, 60)
    still, noise, expected = Noise(KNOWN), Noise(None, measuring=True), LongRunVariance()
    for one in (still, noise):
        one.measure_level(counts)
        one.contest.update(1.0, 0.5)
        one.measure_level(Counts(9, 30, 0, 60))
    expected.update(*binary_score(7, 30, 2, 60))
    expected.update(*binary_score(9, 30, 0, 60))
    assert (still.level.intervals, noise.level.intervals) == (0, 2)
    assert float(noise.level.value) == pytest.approx(float(expected.value))
    noise.gap()
    expected.gap()
    noise.measure_level(counts)
    expected.update(*binary_score(7, 30, 2, 60))
    assert float(noise.level.value) == pytest.approx(float(expected.value))
    one, other = LongRunVariance(), LongRunVariance()
    for variance in (one, other):
        variance.update(1.0, 0.5)
    other.gap()
    noise.contest.update(1.0, 0.5)
    other.update(1.0, 0.5)
    assert float(noise.contest.value) == pytest.approx(float(other.value))


@pytest.mark.parametrize("mode", list(RollbackOn))
def test_a_shares_difference_is_bet_on_as_the_run_gates(mode: RollbackOn):
    """Tempered bets, blocks, or nothing; measured in any case."""
    gate = Gating(mode=mode, calibration=None, why="")
    noise = Noise(KNOWN, measuring=True)
    difference = ShareDifference(gate, noise)
    bets, blocks = BinaryContest(), BlockContest()
    for _ in range(20):
        counts, share = Counts(3, 30, 1, 40), np.asarray(0.04)
        difference.update(counts, share)
        bets.update(counts, p_b=share, phi=Noise(KNOWN).phi(0.04, 30, 40))
        blocks.update(counts)
    wanted = {RollbackOn.DIFFERENCE: float(bets.log_e), RollbackOn.BLOCKS: float(blocks.log_e)}
    assert difference.log_e == pytest.approx(wanted.get(mode))
    assert noise.level.intervals == 20


FINER = np.geomspace(0.004, 0.4, 61)
FINE = np.array([0.005, 0.01, 0.014, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2])


def _seconds(rng: np.random.Generator, n: int, slower: float = 1.0) -> np.ndarray:
    return 0.02 * slower * np.exp(0.6 * rng.standard_normal(n))


def _thresholds(past: Buckets, levels: Sequence[float]) -> list[int]:
    """Return the index of the bound nearest, in ratio, to each of the past's quantiles."""
    return [int(np.argmin(np.abs(np.log(np.array(past.bounds) / past.quantile(level))))) for level in levels]


def _shares(
    mode: RollbackOn, level: float, bounds: np.ndarray, *, rounds: int = 40, measuring: bool = False
) -> tuple[LatencyDifference, Noise, list[tuple[np.ndarray, np.ndarray, Buckets]]]:
    """Feed a latency's difference intervals of a slower candidate; return also their latencies and the past of each."""
    rng = np.random.default_rng(4)
    noise = Noise(KNOWN, measuring=measuring)
    difference = LatencyDifference(Gating(mode=mode, calibration=None, why=""), noise, level)
    past, seen = Buckets(), []
    past.add(latencies("q", B, 0.0, _seconds(rng, 300), bounds))
    for second in range(rounds):
        slow, usual = _seconds(rng, 25, 1.15), _seconds(rng, 40)
        candidate, baseline = latencies("q", C, second, slow, bounds), latencies("q", B, second, usual, bounds)
        difference.update(candidate, baseline, past)
        seen.append((slow, usual, copy.deepcopy(past)))
        past.add(baseline)
    return difference, noise, seen


def _above_by_hand(slow: np.ndarray, usual: np.ndarray, past: Buckets, level: float) -> tuple[Counts, np.ndarray]:
    (mark,) = _thresholds(past, [level])
    counts = Counts(int((slow > past.bounds[mark]).sum()), 25, int((usual > past.bounds[mark]).sum()), 40)
    return counts, np.asarray((past.above()[mark] + 1 - level) / (past.n + 1))


@pytest.mark.parametrize("level", [0.99, 0.95])
def test_a_tails_difference_is_the_share_above_its_past_quantile(level: float):
    """From p99 on; below it only where the buckets can't tell p50, p90 and p99 apart."""
    bounds = FINE if level == 0.99 else np.array([0.02, 0.07])
    difference, _, seen = _shares(RollbackOn.DIFFERENCE, level, bounds)
    bets = BinaryContest(bets=TAIL_BETS)
    for slow, usual, past in seen:
        counts, share = _above_by_hand(slow, usual, past, level)
        bets.update(counts, p_b=share, phi=Noise(KNOWN).phi(float(share), 25, 40))
    # Below p99 the classes, which were never told, are averaged in at an e-value of 1.
    logs = [float(bets.log_e)] + ([0.0] if level == 0.95 else [])
    assert abs(float(bets.log_e)) > 0.01
    assert difference.log_e == pytest.approx(math.log(np.mean(np.exp(logs))))


@pytest.mark.parametrize("measuring", [False, True])
def test_a_bodys_difference_is_bet_on_by_classes(*, measuring: bool):
    """Between the past p50, p90 and p99; their noise is measured from the same counts."""
    difference, noise, seen = _shares(RollbackOn.DIFFERENCE, 0.95, FINE, measuring=measuring)
    bets, contest, level = OrdinalContest(), LongRunVariance(), LongRunVariance()
    for slow, usual, past in seen:
        marks = _thresholds(past, [0.5, 0.9, 0.99])
        edges = [0.0, *(past.bounds[mark] for mark in marks), math.inf]
        counts_c, counts_b = (np.diff([float((x <= edge).sum()) for edge in edges]) for x in (slow, usual))
        exceed = (past.above()[marks] + 20 * np.array([0.5, 0.1, 0.01])) / (past.n + 20)
        phi = OrdinalContest.tempering(0.4, exceed, np.asarray(25.0), np.asarray(40.0))
        bets.update(counts_c, counts_b, exceed=exceed, phi=phi)
        contest.update(*ordinal_score(counts_c, counts_b, SCORES))
        counts, _ = _above_by_hand(slow, usual, past, 0.95)
        level.update(*binary_score(counts.bad_c, counts.n_c, counts.bad_b, counts.n_b))
    # The share above the quantile, which was never told, is averaged in at an e-value of 1.
    assert difference.log_e == pytest.approx(math.log((math.exp(float(bets.log_e)) + 1) / 2))
    assert (noise.contest.intervals, noise.level.intervals) == ((40, 40) if measuring else (0, 0))
    if measuring:
        assert float(noise.contest.value) == pytest.approx(float(contest.value))
        assert float(noise.level.value) == pytest.approx(float(level.value))


@pytest.mark.parametrize("level, levels", [(0.95, (0.95, 0.5)), (0.99, (0.99,))])
def test_by_blocks_a_latency_is_its_quantiles_share_and_the_medians(level: float, levels: tuple[float, ...]):
    """The median's with scales of its own; not for a tail."""
    difference, noise, seen = _shares(RollbackOn.BLOCKS, level, FINE)
    blocks = [BlockContest(scales=LATENCY_SCALES if one == 0.5 else ERROR_SCALES) for one in levels]
    for slow, usual, past in seen:
        for one, block in zip(levels, blocks, strict=True):
            block.update(_above_by_hand(slow, usual, past, one)[0])
    assert difference.log_e == pytest.approx(math.log(np.mean([math.exp(float(block.log_e)) for block in blocks])))
    assert noise.contest.intervals == 0


@pytest.mark.parametrize("mode", [RollbackOn.EXCESS, RollbackOn.ABSOLUTE])
def test_held_to_a_margin_a_latency_has_no_difference_but_its_noise_is_measured(mode: RollbackOn):
    """Both kinds of noise for a body, the level's alone for a tail."""
    difference, noise, _ = _shares(mode, 0.95, FINE, measuring=True)
    assert difference.log_e is None
    assert (noise.contest.intervals, noise.level.intervals) == (40, 40)
    _, noise, _ = _shares(mode, 0.99, FINE, measuring=True)
    assert (noise.contest.intervals, noise.level.intervals) == (0, 40)


def test_beyond_the_buckets_a_share_is_counted_above_the_last_bound_and_kept_inside():
    """The past p95 in the overflow; shares of nothing and of nearly all are kept within 0.00001 and 0.97."""
    for seconds, share, mark in (([0.5] * 99 + [0.001], 0.97, 1), ([0.001] * 10**6, 1e-5, 0)):
        past = Buckets()
        past.add(latencies("q", B, 0.0, seconds, np.array([0.01, 0.1])))
        noise = Noise(None)
        difference = LatencyDifference(Gating(mode=RollbackOn.DIFFERENCE, calibration=None, why=""), noise, 0.999999)
        candidate = latencies("q", C, 1.0, [0.5, 0.05, 0.001], np.array([0.01, 0.1]))
        baseline = latencies("q", B, 1.0, [0.05] * 4, np.array([0.01, 0.1]))
        difference.update(candidate, baseline, past)
        bets = BinaryContest(bets=TAIL_BETS)
        bets.update(Counts(1, 3, 0, 4) if mark else Counts(2, 3, 4, 4), p_b=np.asarray(share))
        assert difference.log_e == pytest.approx(float(bets.log_e))


def _rollout(
    slower: float, *, rounds: int, warm: int = 300, bounds: np.ndarray = FINE, seed: int = 8
) -> tuple[list[Evidence], list[tuple[Evidence, Evidence]]]:
    """Return a warm-up of the baseline, and intervals of both arms of changing sizes while both drift."""
    rng = np.random.default_rng(seed)
    warmup = [latencies("q.latency", B, -5.0, _seconds(rng, warm), bounds, stage="warmup")]
    pairs = [
        (latencies("q.latency", C, at, _seconds(rng, 15 + 9 * (at % 5), slower * (1 + 0.2 * (at % 5))), bounds),
         latencies("q.latency", B, at, _seconds(rng, 30 + 25 * (at % 3), 1 + 0.2 * (at % 5)), bounds))
        for at in range(rounds)
    ]  # fmt: skip
    return warmup, pairs


def _latency_trial(
    warmup: Sequence[Evidence], pairs: Sequence[tuple[Evidence, Evidence]], *, calibrated: bool = False, **terms: object
) -> Finding:
    """Return what a latency trial of 50 % at p90 finds."""
    made = Calibration(
        system="it", plan="quick", made_at="", interval_s=1.0, load_rate=65.0, intervals=960, windows=10,
        false_alarms=0, dispersions=(KNOWN,),
    )  # fmt: skip
    gate = Gating(mode=RollbackOn.EXCESS, calibration=made if calibrated else None, why="")
    objective = terms.pop("objective", P90)
    trial = LatencyTrial(terms_of(objective, RollbackOn.EXCESS, **{"gating": gate, **terms}))
    for record in (*warmup, *(record for pair in pairs for record in pair)):
        trial.observe(record)
    return trial.find(Look(at=0.0, stage="50", final=True))


class _ByHand:
    """What a trial of 50 % at p90 must come to, interval by interval."""

    def __init__(self, warmup: Sequence[Evidence], pairs: Sequence[tuple[Evidence, Evidence]], g: float = 0.0) -> None:
        past, past_c = Buckets(2000.0), PastRate(prior_bad=0.1, prior_n=1.0)
        self.n = sum(record.n for pair in pairs for record in pair)
        self.candidate, self.baseline, self.excess, self.beyond = Buckets(), Buckets(), Excess(), Standardised()
        for record in warmup:
            past.add(record)
        for candidate, baseline in pairs:
            n_c, n_b = candidate.n, baseline.n
            phi = 1 + 1.5 * g * 0.1 * 0.9 * n_c * n_b / (n_c + n_b)
            self.candidate.add(candidate, worth=n_b / (n_c + n_b) / phi, phi=phi)
            self.baseline.add(baseline, worth=n_c / (n_c + n_b) / phi, phi=phi)
            if past.n >= 50:
                bounds = np.array(past.bounds)
                mark = int(np.argmin(np.abs(np.log(bounds / (1.5 * past.quantile(0.9))))))
                self.threshold = bounds[mark]
                counts = Counts(sum(candidate.counts[mark + 1 :]), n_c, sum(baseline.counts[mark + 1 :]), n_b)
                p_b = (past.above()[mark] + 0.05) / (past.n + 1)
                margin = max(0.0, past.share_above(self.threshold / 1.5) - p_b)
                self.excess.update(counts, p_b=p_b, past_c=past_c.towards(p_b), margin=margin, phi=phi)
                past_c.update(counts.bad_c, n_c)
                self.beyond.add(counts)
            past.add(baseline)
        self.c, self.b = self.candidate.quantile(0.9), self.baseline.quantile(0.9)
        (low_c, high_c), (low_b, high_b) = (arm.bracket(0.9, 0.01) for arm in (self.candidate, self.baseline))
        self.low = self.high = None
        bounds = np.array([past.bounds[0] / 2, *past.bounds])
        (left_c, right_c), (left_b, right_b) = (
            (bounds[np.searchsorted(bounds, q * (1 - 1e-6)) - 1], bounds[np.searchsorted(bounds, q * (1 - 1e-6))])
            for q in (self.c, self.b)
        )
        self.coarse = right_c / left_b
        if low_c and high_b:
            self.low = left_c / right_b * math.exp(-math.hypot(math.log(left_c / low_c), math.log(high_b / right_b)))
        if high_c and low_b:
            self.high = right_c / left_b * math.exp(math.hypot(math.log(high_c / right_c), math.log(left_b / low_b)))

    @property
    def words(self) -> str:
        """What is told of the arms."""
        seen = self.beyond
        return (
            f"candidate's p90 {1000 * self.c:.3g} ms against the baseline's {1000 * self.b:.3g} ms "
            f"({100 * (self.c / self.b - 1):+.0f} %); above each interval's threshold (the newest "
            f"{1000 * self.threshold:.3g} ms): candidate {of(seen.bad_c, seen.n_c)}, baseline "
            f"{of(seen.bad_b, seen.n_b)} in the same intervals"
        )


def _is_told(found: Finding, hand: _ByHand) -> None:
    assert found.estimate == pytest.approx(100 * (hand.c / hand.b - 1))
    low = -100.0 if hand.low is None else 100 * (hand.low - 1)
    assert found.interval == pytest.approx((low, 100 * (hand.high - 1)))
    assert found.n == hand.n


@pytest.mark.parametrize("g", [0.0, 0.3])
def test_an_open_latency_is_told_with_its_bounds_and_what_it_still_needs(g: float):
    """Neither within nor beyond: the bound of the ratio shrinks, as logarithms do, with the root of the requests."""
    warmup, pairs = _rollout(1.3, rounds=14, bounds=FINER)
    found, hand = _latency_trial(warmup, pairs, calibrated=g > 0), _ByHand(warmup, pairs, g)
    _is_told(found, hand)
    assert hand.low is not None
    shown = f"at most {100 * (hand.high - 1):+.0f} % is shown, the margin is 50 %"
    assert (found.status, found.reason) == (Status.INCONCLUSIVE, f"{hand.words}: {shown}")
    now, wanted = math.log(hand.high / hand.coarse), math.log(1.5 / hand.coarse)
    assert found.needed == math.ceil(hand.n * ((now / wanted) ** 2 - 1))


def test_buckets_wider_than_the_margin_never_pass_and_say_so():
    """Twice 25 to 50 ms: however many requests, one may be nearly twice the other."""
    wide = np.array([0.025, 0.05, 0.1])
    warmup = [latencies("q.latency", B, -5.0, [0.04] * 300 + [0.08] * 9, wide, stage="warmup")]
    pairs = [(latencies("q.latency", C, at, [0.048] * 900, wide), latencies("q.latency", B, at, [0.026] * 900, wide))
             for at in range(9)]  # fmt: skip
    for margin, passes in ((90, False), (101, True)):
        found = _latency_trial(warmup, pairs, threshold=margin)
        assert (found.status is Status.PASS) is passes, found.reason
        assert ("the buckets are too coarse to show more" in found.reason) is not passes
        assert found.needed is None


def test_a_latency_beyond_its_margin_has_no_number_of_requests_that_would_settle_it():
    """The estimate lies at twice the baseline's; with little alpha nothing fails."""
    warmup, pairs = _rollout(2.0, rounds=14)
    found, hand = _latency_trial(warmup, pairs, alpha=1e-12), _ByHand(warmup, pairs)
    _is_told(found, hand)
    assert (found.status, found.needed) == (Status.INCONCLUSIVE, None)


def test_a_latency_within_its_margin_passes_in_words():
    """A quicker candidate; passed also by a plan that never rolls back by comparison."""
    warmup, pairs = _rollout(0.8, rounds=40)
    found, hand = _latency_trial(warmup, pairs), _ByHand(warmup, pairs)
    _is_told(found, hand)
    words = f"{hand.words}: shown at most {100 * (hand.high - 1):+.0f} %, within 50 %"
    assert (found.status, found.reason, found.needed) == (Status.PASS, words, None)
    gate = Gating(mode=RollbackOn.ABSOLUTE, calibration=None, why="")
    assert _latency_trial(warmup, pairs, gating=gate) == found


@pytest.mark.parametrize("g", [0.0, 0.3])
def test_a_latency_fails_at_one_over_alpha_and_only_where_margins_roll_back(g: float):
    """A hair of alpha on either side of the evidence."""
    warmup, pairs = _rollout(2.5, rounds=14)
    hand = _ByHand(warmup, pairs, g)
    peak = float(hand.excess.peak)
    assert peak > 1
    found = _latency_trial(warmup, pairs, calibrated=g > 0, alpha=math.exp(1e-9 - peak))
    assert (found.status, found.reason) == (Status.FAIL, f"{hand.words}: beyond the margin of 50 %")
    below = _latency_trial(warmup, pairs, calibrated=g > 0, alpha=math.exp(-1e-9 - peak))
    assert below.status is Status.INCONCLUSIVE
    for mode in (RollbackOn.BLOCKS, RollbackOn.ABSOLUTE):
        gate = Gating(mode=mode, calibration=None, why="")
        assert _latency_trial(warmup, pairs, alpha=0.5, gating=gate).status is not Status.FAIL


def test_the_highest_evidence_against_a_latency_is_kept():
    """A bad beginning, and a good end."""
    warmup, bad = _rollout(1.9, rounds=14)
    _, good = _rollout(0.8, rounds=40, seed=9)
    later = [tuple(replace(r, start_s=r.start_s + 100, end_s=r.end_s + 100) for r in pair) for pair in good]
    hand = _ByHand(warmup, [*bad, *later])
    assert float(hand.excess.log_e) < float(hand.excess.peak) - 1
    alpha = math.exp(1e-9 - float(hand.excess.peak))
    assert _latency_trial(warmup, [*bad, *later], alpha=alpha).status is Status.FAIL


def test_few_latencies_bound_nothing_and_those_in_the_overflow_have_no_quantile():
    """One interval; and a candidate whose p90 lies beyond the last bound."""
    warmup, pairs = _rollout(1.0, rounds=1, warm=40)
    few = [tuple(latencies("q.latency", r.arm, 0.0, [0.02] * 8, FINE) for r in pair) for pair in pairs]
    found = _latency_trial(warmup, few)
    assert found.reason == (
        "candidate's p90 19.3 ms against the baseline's 19.3 ms (+0 %): too few requests for a bound, "
        "the margin is 50 %"
    )  # fmt: skip
    assert (found.estimate, found.interval, found.n, found.needed) == (pytest.approx(0.0), None, 16, None)
    slow = [(latencies("q.latency", C, 0.0, [0.5] * 25, FINE), pairs[0][1])]
    found = _latency_trial(warmup, slow)
    assert found.reason.startswith("candidate's p90 beyond the buckets against the baseline's ")
    assert "%" not in found.reason.split(":")[0]
    assert (found.status, found.estimate, found.interval) == (Status.INCONCLUSIVE, None, None)
    stuck = [(pairs[0][0], latencies("q.latency", B, 0.0, [0.5] * 40, FINE))]
    assert _latency_trial(warmup, stuck).estimate is None


@pytest.mark.parametrize(
    "quantile, warm, bet", [(0.9, 50, True), (0.9, 49, False), (0.99, 200, True), (0.99, 199, False)]
)
def test_a_latencys_threshold_wants_fifty_requests_or_two_in_the_tail(quantile: float, warm: int, *, bet: bool):
    """Of the baseline's past, warm-up included; before that nothing is counted above it."""
    warmup, pairs = _rollout(1.0, rounds=1, warm=warm)
    objective = replace(P90, quantile=quantile)
    found = _latency_trial(warmup, pairs, objective=objective)
    assert ("above each interval's threshold" in found.reason) is bet
    others = [replace(warmup[0], arm=C), replace(warmup[0], stage="smoke"), replace(warmup[0], stage="")]
    assert "above each interval's threshold" not in _latency_trial(others, pairs, objective=objective).reason


def test_a_threshold_beyond_the_last_bound_is_the_last_bound():
    """The past p90 at 70 to 100 ms, the last bound at 100; one within a bucket below it; without any there is none."""
    bounds = np.array([0.01, 0.07, 0.1])
    pairs = [(latencies("q.latency", C, 0.0, [0.09] * 25, bounds), latencies("q.latency", B, 0.0, [0.08] * 40, bounds))]
    for seconds, newest in ((0.08, "newest 100 ms"), (0.03, "newest 70 ms"), (0.5, "")):
        warmup = [latencies("q.latency", B, -5.0, [seconds] * 300, bounds, stage="warmup")]
        reason = _latency_trial(warmup, pairs).reason
        assert newest in reason
        assert ("newest" in reason) is bool(newest)
    usual = [0.02] * 34 + [0.08] * 6
    warmup = [latencies("q.latency", B, -5.0, usual * 8, bounds, stage="warmup")]
    slow = [(latencies("q.latency", C, at, [0.3] * 25, bounds), latencies("q.latency", B, at, usual, bounds))
            for at in range(20)]  # fmt: skip
    assert _latency_trial(warmup, slow).status is Status.FAIL


def test_pairs_of_intervals_of_which_one_is_empty_count_for_nothing():
    """No request of either arm, or of one: no quantile moves."""
    warmup, pairs = _rollout(1.15, rounds=14)
    empty = [(latencies("q.latency", C, 50.0, [], FINE), latencies("q.latency", B, 50.0, [], FINE))]
    assert _latency_trial(warmup, [*pairs, *empty]) == _latency_trial(warmup, pairs)
    found = _latency_trial(warmup, empty)
    assert (found.status, found.reason) == (
        Status.INCONCLUSIVE, "no evidence: no interval in which both arms served",
    )  # fmt: skip


@pytest.mark.parametrize(
    "changes, says",
    [({"unit": "points"}, "found 50 'points', quantile 0.9"), ({"quantile": None}, "found 50 '%', quantile None"),
     ({"threshold": -1}, "found -1 '%', quantile 0.9")],
)  # fmt: skip
def test_a_latency_against_the_baseline_wants_a_quantile_and_a_margin(changes: dict, says: str):
    """Each is refused in words; no margin at all is one."""
    words = f"objective it: a quantile against the baseline has a quantile and a margin in %; {says}"
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        LatencyTrial(terms_of(replace(P90, **changes), RollbackOn.EXCESS))
    assert LatencyTrial(terms_of(replace(P90, threshold=0), RollbackOn.EXCESS))


def test_a_latency_reads_histograms_of_the_same_buckets():
    """Anything else is refused in words."""
    trial = LatencyTrial(terms_of(P90, RollbackOn.EXCESS))
    with pytest.raises(ValueError, match=r"^q\.latency: a quantile reads a histogram, found events$"):
        trial.observe(events("q.latency", C, 0.0, 10))
    trial.observe(latencies("q.latency", C, 0.0, [0.01], FINE))
    with pytest.raises(ValueError, match=r"^q\.latency: the arms' bucket bounds differ$"):
        trial.observe(latencies("q.latency", B, 0.0, [0.01], FINE[1:]))


def test_a_latency_trial_has_begun_with_its_first_counts():
    """A warm-up's, or a pair's whose baseline served nothing."""
    trial = LatencyTrial(terms_of(P90, RollbackOn.EXCESS))
    assert not trial.started
    trial.observe(latencies("q.latency", B, 0.0, [], FINE))
    assert not trial.started
    finest = FinestLatencyTrial(terms_of(P90, RollbackOn.EXCESS))
    finest.observe(latencies("q.latency", B, 0.0, [0.01], FINE, stage="warmup"))
    coarse = finest.judged
    assert coarse.started
    finest.observe(latencies("q.latency.fine", B, 0.0, [0.01], FINE, stage="warmup"))
    assert finest.judged is not coarse


def test_a_baselines_lone_intervals_join_its_past():
    """Of 65 that no candidate meets, the oldest is handed back: 60 requests, enough for a threshold."""
    _, pairs = _rollout(1.0, rounds=1)
    lone = [latencies("q.latency", B, 100.0 + at, [0.02] * 60, FINE) for at in range(65)]
    assert "threshold" in _latency_trial(lone, pairs).reason
    assert "threshold" not in _latency_trial(lone[1:], pairs).reason


def test_a_latency_whose_ratio_has_no_lower_bound_is_shown_from_nothing():
    """All of the candidate's in the first bucket: no bound lies surely under its p90."""
    warmup, pairs = _rollout(1.0, rounds=8)
    quick = [(latencies("q.latency", C, at, [0.004] * 40, FINE), pair[1]) for at, pair in enumerate(pairs)]
    found, hand = _latency_trial(warmup, quick), _ByHand(warmup, quick)
    assert hand.low is None
    _is_told(found, hand)
    assert found.status is Status.PASS


def test_a_latency_at_its_margin_by_rounding_passes_and_just_beyond_it_needs_one_request_more():
    """A billionth is allowed; a ten-millionth is not. A margin just under the estimate is never proven."""
    warmup, pairs = _rollout(0.9, rounds=30, bounds=FINER)
    hand = _ByHand(warmup, pairs)
    margin = 100 * (hand.high - 1)
    assert _latency_trial(warmup, pairs, threshold=margin - 5e-8).status is Status.PASS
    beyond = _latency_trial(warmup, pairs, threshold=margin - 1e-5)
    assert (beyond.status, beyond.needed) == (Status.INCONCLUSIVE, 1)
    warmup, pairs = _rollout(1.3, rounds=30, bounds=FINER)
    apart = 100 * (_ByHand(warmup, pairs).coarse - 1)
    assert apart > 5
    assert _latency_trial(warmup, pairs, threshold=apart - 1e-3).needed is None
    assert _latency_trial(warmup, pairs, threshold=apart + 1e-3).needed is not None


@pytest.mark.parametrize("slow, newest", [(583, "14 ms"), (600, "70 ms")])
def test_a_tails_past_is_remembered_for_forty_requests_above_it(slow: int, newest: str):
    """At p99 over 4,000: after 8,000 quick ones 14 % of the slow ones count, just under or over one in a hundred."""
    past = [[0.06] * slow, [0.006] * 8000]
    warmup = [latencies("q.latency", B, at, seconds, FINE, stage="warmup") for at, seconds in enumerate(past)]
    _, pairs = _rollout(1.0, rounds=1)
    reason = _latency_trial(warmup, pairs, objective=replace(P90, quantile=0.99)).reason
    assert f"(the newest {newest})" in reason


def test_a_latency_measures_noise_where_its_terms_say_so():
    """And not elsewhere."""
    for measuring in (False, True):
        trial = LatencyTrial(terms_of(P90, RollbackOn.EXCESS, measures_noise=measuring))
        assert trial.noise.measuring is measuring


def test_trials_that_compare_with_nothing_have_no_seat_in_the_pool():
    """An objective against a number."""
    terms = terms_of(objective_of(Measure.RATIO, "q.error", 5, "%"), RollbackOn.DIFFERENCE)
    assert named(Seat(terms=terms, trial=NumberTrial(terms), signals=("q.error",)), seat(-math.log(0.01))) == [
        False,
        True,
    ]


def _with_stage(pairs: Sequence[tuple[Evidence, Evidence]], stage: str) -> list[tuple[Evidence, Evidence]]:
    """Return later intervals in another stage."""
    return [
        tuple(replace(r, stage=stage, start_s=r.start_s + 500, end_s=r.end_s + 500) for r in pair) for pair in pairs
    ]


@pytest.mark.parametrize("over, held", [(3, False), (5, True), (9, True)])
def test_a_latency_that_is_slow_in_the_newest_stage_alone_is_held_in_words(over: int, held: bool):  # noqa: FBT001
    """Of 40 requests more than 4, the quantile's tenth; the baseline has none, and its past grants some 3 in 40."""
    warmup, pairs = _rollout(0.8, rounds=80)
    last = (latencies("q.latency", C, 0.0, [0.19] * over + [0.01] * (40 - over), FINE),
            latencies("q.latency", B, 0.0, [0.01] * 40, FINE))  # fmt: skip
    found = _latency_trial(warmup, [*pairs, *_with_stage([last], "100")])
    assert found.status is Status.INCONCLUSIVE
    seen = f"but in stage 100 alone {of(over, 40)} against {of(0, 40)}" if held else "not yet in stage 100 alone"
    assert found.reason.endswith(f": within 50 % over all, {seen}")


@pytest.mark.parametrize("over, shown", [(0, True), (1, True), (3, False)])
def test_a_latency_passes_once_its_newest_stage_alone_brings_an_e_value_of_three(over: int, shown: bool):  # noqa: FBT001
    """Ten intervals of forty requests there, some above the threshold, and a holdout of two."""
    warmup, pairs = _rollout(0.8, rounds=80)
    last = [(latencies("q.latency", C, at, [0.19] * over + [0.01] * (40 - over), FINE),
             latencies("q.latency", B, at, [0.01] * 2, FINE)) for at in range(10)]  # fmt: skip
    found = _latency_trial(warmup, [*pairs, *_with_stage(last, "100")])
    assert found.status is (Status.PASS if shown else Status.INCONCLUSIVE), found.reason


def test_a_latency_that_is_slow_on_both_arms_in_the_newest_stage_is_not_held():
    """The baseline is as slow, for long enough that its past catches up."""
    warmup, pairs = _rollout(0.8, rounds=80)
    slow = [0.19] * 9 + [0.01] * 31
    last = [(latencies("q.latency", C, at, slow, FINE), latencies("q.latency", B, at, slow, FINE)) for at in range(40)]
    found = _latency_trial(warmup, [*pairs, *_with_stage(last, "100")], threshold=150)
    assert found.status is Status.PASS, found.reason


@pytest.mark.parametrize("n, bad, says", [
    (100, 0, ": within the margin of 1 points over all, not yet in stage 100 alone"), (160, 0, ""),
    (600, 1, ""), (600, 4, ": within the margin of 1 points over all, not yet in stage 100 alone"),
    (100, 2, ": within the margin of 1 points over all, but +2.00 points in stage 100 alone"),
])  # fmt: skip
def test_a_share_passes_on_what_its_newest_stage_alone_shows(n: int, bad: int, says: str):
    """Beyond one point in a hundred: two; the two of the stage before count no more. A holdout of one in eight."""
    trial = RatioTrial(terms_of(POINT, RollbackOn.EXCESS))
    stages = [("50", 100, 400, 0)] * 3 + [("75", 100, 400, 2)] + [("100", n, n // 8, bad)]
    for start, (stage, n_c, n_b, wrong) in enumerate(stages):
        for arm, units, count in ((C, n_c * (10 if stage == "50" else 1), wrong), (B, n_b, 0)):
            trial.observe(events("q.error", arm, start, units, count, stage=stage))
    found = trial.find(Look(at=0.0, stage="100", final=False))
    assert found.status is (Status.INCONCLUSIVE if says else Status.PASS), found.reason
    assert says in found.reason
    assert (found.needed is not None) is ("not yet" in says and bad == 0), found.reason


def test_what_is_still_open_is_judged_at_the_end_and_only_once():
    """Three seconds of an interval of ten."""
    plan = plan_of(interval_s=10.0)
    ratio, latency = (RatioTrial(terms_of(POINT, RollbackOn.EXCESS, plan=plan)),
                      FinestLatencyTrial(terms_of(P90, RollbackOn.EXCESS, plan=plan)))  # fmt: skip
    latency.observe(latencies("q.latency.fine", B, -1.0, [0.01], FINE, stage="warmup"))
    for start in range(3):
        for arm, n in ((C, 20), (B, 30)):
            ratio.observe(events("q.error", arm, float(start), n))
            latency.observe(latencies("q.latency.fine", arm, float(start), [0.01] * n, FINE))
    look = Look(at=3.0, stage="50", final=True)
    for trial in (ratio, latency):
        assert trial.find(look).n == 0
        trial.flush()
        assert trial.find(look).n == 150
        trial.flush()
        assert trial.find(look).n == 150
