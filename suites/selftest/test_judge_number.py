"""Ratios and quantiles against a number: exact bounds, many looks, and a machine that both arms suffer from."""

from dataclasses import replace

import numpy as np
import pytest
from judge_streams import COARSE, events, latencies, objective_of, plan_of, verdict_on

from harness.judge import Judge
from harness.judge.binomial import log_evidence_above, log_evidence_below, lower_bound, needed_to_pass, upper_bound
from harness.judge.finding import Look, Terms
from harness.judge.gating import Gating
from harness.judge.number import NumberTrial
from harness.model.evidence import Arm, Source
from harness.model.objective import Measure, Objective
from harness.model.plan import RollbackOn, Stage
from harness.model.status import Status

pytestmark = pytest.mark.selftest

C, B = Arm.CANDIDATE, Arm.BASELINE
ERRORS = objective_of(Measure.RATIO, "q.error", 5, "%")
TWO = plan_of(stages=tuple(Stage(id=s, share=float(s), min_bake_s=5.0, max_bake_s=60.0) for s in ("10", "50")))
P95 = objective_of(Measure.QUANTILE, "q.latency", 1000, "ms", quantile=0.95)


@pytest.mark.parametrize(
    "bad, limit, least",
    [(0, 0.05, 90), (1, 0.05, 130), (5, 0.05, 259), (0, 0.01, 459), (1, 0.01, 662), (10, 0.01, 2010)],
)
def test_the_least_number_of_requests_that_passes_is_the_published_one(bad: int, limit: float, least: int):
    """MLPerf's early stopping at 99 %: with t over the limit, so many requests pass and one fewer does not."""
    assert upper_bound(bad, least, 0.99) <= limit
    assert upper_bound(bad, least - 1, 0.99) > limit


def test_bounds_of_nothing_seen_bound_nothing():
    """No unit, no bound."""
    assert upper_bound(0, 0, 0.99) == 1.0
    assert lower_bound(0, 0, 0.99) == 0.0


def test_a_clean_candidate_passes_and_says_how_many_it_needs_before():
    """106 clean requests are one too few for 5 % at 99 % at whatever look; 107 are enough."""
    early = verdict_on(ERRORS, [events("q.error", C, 0, 106)])
    assert (early.status, early.needed) == (Status.INCONCLUSIVE, 1)
    assert verdict_on(ERRORS, [events("q.error", C, 0, 107)]).status is Status.PASS


def test_a_failing_candidate_fails_with_its_counts():
    """15 % errors against a limit of 5 % and a clean baseline."""
    records = [events("q.error", arm, at, 20, 3 if arm is C else 0) for at in range(20) for arm in (B, C)]
    judgement = verdict_on(ERRORS, records)
    assert judgement.status is Status.FAIL
    assert "candidate 60 of 400 (15.0 %)" in judgement.reason
    assert judgement.estimate == pytest.approx(15.0)


def test_what_the_baseline_misses_too_is_an_error_not_the_releases_failure():
    """Both arms at 15 %: the machine."""
    records = [events("q.error", arm, at, 20, 3) for at in range(20) for arm in (B, C)]
    judgement = verdict_on(ERRORS, records)
    assert judgement.status is Status.ERROR
    assert "baseline misses it too" in judgement.reason


def test_a_baseline_that_cannot_be_shown_to_hold_it_and_looks_as_bad_is_an_error():
    """The candidate surely fails; of the baseline only 10 requests are known, 2 of them bad."""
    records = [events("q.error", C, at, 20, 4) for at in range(20)] + [events("q.error", B, 0, 10, 2)]
    assert verdict_on(ERRORS, records).status is Status.ERROR


def test_transitions_warm_up_and_smoke_are_not_judged():
    """Bad evidence of unjudged stages is no evidence at all."""
    records = [events("q.error", C, at, 20, 20, stage=s) for at, s in enumerate(("", "warmup", "smoke"))]
    assert verdict_on(ERRORS, records).n == 0
    assert verdict_on(ERRORS, records).status is Status.INCONCLUSIVE


