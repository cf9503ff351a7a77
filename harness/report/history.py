"""Past runs, read from the folders they left."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

from harness.model.errors import RollgateError
from harness.report import verdict_json, words

_NOT_RUNS = frozenset({"schemas", "golden"})
_TRACES = ("journal.sqlite", "evidence", "stack.json", "logs")


class PastRun(TypedDict):
    """A run in the list, plain values only. One without a readable verdict has a `problem` and no decision."""

    run_id: str
    folder: str
    started_at: str  # RFC 3339, UTC
    took_s: float
    system: str
    candidate: str
    decision: str
    cause: str
    exit_code: int | None
    rehearsal: bool
    problem: str


def past_runs(reports: Path) -> list[PastRun]:
    """Return the runs under `reports`, newest first.

    Never raises for a broken folder: it is listed with its problem. Folders that are no run's are left out.
    """
    try:
        folders = [f for f in reports.iterdir() if f.is_dir() and f.name not in _NOT_RUNS]
    except OSError:
        return []
    found = [run for run in map(_read, folders) if run]
    return sorted(found, key=lambda run: (words.epoch(run["started_at"]), run["run_id"]), reverse=True)


def _read(folder: Path) -> PastRun | None:
    path = folder / "verdict.json"
    try:
        if not path.exists():
            traces = any((folder / name).exists() for name in _TRACES)
            return _broken(folder, "no verdict.json: still running, or killed") if traces else None
        verdict = verdict_json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, RollgateError) as error:
        return _broken(folder, str(error))
    return PastRun(
        run_id=verdict.run_id,
        folder=str(folder),
        started_at=verdict.started_at,
        took_s=words.took(verdict),
        system=verdict.system,
        candidate=verdict.candidate,
        decision=str(verdict.decision),
        cause=str(verdict.cause),
        exit_code=int(verdict.exit_code),
        rehearsal=verdict.rehearsal,
        problem="",
    )


def _broken(folder: Path, problem: str) -> PastRun:
    try:
        changed = folder.stat().st_mtime
    except OSError:
        changed = 0.0
    return PastRun(
        run_id=folder.name,
        folder=str(folder),
        started_at=datetime.fromtimestamp(changed, UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        took_s=0.0,
        system="",
        candidate="",
        decision="",
        cause="",
        exit_code=None,
        rehearsal=False,
        problem=problem,
    )
