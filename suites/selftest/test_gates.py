"""Whole gates on the real native stack: a good release is promoted, a bad one rolled back, by name."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.report import verdict_json

pytestmark = [pytest.mark.selftest, pytest.mark.alone, pytest.mark.timeout(400)]


def rollgate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "NO_COLOR": "1"}
    command = [sys.executable, "-m", "harness.cli.main", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=390, check=False)


def gate(system: str, out: Path, *more: str) -> tuple[int, dict[str, Any]]:
    """Run one gate; return its exit code and verdict, which must fit its schema."""
    done = rollgate("gate", system, "--out", str(out), *more)
    assert (out / "verdict.json").exists(), done.stderr
    verdict = json.loads((out / "verdict.json").read_text(encoding="utf-8"))
    verdict_json.check(verdict)
    left = [
        p.info["cmdline"] for p in psutil.process_iter(["cmdline"]) if str(out) in " ".join(p.info["cmdline"] or ())
    ]
    assert left == []
    return done.returncode, verdict


def named(verdict: dict[str, Any], status: str) -> set[str]:
    """Return the ids of the critical judgements of `status`."""
    return {j["id"] for j in verdict["judgements"] if j["status"] == status and j["severity"] == "critical"}


@pytest.mark.covers("rf.rollout.stages", level="live")
def test_a_good_release_of_researchflow_is_promoted_and_can_be_judged_again(tmp_path: Path) -> None:
    """Exit code 0, all stages, every critical judgement passing, honest about stand-ins; replay says the same."""
    out = tmp_path / "good"
    code, verdict = gate("researchflow", out)
    assert (code, verdict["decision"], verdict["cause"]) == (0, "promote", "proof"), verdict["reason"]
    assert [stage["share"] for stage in verdict["stages"]] == [10, 25, 50, 75, 95]
    assert verdict["rehearsal"] is True
    critical = [j for j in verdict["judgements"] if j["severity"] == "critical"]
    left_out = [j for j in critical if j["status"] == "not_applicable"]
    assert {j["status"] for j in critical if j not in left_out} == {"pass"}
    assert all("does not run on native" in j["reason"] for j in left_out)  # Grafana and its like, by the inventory
    assert {"report.html", "summary.md", "junit.xml", "journal.sqlite"} <= {f.name for f in out.iterdir()}
    again = rollgate("judge", str(out), "--json")
    assert again.returncode == 0, again.stderr
    told = {(j["id"], j["source"]): (j["status"], j["reason"]) for j in verdict["judgements"]}
    for judgement in json.loads(again.stdout):
        assert told[judgement["id"], judgement["source"]] == (judgement["status"], judgement["reason"])


def test_a_release_with_errors_is_rolled_back_by_name(tmp_path: Path) -> None:
    """Exit code 1, decision rollback, cause release, and the judgement that names the fault."""
    code, verdict = gate("researchflow", tmp_path / "bad", "--release", "errors-3pct")
    assert (code, verdict["decision"], verdict["cause"]) == (1, "rollback", "release"), verdict["reason"]
    assert "canary.error_rate" in named(verdict, "fail")


def test_a_release_of_lower_quality_is_rolled_back_by_name(tmp_path: Path) -> None:
    """The scores of the load's own answers decide: on the smallest system, by the one objective on them."""
    code, verdict = gate("minimal", tmp_path / "low", "--release", "low-quality")
    assert (code, verdict["decision"], verdict["cause"]) == (1, "rollback", "release"), verdict["reason"]
    assert named(verdict, "fail") == {"minimal.vs_quality"}


def test_a_misrouting_router_is_never_the_releases_fault(tmp_path: Path) -> None:
    """The drill on the smallest system ends in exit code 4 by the assignment judgement."""
    code, verdict = gate("minimal", tmp_path / "drill", "--drill", "router-misroutes")
    assert (code, verdict["cause"]) == (4, "environment"), verdict["reason"]
    assert "minimal.assignment" in named(verdict, "error")
    assert named(verdict, "fail") == set()
