"""What the judge says of suites' cases and of instruments' own reports, word for word, and exactly at their limits."""

from dataclasses import replace

import pytest
from judge_streams import events, gauge, objective_of, plan_of

from harness.judge.finding import Finding, Look, Terms
from harness.judge.gating import gating
from harness.judge.instrument import CollectedTrial, Instrument
from harness.judge.suite import SuiteTrial
from harness.judge.suites import judge_suites
from harness.model.evidence import Arm, Evidence, Kind, Source, Unit
from harness.model.judgement import Judgement
from harness.model.objective import Measure
from harness.model.status import Status

pytestmark = pytest.mark.selftest

C, B = Arm.CANDIDATE, Arm.BASELINE
_NOW, _END = Look(at=99.0, stage="50", final=False), Look(at=99.0, stage="50", final=True)


def case(arm: Arm | None, bad: int, note: str = "", n: int = 1, name: str = "it") -> Evidence:
    """Return cases that bear an id; `n` 0 is a skip."""
    return events(f"suite.{name}", arm, 0.0, n, bad, source=Source.SUITE, unit=Unit.CASE, stage="smoke", note=note)


CASES = {
    "they hold": ([case(C, 0), case(C, 0, n=2), case(B, 0)], Status.PASS, "4 cases hold", 0.0, 4),
    "the candidate alone breaks": (
        [case(B, 0, "fine", n=2), case(C, 0, "fine"), case(C, 1, "first"), case(C, 2, "second", n=2)],
        Status.FAIL,
        "3 of 6 cases break on the candidate alone: first",
        50.0,
        6,
    ),
    "the baseline breaks": (
        [case(B, 1, "it too", n=2), case(C, 1, "mine", n=2)],
        Status.ERROR,
        "2 of 4 cases break, on the baseline too: it too",
        50.0,
        4,
    ),
    "the stack breaks": (
        [case(None, 1, "no index"), case(B, 0), case(C, 0), case(C, 0)],
        Status.ERROR,
        "1 of 4 cases break, on the stack too: no index",
        25.0,
        4,
    ),
    "no twin": (
        [case(C, 1, "mine"), case(C, 0)],
        Status.ERROR,
        "1 of 2 cases break on the candidate, no baseline twin ran: mine",
        50.0,
        2,
    ),
    "one was not carried out": (
        [case(C, 1, "mine"), case(C, 1, "error: no port"), case(B, 0), case(B, 1, "error: gone")],
        Status.ERROR,
        "3 of 4 cases could not be carried out or do not hold: error: no port",
        75.0,
        4,
    ),
    "the candidate's were skipped": (
        [case(B, 0), case(C, 0, "no flags", n=0), case(C, 0, "too late", n=0)],
        Status.ERROR,
        "the candidate's cases were skipped, the baseline's were not: no flags",
        0.0,
        1,
    ),
    "all were skipped": ([case(C, 0, "no flags", n=0)], Status.NOT_APPLICABLE, "no flags", None, 0),
    "all were skipped without a word": ([case(C, 0, n=0)], Status.NOT_APPLICABLE, "skipped", None, 0),
}
_REMEDY = "read the named case and the service's log under logs/"


@pytest.mark.parametrize("what", CASES)
def test_a_suites_cases_are_told_in_full(what: str):
    """How many of how many, whose, and the first note; as an objective, and as the smoke phase's own judgement."""
    records, status, reason, share, n = CASES[what]
    trial = SuiteTrial()
    for record in records:
        trial.observe(record)
    assert trial.find(_NOW) == Finding(status=status, reason=reason, estimate=share, n=n)
    sound = status in {Status.PASS, Status.NOT_APPLICABLE}
    told = Judgement(
        id="it", status=status, requirement="the conformance cases that bear this id hold", source="suite", n=n,
        reason=reason, remedy="" if sound else _REMEDY, stage="smoke",
    )  # fmt: skip
    assert judge_suites(records) == (told,)
    assert judge_suites(records)[0].source is Source.SUITE


