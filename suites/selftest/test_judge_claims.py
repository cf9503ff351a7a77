"""What a run may claim by its way of gating, what an A/A run found, and how shares and missing data are written."""

import itertools

import numpy as np
import pytest
from judge_streams import COARSE, events, latencies, objective_of, plan_of

from harness.judge.calibrate import Calibrator
from harness.judge.finding import Finding, Look, Terms, missing, of, percent
from harness.judge.gating import Gating, gating
from harness.judge.latency import FinestLatencyTrial
from harness.judge.ratio import RatioTrial
from harness.model.calibration import Calibration, Dispersion
from harness.model.evidence import Arm, Evidence, Source
from harness.model.objective import Against, Measure, Objective
from harness.model.plan import RollbackOn
from harness.model.status import Status

pytestmark = pytest.mark.selftest

C, B = Arm.CANDIDATE, Arm.BASELINE
KNOWN = Dispersion(objective="it", source="client", contest=0.4, level=0.3, intervals=960, informative=960)
MADE = Calibration(
    system="it", plan="quick", made_at="2026-01-02T03:04:05Z", interval_s=1.5, load_rate=45.0, intervals=961,
    windows=24, false_alarms=1, dispersions=(KNOWN,),
)  # fmt: skip
_TEMPERED = (
    "calibrated: evidence is tempered for noise that belongs to one arm, by the A/A run of 2026-01-02T03:04:05Z "
    "(961 intervals of 1.5 s; 1 false alarms in 24 windows)"
)
_EXCESS = "rolls back what is worse than its baseline by more than a margin; less may pass unseen"
_DIFFERENCE = "rolls back what is worse than its baseline at all; promotes what is within every margin"
_BLOCKS = (
    "rolls back what is worse than its baseline at all, in blocks of 20 intervals while at most half the traffic is "
    "the candidate's; promotes what is within every margin"
)
_ABSOLUTE = "rolls back by objectives against numbers alone; the baseline is compared for promotion only"
_MARGINS = "noise that belongs to one arm is covered only as far as it stays within the margins"
_SLOW = "blocks of intervals stand in for it, which is right but slow"


@pytest.mark.parametrize(
    "asked, made, used, claims",
    [
        (RollbackOn.EXCESS, MADE, RollbackOn.EXCESS, (_EXCESS, _TEMPERED)),
        (RollbackOn.EXCESS, None, RollbackOn.EXCESS, (_EXCESS, f"not calibrated (it is new): {_MARGINS}")),
        (RollbackOn.DIFFERENCE, MADE, RollbackOn.DIFFERENCE, (_DIFFERENCE, _TEMPERED)),
        (RollbackOn.DIFFERENCE, None, RollbackOn.BLOCKS, (_BLOCKS, f"not calibrated (it is new): {_SLOW}")),
        (
            RollbackOn.BLOCKS,
            MADE,
            RollbackOn.BLOCKS,
            (_BLOCKS, f"not calibrated (the plan judges by blocks): {_SLOW}"),
        ),
        (RollbackOn.BLOCKS, None, RollbackOn.BLOCKS, (_BLOCKS, f"not calibrated (it is new): {_SLOW}")),
        (RollbackOn.ABSOLUTE, MADE, RollbackOn.ABSOLUTE, (_ABSOLUTE, _TEMPERED)),
        (
            RollbackOn.ABSOLUTE,
            None,
            RollbackOn.ABSOLUTE,
            (_ABSOLUTE, "not calibrated (it is new): no rollback rests on a comparison"),
        ),
    ],
)
def test_a_run_claims_what_its_way_of_gating_is_worth(
    asked: RollbackOn, made: Calibration | None, used: RollbackOn, claims: tuple[str, str]
):
    """Every way to roll back, with and without a calibration, in full; blocks use none."""
    how = gating(plan_of(rollback_on=asked), made, "it is new")
    assert (how.mode, how.claims) == (used, claims)
    assert how.calibration is (None if used is RollbackOn.BLOCKS else made)


def test_no_calibration_and_no_word_why_is_told_as_none_given():
    """An empty reason is not shown as one."""
    how = gating(plan_of(rollback_on=RollbackOn.EXCESS), None, "")
    assert how.claims[1] == f"not calibrated (no calibration was given): {_MARGINS}"