def test_an_objective_of_one_stage_reads_only_that_stage():
    """`stages: ["50"]` leaves the evidence of stage 25 out."""
    objective = objective_of(Measure.RATIO, "q.error", 5, "%", stages=("50",))
    records = [events("q.error", C, 0, 300, stage="25"), events("q.error", C, 1, 30)]
    assert verdict_on(objective, records).n == 30


def test_a_quantile_is_a_share_above_a_bucket_bound():
    """p95 <= 1000 ms: 130 quick answers pass, in ms; 20 % slow ones fail."""
    passed = verdict_on(P95, [latencies("q.latency", C, 0, [0.015] * 130, COARSE)])
    assert passed.status is Status.PASS
    assert passed.estimate is not None
    assert passed.estimate < 25
    slow = [latencies("q.latency", arm, at, [0.02] * 8 + [2.0 if arm is C else 0.02] * 2, COARSE)
            for at in range(20) for arm in (B, C)]  # fmt: skip
    failed = verdict_on(P95, slow)
    assert failed.status is Status.FAIL
    assert "slower than 1000 ms" in failed.reason


def test_a_threshold_that_is_no_bucket_bound_is_an_error_not_a_guess():
    """1001 ms lies between two bounds."""
    odd = objective_of(Measure.QUANTILE, "q.latency", 1001, "ms", quantile=0.95)
    judgement = verdict_on(odd, [latencies("q.latency", C, 0, [0.02] * 500, COARSE)])
    assert judgement.status is Status.ERROR
    assert "no bucket bound" in judgement.reason


def test_a_good_past_does_not_pass_a_stage_that_breaks_the_limit():
    """6000 requests without an error, then every second one of 400: 3.1 % over all, 50 % now."""
    calm = [events("q.error", arm, float(at), 20, 0, stage="10") for at in range(300) for arm in (B, C)]
    assert verdict_on(ERRORS, calm).status is Status.PASS
    now = [events("q.error", arm, float(at), 20, 10 if arm is C else 0) for at in range(300, 320) for arm in (B, C)]
    found = verdict_on(ERRORS, calm + now)
    assert found.status is Status.INCONCLUSIVE
    assert "the newest stage alone is above it: 200 of 400" in found.reason
    assert found.needed is None
    for n, bad, status, says in ((20, 2, Status.INCONCLUSIVE, "is above it: 2 of 20"), (100, 1, Status.PASS, "at most"),
                                 (8, 0, Status.INCONCLUSIVE, "not yet in the newest stage alone: 0 of 8")):  # fmt: skip
        chance = verdict_on(ERRORS, [*calm, events("q.error", C, 300.0, n, bad)])
        assert (chance.status, says in chance.reason) == (status, True), chance.reason
        assert (chance.needed is not None) is ("not yet" in says)


@pytest.mark.parametrize("weight", [5e-324, 1e-320, 1e308])
def test_a_weight_at_the_edge_of_numbers_still_judges(weight: float):
    """Next to nothing, or so much that a sum of two is infinite."""
    two = [ERRORS, replace(ERRORS, id="other", weight=1e308)]
    judge = Judge(two, plan_of(weights=(("it", weight),)))
    judge.observe([events("q.error", arm, 0.0, 200, 100 if arm is C else 0) for arm in (B, C)])
    assert {j.status for j in judge.look(at=1.0, stage="50", final=True)} <= {Status.FAIL, Status.INCONCLUSIVE}


@pytest.mark.parametrize(
    "objective",
    [objective_of(Measure.RATIO, "q.error", 0, "%"), objective_of(Measure.RATIO, "q.error", 5, "ms"),
     objective_of(Measure.QUANTILE, "q.latency", 5, "ms"),
     objective_of(Measure.QUANTILE, "q.latency", 5, "ms", quantile=0.9, comparator=">=")],
)  # fmt: skip
def test_an_objective_that_means_nothing_is_refused(objective: Objective):
    """A limit of nothing, a wrong unit, a quantile without its level or turned round."""
    with pytest.raises(ValueError, match="objective it"):
        Judge([objective], plan_of())


