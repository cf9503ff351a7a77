"""The run's files: whole, complete, free of secrets, and none lost because another failed."""

import json
import math
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from jsonschema import Draft202012Validator
from report_runs import OBJECTIVES, SECRET, MadeRun, made_run

from harness.model.status import Status
from harness.ports import Case
from harness.report import kept, verdict_schema
from harness.report.files import Written, write_again, write_all
from harness.report.redact import MASK, redact

pytestmark = pytest.mark.selftest

_FILES = ["verdict.json", "report.json", "summary.md", "junit.xml", "allure-results", "report.html"]


def _write(run: MadeRun, out: Path) -> Written:
    return write_all(
        run.verdict,
        out,
        evidence=run.evidence,
        cases=run.cases,
        log_tails=run.log_tails,
        events=run.events,
        objectives=OBJECTIVES,
    )


def _cases(out: Path) -> dict[str, ET.Element]:
    return {case.get("name", ""): case for case in ET.parse(out / "junit.xml").getroot().iter("testcase")}  # noqa: S314 - our own file


def _covers(case: ET.Element) -> list[str | None]:
    return [p.get("value") for p in case.iter("property") if p.get("name") == "covers"]


@pytest.mark.parametrize("bad", [False, True])
def test_every_file_is_written_and_nothing_else_is_left(tmp_path: Path, *, bad: bool) -> None:
    """Six results, no temporary files, a verdict that holds to its schema."""
    written = _write(made_run(bad=bad), tmp_path)

    assert written.problems == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(_FILES)
    doc = json.loads((tmp_path / "verdict.json").read_text(encoding="utf-8"))
    Draft202012Validator(verdict_schema()).validate(doc)


def test_a_failing_listener_loses_no_other_file(tmp_path: Path) -> None:
    """report.html cannot be written (a folder is in its place): the other five are there, and it is named."""
    (tmp_path / "report.html").mkdir()
    (tmp_path / "report.html" / "occupied").touch()

    written = _write(made_run(), tmp_path)

    assert [p.partition(":")[0] for p in written.problems] == ["report.html"]
    assert sorted(path.name for path in written.files) == sorted(set(_FILES) - {"report.html"})


def test_a_verdict_that_contradicts_itself_is_no_verdict_json(tmp_path: Path) -> None:
    """A planted promotion with failing status: kept aside, named as a problem, verdict.json absent."""
    run = made_run()

    written = _write(replace(run, verdict=replace(run.verdict, status=Status.FAIL)), tmp_path)

    assert len(written.problems) == 1
    assert "breaks its schema" in written.problems[0]
    assert not (tmp_path / "verdict.json").exists()
    assert (tmp_path / "verdict.rejected.json").exists()


def test_a_verdict_that_json_cannot_hold_leaves_the_page_to_read(tmp_path: Path) -> None:
    """NaN in the verdict: no verdict.json, but a report.html."""
    run = made_run()

    written = _write(replace(run, verdict=replace(run.verdict, time_scale=math.nan)), tmp_path)

    assert any(problem.startswith("verdict.json") for problem in written.problems)
    assert (tmp_path / "report.html").exists()


def test_junit_tells_statuses_apart_and_names_what_it_covers(tmp_path: Path) -> None:
    """Fail and inconclusive are failures of their type, error an error, not applicable skipped with the reason."""
    _write(made_run(bad=True), tmp_path)
    found = _cases(tmp_path)

    def kind(name: str, tag: str) -> str | None:
        element = found[name].find(tag)
        return None if element is None else element.get("type", "")

    assert kind("rf.canary.errors [client] stage 25", "failure") == "fail"
    assert kind("rf.canary.wrong [client]", "failure") == "inconclusive"
    assert kind("rf.slo.leak [prometheus]", "error") == "error"
    skipped = found["rf.gpu.visible [probe]"].find("skipped")
    assert skipped is not None
    assert "no GPU" in skipped.get("message", "")
    assert all(kind("rf.rollout.availability [probe]", tag) is None for tag in ("failure", "error", "skipped"))
    assert _covers(found["rf.rollout.availability [probe]"]) == ["rf.rollout.availability"]
    assert _covers(found["test_triton_is_ready[rf.svc.triton]"]) == ["rf.svc.triton", "rf.rollout.service_health"]


