"""The numbers that researchflow ships, held to what is required: just under passes, just over does not."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from judge_streams import vouched

from harness import spec
from harness.model.evidence import Arm, Evidence, Kind, Source, Unit
from harness.model.objective import Measure
from harness.model.status import Status

pytestmark = pytest.mark.selftest

SYSTEM = spec.load_system(spec.find_system("researchflow"))
PLAN = next(plan for plan in SYSTEM.plans if plan.name == "quick")
BOTH = (Source.CLIENT, Source.PROMETHEUS)
_SECONDS, _PER_SECOND = 100, 100


def second(source: Source, signal: str, arm: Arm, at: int) -> Evidence:
    """One second of one arm at half the traffic, in which 100 requests were counted and none was bad."""
    return Evidence(
        kind=Kind.EVENTS,
        source=source,
        signal=signal,
        arm=arm,
        start_s=at,
        end_s=at + 1,
        stage="50",
        share=0.5,
        n=_PER_SECOND,
    )


def errors(source: Source, arm: Arm, at: int, percent: float) -> Evidence:
    """One second of one arm in which `percent` of 100 requests fail."""
    return replace(second(source, "query.error", arm, at), bad=round(_PER_SECOND * percent / 100))


def latencies(source: Source, arm: Arm, at: int, slow_percent: float, beyond_s: float) -> Evidence:
    """One second of one arm in which `slow_percent` of 100 answers take longer than `beyond_s`."""
    slow = round(_PER_SECOND * slow_percent / 100)
    bounds = SYSTEM.traffic.bounds_s
    counts = [0] * (len(bounds) + 1)
    counts[0] = _PER_SECOND - slow
    counts[bounds.index(beyond_s) + 1] = slow
    blank = second(source, "query.latency", arm, at)
    return replace(blank, kind=Kind.HISTOGRAM, bounds=bounds, counts=tuple(counts))


def judged(records: Sequence[Evidence], id_: str) -> dict[str, Status]:
    """Judge `records` by the shipped objectives; return the statuses of one id by source."""
    judge = vouched(*SYSTEM.objectives, plan=PLAN)
    judge.observe(records)
    newest = max((record.end_s for record in records), default=0.0)
    found = judge.look(at=newest, stage="50", final=False)
    return {j.source: j.status for j in found if j.id == id_}


def both_arms(make: object, candidate: tuple[float, ...], baseline: tuple[float, ...]) -> list[Evidence]:
    """Return every second of both arms and sources, made by `make(source, arm, at, *numbers)`."""
    assert callable(make)
    arms = {Arm.CANDIDATE: candidate, Arm.BASELINE: baseline}
    return [make(s, arm, at, *numbers) for at in range(_SECONDS) for s in BOTH for arm, numbers in arms.items()]


@pytest.mark.covers("rf.rollout.error_rate", level="simulated")
def test_the_error_rate_may_be_five_percent_and_no_more() -> None:
    """4 % is shown to hold, 6 % to fail, by the client and by Prometheus alike."""
    assert judged(both_arms(errors, (4.0,), (0.0,)), "rf.rollout.error_rate") == dict.fromkeys(BOTH, Status.PASS)
    assert judged(both_arms(errors, (7.0,), (0.0,)), "rf.rollout.error_rate") == dict.fromkeys(BOTH, Status.FAIL)


@pytest.mark.parametrize(
    "id_, limit_s, under, over",
    [
        pytest.param(
            "rf.rollout.latency_p95",
            5.0,
            4.0,
            7.0,
            marks=pytest.mark.covers("rf.rollout.latency_p95", level="simulated"),
        ),
        pytest.param(
            "rf.rollout.latency_p99",
            8.0,
            0.0,
            3.0,
            marks=pytest.mark.covers("rf.rollout.latency_p99", level="simulated"),
        ),
    ],
)
def test_a_latency_quantile_may_reach_its_limit_and_no_more(
    id_: str, limit_s: float, under: float, over: float
) -> None:
    """Fewer answers beyond the limit than the quantile allows pass, more fail; beyond a lower bound all may be."""
    within = both_arms(latencies, (under, limit_s), (0.0, limit_s))
    beyond = both_arms(latencies, (over, limit_s), (0.0, limit_s))
    assert judged(within, id_) == dict.fromkeys(BOTH, Status.PASS)
    assert judged(beyond, id_) == dict.fromkeys(BOTH, Status.FAIL)
    bounds = SYSTEM.traffic.bounds_s
    just_under = bounds[bounds.index(limit_s) - 2]
    assert judged(both_arms(latencies, (100.0, just_under), (100.0, just_under)), id_) == dict.fromkeys(
        BOTH, Status.PASS
    )


def probe(signal: str, arm: Arm | None, at: int, bad: int, source: Source = Source.PROBE) -> Evidence:
    """One probe."""
    return Evidence(
        kind=Kind.EVENTS,
        source=source,
        signal=signal,
        arm=arm,
        start_s=at,
        end_s=at,
        unit=Unit.PROBE,
        n=1,
        bad=bad,
        note="no answer" if bad else "",
    )


PROBED = [
    pytest.param(
        "rf.rollout.availability", "health", marks=pytest.mark.covers("rf.rollout.availability", level="simulated")
    ),
    pytest.param(
        "rf.rollout.service_health", "check", marks=pytest.mark.covers("rf.rollout.service_health", level="simulated")
    ),
]


@pytest.mark.parametrize("id_, prefix", PROBED)
def test_every_service_must_answer_and_be_sound(id_: str, prefix: str) -> None:
    """All well: pass. The candidate's own down: fail. A shared one down: error. Never probed: no pass."""
    own = [probe(f"{prefix}.gateway", arm, at, 0) for at in range(3) for arm in Arm]
    shared = [probe(f"{prefix}.redis", None, at, 0) for at in range(3)]
    assert judged([*own, *shared], id_) == {"probe": Status.PASS}
    dead = [probe(f"{prefix}.gateway", arm, at, int(arm is Arm.CANDIDATE)) for at in range(3, 6) for arm in Arm]
    assert judged([*own, *shared, *dead], id_) == {"probe": Status.FAIL}
    away = [probe(f"{prefix}.redis", None, at, 1) for at in range(3, 6)]
    assert judged([*own, *shared, *away], id_) == {"probe": Status.ERROR}
    assert judged([], id_)["probe"] in {Status.ERROR, Status.INCONCLUSIVE}


