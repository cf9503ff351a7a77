"""What is left of a finding by its instrument, its age and its stage: whole words, and limits exactly."""

import math

import numpy as np
import pytest
from judge_streams import events, objective_of, plan_of

from harness.judge import Judge
from harness.judge.bets import Bets, Counts, Within
from harness.judge.newest import StageProof
from harness.judge.restarts import RestartedBets
from harness.model.evidence import Arm, Evidence, Source
from harness.model.judgement import Judgement
from harness.model.objective import Against, Measure, Objective
from harness.model.status import Status

pytestmark = pytest.mark.selftest

B, C = Arm.BASELINE, Arm.CANDIDATE
NUMBER = objective_of(Measure.RATIO, "q.error", 5, "%")
POINT = objective_of(Measure.RATIO, "q.error", 5, "points", against=Against.BASELINE)


def report(at: float, note: str = "") -> Evidence:
    """Return what the load says of itself; bad with a note."""
    return events("load", None, at, 1, int(bool(note)), source=Source.PROBE, note=note)


def judged(
    *reports: Evidence, n: int = 4000, at: float = 9.0, final: bool = False, objective: Objective = NUMBER
) -> Judgement:
    """Judge `n` good requests of each arm, of the second before 8."""
    judge = Judge([objective], plan_of())
    judge.observe([events("q.error", arm, 7.0, n) for arm in (B, C)])
    for one in reports:
        judge.observe([one])
    return judge.look(at=at, stage="50", final=final)[0]


def test_an_instrument_that_is_not_sound_takes_a_finding_back_in_whole_words():
    """The finding's own words stay; what would settle it does not where nothing is to be trusted."""
    found = judged(report(8.0))
    assert found.status is Status.PASS
    name = judged().reason.removeprefix("waits for ").removesuffix(f" to report on itself: {found.reason}")
    assert name
    assert "waits" not in name
    silent, at_last = judged(), judged(final=True)
    assert (silent.status, silent.needed) == (Status.INCONCLUSIVE, None)
    assert silent.reason == f"waits for {name} to report on itself: {found.reason}"
    assert (at_last.status, at_last.needed) == (Status.ERROR, None)
    assert at_last.reason == f"{found.reason}; {name} never reported on itself"
    once = judged(report(7.0), report(8.0, "behind"))
    assert once.status is Status.INCONCLUSIVE
    assert once.reason == f"waits for {name}, whose newest report is bad (behind): {found.reason}"
    open_ = judged(report(8.0), n=40)
    assert open_.needed is not None
    bad = [report(at, "behind") for at in np.arange(1.0, 9.0)]
    for n, own in ((4000, found), (40, open_)):
        faulty = judged(*bad, n=n)
        assert (faulty.status, faulty.needed) == (Status.ERROR, None)
        assert faulty.reason == f"{name} is not to be trusted: behind; it said: {own.reason}"


@pytest.mark.parametrize("objective", [NUMBER, POINT])
def test_a_pass_is_as_old_as_what_it_was_last_seen_by(objective: Objective):
    """Sixty seconds after the end of its last second it still is one; a second later it is none."""
    found = judged(report(8.0), objective=objective)
    assert found.status is Status.PASS
    assert judged(report(8.0), at=68.0, objective=objective).status is Status.PASS
    late = judged(report(8.0), at=69.0, objective=objective)
    assert late.status is Status.INCONCLUSIVE
    assert late.reason.endswith(f" saw nothing of the candidate for the last 61 s; before that: {found.reason}")


@pytest.mark.parametrize("comparator, against, unit, threshold", [
    (">=", Against.BASELINE, "points", -5), (">", Against.BASELINE, "points", -5),
    ("<=", Against.BASELINE, "points", 5), ("<", Against.BASELINE, "points", 5),
    (">=", Against.NUMBER, "%", 5), ("<=", Against.NUMBER, "%", 5),
])  # fmt: skip
def test_a_margin_is_told_downwards_where_more_is_better(comparator: str, against: Against, unit: str, threshold: int):
    """A score may lie five points below its baseline; a number is one."""
    score = objective_of(Measure.SCORE, "q.score", 5, unit, comparator=comparator, against=against)
    (found,) = Judge([score], plan_of()).look(at=0.0, stage="50", final=False)
    assert found.threshold == threshold


def test_a_stage_alone_is_bet_on_by_every_interval_and_error_of_its_own():
    """A holdout of one, which tells nothing within the intervals: three of 40, with 1, 0 and 1 errors, by hand."""
    proof, within = StageProof(Within()), Within()
    logs = np.zeros(2)
    for number, bad in enumerate((0, 1, 0, 0, 1)):
        past = (number * 0.0 + 200 * 0.01) / (number + 200)
        edge = past + 0.1
        for index, bet in enumerate((past, 0.02)):
            logs[index] += (bad * math.log(bet / edge) + (40 - bad) * math.log((1 - bet) / (1 - edge))) / 1.5
        counts = Counts(bad, 40, 0, 1)
        proof.add(counts, p_b=0.01, past_c=0.02, margin=0.1, phi=1.5)
    assert float(within.log_e) == 0.0
    assert proof.log_e == pytest.approx(float(np.log(np.exp(logs).mean())))
    assert proof.log_e > math.log(3)


class Blocked(Bets):
    """Bets that have not bet on all that was seen."""

    closed = False

    @property
    def whole(self) -> bool:
        """Whether the block is closed."""
        return self.closed

    def gain(self, log_e: float) -> None:
        """Gain evidence."""
        self._logs = self._logs + log_e


def test_two_stages_that_begin_within_one_block_both_begin_with_the_next():
    """A half on all, a quarter on what came after for each of the two."""
    bets = Blocked((), 1)
    restarted = RestartedBets(bets, 2, 0.5)
    bets.gain(1.0)
    restarted.begin()
    restarted.begin()
    assert restarted.log_e == pytest.approx(math.log(0.5 * math.e + 0.5))
    bets.closed = True
    restarted.settle()
    bets.gain(2.0)
    assert restarted.log_e == pytest.approx(math.log(0.5 * math.exp(3.0) + 0.5 * math.exp(2.0)))
