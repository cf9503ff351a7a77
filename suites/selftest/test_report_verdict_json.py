"""verdict.json: what is written is what was judged, and nothing that contradicts itself gets out."""

import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_runs import made_run

from harness.model.errors import EnvironmentProblem
from harness.model.judgement import Judgement, ServiceKind, ServiceRecord, StageRecord, Verdict
from harness.model.status import Cause, Decision, ExitCode, Status
from harness.report import verdict_json, verdict_schema

pytestmark = pytest.mark.selftest

_ROOT = Path(__file__).resolve().parents[2]
_finite = st.floats(allow_nan=False, allow_infinity=False)
_maybe = st.none() | _finite
_text = st.text(max_size=20)
_id = st.text(min_size=1, max_size=20)
_instants = st.datetimes().map(lambda at: at.isoformat(timespec="microseconds")[:19] + "Z")


@st.composite
def _intervals(draw: st.DrawFn) -> tuple[float, float] | None:
    """An interval, sometimes open to one side."""
    if draw(st.booleans()):
        return None
    return draw(st.just(-math.inf) | _finite), draw(st.just(math.inf) | _finite)


_judgements = st.builds(
    Judgement,
    id=_id,
    status=st.sampled_from(Status),
    requirement=_text,
    source=_text,
    threshold=_maybe,
    unit=_text,
    estimate=_maybe,
    interval=_intervals(),
    n=st.integers(0, 10**9),
    reason=_text,
    remedy=_text,
    severity=st.sampled_from(("critical", "warning", "info")),
    stage=_text,
    needed=st.none() | st.integers(0, 10**9),
)
_stages = st.builds(
    StageRecord,
    id=_text,
    share=st.floats(0, 100),
    started_at=_finite,
    ended_at=_finite,
    status=st.sampled_from(Status),
    n_baseline=st.integers(0, 10**9),
    n_candidate=st.integers(0, 10**9),
    p95_baseline_ms=_maybe,
    p95_candidate_ms=_maybe,
    reason=_text,
)
_services = st.builds(ServiceRecord, name=_id, kind=st.sampled_from(ServiceKind), version=_text, note=_text)
_outcomes = st.sampled_from(
    [
        (Decision.PROMOTE, Cause.PROOF, Status.PASS, ExitCode.PROMOTED),
        (Decision.ROLLBACK, Cause.RELEASE, Status.FAIL, ExitCode.RELEASE),
        (Decision.HOLD, Cause.EVIDENCE, Status.INCONCLUSIVE, ExitCode.NO_EVIDENCE),
        (Decision.ROLLBACK, Cause.ENVIRONMENT, Status.ERROR, ExitCode.ENVIRONMENT),
        (Decision.ROLLBACK, Cause.OPERATOR, Status.INCONCLUSIVE, ExitCode.INTERRUPTED),
    ]
)


@st.composite
def _verdicts(draw: st.DrawFn) -> Verdict:
    """A verdict that does not contradict itself."""
    decision, cause, status, code = draw(_outcomes)
    return Verdict(
        run_id=draw(_id),
        system=draw(_id),
        baseline=draw(_text),
        candidate=draw(_text),
        decision=decision,
        cause=cause,
        status=status,
        exit_code=code,
        rehearsal=True,
        plan=draw(_text),
        started_at=draw(_instants),
        finished_at=draw(_instants),
        evidence_digest=draw(st.sampled_from(("", "sha256:" + "0" * 64))),
        reason=draw(_text),
        claims=tuple(draw(st.lists(_text, max_size=2))),
        stages=tuple(draw(st.lists(_stages, max_size=2))),
        judgements=tuple(draw(st.lists(_judgements, min_size=1, max_size=3))),
        services=tuple(draw(st.lists(_services, max_size=3))),
        gpu=tuple(draw(st.lists(_text, max_size=2))),
        time_scale=draw(st.floats(0.1, 100)),
        seed=draw(st.integers(0, 2**63)),
        provider=draw(_text),
        waivers=tuple(draw(st.lists(st.just({"id": "a", "reason": "b", "who": "c", "until": "d"}), max_size=1))),
    )


@given(verdict=_verdicts())
def test_what_was_encoded_decodes_to_the_same_verdict(verdict: Verdict) -> None:
    """Encode -> text -> decode is identity, through real JSON."""
    assert verdict_json.loads(verdict_json.dumps(verdict)) == verdict


@pytest.mark.parametrize("bad", [False, True])
def test_a_real_looking_verdict_holds_to_its_schema(bad: bool) -> None:  # noqa: FBT001
    """The made-up runs, good and bad."""
    verdict_json.check(verdict_json.encode(made_run(bad=bad).verdict))


