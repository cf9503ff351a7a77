"""What the judge refuses to look at: repetitions, overlaps, clocks that are wrong, and names that are none."""

import math
from dataclasses import replace

import pytest
from judge_streams import events, gauge

from harness.judge.suites import judge_suites
from harness.judge.telemetry import Telemetry
from harness.model.evidence import Arm, Evidence, Kind, Source
from harness.model.status import Status

pytestmark = pytest.mark.selftest

C, B = Arm.CANDIDATE, Arm.BASELINE


def test_intervals_in_any_order_are_taken_once_each():
    """Late ones too; each arm, signal and source is a series of its own."""
    telemetry = Telemetry()
    assert all(telemetry.accept(events("q", C, float(at), 5)) for at in (3, 1, 2, 0))
    assert telemetry.accept(events("q", B, 3.0, 5))
    assert telemetry.accept(events("r", C, 3.0, 5))
    assert telemetry.accept(events("q", C, 3.0, 5, source=Source.PROMETHEUS))
    assert not telemetry.faults
    assert not telemetry.accept(events("q", C, 2.0, 7))
    assert telemetry.faults == {
        (Source.CLIENT, "q"): "corrupt evidence, q of the candidate: the interval that starts at 2.000 came twice"
    }


@pytest.mark.parametrize("start, end, sound", [
    (10.4, 11.4, False), (9.4, 10.4, True), (9.4, 10.6, False), (10.2, 10.4, False), (9.0, 10.0, True),
    (11.0, 12.0, True), (10.51, 11.51, True), (10.5, 10.5, True), (5.0, 25.0, False), (10.9, 10.95, False),
])  # fmt: skip
def test_half_an_interval_counted_twice_is_a_clock_that_went_back(start: float, end: float, *, sound: bool):
    """Beside an interval from 10 to 11: less than half of the shorter one may overlap, and what is no stretch."""
    telemetry = Telemetry()
    assert telemetry.accept(events("q", C, 10.0, 5))
    assert telemetry.accept(events("q", C, start, 5, end_s=end)) is sound
    assert sound or "a clock went back" in telemetry.faults[Source.CLIENT, "q"]


def test_probes_and_gauges_may_overlap_but_not_come_twice():
    """A probe that waits outlasts the next one's beginning."""
    telemetry = Telemetry()
    slow = events("health.x", C, 10.0, 1, source=Source.PROBE, end_s=14.0)
    assert telemetry.accept(slow)
    assert telemetry.accept(replace(slow, start_s=11.0))
    assert not telemetry.accept(slow)
    assert telemetry.accept(gauge("memory", C, 10.0, 1.0, end_s=12.0))
    assert telemetry.accept(gauge("memory", C, 10.5, 1.0, end_s=12.5))
    case = events("suite.x", C, 10.0, 1, source=Source.SUITE)
    assert telemetry.accept(case)
    assert telemetry.accept(case)


def test_what_is_older_than_all_that_is_remembered_is_refused_and_memory_is_bounded():
    """Three hundred intervals, then one before them."""
    telemetry = Telemetry()
    assert all(telemetry.accept(events("q", C, float(at), 5)) for at in range(300))
    assert not telemetry.accept(events("q", C, 43.0, 5))
    assert "too late to tell" in telemetry.faults[Source.CLIENT, "q"]
    assert sum(len(seen) for seen in telemetry._seen.values()) == 256  # noqa: SLF001 - its size is the point
    assert telemetry.accept(events("q", C, 300.0, 5))


def test_the_first_fault_of_a_series_is_kept():
    """The second one says less."""
    telemetry = Telemetry()
    telemetry.mark(events("q", C, 1.0, 5), "one")
    telemetry.mark(events("q", None, 2.0, 5), "two")
    assert telemetry.faults == {(Source.CLIENT, "q"): "corrupt evidence, q of the candidate: one"}


@pytest.mark.parametrize("at, ahead", [(100.0, 0.0), (60.0, 41.0), (86.0, 0.0), (85.9, 15.1), (101.0, 0.0)])
def test_evidence_from_the_future_is_told_beyond_what_clocks_may_differ_by(at: float, ahead: float):
    """The newest record of the signal, or of what lies under it, ends at 101."""
    telemetry = Telemetry()
    telemetry.accept(events("health.x", C, 100.0, 1, source=Source.PROBE))
    telemetry.accept(events("health.x", C, 50.0, 1, source=Source.PROBE))
    assert telemetry.ahead(Source.PROBE, ("health",), at) == pytest.approx(ahead)
    assert telemetry.ahead(Source.PROBE, ("health.x",), at) == pytest.approx(ahead)
    assert telemetry.ahead(Source.CLIENT, ("health",), at) == 0.0
    assert telemetry.ahead(Source.PROBE, ("heal",), at) == 0.0


