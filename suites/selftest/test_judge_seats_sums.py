"""Who may fail at which part of alpha, and what the latecomers among the gamblers on a score own: by hand, exactly."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from judge_streams import events, gauge, latencies, objective_of, plan_of, verdict_on, vouched

from harness.judge import Judge
from harness.judge.binomial import log_evidence_above
from harness.judge.scores import DifferenceBets, MeanBets, Scores
from harness.model.calibration import Calibration, Dispersion
from harness.model.evidence import Arm, Source
from harness.model.judgement import Judgement
from harness.model.objective import Against, Measure, Objective, Severity
from harness.model.status import Status

pytestmark = pytest.mark.selftest

C = Arm.CANDIDATE
IT = objective_of(Measure.RATIO, "q.error", 5, "%")
OTHER = replace(IT, id="other", signal="q.wrong")
SHOWN = replace(OTHER, severity=Severity.INFO)
PROBED = objective_of(Measure.AVAILABILITY, "health.x", id="other", sources=(Source.PROBE,))
TWO = (Source.CLIENT, Source.PROMETHEUS)
EVIDENCE = log_evidence_above(40, 200, 0.05)


def judged(objectives: Sequence[Objective], alpha: float, **changes: object) -> dict[tuple[str, str], Judgement]:
    """Judge 40 errors in 200 requests, from every source."""
    judge = vouched(*objectives, plan=plan_of(alpha=alpha, **changes))
    judge.observe([events("q.error", C, 7.0, 200, 40, source=source) for source in TWO])
    return {(found.id, found.source): found for found in judge.look(at=9.0, stage="50", final=False)}


def weighing(weight: float, objective: Objective = IT, **changes: object) -> Objective:
    """Return the objective with a weight."""
    return replace(objective, weight=weight, **changes)


@pytest.mark.parametrize("objectives, changes, part", [
    ([IT], {}, 1), ([weighing(0.3)], {}, 1), ([weighing(30.0)], {}, 1),
    ([IT, OTHER], {}, 1 / 2), ([IT, weighing(3, OTHER)], {}, 1 / 4), ([weighing(3), OTHER], {}, 3 / 4),
    ([weighing(0.3), weighing(0.9, OTHER)], {}, 1 / 4), ([weighing(20), weighing(60, OTHER)], {}, 1 / 4),
    ([weighing(1e308), weighing(1e308, OTHER)], {}, 1 / 2),
    ([replace(IT, sources=TWO)], {}, 1 / 2), ([replace(IT, sources=TWO), weighing(4, OTHER)], {}, 1 / 10),
    ([IT, replace(OTHER, sources=TWO)], {}, 1 / 2),
    # who only informs, or never fails by chance, takes no part
    ([IT, weighing(3, SHOWN)], {}, 1), ([IT, weighing(3, PROBED)], {}, 1),
    ([IT, weighing(3, OTHER)], {"informational": ("other",)}, 1),
    # the plan's weights
    ([IT, OTHER], {"weights": (("other", 3.0),)}, 1 / 4), ([weighing(9), OTHER], {"weights": (("it", 3.0),)}, 3 / 4),
    # who informs alone is held to the part that its weight would bring, never to more than the whole
    ([weighing(1, severity=Severity.INFO), weighing(4, OTHER)], {}, 1 / 4),
    ([weighing(8, severity=Severity.INFO), weighing(4, OTHER)], {}, 1),
    ([weighing(8, severity=Severity.WARNING), weighing(4, OTHER)], {}, 1),
    ([weighing(1), weighing(4, OTHER)], {"informational": ("it",)}, 1 / 4),
    ([weighing(0.1, severity=Severity.INFO)], {}, 1), ([weighing(7, severity=Severity.INFO), SHOWN], {}, 1),
])  # fmt: skip
def test_each_fails_at_its_part_of_alpha(objectives: list[Objective], changes: dict[str, object], part: float):
    """A billionth above it; a billionth below it does not."""
    least = math.exp(-EVIDENCE) / part
    assert least < 1e-9
    for hair, status in ((1e-9, Status.FAIL), (-1e-9, Status.INCONCLUSIVE)):
        found = judged(objectives, least * (1 + hair), **changes)
        for source in objectives[0].sources:
            assert found["it", source.value].status is status, found["it", source.value].reason


def test_the_plan_says_what_only_informs():
    """Both are told, one as information."""
    found = judged([IT, OTHER], 0.01, informational=("other",))
    assert {one: judgement.severity for (one, _), judgement in found.items()} == {"it": "critical", "other": "info"}


def test_a_weight_next_to_nothing_leaves_a_part_to_fail_at():
    """Its part would be 0, of which no evidence could be enough."""
    judge = vouched(weighing(1e-320), weighing(1e300, OTHER))
    judge.observe([events("q.error", C, 7.0, 4000, 4000)])
    assert judge.look(at=9.0, stage="50", final=False)[0].status is Status.FAIL


@pytest.mark.parametrize("weight", [0.0, -1.0])
@pytest.mark.parametrize("by_plan", [False, True])
@pytest.mark.parametrize("others", [(), (OTHER,)])
def test_a_weight_that_is_none_is_refused(
    weight: float,
    by_plan: bool,  # noqa: FBT001 - a case
    others: tuple[Objective, ...],
):
    """The objective's own, or the plan's for it; alone, or beside others."""
    objectives = [IT if by_plan else weighing(weight), *others]
    plan = plan_of(weights=(("it", weight),) if by_plan else ())
    with pytest.raises(ValueError, match=rf"^objective it: its weight must be positive, found {weight}$"):
        Judge(objectives, plan)


@pytest.mark.parametrize("given, why", [
    ({}, "no calibration was given"), ({"uncalibrated": ""}, "no calibration was given"),
    ({"uncalibrated": "it is 40 days old"}, "it is 40 days old"),
])  # fmt: skip
def test_a_run_says_why_it_is_not_calibrated(given: dict[str, str], why: str):
    """What it was told, or that nothing was."""
    noise = Judge([IT], plan_of(), **given).claims[1]
    covered = "noise that belongs to one arm is covered only as far as it stays within the margins"
    assert noise == f"not calibrated ({why}): {covered}"


def compared(name: str, *sources: Source, **changes: object) -> Objective:
    """Return a ratio held to the baseline."""
    return replace(IT, id=name, unit="points", against=Against.BASELINE, sources=sources, **changes)


def test_a_calibrated_run_names_each_comparison_of_which_its_calibration_knows_nothing_or_saw_nothing_bad():
    """By objective and source; what is held to a number, or has no noise of its arms to know, is not named."""
    seen = [
        Dispersion(objective=name, source=source, contest=1.0, level=1.0, intervals=960, informative=informative)
        for name, source, informative in (("a", "client", 9), ("b", "client", 0), ("c", "prometheus", 0))
    ]
    calibration = Calibration(
        system="it", plan="quick", made_at="2026-01-02T03:04:05Z", interval_s=1.0, load_rate=40.0, intervals=960,
        windows=8, false_alarms=0, dispersions=tuple(seen),
    )  # fmt: skip
    score = replace(compared("f", Source.CLIENT), measure=Measure.SCORE, comparator=">=")
    objectives = [compared("a", *TWO), compared("b", Source.CLIENT), compared("c", *TWO), IT, score]
    noise = Judge(objectives, plan_of(), calibration).claims[1]
    assert noise.endswith(
        "; of a (prometheus), c (client) it knows nothing; of b (client), c (prometheus) it saw nothing bad: "
        "their noise counts as none"
    )
    assert noise.count("; of ") == 2
    known = Judge([compared("a", Source.CLIENT), IT, score], plan_of(), calibration).claims[1]
    assert known.endswith(" false alarms in 8 windows)")


@pytest.mark.parametrize("signal", ["restarts", "restarts.gateway"])
def test_exits_are_counted_by_any_signal_whose_root_is_restarts(signal: str):
    """Two of the candidate alone are a crash loop."""
    exits = objective_of(Measure.AVAILABILITY, signal, sources=(Source.PROBE,))
    records = [gauge(signal, arm, 7.0, value, source=Source.PROBE) for arm, value in ((C, 2.0), (Arm.BASELINE, 0.0))]
    found = verdict_on(exits, records)
    assert found.status is Status.FAIL
    assert found.reason.startswith("the candidate's processes ended 2 times unasked, all others 0 times")


def test_only_a_quantile_against_the_baseline_reads_the_finer_twin():
    """The other one counts its own requests alone."""
    records = [latencies(signal, C, 7.0, [0.01] * 30, np.array([0.1, 0.2])) for signal in ("q.time", "q.time.fine")]
    p50 = objective_of(Measure.QUANTILE, "q.time", 100, "ms", quantile=0.5)
    assert verdict_on(p50, records).n == 30
    assert verdict_on(p50, records[1:]).n == 0
    twins = [replace(record, arm=arm) for record in records[1:] for arm in (C, Arm.BASELINE)]
    beside = objective_of(Measure.QUANTILE, "q.time", 100, "%", quantile=0.5, against=Against.BASELINE)
    assert verdict_on(beside, twins, final=True).n == 60


ALPHA, BOLD = 0.01, 200


def scores(values: np.ndarray) -> Scores:
    """Return scores known exactly, once each."""
    return Scores(values, values, np.ones(len(values)))


class Past:
    """The mean and the variance of what was seen, begun with one score of 1/2 whose square is 1/4."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        self.squares = 0.25

    @property
    def mean(self) -> float:
        return (0.5 + sum(self.seen)) / (len(self.seen) + 1)

    @property
    def variance(self) -> float:
        return self.squares / (len(self.seen) + 1)

    def take(self, values: np.ndarray) -> None:
        self.seen += values.tolist()
        self.squares += float(np.square(values - self.mean).sum())


