"""Runs suites/ through pytest in a process of its own: a crash there is one error case here, never a crash."""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from harness import paths
from harness.adapters import processes
from harness.model.errors import EnvironmentProblem
from harness.model.system import System
from harness.ports import Case, Stack

_FINE = (0, 1, 5)  # pytest: all passed, some failed, none collected
_TAIL = 2000
_STOP_POLL_S = 0.2


class PytestSuites:
    """The suites that a system names, against a stack described by `out`/stack.json."""

    def __init__(self, system: System, *, out: Path, max_seconds: float = 90.0) -> None:
        """Keep the system and the run's folder. A run of the suites is ended after `max_seconds`."""
        self._system = system
        self._out = out
        self._max_seconds = max_seconds

    def run(self, stack: Stack, expression: str, *, stop: Callable[[], bool] = lambda: False) -> Sequence[Case]:
        """Run every suite of the system whose markers match `expression`, in the order that system.yaml gives.

        `stop` is asked several times a second; when it says so, the run is ended, which is one error case. Never
        raises: pytest crashing, hanging or collecting nothing is one case of outcome "error".
        """
        del stack  # the child reads the same stack from stack.json
        folder = self._out / "suites"
        cases, junit, log = folder / "cases.jsonl", folder / "junit.xml", self._out / "logs" / "suites.log"
        for place in (folder, log.parent):
            place.mkdir(parents=True, exist_ok=True)
        cases.unlink(missing_ok=True)
        began = time.monotonic()
        note = self._pytest(self._command(expression, cases, junit), folder, log, stop)
        found, ended = read_cases(cases)
        if note or not ended:
            what = note or "pytest ended without a word"
            found = [*found, _error(f"{what}; its output is in {log.name}: {_tail(log)}", time.monotonic() - began)]
        elif not found:
            found = [_error(f"no case of {', '.join(self._system.suites)} matches `{expression}`", 0.0)]
        return found

    def _command(self, expression: str, cases: Path, junit: Path) -> list[str]:
        share = paths.share_root()
        folder = cases.parent
        (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n", encoding="utf-8")
        places = [share / "suites" / suite for suite in self._system.suites]
        own = [self._system.root / suite for suite in self._system.suites]
        suites = [place if place.exists() else other for place, other in zip(places, own, strict=True)]
        plugins = ("harness.pytest_plugin", "fixtures.stack", "fixtures.clients")
        return [
            sys.executable,
            *("-m", "pytest", "-c", str(folder / "pytest.ini"), "--rootdir", str(share)),
            *(word for name in plugins for word in ("-p", name)),
            *("-p", "no:cacheprovider", "--noconftest", "-q", "--tb=short", "--strict-markers"),
            *("-m", expression, "-o", "junit_family=xunit1", f"--junitxml={junit}"),
            *("--system", str(self._system.root), "--stack-file", str(self._out / "stack.json")),
            *("--rollgate-cases", str(cases)),
            *(str(suite) for suite in suites),
        ]

    def _pytest(self, command: Sequence[str], folder: Path, log: Path, stop: Callable[[], bool]) -> str:
        """Run pytest to its end. Return what went wrong with the process itself, "" when nothing did."""
        env = processes.clean_environment()
        path = [str(paths.share_root()), str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
        env["PYTHONPATH"] = os.pathsep.join(part for part in path if part)
        env["PYTHONPYCACHEPREFIX"] = str(paths.cache_root() / "pycache")
        env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        # Which engine runs the stack's containers, where it is not the default one.
        env |= {name: value for name, value in os.environ.items() if name.startswith("DOCKER_")}
        try:
            process = processes.start(command, env=env, cwd=folder, log=log)
        except EnvironmentProblem as problem:
            return str(problem)
        deadline = time.monotonic() + self._max_seconds
        asked = time.monotonic()
        try:
            while (code := process.poll()) is None:
                if time.monotonic() > deadline:
                    return f"the suites did not end within {self._max_seconds:g} s"
                if time.monotonic() - asked > _STOP_POLL_S:
                    asked = time.monotonic()
                    if stop():
                        return "the suites were ended on request"
                time.sleep(0.02)
        finally:
            process.terminate(0.5)
        return "" if code in _FINE else f"pytest ended with {code} ({process.exit_note})"


def read_cases(path: Path) -> tuple[list[Case], bool]:
    """Return the finished cases of a file of JSON lines, and whether its footer is there. A torn line ends it."""
    cases: list[Case] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return cases, False
    for line in lines:
        try:
            raw = cast("dict[str, Any]", json.loads(line))
            if "end" in raw:
                return cases, True
            cases.append(
                Case(
                    name=str(raw["name"]),
                    outcome=str(raw["outcome"]),
                    covers=tuple(str(item) for item in raw["covers"]),
                    message=str(raw["message"]),
                    seconds=float(raw["seconds"]),
                    arm=str(raw["arm"]),
                    level=str(raw["level"]),
                )
            )
        except (ValueError, KeyError, TypeError):
            return cases, False
    return cases, False


def _error(message: str, seconds: float) -> Case:
    return Case(name="suites", outcome="error", covers=(), message=message, seconds=seconds)


def _tail(log: Path) -> str:
    try:
        text = log.read_text(encoding="utf-8", errors="replace")[-_TAIL:]
    except OSError:
        return "it could not be read"
    return " | ".join(line.strip() for line in text.splitlines()[-8:] if line.strip())