def test_names_that_are_none_are_kept_short_and_apart():
    """A nameless record can't be laid at any series' door; one that names its source as text is."""
    telemetry = Telemetry()
    record = events("q", C, 1.0, 5)
    nameless = object.__new__(Evidence)
    for name in Evidence.__slots__:
        object.__setattr__(nameless, name, getattr(record, name))
    object.__setattr__(nameless, "signal", ["q"])
    object.__setattr__(nameless, "source", 10**5000)
    assert not telemetry.accept(nameless)
    assert list(telemetry.faults) == [("(a nameless int)", "(a nameless list)")]
    object.__setattr__(nameless, "signal", "q" * 5000)
    object.__setattr__(nameless, "source", "client")
    assert not telemetry.accept(nameless)
    assert (Source.CLIENT, "q" * 80) in telemetry.faults


@pytest.mark.parametrize(
    "changes, sound",
    [({"bounds": (0.1, 0.2), "counts": (1, 2, 3), "n": 6}, True), ({"bounds": (), "counts": (6,), "n": 6}, False),
     ({"bounds": (0.1, 9e10), "counts": (1, 2, 3), "n": 6}, True)],
)  # fmt: skip
def test_a_histogram_needs_a_bound(changes: dict[str, object], *, sound: bool):
    """One without any is all overflow."""
    record = Evidence(
        **{"kind": Kind.HISTOGRAM, "source": Source.CLIENT, "signal": "q", "start_s": 0.0, "end_s": 1.0, **changes}
    )
    assert Telemetry().accept(record) is sound


def _forged(kind: Kind = Kind.EVENTS, /, **changes: object) -> Evidence:
    """Return a sound record with fields changed past its own checks."""
    shape = {"n": 5, "bad": 1}
    if kind is Kind.HISTOGRAM:
        shape = {"n": 6, "bounds": (0.1, 0.2), "counts": (1, 2, 3)}
    elif kind is Kind.GAUGE:
        shape = {"value": 1.5}
    record = Evidence(kind=kind, source=Source.CLIENT, signal="q", start_s=10.0, end_s=11.0, stage="50", **shape)
    for name, value in changes.items():
        object.__setattr__(record, name, value)
    return record


UNKNOWN = "a kind, source, unit or arm that is unknown"
NO_TEXT = "a signal, stage or note that is no text"
NO_BUCKETS = "buckets that are no list of numbers"
NO_COUNT = "a count that is no whole number"
NO_NUMBER = "a number that is none"
INFINITE = "a number that is NaN or infinite"
NEGATIVE = "a negative count"
BEYOND = "a number beyond belief"
FALLING = "bucket bounds that do not rise from above 0"
H, G = Kind.HISTOGRAM, Kind.GAUGE


