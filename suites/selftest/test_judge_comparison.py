"""Candidate against baseline within the same intervals: fair bets, drift that cancels, faults that are named."""

import math
from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judge_streams import events, latencies, objective_of, plan_of, verdict_on, vouched
from scipy.stats import binom

from harness.judge import Judge
from harness.judge.bets import Counts, Excess, nearest
from harness.judge.pairing import Pairing
from harness.judge.restarts import RestartedExcess
from harness.model.evidence import Arm, Evidence, Source
from harness.model.objective import Against, Measure
from harness.model.plan import Stage
from harness.model.status import Status

pytestmark = pytest.mark.selftest

C, B = Arm.CANDIDATE, Arm.BASELINE
Rate = float | Callable[[int], float]
# 0 or at least 1e-9: the binomial probabilities of scipy overflow at the smallest numbers there are.
_SHARES = st.one_of(st.just(0.0), st.floats(1e-9, 1.0))
ONE_POINT = objective_of(Measure.RATIO, "q.error", 1, "points", against=Against.BASELINE)
STRICT = objective_of(Measure.RATIO, "q.error", 0, "points", against=Against.BASELINE)
P95 = objective_of(Measure.QUANTILE, "q.latency", 30, "%", against=Against.BASELINE, quantile=0.95)


@settings(max_examples=60)
@given(
    n_c=st.integers(0, 6), n_b=st.integers(0, 6), p_c=st.floats(0.01, 0.95), p_b=st.floats(0.01, 0.95),
    margin=st.sampled_from([0.0, 0.01, 0.1, 0.3]), q=_SHARES, inside=_SHARES,
)  # fmt: skip
def test_a_bet_is_fair_under_every_point_of_its_null(
    *, n_c: int, n_b: int, p_c: float, p_b: float, margin: float, q: float, inside: float
):
    """Exactly, by summing over all outcomes: the mean of e is at most 1 wherever the null holds."""
    above = p_c > p_b + margin
    if math.isclose(p_c, p_b + margin, abs_tol=1e-6) or p_b + margin >= 1:
        return
    theta_b = q * (1 - margin)
    edge = theta_b + margin
    theta_c = inside * edge if above else edge + inside * (1 - edge)
    mean = sum(
        math.exp(Counts(bad_c, n_c, bad_b, n_b).log_e(np.array([p_c]), np.array([p_b]), margin)[0])
        * binom.pmf(bad_c, n_c, theta_c) * binom.pmf(bad_b, n_b, theta_b)
        for bad_c, bad_b in product(range(n_c + 1), range(n_b + 1))
    )  # fmt: skip
    assert mean <= 1 + 1e-6


@given(p_c=st.floats(0.01, 0.6), p_b=st.floats(0.01, 0.6), weight=st.floats(0.01, 0.99))
def test_the_nearest_null_without_a_margin_is_the_pooled_share(p_c: float, p_b: float, weight: float):
    """The closed form of the strict comparison."""
    common, _ = nearest(np.array([p_c]), np.array([p_b]), np.array([weight]), np.zeros(1))
    assert common[0] == pytest.approx(weight * p_c + (1 - weight) * p_b)


def _errors(seconds: int, rate_c: Rate, rate_b: Rate, n: int = 20, seed: int = 1) -> Iterator[Evidence]:
    rng = np.random.default_rng(seed)
    for at in range(seconds):
        for arm, rate in ((B, rate_b), (C, rate_c)):
            share = rate(at) if callable(rate) else rate
            yield events("q.error", arm, at, n, int(rng.binomial(n, share)))


def test_errors_of_three_percent_against_a_clean_baseline_fail_and_are_counted():
    """The baseline's rate is nothing at all: no power may be lost to that."""
    judgement = verdict_on(ONE_POINT, list(_errors(60, 0.03, 0.0)))
    assert judgement.status is Status.FAIL
    assert "against baseline 0 of 1200 (0.0 %)" in judgement.reason
    assert "beyond the margin of 1 points" in judgement.reason


def test_a_clean_candidate_is_shown_to_be_within_the_margin():
    """Nothing bad on 25 seconds of 20 requests: inconclusive; on 40: shown within one point."""
    assert verdict_on(ONE_POINT, list(_errors(15, 0.0, 0.0))).status is Status.INCONCLUSIVE
    assert verdict_on(ONE_POINT, list(_errors(60, 0.0, 0.0))).status is Status.PASS


