"""Two scrapes and what lies between them: each reading typed with its reason, and counters kept through resets."""

import math
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.adapters.prometheus_series import read_frames
from harness.judge.increments import Frame, Increment, Key, Reading, increment
from harness.judge.telemetry import Telemetry
from harness.model.evidence import Arm, Evidence, Kind
from harness.model.system import Signal

pytestmark = pytest.mark.selftest

C = Arm.CANDIDATE
ERRORS = Signal(name="query.error", bad='req{outcome="error"}', total="req")
LATENCY = Signal(name="query.latency", histogram="took_ms", scale=0.001)
MEMORY = Signal(name="memory", gauge="rss", scale=2.0)


def key(use: str, **labels: str) -> Key:
    """Return a series' key; "i:1" unless told otherwise."""
    return use, tuple(sorted({"instance": "i:1", **labels}.items()))


def errors(at: float, bad: float, total: float, instance: str = "i:1") -> Frame:
    """Return a scrape of two counters."""
    return Frame(at, {key("bad", instance=instance): bad, key("total", instance=instance): total})


def buckets(at: float, counts: Mapping[str, float], **labels: str) -> Frame:
    """Return a scrape of cumulative buckets by `le`."""
    return Frame(at, {key("bucket", le=le, **labels): value for le, value in counts.items()})


def joined(*frames: Frame) -> Frame:
    """Return one scrape with the series of all."""
    return Frame(frames[0].at, {k: v for frame in frames for k, v in frame.values.items()})


def between(before: Frame | None, now: Frame, signal: Signal = ERRORS, pace_s: float = 0.0) -> Increment:
    """Return the increment of the candidate."""
    return increment(signal, C, before, now, pace_s=pace_s)


def test_a_first_scrape_is_where_counting_starts():
    """Sound, and no record."""
    made = between(None, errors(10, 3, 50))
    assert (made.reading, made.sound, made.record) == (Reading.FIRST, True, None)
    other = between(errors(10, 3, 50), errors(11, 3, 50, instance="i:2"))
    assert (other.reading, other.record) == (Reading.FIRST, None)


def test_counters_are_differenced():
    """From scrape to scrape."""
    made = between(errors(10, 3, 50), errors(11.5, 5, 90))
    assert made.reading is Reading.OK
    assert made.record is not None
    record = made.record
    assert (record.kind, record.arm, record.start_s, record.end_s, record.n, record.bad) == (
        Kind.EVENTS, C, 10, 11.5, 40, 2,
    )  # fmt: skip


def test_a_reset_counts_everything_of_the_instance_from_nothing():
    """All that had counted fell; what was 0 before may have grown."""
    made = between(errors(10, 0, 50), errors(11, 2, 7))
    assert made.reading is Reading.RESET
    assert "i:1 began anew" in made.reason
    assert made.record is not None
    assert made.record.note == made.reason
    assert (made.record.n, made.record.bad) == (7, 2)


def test_one_instance_that_began_anew_leaves_the_others_rises_alone():
    """Two instances of one arm: one counts on, the other from nothing."""
    before = joined(errors(10, 3, 50), errors(10, 1, 80, "i:2"))
    made = between(before, joined(errors(11, 4, 60), errors(11, 0, 5, "i:2")))
    assert made.reading is Reading.RESET
    assert made.record is not None
    assert (made.record.n, made.record.bad) == (10 + 5, 1 + 0)


def test_a_reset_that_cannot_be_told_from_growth_leaves_the_interval_out():
    """Errors fell from 3 to 0, the total rose from 5 to 7: reset and 7 since, or 2 more and a broken counter?"""
    made = between(errors(10, 3, 5), errors(11, 0, 7))
    assert (made.reading, made.sound, made.record) == (Reading.RESET, True, None)
    assert "left out" in made.reason
    torn = between(buckets(10, {"100": 3, "+Inf": 50}), buckets(11, {"100": 5, "+Inf": 7}), LATENCY)
    assert (torn.reading, torn.record) == (Reading.RESET, None)


