"""The shipped feature flags are the required ones, and their file passes every check. Starts nothing."""

import json

import pytest
from jsonschema import Draft202012Validator

from harness import spec
from harness.paths import share_root

pytestmark = [pytest.mark.conformance]

ROOT = share_root() / "stack" / "systems" / "researchflow"
REQUIRED = spec.load_requirements(ROOT).flags


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.covers(*required.covers, level="static"))
        for name, required in REQUIRED.items()
    ],
)
def test_a_flag_is_declared_as_required(name: str):
    """Whatever conformance.yaml asks of a flag (share, target, strategy, parents), flags.json says."""
    flag = next(flag for flag in spec.load_system(ROOT).flags if flag.name == name)
    assert list(REQUIRED[name].differences(flag)) == []


@pytest.mark.covers("rf.flag.validation", "rf.ci.flags", level="static")
def test_the_flags_are_sound_as_json_as_fields_and_as_a_graph():
    """The published JSON Schema accepts the file; fields fit, parents exist, nothing deployed is at odds with it."""
    Draft202012Validator(spec.json_schemas()["flags"]).validate(json.loads((ROOT / "flags.json").read_text()))
    assert [str(problem) for problem in spec.validate(ROOT)] == []