def test_looking_after_every_request_does_not_raise_false_alarms():
    """At the limit itself (5 %), a look after each of 2000 requests: at most alpha of 400 streams ever alarm."""
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(400):
        bad = np.cumsum(rng.random(2000) < 0.05)
        alarms += any(log_evidence_above(int(bad[n]), n + 1, 0.05) >= np.log(20) for n in range(9, 2000, 10))
    assert alarms <= 400 * 0.05 + 2 * np.sqrt(400 * 0.05)


def test_a_share_at_its_limit_is_hardly_ever_proven_to_be_below_however_often_one_looks():
    """400 streams exactly at 5 %, a look every ten requests: at most 5 % of them, and chance. A bound each does not."""
    rng = np.random.default_rng(8)
    proven = bounded = 0
    for _ in range(400):
        bad = np.cumsum(rng.random(2000) < 0.05)
        looks = range(9, 2000, 10)
        proven += any(log_evidence_below(int(bad[n]), n + 1, 0.05) >= np.log(20) for n in looks)
        bounded += any(upper_bound(int(bad[n]), n + 1, 0.95) <= 0.05 for n in looks)
    assert proven <= 400 * 0.05 + 2 * np.sqrt(400 * 0.05)
    assert bounded > 400 * 0.1


def test_needed_agrees_with_the_proof_that_it_promises():
    """After so many more at the same rate it is proven to be below the limit."""
    more = needed_to_pass(1, 60, 0.05, 0.99)
    assert more is not None
    assert log_evidence_below(int(1 + more / 60), 60 + more, 0.05) >= np.log(100)
    assert needed_to_pass(6, 100, 0.05, 0.99) is None


def test_the_alarm_is_the_average_of_what_was_gathered_from_the_start_and_anew_in_each_stage():
    """Three stages with errors in each: rolled back just where .6, .2 and .2 of the stakes come to 1/alpha."""
    stages = tuple(Stage(id=name, share=float(name), min_bake_s=5.0, max_bake_s=60.0) for name in ("10", "50", "100"))
    counts = (("10", 100, 4), ("50", 100, 9), ("100", 100, 14))
    records = [events("q.error", C, float(at), n, bad, stage=stage) for at, (stage, n, bad) in enumerate(counts)]
    logs = [log_evidence_above(27, 300, 0.05), log_evidence_above(23, 200, 0.05), log_evidence_above(14, 100, 0.05)]
    worth = float(np.dot([0.6, 0.2, 0.2], np.exp(logs)))
    gate = Gating(mode=RollbackOn.EXCESS, calibration=None, why="")
    for alpha, status in ((1.001 / worth, Status.FAIL), (0.999 / worth, Status.INCONCLUSIVE)):
        terms = Terms(
            objective=ERRORS, plan=plan_of(stages=stages), source=Source.CLIENT, threshold=5.0, alpha=alpha, gating=gate
        )
        trial = NumberTrial(terms)
        for record in records:
            trial.observe(record)
        assert trial.find(Look(at=3.0, stage="100", final=False)).status is status


@pytest.mark.parametrize(
    "old, new, status",
    [
        ((0, 1000), (3, 20), Status.ERROR),
        ((60, 1000), (0, 20), Status.ERROR),
        ((50, 1000), (1, 20), Status.INCONCLUSIVE),
    ],
)
def test_a_baseline_that_alarms_excuses_what_looks_above_the_limit_over_all_or_now(
    old: tuple[int, int], new: tuple[int, int], status: Status
):
    """The candidate is above 5 % in its newest stage alone, over all alone, or just at it in both."""
    records = [events("q.error", B, 0.0, 400, 100, stage="10")]
    records += [events("q.error", C, 0.0, old[1], old[0], stage="10"), events("q.error", C, 1.0, new[1], new[0])]
    judgement = verdict_on(ERRORS, records, plan=TWO)
    assert judgement.status is status, judgement.reason


def test_without_a_judged_request_the_last_look_says_no_more_than_the_first():
    """Missing evidence is no error of this objective: others tell why the load is gone."""
    early, late = (verdict_on(ERRORS, [events("q.error", B, 0.0, 9)], final=final) for final in (False, True))
    assert (early.status, early.reason) == (late.status, late.reason)
    assert late.status is Status.INCONCLUSIVE
