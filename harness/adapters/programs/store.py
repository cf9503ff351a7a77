"""The cache folder of unpacked programs: one folder per recipe, moved into place whole, guarded by one lock."""

import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from harness.model.errors import EnvironmentProblem

_STAMP = "rollgate-stamp.json"
_UNFINISHED = ".unfinished-"
STORAGE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG})


def digest(*parts: object) -> str:
    """Return a short digest of what an unpacked folder depends on."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:12]


def machine_digest() -> str:
    """Return what tells this machine's binaries from another's: system, architecture, distribution release."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    return digest(platform.system(), platform.machine(), release.get("ID", ""), release.get("VERSION_ID", ""))


class File(BaseModel):
    """One program or data folder in an unpacked folder: its path there, its size in bytes, the version it told."""

    path: str
    size: int
    version: str


class Contents(BaseModel):
    """What an unpacked folder offers: files by their catalog path, and folders for LD_LIBRARY_PATH."""

    files: dict[str, File]
    libraries: list[str]


class Store:
    """Unpacked programs below `root`. A folder is there whole, with its stamp, or it is not there."""

    def __init__(self, root: Path) -> None:
        """Use `root`, made on the first write."""
        self.root = root

    def read(self, key: str) -> Contents | None:
        """Return what `commit` put there as `key`; None when it is absent or a program has changed its size."""
        folder = self.root / key
        try:
            contents = Contents.model_validate_json((folder / _STAMP).read_bytes())
            whole = all((folder / file.path).stat().st_size == file.size for file in contents.files.values())
        except (OSError, ValueError):
            return None
        return contents if whole else None

    def commit(self, key: str, unpacked: Path, contents: Contents) -> None:
        """Move `unpacked` into place as `key`, stamped with its `contents`."""
        (unpacked / _STAMP).write_text(contents.model_dump_json(indent=1), encoding="utf-8")
        target = self.root / key
        if target.exists():
            shutil.rmtree(target)
        unpacked.rename(target)

    @contextmanager
    def scratch(self) -> Generator[Path]:
        """Yield an empty folder on the cache's file system; what is left in it is removed."""
        folder = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self.root))
        # Readable for apt's own download user, should an administrator have forced it.
        folder.chmod(0o755)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def locked(self, progress: Callable[[str], None]) -> Generator[None]:
        """Hold the store against other set-ups; also sweep what a killed one left unfinished.

        Raises:
            EnvironmentProblem: the cache folder cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as problem:
            raise unwritable(self.root, problem) from problem
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress("another set-up is filling the cache: waiting for it")
                fcntl.flock(handle, fcntl.LOCK_EX)
            for left in self.root.glob(f"{_UNFINISHED}*"):
                shutil.rmtree(left, ignore_errors=True)
            yield
        finally:
            os.close(handle)


def unwritable(folder: Path, problem: OSError) -> EnvironmentProblem:
    """Return the error for a cache that takes no files: no permission, read-only, or full."""
    return EnvironmentProblem(
        f"cannot write to the cache folder {folder}: {problem.strerror or problem}",
        mend="make it writable, free some space (about 1 GB), or name another folder in ROLLGATE_CACHE",
    )
