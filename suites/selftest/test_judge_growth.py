"""Memory that grows with requests: a leak is named, an allocator that fills is not."""

import numpy as np
import pytest
from judge_streams import gauge, objective_of, plan_of, verdict_on, vouched

from harness.judge import Judge
from harness.model.evidence import Arm, Evidence, Source
from harness.model.objective import Against, Measure
from harness.model.status import Status

pytestmark = pytest.mark.selftest

C, B = Arm.CANDIDATE, Arm.BASELINE
MEMORY = objective_of(Measure.GROWTH, "memory", 20, "MB/min", against=Against.BASELINE, sources=(Source.PROMETHEUS,))


def readings(
    seconds: int,
    leak_mb_min: float = 0.0,
    *,
    fills_mb: float = 0.0,
    jump_mb: float = 0.0,
    baseline_leak: float = 0.0,
    seed: int = 1,
) -> list[Evidence]:
    """Return readings of both arms a second: half the traffic each."""
    rng = np.random.default_rng(seed)
    records = []
    noise = dict.fromkeys(Arm, 0.0)
    for at in range(seconds):
        for arm, leak in ((B, baseline_leak), (C, leak_mb_min)):
            noise[arm] += 0.1 * rng.standard_normal()
            own = fills_mb * (1 - np.exp(-at / 10)) + (jump_mb if at > seconds / 2 else 0.0) if arm is C else 0.0
            value = 200e6 + 1e6 * (leak * 0.5 * at / 60 + own + noise[arm])
            records.append(gauge("memory", arm, float(at), value))
    return records


def test_a_leak_of_60_mb_a_minute_at_full_traffic_fails():
    """At half the traffic it grows by 30; the slope is told at full traffic."""
    judgement = verdict_on(MEMORY, readings(70, 60.0))
    assert judgement.status is Status.FAIL
    assert judgement.estimate == pytest.approx(60, abs=10)


def test_a_steady_candidate_is_shown_to_be_steady():
    """The upper bound lies within the limit."""
    assert verdict_on(MEMORY, readings(70)).status is Status.PASS


def test_a_leak_within_the_limit_passes():
    """5 of 20 MB a minute."""
    assert verdict_on(MEMORY, readings(90, 5.0)).status is Status.PASS


def test_an_allocator_that_fills_at_first_is_not_a_leak():
    """12 MB within the first half minute, then nothing."""
    assert verdict_on(MEMORY, readings(120, fills_mb=12.0)).status is not Status.FAIL


def test_a_single_jump_is_not_a_leak():
    """A cache of 40 MB is loaded once."""
    assert verdict_on(MEMORY, readings(80, jump_mb=40.0)).status is not Status.FAIL


def test_growth_that_the_baseline_shares_is_not_the_candidates():
    """Both grow by 60 MB a minute."""
    assert verdict_on(MEMORY, readings(90, 60.0, baseline_leak=60.0)).status is Status.PASS


def test_too_few_readings_are_inconclusive():
    """Ten seconds."""
    assert verdict_on(MEMORY, readings(10, 60.0)).status is Status.INCONCLUSIVE


def test_a_day_of_readings_is_kept_in_few_blocks():
    """State is bounded: neighbours are joined."""
    judge = vouched(MEMORY)
    judge.observe(readings(4000))
    seat = judge._seats[0]  # noqa: SLF001 - the bound is what is tested
    assert len(seat.trial._blocks) <= 64  # noqa: SLF001
    assert judge.look(at=4000.0, stage="50", final=True)[0].status is Status.PASS


def test_another_unit_is_refused():
    """Growth is in MB/min."""
    with pytest.raises(ValueError, match="MB/min"):
        Judge([objective_of(Measure.GROWTH, "memory", 2, "MB/h")], plan_of())
