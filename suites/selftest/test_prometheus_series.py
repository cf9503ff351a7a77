"""From raw samples to evidence: resets, gaps, doubles, NaN, and targets that are gone."""

from pathlib import Path

import pytest

from harness.adapters.prometheus_series import Frame, evidence, read_frames, selectors
from harness.adapters.prometheus_targets import check_targets, duration_s, intervals
from harness.model.evidence import Arm, Evidence, Kind
from harness.model.system import Health, Native, Scenario, Service, Signal, System, Traffic

pytestmark = pytest.mark.selftest

C, B = Arm.CANDIDATE, Arm.BASELINE
ERRORS = Signal(name="query.error", bad='req{outcome="error"}', total="req")
LATENCY = Signal(name="query.latency", histogram='took_ms{route="/q"}', scale=0.001)
MEMORY = Signal(name="memory", gauge="rss")


def row(values: dict[float, str], **labels: str) -> dict[str, object]:
    """Return one series of a range-vector answer."""
    return {
        "metric": {"instance": "i:1", "arm": "candidate", **labels},
        "values": [[at, v] for at, v in values.items()],
    }


def records(signal: Signal, answers: dict[str, list[dict[str, object]]]) -> list[Evidence | None]:
    """Difference one arm's frames one after the other."""
    frames = read_frames(signal, answers, C).frames
    return [evidence(signal, C, before, now, pace_s=1) for before, now in zip([None, *frames], frames, strict=False)]


def errors(bad: dict[float, str], total: dict[float, str]) -> list[Evidence | None]:
    """Return the records of two counters."""
    return records(ERRORS, {"bad": [row(bad)], "total": [row(total)]})


def test_selectors_ask_for_what_a_signal_needs():
    """A histogram's buckets keep the selector's labels."""
    assert selectors(LATENCY) == {"bucket": 'took_ms_bucket{route="/q"}'}
    assert set(selectors(ERRORS)) == {"bad", "total"}
    assert selectors(Signal(name="client only", client=True)) == {}


def test_counters_are_differenced_from_scrape_to_scrape():
    """The first scrape is where counting starts."""
    first, second = errors({10.0: "1", 11.0: "3"}, {10.0: "10", 11.0: "30"})
    assert first is None
    assert second is not None
    assert (second.kind, second.n, second.bad, second.start_s, second.end_s) == (Kind.EVENTS, 20, 2, 10.0, 11.0)


def test_a_reset_counter_starts_again_from_its_new_value():
    """The process came back: 7 requests, 1 bad since."""
    _, record = errors({10.0: "5", 11.0: "1"}, {10.0: "50", 11.0: "7"})
    assert record is not None
    assert (record.n, record.bad) == (7, 1)


def test_a_series_that_appears_on_a_known_instance_counts_from_nothing():
    """The first error of its kind makes the series: it was no error of a time before the last scrape."""
    first, second = records(
        ERRORS,
        {
            "bad": [row({10.0: "1", 11.0: "3"}), row({11.0: "4"}, reason="new")],
            "total": [row({10.0: "10", 11.0: "30"}), row({11.0: "5"}, reason="new")],
        },
    )
    assert first is None
    assert second is not None
    assert (second.n, second.bad) == (25, 6)


def test_a_series_that_appears_after_a_restart_counts_from_nothing_too():
    """The old counters began anew, 7 requests and 1 bad; the new one has 2 more of each."""
    _, record = records(
        ERRORS,
        {
            "bad": [row({10.0: "5", 11.0: "1"}), row({11.0: "2"}, reason="new")],
            "total": [row({10.0: "50", 11.0: "7"}), row({11.0: "2"}, reason="new")],
        },
    )
    assert record is not None
    assert (record.n, record.bad) == (9, 3)


