"""Scores over several stages: the evidence of each, recomputed, decides; at limits that no grid holds too."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from judge_streams import gauge, objective_of, plan_of

from harness.judge.finding import Finding, Look, Terms
from harness.judge.gating import Gating
from harness.judge.quality import QualityTrial
from harness.judge.scores import DIFFERENCES, DifferenceBets, MeanBets, Scores
from harness.model.evidence import Arm, Evidence, Kind, Source
from harness.model.objective import Against, Measure, Objective
from harness.model.plan import RollbackOn, Stage
from harness.model.status import Status

pytestmark = pytest.mark.selftest

B, C = Arm.BASELINE, Arm.CANDIDATE
NUMBER = objective_of(Measure.SCORE, "q.score", 70.3, "%", comparator=">=")
PAIRED = objective_of(Measure.SCORE, "q.score", 5.2, "points", comparator=">=", against=Against.BASELINE)
Stages = dict[str, Sequence[tuple[float, float]]]  # a score of the candidate and one of the baseline for each second


def trial_of(objective: Objective, stages: Stages, *, alpha: float = 0.01) -> QualityTrial:
    """Return a trial that has seen these scores, in a plan of these stages."""
    plan = plan_of(
        stages=tuple(Stage(id=name, share=float(name), min_bake_s=1, max_bake_s=9) for name in stages)
    )  # fmt: skip
    gate = Gating(mode=RollbackOn.EXCESS, calibration=None, why="")
    trial = QualityTrial(
        Terms(objective=objective, plan=plan, source=Source.CLIENT, threshold=objective.threshold, alpha=alpha,
              gating=gate)
    )  # fmt: skip
    at = 0.0
    for stage, pairs in stages.items():
        for pair in pairs:
            for arm, value in zip((C, B), pair, strict=True):
                record = gauge("q.score", arm, at, value, stage=stage, source=Source.CLIENT, end_s=at + 1.0)
                trial.observe(record)
            at += 1.0
    return trial


def found(trial: QualityTrial) -> Finding:
    """Return what it finds."""
    return trial.find(Look(at=0.0, stage="50", final=False))


def exact(value: float) -> Scores:
    """Return one score."""
    return Scores(np.array([value]), np.array([value]), np.ones(1))


def bets_on(objective: Objective, pairs: Sequence[tuple[float, float]]) -> MeanBets | DifferenceBets:
    """Return bets about the limit alone."""
    if objective is NUMBER:
        means = MeanBets(alpha=0.01, points=np.array([0.703]))
        for one, _ in pairs:
            means.update(exact(one))
        return means
    differences = DifferenceBets(alpha=0.01, points=np.array([-0.052]))
    for one, other in pairs:
        differences.update(exact(one), exact(other))
    return differences


GOOD = [(0.80, 0.78), (0.76, 0.81), (0.9, 0.84), (0.71, 0.75), (0.83, 0.8)]
BAD = [(0.4, 0.8), (0.52, 0.77), (0.3, 0.84), (0.45, 0.71)]


@pytest.mark.parametrize("objective", [NUMBER, PAIRED])
@pytest.mark.parametrize("names", [("50", "100"), ("25", "50", "100")])
def test_scores_fail_by_six_tenths_on_all_and_the_rest_on_the_stages_begun_later(
    objective: Objective, names: tuple[str, ...]
):
    """At the highest average that an interval came to, a hair of alpha on either side; what is to begin is worth 1."""
    parts = [GOOD * 2, *[BAD * 3] * (len(names) - 1)]
    whole = [pair for part in parts for pair in part]
    begins = np.cumsum([len(part) for part in parts[:-1]])
    logs = []
    for end in range(1, len(whole) + 1):
        worth = 0.6 * math.exp(float(bets_on(objective, whole[:end]).capital.late[0]))
        for begin in begins:
            own = float(bets_on(objective, whole[begin:end]).capital.below[0])
            worth += 0.4 / len(begins) * math.exp(own)
        logs.append(math.log(worth))
    peak = max(logs)
    assert peak > 1
    stages = dict(zip(names, parts, strict=True))
    over, under = (found(trial_of(objective, stages, alpha=math.exp(hair - peak))) for hair in (1e-9, -1e-9))
    assert (over.status, under.status) == (Status.FAIL, Status.INCONCLUSIVE)


@pytest.mark.parametrize("objective", [NUMBER, PAIRED])
def test_what_scores_still_need_is_reckoned_at_the_limit_itself(objective: Objective):
    """Between two points of the grid."""
    judged = found(trial_of(objective, {"50": GOOD * 4}))
    proof = float(bets_on(objective, GOOD * 4).capital.above[0])
    assert 0 < proof < math.log(100)
    assert judged.needed == math.ceil((math.log(100) - proof) * 20 / proof)
    assert judged.status is Status.INCONCLUSIVE


@pytest.mark.parametrize("objective", [NUMBER, PAIRED])
def test_scores_are_held_until_the_newest_of_three_stages_brings_its_own(objective: Objective):
    """An e-value of three there; the second one's does not count for it."""
    long = [(0.9, 0.7), (0.85, 0.75), (0.88, 0.72)] * 60
    short = [(0.9, 0.7), (0.85, 0.75)]
    told = []
    for last in (short, long):
        judged = found(trial_of(objective, {"25": long, "50": long, "100": last}))
        told.append((judged.status, judged.reason.endswith(" over all, not yet in stage 100")))
    assert told == [(Status.INCONCLUSIVE, True), (Status.PASS, False)]


def test_a_margin_as_wide_as_the_baselines_mean_leaves_its_newest_stage_to_the_arms_alone():
    """A mean above 0 is no news: 25 points below 25 %, where a candidate of 60 % brings little yet of its own."""
    objective = objective_of(Measure.SCORE, "q.score", 25, "points", comparator=">=", against=Against.BASELINE)
    before = [(0.25, 0.25), (0.5, 0.25)] * 90
    for count, status in ((3, Status.INCONCLUSIVE), (90, Status.PASS)):
        judged = found(trial_of(objective, {"50": before, "100": [(0.6, 0.25)] * count}))
        assert judged.status is status, (count, judged.reason)


def test_hidden_scores_of_the_baseline_may_have_been_any_in_the_interval_too():
    """In four buckets: the candidate's at their edges, the baseline's hidden ones from 0 to 1."""
    bounds = (0.25, 0.5, 0.75, 1.0)

    def record(arm: Arm, at: float, *counts: int) -> Evidence:
        return Evidence(
            kind=Kind.HISTOGRAM, source=Source.CLIENT, signal="q.score", arm=arm, start_s=at, end_s=at + 1.0,
            stage="50", share=0.5, n=sum(counts), bounds=bounds, counts=counts,
        )  # fmt: skip

    trial = trial_of(PAIRED, {"50": []})
    bets = DifferenceBets(alpha=0.01, points=np.unique(np.append(DIFFERENCES, -0.052)))
    low, high = np.array([0.0, 0.25, 0.5, 0.75]), np.array(bounds)
    for at in range(60):
        trial.observe(record(C, at, 9, 2, 1, at % 2, 0))
        trial.observe(record(B, at, 0, 1, 2, 9, 2))
        counts = np.array([9.0, 2, 1, at % 2])
        baseline = Scores(np.append(low, 0.0), np.append(high, 1.0), np.array([0.0, 1, 2, 9, 2]))
        bets.update(Scores(low, high, counts), baseline)
    judged = found(trial)
    bottom, top = bets.capital.interval(0.01)
    assert top < 0
    assert judged.interval == pytest.approx((100 * float(bottom), 100 * float(top)))