def test_a_scrape_that_came_late_is_told_and_counted():
    """Three paces after the last one; two and a half are usual enough."""
    late = between(errors(10, 0, 50), errors(13, 1, 90), pace_s=1.0)
    assert (late.reading, late.sound) == (Reading.LATE, True)
    assert late.record is not None
    assert (late.record.n, late.record.end_s - late.record.start_s) == (40, 3)
    assert "3.0 s between two scrapes" in late.reason
    assert late.record.note == late.reason
    assert between(errors(10, 0, 50), errors(12.5, 1, 90), pace_s=1.0).reading is Reading.OK
    assert between(errors(10, 0, 50), errors(99, 1, 90)).reading is Reading.OK


@pytest.mark.parametrize("at, reading", [(10.0, Reading.DUPLICATE), (9.0, Reading.BACKWARD)])
def test_time_only_goes_forward(at: float, reading: Reading):
    """The same scrape, and one of before; of counters, buckets and gauges."""
    made = between(errors(10, 3, 50), errors(at, 4, 60))
    assert (made.reading, made.sound, made.record) == (reading, False, None)
    gauge = between(Frame(10, {key("gauge"): 1.0}), Frame(at, {key("gauge"): 1.0}), MEMORY)
    assert gauge.reading is reading


@pytest.mark.parametrize("value, reading", [
    (math.nan, Reading.STALE), (math.inf, Reading.MALFORMED), (-math.inf, Reading.MALFORMED), (-1.0, Reading.MALFORMED),
    (1e300, Reading.MALFORMED),
])  # fmt: skip
def test_a_value_that_no_counter_can_have_is_named(value: float, reading: Reading):
    """Also in the very first scrape."""
    for before in (None, errors(10, 3, 50)):
        made = between(before, errors(11, 4, value))
        assert (made.reading, made.sound, made.record) == (reading, False, None)
        assert "total{instance=i:1}" in made.reason


def test_a_series_that_is_gone_is_named():
    """The second scrape lacks it."""
    made = between(errors(10, 3, 50), Frame(11, {key("bad"): 3.0}))
    assert (made.reading, made.sound) == (Reading.GONE, False)
    assert "series gone: total{" in made.reason
    two = joined(errors(10, 3, 50), Frame(10, {key("total", route="b"): 4.0}))
    assert between(two, errors(11, 3, 60)).reading is Reading.GONE
    assert between(two, errors(11, 0, 7, instance="i:2")).reading is Reading.FIRST


def test_violations_that_are_no_longer_told_are_no_zero():
    """They were there, the units are, and no counter fell: nobody restarted."""
    made = between(errors(10, 3, 50), Frame(11, {key("total"): 60.0}))
    assert (made.reading, made.sound, made.record) == (Reading.UNTOLD, False, None)
    assert "bad{" in made.reason
    assert "no restart" in made.reason


def test_after_a_restart_the_first_violation_makes_its_series_anew():
    """Seven requests since, no error; also where the total is counted by outcome, so that a part of it is away, too."""
    made = between(errors(10, 3, 50), Frame(11, {key("total"): 7.0}))
    assert (made.reading, made.sound) == (Reading.RESET, True)
    assert made.record is not None
    assert (made.record.n, made.record.bad) == (7, 0)
    before = joined(errors(10, 3, 50), Frame(10, {key("total", outcome="error"): 3.0}))
    parted = between(before, Frame(11, {key("total"): 7.0}))
    assert parted.record is not None
    assert (parted.record.n, parted.record.bad) == (7, 0)


