"""Probes, restarts, suites, Prometheus, router and load generator: whose fault it is, and what is never a pass."""

import math

import numpy as np
import pytest
from judge_streams import events, gauge, objective_of, plan_of, verdict_on, vouched

from harness.judge import Judge, overall
from harness.judge.suites import judge_suites
from harness.model.evidence import Arm, Evidence, Kind, Source, Unit
from harness.model.objective import Against, Measure, Severity
from harness.model.status import Status

pytestmark = pytest.mark.selftest

C, B = Arm.CANDIDATE, Arm.BASELINE
HEALTH = objective_of(Measure.AVAILABILITY, "health", sources=(Source.PROBE,))
RESTARTS = objective_of(Measure.AVAILABILITY, "restarts", sources=(Source.PROBE,))
COLLECTED = objective_of(Measure.COLLECTED, "metrics", sources=(Source.PROMETHEUS,))
ASSIGNED = objective_of(Measure.ASSIGNMENT, "assignment")
SUITE = objective_of(Measure.SUITE, "suite", sources=(Source.SUITE,))
ERRORS = objective_of(Measure.RATIO, "q.error", 5, "%")


def probes(rows: dict[str, str]):
    """Turn {signal@arm: "++-"} into rounds of probes, a second apart; "+" is well, "." is not asked."""
    arms = {"b": B, "c": C, "": None}
    return sorted(
        (
            events(name.partition("@")[0], arms[name.partition("@")[2]], float(at), 1, int(sign == "-"),
                   source=Source.PROBE, unit=Unit.PROBE, note="refused" if sign == "-" else "")
            for name, signs in rows.items() for at, sign in enumerate(signs) if sign != "."
        ),
        key=lambda record: record.start_s,
    )  # fmt: skip


WELL = {"health.gateway@b": "++++", "health.gateway@c": "++++", "health.redis": "++++"}


@pytest.mark.parametrize(
    "rows, final, status",
    [
        pytest.param(WELL, False, Status.PASS, id="everything is well"),
        pytest.param(WELL | {"health.gateway@c": "++--"}, False, Status.FAIL, id="the candidate is down"),
        pytest.param(WELL | {"health.gateway@c": "--++"}, False, Status.FAIL, id="the candidate was down"),
        pytest.param(WELL | {"health.gateway@c": "+++-"}, False, Status.INCONCLUSIVE, id="one bad probe"),
        pytest.param(WELL | {"health.gateway@c": "+++-"}, True, Status.INCONCLUSIVE, id="one bad probe at the end"),
        pytest.param(
            dict.fromkeys(WELL, "+" * 20) | {"health.gateway@c": "+" * 19 + "-"},
            True,
            Status.INCONCLUSIVE,
            id="nineteen good probes and one time-out at the end",
        ),
        pytest.param(WELL | {"health.gateway@c": "++--"}, True, Status.FAIL, id="two bad probes at the end"),
        pytest.param(WELL | {"health.gateway@b": "+++-"}, True, Status.INCONCLUSIVE, id="a bad twin at the end"),
        pytest.param(WELL | {"health.redis": "++--"}, True, Status.ERROR, id="a shared service down at the end"),
        pytest.param(
            {"health.gateway@c": "+++-", "health.redis": "++++"}, True, Status.ERROR, id="a bad probe and no twin"
        ),
        pytest.param(WELL | {"health.gateway@c": "+-+-+-+"}, False, Status.INCONCLUSIVE, id="never two in a row"),
        pytest.param(WELL | {"health.gateway@b": "++--"}, False, Status.ERROR, id="the baseline is down"),
        pytest.param(WELL | {"health.redis": "++--"}, False, Status.ERROR, id="a shared service is down"),
        pytest.param(WELL | {"health.redis": "--++"}, False, Status.PASS, id="a shared service came back"),
        pytest.param(
            WELL | {"health.gateway@c": "++--", "health.gateway@b": "++--"}, False, Status.ERROR, id="both arms down"
        ),
        pytest.param(
            WELL | {"health.gateway@c": "++--", "health.gateway@b": "+++-"}, False, Status.ERROR, id="the twin follows"
        ),
        pytest.param(
            WELL | {"health.gateway@c": "++--", "health.redis": "+++-"}, False, Status.ERROR, id="redis goes too"
        ),
        pytest.param({"health.gateway@c": "++--", "health.redis": "++++"}, False, Status.ERROR, id="no twin known"),
        pytest.param({"health.gateway@b": "++++"}, True, Status.ERROR, id="the candidate was never probed"),
        pytest.param({}, False, Status.INCONCLUSIVE, id="nothing probed yet"),
        pytest.param({}, True, Status.ERROR, id="nothing was ever probed"),
    ],
)
def test_availability_blames_the_right_one(rows: dict[str, str], *, final: bool, status: Status):
    """Two bad probes in a row are down; it is the release's only while its twin and all that is shared are well."""
    assert verdict_on(HEALTH, probes(rows), final=final).status is status


