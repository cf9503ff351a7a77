"""Runs a script that makes models and data: told line by line, and ended with the harness, however that ends."""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness.adapters import processes
from harness.model.errors import EnvironmentProblem

_POLL_S = 0.05
_GRACE_S = 2.0


def run_script(script: Path, cache: Path, note: Callable[[str], None]) -> None:
    """Run `script --cache CACHE` with this Python, and pass on each line that it says.

    Raises EnvironmentProblem with its last word when it fails. It sees the user's own environment.
    """
    cache.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".prepare-", dir=cache))
    log = scratch / "log"
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": str(scratch)}
    command = [sys.executable, str(script), "--cache", str(cache)]
    process = processes.start(command, env=env, cwd=scratch, log=log, folders=(scratch,))
    heard = _Ear(log, note)
    try:
        while (code := process.poll()) is None:
            heard.listen()
            time.sleep(_POLL_S)
        heard.listen()
    finally:
        process.terminate(_GRACE_S)
    if code != 0:
        msg = f"{script.name} failed: {heard.last or process.exit_note}"
        raise EnvironmentProblem(msg, mend="run `make setup` again; from a wheel, install rollgate[native]")


class _Ear:
    """Passes on the whole lines that a log has gained."""

    def __init__(self, log: Path, note: Callable[[str], None]) -> None:
        self._log, self._note = log, note
        self._read = 0
        self.last = ""

    def listen(self) -> None:
        try:
            with self._log.open("rb") as file:
                file.seek(self._read)
                text = file.read()
        except OSError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.decode("utf-8", "replace").splitlines():
            if line.strip():
                self.last = line.strip()
                self._note(line.rstrip())
