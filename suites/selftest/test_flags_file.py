"""The live flags file: whole or not at all, on disk, one writer at a time, backed up, and put back when it is torn."""

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from harness.adapters import durable
from harness.adapters.flags_backup import KEPT
from harness.adapters.flags_file import FileFlags, write_flags
from harness.model.errors import EnvironmentProblem

pytestmark = pytest.mark.selftest

BEFORE = {"a": 0.0, "b": 100.0}
MALFORMED = {
    "empty": b"",
    "blank": b" \n",
    "truncated": b'{\n "a": 0.0,\n "b"',
    "a list": b"[]",
    "a text for a number": b'{"a": "10"}',
    "a yes for a number": b'{"a": true}',
    "out of range": b'{"a": 101}',
    "not a number": b'{"a": NaN}',
    "too large for a float": b'{"a": 1e999}',
    "a number of 5000 digits": b'{"a": ' + b"9" * 5000 + b"}",
    "a flag twice": b'{"a": 0, "a": 100}',
    "binary": bytes(range(256)),
    "zeros, as after a power cut": bytes(40),
    "nested without end": b"[" * 200_000,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a flags file with two flags."""
    write_flags(tmp_path / "flags.json", BEFORE)
    return tmp_path / "flags.json"


def backups(path: Path) -> list[dict[str, float]]:
    """Return what the backups hold, oldest first."""
    return [json.loads(one.read_bytes()) for one in sorted(path.parent.glob(".flags.json.backups/*.json"))]


# ---------------------------------------------------------------- reading and writing


def test_a_flag_is_set_and_read_back(path: Path) -> None:
    """Only that flag changes, and no draft is left behind."""
    FileFlags(path).set("a", 25)

    assert FileFlags(path).read() == {"a": 25.0, "b": 100.0}
    assert {one.name for one in path.parent.iterdir()} == {"flags.json", ".flags.json.lock", ".flags.json.backups"}


@pytest.mark.parametrize("percent", [-0.1, 100.1, float("nan")])
def test_a_percent_outside_the_range_is_refused(path: Path, percent: float) -> None:
    """Nothing is written."""
    with pytest.raises(ValueError, match=r"0\.\.100"):
        FileFlags(path).set("a", percent)

    assert FileFlags(path).read()["a"] == 0.0


def test_an_unknown_flag_is_refused(path: Path) -> None:
    """A misspelled flag must not come to life."""
    with pytest.raises(KeyError):
        FileFlags(path).set("c", 1)


@pytest.mark.parametrize("fault", MALFORMED)
def test_a_malformed_file_is_an_environment_problem(path: Path, fault: str) -> None:
    """Whatever is no object of numbers between 0 and 100; the mend names the command."""
    path.write_bytes(MALFORMED[fault])

    with pytest.raises(EnvironmentProblem, match="flags file") as caught:
        FileFlags(path).read()
    assert "rollgate flags recover" in caught.value.mend


def test_a_missing_file_is_an_environment_problem(tmp_path: Path) -> None:
    """Nobody wrote it."""
    with pytest.raises(EnvironmentProblem, match="cannot read"):
        FileFlags(tmp_path / "flags.json").read()


def test_the_mode_of_the_file_and_a_link_to_it_stay(path: Path) -> None:
    """An application of another user goes on reading it, by whichever name it has."""
    path.chmod(0o664)
    link = path.with_name("link.json")
    link.symlink_to(path)
    FileFlags(link).set("a", 25)
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o664
    assert FileFlags(path).read()["a"] == 25


# ---------------------------------------------------------------- what is no file, and disks that refuse


def test_a_folder_in_the_files_place_is_told(tmp_path: Path) -> None:
    """Neither reading, setting nor recovery touches it."""
    folder = tmp_path / "flags.json"
    folder.mkdir()
    (folder / "mine").touch()
    flags = FileFlags(folder)
    for act in (flags.read, lambda: flags.set("a", 1), flags.recover, lambda: write_flags(folder, {})):
        with pytest.raises(EnvironmentProblem, match="is a folder, expected a file"):
            act()
    assert (folder / "mine").exists()


def test_a_pipe_in_the_files_place_is_told(tmp_path: Path) -> None:
    """Reading does not wait for a writer that never comes."""
    os.mkfifo(tmp_path / "flags.json")
    with pytest.raises(EnvironmentProblem, match="is no file"):
        FileFlags(tmp_path / "flags.json").read()


def test_a_huge_file_is_told(path: Path) -> None:
    """It is not read into memory."""
    with path.open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(EnvironmentProblem, match="expected at most"):
        FileFlags(path).read()


@pytest.fixture
def read_only(path: Path) -> Iterator[Path]:
    """The flags file in a folder that this process may not write; as nobody, where the tests run as root."""
    folder = path.parent
    root = os.geteuid() == 0
    above = [one for one in folder.parents if root and one.stat().st_uid == 0 and not one.stat().st_mode & 0o001]
    modes = {one: one.stat().st_mode for one in (*above, folder)}
    for one in above:
        one.chmod(0o755)
    folder.chmod(0o555)
    if root:
        os.seteuid(65534)
    yield path
    if root:
        os.seteuid(0)
    for one, mode in modes.items():
        one.chmod(mode)


def test_a_folder_that_cannot_be_written_is_told(read_only: Path) -> None:
    """The flags can be read, and every change says what is in its way."""
    flags = FileFlags(read_only)
    assert flags.read() == BEFORE
    with pytest.raises(EnvironmentProblem, match=r"cannot (lock|keep a backup of) .*: Permission denied") as caught:
        flags.set("a", 10)
    assert "the folder" in caught.value.mend
    assert flags.read() == BEFORE


def refusing(monkeypatch: pytest.MonkeyPatch, refuses: Callable[[Path], bool]) -> None:
    """Let the disk be full for the files that `refuses` names."""
    write = durable.write

    def full(path: Path, data: bytes, *, mode: int = 0o644) -> None:
        if refuses(path):
            path.write_bytes(data[: len(data) // 2])  # what a full disk leaves behind
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, data, mode=mode)

    monkeypatch.setattr(durable, "write", full)


@pytest.mark.parametrize("where", ["draft", "backup"])
def test_on_a_full_disk_nothing_is_raised(path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Without room for the new file, or for the backup before it, the flag stays, and the sentence says why."""
    FileFlags(path).set("a", 10)
    path.write_text(json.dumps({"a": 20, "b": 30}))  # a state that has no backup yet
    refusing(monkeypatch, lambda one: ("draft" in one.name) == (where == "draft"))
    with pytest.raises(EnvironmentProblem, match="No space left on device"):
        FileFlags(path).set("a", 50)
    assert FileFlags(path).read() == {"a": 20, "b": 30}
    assert not list(path.parent.glob("*.draft"))
    monkeypatch.undo()
    FileFlags(path).set("a", 50)
    assert FileFlags(path).read()["a"] == 50


def test_a_flag_is_taken_back_though_no_backup_can_be_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way back does not wait for room on the disk; what could not be kept is said."""
    refusing(monkeypatch, lambda one: "draft" not in one.name)
    said: list[str] = []
    FileFlags(path, note=said.append).set("b", 0)
    assert FileFlags(path).read() == {"a": 0, "b": 0}
    assert said
    assert all("cannot keep a backup" in line and "No space left" in line for line in said)


# ---------------------------------------------------------------- on disk, whole, whatever ends the process


def steps_of(path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> list[str]:
    """Return what `act` made durable, in order: "sync NAME" of a file or folder, "replace NAME"."""
    steps: list[str] = []
    sync, move = os.fsync, os.replace

    def synced(handle: int) -> None:
        name = Path(f"/proc/self/fd/{handle}").readlink().name
        steps.append(f"sync {'folder' if name == path.parent.name else name}")
        sync(handle)

    def moved(source: Path, target: Path) -> None:
        steps.append(f"replace {Path(target).name}")
        move(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", moved)
    act()
    monkeypatch.undo()
    return steps


def undurable(steps: list[str]) -> list[str]:
    """Return what a power cut could undo, or tear, in such a sequence of steps."""
    at = steps.index("replace flags.json")
    wrong = [] if "sync .flags.json.draft" in steps[:at] else ["the new bytes are not on disk before the name is"]
    wrong += [] if "sync folder" in steps[at:] else ["the new name may be lost"]
    backup = next((place for place, step in enumerate(steps) if step.endswith(".json") and "sync 0" in step), at)
    if backup >= at or "sync .flags.json.backups" not in steps[backup:at]:
        wrong.append("the backup is not on disk before the change")
    return wrong


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="names of handles are read from /proc")
def test_a_change_is_on_disk_when_it_is_done(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Backup and its folder, then the draft, then the rename, then the folder; each omission is told by name."""
    steps = steps_of(path, monkeypatch, lambda: FileFlags(path).set("a", 25))
    assert undurable(steps) == []
    for lost in ("sync .flags.json.draft", "sync folder", "sync .flags.json.backups", "sync 00000001.json"):
        assert len(undurable([step for step in steps if step != lost])) == 1, lost


class PowerCutError(BaseException):
    """The process ends here."""


def test_however_far_a_change_came_the_file_is_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended before and after each call that touches the disk: old or new, never less; the next change goes through."""
    calls = ("open", "fsync", "replace", "mkdir", "unlink", "fchmod")
    real = {name: getattr(os, name) for name in calls}
    count, seen, ends = 0, set[float](), 0

    def ending(name: str, at: int) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            nonlocal count
            count += 1
            if count == 2 * at:
                raise PowerCutError
            done = real[name](*arguments, **options)
            if count == 2 * at - 1:
                raise PowerCutError
            count += 1
            return done

        return call

    for at in range(1, 200):
        write_flags(path, BEFORE)
        count = 0
        for name in calls:
            monkeypatch.setattr(os, name, ending(name, at))
        try:
            FileFlags(path).set("a", 50)
            break
        except PowerCutError:
            ends += 1
        finally:
            monkeypatch.undo()
        found = FileFlags(path).read()
        assert found in ({"a": 0, "b": 100}, {"a": 50, "b": 100})
        seen.add(found["a"])
        FileFlags(path).set("b", 75)
        assert FileFlags(path).read() == {"a": found["a"], "b": 75}
        assert FileFlags(path).recover() == ""
    assert (seen, ends > 8) == ({0.0, 50.0}, True)


def test_a_file_written_in_place_is_seen_torn(path: Path) -> None:
    """The planted violation: a writer that does not rename leaves half a file when it ends half-way."""
    with path.open("wb") as file:
        file.write(b'{"a": 50')
    with pytest.raises(EnvironmentProblem):
        FileFlags(path).read()


# ---------------------------------------------------------------- two writers


def test_another_writer_is_noticed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else overwrites the file right after us: the reading back tells."""
    replace = durable.replace

    def overwritten(target: Path, data: bytes, *, expected: bytes | None) -> None:
        replace(target, data, expected=expected)
        target.write_text(json.dumps({"a": 7, "b": 7}), encoding="utf-8")

    monkeypatch.setattr(durable, "replace", overwritten)

    with pytest.raises(EnvironmentProblem, match="read back"):
        FileFlags(path).set("a", 25)


def between(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Let `act` happen once, between the reading and the writing of the next change."""
    keep, waiting = FileFlags._keep, [act]  # noqa: SLF001 - the one place between the two

    def first(self: FileFlags, content: bytes | None, *, needed: bool) -> None:
        if waiting:
            waiting.pop()()
        keep(self, content, needed=needed)

    monkeypatch.setattr(FileFlags, "_keep", first)


def test_a_change_between_reading_and_writing_is_not_written_over(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An editor that knows no lock saves in between: the change is refused, the editor's stays, and a retry sees it."""
    between(monkeypatch, lambda: path.write_bytes(b'{"a": 0, "b": 42}') and None)
    with pytest.raises(EnvironmentProblem, match="somebody else changed"):
        FileFlags(path).set("a", 25)
    assert FileFlags(path).read() == {"a": 0, "b": 42}
    FileFlags(path).set("a", 25)
    assert FileFlags(path).read() == {"a": 25, "b": 42}


def test_without_the_comparison_that_change_would_be_lost(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted violation: a writer that does not compare; the case above would see 100 in place of 42."""
    between(monkeypatch, lambda: path.write_bytes(b'{"a": 0, "b": 42}') and None)
    replace = durable.replace
    careless = lambda to, data, *, expected: replace(to, data, expected=durable.content(to))  # noqa: E731, ARG005
    monkeypatch.setattr(durable, "replace", careless)
    FileFlags(path).set("a", 25)
    assert FileFlags(path).read() == {"a": 25, "b": 100}


def test_the_lock_keeps_a_second_writer_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is between reading and writing the other waits, and says who is in its way when that takes too long."""
    patient = durable.locked
    monkeypatch.setattr(durable, "locked", lambda one: patient(one, patience_s=0.05))
    refused: list[EnvironmentProblem] = []

    def second() -> None:
        with pytest.raises(EnvironmentProblem, match="holds the lock") as caught:
            FileFlags(path).set("b", 1)
        refused.append(caught.value)

    between(monkeypatch, second)
    FileFlags(path).set("a", 25)
    assert FileFlags(path).read() == {"a": 25, "b": 100}
    assert ".flags.json.lock" in refused[0].mend


def test_a_writer_waits_for_the_lock_and_then_writes(path: Path) -> None:
    """Let go while the other waits: both changes are there."""
    with durable.locked(path):
        other = threading.Thread(target=lambda: FileFlags(path).set("b", 1))
        other.start()
        other.join(0.05)
        assert FileFlags(path).read() == BEFORE
    other.join(20)
    assert FileFlags(path).read() == {"a": 0, "b": 1}


RACER = """
import os, sys
from pathlib import Path
from harness.adapters.flags_file import FileFlags
os.fsync = lambda handle: None  # a race needs no disk
flags, name = FileFlags(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
for line in sys.stdin:
    flags.set(name, float(line))
    print("done", flush=True)
"""


def test_of_two_processes_that_write_at_once_neither_is_lost(path: Path) -> None:
    """200 times each sets its own flag at the same moment; after each time both are there."""
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(path), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in BEFORE
    ]
    try:
        for racer in racers:
            assert racer.stdout
            assert racer.stdout.readline() == "ready\n"
        for turn in range(200):
            for place, racer in enumerate(racers):
                assert racer.stdin
                racer.stdin.write(f"{(turn + 50 * place) % 101}\n")
                racer.stdin.flush()
            for racer in racers:
                assert racer.stdout
                assert racer.stdout.readline() == "done\n"
            assert FileFlags(path).read() == {"a": turn % 101, "b": (turn + 50) % 101}
    finally:
        for racer in racers:
            racer.communicate(timeout=30)
    assert [racer.returncode for racer in racers] == [0, 0]
    assert len(backups(path)) == KEPT


def test_without_lock_and_comparison_one_of_two_writers_is_lost(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted violation of the race: with both taken out, the second writer's flag is gone."""
    monkeypatch.setattr(durable, "locked", lambda _: nullcontext())
    replace = durable.replace
    careless = lambda to, data, *, expected: replace(to, data, expected=durable.content(to))  # noqa: E731, ARG005
    monkeypatch.setattr(durable, "replace", careless)
    between(monkeypatch, lambda: FileFlags(path).set("b", 1))
    FileFlags(path).set("a", 25)
    assert FileFlags(path).read() == {"a": 25, "b": 100}


# ---------------------------------------------------------------- backups and recovery


def test_the_state_before_every_change_is_kept(path: Path) -> None:
    """And the newest state too, once; unchanged states are not copied again."""
    flags = FileFlags(path)
    for percent in (10, 25, 25, 50):
        flags.set("a", percent)
    assert [one["a"] for one in backups(path)] == [0, 10, 25, 50]


def test_the_newest_twenty_backups_are_kept(path: Path) -> None:
    """Older ones go; numbers only rise."""
    for percent in range(1, 31):
        FileFlags(path).set("a", percent)
    assert [one["a"] for one in backups(path)] == list(range(11, 31))


@pytest.mark.parametrize("fault", [*MALFORMED, "missing"])
def test_a_torn_file_is_put_back_as_it_was(path: Path, fault: str) -> None:
    """Whatever is wrong with it: the last state comes back, in words; what could not be used is set aside."""
    FileFlags(path).set("a", 25)
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(MALFORMED[fault])
    said = FileFlags(path).recover()
    assert FileFlags(path).read() == {"a": 25, "b": 100}
    assert "put back the backup .flags.json.backups/00000002.json of " in said
    if fault != "missing":
        assert (path.parent / ".flags.json.backups" / "torn").read_bytes() == MALFORMED[fault]
    assert FileFlags(path).recover() == ""


def test_a_sound_file_is_left_alone(path: Path) -> None:
    """Recovery of a file that somebody wrote by other means changes nothing."""
    FileFlags(path).set("a", 25)
    path.write_text('{"a": 3, "b": 4}')
    assert FileFlags(path).recover() == ""
    assert FileFlags(path).read() == {"a": 3, "b": 4}


def test_a_torn_backup_is_passed_over(path: Path) -> None:
    """The newest sound one is older: the words say which."""
    for percent in (10, 25):
        FileFlags(path).set("a", percent)
    for number in (3, 4):
        (path.parent / ".flags.json.backups" / f"{number:08d}.json").write_bytes(b'{"a": 2')
    (path.parent / ".flags.json.backups" / "99999999.json").mkdir()
    path.write_bytes(b"")
    assert "00000002.json" in FileFlags(path).recover()
    assert FileFlags(path).read()["a"] == 10


@pytest.mark.parametrize("kept", ["no backup", "torn backups only"])
def test_without_a_sound_backup_the_error_says_so(path: Path, kept: str) -> None:
    """Nothing is made up, and the torn file stays for a person to look at."""
    if kept != "no backup":
        folder = path.parent / ".flags.json.backups"
        folder.mkdir()
        (folder / "00000001.json").write_bytes(b"{")
    path.write_bytes(b"{")
    for act in (FileFlags(path).recover, lambda: FileFlags(path).set("a", 0)):
        with pytest.raises(EnvironmentProblem, match="no sound backup") as caught:
            act()
        assert "by hand" in caught.value.mend
    assert path.read_bytes() == b"{"


def test_a_change_of_a_torn_file_puts_it_back_first_and_says_so(path: Path) -> None:
    """A rollout's way back must not end at a torn file: what is set, is set, beside the others' last state."""
    FileFlags(path).set("b", 60)
    path.write_bytes(b'{"a": 0,')
    said: list[str] = []
    FileFlags(path, note=said.append).set("a", 0)
    assert FileFlags(path).read() == {"a": 0, "b": 60}
    assert [line for line in said if "put back the backup" in line] == said
    assert len(said) == 1
