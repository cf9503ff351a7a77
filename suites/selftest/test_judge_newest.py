"""The newest stage: what was proven before it lets nothing pass that it does not show itself."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from judge_streams import events, gauge, latencies, objective_of, plan_of, verdict_on, vouched

from harness.judge.bets import Counts, Within
from harness.judge.newest import SHOWN, NewestStage, StageProof
from harness.model.evidence import Arm, Evidence, Source
from harness.model.judgement import Judgement
from harness.model.objective import Against, Measure, Objective
from harness.model.plan import RollbackOn, Stage, StagePlan
from harness.model.status import Status

pytestmark = pytest.mark.selftest

C, B = Arm.CANDIDATE, Arm.BASELINE
POINT = objective_of(Measure.RATIO, "q.error", 1, "points", against=Against.BASELINE)
NUMBER = objective_of(Measure.RATIO, "q.error", 5, "%")
LATENCY = objective_of(Measure.QUANTILE, "q.latency", 20, "%", quantile=0.95, against=Against.BASELINE)
SCORE = objective_of(Measure.SCORE, "answer.quality", 5, "points", comparator=">=", against=Against.BASELINE)
SHARES = {"25": 0.25, "50": 0.5, "95": 0.95}


def _plan(**changes: object) -> StagePlan:
    stages = tuple(Stage(id=name, share=100 * share, min_bake_s=1, max_bake_s=9) for name, share in SHARES.items())
    return plan_of(**{"stages": stages, **changes})


def _errors(stage: str, seconds: int, start: int, bad: float = 0.0, usual: float = 0.0) -> Iterator[Evidence]:
    """Yield 60 requests a second, a share of `bad` of the candidate's and of `usual` of the baseline's errors."""
    n = round(60 * SHARES[stage])
    for at in range(start, start + seconds):
        yield events("q.error", B, at, 60 - n, round((60 - n) * usual), stage=stage, share=SHARES[stage])
        yield events("q.error", C, at, n, round(n * bad), stage=stage, share=SHARES[stage])


def test_stages_follow_each_other_by_the_plan_and_late_records_begin_nothing():
    """Known stages in any order of arrival, and two that the plan does not name."""
    newest = NewestStage(_plan())
    assert not newest.reached("25")
    told = [newest.enter(stage) for stage in ("25", "25", "50", "25", "50", "95", "50", "95")]
    assert told == [False, False, True, False, False, True, False, False]
    assert newest.name == "95"
    assert [newest.reached(stage) for stage in ("25", "95", "never")] == [True, True, True]
    other = NewestStage(_plan())
    assert [other.enter(stage) for stage in ("a", "b", "a", "25", "b", "c", "50")] == [
        False, True, False, True, False, True, True,
    ]  # fmt: skip


def test_a_stages_own_proof_is_two_e_values_by_hand():
    """Two intervals of 40 requests with 1 and 0 errors, a baseline of 5 and 3, a past of 1 % and 2 %."""
    within = Within()
    within.update(Counts(0, 900, 0, 900), p_b=0.01, past_c=0.01, margin=0.05)
    proof = StageProof(within)
    before, edge = float(within.log_e), 0.01 + 0.05
    logs = np.zeros(2)
    for bad, n_b in ((1, 5), (0, 3)):
        counts = Counts(bad, 40, 0, n_b)
        within.update(counts, p_b=0.01, past_c=0.02, margin=0.05)
        seen_b = 5 if n_b == 3 else 0
        past = 200 * 0.01 / (seen_b + 200)
        edge = past + 0.05
        for index, bet in enumerate((past, 0.02)):
            logs[index] += (bad * math.log(bet / edge) + (40 - bad) * math.log((1 - bet) / (1 - edge))) / 2
        proof.add(counts, p_b=0.01, past_c=0.02, margin=0.05, phi=2.0)
    assert proof.paired == pytest.approx(float(within.log_e) - before, abs=0.2)
    assert proof.log_e == pytest.approx(max(np.log(np.exp(logs).mean()), proof.paired))
    assert proof.shown is (proof.log_e >= SHOWN)


@pytest.mark.parametrize("margin, past_c", [(0.0, 0.01), (0.05, 0.0), (0.995, 0.01)])
def test_a_stage_alone_proves_nothing_against_a_limit_that_is_none(margin: float, past_c: float):
    """No margin, a past without any chance of errors, a limit beyond everything."""
    proof = StageProof(Within())
    proof.add(Counts(0, 9999, 0, 9), p_b=0.01, past_c=past_c, margin=margin, phi=1.0)
    assert not proof.shown


@pytest.mark.parametrize("share", [0.02, 0.01])
def test_a_release_at_its_margin_is_shown_within_by_one_stage_at_most_in_a_third(share: float):
    """800 stages of 60 intervals; whoever looks at every one of them."""
    rng, shown = np.random.default_rng(5), 0
    for _ in range(800):
        proof = StageProof(Within())
        for _ in range(60):
            counts = Counts(rng.binomial(57, share + 0.02), 57, rng.binomial(3, share), 3)
            proof.add(counts, p_b=share, past_c=share + 0.02, margin=0.02, phi=1.0)
            if proof.shown:
                shown += 1
                break
    assert shown <= 800 * (1 / 3 + 0.04)
    assert shown > 0


def _unseen(objective: Objective, last: Sequence[Evidence], *, final: bool) -> Judgement:
    good = [*_errors("25", 100, 0), *_errors("50", 100, 100), *last]
    judge = vouched(objective, plan=_plan())
    for record in good:
        judge.observe([record])
    return judge.look(at=210.0, stage="95", final=final)[0]


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("objective", [POINT, NUMBER])
def test_nothing_passes_at_a_stage_of_which_nothing_was_seen(objective: Objective, final: bool):  # noqa: FBT001
    """No record of it, transitions alone, late ones of the stage before; and then enough of its own."""
    transition = [replace(record, stage="") for record in _errors("95", 10, 200)]
    for last in ([], transition, list(_errors("50", 9, 200))):
        judgement = _unseen(objective, last, final=final)
        assert judgement.status is Status.INCONCLUSIVE
        assert "nothing was seen of stage 95 yet; before it: candidate 0 of " in judgement.reason
    assert _unseen(objective, list(_errors("95", 10, 200)), final=final).status is Status.PASS


def test_memory_does_not_pass_at_a_stage_of_which_no_reading_came():
    """Steady for 100 s at half the traffic; then nothing, readings of the baseline alone, and one of both."""
    growth = objective_of(Measure.GROWTH, "memory", 20, "MB/min", sources=(Source.PROMETHEUS,))
    judge = vouched(growth, plan=_plan())
    rng = np.random.default_rng(7)

    def read(at: float, stage: str, arms: Sequence[Arm] = (B, C)) -> None:
        values = {arm: 2e8 + 1e5 * rng.standard_normal() for arm in arms}
        judge.observe([gauge("memory", arm, at, values[arm], stage=stage, share=SHARES[stage]) for arm in arms])

    for at in range(100):
        read(float(at), "50")
    assert judge.look(at=100.0, stage="50", final=False)[0].status is Status.PASS
    held = [judge.look(at=101.0, stage="95", final=final)[0] for final in (False, True)]
    read(101.0, "95", [B])
    held.append(judge.look(at=102.0, stage="95", final=False)[0])
    assert {judgement.status for judgement in held} == {Status.INCONCLUSIVE}
    assert all("nothing was seen of stage 95 yet" in judgement.reason for judgement in held)
    read(102.0, "95")
    assert judge.look(at=103.0, stage="95", final=True)[0].status is Status.PASS


def test_what_an_objective_is_not_asked_of_it_need_not_be_seen_in():
    """An objective of the stage before; a comparison where no traffic is left to the baseline."""
    before = replace(NUMBER, stages=("50",))
    good = [*_errors("25", 100, 0), *_errors("50", 100, 100)]
    judge = vouched(before, plan=_plan())
    judge.observe(good)
    assert judge.look(at=210.0, stage="95", final=True)[0].status is Status.PASS
    whole = tuple(Stage(id=name, share=share, min_bake_s=1, max_bake_s=9) for name, share in (("50", 50), ("100", 100)))
    for holdout, status in ((0.0, Status.PASS), (5.0, Status.INCONCLUSIVE)):
        judge = vouched(POINT, plan=plan_of(stages=whole, holdout=holdout))
        judge.observe(list(_errors("50", 100, 0)))
        assert judge.look(at=101.0, stage="100", final=True)[0].status is status


@pytest.mark.parametrize("objective", [POINT, NUMBER])
def test_one_late_good_interval_of_an_older_stage_lifts_no_doubt(objective: Objective):
    """Bad in the newest stage alone, not long enough to fail."""
    records = [*_errors("25", 300, 0), *_errors("50", 299, 300), *_errors("95", 1, 600, bad=0.07)]
    held = verdict_on(objective, records, plan=_plan(alpha=1e-9))
    late = list(_errors("50", 1, 599))
    again = verdict_on(objective, [*records, *late], plan=_plan(alpha=1e-9))
    assert (held.status, again.status) == (Status.INCONCLUSIVE, Status.INCONCLUSIVE)
    assert ("alone" in held.reason, "alone" in again.reason) == (True, True)


def test_a_number_that_is_missed_in_the_last_stage_alone_is_found_there():
    """85,000 good requests, then one in ten is bad: seconds; pooled with what was before it would take half an hour."""
    good = [events("q.error", C, float(at), 850, 1, stage="50") for at in range(100)]
    bad = [events("q.error", C, 100.0 + at, 57, 6, stage="95", share=0.95) for at in range(15)]
    assert verdict_on(NUMBER, good + bad, plan=_plan()).status is Status.FAIL
    assert verdict_on(NUMBER, [replace(r, stage="50") for r in good + bad], plan=_plan()).status is not Status.FAIL


@pytest.mark.parametrize("bad_b, status", [(0, Status.FAIL), (1, Status.FAIL), (2, Status.FAIL), (4, Status.ERROR)])
def test_a_few_errors_of_a_holdout_excuse_no_release(bad_b: int, status: Status):
    """Half of the candidate's 258 requests fail, and some of the baseline's 12, against a limit of 5 %."""
    records = [events("q.error", C, 0.0, 258, 126, stage="95"), events("q.error", B, 0.0, 12, bad_b, stage="95")]
    assert verdict_on(NUMBER, records, plan=_plan()).status is status


@pytest.mark.parametrize("slower, passes", [(1.0, True), (1.5, False), (4.0, False)])
def test_a_latency_whose_margin_lies_beyond_the_last_bucket_does_not_pass_when_it_worsens(slower: float, passes: bool):  # noqa: FBT001
    """A p95 of .87 s, buckets to 1 s, a margin of 20 %: good for long at half the traffic, then not at 95 %."""
    rng, bounds = np.random.default_rng(3), np.geomspace(0.05, 1.0, 61)
    records: list[Evidence] = []
    for at, stage, factor in ((-9, "warmup", 1.0), *((at, "50", 1.0) for at in range(100)),
                              *((at, "95", slower) for at in range(100, 120))):  # fmt: skip
        for arm, n in ((B, 200 if stage != "95" else 20), (C, 200 if stage != "95" else 380)):
            seconds = 0.45 * rng.lognormal(0, 0.4, n) * (factor if arm is C else 1.0)
            share = SHARES.get(stage, 0.0)
            records.append(latencies("q.latency", arm, float(at), seconds, bounds, stage=stage, share=share))
    judgement = verdict_on(LATENCY, records, plan=_plan())
    assert (judgement.status is Status.PASS) is passes, judgement.reason
    assert (judgement.status is Status.FAIL) is not passes, judgement.reason


@pytest.mark.parametrize("mode", [RollbackOn.DIFFERENCE, RollbackOn.BLOCKS, RollbackOn.ABSOLUTE])
def test_what_lies_beyond_a_margin_is_said_where_it_rolls_nothing_back(mode: RollbackOn):
    """Nearly all of the candidate's requests fail at 95 %."""
    records = [*_errors("25", 20, 0), *_errors("50", 20, 20), *_errors("95", 20, 40, bad=0.9)]
    judgement = verdict_on(POINT, records, plan=_plan(rollback_on=mode, confidence=0.999))
    assert judgement.status is Status.INCONCLUSIVE
    assert "beyond the margin of 1 points, for which " in judgement.reason