@pytest.mark.parametrize(
    "kind, changes, fault",
    [
        (Kind.EVENTS, {"kind": "events"}, UNKNOWN), (Kind.EVENTS, {"unit": None}, UNKNOWN),
        (Kind.EVENTS, {"arm": "candidate"}, UNKNOWN), (Kind.EVENTS, {"source": "client"}, UNKNOWN),
        (Kind.EVENTS, {"stage": None}, NO_TEXT), (Kind.EVENTS, {"note": 3}, NO_TEXT),
        (Kind.EVENTS, {"version": 2}, "not version 1 of a record"),
        (Kind.EVENTS, {"version": 0}, "not version 1 of a record"),
        (Kind.EVENTS, {"version": True}, "not version 1 of a record"),
        (Kind.EVENTS, {"version": 1.0}, "not version 1 of a record"),
        (H, {"bounds": [0.1, 0.2]}, NO_BUCKETS), (H, {"counts": [1, 2, 3]}, NO_BUCKETS),
        (Kind.EVENTS, {"n": 5.0}, NO_COUNT), (Kind.EVENTS, {"bad": True}, NO_COUNT),
        (Kind.EVENTS, {"bad": False}, NO_COUNT), (H, {"counts": (1, 2.0, 3)}, NO_COUNT),
        (Kind.EVENTS, {"start_s": "10"}, NO_NUMBER), (Kind.EVENTS, {"end_s": None}, NO_NUMBER),
        (Kind.EVENTS, {"share": True}, NO_NUMBER), (H, {"bounds": (0.1, "0.2")}, NO_NUMBER),
        (G, {"value": "1"}, NO_NUMBER), (G, {"value": True}, NO_NUMBER),
        (Kind.EVENTS, {"start_s": math.nan}, INFINITE), (Kind.EVENTS, {"end_s": math.inf}, INFINITE),
        (Kind.EVENTS, {"start_s": -math.inf}, INFINITE), (Kind.EVENTS, {"share": math.nan}, INFINITE),
        (G, {"value": math.nan}, INFINITE), (H, {"bounds": (0.1, math.inf)}, INFINITE),
        (Kind.EVENTS, {"n": -1, "bad": -1}, NEGATIVE), (Kind.EVENTS, {"bad": -1}, NEGATIVE),
        (H, {"counts": (-1, 4, 3)}, NEGATIVE),
        (Kind.EVENTS, {"n": 2**53 + 1}, BEYOND), (Kind.EVENTS, {"end_s": 1.1e11}, BEYOND),
        (Kind.EVENTS, {"start_s": -1.1e11}, BEYOND), (G, {"value": 1.1e18}, BEYOND), (G, {"value": -1.1e18}, BEYOND),
        (H, {"bounds": (0.1, 1.1e11)}, BEYOND), (Kind.EVENTS, {"share": -2e11}, BEYOND),
        (Kind.EVENTS, {"end_s": 9.0}, "an interval that ends before it starts"),
        (Kind.EVENTS, {"share": 1.01}, "a share of 1.01"), (Kind.EVENTS, {"share": -0.01}, "a share of -0.01"),
        (Kind.EVENTS, {"bad": 6}, "more violations than units"),
        (Kind.EVENTS, {"bounds": (1.0,)}, "buckets in events"), (Kind.EVENTS, {"counts": (5,)}, "buckets in events"),
        (G, {"value": None}, "no value"), (G, {"bounds": (1.0,), "counts": (0, 0)}, "buckets in gauge"),
        (H, {"bounds": (0.1,)}, "1 bucket bounds with 3 counts"),
        (H, {"counts": (6,)}, "2 bucket bounds with 1 counts"),
        (H, {"bounds": (), "counts": (6,)}, "0 bucket bounds with 1 counts"),
        (H, {"bounds": (0.0, 0.2)}, FALLING), (H, {"bounds": (0.2, 0.2)}, FALLING),
        (H, {"bounds": (0.2, 0.1)}, FALLING),
        (H, {"n": 7}, "buckets that hold 6 of 7"),
    ],
)  # fmt: skip
def test_a_record_that_no_collector_may_hand_over_is_named(kind: Kind, changes: dict[str, object], fault: str):
    """Types first, then numbers, then what its kind may hold."""
    telemetry = Telemetry()
    assert not telemetry.accept(_forged(kind, **changes))
    who = "client" if changes.get("source") else Source.CLIENT
    arm = " of the candidate" if "arm" in changes else ""
    assert telemetry.faults == {(who, "q"): f"corrupt evidence, q{arm}: {fault}"}


@pytest.mark.parametrize("signal, named", [("", "(a nameless str)"), (7, "(a nameless int)")])
def test_a_signal_without_a_name_is_no_text(signal: object, named: str):
    """Empty, or a number."""
    telemetry = Telemetry()
    assert not telemetry.accept(_forged(signal=signal))
    assert telemetry.faults == {(Source.CLIENT, named): f"corrupt evidence, {named}: {NO_TEXT}"}


@pytest.mark.parametrize(
    "kind, changes",
    [(Kind.EVENTS, {"n": 2**53}), (Kind.EVENTS, {"start_s": -1e11, "end_s": 1e11}), (G, {"value": -1e18}),
     (G, {"value": 1e18}), (G, {"value": 0}), (Kind.EVENTS, {"share": 1}), (Kind.EVENTS, {"share": 0.0}),
     (Kind.EVENTS, {"bad": 5}), (Kind.EVENTS, {"end_s": 10.0}), (Kind.EVENTS, {"n": 0, "bad": 0}),
     (H, {"bounds": (1e-9, 1e11)}), (H, {"counts": (0, 0, 0), "n": 0}), (Kind.ASSIGNMENT, {"arm": None}),
     (H, {"bad": 7}), (H, {"value": 3.0})],
)  # fmt: skip
def test_a_record_at_the_edge_of_belief_is_taken(kind: Kind, changes: dict[str, object]):
    """The largest counts, times and values; shares and violations of all and of none."""
    telemetry = Telemetry()
    assert telemetry.accept(_forged(kind, **changes)), telemetry.faults