def staked(n: float, variance: float, most: float) -> float:
    """Return the stake of who bets on the `n`-th score."""
    return min(math.sqrt(2 * math.log(2 / ALPHA) / (n * math.log1p(n) * variance)), most)


def owned(gains: Sequence[tuple[float, float]]) -> float:
    """Return what all own: 0.8 of who began at once, and 0.2 / k in hand of those who wait after k intervals."""
    first, begun = 0.8, []
    for number, (steady, bold) in enumerate(gains):
        begun += [0.2 / number - 0.2 / (number + 1)] if number else []
        first, begun = first * math.exp(steady), [one * math.exp(bold) for one in begun]
    return math.log(first + sum(begun) + 0.2 / len(gains))


def intervals(*, arms: int) -> list[list[np.ndarray]]:
    """Return six intervals of each arm's scores, of twenty to sixty; the first arm's fall late."""
    rng = np.random.default_rng(5)
    sizes = (40, 20, 60, 60, 40, 60)
    return [
        [np.clip(rng.normal(0.4 if arm == 0 and at > 2 else 0.7, 0.15, size + 7 * arm), 0, 1) for arm in range(arms)]
        for at, size in enumerate(sizes)
    ]


def test_latecomers_bet_on_low_scores_as_for_two_hundred_of_them():
    """Their stake is reckoned with the scores up to the interval's last, at most the two-hundredth."""
    point, bets, past, gains = 0.6, MeanBets(alpha=ALPHA, points=np.array([0.6])), Past(), []
    for (values,) in intervals(arms=1):
        n, most = len(past.seen) + len(values), 0.5 / (1 - point)
        stakes = (staked(counted, past.variance, most) for counted in (n, min(n, BOLD)))
        steady, bold = (float(np.log1p(-stake * (values - point)).sum()) for stake in stakes)
        gains.append((steady, bold))
        past.take(values)
        bets.update(scores(values))
        assert float(bets.capital.late[0]) == pytest.approx(owned(gains), rel=1e-9)
    assert n > BOLD
    assert owned(gains) > float(bets.capital.below[0])