@pytest.mark.parametrize("mode, by_blocks", [(RollbackOn.DIFFERENCE, True), (RollbackOn.EXCESS, False)])
def test_what_the_calibration_knows_nothing_of_is_named(mode: RollbackOn, *, by_blocks: bool):
    """The unmeasured, and who judges them; the unseen; both, in this order."""
    tail = ", which blocks of intervals judge" if by_blocks else ""
    unmeasured, unseen = ("one (client)", "two (client)"), ("three (client)", "four (client)")
    blank = f"; of one (client), two (client) it knows nothing{tail}"
    quiet = "; of three (client), four (client) it saw nothing bad: their noise counts as none"
    for names, says in (
        (((), ()), ""),
        ((unmeasured, ()), blank),
        (((), unseen), quiet),
        ((unmeasured, unseen), blank + quiet),
    ):
        how = Gating(mode=mode, calibration=MADE, why="", unmeasured=names[0], unseen=names[1])
        assert how.claims[1] == _TEMPERED + says


@pytest.mark.parametrize("mode", RollbackOn)
@pytest.mark.parametrize(
    "made, name, source, known",
    [
        (MADE, "it", "client", True),
        (MADE, "it", "prometheus", False),
        (MADE, "other", "client", False),
        (None, "it", "client", False),
    ],
)
def test_a_comparison_of_unknown_noise_is_gated_by_blocks_where_any_difference_counts(
    mode: RollbackOn, made: Calibration | None, name: str, source: str, *, known: bool
):
    """Noise is known of one objective from one source; another way to roll back stays as it is."""
    how = Gating(mode=mode, calibration=made, why="it is new", unmeasured=("x",))
    assert how.dispersion(name, source) == (KNOWN if known else None)
    blocks = Gating(mode=RollbackOn.BLOCKS, calibration=None, why="it is new", unmeasured=("x",))
    assert how.of(name, source) == (blocks if mode is RollbackOn.DIFFERENCE and not known else how)


@pytest.mark.parametrize(
    "share, says",
    [(0.0, "0.0 %"), (0.00004, "0.00 %"), (0.00994, "0.99 %"), (0.01, "1.0 %"), (0.0123, "1.2 %"), (0.034, "3.4 %"),
     (1.0, "100.0 %")],
)  # fmt: skip
def test_a_share_is_written_in_percent(share: float, says: str):
    """One digit from 1 % on and for none, two below."""
    assert percent(share) == says


@pytest.mark.parametrize(
    "bad, n, says", [(14, 410, "14 of 410 (3.4 %)"), (0.0, 2.0, "0 of 2 (0.0 %)"), (0, 0, "0 of 0")]
)
def test_counts_are_written_with_their_share(bad: float, n: float, says: str):
    """Nothing of nothing has no share."""
    assert of(bad, n) == says


@pytest.mark.parametrize(
    "final, fatal, status",
    [(True, True, Status.ERROR), (True, False, Status.INCONCLUSIVE), (False, True, Status.INCONCLUSIVE)],
)
def test_missing_data_are_an_error_at_the_end_where_they_are_fatal(status: Status, *, final: bool, fatal: bool):
    """Told as no evidence, without any number."""
    found = missing(Look(at=1.0, stage="50", final=final), "nobody came", fatal=fatal)
    assert found == Finding(status=status, reason="no evidence: nobody came")


@pytest.mark.parametrize(
    "stages, judged", [((), {"10", "50"}), (("50",), {"50"}), (("10", "50"), {"10", "50"}), (("smoke",), set())]
)
def test_records_of_the_objectives_stages_are_judged(stages: tuple[str, ...], judged: set[str]):
    """Never a transition, the warm-up or the smoke phase, whatever the objective names."""
    objective = objective_of(Measure.RATIO, "q.error", 5, "%", stages=stages)
    terms = terms_of(objective, Source.CLIENT)
    records = [events("q.error", C, 0.0, 1, stage=stage) for stage in ("", "warmup", "smoke", "10", "50")]
    assert {record.stage for record in records if terms.judges(record)} == judged
    assert all(terms.judges(record) in {True, False} for record in records)