def test_an_excess_within_the_margin_is_not_rolled_back():
    """One per mille more errors, for ever: within one point."""
    judgement = verdict_on(ONE_POINT, list(_errors(400, 0.011, 0.01, n=50)))
    assert judgement.status is Status.PASS


def test_a_drift_that_both_arms_share_cancels():
    """Errors rise from 1 to 20 % while the candidate's share rises: pooled counts would convict it."""
    rng = np.random.default_rng(2)
    records = []
    for at in range(200):
        share, p = 0.1 + 0.8 * at / 200, 0.01 + 0.19 * at / 200
        for arm, n in ((B, int(100 * (1 - share))), (C, int(100 * share))):
            records.append(events("q.error", arm, at, n, int(rng.binomial(n, p))))
    judgement = verdict_on(ONE_POINT, records)
    assert judgement.status is not Status.FAIL
    assert judgement.estimate == pytest.approx(0, abs=1.0)


def test_300_good_rollouts_with_two_objectives_stay_within_alpha():
    """No margin at all, a look after every interval: at most alpha (5 %) of 300 rollouts ever fail."""
    rng = np.random.default_rng(3)
    plan = plan_of(alpha=0.05)
    failed = 0
    for _ in range(300):
        judge = Judge([STRICT, objective_of(Measure.RATIO, "q.wrong", 0, "points", against=Against.BASELINE, id="x")],
                      plan)  # fmt: skip
        for at in range(60):
            for signal, p in (("q.error", 0.02), ("q.wrong", 0.2)):
                judge.observe([events(signal, arm, at, 20, int(rng.binomial(20, p))) for arm in (B, C)])
        failed += any(j.status is Status.FAIL for j in judge.look(at=60, stage="50", final=False))
    assert failed <= 300 * 0.05


def test_one_terrible_interval_decides_nothing():
    """Every request of one second fails on the candidate, and none ever again."""
    records = list(_errors(60, lambda at: 1.0 if at == 30 else 0.0, 0.0))
    assert verdict_on(ONE_POINT, records).status is not Status.FAIL


def test_unpaired_intervals_are_not_compared():
    """The candidate alone has no concurrent control."""
    judgement = verdict_on(ONE_POINT, [events("q.error", C, at, 20, 5) for at in range(50)])
    assert judgement.status is Status.INCONCLUSIVE
    assert "both arms" in judgement.reason


def test_records_that_come_late_find_their_partner():
    """An interval with a slow request closes after younger ones; scrapes of two targets start apart."""
    pairing = Pairing()
    assert pairing.add(events("s", B, 10.0, 1)) == []
    assert pairing.add(events("s", B, 11.0, 1)) == []
    pairs = pairing.add(events("s", C, 11.4, 1)) + pairing.add(events("s", C, 10.4, 1))
    assert [(b.start_s, c.start_s) for b, c in pairs if b and c] == [(11.0, 11.4), (10.0, 10.4)]


def _latencies(
    seconds: int, factor: float, *, signal: str = "q.latency.fine", seed: int = 1, n: int = 20, warmup: int = 10
) -> Iterator[Evidence]:
    rng = np.random.default_rng(seed)
    draw = lambda: np.exp(np.log(0.019) + 0.4675 * rng.standard_normal(n))  # noqa: E731 - a distribution
    for at in range(warmup):
        yield latencies(signal, B, at, draw(), stage="warmup")
    for at in range(warmup, warmup + seconds):
        yield latencies(signal, B, at, draw())
        yield latencies(signal, C, at, draw() * factor)


def test_a_p95_sixty_percent_up_fails_and_both_values_are_told():
    """Margin 30 %."""
    judgement = verdict_on(P95, list(_latencies(90, 1.6)))
    assert judgement.status is Status.FAIL
    assert "candidate's p95" in judgement.reason
    assert "against the baseline's" in judgement.reason
    assert judgement.estimate == pytest.approx(60, abs=25)


def test_an_equal_p95_is_shown_within_the_margin():
    """The bound on the ratio is what passes, not the estimate."""
    assert verdict_on(P95, list(_latencies(5, 1.0))).status is Status.INCONCLUSIVE
    judgement = verdict_on(P95, list(_latencies(90, 1.0)))
    assert judgement.status is Status.PASS
    assert judgement.interval is not None
    assert judgement.interval[1] <= 30.5