def test_junit_counts_agree_with_its_cases(tmp_path: Path) -> None:
    """The suites' attributes are what a CI sums up."""
    _write(made_run(bad=True), tmp_path)
    judged = ET.parse(tmp_path / "junit.xml").getroot()[0]  # noqa: S314 - our own file

    assert {k: judged.get(k) for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "14",
        "failures": "6",
        "errors": "1",
        "skipped": "2",
    }


def test_an_id_outside_the_catalog_covers_nothing(tmp_path: Path) -> None:
    """`minimal.health` and a case's made-up id are shown and claim no coverage."""
    run = made_run()
    stranger = replace(run.verdict.judgements[0], id="minimal.health")
    case = Case(name="a.py::b", outcome="passed", covers=("mine.b", "rf.svc.redis"), message="", seconds=0.1)
    _write(replace(run, verdict=replace(run.verdict, judgements=(stranger,)), cases=(case,)), tmp_path)

    assert _covers(_cases(tmp_path)["minimal.health [client]"]) == []
    assert _covers(_cases(tmp_path)["b"]) == ["rf.svc.redis"]


def test_what_a_stand_in_showed_is_not_called_live(tmp_path: Path) -> None:
    """A suite's judgement proves no more than its weakest case; a judgement of the traffic is live."""
    run = made_run()
    of_suite = replace(run.verdict.judgements[0], id="rf.svc.ollama", source="suite")
    of_traffic = replace(of_suite, id="rf.rollout.error_rate", source="client")
    cases = [
        Case(name=f"a.py::{level}", outcome="passed", covers=("rf.svc.ollama",), message="", seconds=0.1, level=level)
        for level in ("live", "simulated")
    ]
    _write(replace(run, verdict=replace(run.verdict, judgements=(of_suite, of_traffic)), cases=cases), tmp_path)
    levels = {
        name.split()[0]: [item.get("value") for item in case.iter("property") if item.get("name") == "covers_level"]
        for name, case in _cases(tmp_path).items()
    }
    assert levels["rf.svc.ollama"] == ["simulated"]
    assert levels["rf.rollout.error_rate"] == ["live"]


def test_junit_survives_what_xml_cannot_hold(tmp_path: Path) -> None:
    """Colour codes and NUL of a failing case's output are dropped, the rest stays."""
    case = Case(name="a.py::b", outcome="failed", covers=(), message="\x1b[31mred\x1b[0m \x00 <&> ünï", seconds=0.1)
    _write(replace(made_run(), cases=(case,)), tmp_path)

    failure = _cases(tmp_path)["b"].find("failure")
    assert failure is not None
    assert "<&> ünï" in failure.get("message", "")


def test_allure_history_ids_stay_from_run_to_run(tmp_path: Path) -> None:
    """Two runs of a system: the same history ids, other uuids; written twice: the same files."""
    run = made_run()
    other = replace(run, verdict=replace(run.verdict, run_id="another"))
    _write(run, tmp_path / "a")
    names = sorted(p.name for p in (tmp_path / "a" / "allure-results").iterdir())
    _write(run, tmp_path / "a")
    _write(other, tmp_path / "b")

    def results(folder: str) -> list[dict[str, object]]:
        paths = sorted((tmp_path / folder / "allure-results").glob("*-result.json"))
        return [json.loads(p.read_text(encoding="utf-8")) for p in paths]

    assert sorted(p.name for p in (tmp_path / "a" / "allure-results").iterdir()) == names
    a, b = results("a"), results("b")
    assert {r["historyId"] for r in a} == {r["historyId"] for r in b}
    assert len({r["historyId"] for r in a}) == len(a) == len(run.verdict.judgements) + len(run.cases)
    assert not {r["uuid"] for r in a} & {r["uuid"] for r in b}


