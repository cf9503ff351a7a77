"""What the judge says of probes and restarts, word for word, and exactly at their limits."""

from dataclasses import replace

import pytest
from judge_streams import events, gauge, objective_of, plan_of

from harness.judge.availability import AvailabilityTrial, ProbeBook, RestartTrial
from harness.judge.finding import Finding, Look, Terms
from harness.judge.gating import gating
from harness.model.evidence import Arm, Evidence, Kind, Source, Unit
from harness.model.objective import Measure
from harness.model.status import Status

pytestmark = pytest.mark.selftest

C, B = Arm.CANDIDATE, Arm.BASELINE
_ARMS = {"c": C, "b": B, "": None}


def probe(of: str, at: float, bad: int = 0, note: str = "", **changes: object) -> Evidence:
    """Return one probe of "signal@arm", answered at once."""
    signal, _, arm = of.partition("@")
    about = {"source": Source.PROBE, "unit": Unit.PROBE, "end_s": at, "note": note, **changes}
    return events(signal, _ARMS[arm], at, 1, bad, **about)


def rounds(rows: dict[str, str], note: str = "refused") -> list[Evidence]:
    """Return a probe a second of each row: "+" is well, "-" is bad."""
    return [
        probe(of, float(at), int(sign == "-"), note if sign == "-" else "")
        for of, signs in rows.items()
        for at, sign in enumerate(signs)
    ]


def found(records: list[Evidence], at: float | None = None, *, final: bool = False, look_s: float = 1.0) -> Finding:
    """Judge "health" on probes that came one by one, at the newest one's end unless told."""
    plan = plan_of(look_s=look_s)
    objective = objective_of(Measure.AVAILABILITY, "health", sources=(Source.PROBE,))
    terms = Terms(objective=objective, plan=plan, source=Source.PROBE, threshold=0.0, alpha=0.01,
                  gating=gating(plan, None, "it is new"))  # fmt: skip
    book = ProbeBook()
    trial = AvailabilityTrial(terms, book)
    for record in sorted(records, key=lambda record: record.start_s):
        book.observe(record)
        trial.observe(record)
        trial.settle()
    newest = max((record.end_s for record in records), default=0.0)
    return trial.find(Look(at=newest if at is None else at, stage="50", final=final))


WELL = {"health.gw@b": "++++", "health.gw@c": "++++", "health.redis": "++++"}
_DOWN = "health.gw of the candidate: 2 bad probes in a row (refused)"


@pytest.mark.parametrize(
    "rows, status, reason",
    [
        pytest.param({}, Status.INCONCLUSIVE, "no evidence: nothing probed health", id="nothing"),
        pytest.param({"healthy.gw": "--"}, Status.INCONCLUSIVE, "no evidence: nothing probed health", id="others"),
        pytest.param(
            WELL | {"health.gw@c": "++--"}, Status.FAIL, f"{_DOWN}, while the baseline's is well", id="the candidate"
        ),
        pytest.param(
            WELL | {"health.gw@c": "--++"}, Status.FAIL, f"{_DOWN}, while the baseline's is well", id="it was down"
        ),
        pytest.param(
            WELL | {"health.gw@c": "+---", "health.redis": "+-++"},
            Status.FAIL,
            f"{_DOWN}, while the baseline's is well",
            id="shared trouble is over; what was said first is said on",
        ),
        pytest.param(
            WELL | {"health.gw@c": "++--", "health.gw@b": "+++-"},
            Status.ERROR,
            f"{_DOWN}, and the baseline's is not shown to be well",
            id="the twin is bad",
        ),
        pytest.param(
            WELL | {"health.gw@c": "++--", "health.redis": "++--", "check.faiss": "+++-"},
            Status.ERROR,
            f"{_DOWN}, while the shared check.faiss is in trouble too",
            id="shared services are bad, the first is named",
        ),
        pytest.param(
            WELL | {"health.gw@b": "+---"},
            Status.ERROR,
            "health.gw of the baseline: 3 bad probes in a row (refused); not the release's",
            id="the baseline",
        ),
        pytest.param(
            WELL | {"health.redis": "++--"},
            Status.ERROR,
            "health.redis of the stack: 2 bad probes in a row (refused); not the release's",
            id="the stack",
        ),
        pytest.param(
            WELL | {"health.gw": "--", "health.gw@b": "--"},
            Status.ERROR,
            "health.gw of the stack: 2 bad probes in a row (refused); not the release's",
            id="one name on the stack and on the arms: the stack's is told first",
        ),
        pytest.param(
            WELL | {"health.gw@c": "+++-"},
            Status.INCONCLUSIVE,
            "health.gw of the candidate: the newest probe is bad (refused); the next one decides",
            id="the candidate's newest",
        ),
        pytest.param(
            WELL | {"health.redis": "+++-"},
            Status.INCONCLUSIVE,
            "health.redis of the stack: the newest probe is bad (refused); the next one decides",
            id="the stack's newest",
        ),
        pytest.param(
            WELL | {"health.redis": "-+-+-+"},
            Status.INCONCLUSIVE,
            "health.redis of the stack comes and goes: 3 of 6 probes bad",
            id="the stack comes and goes",
        ),
        pytest.param(
            {"health.gw@c": "++++"}, Status.INCONCLUSIVE, "health.gw is probed on the candidate only", id="no twin"
        ),
        pytest.param(
            {"health.gw@b": "++++"}, Status.INCONCLUSIVE, "health.gw is probed on the baseline only", id="only the twin"
        ),
    ],
)
def test_what_probes_show_is_told_in_full(rows: dict[str, str], status: Status, reason: str):
    """Who, how often, what it answered, and whose fault it is; `n` are the probes of the prefix."""
    n = sum(len(signs) for of, signs in rows.items() if of.startswith("health."))
    assert found(rounds(rows)) == Finding(status=status, reason=reason, n=n)


