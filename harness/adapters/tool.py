"""Run a set-up tool (apt-get, dpkg-deb, ldd, pip) and hear what it says."""

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool ended with. `text` is its standard output and error, in order."""

    code: int
    text: str

    def last_line(self) -> str:
        """Return the last line that says something, for an error message."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        return lines[-1] if lines else f"exit code {self.code} without a word"


def hear(
    command: Sequence[str | Path],
    *,
    folder: Path | None = None,
    env: Mapping[str, str] | None = None,
    each_line: Callable[[str], None] | None = None,
) -> Answer:
    """Run `command` to its end and return its answer; `each_line` hears every line as it comes.

    `env` is laid over the present environment. A tool that is not there answers with code 127. Messages are asked
    for in English, since some are searched.
    """
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "LANGUAGE": "en", **(env or {})}
    lines: list[str] = []
    try:
        with subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            try:
                for line in process.stdout or ():
                    lines.append(line)
                    if each_line:
                        each_line(line.rstrip("\n"))
            except BaseException:  # an interrupt, too: nothing is left running
                process.kill()
                raise
        return Answer(process.returncode, "".join(lines))
    except OSError as problem:
        return Answer(127, f"{command[0]}: {problem.strerror}")
