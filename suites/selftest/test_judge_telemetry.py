"""What the judge refuses to look at: repetitions, overlaps, clocks that are wrong, and names that are none."""

from dataclasses import replace

import pytest
from judge_streams import events, gauge

from harness.judge.telemetry import Telemetry
from harness.model.evidence import Arm, Evidence, Kind, Source

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
