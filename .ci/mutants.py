"""Asks the mutants that `mutmut run` left: run it in mutmut's folder `mutants/`, with the project's Python.

mutmut starts a session for every mutant, and its tests in the files' order: a mutant that nearly every test reaches
takes half a minute. Here one session is collected, a fork of it asked for each mutant, its covering tests quickest
first. The code as it is must pass in such a fork, or nothing is asked. Answers go to ../mutants.json: 0 survived,
1 killed, 33 no test, 36 out of time, 98 no answer.
"""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

_AT_ONCE, _PATIENCE_S = os.cpu_count() or 1, 300
_KILLED, _NO_TEST, _LOST, _OUT_OF_TIME = 1, 33, 98, 36
_OUT = Path("../mutants.json")
_SELECTED = "MUTANT_UNDER_TEST"


class Asker:
    """In the place of pytest's loop: forks, and in each fork the tests of one mutant."""

    def __init__(self, stats: dict[str, dict], keys: list[str]) -> None:
        """Ask `keys`; `stats` are mutmut's own."""
        self._seconds, self._tests, self._keys = (
            stats["duration_by_test"],
            stats["tests_by_mangled_function_name"],
            keys,
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """End the fork with the first test that fails."""
        if report.failed:
            os._exit(_KILLED)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Ask everything, the control first."""
        items = {item.nodeid: item for item in session.items}
        done = json.loads(_OUT.read_text()) if _OUT.exists() else {}
        left = [key for key in self._keys if key not in done]
        if left and self._wait({self._fork("", self._of(left[0], items)): ""})[1]:
            raise pytest.UsageError("the code as it is does not pass in a fork: no answer would mean anything")
        running: dict[int, str] = {}
        while left or running:
            while left and len(running) < _AT_ONCE:
                key = left.pop(0)
                running[self._fork(key, self._of(key, items))] = key
            key, code = self._wait(running)
            done[key] = code
            _OUT.write_text(json.dumps(done))
            print(len(left), key, code, flush=True)
        return True

    def _of(self, key: str, items: dict[str, pytest.Item]) -> list[pytest.Item] | None:
        names = self._tests.get(key.rpartition("__mutmut_")[0], [])
        if any(name not in items for name in names):
            return None
        return sorted((items[name] for name in names), key=lambda item: self._seconds.get(item.nodeid, 0.0))

    @staticmethod
    def _wait(running: dict[int, str]) -> tuple[str, int]:
        pid, status = os.wait()
        return running.pop(pid), _OUT_OF_TIME if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

    @staticmethod
    def _fork(key: str, items: list[pytest.Item] | None) -> int:
        if pid := os.fork():
            return pid
        signal.alarm(_PATIENCE_S)
        os.environ[_SELECTED] = key
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        if not items:
            os._exit(_LOST if items is None else _NO_TEST)
        try:
            for item, following in zip(items, [*items[1:], None], strict=True):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        except BaseException:  # noqa: BLE001 - whatever it was, this fork has no answer
            os._exit(_LOST)
        os._exit(0)


def main() -> int:
    """Ask what has no answer in mutmut's own files."""
    os.environ[_SELECTED] = ""
    sys.path[:0] = [str(Path.cwd()), str(Path.cwd() / "suites/selftest")]
    stats = json.loads(Path("mutmut-stats.json").read_text())
    found = [json.loads(path.read_text())["exit_code_by_key"] for path in sorted(Path("harness").rglob("*.py.meta"))]
    keys = [key for one in found for key, code in one.items() if code is None]
    files = sorted({name.split("::")[0] for name in stats["duration_by_test"]})
    options = ["-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header"]
    return int(pytest.main([*options, *files], plugins=[Asker(stats, keys)]))


if __name__ == "__main__":
    sys.exit(main())