@pytest.mark.parametrize("look, status", [(_NOW, Status.INCONCLUSIVE), (_END, Status.ERROR)])
def test_no_case_is_no_evidence(look: Look, status: Status):
    """Missing, and at the end an error."""
    assert SuiteTrial().find(look) == Finding(status=status, reason="no evidence: no test case reported")


def test_only_what_suites_say_under_a_suites_name_is_a_case():
    """One judgement for each id, in order of the ids; a probe's record and another signal are none."""
    others = [replace(case(C, 1), source=Source.PROBE), replace(case(C, 1), signal="feature.it")]
    names = [judgement.id for judgement in judge_suites([*others, case(C, 0, name="two"), case(C, 0, name="one")])]
    assert names == ["one", "two"]


def test_a_case_that_is_no_count_is_told_as_corrupt():
    """The signal and what was found are named."""
    [told] = judge_suites([case(C, 0), gauge("suite.it", C, 0.0, 1.0, source=Source.SUITE)])
    reason = "corrupt evidence: suite.it: a suite's result is an events record, found gauge"
    assert (told.status, told.reason, told.remedy) == (Status.ERROR, reason, _REMEDY)


def report(sign: str, at: float = 0.0, note: str | None = None) -> Evidence:
    """Return a report: "+" good, "-" bad, "c" good but for the candidate's targets."""
    said = {"+": "", "-": "away", "c": "target down"}[sign] if note is None else note
    arm = C if sign == "c" else None
    return events("metrics", arm, at, 1, int(sign == "-"), source=Source.PROMETHEUS, end_s=at, note=said)


@pytest.mark.parametrize(
    "signs, strict_end, faulty, at_end",
    [
        ("", True, False, False),
        ("+", True, False, False),
        ("-", False, False, False),
        ("-", True, False, True),
        ("-+", True, False, False),
        ("-+-", False, False, False),
        ("+--", False, True, True),
        ("--+", False, True, True),
        ("--++", False, True, True),
        ("--+++", True, False, False),
        ("--++-++", False, True, True),
        ("--++-+++", False, False, False),
        ("--+++-", True, False, True),
    ],
)
def test_an_instrument_is_faulty_after_two_bad_reports_until_enough_good_ones_in_a_row(
    signs: str, *, strict_end: bool, faulty: bool, at_end: bool
):
    """Three clear it; a single bad one at the end is a fault only where the end is strict. Reports are counted."""
    instrument = Instrument("it", 3, strict_end=strict_end)
    for sign in signs:
        instrument.observe(report(sign))
    assert (instrument.faulty(_NOW), instrument.faulty(_END)) == (faulty, at_end)
    assert instrument.suspect is signs.endswith("-")
    assert (instrument.name, instrument.reports, instrument.bad_reports) == ("it", len(signs), signs.count("-"))


def test_an_instruments_newest_bad_note_is_kept():
    """None at first; then the newest one; what gave no reason says so."""
    instrument = Instrument("it", 3)
    notes = [instrument.note]
    for note in ("a worker is lost", "", "late"):
        instrument.observe(report("-", note=note))
        instrument.observe(report("+"))
        notes.append(instrument.note)
    assert notes == ["", "a worker is lost", "no reason given", "late"]


@pytest.mark.parametrize("changes", [{"kind": Kind.ASSIGNMENT}, {"n": 0}], ids=["no events", "no report"])
def test_what_is_no_report_is_refused(changes: dict[str, object]):
    """A report is an events record of at least one."""
    with pytest.raises(ValueError, match=r"^metrics: a report is an events record with n >= 1$"):
        Instrument("it", 3).observe(replace(report("+"), **changes))


