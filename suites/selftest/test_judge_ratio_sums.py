"""A share against the baseline's: what it still needs, and its evidence at exactly the limits."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from judge_streams import events, objective_of, plan_of
from scipy.optimize import minimize_scalar

from harness.judge.bets import Counts, PastRate
from harness.judge.difference import Noise, ShareDifference
from harness.judge.finding import Finding, Look, Terms
from harness.judge.gating import Gating
from harness.judge.ratio import RatioTrial, more_to_reach
from harness.judge.restarts import RestartedExcess
from harness.model.evidence import Arm, Source
from harness.model.objective import Against, Measure
from harness.model.plan import RollbackOn, Stage
from harness.model.status import Status

pytestmark = pytest.mark.selftest

B, C = Arm.BASELINE, Arm.CANDIDATE
Row = tuple[int, int, int, int]  # bad and all of the candidate, bad and all of the baseline
TWO = tuple(Stage(id=name, share=float(name), min_bake_s=1, max_bake_s=9) for name in ("50", "100"))
POINT = objective_of(Measure.RATIO, "q.error", 2, "points", against=Against.BASELINE)


def trial_of(stages: dict[str, Sequence[Row]], *, mode: RollbackOn = RollbackOn.EXCESS, alpha: float = 0.01,
             confidence: float = 0.99) -> RatioTrial:  # fmt: skip
    """Return a trial of two points that has seen these intervals."""
    gate = Gating(mode=mode, calibration=None, why="")
    plan = plan_of(stages=TWO, confidence=confidence)
    trial = RatioTrial(Terms(objective=POINT, plan=plan, source=Source.CLIENT, threshold=2, alpha=alpha, gating=gate))
    at = 0.0
    for stage, rows in stages.items():
        for bad_c, n_c, bad_b, n_b in rows:
            trial.observe(events("q.error", B, at, n_b, bad_b, stage=stage))
            trial.observe(events("q.error", C, at, n_c, bad_c, stage=stage))
            at += 1.0
    return trial


def found(trial: RatioTrial) -> Finding:
    """Return what it finds at the end."""
    return trial.find(Look(at=0.0, stage="50", final=True))


def _gains(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """Return each interval's log gains of the two bets within two points: on equal shares, and on the own past."""
    past_b, past_c, gains = PastRate(), PastRate(), []
    for bad_c, n_c, bad_b, n_b in rows:
        p_b = float(past_b.rate)
        own = float(past_c.towards(p_b))
        gains.append((_gain((bad_c, n_c, bad_b, n_b), p_b, p_b), _gain((bad_c, n_c, bad_b, n_b), own, p_b)))
        past_b.update(bad_b, n_b)
        past_c.update(bad_c, n_c)
    return gains


def _gain(row: Row, p_c: float, p_b: float) -> float:
    bad_c, n_c, bad_b, n_b = row

    def likely(q_c: float, q_b: float, c: float, b: float) -> float:
        return c * math.log(q_c) + (n_c - c) * math.log(1 - q_c) + b * math.log(q_b) + (n_b - b) * math.log(1 - q_b)

    least = minimize_scalar(
        lambda q: -likely(q + 0.02, q, n_c * p_c, n_b * p_b),
        bounds=(1e-9, 0.9), method="bounded", options={"xatol": 1e-13},
    )  # fmt: skip
    return likely(p_c, p_b, bad_c, bad_b) - likely(least.x + 0.02, least.x, bad_c, bad_b)


def _worth(gains: Sequence[tuple[float, float]]) -> float:
    """Return the log of nine tenths on the first bet and a tenth on the second."""
    return float(np.log(np.exp(np.sum(gains, axis=0)) @ np.array([0.9, 0.1])))


FIRST, LAST = [(1, 60, 1, 60)] * 4, [(0, 90, 1, 30)] * 2
WANTED = -math.log(1 - 0.99)


def test_what_a_share_still_needs_goes_by_what_its_newest_stage_brought():
    """Its arms in the same intervals: a new share of traffic has a rate of its own. In the first stage, by all."""
    gains = _gains([*FIRST, *LAST])
    proof, newest = _worth(gains), _worth(gains[4:])
    assert 0 < newest < proof < WANTED
    judged = found(trial_of({"50": FIRST, "100": LAST}))
    needed = math.ceil((WANTED - proof) * 240 / newest)
    assert needed != math.ceil((WANTED - proof) * 240 / proof)
    assert (judged.status, judged.needed) == (Status.INCONCLUSIVE, needed)
    assert judged.reason == (
        f"candidate 4 of 420 (0.95 %) against baseline 6 of 300 (2.0 %) in the same intervals, "
        f"{100 * _apart([*FIRST, *LAST]):+.2f} points: neither within nor beyond the margin of 2 points; "
        f"about {needed} more requests would settle it"
    )
    quiet = [(0, 60, 0, 60)] * 4
    proof = _worth(_gains(quiet))
    assert found(trial_of({"50": quiet})).needed == math.ceil((WANTED - proof) * 480 / proof)


