"""The folder of a target's rollouts: one journal for all, a folder each, and a lock for each feature's driver."""

import fcntl
import os
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.adapters import durable
from harness.adapters.journal import SqliteJournal
from harness.model.errors import EnvironmentProblem
from harness.planning.rollouts import Past, pasts
from harness.ports import Clock, Entry

LOG = "rollout.log"


class RolloutFolder:
    """`root` holds `journal.sqlite`, `rollout.log`, and a folder for each rollout."""

    def __init__(self, root: Path, clock: Clock) -> None:
        """Touch nothing yet."""
        self.root, self._clock = root, clock

    @property
    def journal_file(self) -> Path:
        """Where the journal is, or will be."""
        return self.root / "journal.sqlite"

    def make(self) -> None:
        """Make the folder. Raises EnvironmentProblem."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"cannot create {self.root}: {error.strerror}"
            raise EnvironmentProblem(msg, mend="name a folder that you may write by --out") from error

    def journal(self, *, who: str, rollout: str, scope: str) -> SqliteJournal:
        """Open the journal as one rollout's."""
        return SqliteJournal(self.journal_file, who=who, clock=self._clock, rollout=rollout, scope=scope)

    def entries(self) -> Sequence[Entry]:
        """Return all entries of all rollouts, none where there is no journal. EnvironmentProblem: unreadable."""
        with self._reading() as journal:
            return journal.entries() if journal else ()

    def broken_link(self) -> int | None:
        """Return the first entry whose hash or link is wrong, None when the chain is whole. EnvironmentProblem."""
        with self._reading() as journal:
            return journal.broken_link() if journal else None

    def pasts(self) -> list[Past]:
        """Return the rollouts, oldest first. Raises EnvironmentProblem for a journal that cannot be made out."""
        try:
            return pasts((entry.at, entry.kind, entry.what) for entry in self.entries())
        except (KeyError, TypeError, ValueError) as error:
            raise self._unreadable(f"{type(error).__name__}: {error}") from error

    @contextmanager
    def one_at_a_time(self) -> Generator[None]:
        """Let nobody else begin a rollout here."""
        with durable.locked(self.journal_file):
            yield

    @contextmanager
    def driving(self, feature: str, rollout: str) -> Generator[None]:
        """Be the only driver of a feature; it ends with the process. Raises EnvironmentProblem while another lives."""
        path = self._lock(feature)
        try:
            held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            msg = f"cannot lock {path}: {error.strerror}"
            raise EnvironmentProblem(msg, mend="free space, or let this user write the folder") from error
        try:
            _take(held, feature)
            os.ftruncate(held, 0)
            os.pwrite(held, f"process {os.getpid()}, rollout {rollout}\n".encode(), 0)
            yield
        finally:
            os.close(held)

    def driven(self, feature: str) -> str:
        """Return who drives a feature right now, "" for nobody."""
        try:
            held = os.open(self._lock(feature), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return os.pread(held, 200, 0).decode(errors="replace").strip() or "another process"
        else:
            return ""
        finally:
            os.close(held)

    def _lock(self, feature: str) -> Path:
        return self.root / f".{feature}.driver"

    @contextmanager
    def _reading(self) -> Generator[SqliteJournal | None]:
        if not self.journal_file.exists():
            yield None
            return
        journal = SqliteJournal(self.journal_file, who="reader", clock=self._clock)
        try:
            yield journal
        except (sqlite3.Error, ValueError) as error:
            raise self._unreadable(str(error)) from error
        finally:
            with suppress(sqlite3.Error):
                journal.close()

    def _unreadable(self, why: str) -> EnvironmentProblem:
        msg = f"the journal {self.journal_file} cannot be made out: {why[:200]}"
        return EnvironmentProblem(msg, mend="put it back from a backup, or keep it and begin another by --out")


def _take(held: int, feature: str) -> None:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        other = os.pread(held, 200, 0).decode(errors="replace").strip()
        msg = f"another driver moves `{feature}`: {other or 'another process'}"
        raise EnvironmentProblem(msg, mend="`rollgate abort` tells it to end, or wait for it") from error
