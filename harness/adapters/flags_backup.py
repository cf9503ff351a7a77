"""Backups of the flags file: numbered copies in a folder beside it, the newest twenty."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.adapters import durable

KEPT = 20


@dataclass(frozen=True, slots=True)
class Backup:
    """One copy: its file and its bytes."""

    path: Path
    content: bytes

    def __str__(self) -> str:
        """Say which one, and of when."""
        made = datetime.fromtimestamp(self.path.stat().st_mtime, UTC)
        return f"{self.path.parent.name}/{self.path.name} of {made:%Y-%m-%d %H:%M:%S} UTC"


class Backups:
    """The copies of one file. Use it with the file's lock held; OSError where the disk refuses."""

    def __init__(self, path: Path) -> None:
        """Keep the copies of `path` in the folder `.NAME.backups` beside it."""
        self.folder = path.with_name(f".{path.name}.backups")

    def keep(self, content: bytes) -> None:
        """Add a copy, on disk when this returns, unless the newest is the same; drop what is over twenty."""
        if not self.folder.is_dir():
            self.folder.mkdir()
            durable.sync_folder(self.folder.parent)
        numbered = self._numbered()
        if numbered and numbered[-1].read_bytes() == content:
            return
        number = int(numbered[-1].stem) + 1 if numbered else 1
        durable.write(self.folder / f"{number:08d}.json", content)
        durable.sync_folder(self.folder)
        for old in numbered[: max(0, len(numbered) + 1 - KEPT)]:
            old.unlink(missing_ok=True)

    def set_aside(self, content: bytes) -> None:
        """Keep what could not be used for whoever wants to see it; only the last, and only if that is possible."""
        with suppress(OSError):
            self.folder.mkdir(exist_ok=True)
            durable.write(self.folder / "torn", content)

    def newest(self, sound: Callable[[bytes], object]) -> Backup | None:
        """Return the newest copy for which `sound` raises no ValueError; None where there is none."""
        for backup in self._newest_first():
            with suppress(ValueError):
                sound(backup.content)
                return backup
        return None

    def _newest_first(self) -> Iterator[Backup]:
        for path in reversed(self._numbered()):
            with suppress(OSError):
                yield Backup(path, path.read_bytes())

    def _numbered(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.json") if path.stem.isdecimal() and path.is_file())
