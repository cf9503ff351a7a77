"""The table of alerts: what was shown of each stands in it, what failed is loud, and a record that is none is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli.main import app
from harness.model.errors import SpecError
from harness.report.alert_table import Checked, alert_table, read_record

pytestmark = pytest.mark.selftest

CHECKED = [
    Checked(id="a.alert.one", alert="One", system="s", findings=0, cases_kept=7, cases=7, killed=9, mutants=9),
    Checked(id="a.alert.two", alert="Two", system="s", findings=2, cases_kept=6, cases=7, killed=8, mutants=9),
    Checked(id="b.alert.one", alert="Other", system="t", findings=0, cases_kept=7, cases=7, killed=5, mutants=5),
]
ROW = {
    "id": "a.alert.one", "alert": "One", "silent": True, "problems": [], "status": "proven", "level": "live",
    "fault": "it is stopped", "stand_in": "", "delivered_s": 3.2, "delivered_within_s": 5.0, "resolved_s": 1.5,
    "resolved_within_s": 4.0,
}  # fmt: skip
RECORD: dict[str, Any] = {
    "schema_version": 1,
    "system": "s",
    "time_scale": 30,
    "started_at": "2026-01-01T00:00:00.000Z",
    "watched_s": 100.0,
    "services": [
        {"name": "redis", "kind": "real", "version": "7.0", "note": ""},
        {"name": "ollama", "kind": "stand_in", "version": "0", "note": "a facade"},
    ],
    "rules": [ROW],
}


def written(folder: Path, record: object) -> Path:
    """Return a file with a record."""
    path = folder / "alerts.json"
    path.write_text(record if isinstance(record, str) else json.dumps(record), encoding="utf-8")
    return path


def line(table: str, id_: str) -> str:
    """Return the line of an alert."""
    return next(text for text in table.splitlines() if text.startswith(f"| `{id_}`"))


def test_a_proven_alert_has_its_numbers_and_the_scale_is_said(tmp_path: Path):
    """Measured seconds with what was foretold; what did not run live says so."""
    table = alert_table(CHECKED, [read_record(written(tmp_path, RECORD))], "the command")
    assert "| clean | 7/7 | 9/9 | live | 3.2 (5.0) | 1.5 (4.0) | yes | it is stopped |" in line(table, "a.alert.one")
    assert "2 to mend | 6/7 | 8/9 | simulated | not applicable" in line(table, "a.alert.two")
    assert "divided by 30" in table
    assert "Stand-ins: ollama (a facade)" in table
    assert "Not run live: t" in table
    assert "3 alerts, 1 of them shown on a running stack" in table
    assert "Made by `the command`" in table


def test_what_failed_live_is_loud(tmp_path: Path):
    """An alert that was never told, or was heard on the healthy stack, cannot be read as shown."""
    row = {**ROW, "status": "failed", "silent": False, "delivered_s": None, "problems": ["it never fired"]}
    table = alert_table(CHECKED, [read_record(written(tmp_path, {**RECORD, "rules": [row]}))], "x")
    found = line(table, "a.alert.one")
    assert "**failed** | **never** (" not in found
    assert "**failed** | **never** |" in found
    assert "| **no** |" in found
    assert "**it never fired**" in found
    assert "0 of them shown" in table


def test_a_stand_in_is_named_beside_its_fault(tmp_path: Path):
    """What was not real stands in the same cell."""
    row = {**ROW, "level": "simulated", "stand_in": "a page"}
    table = alert_table(CHECKED, [read_record(written(tmp_path, {**RECORD, "rules": [row]}))], "x")
    assert "simulated | 3.2 (5.0)" in line(table, "a.alert.one")
    assert "it is stopped (stand-in: a page)" in line(table, "a.alert.one")


@pytest.mark.parametrize(
    "broken", ["{", "[]", {"schema_version": 1}, {**RECORD, "schema_version": 9}, {**RECORD, "rules": 3}]
)
def test_a_file_that_is_no_record_is_named(broken: object, tmp_path: Path):
    """With its path and what would be one."""
    path = written(tmp_path, broken)
    with pytest.raises(SpecError) as raised:
        read_record(path)
    assert str(path) in str(raised.value)
    assert "pytest -m alerts" in str(raised.value)


def test_the_command_names_a_missing_record_before_any_work(tmp_path: Path):
    """Exit code 2, and no table."""
    out = tmp_path / "table.md"
    done = CliRunner().invoke(app, ["rules", "table", "--live", str(tmp_path / "none.json"), "--out", str(out)])
    assert isinstance(done.exception, SpecError) or done.exit_code == 2
    assert not out.exists()
