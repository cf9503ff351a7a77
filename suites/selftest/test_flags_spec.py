"""flags.json is held to its format, its own sense, what is deployed, and what conformance.yaml asks of it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from harness import spec
from harness.model.errors import SpecError
from harness.paths import share_root

pytestmark = pytest.mark.selftest

SYSTEM = share_root() / "stack" / "systems" / "researchflow"
Plant = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the system with seven flags; nothing is asked of them."""
    copy = Path(shutil.copytree(SYSTEM, tmp_path / "system"))
    (copy / "conformance.yaml").unlink()
    return copy


def plant(folder: Path, change: Plant) -> None:
    """Change the flags of a system."""
    path = folder / "flags.json"
    data = json.loads(path.read_text())
    change(data["flags"])
    path.write_text(json.dumps(data, indent=2))


# Where the mistake is, what is said of it, and how it is planted. Each is one error and no other.
BAD: dict[str, tuple[str, str, Plant]] = {
    "a share above 100": (
        "flags.vector_search.rollout", "found 101, expected less than or equal to 100",
        lambda flags: flags["vector_search"].update(rollout=101),
    ),
    "a share below 0": (
        "flags.vector_search.rollout", "expected greater than or equal to 0",
        lambda flags: flags["vector_search"].update(rollout=-1),
    ),
    "a share in quotes": (
        "flags.vector_search.rollout", "found '0', expected a valid number",
        lambda flags: flags["vector_search"].update(rollout="0"),
    ),
    "a yes for a share": (
        "flags.vector_search.rollout", "found True, expected a valid number",
        lambda flags: flags["vector_search"].update(rollout=True),
    ),
    "no share": ("flags.vector_search.rollout", "missing", lambda flags: flags["vector_search"].pop("rollout")),
    "an unknown strategy": (
        "flags.vector_search.strategy", "found 'gradual', expected 'canary' or 'immediate'",
        lambda flags: flags["vector_search"].update(strategy="gradual"),
    ),
    "an unknown key": (
        "flags.vector_search.rolout", "unknown key",
        lambda flags: flags["vector_search"].update(rolout=1),
    ),
    "an unknown parent": (
        "flags.vector_search.depends[0]", "found `ai_inferences`, expected one of the flags",
        lambda flags: flags["vector_search"].update(depends=["ai_inferences"]),
    ),
    "a parent that is no list": (
        "flags.vector_search.depends", "expected a valid list",
        lambda flags: flags["vector_search"].update(depends="ai_inference"),
    ),
    "a parent twice": (
        "flags.vector_search.depends[1]", "found `ai_inference` twice",
        lambda flags: flags["vector_search"].update(depends=["ai_inference", "ai_inference"]),
    ),
    "its own parent": (
        "flags.vector_search.depends", "found the cycle vector_search -> vector_search",
        lambda flags: flags["vector_search"].update(depends=["vector_search"]),
    ),
    "a long cycle": (
        "flags.ai_inference.depends", "found the cycle ai_inference -> vector_search -> ai_inference",
        lambda flags: flags["ai_inference"].update(depends=["vector_search"]),
    ),
    "a share beyond its target": (
        "flags.cost_optimization.rollout", "found 50, expected at most its target, 40",
        lambda flags: flags["cost_optimization"].update(target=40),
    ),
    "a step of a flag that is switched": (
        "flags.advanced_monitoring.rollout", "found 30, expected 0 or its target, 100",
        lambda flags: flags["advanced_monitoring"].update(rollout=30),
    ),
    "a flag that is no mapping": (
        "flags.vector_search", "found 5, expected", lambda flags: flags.update(vector_search=5),
    ),
    "a name with capitals": (
        "flags.VectorSearch", "found 'VectorSearch', expected a name",
        lambda flags: flags.update(VectorSearch={"rollout": 0}),
    ),
}  # fmt: skip