def _promote_a_failure(doc: dict[str, Any]) -> None:
    doc.update(status="fail")


def _hide_the_stand_in(doc: dict[str, Any]) -> None:
    doc.update(rehearsal=False)


def _promote_with_code_1(doc: dict[str, Any]) -> None:
    doc.update(exit_code=1)


def _prove_with_nothing(doc: dict[str, Any]) -> None:
    doc.update(judgements=[])


def _drop_the_digest(doc: dict[str, Any]) -> None:
    del doc["evidence_digest"]


def _judge_without_n(doc: dict[str, Any]) -> None:
    del doc["judgements"][0]["n"]


def _invent_a_status(doc: dict[str, Any]) -> None:
    doc["judgements"][0]["status"] = "flaky"


def _add_a_key(doc: dict[str, Any]) -> None:
    doc["mood"] = "good"


def _compress_time_in_silence(doc: dict[str, Any]) -> None:
    doc.update(time_scale=30, rehearsal=False, services=[])


def _local_time(doc: dict[str, Any]) -> None:
    doc["started_at"] = "2025-10-09T10:53:20+02:00"


def _half_an_interval(doc: dict[str, Any]) -> None:
    doc["judgements"][0]["interval"] = [1.0]


def _name_no_service_kind(doc: dict[str, Any]) -> None:
    doc["services"][0]["kind"] = "mock"


def _newer_version(doc: dict[str, Any]) -> None:
    doc["schema_version"] = 2


@pytest.mark.parametrize(
    "plant",
    [
        _promote_a_failure,
        _hide_the_stand_in,
        _promote_with_code_1,
        _prove_with_nothing,
        _drop_the_digest,
        _judge_without_n,
        _invent_a_status,
        _add_a_key,
        _compress_time_in_silence,
        _local_time,
        _half_an_interval,
        _name_no_service_kind,
        _newer_version,
    ],
)
def test_the_schema_rejects_a_planted_wrong_verdict(plant: Callable[[dict[str, Any]], None]) -> None:
    """Each plant breaks one rule of an otherwise good verdict."""
    doc = copy.deepcopy(verdict_json.encode(made_run().verdict))
    plant(doc)

    with pytest.raises(EnvironmentProblem, match="breaks its schema"):
        verdict_json.decode(doc)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_judgement_passes_without_a_measurement(value: float) -> None:
    """A NaN or Inf estimate under a pass is refused; under an error it becomes null."""
    verdict = made_run().verdict
    passed = replace(verdict.judgements[0], estimate=value)
    errored = replace(passed, status=Status.ERROR)

    with pytest.raises(ValueError, match="no measurement"):
        verdict_json.encode(replace(verdict, judgements=(passed,)))
    assert verdict_json.encode(replace(verdict, judgements=(errored,)))["judgements"][0]["estimate"] is None


def test_nan_in_any_other_place_is_refused() -> None:
    """A stage's p95, an interval, a time scale: nothing that JSON cannot hold is written."""
    verdict = made_run().verdict
    for wrong in (
        replace(verdict, time_scale=math.nan),
        replace(verdict, stages=(replace(verdict.stages[0], p95_baseline_ms=math.inf),)),
        replace(verdict, judgements=(replace(verdict.judgements[0], interval=(math.nan, 1.0)),)),
    ):
        with pytest.raises(ValueError, match="not JSON compliant"):
            verdict_json.encode(wrong)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}"])
def test_a_file_that_is_no_verdict_is_named_as_such(text: str) -> None:
    """Broken JSON, wrong kinds, an empty object: a clear error, no traceback of a parser."""
    with pytest.raises(EnvironmentProblem):
        verdict_json.loads(text)


def test_the_published_schema_is_the_packed_one() -> None:
    """reports/schemas/ holds the same bytes as the wheel's."""
    packed = (_ROOT / "harness" / "report" / "verdict.schema.json").read_bytes()
    assert (_ROOT / "reports" / "schemas" / "verdict.schema.json").read_bytes() == packed
    assert json.loads(packed) == verdict_schema()


def test_the_schema_knows_every_field_of_the_model() -> None:
    """A field added to the model without the schema would be refused at writing: find it here first."""
    properties = verdict_schema()["properties"]
    assert set(properties) == {field for field in Verdict.__dataclass_fields__}  # noqa: C416
    definitions = verdict_schema()["$defs"]
    later = {"judgement": {"comparator"}}  # verdicts written before it was there are still read
    for name, model in (("judgement", Judgement), ("stage", StageRecord), ("service", ServiceRecord)):
        assert set(definitions[name]["properties"]) == set(model.__dataclass_fields__)
        assert set(definitions[name]["required"]) == set(model.__dataclass_fields__) - later.get(name, set())