def test_the_first_violation_of_an_instance_counts_where_its_units_were_seen():
    """One bad of ten; where another instance alone was seen before, or nothing, counting starts."""
    made = between(Frame(10, {key("total"): 50.0}), errors(11, 1, 60))
    assert made.record is not None
    assert (made.reading, made.record.n, made.record.bad) == (Reading.OK, 10, 1)
    for before in ({key("total", instance="i:2"): 50.0}, {}):
        assert between(Frame(10, before), errors(11, 1, 60)).reading is Reading.FIRST


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 20)), min_size=1, max_size=30))
def test_a_series_made_at_the_first_violation_loses_none(steps: list[tuple[int, int]]):
    """Whenever the first one comes: what is told is what happened."""
    bad = total = told_bad = told = 0.0
    before = Frame(0, {key("total"): 0.0})
    for at, (failed, fine) in enumerate(steps, start=1):
        bad, total = bad + failed, total + failed + fine
        now = errors(at, bad, total) if bad else Frame(at, {key("total"): total})
        made = between(before, now)
        assert made.record is not None
        told_bad, told, before = told_bad + made.record.bad, told + made.record.n, now
    assert (told_bad, told) == (bad, total)


def test_a_series_that_appears_counts_from_nothing():
    """The first error of all makes its series."""
    made = between(
        Frame(10, {key("bad", code="500"): 1.0, key("total"): 50.0}),
        Frame(11, {key("bad", code="500"): 1.0, key("bad", code="502"): 4.0, key("total"): 60.0}),
    )
    assert made.reading is Reading.OK
    assert made.record is not None
    assert (made.record.n, made.record.bad) == (10, 4)


def test_counters_that_contradict_are_malformed():
    """More violations than units."""
    made = between(errors(10, 3, 50), errors(11, 9, 53))
    assert (made.reading, made.record) == (Reading.MALFORMED, None)
    assert "6 violations of 3 units" in made.reason


def test_gauges_are_read_as_they_stand():
    """Scaled, summed over series, at one moment."""
    made = between(None, Frame(10, {key("gauge", part="a"): 5.0, key("gauge", part="b"): -1.0}), MEMORY)
    assert made.reading is Reading.OK
    assert made.record is not None
    assert (made.record.value, made.record.start_s, made.record.end_s) == (8.0, 10, 10)


def test_histograms_of_several_routes_are_summed():
    """In seconds, plain counts; a bound of 0 is joined to the next."""
    zeros = {"0": 0.0, "100": 0.0, "200.0": 0.0, "+Inf": 0.0}
    before = joined(buckets(1, zeros, route="a"), buckets(1, zeros, route="b"))
    now = joined(
        buckets(2, {"0": 1.0, "100": 3.0, "200.0": 5.0, "+Inf": 6.0}, route="a"),
        buckets(2, {"0": 0.0, "100": 1.0, "200.0": 1.0, "+Inf": 1.0}, route="b"),
    )
    made = between(before, now, LATENCY)
    assert made.record is not None
    assert made.record.bounds == pytest.approx((0.1, 0.2))
    assert (made.record.n, made.record.counts) == (7, (4, 2, 1))
    assert Telemetry().accept(made.record)


