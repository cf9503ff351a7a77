"""The words of the report: summary.md and `explain` by golden text, history over broken folders."""

import doctest
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from report_runs import OBJECTIVES, START, made_run, utc
from syrupy.assertion import SnapshotAssertion

from harness.model.errors import EnvironmentProblem, SpecError
from harness.model.status import Cause, Decision, ExitCode, Status
from harness.report import verdict_json, words
from harness.report.explain import explain
from harness.report.files import write_all
from harness.report.history import past_runs
from harness.report.summary import summary

pytestmark = pytest.mark.selftest

_GOLDEN = Path(__file__).resolve().parents[2] / "reports" / "golden"


@pytest.mark.parametrize("bad", [False, True])
def test_the_summary_reads_as_agreed(*, bad: bool, snapshot: SnapshotAssertion) -> None:
    """One screen of Markdown for a CI step."""
    run = made_run(bad=bad)
    assert summary(run.verdict, run.cases) == snapshot


def test_the_summary_of_a_broken_machine_blames_nobody(snapshot: SnapshotAssertion) -> None:
    """Environment, no judgements: the text says that it says nothing about the release."""
    verdict = replace(
        made_run().verdict, decision=Decision.ROLLBACK, cause=Cause.ENVIRONMENT, status=Status.ERROR,
        exit_code=ExitCode.ENVIRONMENT, stages=(), judgements=(), reason="Prometheus stayed away for 30 s",
    )  # fmt: skip
    assert summary(verdict) == snapshot


def test_the_summary_stays_short_and_its_tables_whole() -> None:
    """A hundred failures, pipes and line breaks in their texts: a dozen rows, each one line."""
    run = made_run(bad=True)
    worst = replace(run.verdict.judgements[0], reason="a|b\nc", requirement="<b>x</b>")
    many = tuple(replace(worst, id=f"rf.x.{i}") for i in range(100))
    lines = summary(replace(run.verdict, judgements=many)).splitlines()

    assert len(lines) < 45
    assert "… and 88 more, in report.html" in lines
    assert all("a\\|b c" in line for line in lines if "rf.x." in line)
    assert not any("<b>x" in line for line in lines)


@pytest.mark.parametrize("id_", ["rf.rollout.error_rate", "rf.canary.wrong", "rf.slo.leak", "rf.gpu.visible"])
def test_explain_says_what_why_and_what_to_do(id_: str, snapshot: SnapshotAssertion) -> None:
    """One judgement of each status, in plain words."""
    assert explain(verdict_json.encode(made_run(bad=True).verdict), id_) == snapshot


def test_explain_names_the_nearest_ids_when_it_knows_none() -> None:
    """A typing error: exit code 2 with a mend."""
    doc = verdict_json.encode(made_run().verdict)
    with pytest.raises(SpecError, match=r"rf\.rollout\.error_rate") as caught:
        explain(doc, "rf.rollout.eror_rate")
    assert caught.value.exit_code == 2


def test_explain_refuses_what_is_no_verdict() -> None:
    """A broken file is named as such."""
    with pytest.raises(EnvironmentProblem, match="breaks its schema"):
        explain({"run_id": "x"}, "rf.rollout.error_rate")


def test_history_lists_newest_first_whatever_else_lies_there(tmp_path: Path) -> None:
    """Good runs, a killed one, a broken one, a stray folder, a file, the schemas: nothing raises."""
    for index, bad in enumerate((False, True)):
        run = made_run(bad=bad)
        at = utc(START + 3600 * index)
        write_all(replace(run.verdict, started_at=at, finished_at=at), tmp_path / f"run{index}")
    for name, content in (("cut", '{"run_id":'), ("old", '{"schema_version": 0}'), ("binary", "\udcff")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "verdict.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    (tmp_path / "killed" / "evidence").mkdir(parents=True)
    (tmp_path / "stray").mkdir()
    (tmp_path / "schemas").mkdir()
    (tmp_path / "a-file").touch()
    for name in ("cut", "old", "binary", "killed"):
        os.utime(tmp_path / name, (START - 60, START - 60))

    found = past_runs(tmp_path)

    assert [run["decision"] for run in found] == ["rollback", "promote", "", "", "", ""]
    assert [run["exit_code"] for run in found[:2]] == [1, 0]
    assert {run["run_id"] for run in found if run["problem"]} == {"cut", "old", "binary", "killed"}
    json.dumps(found)


def test_history_of_no_folder_is_empty(tmp_path: Path) -> None:
    """Nothing ran yet."""
    assert past_runs(tmp_path / "reports") == []


def test_the_examples_in_the_words_hold() -> None:
    """Numbers, values and durations as the docstrings show them."""
    assert doctest.testmod(words).failed == 0


def test_the_golden_report_is_what_this_code_writes(tmp_path: Path) -> None:
    """reports/golden/ shows a newcomer a report; to renew it: python suites/selftest/report_runs.py."""
    run = made_run(bad=True)
    write_all(
        run.verdict, tmp_path, evidence=run.evidence, cases=run.cases, log_tails=run.log_tails, events=run.events,
        objectives=OBJECTIVES,
    )  # fmt: skip
    for name in ("verdict.json", "summary.md", "junit.xml", "report.html"):
        assert (_GOLDEN / name).read_text(encoding="utf-8") == (tmp_path / name).read_text(encoding="utf-8"), name
