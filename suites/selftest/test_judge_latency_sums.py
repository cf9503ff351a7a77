"""A latency against the baseline's: its numbers recomputed from the counts, its words whole, its limits exactly."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from judge_streams import latencies, objective_of, plan_of
from scipy.optimize import minimize_scalar

from harness.judge.bets import PastRate
from harness.judge.buckets import Buckets
from harness.judge.difference import LatencyDifference, Noise
from harness.judge.finding import Finding, Look, Terms
from harness.judge.gating import Gating
from harness.judge.latency import LatencyTrial
from harness.model.calibration import Calibration, Dispersion
from harness.model.evidence import Arm, Evidence, Source
from harness.model.objective import Against, Measure
from harness.model.plan import RollbackOn, Stage
from harness.model.status import Status

pytestmark = pytest.mark.selftest

B, C = Arm.BASELINE, Arm.CANDIDATE
P90 = objective_of(Measure.QUANTILE, "q.latency", 100, "%", against=Against.BASELINE, quantile=0.9)
TWO = tuple(Stage(id=name, share=float(name), min_bake_s=1, max_bake_s=9) for name in ("50", "100"))
DOUBLING = np.array([0.01, 0.02, 0.04, 0.08])
Arms = tuple[Sequence[float], Sequence[float]]  # one interval: the candidate's seconds and the baseline's


def trial_of(
    warmup: Sequence[float], stages: dict[str, Sequence[Arms]], *, bounds: np.ndarray = DOUBLING,
    mode: RollbackOn = RollbackOn.EXCESS, g: float | None = None, alpha: float = 0.01, **changes: object,
) -> LatencyTrial:  # fmt: skip
    """Return a trial that has seen these seconds."""
    known = Dispersion(objective="it", source="client", contest=0.0, level=g or 0.0, intervals=960, informative=960)
    made = Calibration(
        system="it", plan="quick", made_at="", interval_s=1.0, load_rate=65.0, intervals=960, windows=10,
        false_alarms=0, dispersions=(known,),
    )  # fmt: skip
    objective = replace(P90, **changes)
    gate = Gating(mode=mode, calibration=None if g is None else made, why="")
    plan = plan_of(stages=TWO)
    trial = LatencyTrial(
        Terms(objective=objective, plan=plan, source=Source.CLIENT, threshold=objective.threshold, alpha=alpha,
              gating=gate)
    )  # fmt: skip
    if len(warmup):
        trial.observe(latencies("q.latency", B, -5.0, warmup, bounds, stage="warmup"))
    at = 0.0
    for stage, intervals in stages.items():
        for arms in intervals:
            for record in records_of(at, arms, bounds, stage):
                trial.observe(record)
            at += 1.0
    return trial


def records_of(at: float, arms: Arms, bounds: np.ndarray, stage: str) -> tuple[Evidence, Evidence]:
    """Return one interval of the candidate and of the baseline."""
    candidate, baseline = (
        latencies("q.latency", arm, at, seconds, bounds, stage=stage) for arm, seconds in zip((C, B), arms, strict=True)
    )
    return candidate, baseline


def found(trial: LatencyTrial) -> Finding:
    """Return what it finds at the end."""
    return trial.find(Look(at=0.0, stage="50", final=True))


QUARTER = [0.015] * 75 + [0.03] * 25  # p90 in the bucket from 20 to 40 ms, at three fifths of it, and nothing above


def _by_hand(rounds: int, n_c: int, bad_b: int, n_b: int, g: float) -> float:
    """Return the newest stage's evidence: its one interval at 40 ms, after `rounds` of a quarter each in both arms."""
    n, quarter, past_c = 100.0, 25.0, PastRate()
    for _ in range(rounds):
        past_c.update(0, 100)
        n, quarter = n * math.exp(-100 / 2000) + 100, quarter * math.exp(-100 / 2000) + 25
    p_b = 0.05 / (n + 1)
    own, margin = float(past_c.towards(p_b)), quarter / n - p_b
    phi = 1 + 1.5 * g * 0.1 * 0.9 * n_c * n_b / (n_c + n_b)
    alone = [n_c * math.log((1 - bet) / (1 - p_b - margin)) / phi for bet in (p_b, own)]

    def apart(p_c: float) -> float:
        def divergence(q: float) -> float:
            one = p_c * math.log(p_c / (q + margin)) + (1 - p_c) * math.log((1 - p_c) / (1 - q - margin))
            return n_c * one + n_b * (p_b * math.log(p_b / q) + (1 - p_b) * math.log((1 - p_b) / (1 - q)))

        q = minimize_scalar(divergence, bounds=(p_b / 100, p_b), method="bounded", options={"xatol": 1e-14}).x
        gained = n_c * math.log((1 - p_c) / (1 - q - margin)) + bad_b * math.log(p_b / q)
        return (gained + (n_b - bad_b) * math.log((1 - p_b) / (1 - q))) / phi

    paired = math.log(0.9 * math.exp(apart(p_b)) + 0.1 * math.exp(apart(own)))
    if bad_b:
        assert paired > max(alone)
    return max(paired, math.log(np.mean(np.exp(alone))))


