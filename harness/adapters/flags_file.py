"""Feature flags in a JSON file that the application reads live."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from harness.model.errors import EnvironmentProblem

_FULL = 100.0


class FileFlags:
    """`{"flag": percent}`, replaced atomically and read back after every change."""

    def __init__(self, path: Path) -> None:
        """Use the file at `path`, which must exist."""
        self._path = path

    def read(self) -> Mapping[str, float]:
        """Return every flag's percent; EnvironmentProblem when the file is away or malformed."""
        try:
            raw: object = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            msg = f"cannot read the flags file {self._path}: {error}"
            raise EnvironmentProblem(msg, mend="restore it, one JSON object of flag: percent") from error
        if not isinstance(raw, dict):
            msg = f"the flags file {self._path} holds {type(raw).__name__}, expected an object of flag: percent"
            raise EnvironmentProblem(msg)
        values = cast("dict[str, object]", raw)
        flags: dict[str, float] = {}
        for name, percent in values.items():
            if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 <= percent <= _FULL:
                msg = f"the flags file {self._path}: {name} is {percent!r}, expected a number in 0..100"
                raise EnvironmentProblem(msg)
            flags[name] = float(percent)
        return flags

    def set(self, name: str, percent: float) -> None:
        """Set one flag; ValueError outside 0..100, KeyError for an unknown one, EnvironmentProblem if not taken."""
        if not 0 <= percent <= _FULL:
            msg = f"flag {name}: {percent} lies outside 0..100"
            raise ValueError(msg)
        flags = dict(self.read())
        if name not in flags:
            raise KeyError(name)
        flags[name] = float(percent)
        write_flags(self._path, flags)
        if self.read().get(name) != percent:
            msg = f"flag {name}: {percent:g} was written to {self._path}, but something else is read back"
            raise EnvironmentProblem(msg, mend="end the other writer of that file")


def write_flags(path: Path, flags: Mapping[str, float]) -> None:
    """Write the whole file at once: a reader sees the old or the new, never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(json.dumps(dict(flags), indent=1) + "\n", encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        msg = f"cannot write the flags file {path}: {error.strerror}"
        raise EnvironmentProblem(msg, mend="free space, or make the folder writable") from error