@pytest.mark.parametrize("signs, says", [("--", "2 bad probes in a row"), ("+-", "the newest probe is bad")])
def test_a_probe_without_a_note_had_no_answer(signs: str, says: str):
    """A note is what came back; without one nothing did."""
    reason = found(rounds(WELL | {"health.redis": signs}, note="")).reason
    assert f"health.redis of the stack: {says} (no answer)" in reason


def test_the_newest_note_of_a_bad_row_is_told():
    """Refused at first, then a time-out: the last is what an operator finds."""
    records = [probe("health", 0.0, 1, "refused"), probe("health", 1.0, 1, "time-out")]
    assert found(records).reason == "health of the stack: 2 bad probes in a row (time-out); not the release's"


def test_a_release_at_fault_is_told_before_what_else_is_down_and_stays_at_fault():
    """Its gateway was down while the baseline's answered; then the baseline's goes too, and both come back."""
    records = rounds(WELL | {"health.gw@c": "+--+++++", "health.gw@b": "+++--+++", "health.redis": "++++++++"})
    reason = f"{_DOWN}, while the baseline's is well"
    assert found(records) == Finding(status=Status.FAIL, reason=reason, n=24)


def test_all_well_is_told_by_its_counts():
    """3 of 24 probes were bad, on three endpoints; other signals are not counted."""
    rows = {"health.gw@b": "++++", "health.gw@c": "++++", "health.redis": "-+-+-+++++++++++", "check.faiss": "-+"}
    reason = "3 endpoints, 24 probes, 3 bad, none down"
    assert found(rounds(rows), at=15.0) == Finding(status=Status.PASS, reason=reason, estimate=12.5, n=24)


@pytest.mark.parametrize(
    "signs, flaps",
    [("-+-+-" + 9 * "+", True), ("-+-+-" + 10 * "+", False), ("-+-+-+-" + 12 * "+", True), ("-+-+", False)],
    ids=["3 of 14", "3 of 15", "4 of 19", "2 of 4"],
)
def test_a_service_comes_and_goes_with_three_bad_probes_that_are_more_than_a_fifth(signs: str, *, flaps: bool):
    """Exactly a fifth is not more; two may be lost packets."""
    bad, n = signs.count("-"), len(signs)
    finding = found(rounds({"health": signs}))
    assert finding.status is (Status.INCONCLUSIVE if flaps else Status.PASS)
    assert (finding.reason == f"health of the stack comes and goes: {bad} of {n} probes bad") is flaps


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize(
    "look_s, age, says",
    [(1.0, 15.0, ""), (1.0, 15.5, "16"), (3.0, 24.0, ""), (3.0, 25.0, "25"), (0.1, 15.0, ""), (0.1, 16.0, "16")],
)
def test_a_probe_is_stale_after_15_seconds_and_after_eight_looks(look_s: float, age: float, says: str, *, final: bool):
    """Exactly as old is not yet too old; whoever is stale is named, with its age."""
    finding = found(rounds({"health": "++++"}), at=3.0 + age, look_s=look_s, final=final)
    stale = Status.ERROR if final else Status.INCONCLUSIVE
    assert finding.status is (stale if says else Status.PASS)
    if says:
        assert finding.reason == f"health of the stack was not probed for {says} s"