def test_an_equal_p95_survives_a_common_slowdown():
    """Both arms become four times slower in the middle."""
    rng = np.random.default_rng(5)
    records = list(_latencies(1, 1.0))
    for at in range(20, 120):
        slow = 4.0 if at > 60 else 1.0
        records += [
            latencies("q.latency.fine", arm, at, slow * np.exp(-4 + 0.5 * rng.standard_normal(20))) for arm in (B, C)
        ]
    assert verdict_on(P95, records).status is not Status.FAIL


def test_the_finer_twin_is_judged_where_it_is_there():
    """Coarse evidence alone is used too; with both, the finer one speaks."""
    coarse = list(_latencies(90, 1.6, signal="q.latency"))
    fine = list(_latencies(90, 1.0))
    assert verdict_on(P95, coarse).status is Status.FAIL
    both = [record for pair in zip(coarse, fine, strict=True) for record in pair]
    assert verdict_on(P95, both).status is Status.PASS


def test_two_sources_of_one_objective_give_two_judgements():
    """Both are needed: what Prometheus has not seen is not proven by the client."""
    objective = objective_of(Measure.RATIO, "q.error", 1, "points", against=Against.BASELINE,
                             sources=(Source.CLIENT, Source.PROMETHEUS))  # fmt: skip
    judge = vouched(objective)
    judge.observe(list(_errors(60, 0.0, 0.0)))
    found = {j.source: j.status for j in judge.look(at=60, stage="50", final=False)}
    assert found == {"client": Status.PASS, "prometheus": Status.INCONCLUSIVE}


def test_a_plans_margin_overrides_the_objectives():
    """The same evidence: beyond one point, within ten."""
    records = list(_errors(60, 0.04, 0.0))
    assert verdict_on(ONE_POINT, records).status is Status.FAIL
    wide = verdict_on(ONE_POINT, records, plan=plan_of(margins=(("it", 10.0),)))
    assert (wide.status, wide.threshold) == (Status.PASS, 10.0)
    assert wide.requirement.endswith("(plan test: 10 points)")


def _drifting(seed: int, slower: float, drift: float) -> set[Status]:
    """Return what is said at every second at 95 %, with a margin of 30 %, while latency drifts on both arms."""
    rng = np.random.default_rng(seed)
    objective = objective_of(Measure.QUANTILE, "q.latency", 30, "%", against=Against.BASELINE, quantile=0.95)
    judge = vouched(objective)
    said, at = set(), 0
    for stage, share, seconds in (("warmup", 0.0, 20), ("10", 0.1, 20), ("50", 0.5, 80), ("100", 0.95, 60)):
        for _ in range(seconds):
            level = 0.02 * math.exp(drift * at / 180)
            n = int(rng.binomial(45, share))
            judge.observe([
                latencies("q.latency", arm, at, level * factor * np.exp(0.47 * rng.standard_normal(k)), stage=stage)
                for arm, k, factor in ((B, 45 - n, 1.0), (C, n, slower))
            ])  # fmt: skip
            at += 1
            if stage == "100":
                said.add(judge.look(at=float(at), stage=stage, final=False)[0].status)
    return said


@pytest.mark.parametrize("drift", [-0.7, -1.5, 0.7])
def test_latency_that_drifts_on_both_arms_hides_no_candidate_at_its_margin(drift: float):
    """Pooled over the ramp it would: the later seconds, quicker or slower, are mostly the candidate's own."""
    assert all(Status.PASS not in _drifting(seed, 1.3, drift) for seed in range(6))
    assert all(Status.PASS in _drifting(seed, 1.0, drift) for seed in range(3))


def _late(shares: tuple[float, ...], slower: tuple[float, ...], bad: tuple[float, ...]) -> dict[str, set[Status]]:
    """Return what is said in the last stage, second by second, of a candidate that is bad in some stages alone."""
    rng = np.random.default_rng(3)
    p95 = objective_of(Measure.QUANTILE, "q.latency", 30, "%", against=Against.BASELINE, quantile=0.95, id="p95")
    errors = objective_of(Measure.RATIO, "q.error", 2, "points", against=Against.BASELINE, id="errors")
    judge = vouched(p95, errors)
    said: dict[str, set[Status]] = {"p95": set(), "errors": set()}
    at = 0
    for stage, (share, factor, wrong) in enumerate(zip((0.0, *shares), (1.0, *slower), (0.0, *bad), strict=True)):
        for second in range(20 if stage == 0 else 60):
            n, name = int(rng.binomial(45, share)), f"s{stage}" if stage else "warmup"
            drawn = {arm: 0.02 * np.exp(0.47 * rng.standard_normal(k)) for arm, k in ((B, 45 - n), (C, n))}
            drawn[C] = drawn[C] * factor
            judge.observe([
                *(latencies("q.latency", arm, at, drawn[arm], stage=name, share=share) for arm in (B, C)),
                events("q.error", B, at, 45 - n, stage=name, share=share),
                events("q.error", C, at, n, int(rng.binomial(n, wrong)), stage=name, share=share),
            ])  # fmt: skip
            at += 1
            if stage == len(shares) and second >= 6:
                for judgement in judge.look(at=float(at), stage=name, final=False):
                    said[judgement.id].add(judgement.status)
    return said


