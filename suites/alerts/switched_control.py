"""The file by which a known-bad release of these suites is told its faults while it runs."""

import json
import os
from pathlib import Path
from typing import Any


class Control:
    """JSON numbers by name in the file that BAD_RELEASE_CONTROL names, read again when it changes."""

    def __init__(self) -> None:
        """Read nothing yet."""
        self._path = Path(os.environ["BAD_RELEASE_CONTROL"])
        self._read_at = -1
        self._values: dict[str, Any] = {}

    def now(self, name: str) -> float:
        """Return a number as of now; 0 for one that is not there."""
        try:
            changed = self._path.stat().st_mtime_ns
        except OSError:
            return 0.0
        if changed != self._read_at:
            self._values, self._read_at = json.loads(self._path.read_text(encoding="utf-8")), changed
        return float(self._values.get(name, 0))
