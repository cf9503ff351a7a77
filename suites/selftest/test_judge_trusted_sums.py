"""What a judgement bears, and what is left of a finding whose evidence contradicts itself or comes from the future."""

import pytest
from judge_streams import events, gauge, objective_of, plan_of, vouched

from harness.judge import Judge
from harness.model.evidence import Arm, Evidence, Source
from harness.model.judgement import Judgement
from harness.model.objective import Against, Measure, Objective, Severity
from harness.model.status import Status

pytestmark = pytest.mark.selftest

B, C = Arm.BASELINE, Arm.CANDIDATE
ERRORS = objective_of(Measure.RATIO, "q.error", 5, "%")
SCRAPED = objective_of(Measure.RATIO, "q.error", 5, "%", sources=(Source.PROMETHEUS,))
CHECKED = objective_of(Measure.RATIO, "check", 5, "%", sources=(Source.PROBE,))
SCORE = gauge("q", C, 7.0, 0.75, source=Source.CLIENT)


def judged(
    *records: Evidence, objective: Objective = ERRORS, n: int = 4000, bad: int = 0, at: float = 9.0
) -> Judgement:
    """Judge `n` requests of the candidate, of the second before 8, and what came besides."""
    judge = vouched(objective)
    (source,) = objective.sources
    judge.observe([events(objective.signal, C, 7.0, n, bad, source=source), *records])
    return judge.look(at=at, stage="50", final=False)[0]


def twice(signal: str, source: Source) -> tuple[Evidence, Evidence]:
    """Return one record of no arm, and itself once more."""
    record = events(signal, None, 7.0, 1, source=source)
    return record, record


@pytest.mark.parametrize("objective, source, signal, distrusted", [
    (ERRORS, Source.CLIENT, "q.error", True), (ERRORS, Source.CLIENT, "q.error.part", True),
    (ERRORS, Source.CLIENT, "q.errors", False), (ERRORS, Source.CLIENT, "q", False),
    (ERRORS, Source.CLIENT, "other", False), (ERRORS, Source.PROMETHEUS, "q.error", False),
    (ERRORS, Source.PROBE, "q.error.part", False), (ERRORS, Source.PROBE, "load", True),
    (ERRORS, Source.PROMETHEUS, "metrics", False), (SCRAPED, Source.PROMETHEUS, "metrics", True),
    (SCRAPED, Source.PROBE, "load", False), (SCRAPED, Source.CLIENT, "q.error", False),
    (CHECKED, Source.PROBE, "check.one", True), (CHECKED, Source.PROBE, "load", False),
])  # fmt: skip
@pytest.mark.parametrize("n", [4000, 40])
def test_a_series_that_came_twice_takes_its_own_findings_and_those_of_its_instrument(
    objective: Objective,
    source: Source,
    signal: str,
    distrusted: bool,  # noqa: FBT001 - a case
    n: int,
):
    """The same source's, of the signal and of what lies under it; what would settle it goes, its numbers stay."""
    sound, found = (judged(*records, objective=objective, n=n) for records in ((), twice(signal, source)))
    assert sound.status is (Status.PASS if n == 4000 else Status.INCONCLUSIVE)
    assert (sound.needed is None) is (n == 4000)
    if not distrusted:
        assert (found.status, found.needed, found.reason) == (sound.status, sound.needed, sound.reason)
        return
    said = f"corrupt evidence, {signal}: the interval that starts at 7.000 came twice"
    assert (found.status, found.needed, found.reason) == (Status.ERROR, None, said)
    assert (found.n, found.estimate, found.interval) == (n, 0.0, sound.interval)


def test_of_two_faults_the_first_by_name_is_told():
    """Whichever was seen first."""
    found = judged(*twice("q.error.two", Source.CLIENT), *twice("q.error.one", Source.CLIENT))
    assert found.reason == "corrupt evidence, q.error.one: the interval that starts at 7.000 came twice"


@pytest.mark.parametrize("objective", [ERRORS, SCRAPED, CHECKED])
@pytest.mark.parametrize("at, early", [(8.0, ""), (-7.0, ""), (-7.1, "15"), (-32.0, "40")])
def test_nothing_passes_on_evidence_from_the_future(objective: Objective, at: float, early: str):
    """Its newest second ends at 8; two clocks may be fifteen seconds apart."""
    sound, found = judged(objective=objective), judged(objective=objective, at=at)
    assert sound.status is Status.PASS
    told = f"a clock is wrong: evidence is dated {early} s after this look; it said: {sound.reason}"
    wanted = (Status.INCONCLUSIVE, told) if early else (Status.PASS, sound.reason)
    assert (found.status, found.reason) == wanted
    assert (found.n, found.estimate, found.interval) == (sound.n, sound.estimate, sound.interval)