def test_probes_that_time_out_belong_to_the_round_that_they_began_in():
    """The candidate's take 2 s each to time out, the twin's a moment; the rounds begin 2 s apart."""
    records = [
        events("health.gateway", arm, at, 1, int(arm is C), source=Source.PROBE, unit=Unit.PROBE,
               end_s=at + (2.0 if arm is C else 0.01))
        for at in (0.0, 2.0) for arm in (B, C)
    ]  # fmt: skip
    assert verdict_on(HEALTH, records, final=True).status is Status.FAIL


def test_probes_that_stopped_are_not_a_pass():
    """The newest probe is a minute old."""
    judge = Judge([HEALTH], plan_of())
    judge.observe(probes(WELL))
    assert judge.look(at=64.0, stage="50", final=False)[0].status is Status.INCONCLUSIVE
    assert judge.look(at=64.0, stage="50", final=True)[0].status is Status.ERROR


@pytest.mark.parametrize(
    "exits, status",
    [((0, 0), Status.PASS), ((0, 1), Status.INCONCLUSIVE), ((0, 2), Status.FAIL), ((1, 2), Status.ERROR),
     ((1, 0), Status.ERROR)],
)  # fmt: skip
def test_a_crash_loop_is_two_unasked_exits_of_the_candidate_alone(exits: tuple[int, int], status: Status):
    """(baseline, candidate) exits."""
    records = [gauge("restarts", arm, 0.0, float(n), source=Source.PROBE) for arm, n in zip((B, C), exits, strict=True)]
    assert verdict_on(RESTARTS, records).status is status


def test_restarts_that_were_never_read_are_an_error_at_the_end():
    """No gauge, no pass."""
    assert verdict_on(RESTARTS, []).status is Status.INCONCLUSIVE
    assert verdict_on(RESTARTS, [], final=True).status is Status.ERROR


@pytest.mark.parametrize(
    "signs, final, status",
    [("++", False, Status.PASS), ("+-", False, Status.INCONCLUSIVE), ("+-", True, Status.INCONCLUSIVE),
     ("--", False, Status.ERROR), ("+--", True, Status.ERROR), ("--+", False, Status.PASS), ("", True, Status.ERROR)],
)  # fmt: skip
def test_missing_series_are_an_error_and_never_the_releases(signs: str, *, final: bool, status: Status):
    """Collections from Prometheus, good or bad."""
    records = [events("metrics", None, float(at), 1, int(s == "-"), source=Source.PROMETHEUS, note="series gone")
               for at, s in enumerate(signs)]  # fmt: skip
    assert verdict_on(COLLECTED, records, final=final).status is status