def test_allure_tells_the_statuses_apart(tmp_path: Path) -> None:
    """Error is broken, inconclusive unknown, not applicable skipped: none of them passed."""
    _write(made_run(bad=True), tmp_path)
    found = [json.loads(p.read_text()) for p in (tmp_path / "allure-results").glob("*-result.json")]
    by_name = {r["name"]: r["status"] for r in found}

    assert by_name["rf.canary.errors [client]"] == "failed"
    assert by_name["rf.canary.wrong [client]"] == "unknown"
    assert by_name["rf.slo.leak [prometheus]"] == "broken"
    assert by_name["rf.gpu.visible [probe]"] == "skipped"


def test_a_report_written_again_is_the_same(tmp_path: Path) -> None:
    """From verdict, evidence and report.json alone: byte for byte the files of the run."""
    run = made_run(bad=True)
    _write(run, tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for name in ("report.html", "summary.md", "junit.xml"):
        (tmp_path / name).unlink()

    written = write_again(run.verdict, tmp_path, evidence=run.evidence)

    assert written.problems == ()
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1}', '{"version": 99}'])
def test_a_broken_report_json_costs_only_what_it_kept(tmp_path: Path, text: str) -> None:
    """The page is written without cases and logs, and the problem is named."""
    run = made_run()
    (tmp_path / "report.json").write_text(text)

    written = write_again(run.verdict, tmp_path, evidence=run.evidence)

    assert [p.partition(":")[0] for p in written.problems] == ["report.json"]
    assert (tmp_path / "report.html").exists()
    with pytest.raises(ValueError, match=r".*"):
        kept.loads(text)


def test_no_file_shows_a_secret(tmp_path: Path) -> None:
    """Planted in a log, a case's message, a reason, a service's note and the command line."""
    run = made_run()
    verdict = replace(
        run.verdict,
        reason=f"redis refused {SECRET}",
        judgements=(replace(run.verdict.judgements[0], reason=f"key {SECRET}"), *run.verdict.judgements[1:]),
        services=(replace(run.verdict.services[0], note=SECRET), *run.verdict.services[1:]),
    )
    case = Case(name="a.py::b", outcome="failed", covers=(), message=f"AUTH {SECRET}", seconds=0.1)

    write_all(
        verdict,
        tmp_path,
        evidence=run.evidence,
        cases=(case,),
        log_tails={**run.log_tails, "redis": f"requirepass {SECRET}"},
        events=run.events,
        secrets=(SECRET,),
        command=f"rollgate gate x --token {SECRET}",
    )

    leaks = [p.name for p in tmp_path.rglob("*") if p.is_file() and SECRET in p.read_text(encoding="utf-8")]
    assert leaks == []


@pytest.mark.parametrize(
    "text",
    [
        "redis://:s3cr3tpass@127.0.0.1:6379/0",
        "postgres://rollgate:s3cr3tpass@db/x",
        "Authorization: Bearer s3cr3tpass",
        "authorization=Basic s3cr3tpass",
        '{"password": "s3cr3tpass", "x": 1}',
        "REDIS_PASSWORD=s3cr3tpass",
        "api_key: s3cr3tpass",
        "--requirepass s3cr3tpass-long",
        "-----BEGIN RSA PRIVATE KEY-----\ns3cr3tpass\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_secret_is_masked_unasked(text: str) -> None:
    """Nobody told the report this value."""
    assert "s3cr3tpass" not in redact(text)
    assert MASK in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "GET /health 200",
        "GATEWAY_REDIS_PASSWORD_FILE=/tmp/run/redis.secret",
        "7,000 tokens: 12 in 0.1 s",
        "token limit is 64",
        "http://127.0.0.1:8080/query",
    ],
)
def test_plain_lines_stay_as_they_are(text: str) -> None:
    """Masking must not eat a log."""
    assert redact(text) == text
