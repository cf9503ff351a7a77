"""JSON Schemas of every kind of file, for editors."""

import json
from pathlib import Path
from typing import Any

from harness.spec.schema import KINDS
from harness.spec.target_schema import TargetFile

_ALL = {**KINDS, "target": TargetFile}


def json_schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema (draft 2020-12) of each kind of file, by kind: system, objectives, rollout, ..."""
    return {kind: model.model_json_schema(by_alias=True) for kind, model in _ALL.items()}


def publish(folder: Path) -> None:
    """Write every schema as `folder`/KIND.schema.json."""
    for kind, schema in json_schemas().items():
        text = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        (folder / f"{kind}.schema.json").write_text(text, encoding="utf-8")