@pytest.mark.parametrize("n, bad, status", [(4000, 4000, Status.FAIL), (40, 0, Status.INCONCLUSIVE)])
def test_what_does_not_pass_is_told_whatever_the_clock_says(n: int, bad: int, status: Status):
    """A release that fails is not saved by its clock; nor is what is open told another reason."""
    sound, found = judged(n=n, bad=bad), judged(n=n, bad=bad, at=-32.0)
    assert sound.status is status
    assert found == sound


@pytest.mark.parametrize("signal, source, early", [
    ("q.error.part", Source.CLIENT, True), ("q.errors", Source.CLIENT, False), ("q.error", Source.PROMETHEUS, False),
])  # fmt: skip
def test_another_series_from_the_future_keeps_nobody_from_passing(
    signal: str,
    source: Source,
    early: bool,  # noqa: FBT001 - a case
):
    """Of another source, or of another signal; what lies under the signal does."""
    found = judged(events(signal, C, 47.0, 1, source=source))
    assert found.status is (Status.INCONCLUSIVE if early else Status.PASS), found.reason
    assert found.reason.startswith("a clock is wrong: evidence is dated 39 s after this look; it said: ") is early


@pytest.mark.parametrize("objective, name", [(ERRORS, "the load generator"), (SCRAPED, "Prometheus")])
def test_an_instrument_is_called_by_its_name(objective: Objective, name: str):
    """While it has not reported on itself, and at the end."""
    judge = Judge([objective], plan_of())
    (source,) = objective.sources
    judge.observe([events("q.error", C, 7.0, 4000, source=source)])
    waits, ends = (judge.look(at=9.0, stage="50", final=final)[0] for final in (False, True))
    sound = judged(objective=objective)
    assert waits.reason == f"waits for {name} to report on itself: {sound.reason}"
    assert (ends.status, ends.reason) == (Status.ERROR, f"{sound.reason}; {name} never reported on itself")


@pytest.mark.parametrize("severity", list(Severity))
@pytest.mark.parametrize("measure, comparator, record, estimate", [
    (Measure.RATIO, "<", events("q", C, 7.0, 4, 1), 25.0), (Measure.SCORE, ">=", SCORE, 75.0),
])  # fmt: skip
def test_a_judgement_bears_all_that_its_objective_says(
    severity: Severity, measure: Measure, comparator: str, record: Evidence, estimate: float
):
    """Every field, by the plan's own limit."""
    objective = objective_of(measure, "q", 40, "%", comparator=comparator, severity=severity, remedy="its log")
    judge = vouched(objective, plan=plan_of(margins=(("it", 50.0),)))
    judge.observe([record])
    (found,) = judge.look(at=9.0, stage="50", final=False)
    assert found == Judgement(
        id="it", status=Status.INCONCLUSIVE, requirement="it holds (plan test: 50 %)", source="client", threshold=50.0,
        unit="%", estimate=estimate, interval=found.interval, n=record.n or 1, reason=found.reason, remedy="its log",
        severity=severity.value, stage="50", needed=found.needed, comparator=comparator,
    )  # fmt: skip


def test_what_would_settle_a_judgement_is_told_with_it():
    """In its own field, as in its words."""
    found = judged(n=40)
    assert found.needed is not None
    assert found.reason.endswith(f"; about {found.needed} more requests of the candidate would settle it")


@pytest.mark.parametrize("measure, signal, unit, against, threshold", [
    (Measure.RATIO, "q.error", "%", Against.NUMBER, 3.0),
    (Measure.RATIO, "q.error", "points", Against.BASELINE, 3.0),
    (Measure.GROWTH, "memory", "MB/min", Against.BASELINE, 3.0),
    (Measure.SCORE, "q.score", "%", Against.NUMBER, 3.0),
    (Measure.AVAILABILITY, "health.x", "", Against.NUMBER, None),
    (Measure.COLLECTED, "metrics", "", Against.NUMBER, None),
    (Measure.ALERTS, "alerts", "", Against.NUMBER, None),
    (Measure.ASSIGNMENT, "assignment", "", Against.NUMBER, None),
    (Measure.SUITE, "", "", Against.NUMBER, None),
])  # fmt: skip
def test_only_what_is_estimated_bears_a_threshold(
    measure: Measure, signal: str, unit: str, against: Against, threshold: float | None
):
    """A ratio, a growth or a score; a probe has none, whatever its objective says."""
    judge = Judge([objective_of(measure, signal, 3.0, unit, against=against)], plan_of())
    assert judge.look(at=9.0, stage="50", final=False)[0].threshold == threshold