@pytest.mark.parametrize("twin, status", [(4.9, Status.ERROR), (5.0, Status.FAIL), (6.1, Status.FAIL)])
def test_the_twin_is_well_in_a_round_that_began_at_most_half_a_round_before(twin: float, status: Status):
    """Rounds begin 2 s apart; the candidate's bad ones at 4 and 6 s."""
    mine = [probe("health.gw@c", at, int(at > 3)) for at in (0.0, 2.0, 4.0, 6.0)]
    others = [probe("health.gw@b", at) for at in (0.0, 2.0, twin)]
    finding = found([*mine, *others], at=6.1)
    assert finding.status is status


@pytest.mark.parametrize("change", [{"kind": Kind.ASSIGNMENT}, {"n": 0}], ids=["no events", "no probe"])
def test_what_is_no_probe_is_refused(change: dict[str, object]):
    """A probe is an events record of at least one; one of exactly one is taken."""
    book, record = ProbeBook(), probe("health", 0.0)
    with pytest.raises(ValueError, match=r"^health: a probe is an events record with n >= 1$"):
        book.observe(replace(record, **change))
    book.observe(record)
    assert [state.probes for _, _, state in book.under("health")] == [1]


def exits(*readings: tuple[str, Arm | None, float]) -> list[Evidence]:
    """Return readings of restarts, in order."""
    return [
        gauge(signal, arm, float(at), value, source=Source.PROBE) for at, (signal, arm, value) in enumerate(readings)
    ]


NONE = ("restarts", B, 0.0)


@pytest.mark.parametrize(
    "readings, status, mine, others",
    [
        pytest.param([NONE, ("restarts", C, 0.0)], Status.PASS, 0, 0, id="none"),
        pytest.param([NONE, ("restarts", C, 1.0)], Status.INCONCLUSIVE, 1, 0, id="one"),
        pytest.param([NONE, ("restarts", C, 2.0)], Status.FAIL, 2, 0, id="two"),
        pytest.param(
            [NONE, ("restarts.gw", C, 1.0), ("restarts.faiss", C, 1.0)], Status.FAIL, 2, 0, id="of two processes"
        ),
        pytest.param(
            [NONE, ("restarts", C, 2.0), ("restarts", C, 1.0)], Status.FAIL, 2, 0, id="a counter that fell back"
        ),
        pytest.param([("restarts", B, 1.0), ("restarts", C, 3.0)], Status.ERROR, 3, 1, id="the baseline's too"),
        pytest.param([NONE, ("restarts", C, 2.0), ("restarts", None, 4.0)], Status.ERROR, 2, 4, id="the stack's too"),
    ],
)
def test_unasked_exits_are_summed_over_processes_and_told(
    readings: list[tuple[str, Arm | None, float]], status: Status, mine: int, others: int
):
    """The highest reading of each gauge counts; `n` are the gauges."""
    trial = RestartTrial()
    for record in exits(*readings):
        trial.observe(record)
    reason = f"the candidate's processes ended {mine} times unasked, all others {others} times"
    n = len({reading[:2] for reading in readings})
    look = Look(at=9.0, stage="50", final=True)
    assert trial.find(look) == Finding(status=status, reason=reason, estimate=float(mine), n=n)


@pytest.mark.parametrize("arm", [C, B])
@pytest.mark.parametrize("final, status", [(False, Status.INCONCLUSIVE), (True, Status.ERROR)])
def test_restarts_of_one_arm_alone_prove_nothing(arm: Arm, status: Status, *, final: bool):
    """Both arms must have been read."""
    trial = RestartTrial()
    trial.observe(exits(("restarts", arm, 0.0))[0])
    reason = "no evidence: the restarts of both arms were not read"
    assert trial.find(Look(at=9.0, stage="50", final=final)) == Finding(status=status, reason=reason)


@pytest.mark.parametrize("changes", [{"value": -1.0}, {"kind": Kind.EVENTS}], ids=["negative", "no gauge"])
def test_restarts_that_are_no_gauge_are_refused(changes: dict[str, object]):
    """A value alone makes no gauge, and a gauge below 0 counts nothing."""
    record = replace(exits(("restarts", C, 1.0))[0], **changes)
    with pytest.raises(ValueError, match=r"^restarts: restarts are a gauge that is not negative$"):
        RestartTrial().observe(record)