def test_the_history_of_what_was_not_scraped_before_is_not_counted():
    """Another instance, found late, and a query whose window begins later: both have counted long before."""
    known = {("bad", (("instance", "i:1"),)): 1.0, ("total", (("instance", "i:1"),)): 10.0}
    late = {("bad", (("instance", "i:2"),)): 400.0, ("total", (("instance", "i:2"),)): 9000.0}
    assert evidence(ERRORS, C, Frame(1.0, known), Frame(2.0, known | late), pace_s=1) is None
    (bad, *_) = known
    assert evidence(ERRORS, C, Frame(1.0, {bad: 1.0}), Frame(2.0, known), pace_s=1) is None
    assert evidence(ERRORS, C, None, Frame(2.0, known), pace_s=1) is None


def test_a_histogram_becomes_bucket_counts_in_seconds():
    """Cumulative milliseconds in, plain counts by seconds out."""
    rows = [row({1.0: "0", 2.0: n}, le=le) for le, n in (("100", "3"), ("200", "5"), ("+Inf", "6"))]
    _, record = records(LATENCY, {"bucket": rows})
    assert record is not None
    assert record.bounds == pytest.approx((0.1, 0.2))
    assert (record.n, record.counts) == (6, (3, 2, 1))


def test_a_gauge_is_read_as_it_stands():
    """One reading a scrape, from the first."""
    assert [r.value for r in records(MEMORY, {"gauge": [row({1.0: "5", 2.0: "6"})]}) if r] == [5.0, 6.0]


@pytest.mark.parametrize("value", ["NaN", "+Inf"])
def test_what_is_no_number_is_no_evidence_and_is_named(value: str):
    """The error says which series."""
    with pytest.raises(ValueError, match="arm=candidate"):
        errors({10.0: "1", 11.0: value}, {10.0: "10", 11.0: "30"})


def test_missing_buckets_are_no_evidence():
    """Without +Inf the total is not known."""
    rows = [row({1.0: "0", 2.0: "3"}, le=le) for le in ("100", "200")]
    with pytest.raises(ValueError, match="missing buckets"):
        records(LATENCY, {"bucket": rows})


def test_more_violations_than_units_are_no_evidence():
    """The two counters contradict."""
    with pytest.raises(ValueError, match="violations"):
        errors({10.0: "0", 11.0: "9"}, {10.0: "0", 11.0: "3"})


def test_a_series_that_goes_away_is_named():
    """The second scrape lacks it."""
    keys = {("bad", (("arm", "candidate"),)): 1.0, ("total", (("arm", "candidate"),)): 2.0}
    fewer = dict(list(keys.items())[:1])
    with pytest.raises(ValueError, match="series gone: total"):
        evidence(ERRORS, C, Frame(1.0, keys), Frame(2.0, fewer), pace_s=1)


@pytest.mark.parametrize(
    "answers, fault",
    [
        ({"bad": [], "total": []}, "no series bad"),
        ({"bad": [row({1.0: "1"})], "total": []}, "no series total"),
        ({"bad": [row({1.0: "1"})], "total": [row({1.0: "1"}, arm="baseline")]}, "no series total"),
        ({"bad": [row({1.0: "1"})], "total": [row({1.0: "1"}), row({1.0: "1"}, instance="i:2")]}, "2 instances"),
        ({"bad": [row({1.0: "1"}), row({1.0: "2"})], "total": [row({1.0: "1"})]}, "came twice"),
    ],
)
def test_missing_and_double_series_are_faults_and_yield_no_frame(answers: dict, fault: str):
    """Nothing is guessed from what is left."""
    series = read_frames(ERRORS, answers, C)
    assert any(fault in text for text in series.faults)
    assert not series.frames


@pytest.mark.parametrize("bad", [[], [row({1.0: "7", 2.0: "9"}, arm="baseline")]])
def test_violations_without_a_series_are_none_yet(bad: list[dict[str, object]]):
    """A client library makes the series at the first error; the other arm may have had one."""
    answers = {"total": [row({1.0: "10", 2.0: "30"})], "bad": bad}
    series = read_frames(ERRORS, answers, C)
    assert (series.faults, series.unviolated) == ([], True)
    first, second = records(ERRORS, answers)
    assert first is None
    assert second is not None
    assert (second.n, second.bad) == (20, 0)


