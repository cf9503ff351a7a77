"""JSON Schemas of every kind of file, for editors."""

from typing import Any

from harness.spec.schema import KINDS


def json_schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema (draft 2020-12) of each kind of file, by kind: system, objectives, rollout, ..."""
    return {kind: model.model_json_schema(by_alias=True) for kind, model in KINDS.items()}
