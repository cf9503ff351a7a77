"""The gate bench: a wrong verdict is seen, a stored one is not run again."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness import spec
from harness.model.errors import EnvironmentProblem, SpecError
from harness.wiring import bench
from harness.wiring.bench import Cell, bench_gates, judge_cell
from harness.wiring.provenance import code_digest

pytestmark = pytest.mark.selftest


def verdict(
    *, decision: str, cause: str, code: int, failing: tuple[str, ...] = (), erring: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A stored verdict with these judgements."""
    judged = [{"id": i, "status": "fail", "severity": "critical"} for i in failing]
    judged += [{"id": i, "status": "error", "severity": "critical"} for i in erring]
    return {"decision": decision, "cause": cause, "exit_code": code, "judgements": judged}


BAD = Cell(
    kind="release",
    name="errors",
    seed=1,
    expect={"decision": "rollback", "cause": "release", "judgement": "canary.error_rate"},
)
DRILL = Cell(kind="drill", name="prometheus", seed=1, expect={"exit_code": "4", "judgement": "rf.rollout.metrics"})

CASES = {
    "a bad release rolled back by name": (
        BAD,
        verdict(decision="rollback", cause="release", code=1, failing=("canary.error_rate",)),
        True,
    ),
    "a bad release promoted": (BAD, verdict(decision="promote", cause="proof", code=0), False),
    "a bad release blamed by another name": (
        BAD,
        verdict(decision="rollback", cause="release", code=1, failing=("canary.recall",)),
        False,
    ),
    "a bad release found by want of evidence only": (
        BAD,
        verdict(decision="rollback", cause="evidence", code=3),
        False,
    ),
    "a drill that ends in the environment": (
        DRILL,
        verdict(decision="rollback", cause="environment", code=4, erring=("rf.rollout.metrics",)),
        True,
    ),
    "a drill that blames the release": (
        DRILL,
        verdict(decision="rollback", cause="release", code=1, failing=("rf.rollout.metrics",)),
        False,
    ),
    "a run without a verdict": (BAD, {"decision": "-", "cause": "-", "exit_code": 4}, False),
}


@pytest.mark.parametrize("case", CASES)
def test_a_cell_is_right_only_by_decision_cause_and_name(case: str) -> None:
    """Every way to be wrong is told from being right."""
    cell, stored, right = CASES[case]
    row, found = judge_cell(cell, stored)
    assert found is right
    assert ("**NO**" in row) is not right


def test_a_stored_verdict_is_not_run_again_and_a_wrong_one_fails_the_bench(tmp_path: Path) -> None:
    """Resumed over stored verdicts: the table is made from them, and one wrong verdict is exit code 1."""
    folder = tmp_path / "bench" / "release-errors-1"
    folder.mkdir(parents=True)
    stored = verdict(decision="promote", cause="proof", code=0)
    (folder / "verdict.json").write_text(json.dumps(stored), encoding="utf-8")
    digest = code_digest(spec.find_system("minimal"))
    (folder / "code.sha256").write_text(digest, encoding="utf-8")
    said: list[str] = []
    code = bench_gates(
        "minimal",
        matrix=True,
        quick=True,
        only=["errors"],
        out=tmp_path / "bench",
        table=tmp_path / "table.md",
        echo=said.append,
    )
    assert code == 1
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "**NO**" in table
    assert f"Of code {digest[:12]}" in table
    assert said[-1] == "1 runs, 1 wrong verdicts."


def test_a_name_that_is_no_release_is_no_empty_success(tmp_path: Path) -> None:
    """`--only` with a typo is an error, not a table of nothing."""
    with pytest.raises(SpecError, match="no release or drill"):
        bench_gates(
            "minimal", matrix=True, quick=True, only=["erors"], out=tmp_path, table=None, echo=lambda _text: None
        )


@pytest.mark.parametrize("origin", ["0" * 64, None], ids=["of other code", "of unknown code"])
def test_a_verdict_of_other_code_is_run_again(
    origin: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A right verdict that other code made is put aside, told in one line, and what this code finds counts."""
    folder = tmp_path / "bench" / "release-errors-1"
    folder.mkdir(parents=True)
    stored = verdict(decision="rollback", cause="release", code=1, failing=("minimal.error_rate",))
    (folder / "verdict.json").write_text(json.dumps(stored), encoding="utf-8")
    if origin:
        (folder / "code.sha256").write_text(origin, encoding="utf-8")

    def gate(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        """Stand for a gate that promotes what it must not."""
        assert command[-1] == str(folder)
        folder.mkdir()
        (folder / "verdict.json").write_text(json.dumps(verdict(decision="promote", cause="proof", code=0)))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(bench.subprocess, "run", gate)
    monkeypatch.setattr(bench, "commit", lambda: "")
    said: list[str] = []

    def again() -> int:
        return bench_gates(
            "minimal", matrix=True, quick=True, only=["errors"], out=tmp_path / "bench", table=None, echo=said.append
        )

    assert again() == 1
    assert [line for line in said if "is of other code" in line]
    assert len(list((tmp_path / "bench").glob("release-errors-1.other-*"))) == 1
    said.clear()
    assert again() == 1
    assert not [line for line in said if "..." in line], "what this code found is not run again"


def test_code_that_changes_under_a_bench_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table is of one code: the cell that ran meanwhile is not kept as anybody's."""
    digests = iter(["a" * 64, "b" * 64])
    monkeypatch.setattr(bench, "code_digest", lambda _root: next(digests))
    monkeypatch.setattr(bench.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, "", ""))
    with pytest.raises(EnvironmentProblem, match="the code changed"):
        bench_gates("minimal", matrix=True, quick=True, only=["errors"], out=tmp_path, table=None, echo=lambda _: None)
    assert not list(tmp_path.glob("*/code.sha256"))


def test_the_digest_is_of_names_and_contents_alone(tmp_path: Path) -> None:
    """A changed byte or name in the system's folder changes it; where it lies and what Python generates do not."""
    first, second = (tmp_path / name for name in ("first", "second"))
    for root in (first, second):
        shutil.copytree(spec.find_system("minimal"), root, ignore=shutil.ignore_patterns("__pycache__"))
    digest = code_digest(first)
    (second / "__pycache__").mkdir()
    (second / "__pycache__" / "app.pyc").write_bytes(b"x")
    assert code_digest(second) == digest
    rollout = second / "rollout.yaml"
    rollout.write_text(rollout.read_text() + " ")
    assert code_digest(second) != digest
    (first / "router.cfg").rename(first / "router.conf")
    assert code_digest(first) != digest


def test_a_row_counts_what_was_judged_and_how_long_it_took() -> None:
    """Requests of the candidate over all stages, and the seconds from the first stage to the end of the last."""
    stages = [
        {"n_candidate": 40, "started_at": 100.0, "ended_at": 110.0},
        {"n_candidate": 60, "started_at": 110.0, "ended_at": 125.4},
    ]
    stored = verdict(decision="rollback", cause="release", code=1, failing=("canary.error_rate",)) | {"stages": stages}
    row, _ = judge_cell(BAD, stored)
    assert [cell.strip() for cell in row.split("|")][8:10] == ["100", "25"]
