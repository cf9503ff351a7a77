"""Ways of gating: tempered by a calibration, by blocks without one, beyond margins, or not by comparison at all."""

import math
from dataclasses import replace

import judge_streams as streams
import numpy as np
import pytest

from harness.judge import Judge
from harness.judge.bets import Counts
from harness.judge.blocks import BLOCK_INTERVALS, BlockContest
from harness.judge.calibrate import Calibrator
from harness.judge.contest import BinaryContest
from harness.judge.dispersion import LongRunVariance, binary_score
from harness.judge.pairing import Intervals
from harness.judge.restarts import DIFFERENCE, RestartedBets
from harness.model.calibration import Calibration, Dispersion, Uncalibrated, check
from harness.model.evidence import Arm
from harness.model.objective import Against, Measure
from harness.model.plan import RollbackOn, Stage
from harness.model.status import Status

pytestmark = pytest.mark.selftest

_OBJECTIVES, _PLANS = streams.researchflow()
_QUICK = _PLANS["quick"]
_NOISY = streams.Truth(noise=0.35, memory=0.9)
# What an A/A run of arms without any noise of their own shows.
_STILL = tuple(
    Dispersion(objective=objective.id, source=source.value, contest=0.0, level=0.0, intervals=960, informative=960)
    for objective in _OBJECTIVES
    for source in objective.sources
    if objective.against is Against.BASELINE
)


def _calibration(**changes: object) -> Calibration:
    values = {
        "system": "it", "plan": "quick", "made_at": "2026-01-01T00:00:00Z", "interval_s": 1.0, "load_rate": 45.0,
        "intervals": 960, "windows": 10, "false_alarms": 0, "dispersions": _STILL, **changes,
    }  # fmt: skip
    return Calibration(**values)


def _measure(truth: streams.Truth, seed: int) -> Calibration:
    """Calibrate a world by an A/A run of 960 intervals."""
    world, calibrator = streams.World(truth, 45.0, seed), Calibrator(_OBJECTIVES, _QUICK)
    for _ in range(20):
        calibrator.observe(world.second("warmup", 0.0))
    for _ in range(960):
        calibrator.observe(world.second("aa", 0.5))
    assert calibrator.intervals == 960
    return _calibration(dispersions=calibrator.dispersions())


@pytest.fixture(scope="module")
def noisy() -> Calibration:
    """A calibration of the noisy world."""
    return _measure(_NOISY, 1)


@pytest.fixture(scope="module")
def calm() -> Calibration:
    """A calibration of the world as it was measured."""
    return _measure(streams.GOOD, 2)


def _first_failure(
    truth: streams.Truth, seed: int, calibration: Calibration | None, seconds: int = 150, **policy: object
) -> tuple[int, set[str]] | None:
    """Return after how many seconds at 50 % which guardrails fail; None if none does."""
    plan = replace(_QUICK, **{"rollback_on": RollbackOn.DIFFERENCE, **policy})
    world, judge = streams.World(truth, 45.0, seed), Judge(_OBJECTIVES, plan, calibration)
    for _ in range(6):
        judge.observe(world.second("warmup", 0.0))
    for at in range(seconds):
        judge.observe(world.second("50", 0.5))
        if at % 5 == 0:
            looked = judge.look(at=world.now, stage="50", final=False)
            failed = {j.id for j in looked if j.status == "fail" and j.severity == "critical"}
            if failed:
                return at, failed
    return None


def test_noise_of_one_arm_rolls_no_good_release_back_once_it_is_calibrated(noisy: Calibration):
    """Four seeds; the same streams untempered roll most of them back, which is what tempering is for."""
    flat = replace(noisy, dispersions=tuple(replace(d, contest=0.0, level=0.0) for d in noisy.dispersions))
    assert [_first_failure(_NOISY, seed, noisy) for seed in range(4)] == [None] * 4
    assert sum(_first_failure(_NOISY, seed, flat) is not None for seed in range(4)) >= 2


def test_without_calibration_any_difference_is_judged_by_blocks_and_the_verdict_says_so():
    """The fallback holds on the noisy world, too, and claims what it is."""
    assert [_first_failure(_NOISY, seed, None) for seed in range(4)] == [None] * 4
    judge = Judge(_OBJECTIVES, replace(_QUICK, rollback_on=RollbackOn.DIFFERENCE), uncalibrated="it is new")
    assert "blocks" in judge.claims[0]
    assert "not calibrated (it is new)" in judge.claims[1]


