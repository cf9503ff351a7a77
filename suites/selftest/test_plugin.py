"""The pytest plugin: marks become properties, cases become lines, and what does not fit is dropped or skipped aloud."""

import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.adapters.suites import read_cases
from harness.paths import share_root

pytestmark = pytest.mark.selftest

pytest_plugins = ["pytester"]
Run = Callable[..., pytest.RunResult]
MINIMAL = share_root() / "stack" / "systems" / "minimal"


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run pytest on a module's text in a folder of its own, in a process of its own, with the plugin alone."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def go(text: str, *args: str) -> pytest.RunResult:
        pytester.makepyfile(test_it=text)
        pytester.makeini("[pytest]\nfilterwarnings = error\n")
        return pytester.runpytest_subprocess("-p", "harness.pytest_plugin", "-p", "no:cacheprovider", *args)

    return go


def described(pytester: pytest.Pytester, **more: object) -> str:
    """Write a stack.json that names the minimal system; nothing runs behind it."""
    path = pytester.path / "stack.json"
    path.write_text(json.dumps({"system_root": str(MINIMAL), "provider": "native", **more}))
    return str(path)


def properties(path: Path) -> dict[str, list[tuple[str, str]]]:
    """Return the properties of each case of a junit.xml."""
    return {
        str(case.get("name")): [(str(p.get("name")), str(p.get("value"))) for p in case.iter("property")]
        for case in ET.parse(path).iter("testcase")  # noqa: S314 - our own file
    }


def outcomes(path: Path) -> dict[str, tuple[str, str]]:
    """Return outcome and message of each case of a junit.xml."""
    found: dict[str, tuple[str, str]] = {}
    for case in ET.parse(path).iter("testcase"):  # noqa: S314 - our own file
        verdicts = [child for child in case if child.tag in {"failure", "error", "skipped"}]
        said = [(child.tag, f"{child.get('message')} {child.text}") for child in verdicts]
        found[str(case.get("name"))] = said[0] if said else ("passed", "")
    return found


def test_a_covers_mark_becomes_properties_of_junit(run: Run, pytester: pytest.Pytester):
    """Each id of a mark stands in junit.xml with its level, once."""
    run(
        """
        import pytest
        @pytest.mark.covers("aa.one", "aa.two")
        @pytest.mark.covers("aa.three", "aa.one", level="static")
        def test_a(): pass
        """,
        "--junitxml=junit.xml",
    ).assert_outcomes(passed=1)
    assert properties(pytester.path / "junit.xml")["test_a"] == [
        ("covers", "aa.three"), ("covers_level", "static"), ("covers", "aa.one"), ("covers_level", "static"),
        ("covers", "aa.two"), ("covers_level", "live"),
    ]  # fmt: skip


@pytest.mark.parametrize("mark", ["covers()", 'covers("a.b", level="best")', "covers(1)", 'covers("a.b", lvl="live")'])
def test_a_covers_mark_that_says_nothing_is_refused(mark: str, run: Run):
    """No id, an unknown level, a number or an unknown key is a usage error that names the test."""
    result = run(f"import pytest\n@pytest.mark.{mark}\ndef test_a(): pass\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*test_it.py::test_a: found covers*expected ids and a level*"])


def test_finished_cases_are_written_as_lines(run: Run, pytester: pytest.Pytester):
    """Outcome, message, ids, level and arm of each case are on disk, and a footer ends the file."""
    run(
        """
        import pytest
        @pytest.fixture
        def broken(): raise RuntimeError("no set-up")
        @pytest.mark.covers("aa.one", level="static")
        def test_passes(): pass
        @pytest.mark.arm("candidate")
        def test_fails(): assert 1 == 2, "one is not two"
        @pytest.mark.parametrize("arm", ["baseline"])
        def test_skips(arm): pytest.skip("not here")
        def test_errs(broken): pass
        """,
        "--rollgate-cases=cases.jsonl",
    )
    cases, ended = read_cases(pytester.path / "cases.jsonl")
    assert ended
    found = {case.name.partition("::")[2]: case for case in cases}
    assert {name: case.outcome for name, case in found.items()} == {
        "test_passes": "passed", "test_fails": "failed", "test_skips[baseline]": "skipped", "test_errs": "error",
    }  # fmt: skip
    assert (found["test_passes"].covers, found["test_passes"].level) == (("aa.one",), "static")
    assert found["test_fails"].arm == "candidate"
    assert "one is not two" in found["test_fails"].message
    assert (found["test_skips[baseline]"].arm, found["test_skips[baseline]"].message) == ("baseline", "not here")
    assert "no set-up" in found["test_errs"].message


def test_a_process_that_dies_leaves_no_footer(run: Run, pytester: pytest.Pytester):
    """Cases that ended before a crash are there; the missing footer says that more was meant to come."""
    run("import os\ndef test_a(): pass\ndef test_b(): os._exit(3)\n", "--rollgate-cases=cases.jsonl")
    cases, ended = read_cases(pytester.path / "cases.jsonl")
    assert [case.outcome for case in cases] == ["passed"]
    assert not ended