@pytest.mark.covers("rf.rollout.metrics", level="simulated")
def test_prometheus_must_collect_what_the_checks_need() -> None:
    """Good collections pass; two bad ones in a row are an error of ours; the candidate's alone gone, its failure."""
    good = [probe("metrics", None, at, 0, Source.PROMETHEUS) for at in range(3)]
    bad = [probe("metrics", None, at, 1, Source.PROMETHEUS) for at in range(3, 6)]
    assert judged(good, "rf.rollout.metrics") == {"prometheus": Status.PASS}
    assert judged([*good, *bad], "rf.rollout.metrics") == {"prometheus": Status.ERROR}
    gone = [replace(probe("metrics", Arm.CANDIDATE, at, 0, Source.PROMETHEUS), note="down") for at in range(3, 13)]
    assert judged([*good, gone[0]], "rf.rollout.metrics") == {"prometheus": Status.INCONCLUSIVE}
    assert judged([*good, *gone], "rf.rollout.metrics") == {"prometheus": Status.FAIL}


def test_what_is_measured_where_is_what_is_required() -> None:
    """The six checks between stages are guardrails, each by its measure and from every source asked for."""
    shipped = {o.id: o for o in SYSTEM.objectives}
    wanted = {
        "rf.rollout.error_rate": (Measure.RATIO, 5, "%", None, BOTH),
        "rf.rollout.latency_p95": (Measure.QUANTILE, 5000, "ms", 0.95, BOTH),
        "rf.rollout.latency_p99": (Measure.QUANTILE, 8000, "ms", 0.99, BOTH),
        "rf.rollout.availability": (Measure.AVAILABILITY, 0, "", None, (Source.PROBE,)),
        "rf.rollout.service_health": (Measure.AVAILABILITY, 0, "", None, (Source.PROBE,)),
        "rf.rollout.metrics": (Measure.COLLECTED, 0, "", None, (Source.PROMETHEUS,)),
    }
    for id_, numbers in wanted.items():
        o = shipped[id_]
        assert (o.measure, o.threshold, o.unit, o.quantile, o.sources) == numbers
        assert o.severity == "critical"