def _apart(rows: Sequence[Row]) -> float:
    weights = [n_c * n_b / (n_c + n_b) for _, n_c, _, n_b in rows]
    apart = [bad_c / n_c - bad_b / n_b for bad_c, n_c, bad_b, n_b in rows]
    return float(np.average(apart, weights=weights))


def test_a_newest_stage_that_takes_evidence_away_promises_no_number():
    """However much was gained before it; nor does one with evidence for the other side, or enough."""
    losing = [(3, 90, 0, 30)]
    gains = _gains([*FIRST, (0, 60, 0, 60), *losing])
    assert _worth(gains) > 0 > _worth(gains[5:])
    judged = found(trial_of({"50": [*FIRST, (0, 60, 0, 60)], "100": losing}))
    assert (judged.status, judged.needed) == (Status.INCONCLUSIVE, None)
    assert judged.reason.endswith(": neither within nor beyond the margin of 2 points")


@pytest.mark.parametrize("proof, gained, needed", [
    (1.0, None, 100), (1.0, 0.5, 200), (1.0, 4.0, 25), (1.0, 0.0, None), (1.0, -1.0, None), (-1.0, 0.5, 600),
    (2.0, None, None), (2.5, None, None), (0.0, None, None), (-1.0, None, None), (1.5, 0.7, 72),
])  # fmt: skip
def test_how_many_more_units_reach_two_from_what_a_hundred_brought(
    proof: float, gained: float | None, needed: int | None
):
    """By the straight line through what they gained, rounded up; at the mark nothing more is wanted."""
    assert more_to_reach(proof, 2.0, 100, gained) == needed


def _alpha_at(log_e: float) -> float:
    """Return an alpha whose alarm is exactly there."""
    alpha = math.exp(-log_e)
    near = [alpha]
    for towards in (0.0, 1.0):
        one = alpha
        for _ in range(40):
            one = math.nextafter(one, towards)
            near.append(one)
    return next(one for one in near if -math.log(one) == log_e)


def test_a_share_fails_at_exactly_its_alarm():
    """Evidence of one over alpha to the last bit; where margins do not roll back, it is said to lie beyond."""
    rows = [(6, 40, 0, 40), (9, 60, 1, 30), (8, 60, 1, 40)]
    excess, past_b, past_c = RestartedExcess(1), PastRate(), PastRate()
    for bad_c, n_c, bad_b, n_b in rows:
        p_b = past_b.rate
        own = past_c.towards(p_b)
        excess.update(Counts(bad_c, n_c, bad_b, n_b), p_b=p_b, past_c=own, margin=0.02, phi=1.0)
        past_b.update(bad_b, n_b)
        past_c.update(bad_c, n_c)
    peak = float(excess.peak)
    alpha = _alpha_at(peak)
    judged = found(trial_of({"50": rows}, alpha=alpha))
    assert judged.status is Status.FAIL
    power = f"10^{peak / math.log(10):.1f}"
    assert judged.reason.endswith(f": beyond the margin of 2 points (e-value {power}, rolls back at {power})")
    assert found(trial_of({"50": rows}, alpha=alpha * (1 - 1e-12))).status is Status.INCONCLUSIVE
    open_ = found(trial_of({"50": rows}, alpha=alpha, mode=RollbackOn.ABSOLUTE))
    assert open_.reason.endswith(": beyond the margin of 2 points, for which absolute does not roll back")


def test_a_stage_that_is_at_its_margin_exactly_does_not_speak_against_a_share():
    """One in fifty of the candidate's; one more does."""
    before = [(0, 400, 0, 400)] * 4
    for bad, says in ((1, "not yet in stage 100 alone"), (2, "but +4.00 points in stage 100 alone")):
        judged = found(trial_of({"50": before, "100": [(bad, 50, 0, 50)]}))
        assert judged.status is Status.INCONCLUSIVE
        assert f": within the margin of 2 points over all, {says}" in judged.reason


def test_a_shares_difference_is_begun_anew_with_each_stage_of_the_plan():
    """Four fifths of the stakes on all, a fifth on the second stage alone."""
    rows = {"50": [(1, 100, 1, 100)] * 10, "100": [(9, 100, 1, 100)] * 3}
    gate = Gating(mode=RollbackOn.DIFFERENCE, calibration=None, why="")
    whole, later = (ShareDifference(gate, Noise(None)) for _ in range(2))
    past_b = PastRate()
    for stage, part in rows.items():
        for row in part:
            for difference in (whole, later) if stage == "100" else (whole,):
                difference.update(Counts(*row), past_b.rate)
            past_b.update(row[2], row[3])
    assert whole.log_e is not None
    assert later.log_e is not None
    assert later.log_e > whole.log_e + 0.1
    by_hand = math.log(0.8 * math.exp(whole.log_e) + 0.2 * math.exp(later.log_e))
    assert trial_of(rows, mode=RollbackOn.DIFFERENCE).difference.log_e == pytest.approx(by_hand)