def collections(signs: str, pace: float = 1.0) -> list[Evidence]:
    """Return reports of Prometheus: "+" complete, "-" not, "c" the candidate's targets alone are down."""
    return [
        events("metrics", C if sign == "c" else None, at * pace, 1, int(sign == "-"), source=Source.PROMETHEUS,
               end_s=at * pace, note="" if sign == "+" else "scrape target down")
        for at, sign in enumerate(signs)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "signs, pace, scale, final, status",
    [
        pytest.param("+++c", 1.0, 15.0, False, Status.INCONCLUSIVE, id="gone once"),
        pytest.param("+++c", 1.0, 15.0, True, Status.INCONCLUSIVE, id="gone at the end"),
        pytest.param("+" + "c" * 9, 1.0, 15.0, True, Status.INCONCLUSIVE, id="nine in a row"),
        pytest.param("+" + "c" * 10, 1.0, 15.0, False, Status.FAIL, id="ten in a row"),
        pytest.param("+" + "c" * 10, 1.0, 1.0, False, Status.INCONCLUSIVE, id="ten looks within one slow scrape"),
        pytest.param("+" + "c" * 10, 15.0, 1.0, False, Status.FAIL, id="ten slow looks"),
        pytest.param("ccccc+ccccc", 1.0, 15.0, False, Status.INCONCLUSIVE, id="back in between"),
        pytest.param("ccccccccc-c", 1.0, 15.0, False, Status.INCONCLUSIVE, id="the baseline's not shown in between"),
        pytest.param("cccccccccc--", 1.0, 15.0, False, Status.ERROR, id="then all of Prometheus"),
        pytest.param("cccccccc++", 1.0, 15.0, True, Status.PASS, id="back again"),
    ],
)
def test_a_candidate_whose_metrics_alone_are_gone_never_passes_and_fails_after_ten(
    signs: str, pace: float, scale: float, *, final: bool, status: Status
):
    """Its /health may well answer: nothing else would tell."""
    judgement = verdict_on(COLLECTED, collections(signs, pace), final=final, plan=plan_of(time_scale=scale))
    assert judgement.status is status
    if status is Status.FAIL:
        assert "the candidate's metrics are gone while the baseline's answer" in judgement.reason


FROM_PROMETHEUS = objective_of(Measure.RATIO, "q.error", 5, "%", sources=(Source.PROMETHEUS,))


@pytest.mark.parametrize(
    "plan, age, status",
    [
        ({"time_scale": 15.0}, 14.0, Status.PASS),
        ({"time_scale": 15.0}, 16.0, Status.INCONCLUSIVE),
        ({"time_scale": 15.0, "look_s": 3.0}, 29.0, Status.PASS),
        ({"time_scale": 15.0, "look_s": 3.0}, 31.0, Status.INCONCLUSIVE),
        ({"look_s": 15.0}, 149.0, Status.PASS),
        ({"look_s": 15.0}, 151.0, Status.INCONCLUSIVE),
        ({"look_s": 1.0}, 45.0, Status.PASS),  # three scrapes of 15 s, looked at each second
        ({"look_s": 1.0}, 61.0, Status.INCONCLUSIVE),
    ],
)
@pytest.mark.parametrize("final", [False, True])
def test_what_prometheus_last_saw_of_the_candidate_long_ago_is_no_pass(
    plan: dict[str, float], age: float, status: Status, *, final: bool
):
    """The candidate's counters end at 10 s, the baseline's and the reports go on."""
    judge = Judge([FROM_PROMETHEUS], plan_of(**plan))
    both = [events("q.error", arm, float(at), 100, source=Source.PROMETHEUS) for at in range(10) for arm in (B, C)]
    later = [events("q.error", B, float(at), 100, source=Source.PROMETHEUS) for at in range(10, 10 + int(age))]
    judge.observe([*both, *later, *collections("+" * 10)])
    found = judge.look(at=10.0 + age, stage="50", final=final)[0]
    assert found.status is status
    assert ("saw nothing of the candidate for the last" in found.reason) is (status is Status.INCONCLUSIVE)


@pytest.mark.parametrize(
    "n, share, seconds, status",
    [
        (20, 0.5, 180, Status.INCONCLUSIVE),
        (20, 0.5, 59, Status.PASS),  # not yet old
        (10, 0.95, 110, Status.PASS),  # 58 of the baseline's requests were due
        (10, 0.95, 120, Status.INCONCLUSIVE),  # 63 were
        (20, 1.0, 180, Status.PASS),  # nothing is left that could come
    ],
)
def test_a_comparison_without_the_baseline_does_not_stay_proven(n: int, share: float, seconds: int, status: Status):
    """120 seconds of both arms prove it; then the candidate alone goes on, whatever it does."""
    within = objective_of(Measure.RATIO, "q.error", 1, "points", against=Against.BASELINE)
    both = [events("q.error", arm, float(at), 20) for at in range(120) for arm in (B, C)]
    alone = [events("q.error", C, 120.0 + at, n, 8, share=share) for at in range(seconds)]
    assert verdict_on(within, both).status is Status.PASS
    found = verdict_on(within, both + alone)
    assert found.status is status
    assert ("saw nothing of the baseline for the last" in found.reason) is (status is Status.INCONCLUSIVE)
    back = [events("q.error", B, 121.0 + seconds, 20, share=share)]
    assert verdict_on(within, both + alone + back).status is Status.PASS


