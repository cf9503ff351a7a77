"""Finished cases as JSON lines, each on disk when it ends, and a footer: a file without one is a crash."""

import json
from pathlib import Path
from typing import Any, TextIO, cast

import pytest

from harness.pytest_plugin.marks import arm_of

_ARM = "rollgate_arm"


class CaseWriter:
    """Writes one line a case, as harness.ports.Case, and {"end": exit code} at the end."""

    def __init__(self, path: Path) -> None:
        """Write to `path`, which is replaced."""
        self._path = path
        self._file: TextIO | None = None
        self._open: dict[str, dict[str, Any]] = {}

    def pytest_sessionstart(self) -> None:
        """Open the file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("w", encoding="utf-8")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Let the report know the arm."""
        if arm := arm_of(item):
            item.user_properties.append((_ARM, arm))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gather set-up, call and tear-down of a case, and write it when it is over."""
        properties = [(str(name), str(value)) for name, value in report.user_properties]
        case = self._open.setdefault(
            report.nodeid, {"name": report.nodeid, "outcome": "passed", "message": "", "seconds": 0.0}
        )
        case["covers"] = [value for name, value in properties if name == "covers"]
        case["level"] = next((value for name, value in properties if name == "covers_level"), "live")
        case["arm"] = next((value for name, value in properties if name == _ARM), "")
        case["seconds"] += report.duration
        if report.failed:
            case["outcome"] = "failed" if report.when == "call" else "error"
            case["message"] = message_of(report)
        elif report.skipped and case["outcome"] == "passed":
            case["outcome"] = "skipped"
            case["message"] = message_of(report)
        if report.when == "teardown":
            self._write(self._open.pop(report.nodeid))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module that cannot be collected is an error case."""
        if report.failed:
            self._write(
                {
                    "name": report.nodeid,
                    "outcome": "error",
                    "message": last_line(str(report.longrepr)),
                    "covers": [],
                    "arm": "",
                    "level": "live",
                    "seconds": 0.0,
                }
            )

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Write the footer."""
        self._write({"end": int(exitstatus)})
        if self._file:
            self._file.close()
            self._file = None

    def _write(self, line: dict[str, Any]) -> None:
        if self._file:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()


def message_of(report: pytest.TestReport) -> str:
    """Return one line: what an assertion said, or why a case was skipped."""
    longrepr: Any = report.longrepr
    if isinstance(longrepr, tuple):  # a skip: (path, line, reason)
        return str(cast("tuple[Any, ...]", longrepr)[2]).removeprefix("Skipped: ")
    crash = getattr(longrepr, "reprcrash", None)
    text = str(crash.message) if crash is not None else str(longrepr or "")
    return " ".join(text.split())[:500]


def last_line(text: str) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else ""