def test_a_module_that_cannot_be_imported_is_an_error_case(run: Run, pytester: pytest.Pytester):
    """A suite that does not load is never a pass."""
    run("import nowhere_to_be_found\n", "--rollgate-cases=cases.jsonl")
    cases, ended = read_cases(pytester.path / "cases.jsonl")
    assert ended
    assert [case.outcome for case in cases] == ["error"]
    assert "nowhere_to_be_found" in cases[0].message


STACK = """
import pytest
@pytest.fixture
def stack(): return "a stack"
"""


def conforming(pytester: pytest.Pytester, **system: str) -> str:
    """Write a stack.json whose system names the test's own folder as a suite."""
    root = Path(shutil.copytree(MINIMAL, pytester.path / "minimal"))
    text = (root / "system.yaml").read_text().replace("suites: [conformance]", "suites: [own]")
    for old, new in system.items():
        text = text.replace(old, new)
    (root / "system.yaml").write_text(text)
    (root / "own").mkdir()
    return described(pytester, system_root=str(root))


def test_what_the_inventory_lacks_is_deselected(run: Run, pytester: pytest.Pytester):
    """A case about a service that the system does not declare, or about flags that it has not, is not collected."""
    stack = conforming(pytester)
    own = pytester.path / "minimal" / "own" / "test_own.py"
    own.write_text(
        STACK
        + """
@pytest.mark.service("app")
def test_app(stack): pass
@pytest.mark.service("redis")
def test_redis(stack): pass
@pytest.mark.service("app", "redis")
def test_both(stack): pass
@pytest.mark.flags
def test_flags(stack): pass
"""
    )
    run("", "--stack-file", stack, str(own)).assert_outcomes(passed=1, deselected=3)


def test_a_suite_that_the_system_does_not_name_is_deselected(run: Run, pytester: pytest.Pytester):
    """Cases on a stack run where system.yaml's `suites` names them; a plain test always does."""
    stack = conforming(pytester)
    run(STACK + "def test_a(stack): pass\ndef test_b(): pass\n", "--stack-file", stack).assert_outcomes(
        passed=1, deselected=1
    )


def test_a_service_that_is_not_on_this_provider_is_skipped_with_the_reason(run: Run, pytester: pytest.Pytester):
    """What the inventory says is not there on a provider is skipped, and the skip says why."""
    stack = conforming(
        pytester, **{"    under_release: true": "    under_release: true\n    not_on: {native: too big}"}
    )
    own = pytester.path / "minimal" / "own" / "test_own.py"
    own.write_text(STACK + '@pytest.mark.service("app")\ndef test_app(stack): pass\n')
    result = run("", "--stack-file", stack, "-rs", str(own))
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*app does not run on native: too big*"])


def test_cases_run_once_for_each_arm_the_baseline_first(run: Run, pytester: pytest.Pytester):
    """`arm` takes both arms, all of the baseline's cases before the candidate's: a fault of both is the baseline's."""
    stack = conforming(pytester)
    own = pytester.path / "minimal" / "own" / "test_own.py"
    own.write_text(STACK + "def test_a(stack, arm): pass\ndef test_b(stack, arm): pass\n")
    run("", "--stack-file", stack, "--rollgate-cases=cases.jsonl", str(own)).assert_outcomes(passed=4)
    cases, _ = read_cases(pytester.path / "cases.jsonl")
    assert [case.arm for case in cases] == ["baseline"] * 2 + ["candidate"] * 2


@pytest.mark.parametrize("kind, level", [("real", "live"), ("stand_in", "simulated")])
def test_what_a_stand_in_shows_is_only_simulated(kind: str, level: str, run: Run, pytester: pytest.Pytester):
    """conformance.yaml gives a service's cases their ids; on a stand-in they prove no more than `simulated`."""
    stack = conforming(pytester)
    root = pytester.path / "minimal"
    (root / "conformance.yaml").write_text("schema: 1\nservices: {app: {covers: [aa.svc.app]}}\n")
    own = root / "own" / "test_own.py"
    own.write_text(STACK + '@pytest.mark.service("app", "router")\ndef test_app(stack): pass\n')
    told = json.loads(Path(stack).read_text()) | {"services": [{"name": "app", "kind": kind}]}
    Path(stack).write_text(json.dumps(told))
    run("", "--stack-file", stack, "--junitxml=junit.xml", str(own)).assert_outcomes(passed=1)
    assert properties(pytester.path / "junit.xml")["test_app"] == [("covers", "aa.svc.app"), ("covers_level", level)]


