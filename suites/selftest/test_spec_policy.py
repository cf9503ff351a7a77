"""Policy as data: what a plan, a policy file and a calibration may say, and how each mistake is told."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError

from harness import spec
from harness.judge import Judge
from harness.model.calibration import Calibration, Dispersion
from harness.model.errors import SpecError
from harness.model.plan import OnInconclusive, RollbackOn, StagePlan
from harness.model.system import System
from harness.paths import share_root
from harness.spec.document import read_document
from harness.wiring.choices import compressed

pytestmark = pytest.mark.selftest

MINIMAL = share_root() / "stack" / "systems" / "minimal"
POLICY = """\
schema: 1
alpha: 0.05
confidence: 0.95
rollback_on: blocks
interval_s: 2
on_inconclusive: hold
proof: each
margins: {minimal.vs_errors: 1, minimal.latency_p95: 100}
weights: {minimal.vs_errors: 3}
informational: [minimal.vs_wrong]
stages:
  "10": {min_bake_s: 4, max_bake_s: 9}
"""
CALIBRATION = """\
schema: 1
system: minimal
plans:
  quick:
    made_at: "2026-03-01T12:00:00Z"
    machine: a test's own
    interval_s: 1
    load_rate: 60
    intervals: 960
    windows: 70
    false_alarms: 0
    dispersions:
      minimal.vs_errors:
        client: {contest: 0.25, level: 0.5, intervals: 950, informative: 900}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the smallest system with a calibration and a policy beside it."""
    copy = Path(shutil.copytree(MINIMAL, tmp_path / "minimal"))
    (copy / "calibration.yaml").write_text(CALIBRATION)
    (copy / "policy.yaml").write_text(POLICY)
    return copy


def edit(path: Path, old: str, new: str) -> None:
    """Replace the first `old` in a file, which must be there."""
    text = path.read_text()
    assert old in text, f"{path.name} has no {old!r}: mend this test"
    path.write_text(text.replace(old, new, 1))


_COMPARED = (
    "minimal.vs_errors, minimal.vs_wrong, minimal.vs_latency_p95, minimal.vs_latency_p99, minimal.vs_quality, "
    "minimal.assignment"
)
# what stands there, what is put in its place, the key named, found and expected, the mend
PLAN_MISTAKES = {
    "a rule that is none": ("rollback_on: excess", "rollback_on: always", "rollback_on", "'excess', 'diff", "correct"),
    "an interval below a look": ("interval_s: 1 ", "interval_s: 0.25 ", "interval_s", "at least look_s = 0.5", "0.5"),
    "an interval of broken looks": ("interval_s: 1 ", "interval_s: 1.2 ", "interval_s", "multiple of look_s", "1.5"),
    "an interval of nothing": ("interval_s: 1 ", "interval_s: 0 ", "interval_s", "greater than 0", "correct"),
    "an interval that is no number": ("interval_s: 1 ", "interval_s: .inf ", "interval_s", "finite", "correct"),
    "a weight of nothing": ("weights: {}", "weights: {minimal.vs_errors: 0}", "vs_errors", "greater than 0", "correct"),
    "a weight below nothing": ("weights: {}", "weights: {minimal.vs_errors: -2}", "vs_errors", "found -2", "correct"),
    "a weight for nothing": (
        "weights: {}",
        "weights: {minimal.vs_erors: 2}",
        "vs_erors",
        "one of the obj",
        "vs_errors`",
    ),
    "a weight that is no number": ("weights: {}", "weights: {minimal.vs_errors: .nan}", "vs_errors", "nan", "correct"),
    "information on nothing": (
        "informational: [minimal.vs_latency_p99]",
        "informational: [minimal.wrong]",
        "informational[0]",
        "expected one of the guardrails",
        "minimal.vs_wrong",
    ),
    "information that is no guardrail": (
        "informational: [minimal.vs_latency_p99]",
        "informational: [minimal.latency_p95]",
        "informational[0]",
        "no guardrail (severity warning)",
        "drop",
    ),
    "information twice": (
        "informational: [minimal.vs_latency_p99]",
        "informational: [minimal.vs_wrong, minimal.vs_wrong]",
        "informational[1]",
        "twice",
        "drop",
    ),
    "nothing left to decide by": (
        "informational: [minimal.vs_latency_p99]",
        "informational: [minimal.error_rate, minimal.health, minimal.checks, " + _COMPARED + "]",
        "informational",
        "every guardrail",
        "drop one",
    ),
    "a margin of all there is": (
        "margins: {} ",
        "margins: {minimal.vs_errors: 100} ",
        "vs_errors",
        "less than 1",
        "corr",
    ),
    "a number that none reach": (
        "margins: {} ",
        "margins: {minimal.error_rate: 0} ",
        "error_rate",
        "than 0",
        "correct",
    ),
    "looks without end": ("look_s: 0.5", "look_s: 1.0e-300", "look_s", "greater than or equal to 0.05", "correct"),
}


@pytest.mark.parametrize("mistake", PLAN_MISTAKES.values(), ids=PLAN_MISTAKES)
def test_a_plans_policy_is_checked_key_by_key(mistake: tuple[str, ...], folder: Path):
    """Each planted mistake in rollout.yaml is told with its line, its key, what was expected, and the mend."""
    edit(folder / "objectives.yaml", "threshold: 200\n", "threshold: 200\n    severity: warning\n")
    old, new, key, found, mend = mistake
    edit(folder / "rollout.yaml", old, new)
    errors = spec.validate(folder)
    hits = [e for e in errors if key in e.key and found in e.message and mend in e.mend]
    assert hits, [str(error) for error in errors]
    assert re.fullmatch(r".*rollout.yaml:[1-9]\d*", hits[0].where), hits[0].where


def _plan(folder: Path) -> tuple[System, StagePlan]:
    system = spec.load_system(folder)
    return system, system.plans[0]


def test_a_policy_changes_what_it_names_and_nothing_else(folder: Path):
    """Every key of a policy file arrives in the plan; an empty one leaves the plan as it was."""
    system, plan = _plan(folder)
    changed = spec.apply_policy(folder / "policy.yaml", system, plan)
    assert (changed.alpha, changed.confidence, changed.interval_s, changed.proof) == (0.05, 0.95, 2.0, "each")
    assert (changed.rollback_on, changed.on_inconclusive) == (RollbackOn.BLOCKS, OnInconclusive.HOLD)
    assert dict(changed.margins) == {"minimal.vs_errors": 1.0, "minimal.latency_p95": 100.0}
    assert (dict(changed.weights), changed.informational) == ({"minimal.vs_errors": 3.0}, ("minimal.vs_wrong",))
    assert [(s.min_bake_s, s.max_bake_s) for s in changed.stages] == [(4, 9), (5, 20), (5, 30)]
    (folder / "policy.yaml").write_text("schema: 1\n")
    assert spec.apply_policy(folder / "policy.yaml", system, plan) == plan


JUDGED = ["minimal.error_rate", "minimal.vs_errors", "minimal.vs_quality", "minimal.latency_p95"]


@pytest.mark.parametrize("name", JUDGED)
@pytest.mark.parametrize("value", ["0", "1.0e-323", "1.0e-9", "99.999999", "100", "1.0e+300"])
def test_whatever_threshold_is_called_sound_can_be_judged(name: str, value: str, folder: Path):
    """In objectives.yaml and as a plan's margin: either a clear error, or a judge that takes it."""
    path = folder / "objectives.yaml"
    kept = path.read_text()
    head, tail = kept.split(f"\n  {name}:", 1)
    as_objective = head + f"\n  {name}:" + re.sub("threshold: [0-9.]+", f"threshold: {value}", tail, count=1)
    for text, margins in ((as_objective, "{}"), (kept, f"{{{name}: {value}}}")):
        path.write_text(text)
        edit(folder / "rollout.yaml", "margins: {} ", f"margins: {margins} ")
        if not spec.validate(folder):
            system = spec.load_system(folder)
            for plan in system.plans:
                Judge(system.objectives, plan)


