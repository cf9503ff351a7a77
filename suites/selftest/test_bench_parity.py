"""Parity: what two providers say of the same release is compared, and a difference of any kind is told."""

from dataclasses import replace
from typing import Any

import pytest

from harness.wiring.bench import Cell
from harness.wiring.bench_parity import Seen, compared, start_rows

pytestmark = pytest.mark.selftest

CELL = Cell(
    kind="release",
    name="slow",
    seed=1,
    expect={"decision": "rollback", "cause": "release", "judgement": "canary.latency"},
)


def seen(**changes: Any) -> Seen:  # noqa: ANN401 - the fields of a verdict
    """Return a gate that rolled the slow release back."""
    failed = {"id": "canary.latency", "severity": "critical", "status": "fail"}
    verdict = {
        "decision": "rollback",
        "cause": "release",
        "exit_code": 1,
        "judgements": [failed],
        "stages": [],
        "started_at": "2026-01-01T00:00:00Z",
        "finished_at": "2026-01-01T00:01:00Z",
    } | changes
    return Seen(verdict=verdict, cases={"a": "passed", "b": "skipped"}, ready_s={"redis": 0.5})


def test_the_same_answers_are_the_same():
    """A case that is skipped on one provider alone has the same id, and the row says how many ran."""
    other = replace(seen(), cases={"a": "passed", "b": "passed"})
    row, same = compared(CELL, seen(), other)
    assert same
    assert "| 2, run 1 and 2 |" in row
    assert row.endswith("| yes |")


@pytest.mark.parametrize(
    "planted",
    [
        seen(decision="promote"),
        seen(cause="evidence"),
        seen(exit_code=3),
        seen(judgements=[]),
        seen(judgements=[{"id": "canary.other", "severity": "critical", "status": "fail"}]),
        replace(seen(), cases={"a": "passed"}),
        replace(seen(), cases={"a": "passed", "b": "passed", "c": "passed"}),
        replace(seen(), cases={}),
    ],
    ids=["decision", "cause", "exit code", "nothing named", "another named", "a case less", "one more", "no cases"],
)
def test_any_difference_is_told(planted: Seen):
    """On either side."""
    for native, docker in ((seen(), planted), (planted, seen())):
        row, same = compared(CELL, native, docker)
        assert not same
        assert row.endswith("| **NO** |")


def test_both_wrong_is_not_the_same():
    """Two providers that agree on the wrong answer are no parity."""
    wrong = seen(decision="promote", cause="proof", exit_code=0)
    assert not compared(CELL, wrong, wrong)[1]


def test_the_starts_stand_side_by_side():
    """A part that runs on one provider alone has a dash on the other."""
    rows = start_rows({"native": {"redis": 0.4}, "docker": {"redis": 1.25, "grafana": 9.0}})
    assert rows[-2:] == ["| redis | 0.4 | 1.2 |", "| grafana | - | 9.0 |"]
    assert start_rows({}) == []