def test_without_a_system_nothing_starts_and_the_skip_says_what_to_name(run: Run):
    """A bare run skips what needs a stack or a gate, and says which option is missing."""
    result = run(STACK + "def test_a(stack): pass\ndef test_b(): pass\n", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*add --system NAME*"])


def test_a_wrong_system_is_one_line(run: Run):
    """A name that no system has ends the run with the spec's own line, not with a traceback."""
    result = run(STACK + "def test_a(stack): pass\n", "--system", "minimla")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*did you mean `minimal`*"])
    assert "Traceback" not in result.stderr.str()


GATE = """
import pytest
from types import SimpleNamespace as Some
from harness import wiring
from harness.model.errors import EnvironmentProblem
from harness.model.status import Cause, Decision, Status
from harness.ports import Case

RUNS = []

def judged(name, status):
    return Some(id=name, status=status, reason="because", source="client")

@pytest.fixture(scope="session", autouse=True)
def one_gate():
    yield
    assert len(RUNS) == 1, RUNS

def gate(system, **options):
    RUNS.append(options)
    CRASH
    verdict = Some(
        decision=Decision.PROMOTE, cause=Cause.PROOF, reason="", services=(),
        judgements=[judged("minimal.error_rate", Status.PASS), judged("minimal.latency_p95", Status.FAIL),
                    judged("minimal.health", Status.NOT_APPLICABLE), judged("minimal.checks", Status.ERROR)],
        stages=[Some(id="10", n_candidate=5, status=Status.PASS, reason="")],
    )
    cases = [
        Case(name="suites/conformance/test_health.py::test_what_both_arms_share_is_well", outcome="failed",
             covers=(), message="the probe said no", seconds=0.1),
        Case(name="suites/conformance/test_routing.py::test_the_router_sees_the_arm[baseline]", outcome="passed",
             covers=(), message="", seconds=0.1),
    ]
    return Some(verdict=verdict, exit_code=0, out=None, cases=cases)

wiring.run_gate = gate
"""


def staging(pytester: pytest.Pytester, crash: str = "") -> pytest.RunResult:
    """Run the staging and conformance suites of this tree on a gate that is played."""
    pytester.makepyfile(played=GATE.replace("CRASH", crash or "pass"))
    suites = share_root() / "suites"
    return pytester.runpytest_subprocess(
        *(
            "-p",
            "played",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            str(share_root()),
            "-c",
            str(share_root() / "pyproject.toml"),
        ),
        *("--system", "minimal", "-m", "staging", "-rA", "--junitxml", str(pytester.path / "junit.xml")),
        *(str(suites / "staging"), str(suites / "conformance")),
    )


def test_one_gate_answers_every_objective_stage_and_case(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Objectives, stages and conformance cases are tests of their own; the gate behind them runs once."""
    monkeypatch.setenv("PYTHONPATH", str(pytester.path))
    staging(pytester)
    said = outcomes(pytester.path / "junit.xml")
    for name, outcome, message in (
        ("test_objective[minimal.error_rate]", "passed", ""),
        ("test_stage[10]", "passed", ""),
        ("test_promotes", "passed", ""),
        ("test_the_router_sees_the_arm[baseline]", "passed", ""),
        ("test_objective[minimal.latency_p95]", "failure", "p95 latency <= 200 ms: client: fail because"),
        ("test_objective[minimal.checks]", "failure", "error because"),
        ("test_objective[minimal.vs_errors]", "failure", "no judgement of minimal.vs_errors"),
        ("test_objective[minimal.health]", "skipped", "not applicable: because"),
        ("test_stage[50]", "failure", "never reached"),
        ("test_what_both_arms_share_is_well", "failure", "the probe said no"),
        ("test_the_read_back_agrees_with_the_traffic", "failure", "ended before this case ran"),
    ):
        assert said[name][0] == outcome, (name, said[name])
        assert message in said[name][1], (name, said[name])
    found = properties(pytester.path / "junit.xml")["test_objective[minimal.error_rate]"]
    assert found == [("covers", "minimal.error_rate"), ("covers_level", "live")]


def test_a_gate_that_cannot_run_fails_every_test_with_its_own_line(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
):
    """An environment problem is never a pass, is told without a traceback, and is not tried again by each test."""
    monkeypatch.setenv("PYTHONPATH", str(pytester.path))
    result = staging(pytester, 'raise EnvironmentProblem("no haproxy anywhere", mend="install it")')
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "passed" not in result.parseoutcomes()
    result.stdout.fnmatch_lines(["*no haproxy anywhere*install it*"])


def test_collecting_starts_nothing(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """`--collect-only` lists every objective by its id, and runs no gate."""
    monkeypatch.setenv("PYTHONPATH", str(pytester.path))
    pytester.makepyfile(played=GATE.replace("CRASH", 'raise AssertionError("a gate was started")'))
    result = pytester.runpytest_subprocess(
        *("-p", "played", "-p", "no:cacheprovider", "--collect-only", "-q", "-c", str(share_root() / "pyproject.toml")),
        *(
            "--system",
            "minimal",
            "-m",
            "staging",
            "--rootdir",
            str(share_root()),
            str(share_root() / "suites" / "staging"),
        ),
    )
    result.stdout.fnmatch_lines(["*test_objective?minimal.error_rate?", "*test_stage?50?"])
    assert "a gate was started" not in result.stdout.str()