@pytest.mark.covers("rf.flag.validation", "rf.ci.flags", level="simulated")
@pytest.mark.parametrize("fault", BAD)
def test_a_bad_flags_file_is_refused_by_key(fault: str, folder: Path):
    """JSON schema, fields that fit each other, dependencies: one line with file, line, key and mend."""
    key, says, change = BAD[fault]
    plant(folder, change)
    errors = spec.validate(folder)
    assert [error.key for error in errors] == [key], [str(error) for error in errors]
    assert says in errors[0].message
    assert re.search(r"flags\.json:[1-9]\d*$", errors[0].where)
    assert errors[0].mend
    with pytest.raises(SpecError, match=re.escape(says)):
        spec.load_system(folder)


@pytest.mark.covers("rf.flag.validation", "rf.ci.flags", level="simulated")
@pytest.mark.parametrize(
    "text, says",
    [
        ('{"schema": 1, "flags": {', "no JSON"),
        ("", "no JSON"),
        ('{"schema": 1, "flags": {"a": {"rollout": 0}, "a": {"rollout": 0}}}', "twice"),
        ('{"schema": 1, "flags": {"a": {"rollout": NaN}}}', "finite"),
        ('{"schema": 2, "flags": {}}', "expected 1"),
        ('{"flags": {}}', "missing"),
        ('{"schema": 1}', "missing"),
        ("[" * 100_000, "nested deeper"),
    ],
)
def test_a_torn_flags_file_is_refused_by_line(text: str, says: str, folder: Path):
    """What is no JSON, or no flags file, never counts as a system without flags."""
    (folder / "flags.json").write_text(text)
    errors = spec.validate(folder)
    assert any(says in error.message for error in errors), [str(error) for error in errors]
    assert all("flags.json:" in error.where or "traffic" in error.key for error in errors)


def test_the_file_that_ships_is_sound(folder: Path):
    """The negative control."""
    assert spec.validate(folder) == []


def test_a_childs_target_fits_under_its_parents(folder: Path):
    """A target above a parent's is never reached: each child of the lowered parent is told."""
    plant(folder, lambda flags: [flag.update(rollout=0, target=50) for name, flag in flags.items() if "ai" in name[:2]])
    found = {error.key: error.message for error in spec.validate(folder)}
    assert "flags.vector_search.target" in found
    assert "at most 50, the target of its parent" in found["flags.vector_search.target"]


# ---------------------------------------------------------------- what is deployed

DEPLOYED = {
    "a flag that nobody declares": ("vector_search: 100", "vector_serch: 100", "flags.vector_serch", "expected one of"),
    "a step of a flag that is switched": (
        "advanced_monitoring: 100", "advanced_monitoring: 50", "flags.advanced_monitoring", "expected 0 or its target",
    ),
    "a feature under a parent that is off": ("ai_inference: 100", "ai_inference: 0", "feature", "effective at 0 %"),
    "a feature under a parent half-way": ("ai_inference: 100", "ai_inference: 99.9", "feature", "raise that one first"),
    "a feature that nobody declares": (
        "feature: batch_inference", "feature: batch_inferenze", "feature", "found `batch_inferenze`, expected one of",
    ),
    "a feature that is switched": (
        "feature: batch_inference", "feature: advanced_monitoring", "feature", "which is switched at once",
    ),
}  # fmt: skip


@pytest.mark.covers("rf.flag.validation", level="simulated")
@pytest.mark.parametrize("fault", DEPLOYED)
def test_dependencies_are_checked_before_anything_moves(fault: str, folder: Path):
    """A rollout that could not end well is refused when the files are read, not when traffic has moved."""
    old, new, key, says = DEPLOYED[fault]
    text = (folder / "system.yaml").read_text()
    assert text.count(old) == 1, "mend this test"
    (folder / "system.yaml").write_text(text.replace(old, new))
    (error,) = spec.validate(folder)
    assert (error.key, says in error.message) == (f"traffic.{key}", True), str(error)


def test_a_feature_beyond_its_target_is_refused(folder: Path):
    """A promotion ends at 100 %; a flag that may not, cannot be under rollout."""
    plant(folder, lambda flags: flags["batch_inference"].update(target=50))
    (error,) = spec.validate(folder)
    assert (error.key, "its target is 50 %" in error.message) == ("traffic.feature", True)


