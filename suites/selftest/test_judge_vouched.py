"""What an instrument says of itself is told with what it measured, word for word; and what silence is worth."""

from collections.abc import Sequence

import pytest
from judge_streams import events, objective_of, plan_of

from harness.judge import Judge
from harness.model.evidence import Arm, Evidence, Source
from harness.model.judgement import Judgement
from harness.model.objective import Against, Measure, Objective
from harness.model.status import Status

pytestmark = pytest.mark.selftest

C, B = Arm.CANDIDATE, Arm.BASELINE
ERRORS = objective_of(Measure.RATIO, "q.error", 5, "%")
CLEAN = "candidate 0 of 200 (0.0 %) violations, limit 5.0 %: at most 2.3 % at 99 % confidence"


def report(at: float, *, bad: bool = False, note: str = "") -> Evidence:
    """Return one report of the load generator on itself."""
    return events("load", None, at, 1, int(bad), source=Source.PROBE, note=note)


def judged(records: Sequence[Evidence], objective: Objective = ERRORS, *, at: float = 1.0, final: bool) -> Judgement:
    """Return the judgement on 200 clean requests of the candidate beside these records."""
    judge = Judge([objective], plan_of())
    judge.observe([*records, events("q.error", C, 0.0, 200)])
    return judge.look(at=at, stage="50", final=final)[0]


@pytest.mark.parametrize(
    "reports, final, status, reason",
    [
        ([], False, Status.INCONCLUSIVE, f"waits for the load generator to report on itself: {CLEAN}"),
        ([], True, Status.ERROR, f"{CLEAN}; the load generator never reported on itself"),
        ([False], False, Status.PASS, CLEAN),
        (
            [True],
            False,
            Status.INCONCLUSIVE,
            f"waits for the load generator, whose newest report is bad (slow): {CLEAN}",
        ),
        ([True], True, Status.ERROR, f"the load generator is not to be trusted: slow; it said: {CLEAN}"),
        ([True, True], False, Status.ERROR, f"the load generator is not to be trusted: slow; it said: {CLEAN}"),
    ],
)
def test_a_pass_stands_as_its_instrument_vouches_for_it(
    reports: list[bool],
    final: bool,  # noqa: FBT001 - a case's own
    status: Status,
    reason: str,
):
    """None, good, one bad, bad at the end, two bad."""
    told = [report(float(at), bad=bad, note="slow" if bad else "") for at, bad in enumerate(reports)]
    judgement = judged(told, final=final)
    assert (judgement.status, judgement.reason, judgement.needed) == (status, reason, None)


def test_what_a_faulty_instrument_wants_more_of_is_not_asked_for():
    """50 clean requests want more, which a load generator that is not to be trusted cannot bring."""
    judge = Judge([ERRORS], plan_of())
    judge.observe([events("q.error", C, 0.0, 50), report(0.0)])
    assert judge.look(at=1.0, stage="50", final=False)[0].needed
    judge.observe([report(1.0, bad=True), report(2.0, bad=True)])
    assert judge.look(at=3.0, stage="50", final=False)[0].needed is None
    silent = Judge([ERRORS], plan_of())
    silent.observe([events("q.error", B, 0.0, 50)])
    judgement = silent.look(at=1.0, stage="50", final=True)[0]
    assert (judgement.status, judgement.needed) == (Status.ERROR, None)
    assert judgement.reason.endswith("; the load generator never reported on itself")


@pytest.mark.parametrize(
    "comparator, against, shown",
    [(None, Against.BASELINE, 1), (">=", Against.BASELINE, -1), (">", Against.BASELINE, -1), (">=", Against.NUMBER, 1)],
)
def test_a_margin_is_shown_on_the_side_of_which_less_is_worse(comparator: str | None, against: Against, shown: int):
    """What may be 5 points worse is held to -5 where more is better; a number is held as it is."""
    unit = "points" if against is Against.BASELINE else "%"
    objective = objective_of(Measure.SCORE, "q.score", 5, unit, against=against, comparator=comparator)
    assert judged([report(0.0)], objective, final=False).threshold == 5 * shown


@pytest.mark.parametrize("age, status", [(60.0, Status.PASS), (60.01, Status.INCONCLUSIVE)])
def test_a_pass_is_as_old_as_four_scrapes_at_most(age: float, status: Status):
    """A minute by real time; the candidate was seen last at second 1."""
    judgement = judged([report(0.0)], at=1.0 + age, final=False)
    assert judgement.status is status
    words = f"the load generator saw nothing of the candidate for the last 60 s; before that: {CLEAN}"
    assert judgement.reason == (CLEAN if status is Status.PASS else words)