@pytest.mark.parametrize("g", [None, 4.0])
@pytest.mark.parametrize("n_c, bad_b, n_b", [(3, 0, 2), (2, 0, 3), (1, 1, 3), (1, 1, 2)])
def test_a_latency_within_its_margin_over_all_needs_what_its_newest_stage_still_wants(
    n_c: int, bad_b: int, n_b: int, g: float | None
):
    """Buckets exactly as wide as the margin: the bound is 100 %.

    Each way to prove the stage alone is the better one: where the baseline has nothing above the threshold, or one
    request. Each is tempered by the arms' noise.
    """
    last = ([0.015] * n_c, [0.05] * bad_b + [0.015] * (n_b - bad_b))
    judged = found(trial_of(QUARTER, {"50": [(QUARTER, QUARTER)] * 50, "100": [last]}, g=g))
    proof = _by_hand(50, n_c, bad_b, n_b, g or 0.0)
    assert 0 < proof < math.log(3)
    assert judged.needed == math.ceil((math.log(3) - proof) * (n_c + n_b) / proof)
    assert judged.status is Status.INCONCLUSIVE
    assert judged.interval is not None
    assert judged.interval[1] == pytest.approx(100.0)
    assert judged.reason.endswith(": within 100 % over all, not yet in stage 100 alone")


def test_a_latency_passes_at_a_bound_that_is_exactly_its_margin():
    """And tells the bound: twice the baseline's."""
    judged = found(trial_of(QUARTER, {"50": [(QUARTER, QUARTER)] * 12}))
    assert (judged.status, judged.needed) == (Status.PASS, None)
    assert judged.reason.endswith(": shown at most +100 %, within 100 %")


def test_no_number_of_requests_settles_a_margin_that_the_buckets_just_reach():
    """Both quantiles in one bucket of twice its beginning, and a margin of 100 %: the bound comes down to it alone."""
    few = [0.015] * 28 + [0.03] * 10 + [0.05] * 2
    judged = found(trial_of(few * 3, {"50": [(few, few)] * 2}))
    assert judged.interval is not None
    assert judged.interval[1] > 101
    assert (judged.status, judged.needed) == (Status.INCONCLUSIVE, None)
    words = f": at most {judged.interval[1]:+.0f} % is shown, the margin is 100 %"
    assert judged.reason.endswith(words)
    narrower = found(trial_of(few * 3, {"50": [(few, few)] * 2}, threshold=99.9))
    assert narrower.reason.endswith(": the buckets are too coarse to show more, the margin is 99.9 %")
    assert narrower.needed is None


def test_a_quantile_beyond_the_buckets_is_told_in_whole_words():
    """The candidate's, the baseline's, and both."""
    quick, slow = [0.015] * 20, [0.5] * 20
    for arms, told in (
        ((slow, quick), "candidate's p90 beyond the buckets against the baseline's 18.7 ms"),
        ((quick, slow), "candidate's p90 18.7 ms against the baseline's beyond the buckets"),
        ((slow, slow), "candidate's p90 beyond the buckets against the baseline's beyond the buckets"),
    ):
        judged = found(trial_of([], {"50": [arms]}))
        assert judged == Finding(
            status=Status.INCONCLUSIVE, n=40,
            reason=f"{told}: a quantile lies beyond the last bucket, the margin is 100 %",
        )  # fmt: skip


def newest_ms(warmup: Sequence[float], bounds: Sequence[float], threshold: float) -> str:
    """Return the threshold that is told after one interval."""
    reason = found(trial_of(warmup, {"50": [(QUARTER, QUARTER)]}, bounds=np.array(bounds), threshold=threshold)).reason
    return reason.split("(the newest ")[1].split(")")[0]


