"""A small file that several processes change: one writer at a time, whole or not at all, on disk when it is done."""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.model.errors import EnvironmentProblem

_LARGEST = 1024 * 1024  # bytes
_PATIENCE_S = 10.0
_POLL_S = 0.005


@contextmanager
def locked(path: Path, *, patience_s: float = _PATIENCE_S) -> Generator[None]:
    """Hold the lock of `path`, which is a file beside it that is never removed; it ends with the process.

    Raises EnvironmentProblem where the folder cannot be written, or where another process holds it for too long.
    """
    lock = path.with_name(f".{path.name}.lock")
    try:
        held = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise _problem(f"cannot lock {path}", error) from error
    try:
        deadline = time.monotonic() + patience_s
        while not _taken(held):
            if time.monotonic() > deadline:
                msg = f"another process holds the lock of {path} for more than {patience_s:g} s"
                raise EnvironmentProblem(msg, mend=f"end the process that holds {lock}")
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(held)


def _taken(held: int) -> bool:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EINTR):
            return False
        raise EnvironmentProblem("this file system knows no locks", mend="keep the file on a local disk") from error
    return True


def content(path: Path) -> bytes | None:
    """Return what a file holds, None where there is none. Raises EnvironmentProblem for all but a readable file."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            what = "a folder" if stat.S_ISDIR(found.st_mode) else "no file"
            raise EnvironmentProblem(f"{path} is {what}, expected a file", mend="move it out of the way")
        if found.st_size > _LARGEST:
            msg = f"{path} has {found.st_size} bytes, expected at most {_LARGEST}"
            raise EnvironmentProblem(msg, mend="is this the right file?")
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _problem(f"cannot read {path}", error) from error


def replace(path: Path, data: bytes, *, expected: bytes | None) -> None:
    """Put `data` in the place of `path`, which must still hold `expected` (None: not be there); call it locked.

    A reader sees the old or the new, never a part, and the new is on disk when this returns. The mode of the file
    stays. Raises EnvironmentProblem, and then the file is as it was.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        write(draft, data, mode=stat.S_IMODE(path.stat().st_mode) if expected is not None else 0o644)
        if content(path) != expected:
            msg = f"somebody else changed {path} between reading and writing: nothing was written"
            raise EnvironmentProblem(msg, mend="end the other writer of that file, and try again")
        draft.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise _problem(f"cannot write {path}", error) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file anew and wait until its bytes are on disk; OSError where that fails."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    with os.fdopen(handle, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in `folder` are on disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _problem(what: str, error: OSError) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"{what}: {error.strerror or error}", mend="free space, or let this user write the folder and read the file"
    )
