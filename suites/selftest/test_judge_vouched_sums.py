"""What is left of a finding by its instrument, its age and its stage: whole words, and limits exactly."""

import math

import numpy as np
import pytest
from judge_streams import events, gauge, latencies, objective_of, plan_of

from harness.judge import Judge
from harness.judge.bets import Bets, Counts, Within
from harness.judge.newest import StageProof
from harness.judge.restarts import RestartedBets
from harness.model.evidence import Arm, Evidence, Source
from harness.model.judgement import Judgement
from harness.model.objective import Against, Measure, Objective
from harness.model.plan import Stage
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


@pytest.mark.parametrize("n, at, held", [(60, 69.0, True), (60, 68.0, False), (59, 69.0, False)])
def test_a_comparison_is_held_once_sixty_requests_of_the_baseline_were_due_for_over_sixty_seconds(
    n: int,
    at: float,
    held: bool,  # noqa: FBT001 - a case
):
    """At half the traffic each of the candidate's makes one due."""
    lone = events("q.error", C, 66.0, n)
    found = judged(report(8.0), lone, at=at, objective=POINT)
    assert found.status is (Status.INCONCLUSIVE if held else Status.PASS), found.reason
    assert (" saw nothing of the baseline for the last 61 s; before that: " in found.reason) is held


def test_between_stages_a_pass_grows_not_old():
    """A look in no judged stage."""
    judge = Judge([NUMBER], plan_of())
    judge.observe([*(events("q.error", arm, 7.0, 4000) for arm in (B, C)), report(8.0)])
    assert judge.look(at=99.0, stage="", final=False)[0].status is Status.PASS
    assert judge.look(at=99.0, stage="50", final=False)[0].status is Status.INCONCLUSIVE


def test_a_latency_does_not_pass_at_a_stage_of_which_nothing_was_seen():
    """Shown at the one before it."""
    stages = tuple(Stage(id=name, share=share, min_bake_s=1, max_bake_s=9) for name, share in (("25", 25), ("50", 50)))
    p50 = objective_of(Measure.QUANTILE, "q.latency", 300, "%", against=Against.BASELINE, quantile=0.5)
    judge = Judge([p50], plan_of(stages=stages))
    for at in range(40):
        judge.observe([latencies("q.latency", arm, at, [0.01] * 20, stage="25") for arm in (B, C)])
    judge.observe([report(40.0)])
    before = judge.look(at=41.0, stage="25", final=False)[0]
    assert before.status is Status.PASS, before.reason
    after = judge.look(at=41.0, stage="50", final=False)[0]
    assert after.status is Status.INCONCLUSIVE
    assert after.reason == f"nothing was seen of stage 50 yet; before it: {before.reason}"


def test_a_last_interval_that_cannot_be_read_is_told_at_the_end():
    """The arms' buckets differ in what waits for its interval to end."""
    p50 = objective_of(Measure.QUANTILE, "q.latency", 300, "%", against=Against.BASELINE, quantile=0.5)
    judge = Judge([p50], plan_of(interval_s=10.0))
    for at in range(3):
        judge.observe([latencies("q.latency", B, at, [0.01] * 9, np.array([0.1, 0.2]))])
        judge.observe([latencies("q.latency", C, at, [0.01] * 9, np.array([0.1, 0.3]))])
    judge.observe([report(3.0)])
    found = judge.look(at=4.0, stage="50", final=True)[0]
    assert found.status is Status.ERROR
    assert found.reason == "corrupt evidence: q.latency: the arms' bucket bounds differ"


@pytest.mark.parametrize("source, asked, signal, n", [
    (Source.PROBE, "check", "check.one.two", 400), (Source.PROBE, "check", "check", 400),
    (Source.PROBE, "check", "other.check", 0), (Source.CLIENT, "check", "check.one", 0),
    (Source.CLIENT, "check", "check", 400), (Source.PROBE, "check.one", "check.one", 400),
])  # fmt: skip
def test_a_probes_signal_counts_for_its_root_too(source: Source, asked: str, signal: str, n: int):
    """Once, whatever follows its first point; no other source's does."""
    judge = Judge([objective_of(Measure.RATIO, asked, 5, "%", sources=(source,))], plan_of())
    judge.observe([events(signal, C, 7.0, 400, source=source)])
    found = judge.look(at=9.0, stage="50", final=False)[0]
    assert found.n == n
    assert found.status is not Status.ERROR


@pytest.mark.parametrize("starts, share, held", [
    ((8.0,), 0.5, True), ((7.9,), 0.5, False), ((66.0, 20.0), 0.5, True), ((66.0,), 0.0, False),
])  # fmt: skip
def test_what_was_due_of_a_silent_baseline_is_counted_from_its_end(
    starts: tuple[float, ...],
    share: float,
    held: bool,  # noqa: FBT001 - a case
):
    """Sixty requests from its last second on, however late some came; without a share of traffic none are due."""
    lone = [events("q.error", C, start, 60, share=share) for start in starts]
    found = judged(report(8.0), *lone, at=69.0 if starts[0] > 9 else 68.5, objective=POINT)
    assert (" saw nothing of the baseline for the last 6" in found.reason) is held, found.reason
    assert found.status is (Status.INCONCLUSIVE if held else Status.PASS), found.reason


@pytest.mark.parametrize("step_s, held", [(1.0, True), (1.6, False)])
def test_of_a_silent_baselines_gauge_one_reading_is_due_for_each_of_the_candidates(
    step_s: float,
    held: bool,  # noqa: FBT001 - a case
):
    """Over a minute without the baseline's memory: 64 readings of the candidate are enough to miss it, 40 are not."""
    memory = objective_of(
        Measure.GROWTH, "memory", 20, "MB/min", against=Against.BASELINE, sources=(Source.PROMETHEUS,)
    )
    rng = np.random.default_rng(1)
    judge = Judge([memory], plan_of())
    judge.observe([gauge("memory", arm, float(at), 2e8 + 1e5 * rng.random()) for at in range(120) for arm in (B, C)])
    judge.observe(
        [gauge("memory", C, 119 + step_s * k, 2e8 + 1e5 * rng.random()) for k in range(1, round(64 / step_s) + 1)]
    )
    judge.observe([events("metrics", None, 183.0, 1, source=Source.PROMETHEUS)])
    found = judge.look(at=183.0, stage="50", final=False)[0]
    assert (" saw nothing of the baseline for the last 64 s; before that: " in found.reason) is held, found.reason
    assert found.status is (Status.INCONCLUSIVE if held else Status.PASS), found.reason


def test_a_late_record_makes_nothing_older():
    """Second 20 comes after second 66: at 85 the candidate was seen 18 s ago."""
    found = judged(report(8.0), events("q.error", C, 66.0, 1), events("q.error", C, 20.0, 1), at=85.0)
    assert found.status is Status.PASS, found.reason