# ---------------------------------------------------------------- what is asked

ASKED = {  # of every flag that conformance.yaml names: what is planted, by field
    "rollout": (7, "found 7 in flags.json"),
    "target": (99, "found 99 in flags.json, expected 100"),
    "strategy": ("other", "in flags.json, expected"),
    "depends": ("other", "in flags.json, expected"),
}
OTHER = {"canary": "immediate", "immediate": "canary"}
FLAGS = spec.load_requirements(SYSTEM).flags


@pytest.mark.parametrize("field", ASKED)
@pytest.mark.parametrize("name", FLAGS)
def test_a_wrong_field_is_refused_by_its_flag_and_key(name: str, field: str, tmp_path: Path):
    """Each number, strategy and parent of each flag is held: a wrong one is refused by name."""
    copy = Path(shutil.copytree(SYSTEM, tmp_path / "system"))
    value, says = ASKED[field]

    def change(flags: dict[str, Any]) -> None:
        flag = flags[name]
        if field == "strategy":
            flag[field] = OTHER[flag[field]]
        elif field == "depends":
            flag[field] = [] if flag[field] else ["semantic_cache"]
        else:
            flag[field] = value

    plant(copy, change)
    found = {error.key: error for error in spec.validate(copy) if "conformance.yaml" in error.where}
    assert set(found) == {f"flags.{name}.{field}"}
    assert says in found[f"flags.{name}.{field}"].message


def test_a_flag_that_is_gone_is_missed(tmp_path: Path):
    """What is asked for and not there is an error, not a case fewer."""
    copy = Path(shutil.copytree(SYSTEM, tmp_path / "system"))
    plant(copy, lambda flags: flags.pop("cost_optimization"))
    text = (copy / "system.yaml").read_text()
    (copy / "system.yaml").write_text(text.replace("    cost_optimization: 0\n", ""))
    (error,) = spec.validate(copy)
    assert (error.key, "found `cost_optimization`" in error.message) == ("flags.cost_optimization", True)


def test_every_field_of_the_shipped_flags_is_asked_for():
    """No flag of the file is without its requirement, and none of its numbers unasked."""
    system = spec.load_system(SYSTEM)
    assert set(FLAGS) == {flag.name for flag in system.flags}
    for required in FLAGS.values():
        assert None not in (required.rollout, required.target, required.strategy, required.depends)
        assert required.covers


# ---------------------------------------------------------------- the format itself


def test_the_published_schema_accepts_the_shipped_flags_and_refuses_each_bad_field():
    """Editors and CI see the same format by JSON Schema alone, before anything of rollgate runs."""
    schema = Draft202012Validator(spec.json_schemas()["flags"])
    schema.validate(json.loads((SYSTEM / "flags.json").read_text()))
    for fault in ("a share above 100", "a share below 0", "a share in quotes", "no share", "an unknown strategy",
                  "an unknown key", "a parent that is no list", "a flag that is no mapping"):  # fmt: skip
        data = json.loads((SYSTEM / "flags.json").read_text())
        BAD[fault][2](data["flags"])
        with pytest.raises(ValidationError):
            schema.validate(data)


def test_what_is_written_is_read_back_as_the_same_flags(folder: Path):
    """Shares, targets, strategies, parents and descriptions survive."""
    flags = spec.load_system(folder).flags
    assert all(flag.description for flag in flags)
    (folder / "flags.json").write_text(spec.flags_text(flags))
    assert spec.load_system(folder).flags == flags


def test_thousands_of_flags_in_one_chain_are_checked(folder: Path):
    """About as many as a file may hold, one under the other: no deep stack, no traceback."""
    chain = {f"f{n}": {"rollout": 0, "depends": [f"f{n - 1}"] if n else []} for n in range(4000)}
    plant(folder, lambda flags: flags.update(chain))
    assert spec.validate(folder) == []