def collected(records: list[Evidence], scale: float = 15.0, *, final: bool = False) -> Finding:
    """Judge Prometheus's reports."""
    plan = plan_of(time_scale=scale)
    objective = objective_of(Measure.COLLECTED, "metrics", sources=(Source.PROMETHEUS,))
    trial = CollectedTrial(
        Terms(objective=objective, plan=plan, source=Source.PROMETHEUS, threshold=0.0, alpha=0.01,
              gating=gating(plan, None, "it is new"))
    )  # fmt: skip
    for record in records:
        trial.observe(record)
    return trial.find(_END if final else _NOW)


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize(
    "signs, status, reason, share",
    [
        ("+-++", Status.PASS, "the newest collection was complete; 1 of 4 collections incomplete", 25.0),
        ("+++-", Status.INCONCLUSIVE, "away (1 of 4 collections incomplete); the next collection decides", 25.0),
        ("++--", Status.ERROR, "away (2 of 4 collections incomplete)", 50.0),
        ("--+", Status.PASS, "the newest collection was complete; 2 of 3 collections incomplete", 100 * 2 / 3),
        ("c", Status.INCONCLUSIVE, "target down; the candidate's metrics are missing, 1 in a row", 0.0),
        ("-ccc", Status.INCONCLUSIVE, "target down; the candidate's metrics are missing, 3 in a row", 25.0),
        (
            "+" + "c" * 11,
            Status.FAIL,
            "the candidate's metrics are gone while the baseline's answer, for 11 collections in a row (target down)",
            0.0,
        ),
    ],
)
def test_what_prometheus_collected_is_told_in_full(
    signs: str, status: Status, reason: str, share: float, *, final: bool
):
    """Percent incomplete, how many collections, and what the newest one says."""
    found = collected([report(sign, float(at)) for at, sign in enumerate(signs)], final=final)
    assert found == Finding(status=status, reason=reason, estimate=pytest.approx(share), n=len(signs))


@pytest.mark.parametrize("final, status", [(False, Status.INCONCLUSIVE), (True, Status.ERROR)])
def test_no_collection_is_no_evidence(status: Status, *, final: bool):
    """Missing, and at the end an error."""
    found = collected([], final=final)
    assert found == Finding(status=status, reason="no evidence: no collection from Prometheus")


_COMPLETE = "the newest collection was complete; 0 of 2 collections incomplete"


@pytest.mark.parametrize(
    "older, newer, says",
    [
        ("", "no errors yet", f"{_COMPLETE}; no errors yet"),
        ("no errors yet", "", _COMPLETE),
        ("no errors yet", "no time-outs yet", f"{_COMPLETE}; no time-outs yet"),
    ],
)
def test_what_counts_as_zero_is_told_while_the_newest_collection_says_so(older: str, newer: str, says: str):
    """A good report's note on no arm; an older one's is over."""
    found = collected([report("+", 0.0, older), report("+", 1.0, newer)])
    assert (found.status, found.reason) == (Status.PASS, says)


def test_a_note_on_an_arm_or_of_a_bad_report_counts_nothing_as_zero():
    """The baseline's good note, and a bad report's after which the candidate's metrics alone are gone."""
    found = collected([replace(report("+", 0.0, "a note"), arm=B), replace(report("+", 1.0, "a note"), arm=B)])
    assert (found.status, found.reason) == (Status.PASS, _COMPLETE)


@pytest.mark.parametrize(
    "begin, pace, status",
    [
        (0.0, 5.0, Status.FAIL),
        (600.0, 5.0, Status.FAIL),
        (0.0, 4.9, Status.INCONCLUSIVE),
        (600.0, 1.0, Status.INCONCLUSIVE),
    ],
)
def test_the_candidates_metrics_are_gone_after_three_usual_scrapes(begin: float, pace: float, status: Status):
    """Ten reports that span exactly 45 s fail, ten that span less do not, whenever they begin."""
    found = collected([report("c", begin + pace * at) for at in range(10)], scale=1.0)
    assert found.status is status