def test_blocks_find_what_is_plainly_worse():
    """Errors of 4.5 % against .02 %, in a dozen blocks."""
    found = _first_failure(streams.Truth(errors=0.045), 3, None, seconds=400)
    assert found is not None
    assert found[1] == {"canary.error_rate"}


def test_a_comparison_that_was_never_measured_is_judged_by_blocks_and_named():
    """An objective newer than the calibration: untempered, the same streams roll good releases back."""
    fewer = _calibration(dispersions=tuple(d for d in _STILL if not d.objective.startswith("canary.latency")))
    assert [_first_failure(_NOISY, seed, fewer) for seed in range(4)] == [None] * 4
    assert sum(_first_failure(_NOISY, seed, _calibration()) is not None for seed in range(4)) >= 2
    plan = replace(_QUICK, rollback_on=RollbackOn.DIFFERENCE)
    said = Judge(_OBJECTIVES, plan, fewer).claims[1]
    assert "of canary.latency_p95 (client)" in said
    assert "canary.error_rate" not in said
    assert said.endswith("it knows nothing, which blocks of intervals judge")
    assert "knows nothing" not in Judge(_OBJECTIVES, plan, _calibration()).claims[1]
    assert "which blocks" not in Judge(_OBJECTIVES, _QUICK, fewer).claims[1]


def test_noise_of_which_nothing_bad_was_seen_is_said_to_count_as_none():
    """An A/A run without a single error can't know how errors clump."""
    plan = replace(_QUICK, rollback_on=RollbackOn.DIFFERENCE)
    calm = tuple(replace(d, informative=0) if d.objective == "canary.error_rate" else d for d in _STILL)
    said = Judge(_OBJECTIVES, plan, _calibration(dispersions=calm)).claims[1]
    assert "canary.error_rate (client) it saw nothing bad" in said
    assert "saw nothing bad" not in Judge(_OBJECTIVES, plan, _calibration()).claims[1]


@pytest.mark.parametrize("name, known", sorted(streams.KNOWN_BAD.items()))
def test_a_calibrated_gate_names_every_known_fault(name: str, known: tuple[streams.Truth, str], calm: Calibration):
    """Tempering costs time, not the finding."""
    truth, judgement = known
    found = _first_failure(truth, 11, calm)
    assert found is not None, name
    assert judgement in found[1]


def test_a_difference_within_every_margin_rolls_back_only_where_the_plan_asks_for_it():
    """Errors of .6 % against .02 %: well within 5 points of margin, and a difference all the same."""
    margins = tuple((i, 5.0 if i == "canary.error_rate" else m) for i, m in _QUICK.margins)
    truth, calm = streams.Truth(errors=0.006), _calibration()
    assert _first_failure(truth, 5, calm, margins=margins, seconds=400) is not None
    assert _first_failure(truth, 5, calm, margins=margins, seconds=400, rollback_on=RollbackOn.EXCESS) is None


def test_a_plan_of_absolute_objectives_never_rolls_back_by_comparison():
    """60 % slower, yet far from 5 s: it is not proven, and not failed."""
    assert _first_failure(streams.Truth(slower=1.6), 5, None, rollback_on=RollbackOn.ABSOLUTE) is None


def test_an_informational_guardrail_is_shown_and_decides_nothing():
    """The one that would fail is only shown; the others keep the whole of alpha."""
    truth = streams.Truth(wrong=0.105)
    assert _first_failure(truth, 5, _calibration()) is not None
    assert _first_failure(truth, 5, _calibration(), informational=("canary.recall",)) is None


def test_weights_of_the_plan_move_alpha_to_what_matters():
    """With nearly all the weight on errors, errors are found earlier than with hardly any."""
    truth = streams.Truth(errors=0.02)
    heavy = _first_failure(truth, 7, _calibration(), weights=(("canary.error_rate", 1000.0),))
    light = _first_failure(truth, 7, _calibration(), weights=(("canary.error_rate", 0.0001),))
    assert heavy is not None
    assert light is None or heavy[0] < light[0]


def test_blocks_say_nothing_while_the_candidate_serves_the_larger_part():
    """There the differences of equal arms lean to the side that costs a release its life."""
    contest = BlockContest()
    for _ in range(5 * BLOCK_INTERVALS):
        contest.update(Counts(20, 75, 0, 25))
    assert contest.log_e == 0.0
    for _ in range(5 * BLOCK_INTERVALS):
        contest.update(Counts(20, 50, 0, 50))
    assert contest.log_e > 2


