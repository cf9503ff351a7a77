"""Programs that the user has on PATH, with the version each tells about itself."""

import ctypes
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import cast

from harness.adapters.programs.catalog import Recipe, VersionCheck
from harness.adapters.programs.program import Program
from harness.model.version import older

UNKNOWN = "unknown"
_PATIENCE_S = 20


def tell_version(path: Path, check: VersionCheck | None, env: dict[str, str]) -> str | None:
    """Return the version that the program tells, "unknown" where it tells none, or None where it does not run."""
    if check is None:
        return UNKNOWN
    try:
        answer = subprocess.run(
            [path, *check.arguments],
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, **env},
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(check.pattern, answer.stdout + answer.stderr)
    if found:
        return found[1]
    return None if answer.returncode else UNKNOWN


def old(version: str, check: VersionCheck | None) -> bool:
    """Tell whether `version` is older than the check allows; an unknown one is, where an age is asked for."""
    return check is not None and older(version, check.at_least)


class VersionNotes:
    """Versions already asked for, by path, size and time of change: asking a dozen programs takes a second."""

    def __init__(self, file: Path) -> None:
        """Read the notes in `file`; unreadable ones count as none."""
        self._file = file
        self._changed = False
        try:
            self._notes = cast("dict[str, str]", json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            self._notes = {}

    def version(self, path: Path, check: VersionCheck | None) -> str | None:
        """Return what `tell_version` says about `path`, from the notes when the file is the same."""
        try:
            stat = path.stat()
        except OSError:
            return None
        key = f"{path}|{stat.st_size}|{stat.st_mtime_ns}|{check.pattern if check else ''}"
        if key not in self._notes:
            version = tell_version(path, check, {})
            if version is None:
                return None
            self._notes[key] = version
            self._changed = True
        return self._notes[key]

    def save(self) -> None:
        """Write new notes; a cache that takes none is no error here."""
        if not self._changed:
            return
        part = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(self._notes, indent=1), encoding="utf-8")
            part.replace(self._file)
        except OSError:
            part.unlink(missing_ok=True)


def _loads(library: str) -> bool:
    """Tell whether the loader finds the library. Other systems' wheels bring their own: only Linux is asked."""
    if platform.system() != "Linux":
        return True
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def search(name: str, recipe: Recipe, notes: VersionNotes, progress: Callable[[str], None]) -> Program | None:
    """Return the first of the recipe's names on PATH that runs and is new enough, or the loader's library, or None."""
    if recipe.library and _loads(recipe.library):
        return Program(name, Path(recipe.library), {}, "", "path")
    for candidate in recipe.names:
        if not (hit := shutil.which(candidate)):
            continue
        path = Path(hit).absolute()
        version = notes.version(path, recipe.version)
        if version is None:
            progress(f"{name}: {path} does not run: looking elsewhere")
        elif old(version, recipe.version):
            wanted = recipe.version.at_least if recipe.version else ""
            progress(f"{name}: {path} is {version}, {wanted} or later is needed: looking elsewhere")
        else:
            return Program(name, path, {}, version, "path")
    return None