def test_a_policys_margins_are_laid_over_the_plans_own(folder: Path):
    """A margin that the policy does not name stays the plan's."""
    edit(folder / "rollout.yaml", "margins: {} ", "margins: {minimal.vs_wrong: 4, minimal.vs_errors: 3} ")
    system, plan = _plan(folder)
    margins = dict(spec.apply_policy(folder / "policy.yaml", system, plan).margins)
    assert margins["minimal.vs_wrong"] == 4
    assert margins["minimal.vs_errors"] == 1


POLICY_MISTAKES = {
    "an unknown key": ("alpha: 0.05", "alfa: 0.05", "alfa", "unknown key", "`alpha`"),
    "no chance at all": ("alpha: 0.05", "alpha: 0", "alpha", "greater than 0", "correct"),
    "a number that is none": ("alpha: 0.05", "alpha: .nan", "alpha", "found nan", "correct"),
    "an interval of broken looks": ("interval_s: 2", "interval_s: 1.7", "interval_s", "multiple of look_s", "2"),
    "an unknown margin": ("{minimal.vs_errors: 1,", "{minimal.errors: 1,", "margins", "expected one of the", "minimal"),
    "a margin below 0": ("{minimal.vs_errors: 1,", "{minimal.vs_errors: -1,", "vs_errors", "0 or more", "correct"),
    "a margin of all there is": (
        "{minimal.vs_errors: 1,",
        "{minimal.vs_errors: 100,",
        "vs_errors",
        "less than 1",
        "corr",
    ),
    "a number that all reach": (
        "{minimal.vs_errors: 1,",
        "{minimal.error_rate: 100,",
        "error_rate",
        "than 100",
        "corr",
    ),
    "a number that none reach": (
        "{minimal.vs_errors: 1,",
        "{minimal.error_rate: 0,",
        "error_rate",
        "than 0",
        "correct",
    ),
    "a margin between two bounds": ("p95: 100}", "p95: 101}", "latency_p95", "latency_bounds_ms", "101"),
    "an unknown weight": ("{minimal.vs_errors: 3}", "{minimal.errors: 3}", "weights", "one of the obj", "minimal"),
    "a weight below 0": ("{minimal.vs_errors: 3}", "{minimal.vs_errors: -3}", "vs_errors", "found -3", "correct"),
    "information on nothing": ("[minimal.vs_wrong]", "[minimal.wrong]", "informational[0]", "guardrails", "vs_wrong"),
    "a stage of no plan": ('"10":', '"11":', "stages.11", "stages of plan quick", "10"),
    "bakes that cross": ("max_bake_s: 9", "max_bake_s: 3", "stages.10", "at least min_bake_s = 4", "give both"),
    "a minimum above the plan's maximum": ("max_bake_s: 9", "min_bake_s: 4", "stages.10", "twice", "keep one"),
    "no policy at all": (POLICY, "- 1\n", "", "found a list", "schema: 1"),
    "another format": ("schema: 1", "schema: 2", "schema", "found 2", "correct"),
}