@pytest.mark.parametrize("still", [(), (0, 0)], ids=["no record", "counters that stand still"])
def test_a_source_that_saw_nothing_for_long_is_no_pass_hides_no_failure_and_binds_itself_alone(still: tuple[int, ...]):
    """The client falls silent; Prometheus goes on. What failed stays failed."""
    objective = objective_of(Measure.RATIO, "q.error", 5, "%", sources=(Source.CLIENT, Source.PROMETHEUS))
    for bad, wanted in ((0, {"client": Status.INCONCLUSIVE, "prometheus": Status.PASS}),
                        (40, {"client": Status.FAIL, "prometheus": Status.FAIL})):  # fmt: skip
        judge = vouched(objective, plan=plan_of(time_scale=15.0))
        judge.observe([events("q.error", arm, 0.0, 400, bad if arm is C else 0, source=source)
                       for source in objective.sources for arm in (B, C)])  # fmt: skip
        judge.observe([events("q.error", C, 99.0, *still) for _ in still[:1]])
        judge.observe([events("q.error", C, 99.0, 400, bad, source=Source.PROMETHEUS)])
        assert {j.source: j.status for j in judge.look(at=100.0, stage="50", final=False)} == wanted


def test_memory_that_is_read_no_longer_is_no_pass():
    """Growth is held to the same bound."""
    memory = objective_of(Measure.GROWTH, "memory", 2, "MB/min", against=Against.BASELINE, sources=(Source.PROMETHEUS,))
    judge = vouched(memory, plan=plan_of(time_scale=15.0))
    judge.observe([gauge("memory", arm, float(at), 200e6 + at) for at in range(120) for arm in (B, C)])
    assert judge.look(at=120.0, stage="50", final=False)[0].status is Status.PASS
    assert judge.look(at=140.0, stage="50", final=False)[0].status is Status.INCONCLUSIVE


def test_a_single_bad_collection_at_the_end_is_no_pass_of_what_prometheus_measured():
    """Not the load's, which is reconciled only once at the end."""
    judge = Judge([FROM_PROMETHEUS], plan_of())
    judge.observe([events("q.error", arm, 0.0, 400, source=Source.PROMETHEUS) for arm in (B, C)])
    judge.observe(collections("++-"))
    assert judge.look(at=3.0, stage="50", final=True)[0].status is Status.INCONCLUSIVE


def assigned(share: float, true: float, seconds: int, seed: int = 1, **changes: object) -> list[Evidence]:
    """Return seconds of new sessions; `share` is asked, `true` is sent."""
    rng = np.random.default_rng(seed)
    return [
        Evidence(**{"kind": Kind.ASSIGNMENT, "source": Source.CLIENT, "signal": "assignment", "start_s": float(at),
                    "end_s": at + 1.0, "stage": "10", "share": share, "n": 13, "bad": int(rng.binomial(13, true)),
                    **changes})
        for at in range(seconds)
    ]  # fmt: skip


def test_a_router_that_sends_twice_the_share_is_an_error():
    """10 % asked, 20 % sent, found within a minute of 13 new sessions a second."""
    judgement = verdict_on(ASSIGNED, assigned(0.1, 0.2, 60))
    assert judgement.status is Status.ERROR
    assert "misroutes" in judgement.reason


def test_a_router_that_keeps_the_share_passes_once_a_doubled_one_would_have_been_found():
    """Ten seconds are too few."""
    assert verdict_on(ASSIGNED, assigned(0.1, 0.1, 10)).status is Status.INCONCLUSIVE
    assert verdict_on(ASSIGNED, assigned(0.1, 0.1, 60)).status is Status.PASS


def test_assignments_of_a_transition_are_not_counted():
    """Sessions seen while the limit moves belong to no share."""
    assert verdict_on(ASSIGNED, assigned(0.1, 0.9, 60, stage="")).n == 0