def test_a_change_of_shares_while_rates_fall_is_no_difference_in_a_block():
    """Equal arms: 6 % of a tenth of the traffic, then 0.5 % of half. Over the block as a whole they would differ."""
    contest = BlockContest()
    for at in range(4 * BLOCK_INTERVALS):
        early = at % BLOCK_INTERVALS < BLOCK_INTERVALS // 2
        contest.update(Counts(6, 100, 54, 900) if early else Counts(2.5, 500, 2.5, 500))
    assert contest.log_e == pytest.approx(0.0, abs=1e-9)


def test_one_rollout_and_many_give_the_same_evidence():
    """The gate judges one, the bench thousands, by the same lines."""
    rng = np.random.default_rng(3)
    many, ones = BinaryContest((5,)), [BinaryContest() for _ in range(5)]
    noise, noises = LongRunVariance((5,)), [LongRunVariance() for _ in range(5)]
    for _ in range(40):
        bad_c, bad_b = rng.binomial(50, 0.03, 5), rng.binomial(60, 0.02, 5)
        share = rng.uniform(0.01, 0.03, 5)
        many.update(Counts(bad_c, np.full(5, 50), bad_b, np.full(5, 60)), p_b=share)
        noise.update(*binary_score(bad_c, 50, bad_b, 60))
        for index in range(5):
            counts = Counts(bad_c[index], 50, bad_b[index], 60)
            ones[index].update(counts, p_b=share[index])
            noises[index].update(*binary_score(float(bad_c[index]), 50, float(bad_b[index]), 60))
    assert many.log_e == pytest.approx([float(one.log_e) for one in ones], abs=1e-12)
    assert noise.value == pytest.approx([float(one.value) for one in noises], abs=1e-12)


def test_seconds_are_judged_in_the_intervals_that_the_noise_was_measured_in():
    """Fifteen seconds make one interval; nothing is lost or counted twice."""
    intervals = Intervals(15.0)
    ready = []
    for at in range(61):
        for arm in Arm:
            ready += intervals.add(streams.events("q.error", arm, float(at), 10, 1))
    assert [(b.n, c.n, c.bad, c.start_s, c.end_s) for b, c in ready] == [
        (150, 150, 15, 15.0 * i, 15.0 * i + 15) for i in range(4)
    ]


def test_a_stage_that_changes_within_an_interval_begins_another_one():
    """Ten percent until second 7 of fifteen, half from then on: neither stage's counts bear the other's name."""
    intervals = Intervals(15.0)
    ready = []
    for at in range(31):
        stage, share = ("10", 0.1) if at < 7 else ("50", 0.5)
        for arm in Arm:
            n = round(20 * (share if arm is Arm.CANDIDATE else 1 - share))
            ready += intervals.add(streams.events("q.error", arm, float(at), n, stage=stage, share=share))
    told = [(c.stage, c.share, c.start_s, c.end_s, b.n, c.n) for b, c in ready]
    assert told == [("10", 0.1, 0, 7, 126, 14), ("50", 0.5, 7, 15, 80, 80), ("50", 0.5, 15, 30, 150, 150)]
    assert [(b.stage, b.share) for b, _ in ready] == [(stage, share) for stage, share, *_ in told]


def test_judging_by_longer_intervals_still_finds_the_fault():
    """Intervals of 5 s, errors of 3 %."""
    truth, name = streams.KNOWN_BAD["errors 3 %"]
    found = _first_failure(truth, 11, _calibration(interval_s=5.0), interval_s=5.0)
    assert found is not None
    assert found[1] == {name}


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"intervals": 900}, "wants 60 more"),
        ({"interval_s": 15.0}, "every 15 s"),
        ({"load_rate": 200.0}, "200 requests a second"),
        ({"load_rate": 0.0}, "0 requests a second"),
        ({"false_alarms": 1}, "1 of its 10"),
    ],
)
def test_a_calibration_out_of_bounds_is_not_used(changes: dict, says: str):
    """Each bound is told in words."""
    with pytest.raises(Uncalibrated, match=says):
        check(_calibration(**changes), interval_s=1.0, load_rate=45.0, age_days=1.0)


@pytest.mark.parametrize("age", [-1.0, 31.0, float("nan")])
def test_a_calibration_of_another_time_is_not_used(age: float):
    """Too old, made in the future, or of no known date."""
    with pytest.raises(Uncalibrated, match="days old"):
        check(_calibration(), interval_s=1.0, load_rate=45.0, age_days=age)