@pytest.mark.parametrize("mistake", POLICY_MISTAKES.values(), ids=POLICY_MISTAKES)
def test_a_policy_file_is_checked_key_by_key(mistake: tuple[str, ...], folder: Path):
    """Each planted mistake in a policy is told with file, line, key, what was expected, and the mend: exit 2."""
    system, plan = _plan(folder)
    old, new, key, found, mend = mistake
    edit(folder / "policy.yaml", old, new)
    with pytest.raises(SpecError) as raised:
        spec.apply_policy(folder / "policy.yaml", system, plan)
    error = raised.value
    assert key in error.key
    assert found in error.message
    assert mend in error.mend
    assert re.fullmatch(r".*policy.yaml:[1-9]\d*", error.where), error.where


def test_a_policy_that_lowers_one_bake_is_held_to_the_plans_other(folder: Path):
    """A minimum above the plan's own maximum is refused though the policy does not name the maximum."""
    system, plan = _plan(folder)
    edit(folder / "policy.yaml", "{min_bake_s: 4, max_bake_s: 9}", "{min_bake_s: 7}")
    with pytest.raises(SpecError, match=r"found max_bake_s 6, expected at least min_bake_s = 7"):
        spec.apply_policy(folder / "policy.yaml", system, plan)


def test_a_calibration_is_read_back_as_it_was_written(folder: Path):
    """What is written for two plans is what is read, digit by digit."""
    one = Calibration(
        system="minimal", plan="quick", made_at="2026-03-01T12:00:00Z", interval_s=1.0, load_rate=60.0,
        intervals=960, windows=70, false_alarms=1, machine="2 cores: ü", dispersions=(
            Dispersion(objective="minimal.vs_errors", source="client", contest=1 / 3, level=1e-17,
                       intervals=960, informative=900),
            Dispersion(objective="minimal.vs_wrong", source="client", contest=0.0, level=2e5,
                       intervals=0, informative=0),
        ),
    )  # fmt: skip
    path = folder / "calibration.yaml"
    path.write_text(spec.calibration_text({"quick": one}), encoding="utf-8")
    assert spec.load_calibrations(path, "minimal", folder) == {"quick": one}
    assert spec.load_calibrations(folder / "none.yaml", "minimal", folder) == {}
    assert spec.validate(folder) == []