def test_a_score_passes_once_its_newest_stage_alone_shows_it():
    """Scores of both arms for 60 s; then 3 of the candidate's in the last stage, or 120, or 120 lower ones."""
    rng = np.random.default_rng(6)

    def scores(stage: str, start: int, n_c: int, n_b: int, mean: float) -> list[Evidence]:
        bounds = np.linspace(0.01, 1.0, 100)
        share = SHARES[stage]
        return [
            latencies("answer.quality", arm, float(start), np.clip(rng.normal(centre, 0.05, n), 0.011, 0.999), bounds,
                      stage=stage, share=share)
            for arm, n, centre in ((B, n_b, 0.8), (C, n_c, mean))
        ]  # fmt: skip

    good = [record for at in range(60) for record in scores("50", at, 20, 20, 0.8)]
    for n, mean, status in ((3, 0.8, Status.INCONCLUSIVE), (120, 0.8, Status.PASS), (120, 0.74, Status.INCONCLUSIVE)):
        judgement = verdict_on(SCORE, good + scores("95", 60, n, 6, mean), plan=_plan())
        assert judgement.status is status, judgement.reason


@pytest.mark.parametrize("slower, passes", [(1.0, True), (1.25, False)])
@pytest.mark.parametrize("seconds", [0.0395, 0.041, 0.05])
def test_a_latency_that_hardly_varies_passes_wherever_its_bucket_ends(seconds: float, slower: float, passes: bool):  # noqa: FBT001
    """Answers that differ by .3 % from each other; the last stage is as good, or 25 % slower, a margin of 20 %."""
    rng, records = np.random.default_rng(8), []
    for at, stage, factor in ((-9, "warmup", 1.0), *((at, "50", 1.0) for at in range(30)),
                              *((at, "95", slower) for at in range(30, 45))):  # fmt: skip
        for arm, n in ((B, 60 if stage != "95" else 6), (C, 60 if stage != "95" else 114)):
            took = seconds * rng.lognormal(0, 0.003, n) * (factor if arm is C else 1.0)
            records.append(latencies("q.latency", arm, float(at), took, stage=stage, share=SHARES.get(stage, 0.0)))
    judgement = verdict_on(LATENCY, records, plan=_plan())
    assert (judgement.status is Status.PASS) is passes, judgement.reason
    assert (judgement.status is Status.FAIL) is not passes, judgement.reason