def terms_of(objective: Objective, source: Source) -> Terms:
    """Return an objective's terms in an A/A run."""
    how = Gating(mode=RollbackOn.ABSOLUTE, calibration=None, why="it is being calibrated")
    return Terms(
        objective=objective, plan=plan_of(), source=source, threshold=objective.threshold, alpha=0.01, gating=how,
        measures_noise=True,
    )  # fmt: skip


def aa(seed: int) -> list[Evidence]:
    """Return 36 s of equal arms with noise of their own: errors, latencies in both kinds of buckets, and others'."""
    rng = np.random.default_rng(seed)
    records: list[Evidence] = []
    for at, arm in itertools.product(range(36), (B, C)):
        stage = "warmup" if at < 6 else "aa"
        for signal, source, rate in (
            ("q.error", Source.CLIENT, 0.05),
            ("q.error", Source.PROMETHEUS, 0.1),
            ("q.error.fine", Source.CLIENT, 0.3),
            ("q.error", Source.PROBE, 0.3),
        ):
            bad = int(rng.binomial(40, min(1.0, rate * rng.lognormal(0, 0.5)))) if at % 3 else 0
            records.append(events(signal, arm, float(at), 40, bad, source=source, stage=stage))
        slow = 0.1 * rng.lognormal(0.3 * rng.standard_normal(), 0.4, 60)
        for signal, source, bounds in (
            ("q.latency", Source.CLIENT, COARSE),
            ("q.latency.fine", Source.CLIENT, None),
            ("q.latency", Source.PROMETHEUS, COARSE),
        ):
            own = {} if bounds is None else {"bounds": bounds}
            records.append(latencies(signal, arm, float(at), slow, source=source, stage=stage, **own))
    return records


def test_the_calibrator_finds_what_the_trials_that_judge_find():
    """Each comparison from each of its sources, from its own records alone; latencies in the finer buckets."""
    ratio = objective_of(Measure.RATIO, "q.error", 5, "points", id="errors", against=Against.BASELINE,
                         sources=(Source.CLIENT, Source.PROMETHEUS))  # fmt: skip
    slow = objective_of(Measure.QUANTILE, "q.latency", 50, "%", id="slow", against=Against.BASELINE, quantile=0.9)
    number = objective_of(Measure.RATIO, "q.error", 5, "%", id="number")
    records = aa(15)
    calibrator = Calibrator([number, ratio, slow], plan_of())
    calibrator.observe(records)
    calibrator.gap()
    expected: list[Dispersion] = []
    for objective, source, signals in (
        (ratio, Source.CLIENT, {"q.error"}),
        (ratio, Source.PROMETHEUS, {"q.error"}),
        (slow, Source.CLIENT, {"q.latency", "q.latency.fine"}),
    ):
        trial = (RatioTrial if objective is ratio else FinestLatencyTrial)(terms_of(objective, source))
        for record in records:
            if record.source is source and record.signal in signals:
                trial.observe(record)
        trial.flush()
        noise = (trial.judged if isinstance(trial, FinestLatencyTrial) else trial).noise
        contest, level = float(noise.contest.value), float(noise.level.value)
        informative = noise.level.informative
        expected.append(
            Dispersion(objective=objective.id, source=source.value, contest=contest, level=level, intervals=30,
                       informative=informative)
        )  # fmt: skip
    found = calibrator.dispersions()
    assert list(found) == expected
    assert all(one.level > 0 and 0 < one.informative <= 30 for one in found)
    assert {one.source for one in found} == {"client", "prometheus"}
    assert found[0].informative < 30
    assert found[2].contest > 0
    assert calibrator.intervals == 30


def test_the_calibrator_has_seen_as_many_intervals_as_the_comparison_that_saw_fewest():
    """Nothing without a comparison; latencies that never came are none."""
    ratio = objective_of(Measure.RATIO, "q.error", 5, "points", id="errors", against=Against.BASELINE)
    slow = objective_of(Measure.QUANTILE, "q.latency", 50, "%", id="slow", against=Against.BASELINE, quantile=0.9)
    for objectives, intervals in (((), 0), ((ratio,), 20), ((ratio, slow), 0)):
        calibrator = Calibrator(objectives, plan_of())
        calibrator.observe([events("q.error", arm, float(at), 40, 1) for at in range(20) for arm in (B, C)])
        calibrator.gap()
        assert calibrator.intervals == intervals
