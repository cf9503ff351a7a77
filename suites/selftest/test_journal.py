"""The journal: durable, chained, fenced."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing as closed
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.adapters.clock import SystemClock
from harness.adapters.journal import SqliteJournal
from harness.model.errors import EnvironmentProblem, LostLeaseError

pytestmark = pytest.mark.selftest


_OPEN: list[SqliteJournal] = []


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    """Close the journals that a test opened."""
    yield
    while _OPEN:
        _OPEN.pop().close()


def make(folder: Path) -> SqliteJournal:
    """Open the journal of `folder`."""
    journal = SqliteJournal(folder / "journal.sqlite", who="t", clock=SystemClock())
    _OPEN.append(journal)
    return journal


def test_entries_survive_and_keep_their_order(tmp_path: Path) -> None:
    """What was appended is read back by a new process, chained from the first to the last."""
    journal = make(tmp_path)
    for n in range(5):
        journal.append("look", {"n": n}, why="because", evidence="sha256:0")
    journal.close()
    again = make(tmp_path)
    assert [e.what["n"] for e in again.entries()] == [0, 1, 2, 3, 4]
    assert again.broken_link() is None


@pytest.mark.parametrize("column", ["at", "kind", "who", "what", "why", "evidence", "previous", "hash"])
def test_a_changed_entry_is_found(tmp_path: Path, column: str) -> None:
    """Whichever field of the third entry is tampered with, the chain breaks there."""
    journal = make(tmp_path)
    for n in range(5):
        journal.append("look", {"n": n})
    with closed(sqlite3.connect(tmp_path / "journal.sqlite")) as db, db:
        changed = f"update entries set {column} = ? where seq = 3"  # noqa: S608 - column names of this test
        db.execute(changed, ("9" if column == "at" else "{}",))
    assert journal.broken_link() == 3


def test_a_removed_entry_is_found(tmp_path: Path) -> None:
    """A gap breaks the chain at the entry after it."""
    journal = make(tmp_path)
    for n in range(5):
        journal.append("look", {"n": n})
    with closed(sqlite3.connect(tmp_path / "journal.sqlite")) as db, db:
        db.execute("delete from entries where seq = 2")
    assert journal.broken_link() == 3


def test_an_older_driver_may_write_no_more(tmp_path: Path) -> None:
    """Once a newer driver took the fence, the older one is refused and nothing is written."""
    old, new = make(tmp_path), make(tmp_path)
    old.fence()
    old.append("intent", {})
    new.fence()
    with pytest.raises(LostLeaseError):
        old.append("intent", {})
    new.append("intent", {})
    assert len(new.entries()) == 2


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    """No traceback of sqlite reaches the user."""
    with pytest.raises(EnvironmentProblem, match="cannot open the journal"):
        make(tmp_path / "missing")


def test_a_new_journal_that_two_open_at_once_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite refuses one of two that turn a new file to a write-ahead log, without waiting: planted three times."""
    refused: list[sqlite3.Connection] = []

    class Raced(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:  # noqa: ANN401 - as the class says
            if "journal_mode" in sql and len(refused) < 3:
                refused.append(self)
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = sqlite3.SQLITE_BUSY_RECOVERY
                raise error
            return super().execute(sql, parameters)

    monkeypatch.setattr("harness.adapters.journal.sqlite3.connect", partial(sqlite3.connect, factory=Raced))
    with closed(SqliteJournal(tmp_path / "j.sqlite", who="me", clock=SystemClock())) as journal:
        journal.append("x", {})
        assert len(journal.entries()) == 1
    assert len(refused) == 3
    for connection in refused:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.total_changes  # noqa: B018 - raises where the connection is closed