def test_good_routers_are_not_accused():
    """2,000 rollouts at 10, 50 and 95 %: the alarm at 1000 allows two."""
    rng = np.random.default_rng(4)
    accused = 0
    for _ in range(400):
        judge = vouched(ASSIGNED)
        at = 0.0
        for share in (0.1, 0.5, 0.95):
            n = rng.poisson(13, 15)
            for units, bad in zip(n, rng.binomial(n, share), strict=True):
                judge.observe([Evidence(kind=Kind.ASSIGNMENT, source=Source.CLIENT, signal="assignment", start_s=at,
                                        end_s=at + 1, stage="s", share=share, n=int(units), bad=int(bad))])  # fmt: skip
                at += 1
        accused += judge.look(at=at, stage="s", final=True)[0].status is Status.ERROR
    assert accused <= 2


def case(arm: Arm | None, bad: int, at: float = 0.0, n: int = 1, note: str = "the case says"):
    """Return one test case that bears the id "it"."""
    return events("suite.it", arm, at, n, bad, source=Source.SUITE, unit=Unit.CASE, stage="smoke", note=note)


CASES = {
    "both hold": ([case(C, 0), case(B, 0)], Status.PASS),
    "the stack's holds": ([case(None, 0)], Status.PASS),
    "the candidate alone": ([case(C, 1), case(B, 0)], Status.FAIL),
    "both break": ([case(C, 1), case(B, 1)], Status.ERROR),
    "the stack's breaks": ([case(None, 1)], Status.ERROR),
    "no twin": ([case(C, 1)], Status.ERROR),
    "no twin, but the stack's": ([case(C, 1), case(None, 0)], Status.ERROR),
    "the twin was skipped": ([case(C, 1), case(B, 0, n=0)], Status.ERROR),
    "not carried out on the candidate": ([case(C, 1, note="error: it: no port"), case(B, 0)], Status.ERROR),
    "not carried out on the baseline": ([case(C, 1), case(B, 1, note="error: it: no port")], Status.ERROR),
    "the candidate's was skipped": ([case(C, 0, n=0), case(B, 0)], Status.ERROR),
    "all skipped": ([case(C, 0, n=0, note="skipped: no index"), case(B, 0, n=0)], Status.NOT_APPLICABLE),
}


@pytest.mark.parametrize("what", CASES)
def test_a_suites_case_fails_the_release_only_when_the_candidate_alone_breaks_it(what: str):
    """Cases that bear one id, as an objective and as the smoke phase's own judgement: the same rule."""
    records, status = CASES[what]
    smoke = judge_suites(records)
    assert [j.id for j in smoke] == ["it"]
    for judgement in (verdict_on(SUITE, records, final=True), *smoke):
        assert judgement.status is status
        if status is Status.NOT_APPLICABLE:
            assert judgement.reason == "skipped: no index"


def test_no_case_is_never_a_pass():
    """Nothing reported: unproven, and at the end an error."""
    assert verdict_on(SUITE, [], final=False).status is Status.INCONCLUSIVE
    assert verdict_on(SUITE, [], final=True).status is Status.ERROR
    assert judge_suites([]) == ()


def test_a_suites_record_that_is_no_count_is_an_error():
    """A gauge under a suite's name."""
    record = gauge("suite.it", C, 0.0, 1.0, source=Source.SUITE)
    assert [j.status for j in judge_suites([record])] == [Status.ERROR]


@pytest.mark.parametrize("source", [Source.CLIENT, Source.PROMETHEUS])
def test_what_no_instrument_vouches_for_is_no_pass(source: Source):
    """Clean evidence, and no report: it waits, and at the end it is an error."""
    objective = objective_of(Measure.RATIO, "q.error", 5, "%", sources=(source,))
    judge = Judge([objective], plan_of())
    judge.observe([events("q.error", C, 0.0, 400, source=source)])
    assert [judge.look(at=1.0, stage="50", final=final)[0].status for final in (False, True)] == [
        Status.INCONCLUSIVE, Status.ERROR,
    ]  # fmt: skip
    assert verdict_on(objective, [events("q.error", C, 0.0, 400, source=source)]).status is Status.PASS


def load(signs: str, start: int = 0):
    """Return the load generator's reports, "-" for a bad one."""
    return [events("load", None, float(at), 1, int(s == "-"), source=Source.PROBE, note="a worker is lost")
            for at, s in enumerate(signs, start)]  # fmt: skip


