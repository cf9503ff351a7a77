"""allure-results/: one result a judgement and a case, with ids that stay the same from run to run."""

import hashlib
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import allure_commons.model2
import attr

from harness.model.judgement import Judgement, Verdict
from harness.model.status import Status
from harness.ports import Case
from harness.report import words
from harness.report.atomic import write_text

_MODEL = cast("Any", allure_commons.model2)  # attrs classes without types
_Status = _MODEL.Status

_STATUSES: dict[str, str] = {
    Status.PASS: _Status.PASSED,
    Status.FAIL: _Status.FAILED,
    Status.INCONCLUSIVE: _Status.UNKNOWN,
    Status.ERROR: _Status.BROKEN,
    Status.NOT_APPLICABLE: _Status.SKIPPED,
    "passed": _Status.PASSED,
    "failed": _Status.FAILED,
    "skipped": _Status.SKIPPED,
    "error": _Status.BROKEN,
}
_SEVERITIES = {"critical": "critical", "warning": "normal", "info": "minor"}


def write_allure(verdict: Verdict, cases: Sequence[Case], folder: Path) -> None:
    """Write the results into `folder`, over those of an earlier writing of the same run."""
    start, stop = (int(words.epoch(at) * 1000) for at in (verdict.started_at, verdict.finished_at))
    for judgement in verdict.judgements:
        _write(folder, _of_judgement(verdict, judgement, start, stop))
    for case in cases:
        _write(folder, _of_case(verdict, case, start))
    environment = {
        "system": verdict.system, "candidate": verdict.candidate, "baseline": verdict.baseline, "plan": verdict.plan,
        "provider": verdict.provider, "decision": verdict.decision, "rehearsal": str(verdict.rehearsal).lower(),
    }  # fmt: skip
    lines = (f"{name}={value}".replace("\n", " ") for name, value in environment.items())
    write_text(folder / "environment.properties", "\n".join(lines) + "\n")


def _of_judgement(verdict: Verdict, judgement: Judgement, start: int, stop: int) -> Any:  # noqa: ANN401 - Allure's model is untyped
    name = f"{judgement.id} [{judgement.source}]"
    parameters = {
        "source": judgement.source,
        "stage": judgement.stage,
        "threshold": words.measured(judgement.threshold, judgement.unit),
        "estimate": words.measured(judgement.estimate, judgement.unit),
        "interval": words.interval(judgement),
        "n": str(judgement.n),
    }
    result = _result(verdict, f"{name}{judgement.stage and ' stage '}{judgement.stage}", name, start, stop)
    result.status = _STATUSES[judgement.status]
    result.description = judgement.requirement
    result.statusDetails = _MODEL.StatusDetails(message=judgement.reason or None, trace=judgement.remedy or None)
    result.parameters = [
        _MODEL.Parameter(name=key, value=value, excluded=True) for key, value in parameters.items() if value
    ]
    severity = _MODEL.Label(name="severity", value=_SEVERITIES[judgement.severity])
    result.labels = [*_labels(verdict, "objectives", words.catalog_ids(judgement.id)), severity]
    return result


def _of_case(verdict: Verdict, case: Case, start: int) -> Any:  # noqa: ANN401 - Allure's model is untyped
    result = _result(verdict, f"{case.name} {case.arm}".strip(), case.name, start, start + round(case.seconds * 1000))
    result.status = _STATUSES.get(case.outcome, _Status.BROKEN)
    result.statusDetails = _MODEL.StatusDetails(message=case.message) if case.message else None
    result.labels = _labels(verdict, "suites", words.catalog_ids(*case.covers))
    return result


def _result(verdict: Verdict, key: str, name: str, start: int, stop: int) -> Any:  # noqa: ANN401 - Allure's model is untyped
    full_name = f"{verdict.system}: {key}"
    history = hashlib.sha256(full_name.encode()).hexdigest()[:32]
    return _MODEL.TestResult(
        uuid=str(uuid.uuid5(uuid.NAMESPACE_URL, f"rollgate:{verdict.run_id}:{full_name}")),
        historyId=history,
        testCaseId=history,
        fullName=full_name,
        name=name,
        start=start,
        stop=stop,
        stage="finished",
    )


def _labels(verdict: Verdict, suite: str, ids: Sequence[str]) -> list[Any]:
    fixed = (("framework", "rollgate"), ("parentSuite", verdict.system), ("suite", suite))
    return [_MODEL.Label(name=name, value=value) for name, value in (*fixed, *(("tag", i) for i in ids))]


def _write(folder: Path, result: Any) -> None:  # noqa: ANN401 - as above
    values: dict[str, Any] = attr.asdict(result, filter=_is_set)
    write_text(folder / f"{result.uuid}-result.json", json.dumps(values, ensure_ascii=False, indent=1) + "\n")


def _is_set(_attribute: object, value: object) -> bool:
    return value not in (None, [], "")
