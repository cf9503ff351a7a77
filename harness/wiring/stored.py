"""Stored runs: their verdict, their report written again, and an operator's word to one that still runs."""

import getpass
import os
from pathlib import Path
from typing import Any, cast

from harness.adapters.clock import SystemClock
from harness.adapters.evidence_files import read_evidence
from harness.adapters.journal import SqliteJournal
from harness.model.codec import parse_json
from harness.model.errors import SpecError
from harness.report.files import write_again
from harness.report.verdict_json import decode


def read_verdict(run_dir: Path) -> dict[str, Any]:
    """Return a stored run's verdict.json; SpecError where there is none, or it is no JSON."""
    path = run_dir / "verdict.json"
    try:
        found: object = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        msg = "there is no verdict"
        raise SpecError(msg, where=str(path), mend="name the folder of a finished run") from error
    except (OSError, ValueError) as error:
        raise SpecError(str(error), where=str(path), mend="restore the file as the run left it") from error
    if not isinstance(found, dict):
        msg = "a verdict is a JSON object"
        raise SpecError(msg, where=str(path), mend="restore the file as the run left it")
    return cast("dict[str, Any]", found)


def report_again(run_dir: Path) -> str:
    """Write a stored run's report files again; return the page's path."""
    verdict = decode(read_verdict(run_dir))
    write_again(verdict, run_dir, evidence=list(read_evidence(run_dir)))
    return str(run_dir / "report.html")


def give_order(run_dir: Path, verb: str, reason: str) -> None:
    """Append an operator's order to a running rollout's journal; the driver takes it at its next look."""
    path, rollout = run_dir / "journal.sqlite", ""
    if not path.is_file() and (run_dir / "evidence").is_dir():
        # A target's rollouts share one journal.
        path, rollout = run_dir.resolve().parent / "journal.sqlite", run_dir.resolve().name
    if not path.is_file():
        msg = "there is no running rollout"
        raise SpecError(msg, where=str(path), mend="name the run's folder, reports/RUN_ID")
    journal = SqliteJournal(path, who=f"operator:{who()}", clock=SystemClock(), rollout=rollout)
    try:
        if rollout and not journal.entries():
            msg = "the journal knows no such rollout"
            raise SpecError(msg, where=str(run_dir), mend="name the rollout's folder; --status tells it")
        if any(entry.kind == "finish" for entry in journal.entries()):
            msg = "the rollout is over"
            raise SpecError(msg, where=str(run_dir), mend="start a new one")
        journal.append("order", {"verb": verb}, why=reason)
    finally:
        journal.close()


def who() -> str:
    """Return the user's name; a container's user may have none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
