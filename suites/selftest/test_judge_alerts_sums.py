"""Critical alerts as the judge reads them: each status, its whole words and its numbers, record by record."""

import pytest
from judge_streams import plan_of

from harness.judge.alerts import AlertsTrial
from harness.judge.finding import Finding, Look
from harness.model.evidence import Arm, Evidence, Kind, Source, Unit
from harness.model.status import Status

pytestmark = pytest.mark.selftest

B, C = Arm.BASELINE, Arm.CANDIDATE
QUIET = "none of 3 critical alerts fires on the candidate"


def told(arm: Arm | None, *names: str, at: float = 100.0, **changes: object) -> Evidence:
    """Return what Prometheus says of one arm: of 3 rules these fire."""
    return Evidence(
        **{"kind": Kind.EVENTS, "source": Source.PROMETHEUS, "signal": "alerts", "unit": Unit.PROBE, "arm": arm,
           "start_s": at, "end_s": at + 1, "n": 3, "bad": len(names), "note": ", ".join(names), **changes}
    )  # fmt: skip


def fault(note: str) -> Evidence:
    """Return an answer that could not be had."""
    return told(None, note=note)


def found(*records: Evidence, at: float = 101.0, final: bool = False, look_s: float = 1.0) -> Finding:
    """Judge the records."""
    trial = AlertsTrial(plan_of(look_s=look_s))
    for record in records:
        trial.observe(record)
        trial.settle()
    return trial.find(Look(at=at, stage="50", final=final))


@pytest.mark.parametrize("of_b, of_c, status, reason", [
    ((), (), Status.PASS, QUIET),
    (("Slow",), (), Status.PASS, QUIET),
    ((), ("Slow",), Status.FAIL, "Slow fires on the candidate, and not on the baseline"),
    ((), ("Slow", "Broken"), Status.FAIL, "Broken, Slow fire on the candidate, and not on the baseline"),
    (("Slow",), ("Slow", "Broken"), Status.FAIL, "Broken fires on the candidate, and not on the baseline"),
    (("Slow", "Late"), ("Slow",), Status.ERROR, "Slow fires on both arms: that is not the release's"),
    (("Slow", "Broken"), ("Slow", "Broken"), Status.ERROR,
     "Broken, Slow fire on both arms: that is not the release's"),
])  # fmt: skip
def test_what_fires_where_is_judged_in_whole_words(of_b: tuple[str, ...], of_c: tuple[str, ...], status: Status,
                                                   reason: str):  # fmt: skip
    """The estimate is how many fire on the candidate, `n` how many answers came."""
    whole = Finding(status=status, reason=reason, estimate=float(len(of_c)), n=1)
    for final in (False, True):
        assert found(told(B, *of_b), told(C, *of_c), final=final) == whole


def test_the_newest_answer_counts_and_all_are_counted():
    """An alert that ended; the number of rules is the newest one's."""
    later = [told(B, at=101.0), told(C, at=101.0, n=1)]
    judged = found(told(B, "Slow"), told(C, "Slow"), *later, at=102.0)
    only = "none of 1 critical alerts fires on the candidate"
    assert judged == Finding(status=Status.PASS, reason=only, estimate=0.0, n=2)


@pytest.mark.parametrize("final, status", [(False, Status.INCONCLUSIVE), (True, Status.ERROR)])
def test_no_answer_is_fatal_at_the_last_look(final: bool, status: Status):  # noqa: FBT001 - a case
    """None at all, or of one arm alone."""
    whole = Finding(status=status, reason="no evidence: no answer of Prometheus on its alerts")
    for records in ([], [told(B)], [told(C)]):
        assert found(*records, final=final) == whole


@pytest.mark.parametrize("faults, final, status", [
    (1, False, Status.INCONCLUSIVE), (1, True, Status.ERROR), (2, False, Status.ERROR), (3, True, Status.ERROR),
])  # fmt: skip
def test_two_faults_in_a_row_or_one_at_the_end_are_an_error(faults: int, final: bool, status: Status):  # noqa: FBT001
    """In the words of the newest one; the answers before are counted."""
    notes = ["gone", "slow", "refused"][-faults:]
    judged = found(told(B), told(C), *(fault(note) for note in notes), final=final)
    assert judged == Finding(status=status, reason="the alerts are not known: refused", n=1)
    assert found(fault("")).reason == "the alerts are not known: no reason given"


def test_an_answer_of_the_candidates_ends_a_row_of_faults():
    """Not one of the baseline's, with which a fault may lie between the arms."""
    assert found(fault("gone"), told(B), told(C)).reason == QUIET
    judged = found(told(B), told(C), fault("gone"), told(B), told(C), fault("gone"))
    assert (judged.status, judged.n) == (Status.INCONCLUSIVE, 2)
    assert found(told(C), fault("gone"), told(B)).reason == "the alerts are not known: gone"


@pytest.mark.parametrize("look_s, oldest_s", [(1.0, 15.0), (1.5, 15.0), (2.0, 20.0), (0.1, 15.0)])
def test_an_answer_is_old_after_fifteen_seconds_or_ten_looks(look_s: float, oldest_s: float):
    """Whichever is longer, counted from the end of the older arm's; exactly so old, it still counts."""
    records = [told(B, at=99.0), told(C, at=105.0)]
    assert found(*records, at=100.0 + oldest_s, look_s=look_s).reason == QUIET
    for final, status in ((False, Status.INCONCLUSIVE), (True, Status.ERROR)):
        judged = found(*records, at=101.0 + oldest_s, look_s=look_s, final=final)
        reason = f"the newest answer on alerts is {oldest_s + 1:.0f} s old"
        assert judged == Finding(status=status, reason=reason, n=1)


def test_a_record_that_is_no_answer_is_refused_in_words():
    """Of another kind, of no rule, with more or fewer names than alerts; one rule is one."""
    no_answer = r"^alerts: an answer on alerts is an events record with n >= 1$"
    for changes in ({"n": 0, "bad": 0}, {"kind": Kind.GAUGE, "n": 3, "value": 1.0}):
        with pytest.raises(ValueError, match=no_answer):
            found(told(C, **changes))
    with pytest.raises(ValueError, match=r"^alerts: 2 alerts, and 1 names$"):
        found(told(C, note="Slow", bad=2))
    with pytest.raises(ValueError, match=r"^alerts: 0 alerts, and 1 names$"):
        found(told(C, note="Slow", bad=0))
    assert found(told(B, n=1), told(C, "Slow", n=1)).status is Status.FAIL
