"""The gate bench: a wrong verdict is seen, a stored one is not run again."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.model.errors import SpecError
from harness.wiring.bench import Cell, bench_gates, judge_cell

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
    assert "**NO**" in (tmp_path / "table.md").read_text(encoding="utf-8")
    assert said[-1] == "1 runs, 1 wrong verdicts."


def test_a_name_that_is_no_release_is_no_empty_success(tmp_path: Path) -> None:
    """`--only` with a typo is an error, not a table of nothing."""
    with pytest.raises(SpecError, match="no release or drill"):
        bench_gates(
            "minimal", matrix=True, quick=True, only=["erors"], out=tmp_path, table=None, echo=lambda _text: None
        )