def test_the_bound_below_the_margin_is_taken_only_between_the_past_quantile_and_the_margin():
    """Next to nothing is granted at the nearest one; a bound at the quantile itself, or at the margin, changes that."""
    past = [0.015] * 270 + [0.5] * 30  # its p90 is at 20 ms exactly
    assert newest_ms(past, (0.01, 0.02, 0.04), 50) == "40 ms"
    assert newest_ms(past, (0.01, 0.02, 0.021, 0.04), 50) == "21 ms"
    tail = [0.015] * 270 + [0.025] * 3 + [0.5] * 27
    assert newest_ms(tail, (0.01, 0.02, 0.03, 0.04), 100) == "40 ms"
    assert newest_ms(tail, (0.01, 0.02, 0.03, 0.0401), 100) == "30 ms"


@pytest.mark.parametrize("over, says", [
    (20, "not yet in stage 100 alone"), (21, "but in stage 100 alone 21 of 40 (52.5 %) against 0 of 40 (0.0 %)"),
])  # fmt: skip
def test_a_stage_speaks_against_a_median_only_where_more_than_half_are_slow(over: int, says: str):
    """Exactly half above the threshold is what a median allows, however few of the baseline's are."""
    usual = [0.006] * 30 + [0.015] * 60 + [0.03] * 30
    last = ([0.07] * over + [0.006] * (40 - over), [0.006] * 40)
    stages = {"50": [(usual, usual)] * 15, "100": [last]}
    judged = found(trial_of(usual, stages, quantile=0.5, threshold=120))
    assert judged.status is Status.INCONCLUSIVE
    assert judged.reason.endswith(f": within 120 % over all, {says}")


FINER = np.geomspace(0.004, 0.4, 61)


def _drawn(slower: float, rounds: int, seed: int) -> list[Arms]:
    rng = np.random.default_rng(seed)
    return [(0.02 * slower * np.exp(0.6 * rng.standard_normal(40)), 0.02 * np.exp(0.6 * rng.standard_normal(40)))
            for _ in range(rounds)]  # fmt: skip


def test_a_latency_that_failed_needs_nothing_more():
    """Though its bound has come back near the margin; with less alpha it is open, and does."""
    warmup = 0.02 * np.exp(0.6 * np.random.default_rng(1).standard_normal(300))
    stages = {"50": [*_drawn(3.0, 2, 2), *_drawn(0.9, 16, 3)]}
    failed = found(trial_of(warmup, stages, bounds=FINER, threshold=50, alpha=0.5))
    assert (failed.status, failed.needed) == (Status.FAIL, None)
    opened = found(trial_of(warmup, stages, bounds=FINER, threshold=50, alpha=1e-12))
    assert opened.status is Status.INCONCLUSIVE
    assert opened.needed is not None
    assert replace(failed, status=opened.status, reason=opened.reason, needed=opened.needed) == opened


def test_a_latencys_difference_is_begun_anew_with_each_stage_of_the_plan():
    """Four fifths of the stakes on all, a fifth on the second stage alone: summed by hand for a tail."""
    warmup, good, slow = [0.015] * 290 + [0.03] * 10, [0.015] * 50, [0.015] * 45 + [0.05] * 5
    stages = {"50": [(good, good)] * 20, "100": [(slow, good)] * 12}
    trial = trial_of(warmup, stages, mode=RollbackOn.DIFFERENCE, quantile=0.99)
    gate = Gating(mode=RollbackOn.DIFFERENCE, calibration=None, why="")
    whole, later = (LatencyDifference(gate, Noise(None), 0.99) for _ in range(2))
    past = Buckets(4000.0)
    past.add(latencies("q.latency", B, -5.0, warmup, DOUBLING))
    for stage, intervals in stages.items():
        for arms in intervals:
            candidate, baseline = records_of(0.0, arms, DOUBLING, stage)
            for difference in (whole, later) if stage == "100" else (whole,):
                difference.update(candidate, baseline, past)
            past.add(baseline)
    assert whole.log_e is not None
    assert later.log_e is not None
    assert later.log_e > whole.log_e + 0.1
    assert trial.difference.log_e == pytest.approx(math.log(0.8 * math.exp(whole.log_e) + 0.2 * math.exp(later.log_e)))