def test_a_sound_calibration_is_used_and_none_is_none():
    """The plain case, and the plainest."""
    made = _calibration()
    assert check(made, interval_s=1.0, load_rate=60.0, age_days=3.0) is made
    with pytest.raises(Uncalibrated, match="no A/A run"):
        check(None, interval_s=1.0, load_rate=45.0, age_days=0.0)


def test_the_calibrator_measures_comparisons_alone():
    """Objectives against numbers have no arms' noise to know."""
    objectives = [
        streams.objective_of(Measure.RATIO, "q.error", 5.0, "%"),
        streams.objective_of(Measure.RATIO, "q.error", 1.0, "points", id="two", against=Against.BASELINE),
    ]
    calibrator = Calibrator(objectives, streams.plan_of())
    for at in range(30):
        calibrator.observe([streams.events("q.error", arm, float(at), 40, 1) for arm in Arm])
    calibrator.gap()
    assert [d.objective for d in calibrator.dispersions()] == ["two"]
    assert calibrator.intervals == 30


def _late(mode: RollbackOn, stages: tuple[str, ...], measure: Measure) -> bool:
    """Judge a long good stage "50", then a shorter one "52" in which errors, or latencies, are worse; has it failed?"""
    plan = streams.plan_of(
        rollback_on=mode,
        alpha=0.01,
        stages=tuple(Stage(id=stage, share=float(stage), min_bake_s=5, max_bake_s=9) for stage in stages),
    )
    ratio = measure is Measure.RATIO
    objective = streams.objective_of(
        measure,
        "q.error" if ratio else "q.latency",
        5 if ratio else 100,
        "points" if ratio else "%",
        against=Against.BASELINE,
        quantile=None if ratio else 0.95,
    )
    known = (Dispersion(objective="it", source="client", contest=0.0, level=0.0, intervals=960, informative=960),)
    judge = Judge([objective], plan, _calibration(dispersions=known))
    rng = np.random.default_rng(4)
    at, good, bad = 0, *((1600, 400) if mode is RollbackOn.BLOCKS else (750, 30 if ratio else 10))
    for stage, seconds, worse in (("warmup", 100, 1.0), ("50", good, 1.0), ("52", bad, 1.6)):
        for _ in range(seconds):
            judge.observe([streams.events("load", None, at, 50, stage=stage)])
            for arm in Arm:
                factor = worse if arm is Arm.CANDIDATE else 1.0
                if ratio:
                    record = streams.events("q.error", arm, at, 120, int(rng.binomial(120, 0.05 * factor)), stage=stage)
                else:
                    slow = 0.1 * rng.lognormal(0, 0.4, 120) * (1 + (factor - 1) / 3)
                    record = streams.latencies("q.latency", arm, at, slow, stage=stage)
                judge.observe([record])
            at += 1
    return judge.look(at=at, stage="52", final=False)[0].status is Status.FAIL


@pytest.mark.parametrize(
    "mode, measure",
    [
        (RollbackOn.DIFFERENCE, Measure.RATIO),
        (RollbackOn.DIFFERENCE, Measure.QUANTILE),
        (RollbackOn.BLOCKS, Measure.RATIO),
    ],
)
def test_a_difference_that_comes_with_a_stage_is_not_outvoted_by_those_before(mode: RollbackOn, measure: Measure):
    """Long good behaviour, then a worse stage; what does not begin anew with the stage does not see it."""
    assert _late(mode, ("50", "52"), measure)
    assert not _late(mode, ("50",), measure)


def test_bets_begun_anew_wait_for_an_open_block_to_close():
    """A block that was half seen when the stage began is no fair bet of the bets that begin there."""
    block, halves = BlockContest(), RestartedBets(bets := BlockContest(), 1, DIFFERENCE)
    half, worse = BLOCK_INTERVALS // 2, Counts(6, 50, 0, 50)
    for at in range(BLOCK_INTERVALS * 3):
        if at == half:
            halves.begin()
        bets.update(worse)
        halves.settle()
        block.update(worse)
    first = float(block.log_e)
    later = BlockContest()
    for _ in range(BLOCK_INTERVALS * 2):
        later.update(worse)
    expected = math.log(DIFFERENCE * math.exp(first) + (1 - DIFFERENCE) * math.exp(float(later.log_e)))
    assert halves.log_e == pytest.approx(expected)
