"""The journal: SQLite with a write-ahead log and full sync, hash-chained, fenced."""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from harness.model.errors import EnvironmentProblem, LostLeaseError
from harness.ports import Clock, Entry

_SCHEMA = """
create table if not exists entries (
    seq integer primary key, at real not null, kind text not null, who text not null, what text not null,
    why text not null, evidence text not null, previous text not null, hash text not null);
create table if not exists fence (token integer not null, scope text not null default '');
"""
_VERSION = 1  # of the layout; kept in the file's user_version, where 0 is a file of before there was one
_GENESIS = "0" * 64
_FROZEN = "another process is stopped in the middle of a write: continue or end it"
_BUSY_S = 10.0  # longest wait for another process's write


class SqliteJournal:
    """A journal. An append is on disk when it returns; another process may read and append orders.

    Several rollouts may share one file: entries made under a `rollout` id bear it, and `entries` and `since` then
    give those alone. Fencing tokens are given out for each `scope`: two drivers of one scope exclude each other.
    """

    def __init__(self, path: Path, *, who: str, clock: Clock, rollout: str = "", scope: str = "") -> None:
        """Open or create the journal at `path`; raise EnvironmentProblem where that is not possible."""
        self._who = who
        self._clock = clock
        self._rollout = rollout
        self._scope = scope
        self._token: int | None = None
        # Of several that turn a new file to a write-ahead log, SQLite refuses one at once, whatever the timeout.
        patient = Retrying(
            retry=retry_if_exception(_busy), stop=stop_after_delay(_BUSY_S), wait=wait_random(0.01, 0.1), reraise=True
        )
        try:
            self._db = patient(self._opened, path)
        except sqlite3.Error as error:
            msg = f"cannot open the journal {path}: {error}"
            mend = _FROZEN if _busy(error) else "free space, or choose another --out"
            raise EnvironmentProblem(msg, mend=mend) from error

    def _opened(self, path: Path) -> sqlite3.Connection:
        db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
        try:
            db.execute("pragma journal_mode=wal")
            db.execute("pragma synchronous=full")
            self._prepare(db, path)
        except BaseException:
            db.close()
            raise
        return db

    @staticmethod
    def _prepare(db: sqlite3.Connection, path: Path) -> None:
        """Lay the tables out; EnvironmentProblem for a file of a newer rollgate, which is left as it is."""
        version = int(db.execute("pragma user_version").fetchone()[0])
        if version > _VERSION:
            msg = f"the journal {path} has layout {version}, this rollgate knows up to {_VERSION}"
            raise EnvironmentProblem(msg, mend="use the rollgate that wrote it, or a newer one")
        if version == _VERSION:
            return
        db.executescript(_SCHEMA)
        columns = {row[1] for row in db.execute("pragma table_info(fence)")}
        if "scope" not in columns:
            db.execute("alter table fence add column scope text not null default ''")
        db.execute(f"pragma user_version={_VERSION}")

    def fence(self) -> int:
        """Take the next fencing token of the scope; whoever held an older one can append no more."""
        with self._writing():
            token = self._newest_token() + 1
            self._db.execute("insert into fence (token, scope) values (?, ?)", (token, self._scope))
        self._token = token
        return token

    def _newest_token(self) -> int:
        row = self._db.execute("select max(token) from fence where scope = ?", (self._scope,)).fetchone()
        return int(row[0] or 0)

    def append(self, kind: str, what: Mapping[str, object], *, why: str = "", evidence: str = "") -> Entry:
        """Append one entry, chained to the one before it; LostLeaseError when a newer driver took over."""
        with self._writing():
            if self._token is not None:
                newest = self._newest_token()
                if newest != self._token:
                    msg = f"another driver took over this run (token {newest}, ours is {self._token})"
                    raise LostLeaseError(msg, mend="leave the run to it")
            last = self._db.execute("select seq, hash from entries order by seq desc limit 1").fetchone()
            seq, previous = (last[0] + 1, last[1]) if last else (1, _GENESIS)
            kept = {**what, "rollout": self._rollout} if self._rollout else what
            body = json.dumps(kept, sort_keys=True, separators=(",", ":"), default=str)
            row = (seq, self._clock.now(), kind, self._who, body, why, evidence, previous)
            digest = _digest(row)
            self._db.execute("insert into entries values (?,?,?,?,?,?,?,?,?)", (*row, digest))
        return _entry((*row, digest))

    def entries(self) -> Sequence[Entry]:
        """Return all entries, oldest first."""
        return self._ours(_entry(row) for row in self._db.execute("select * from entries order by seq"))

    def since(self, seq: int, kind: str) -> Sequence[Entry]:
        """Return the entries of `kind` after `seq`."""
        rows = self._db.execute("select * from entries where seq > ? and kind = ? order by seq", (seq, kind))
        return self._ours(_entry(row) for row in rows)

    def _ours(self, entries: Iterable[Entry]) -> list[Entry]:
        return [entry for entry in entries if not self._rollout or entry.what.get("rollout") == self._rollout]

    def broken_link(self) -> int | None:
        """Return the `seq` of the first entry whose hash or link is wrong, None when the chain is whole."""
        previous = _GENESIS
        for number, row in enumerate(self._db.execute("select * from entries order by seq"), 1):
            if row[0] != number or row[7] != previous or _digest(row[:8]) != row[8]:
                return int(row[0])
            previous = row[8]
        return None

    def close(self) -> None:
        """Close the database; safe to call twice."""
        self._db.close()

    def _writing(self) -> "_Transaction":
        return _Transaction(self._db)


class _Transaction:
    """An immediate transaction, so that two writers never build on the same last entry."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        try:
            self._db.execute("begin immediate")
        except sqlite3.Error as error:
            raise _unwritten(error) from error

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self._db.execute("rollback" if error else "commit")
        except sqlite3.Error as failed:
            if error:  # the first error is the cause: a full disk has rolled back by itself
                if isinstance(error, sqlite3.Error):
                    raise _unwritten(error) from error
                return
            raise _unwritten(failed) from failed


def _unwritten(error: sqlite3.Error) -> EnvironmentProblem:
    """Return what to say of a journal that could not be written: a full disk, or somebody frozen in a write of it."""
    mend = _FROZEN if _busy(error) else "free space under the run's folder, and let this user write"
    return EnvironmentProblem(f"cannot write the journal: {error}", mend=mend)


def _busy(error: BaseException) -> bool:
    """Tell whether another process holds the journal's lock; an extended code keeps its kind in the last byte."""
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def _digest(row: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(list(row), separators=(",", ":")).encode()).hexdigest()


def _entry(row: Sequence[Any]) -> Entry:
    return Entry(
        seq=row[0],
        at=row[1],
        kind=row[2],
        who=row[3],
        what=json.loads(row[4]),
        why=row[5],
        evidence=row[6],
        previous=row[7],
        hash=row[8],
    )