CALIBRATION_MISTAKES = {
    "malformed": ("plans:\n", "plans: [\n", "", "no YAML", "syntax"),
    "an unknown key": ("machine:", "machines:", "plans.quick.machines", "unknown key", "`machine`"),
    "noise that is no number": ("contest: 0.25", "contest: .nan", "client.contest", "found nan", "correct"),
    "noise without end": ("level: 0.5", "level: .inf", "client.level", "found inf", "correct"),
    "noise below nothing": ("contest: 0.25", "contest: -0.25", "client.contest", "greater than or equal", "correct"),
    "another system's": ("system: minimal", "system: other", "system", "expected `minimal`", "rollgate calibrate"),
    "a plan that is gone": ("  quick:", "  quack:", "plans.quack", "plans of rollout.yaml", "`quick`"),
    "an objective that is gone": ("vs_errors:", "vs_erors:", "vs_erors", "one of the objectives", "vs_errors`"),
    "a source that is none": ("client:", "clients:", "clients", "'client' or 'prometheus'", "correct"),
    "more alarms than windows": ("false_alarms: 0", "false_alarms: 71", "false_alarms", "windows = 70", "again"),
    "a date that is none": ("2026-03-01T12:00:00Z", "yesterday", "made_at", "found 'yesterday'", "correct"),
    "a day that is none": ("2026-03-01T", "2026-02-30T", "made_at", "no such moment", "again"),
    "a date without a zone": ("12:00:00Z", "12:00:00", "made_at", "expected a moment in UTC", "correct"),
    "no rate": ("load_rate: 60", "load_rate: 0", "load_rate", "greater than 0", "correct"),
    "half an interval": ("intervals: 960", "intervals: 960.5", "intervals", "valid integer", "correct"),
}


@pytest.mark.parametrize("mistake", CALIBRATION_MISTAKES.values(), ids=CALIBRATION_MISTAKES)
def test_a_calibration_is_checked_key_by_key(mistake: tuple[str, ...], folder: Path):
    """Each planted mistake is told by validate and by the reader alike: file, line, key, expected, mend."""
    old, new, key, found, mend = mistake
    edit(folder / "calibration.yaml", old, new)
    errors = spec.validate(folder)
    hits = [e for e in errors if key in e.key and found in e.message and mend in e.mend]
    assert hits, [str(error) for error in errors]
    assert re.fullmatch(r".*calibration.yaml:[1-9]\d*", hits[0].where), hits[0].where
    with pytest.raises(SpecError) as raised:
        spec.load_calibrations(folder / "calibration.yaml", "minimal", folder)
    assert raised.value.exit_code == 2


def test_compressed_time_keeps_a_judging_interval_a_whole_number_of_looks():
    """A plan whose looks cannot get shorter keeps intervals that its evidence can fill; real time changes nothing."""
    plan = next(p for p in spec.load_system(MINIMAL).plans if p.name == "quick")
    assert compressed(plan, 1) == plan
    slow = replace(plan, look_s=5.0, interval_s=15.0)
    assert (compressed(slow, 2).look_s, compressed(slow, 2).interval_s) == (2.5, 7.5)
    tiny = compressed(slow, 100)
    assert (tiny.look_s, tiny.interval_s) == (0.5, 0.5)
    odd = compressed(slow, 12)
    assert (odd.look_s, odd.interval_s) == (0.5, 1.5)


@pytest.mark.parametrize("kind, text", [("policy", POLICY), ("calibration", CALIBRATION)])
def test_the_published_schemas_accept_policies_and_calibrations(kind: str, text: str, tmp_path: Path):
    """Editors see the format that the reader checks by, and refuse a key that it has not."""
    (tmp_path / "f.yaml").write_text(text)
    data = read_document(tmp_path / "f.yaml").data
    assert isinstance(data, dict)
    Draft202012Validator(spec.json_schemas()[kind]).validate(data)
    with pytest.raises(ValidationError):
        Draft202012Validator(spec.json_schemas()[kind]).validate(data | {"unknown": 1})