def test_latecomers_bet_on_a_lower_candidate_as_for_two_hundred_pairs():
    """Pairs are the arms' product over their sum, up to the interval's last."""
    point, bets, gains = -0.05, DifferenceBets(alpha=ALPHA, points=np.array([-0.05])), []
    past_c, past_b, pairs = Past(), Past(), 0.0
    for candidate, baseline in [one for one in intervals(arms=2) for _ in range(2)]:
        n_c, n_b = len(candidate), len(baseline)
        pairs += n_c * n_b / (n_c + n_b)
        variance, most = (past_c.variance + past_b.variance) / 2, 0.5 * (n_c + n_b) / max(n_c, n_b)
        mean = max(past_b.mean, -point)
        steady, bold = (
            float(np.log1p(-stake * n_b / (n_c + n_b) * (candidate - mean - point)).sum())
            + float(np.log1p(stake * n_c / (n_c + n_b) * (baseline - mean)).sum())
            for stake in (staked(counted, variance, most) for counted in (pairs, min(pairs, BOLD)))
        )
        gains.append((steady, bold))
        past_c.take(candidate)
        past_b.take(baseline)
        bets.update(scores(candidate), scores(baseline))
        assert float(bets.capital.late[0]) == pytest.approx(owned(gains), rel=1e-9)
    assert pairs > BOLD
