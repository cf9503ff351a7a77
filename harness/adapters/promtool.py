"""promtool as a judge of files and an oracle for rules: many unit tests in few processes."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness.adapters.programs import Program, ensure
from harness.adapters.tool import hear

_GO = {"GOGC": "400", "GOMAXPROCS": "1"}  # short-lived, and as many processes as cores: collecting is mostly in vain
_BATCH = 24  # test files a process: enough to forget its start, few enough to keep the cores busy to the end


class Promtool:
    """One promtool program."""

    def __init__(self, program: Program, *, at_once: int = 0) -> None:
        """Use `program`, up to `at_once` processes of it (0: one a core)."""
        self._program = program
        self._at_once = at_once or min(4, os.cpu_count() or 1)

    @classmethod
    def found(cls, cache: Path, progress: Callable[[str], None]) -> "Promtool":
        """Return the promtool of this machine: PATH, the cache, the distribution's package. EnvironmentProblem."""
        return cls(ensure(["promtool"], cache, progress)["promtool"])

    @property
    def version(self) -> str:
        """Its version."""
        return self._program.version

    def check(self, kind: str, files: Sequence[Path]) -> list[tuple[Path, str]]:
        """Return what `promtool check KIND` finds wrong with each file, KIND being "rules" or "config".

        Files are checked one by one, since promtool stops at the first that it cannot read.
        """
        with ThreadPoolExecutor(self._at_once) as pool:
            answers = list(pool.map(self._asked, [["check", kind, path] for path in files]))
        return [(path, _complaint(text)) for path, (code, text) in zip(files, answers, strict=True) if code]

    def test(self, tests: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> str:
        """Run unit tests, (rule file, test file) each, and return all that promtool says of them.

        The test files' `rule_files` are set here. What belongs to which test is for the texts themselves to tell:
        newer versions no longer name the file.
        """
        with tempfile.TemporaryDirectory(prefix="rollgate-rules-") as folder:
            root = Path(folder)
            files: list[Path] = []
            for number, (rules, test) in enumerate(tests):
                (root / f"{number}.rules.json").write_text(json.dumps(rules), encoding="utf-8")
                files.append(root / f"{number}.test.json")
                text = json.dumps({**test, "rule_files": [f"{number}.rules.json"]})
                files[-1].write_text(text, encoding="utf-8")
            size = max(1, min(_BATCH, -(-len(files) // self._at_once)))
            batches: list[list[Path]] = [files[at : at + size] for at in range(0, len(files), size)]
            with ThreadPoolExecutor(self._at_once) as pool:
                return "\n".join(pool.map(self._tested, batches))

    def _tested(self, files: Sequence[Path]) -> str:
        return self._asked(["test", "rules", *files])[1]

    def _asked(self, arguments: Sequence[str | Path]) -> tuple[int, str]:
        answer = hear([self._program.path, *arguments], env={**_GO, **self._program.env})
        return answer.code, answer.text


def _complaint(text: str) -> str:
    """Return what is wrong, in one line, without promtool's frame."""
    lines = [line.strip() for line in text.splitlines()]
    said = [line for line in lines if line and not line.startswith(("Checking", "SUCCESS", "FAILED:"))]
    return "; ".join(said) or text.strip() or "promtool ended with an error and said nothing"


def amtool_check(amtool: Program, path: Path) -> str:
    """Return what amtool finds wrong with an alertmanager.yml, "" for nothing."""
    answer = hear([amtool.path, "check-config", path], env=amtool.env)
    return _complaint(answer.text) if answer.code else ""
