"""The verdict as JSON: encode, decode, and the schema that every written verdict is held to."""

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from importlib import resources
from typing import Any, cast

from jsonschema import Draft202012Validator

from harness.model.codec import parse_json
from harness.model.errors import EnvironmentProblem
from harness.model.judgement import Judgement, ServiceKind, ServiceRecord, StageRecord, Verdict
from harness.model.status import Cause, Decision, ExitCode, Status

Document = dict[str, Any]


@cache
def verdict_schema() -> Document:
    """Return the JSON Schema (2020-12) of verdict.json. Treat it as read-only: it is shared."""
    text = resources.files("harness.report").joinpath("verdict.schema.json").read_text(encoding="utf-8")
    return cast("Document", json.loads(text))


def encode(verdict: Verdict) -> Document:
    """Return the verdict as plain JSON values, every field present, in the model's order.

    An infinite end of an interval becomes null (no bound on that side); an estimate that is no finite
    number becomes null (not measured). Raises ValueError for NaN or Inf anywhere else, and for a `pass`
    without a finite estimate where one was given: what was not measured never passes.
    """
    doc = _plain(verdict)
    doc["judgements"] = [_judgement(judgement) for judgement in verdict.judgements]
    doc["stages"] = [_plain(stage) for stage in verdict.stages]
    doc["services"] = [_plain(service) for service in verdict.services]
    doc["waivers"] = [dict(waiver) for waiver in verdict.waivers]
    json.dumps(doc, allow_nan=False)
    return doc


def decode(doc: Mapping[str, Any]) -> Verdict:
    """Return the verdict that `encode` wrote. Raises EnvironmentProblem where `doc` breaks the schema."""
    check(doc)
    values: Document = {field.name: _tupled(doc[field.name]) for field in fields(Verdict)}
    values["decision"] = Decision(doc["decision"])
    values["cause"] = Cause(doc["cause"])
    values["status"] = Status(doc["status"])
    values["exit_code"] = ExitCode(doc["exit_code"])
    values["stages"] = tuple(_read_stage(stage) for stage in doc["stages"])
    values["services"] = tuple(_read_service(service) for service in doc["services"])
    values["judgements"] = tuple(_read_judgement(j) for j in doc["judgements"])
    values["waivers"] = tuple(dict(waiver) for waiver in doc["waivers"])
    return Verdict(**values)


def check(doc: Mapping[str, Any]) -> None:
    """Hold `doc` to the schema; EnvironmentProblem names the first place where it breaks it."""
    validator = cast("Any", Draft202012Validator(verdict_schema()))
    found = [
        ("/".join(str(part) for part in error.absolute_path) or "(top)", error.message)
        for error in validator.iter_errors(doc)
    ]
    if not found:
        return
    where, message = min(found)
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    what = f"the verdict breaks its schema at {where}: {message[:300]}{more}"
    raise EnvironmentProblem(what, mend="read it with the rollgate that wrote it, or judge the run again")


def dumps(verdict: Verdict) -> str:
    """Return verdict.json's text: encoded, checked, indented, with a newline at its end."""
    doc = encode(verdict)
    check(doc)
    return text(doc)


def text(doc: Document) -> str:
    """Return an encoded verdict as the file's text."""
    return json.dumps(doc, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def loads(content: str) -> Verdict:
    """Return the verdict of a verdict.json's text; EnvironmentProblem where it is none."""
    try:
        raw = parse_json(content)
    except ValueError as error:
        msg = f"verdict.json is no JSON: {error}"
        raise EnvironmentProblem(msg) from error
    if not isinstance(raw, dict):
        msg = f"verdict.json holds a {type(raw).__name__}, not an object"
        raise EnvironmentProblem(msg)
    return decode(cast("Document", raw))


def _plain(record: Verdict | Judgement | StageRecord | ServiceRecord) -> Document:
    return {field.name: _value(getattr(record, field.name)) for field in fields(record)}


def _value(value: object) -> object:
    if isinstance(value, ExitCode):
        return int(value)
    if isinstance(value, Status | Decision | Cause | ServiceKind):
        return str(value)
    if isinstance(value, tuple):
        return list(cast("tuple[object, ...]", value))
    return value


def _judgement(judgement: Judgement) -> Document:
    doc = _plain(judgement)
    estimate = judgement.estimate
    if estimate is not None and not math.isfinite(estimate):
        if judgement.status is Status.PASS:
            msg = f"judgement {judgement.id} passes with the estimate {estimate}: that is no measurement"
            raise ValueError(msg)
        doc["estimate"] = None
    if judgement.interval is not None:
        low, high = judgement.interval
        doc["interval"] = [None if low == -math.inf else low, None if high == math.inf else high]
    return doc


def _read_stage(doc: Document) -> StageRecord:
    values: Document = {**doc, "status": Status(doc["status"])}
    return StageRecord(**values)


def _read_service(doc: Document) -> ServiceRecord:
    values: Document = {**doc, "kind": ServiceKind(doc["kind"])}
    return ServiceRecord(**values)


def _read_judgement(doc: Document) -> Judgement:
    values: Document = {**doc, "status": Status(doc["status"])}
    if doc["interval"] is not None:
        low, high = doc["interval"]
        values["interval"] = (-math.inf if low is None else low, math.inf if high is None else high)
    return Judgement(**values)


def _tupled(value: object) -> object:
    return tuple(cast("list[object]", value)) if isinstance(value, list) else value
