"""The folder where a run of the native provider keeps its state, and the clean-up after runs that died."""

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from harness.adapters.native_render import write
from harness.model.errors import EnvironmentProblem

_OWNER = "owner.lock"
_SHM = Path("/dev/shm")  # noqa: S108 - POSIX shared memory lives here


class RunState:
    """`root/i/<instance>/` for each instance, `root/secrets/`, `root/flags.json`, and a lock that tells a live run."""

    def __init__(self, root: Path, *, run_id: str, shm_prefixes: Sequence[str]) -> None:
        """Create the folder, locked as long as this process lives; dead neighbours are swept away first.

        Raises EnvironmentProblem when it cannot be written.
        """
        self.root = root.absolute()
        self.instances = self.root / "i"
        try:
            self.root.parent.mkdir(parents=True, exist_ok=True)
            with _alone(self.root.parent):
                _sweep(self.root.parent)
                self.root.mkdir(mode=0o700)
                self._lock = os.open(self.root / _OWNER, os.O_RDWR | os.O_CREAT, 0o600)
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            owner = {"pid": os.getpid(), "run_id": run_id, "shm_prefixes": list(shm_prefixes)}
            os.write(self._lock, json.dumps(owner).encode())
            self.instances.mkdir()
        except OSError as error:
            msg = f"cannot keep the run's state in {self.root}: {error.strerror}"
            raise EnvironmentProblem(msg, mend="free space there, or set ROLLGATE_CACHE to another folder") from error

    @property
    def flags_path(self) -> Path:
        """Where the live feature flags are."""
        return self.root / "flags.json"

    def secret_path(self, name: str) -> Path:
        """Where the secret `name` is."""
        return self.root / "secrets" / name

    def make_secrets(self, names: Sequence[str]) -> dict[str, str]:
        """Make a random secret for each name, in a file that its owner alone can read."""
        made = {name: secrets.token_urlsafe(24) for name in names}
        for name, value in made.items():
            write(self.secret_path(name), value)
        return made

    def remove(self) -> None:
        """Remove the folder; safe to call twice."""
        shutil.rmtree(self.root, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def sweep(runs: Path) -> list[Path]:
    """Remove the state of every run below `runs` whose harness is dead, and return what was removed.

    A live harness holds its lock; a folder without one is none of ours and stays.
    """
    if not runs.is_dir():
        return []
    with _alone(runs):
        return _sweep(runs)


@contextmanager
def _alone(runs: Path) -> Generator[None]:
    """Hold off other sweeps and starts below `runs`: a run that has its folder but not yet its lock looks dead."""
    handle = os.open(runs, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _sweep(runs: Path) -> list[Path]:
    removed: list[Path] = []
    for owner in runs.glob(f"*/{_OWNER}"):
        try:
            lock = os.open(owner, os.O_RDWR)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _unlink_shm(owner)
            shutil.rmtree(owner.parent, ignore_errors=True)
            removed.append(owner.parent)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)
    return removed


def _unlink_shm(owner: Path) -> None:
    try:
        told = cast("dict[str, object]", json.loads(owner.read_text(encoding="utf-8")))
        prefixes = tuple(str(prefix) for prefix in cast("list[object]", told["shm_prefixes"]) if prefix)
    except (OSError, ValueError, KeyError, TypeError):
        return
    if prefixes and _SHM.is_dir():
        for path in _SHM.iterdir():
            if path.name.startswith(prefixes):
                path.unlink(missing_ok=True)