def test_the_very_first_violation_of_an_arm_is_counted():
    """Three errors in the scrape that first has the series; scrapes from before the units' window count nothing."""
    _, second, third = records(
        ERRORS, {"total": [row({1.0: "10", 2.0: "30", 3.0: "40"})], "bad": [row({2.0: "3", 3.0: "4"})]}
    )
    assert second is not None
    assert third is not None
    assert [(r.n, r.bad) for r in (second, third)] == [(20, 3), (10, 1)]
    (early, late) = records(
        ERRORS, {"total": [row({3.0: "40", 4.0: "50"})], "bad": [row({t: str(t) for t in (1, 2, 3, 4)})]}
    )
    assert early is None
    assert late is not None
    assert (late.n, late.bad) == (10, 1)


def test_the_newest_scrape_waits_until_all_answers_hold_it():
    """It fell between the two queries."""
    series = read_frames(ERRORS, {"bad": [row({1.0: "1"})], "total": [row({1.0: "1", 2.0: "2"})]}, C)
    assert [frame.at for frame in series.frames] == [1.0]


def service(name: str, **changes: object) -> Service:
    """Return a scraped service."""
    values = {"ports": (("http", 1),), "health": Health(kind="http", port="http"), "metrics": ("http", "/metrics")}
    return Service(name=name, job=name, **{**values, **changes})


SYSTEM = System(
    name="s", title="", root=Path(), objectives=(), plans=(), scenario=Scenario(name="s", locustfile=""),
    signals=(ERRORS, LATENCY),
    traffic=Traffic(entry="a.b", gateway="gateway", session_header="", force_header="", arm_header="",
                    version_header=""),
    services=(
        service("gateway", per_arm=True, under_release=True),
        service("index", per_arm=True),
        service("redis"),
        service("cadvisor", not_on=(("native", "no containers"),)),
        service("ollama", native=Native(command=(), prefer=Native(command=(), unscraped="none of its own"))),
    ),
)  # fmt: skip


def target(job: str, arm: str = "", health: str = "up", **changes: str) -> dict[str, object]:
    """Return an active target as the API gives it."""
    labels = {"job": job, "instance": f"{job}:1"} | ({"arm": arm} if arm else {})
    return {"labels": labels, "health": health, "lastError": "", "scrapeInterval": "1s", **changes}


ALL = [target(job, arm) for job in ("gateway", "index") for arm in ("baseline", "candidate")] + [target("redis")]


def test_every_declared_target_that_is_up_is_well():
    """What is not on this provider, or has no metrics of its own, may be missing."""
    report = check_targets(SYSTEM, ALL)
    assert (report.faults, report.releases) == ((), ())


@pytest.mark.parametrize(
    "targets, faults, releases",
    [
        (ALL[:-1], "job redis has none", ""),
        (ALL[1:], "job gateway has none of the baseline", ""),
        ([*ALL[:-1], target("redis", health="down")], "down: job redis, instance redis:1", ""),
        ([ALL[0], target("gateway", "candidate", "down"), *ALL[2:]], "", "job gateway, instance gateway:1 (candidate)"),
        ([target("gateway", "baseline", "down"), *ALL[1:]], "job gateway, instance gateway:1 (baseline)", ""),
        ([*ALL[:3], target("index", "candidate", "down"), ALL[4]], "job index", ""),
    ],
)
def test_a_target_that_is_missing_or_down_is_named_and_the_candidates_own_left_to_the_release(
    targets: list, faults: str, releases: str
):
    """Only a service under release may be down on the candidate without being our fault."""
    report = check_targets(SYSTEM, targets)
    for text, found in ((faults, report.faults), (releases, report.releases)):
        assert bool(found) == bool(text)
        assert text in "; ".join(found)


@pytest.mark.parametrize("text, seconds", [("1m30s", 90), ("500ms", 0.5), ("15s", 15), ("", 15), ("1h", 3600)])
def test_durations_are_read_as_prometheus_writes_them(text: str, seconds: float):
    """Scrape intervals of targets."""
    assert duration_s(text) == pytest.approx(seconds)
    assert intervals([target("redis", scrapeInterval=text)]) == {"redis": pytest.approx(seconds)}
