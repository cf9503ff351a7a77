"""The conformance cases of flags reject an application that applies them wrongly: each wrong way by the flag's name."""

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import pytest

from harness import spec
from harness.adapters.flags_file import FileFlags, write_flags
from harness.paths import share_root
from harness.planning.flags import BUCKETS, bucket, effective_shares, limit
from rollgate_gateway.flags import Definitions, LiveFlags

pytestmark = pytest.mark.selftest

pytest_plugins = ["pytester"]

SUITE = share_root() / "suites" / "conformance" / "test_flags_live.py"
ROOT = spec.find_system("researchflow")
FLAGS = spec.load_system(ROOT).flags
NAMES = [flag.name for flag in FLAGS]
CHILD, PARENT, LONER = "batch_inference", "ai_inference", "advanced_monitoring"
Apply = Callable[[Mapping[str, float], str], list[str]]


@pytest.fixture(scope="module")
def suite() -> ModuleType:
    """The suite's module."""
    found = importlib.util.spec_from_file_location("flags_live_suite", SUITE)
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # a dataclass looks its module up
    found.loader.exec_module(module)
    return module


def failing(suite: ModuleType, apply: Apply) -> set[str]:
    """Return the flags whose case fails on an application that gives sessions the features that `apply` says."""
    shares = dict.fromkeys(NAMES, 0.0)
    rounds = suite.ask_all(FLAGS, shares.__setitem__, lambda session: apply(shares, session))
    return at_fault(suite, rounds)


def at_fault(suite: ModuleType, rounds: object) -> set[str]:
    """Return the flags whose case fails."""
    return {name for name in NAMES if suite.faults(FLAGS, name, rounds)}


def right(shares: Mapping[str, float], session: str) -> list[str]:
    """Apply the flags as they must be."""
    return [name for name, share in effective_shares(FLAGS, shares).items() if bucket(session) < limit(share)]


def test_the_gateways_own_code_passes(suite: ModuleType, tmp_path: Path):
    """The negative control: the application's reading of a live file and of flags.json, without its servers."""
    path = tmp_path / "live.json"
    write_flags(path, dict.fromkeys(NAMES, 0.0))
    live = LiveFlags(path, Definitions.read(ROOT / "flags.json"), {})
    rounds = suite.ask_all(FLAGS, FileFlags(path).set, lambda session: list(live.features(session)))
    assert at_fault(suite, rounds) == set()


def without(name: str) -> Apply:
    """An application that never has one of the features."""
    return lambda shares, session: [one for one in right(shares, session) if one != name]


def always(name: str) -> Apply:
    """An application that has one of the features whatever its flag says."""
    return lambda shares, session: [*right(shares, session), name]


@pytest.mark.parametrize("wrong", [without, always])
@pytest.mark.parametrize("name", NAMES)
def test_a_flag_that_is_not_obeyed_fails_its_own_case_alone(
    name: str, wrong: Callable[[str], Apply], suite: ModuleType
):
    """Always off, or always on: the case of that flag and no other."""
    assert failing(suite, wrong(name)) == {name}


def off_by(percent: float) -> Apply:
    """An application whose shares are a little wrong."""
    return lambda shares, session: right({name: share + percent for name, share in shares.items()}, session)


WRONG: dict[str, Apply] = {
    "another hash": lambda shares, session: [n for n in NAMES if len(session) * 997 % BUCKETS < limit(shares[n])],
    "a hash for each flag": lambda shares, session: [
        name for name in NAMES if bucket(name + session) < limit(effective_shares(FLAGS, shares)[name])
    ],
    "parents are not looked at": lambda shares, session: [n for n in NAMES if bucket(session) < limit(shares[n])],
    "shares a fifth of a percent too high": off_by(0.2),
    "shares a fifth of a percent too low": off_by(-0.2),
    "the file is not read again": lambda _, session: right(dict.fromkeys(NAMES, 50.0), session),
}


@pytest.mark.parametrize("way", WRONG)
def test_a_wrong_way_to_apply_flags_is_rejected(way: str, suite: ModuleType):
    """Each wrong way fails the case of a child at least; the right way fails none."""
    assert CHILD in failing(suite, WRONG[way])
    assert failing(suite, right) == set()


def test_children_on_their_own_shares_are_told_apart_from_their_parents(suite: ModuleType):
    """Not looking at parents fails every child and neither parent nor stranger, and is seen in single answers."""
    assert failing(suite, WRONG["parents are not looked at"]) == set(NAMES) - {PARENT, LONER}
    shares = dict.fromkeys(NAMES, 0.0)
    for apply, seen in ((WRONG["parents are not looked at"], True), (right, False)):
        rounds = suite.ask_all(FLAGS, shares.__setitem__, lambda session, apply=apply: apply(shares, session))
        assert bool(suite.orphans(FLAGS, rounds)) == seen


def test_the_sessions_that_are_asked_lie_at_the_shares_ends(suite: ModuleType):
    """A tenth of a percent on either side; a share of 0 has nobody below it."""
    sessions = suite.sessions_at([0, 1500, 10_000])
    assert sorted(bucket(one) // 10 for one in sessions) == [0, 149, 150, 999]
    assert len(suite.sessions_at([])) == 0


def test_few_questions_are_asked(suite: ModuleType):
    """Fewer than one known-bad release waits for before its first error: the gate's smoke stays a smoke."""
    shares = suite.shares_of_rounds(FLAGS)
    asked = [suite.sessions_at({limit(one) for one in effective_shares(FLAGS, s).values()}) for s in shares]
    assert sum(map(len, asked)) <= 20


OWN = """
import pytest
@pytest.fixture
def stack(): return "a stack"
@pytest.mark.flags
def test_a(stack, flag, arm, request):
    assert {i for m in request.node.iter_markers("covers") for i in m.args} == {"rf.flag." + flag}
"""


def test_each_flag_is_a_case_on_each_arm_that_bears_its_ids(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Of the system that ships; one whose conformance.yaml names no ids has cases without."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    root = Path(shutil.copytree(ROOT, pytester.path / "system"))
    text = (root / "system.yaml").read_text()
    (root / "system.yaml").write_text(text.replace("suites: [conformance]", "suites: [own]"))
    (root / "own").mkdir()
    (root / "own" / "test_own.py").write_text(OWN)
    stack = pytester.path / "stack.json"
    stack.write_text(json.dumps({"system_root": str(root), "provider": "native"}))
    arguments = ("-p", "harness.pytest_plugin", "-p", "no:cacheprovider", "--stack-file", str(stack), str(root / "own"))
    pytester.runpytest_subprocess(*arguments).assert_outcomes(passed=2 * len(NAMES))
    (root / "conformance.yaml").unlink()
    pytester.runpytest_subprocess(*arguments).assert_outcomes(failed=2 * len(NAMES))
