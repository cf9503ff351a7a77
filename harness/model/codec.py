"""Evidence as JSON lines: stable key order, defaults left out, so that the same record is the same bytes."""

import json
from collections.abc import Callable
from dataclasses import fields
from enum import StrEnum
from typing import Any, cast

from harness.model.evidence import EVIDENCE_VERSION, Arm, Evidence, Kind, Source, Unit

_ENUMS: dict[str, type[StrEnum]] = {"kind": Kind, "source": Source, "arm": Arm, "unit": Unit}
_DEFAULTS = {field.name: field.default for field in fields(Evidence)}


def encode(record: Evidence) -> str:
    """Return one line of JSON without its newline."""
    values = {
        name: getattr(record, name)
        for name, default in _DEFAULTS.items()
        if getattr(record, name) != default or name == "version"
    }
    return json.dumps(values, allow_nan=False, separators=(",", ":"))


def decode(line: str) -> Evidence:
    """Return the record that `encode` wrote.

    Raises ValueError for what is no such line: wrong JSON, an unknown key, a newer version, NaN or Inf.
    """
    raw = parse_json(line, parse_constant=_refuse)
    if not isinstance(raw, dict):
        msg = f"an evidence line is a JSON object, found {type(raw).__name__}"
        raise ValueError(msg)  # noqa: TRY004 - one error type for every malformed line
    values = cast("dict[str, Any]", raw)
    unknown = values.keys() - _DEFAULTS.keys()
    if unknown:
        msg = f"unknown evidence keys {sorted(unknown)}"
        raise ValueError(msg)
    if values.get("version") != EVIDENCE_VERSION:
        msg = f"evidence version {values.get('version')!r}, this harness reads {EVIDENCE_VERSION}"
        raise ValueError(msg)
    for name, enum in _ENUMS.items():
        if values.get(name) is not None:
            values[name] = enum(values[name])
    try:
        for name in ("bounds", "counts"):
            values[name] = tuple(values.get(name, ()))
        return Evidence(**values)
    except TypeError as error:
        msg = f"evidence line lacks a field, or has one of a wrong type: {error}"
        raise ValueError(msg) from error


def parse_json(text: str | bytes, *, parse_constant: Callable[[str], float] | None = None) -> object:
    """Return what `text` holds; ValueError also for what is nested beyond all reason, or is no UTF-8."""
    try:
        return cast("object", json.loads(text, parse_constant=parse_constant))
    except RecursionError as error:
        msg = "nested too deep"
        raise ValueError(msg) from error


def _refuse(constant: str) -> float:
    msg = f"{constant} is no evidence"
    raise ValueError(msg)