def test_a_candidate_that_turns_bad_in_the_last_stage_is_not_passed_on_what_came_before():
    """At 95 % few of the baseline's requests are left to compare with: what they say must not be outvoted."""
    shares = (0.25, 0.5, 0.95)
    assert _late(shares, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)) == {"p95": {Status.PASS}, "errors": {Status.PASS}}
    assert Status.PASS not in _late(shares, (1.0, 1.0, 2.0), (0.0, 0.0, 0.0))["p95"]
    assert Status.PASS not in _late(shares, (1.0, 1.0, 1.0), (0.0, 0.0, 0.1))["errors"]


def test_a_candidate_that_was_bad_at_first_and_recovered_is_not_held_by_it():
    """The newest stage alone is asked: a cold start of 10 % more is within the margin over all."""
    shares = (0.25, 0.5, 0.95)
    assert Status.PASS in _late(shares, (1.1, 1.0, 1.0), (0.02, 0.0, 0.0))["p95"]


@pytest.mark.parametrize("interval_s", [1.0, 15.0, 60.0])
def test_the_last_look_judges_the_interval_that_is_still_open(interval_s: float):
    """A minute of proof, then ten seconds in which every answer of the candidate is an error, and no more."""
    good = [events("q.error", arm, float(at), 20, stage="50") for at in range(60) for arm in (B, C)]
    bad = [events("q.error", arm, float(at), 20, 20 if arm is C else 0, stage="100", share=0.95)
           for at in range(60, 70) for arm in (B, C)]  # fmt: skip
    plan = plan_of(interval_s=interval_s)
    assert verdict_on(ONE_POINT, good, final=True, plan=plan).status is Status.PASS
    assert verdict_on(ONE_POINT, good + bad, final=True, plan=plan).status is not Status.PASS


def test_a_fault_that_comes_with_the_last_stage_is_found_there_and_named():
    """A quarter of an hour of proof; then every tenth answer is an error: twenty seconds tell."""
    ramp = ((1, 25), (2, 50), (3, 75))
    plan = plan_of(stages=tuple(Stage(id=f"s{k}", share=s, min_bake_s=1, max_bake_s=9) for k, s in ramp))
    stages = (("s1", 0.25, 100, 0), ("s2", 0.5, 1000, 0), ("s3", 0.75, 20, 10))
    records, at = [], 0
    for name, share, seconds, percent in stages:
        for _ in range(seconds):
            n = round(40 * share)
            records += [events("q.error", B, at, 40 - n, stage=name, share=share),
                        events("q.error", C, at, n, n * percent // 100, stage=name, share=share)]  # fmt: skip
            at += 1
    assert verdict_on(ONE_POINT, records, plan=plan).status is Status.FAIL
    assert verdict_on(ONE_POINT, records[: 2 * 1100], plan=plan).status is Status.PASS


def test_bets_that_begin_later_are_an_e_value_with_the_first():
    """Their weights sum to 1, what has not begun is worth 1, and no more begin than were kept for."""
    bets, one = RestartedExcess(2), Excess()
    told = {"p_b": 0.01, "past_c": 0.01, "margin": 0.01}
    assert bets.log_e == pytest.approx(0)
    for bad in (0, 0, 5, 9):
        bets.update(Counts(bad, 100, 1, 100), **told)
        one.update(Counts(bad, 100, 1, 100), **told)
    assert bets.log_e == pytest.approx(math.log(0.6 * math.exp(float(one.log_e)) + 0.4))
    later = Excess()
    for _ in range(4):
        bets.begin()
    bets.update(Counts(9, 100, 1, 100), **told)
    for each in (one, later):
        each.update(Counts(9, 100, 1, 100), **told)
    values = [math.exp(float(each.log_e)) for each in (one, later)]
    assert bets.log_e == pytest.approx(math.log(0.6 * values[0] + 0.4 * values[1]))