@pytest.mark.parametrize("bad, sound", [(0, Status.PASS), (10, Status.FAIL)])
def test_what_a_faulty_load_generator_measured_neither_passes_nor_fails(bad: int, sound: Status):
    """Trusted; doubted after one bad report; an error after two, and at the end after one; trusted again after five."""
    records = [events("q.error", arm, float(at), 20, bad if arm is C else 0) for at in range(20) for arm in (B, C)]
    judge = Judge([ERRORS], plan_of())
    judge.observe([*records, *load("++")])

    def status(*, final: bool = False) -> Status:
        return judge.look(at=21.0, stage="50", final=final)[0].status

    assert status() is sound
    judge.observe(load("-", 2))
    assert status() is Status.INCONCLUSIVE
    assert status(final=True) is Status.ERROR
    judge.observe(load("-", 3))
    assert status() is Status.ERROR
    judge.observe(load("+", 4))
    assert status() is Status.ERROR
    judge.observe(load("++++", 5))
    assert status() is sound


def test_a_dead_prometheus_turns_its_judgements_into_errors_and_not_the_clients():
    """Two collections in a row found nothing."""
    objective = objective_of(Measure.RATIO, "q.error", 5, "%", sources=(Source.CLIENT, Source.PROMETHEUS))
    judge = vouched(objective)
    judge.observe([events("q.error", C, 0.0, 200, source=s) for s in (Source.CLIENT, Source.PROMETHEUS)])
    judge.observe([events("metrics", None, float(at), 1, 1, source=Source.PROMETHEUS, note="away") for at in (1, 2)])
    found = {j.source: j.status for j in judge.look(at=3.0, stage="50", final=False)}
    assert found == {"client": Status.PASS, "prometheus": Status.ERROR}


def test_missing_data_is_never_a_pass():
    """At the end: an error where no instrument ever reported, inconclusive where a sound one saw nothing."""
    assert Judge([ERRORS], plan_of()).look(at=1.0, stage="50", final=True)[0].status is Status.ERROR
    assert verdict_on(ERRORS, [], final=True).status is Status.INCONCLUSIVE


CORRUPT = {
    "twice": lambda: [events("q.error", C, 0.0, 500), events("q.error", C, 0.0, 500)],
    "nan time": lambda: [events("q.error", C, 0.0, 500), events("q.error", C, math.nan, 500, end_s=math.nan)],
    "inf share": lambda: [events("q.error", C, 0.0, 500), events("q.error", C, 1.0, 500, share=math.inf)],
    "wrong kind": lambda: [events("q.error", C, 0.0, 500), gauge("q.error", C, 1.0, 3.0, source=Source.CLIENT)],
}


@pytest.mark.parametrize("what", CORRUPT)
def test_corrupt_evidence_is_an_error_for_good(what: str):
    """What came before and after it passes on its own."""
    records = [*CORRUPT[what](), events("q.error", C, 7.0, 500)]
    judgement = verdict_on(ERRORS, records)
    assert judgement.status is Status.ERROR
    assert "corrupt evidence" in judgement.reason


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_a_gauge_that_is_no_number_of_bytes_is_an_error(value: float):
    """NaN, infinite or negative memory."""
    memory = objective_of(Measure.GROWTH, "memory", 2, "MB/min", against=Against.BASELINE,
                          sources=(Source.PROMETHEUS,))  # fmt: skip
    assert verdict_on(memory, [gauge("memory", C, 0.0, value)]).status is Status.ERROR


def test_the_whole_is_merged_from_guardrails_alone():
    """A warning that fails decides nothing; no guardrail at all is an error."""
    warning = objective_of(Measure.RATIO, "q.error", 5, "%", id="w", severity=Severity.WARNING)
    records = [events("q.error", C, float(at), 20, 20) for at in range(5)]
    judge = Judge([warning, HEALTH], plan_of())
    judge.observe([*records, *probes(WELL)])
    judgements = judge.look(at=5.0, stage="50", final=False)
    assert [j.status for j in judgements] == [Status.FAIL, Status.PASS]
    assert overall(judgements) is Status.PASS
    assert overall(judgements[:1]) is Status.ERROR
