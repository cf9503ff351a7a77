"""The suites' adapter and the conformance cases: a crash is one error case, and no case passes on a stack of liars."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest

from harness import spec
from harness.adapters.suites import PytestSuites, read_cases
from harness.model.system import System
from harness.paths import share_root
from harness.ports import Case, Stack
from harness.pytest_plugin.selection import absence

pytestmark = pytest.mark.selftest

SYSTEMS = share_root() / "stack" / "systems"
NOBODY = 2**31 - 1  # no process has this id
NO_STACK = cast("Stack", None)  # the child reads stack.json


LIES = {
    "status": "success",
    "data": {"activeTargets": [], "groups": [], "yaml": ""},
    "models": [],
    "documents": [],
}


class Liar(BaseHTTPRequestHandler):
    """Answers everything with 200 and nothing of use, and says that it is another arm."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        body = json.dumps(LIES).encode()
        self.send_response(200)
        self.send_header("X-Arm", "nobody")
        self.send_header("X-Version", "0")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer  # noqa: N815 - the standard library's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def liar() -> Iterator[str]:
    """The address of a server of lies."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def describe(out: Path, system: System, address: str) -> None:
    """Write a stack.json in which every service of `system` stands at `address`."""
    secrets = {name: str(out / name) for name in system.secrets}
    for path in secrets.values():
        Path(path).write_text("secret")
    (out / "flags.json").write_text(json.dumps({flag.name: 0 for flag in system.flags}))
    arms = ["baseline", "candidate"]
    instances = [
        {
            "name": service.name, "service": service.name, "arm": arm, "log": str(out / "none.log"),
            "addresses": {name: address for name, _ in service.ports}, "keeper": NOBODY, "ready_s": None,
        }
        for service in system.services
        for arm in (arms if service.per_arm else [None])
    ]  # fmt: skip
    socket = {"socket": str(out / "no.sock"), "map_file": "x", "map_name": "x", "lease_port": 1}
    description = {
        "schema": 1, "run_id": "lies", "system": system.name, "system_root": str(system.root), "provider": "native",
        "time_scale": 60, "entry": address, "gateway": system.traffic.gateway,
        "headers": {"session": "X-Session-ID", "force": "X-Rollgate-Arm", "arm": "X-Arm", "version": "X-Version"},
        "arms": {arm: {"release": arm, "version": "1"} for arm in arms}, "instances": instances, "services": [],
        "secrets": secrets, "flags_file": str(out / "flags.json"), "router": socket,
    }  # fmt: skip
    (out / "stack.json").write_text(json.dumps(description))


def own_suite(tmp_path: Path, text: str) -> System:
    """Return the minimal system with one suite of its own."""
    root = Path(shutil.copytree(SYSTEMS / "minimal", tmp_path / "minimal"))
    (root / "system.yaml").write_text((root / "system.yaml").read_text().replace("[conformance]", "[own]"))
    (root / "own").mkdir()
    (root / "own" / "test_own.py").write_text(f"import pytest\npytestmark = pytest.mark.smoke\n{text}")
    system = spec.load_system(root)
    describe(tmp_path, system, "127.0.0.1:1")
    return system


def test_no_conformance_case_passes_on_a_stack_of_liars(tmp_path: Path, liar: str):
    """Every case of suites/conformance rejects a service that answers 200 and nothing of use: none is vacuous."""
    system = spec.load_system(SYSTEMS / "researchflow")
    describe(tmp_path, system, liar)
    cases = PytestSuites(system, out=tmp_path).run(NO_STACK, "smoke")
    assert len(cases) > 60
    assert [case.name for case in cases if case.outcome == "passed"] == []
    left_out = {case.name.partition("[")[2][:-1] for case in cases if case.outcome == "skipped"}
    assert left_out == {service.name for service in system.services if absence(service, "native")}
    assert {case.outcome for case in cases} == {"failed", "error", "skipped"}


def test_cases_come_back_with_arm_ids_and_message(tmp_path: Path):
    """What the child found is what the gate gets; junit.xml stands in the run's folder, the output in its logs."""
    system = own_suite(
        tmp_path,
        """
@pytest.mark.covers("aa.one")
def test_good(stack, arm): pass
def test_bad(stack, arm): assert arm == "baseline", "the candidate is another"
@pytest.mark.conformance
def test_skipped(stack): pytest.skip("no need")
""",
    )
    cases = PytestSuites(system, out=tmp_path).run(NO_STACK, "smoke")
    found = {case.name.rpartition("::")[2]: case for case in cases}
    assert {name: case.outcome for name, case in found.items()} == {
        "test_good[baseline]": "passed", "test_good[candidate]": "passed", "test_bad[baseline]": "passed",
        "test_bad[candidate]": "failed", "test_skipped": "skipped",
    }  # fmt: skip
    assert (found["test_good[candidate]"].arm, found["test_good[candidate]"].covers) == ("candidate", ("aa.one",))
    assert "the candidate is another" in found["test_bad[candidate]"].message
    assert (tmp_path / "suites" / "junit.xml").exists()
    assert "test_bad" in (tmp_path / "logs" / "suites.log").read_text()


