"""The table of a system's alerts: what their text, promtool and a run on the live stack showed of each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from harness.model.codec import parse_json
from harness.model.errors import SpecError

_HEAD = (
    "id", "alert", "lint", "cases", "mutants noticed", "shown", "told after s", "ended after s", "silent else", "fault",
)  # fmt: skip
_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was proven of an alert without a stack. `mutants` are those that a series can tell from the rule."""

    id: str
    alert: str
    system: str
    findings: int
    cases_kept: int
    cases: int
    killed: int
    mutants: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRecord:
    """One run on a live stack; `rows` by alert."""

    system: str
    time_scale: float
    started_at: str
    watched_s: float
    services: tuple[Mapping[str, Any], ...]
    rows: Mapping[str, Mapping[str, Any]]


def read_record(path: Path) -> LiveRecord:
    """Read the record of a live run. Raises SpecError for a file that is none."""
    mend = "name an alerts.json that `pytest -m alerts --system NAME` wrote"
    try:
        raw = cast("dict[str, Any]", parse_json(path.read_text(encoding="utf-8")))
        if raw["schema_version"] != _SCHEMA:
            raise SpecError(f"{path}: found schema_version {raw['schema_version']}, expected {_SCHEMA}", mend=mend)
        return LiveRecord(
            system=raw["system"],
            time_scale=float(raw["time_scale"]),
            started_at=raw["started_at"],
            watched_s=float(raw["watched_s"]),
            services=tuple(raw["services"]),
            rows={row["alert"]: row for row in raw["rules"]},
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpecError(f"{path}: no record of live alerts: {error}", key="--live", mend=mend) from None


def alert_table(checked: Sequence[Checked], records: Sequence[LiveRecord], command: str) -> str:
    """Return the table as Markdown, with the command that made it."""
    by_system = {record.system: record for record in records}
    lines = ["# Alerts, as they were shown", "", f"Made by `{command}`.", ""]
    lines += [paragraph for record in records for paragraph in _about(record)]
    lines += ["| " + " | ".join(_HEAD) + " |", "|" + " --- |" * len(_HEAD)]
    lines += ["| " + " | ".join(_cells(one, by_system.get(one.system))) + " |" for one in checked]
    return "\n".join([*lines, "", *_notes(checked, by_system)]) + "\n"


def _about(record: LiveRecord) -> Iterator[str]:
    stand_ins = ", ".join(f"{one['name']} ({one['note']})" for one in record.services if one["kind"] == "stand_in")
    real = ", ".join(f"{one['name']} {one['version']}".strip() for one in record.services if one["kind"] == "real")
    yield (
        f"Live on `{record.system}`, {record.started_at}, watched for {record.watched_s:g} s: every duration of rules, "
        f"scrapes and routes divided by {record.time_scale:g}. Seconds are real ones of that compressed stack, "
        "measured from the fault to the receiver that Alertmanager told, and from the mend to it; in brackets "
        "what the scaled files foretell (window, `for`, scrape, evaluation, group wait; the fault's own time to be "
        "seen; 1.5 s for a busy machine)."
    )
    yield ""
    yield f"Real: {real}. Stand-ins: {stand_ins or 'none'}."
    yield ""


def _cells(one: Checked, record: LiveRecord | None) -> Iterator[str]:
    yield f"`{one.id}`"
    yield one.alert
    yield "clean" if not one.findings else f"{one.findings} to mend"
    yield f"{one.cases_kept}/{one.cases}"
    yield f"{one.killed}/{one.mutants}"
    row = record.rows.get(one.alert) if record else None
    if row is None or row["status"] == "not_applicable":
        yield from ("simulated", "not applicable", "not applicable", "not applicable", "generated series, promtool")
        return
    yield str(row["level"]) if row["status"] == "proven" else "**failed**"
    yield _seconds(row["delivered_s"], row["delivered_within_s"])
    yield _seconds(row["resolved_s"], row["resolved_within_s"])
    yield "yes" if row["silent"] else "**no**"
    words = str(row["fault"]) + (f" (stand-in: {row['stand_in']})" if row["stand_in"] else "")
    yield words + "".join(f"; **{problem}**" for problem in row["problems"])


def _seconds(found: float | None, foretold: float) -> str:
    return "**never**" if found is None else f"{found:.1f} ({foretold:.1f})"


def _notes(checked: Sequence[Checked], records: Mapping[str, LiveRecord]) -> Iterator[str]:
    yield (
        "`live`: a real fault on real services. `simulated` with seconds: the rule, Prometheus and Alertmanager are "
        "real, but the fault's input or its service stands in, as the last column or the list above says."
    )
    absent = sorted({one.system for one in checked} - records.keys())
    if absent:
        yield ""
        yield (
            f"Not run live: {', '.join(absent)}, which has no run on a stack here; its alerts are proven by promtool "
            "on generated series alone."
        )
    proven = sum(row["status"] == "proven" for record in records.values() for row in record.rows.values())
    yield ""
    yield f"{len(checked)} alerts, {proven} of them shown on a running stack."