def test_the_words_of_what_came_twice_too_late_or_over_another():
    """With the seconds of both."""
    telemetry = Telemetry()
    assert telemetry.accept(_forged())
    assert not telemetry.accept(_forged(start_s=10.2))
    said = "corrupt evidence, q: the intervals that start at 10.200 and 10.000 overlap: a clock went back"
    assert telemetry.faults == {(Source.CLIENT, "q"): said}
    late = Telemetry()
    assert all(late.accept(_forged(start_s=at + 100.0, end_s=at + 101.0)) for at in range(256))
    assert late.accept(_forged(start_s=356.0, end_s=357.0))
    assert not late.accept(_forged(start_s=99.0, end_s=100.0))
    said = "the interval that starts at 99.000 came too late to tell it from a duplicate"
    assert late.faults == {(Source.CLIENT, "q"): f"corrupt evidence, q: {said}"}


def test_of_256_remembered_intervals_the_oldest_is_still_told_from_a_duplicate():
    """The 255th leaves room for an older one; beyond that the oldest goes."""
    telemetry = Telemetry()
    assert all(telemetry.accept(_forged(start_s=float(at), end_s=at + 1.0)) for at in range(100, 355))
    assert telemetry.accept(_forged(start_s=50.0, end_s=51.0))
    assert not telemetry.accept(_forged(start_s=49.0, end_s=50.0))
    assert telemetry.accept(_forged(start_s=355.0, end_s=356.0))
    assert telemetry.accept(_forged(start_s=50.5 + 1, end_s=52.5)) is False


@pytest.mark.parametrize("source, kind, sound", [
    (Source.CLIENT, Kind.EVENTS, False), (Source.PROMETHEUS, Kind.EVENTS, False), (Source.PROBE, Kind.EVENTS, True),
    (Source.CLIENT, Kind.HISTOGRAM, False), (Source.PROMETHEUS, Kind.GAUGE, True), (Source.PROBE, Kind.GAUGE, True),
])  # fmt: skip
def test_only_intervals_that_tile_time_may_not_overlap(source: Source, kind: Kind, *, sound: bool):
    """Before another one, and after it."""
    for start in (9.6, 10.4):
        telemetry = Telemetry()
        assert telemetry.accept(_forged(kind, source=source))
        assert telemetry.accept(_forged(kind, source=source, start_s=start, end_s=start + 1)) is sound


def test_an_overlap_is_looked_for_with_both_neighbours_and_no_others():
    """Between two that it covers in part, and past one that it does not."""
    for start, end, sound in ((11.0, 12.0, True), (10.9, 11.9, True), (11.4, 12.4, True), (11.6, 12.6, False)):
        telemetry = Telemetry()
        for at in (8.0, 10.0, 12.0, 14.0):
            assert telemetry.accept(_forged(start_s=at, end_s=at + 1))
        assert telemetry.accept(_forged(start_s=start, end_s=end)) is sound


def test_the_newest_end_counts_whichever_came_last():
    """Of records in any order; refused ones date nothing."""
    telemetry = Telemetry()
    for start in (100.0, 50.0):
        telemetry.accept(_forged(start_s=start, end_s=start + 1))
    telemetry.accept(_forged(start_s=100.0, end_s=500.0))
    assert telemetry.ahead(Source.CLIENT, ("q",), 60.0) == pytest.approx(41.0)
    assert telemetry.ahead(Source.CLIENT, ("other", "q"), 60.0) == pytest.approx(41.0)


def test_a_case_from_a_file_whose_name_or_note_is_no_text_ends_in_no_traceback():
    """A list in a name's place is no case; a number in a note's place is an error."""
    case = {"source": Source.SUITE, "arm": Arm.CANDIDATE, "n": 1, "bad": 1}
    assert judge_suites([_forged(**case, signal=["suite.it"])]) == ()
    (judgement,) = judge_suites([_forged(**case, signal="suite.it", note=5)])
    assert (judgement.id, judgement.status) == ("it", Status.ERROR)
    assert judgement.reason.startswith("corrupt evidence")