def test_the_expression_chooses_the_cases(tmp_path: Path):
    """Markers choose; where nothing matches, that is an error: no data never passes."""
    suites = PytestSuites(own_suite(tmp_path, "@pytest.mark.gpu\ndef test_a(stack): pass\n"), out=tmp_path)
    assert [case.outcome for case in suites.run(NO_STACK, "smoke and gpu")] == ["passed"]
    (nothing,) = suites.run(NO_STACK, "smoke and docker")
    assert (nothing.outcome, "no case of own" in nothing.message) == ("error", True)


@pytest.mark.parametrize(
    "text, says, kept",
    [
        ("import os\ndef test_a(stack): pass\ndef test_b(stack): os._exit(7)\n", "ended with 7", 1),
        ("import os, signal\ndef test_a(stack): os.kill(os.getpid(), signal.SIGKILL)\n", "SIGKILL", 0),
        ("def test_a(stack) pass\n", "SyntaxError", 0),
        ("import nowhere_at_all\n", "nowhere_at_all", 0),
        ("@pytest.mark.covers()\ndef test_a(stack): pass\n", "ended with 4", 0),
    ],
    ids=["exit", "kill", "syntax", "import", "usage"],
)
def test_a_crash_of_the_child_is_an_error_case(text: str, says: str, kept: int, tmp_path: Path):
    """However the child ends, what was finished is kept and one error case says how it ended; nothing is raised."""
    cases = PytestSuites(own_suite(tmp_path, text), out=tmp_path).run(NO_STACK, "smoke")
    assert [case.outcome for case in cases[:kept]] == ["passed"] * kept
    assert cases[kept:]
    assert all(case.outcome == "error" for case in cases[kept:])
    assert any(says in case.message for case in cases[kept:]), [case.message for case in cases]


def test_a_suite_that_hangs_is_ended_in_time(tmp_path: Path):
    """After its time bound the child is ended, and that is an error case."""
    system = own_suite(tmp_path, "import time\ndef test_a(stack): time.sleep(60)\n")
    began = time.monotonic()
    (case,) = PytestSuites(system, out=tmp_path, max_seconds=2.5).run(NO_STACK, "smoke")
    assert time.monotonic() - began < 15
    assert (case.outcome, "did not end within 2.5 s" in case.message) == ("error", True)


def test_a_run_of_the_suites_is_ended_on_request_at_once(tmp_path: Path):
    """A case that hangs, and a word that comes while it does: one error case, long before the time bound."""
    system = own_suite(tmp_path, "import time\ndef test_a(stack): time.sleep(60)\n")
    asked: list[float] = []

    def stop() -> bool:
        asked.append(time.monotonic())
        return len(asked) > 3

    (case,) = PytestSuites(system, out=tmp_path).run(NO_STACK, "smoke", stop=stop)
    assert time.monotonic() - asked[-1] < 2
    assert (case.outcome, "ended on request" in case.message) == ("error", True)


def test_a_missing_stack_file_is_an_error_case(tmp_path: Path):
    """Without stack.json no case can pass."""
    system = own_suite(tmp_path, "def test_a(stack): pass\n")
    (tmp_path / "stack.json").unlink()
    cases = PytestSuites(system, out=tmp_path).run(NO_STACK, "smoke")
    assert cases
    assert all(case.outcome == "error" for case in cases)


def test_a_suite_that_is_not_there_is_an_error_case(tmp_path: Path):
    """A path under suites/ that does not exist is never a pass."""
    system = replace(own_suite(tmp_path, ""), suites=("nowhere",))
    (case,) = PytestSuites(system, out=tmp_path).run(NO_STACK, "smoke")
    assert case.outcome == "error"


@pytest.mark.parametrize(
    "lines",
    [
        ['{"name": "a"}'],
        ["{torn"],
        ['{"name": "a", "outcome": "passed", "covers": [], "message": "", "seconds": "x", "arm": "", "level": "live"}'],
    ],
)
def test_a_torn_line_ends_the_cases_without_a_footer(lines: list[str], tmp_path: Path):
    """What cannot be read is not taken for a result, and the file counts as a crash's."""
    path = tmp_path / "cases.jsonl"
    path.write_text("\n".join([*lines, '{"end": 0}']))
    cases, ended = read_cases(path)
    assert cases == list[Case]()
    assert not ended