@pytest.mark.parametrize(
    "now, reading, words",
    [
        (buckets(2, {"100": 3, "200": 5}), Reading.MISSING, "only le = 100, 200"),
        (buckets(2, {"+Inf": 5}), Reading.MISSING, "only le = inf"),
        (joined(buckets(2, {"100": 3, "+Inf": 5}, r="a"), buckets(2, {"200": 3, "+Inf": 5}, r="b")), Reading.MISSING,
         "le = 100, 200 of one series"),
        (buckets(2, {"100": 6, "200": 5, "+Inf": 6}), Reading.MALFORMED, "do not add up"),
        (buckets(2, {"": 3, "+Inf": 5}), Reading.MALFORMED, "without `le`"),
        (buckets(2, {"a lot": 3, "+Inf": 5}), Reading.MALFORMED, "le = a lot"),
        (buckets(2, {"NaN": 3, "+Inf": 5}), Reading.MALFORMED, "le = NaN"),
        (buckets(2, {"100": 3, "100.0": 3, "+Inf": 5}), Reading.DUPLICATE, "le = 100 came twice"),
    ],
)  # fmt: skip
def test_buckets_that_are_no_histogram_are_typed(now: Frame, reading: Reading, words: str):
    """Against a scrape in which all were 0."""
    before = Frame(1, dict.fromkeys(now.values, 0.0))
    made = between(before, now, LATENCY)
    assert (made.reading, made.sound, made.record) == (reading, False, None)
    assert words in made.reason


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20), st.booleans()), min_size=1, max_size=30))
def test_through_resets_no_count_is_invented(steps: list[tuple[int, int, bool]]):
    """A process that counts and now and then begins anew: what is told never exceeds what happened, bad or total."""
    bad = total = 0.0
    told_bad = told = truth_bad = truth = 0
    before = errors(0, 0, 0)
    for at, (failed, fine, anew) in enumerate(steps, start=1):
        bad, total = (0.0, 0.0) if anew else (bad, total)
        bad, total = bad + failed, total + failed + fine
        truth_bad, truth = truth_bad + failed, truth + failed + fine
        now = errors(at, bad, total)
        made = between(before, now)
        assert made.sound or (made.reading is Reading.MALFORMED and anew)  # a reset may hide behind quick growth
        told_bad += made.record.bad if made.record else 0
        told += made.record.n if made.record else 0
        before = now
        assert told_bad <= truth_bad
        assert told <= truth
    if not any(anew for _, _, anew in steps):
        assert (told_bad, told) == (truth_bad, truth)


VALUES = st.one_of(
    st.floats(), st.sampled_from([0.0, 1.0, 5.0, 1e300, -1.0]), st.integers(0, 50).map(float),
)  # fmt: skip
KEYS = st.builds(
    lambda use, labels: (use, tuple(sorted(labels.items()))),
    st.sampled_from(["bad", "total", "bucket", "gauge"]),
    st.dictionaries(
        st.sampled_from(["le", "instance", "r", "__name__"]), st.sampled_from(["", "1", "1.0", "0", "-2", "+Inf", "x"])
    ),
)
FRAMES = st.builds(Frame, st.floats(0, 20), st.dictionaries(KEYS, VALUES, max_size=8))


@settings(max_examples=400)
@given(st.sampled_from([ERRORS, LATENCY, MEMORY]), st.none() | FRAMES, FRAMES)
def test_any_two_scrapes_are_a_typed_reading(signal: Signal, before: Frame | None, now: Frame):
    """Never an exception; a reason wherever there is no plain record; and no record that contradicts itself."""
    made = increment(signal, C, before, now, pace_s=1.0)
    assert made.reason or made.reading is Reading.OK
    assert made.record is None or made.sound
    assert made.record is not None or made.reading is not Reading.OK
    if isinstance(made.record, Evidence) and max(made.record.n, abs(made.record.value or 0)) < 1e15:
        telemetry = Telemetry()
        assert telemetry.accept(made.record), telemetry.faults


ROWS = st.builds(
    lambda labels, values: {"metric": {"arm": "candidate", **labels}, "values": values},
    st.dictionaries(st.sampled_from(["le", "instance", "arm"]), st.sampled_from(["", "1", "+Inf", "baseline"])),
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["0", "3", "7", "NaN", "+Inf", "-1"])), max_size=6),
)  # fmt: skip


@settings(max_examples=200)
@given(st.lists(ROWS, max_size=4), st.lists(ROWS, max_size=4))
def test_answers_are_read_to_rising_frames_or_faults(bad: list[dict], total: list[dict]):
    """Whatever rows Prometheus answers with: frames in order of time with every series, or what is wrong."""
    series = read_frames(ERRORS, {"bad": bad, "total": total}, C)
    assert not (series.faults and series.frames)
    times = [frame.at for frame in series.frames]
    assert times == sorted(set(times))
    for before, now in zip([None, *series.frames], series.frames, strict=False):
        assert increment(ERRORS, C, before, now).reading in Reading
