"""Feature flags in a JSON file that the application reads live."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from harness.adapters import durable
from harness.adapters.flags_backup import Backups
from harness.model.errors import EnvironmentProblem

_LOG = logging.getLogger("rollgate")
_FULL = 100.0


class FileFlags:
    """`{"flag": percent}`: one writer at a time, replaced atomically, durably, with a backup, and read back.

    The file may be shared by several processes; those that use this class wait for one another, and a change by any
    other is noticed and not written over. Backups stand in `.NAME.backups` beside the file.
    """

    def __init__(self, path: Path, *, note: Callable[[str], None] = _LOG.warning) -> None:
        """Use the file at `path`; `note` gets a line when a torn file was put back or a backup could not be kept."""
        self._path = path.resolve()  # a link stays a link: what it points at is replaced
        self._backups = Backups(self._path)
        self._note = note

    def read(self) -> Mapping[str, float]:
        """Return every flag's percent; EnvironmentProblem when the file is away or malformed."""
        found = durable.content(self._path)
        try:
            return parse(found)
        except ValueError as error:
            msg = f"cannot read the flags file {self._path}: {error}"
            mend = f"`rollgate flags recover {self._path}` puts its newest sound backup back"
            raise EnvironmentProblem(msg, mend=mend) from error

    def set(self, name: str, percent: float) -> None:
        """Set one flag; a torn file is put back first.

        Raises ValueError outside 0..100, KeyError for an unknown flag, EnvironmentProblem if it was not taken. A raise
        needs a backup of what was before; a flag is taken back even where none can be kept.
        """
        if not 0 <= percent <= _FULL:
            msg = f"flag {name}: {percent} lies outside 0..100"
            raise ValueError(msg)
        with durable.locked(self._path):
            if said := self._recover():
                self._note(said)
            before = durable.content(self._path)
            flags = parse(before)
            if name not in flags:
                raise KeyError(name)
            self._keep(before, needed=percent > flags[name])
            flags[name] = float(percent)
            after = _text(flags)
            durable.replace(self._path, after, expected=before)
            if self.read().get(name) != percent:
                msg = f"flag {name}: {percent:g} was written to {self._path}, but something else is read back"
                raise EnvironmentProblem(msg, mend="end the other writer of that file")
            self._keep(after, needed=False)  # so that a file torn later comes back as it was, not one step behind

    def recover(self) -> str:
        """Put the newest sound backup in the place of a torn, malformed or missing file.

        Returns what was done, in words; "" where the file is sound. Raises EnvironmentProblem where no backup is.
        """
        with durable.locked(self._path):
            return self._recover()

    def _recover(self) -> str:
        found = durable.content(self._path)
        try:
            parse(found)
        except ValueError as error:
            backup = self._backups.newest(parse)
            if backup is None:
                msg = f"the flags file {self._path} is unusable ({error}), and there is no sound backup of it"
                raise EnvironmentProblem(msg, mend="write it by hand: one JSON object of flag: percent") from error
            if found is not None:
                self._backups.set_aside(found)
            durable.replace(self._path, backup.content, expected=found)
            return f"the flags file {self._path} was unusable ({error}): put back the backup {backup}"
        return ""

    def _keep(self, content: bytes | None, *, needed: bool) -> None:
        try:
            self._backups.keep(content or b"")
        except OSError as error:
            msg = f"cannot keep a backup of the flags file {self._path}: {error.strerror or error}"
            if needed:
                raise EnvironmentProblem(msg, mend="free space, or make the folder writable") from error
            self._note(msg)


def write_flags(path: Path, flags: Mapping[str, float]) -> None:
    """Write the whole file at once, whatever it held: a reader sees the old or the new, never a part."""
    real = path.resolve()
    with durable.locked(real):
        durable.replace(real, _text(flags), expected=durable.content(real))


def parse(content: bytes | None) -> dict[str, float]:
    """Return flags by name from what a flags file holds; ValueError in words for whatever it must not hold."""
    if content is None:
        raise ValueError("there is no such file")
    try:
        raw: object = json.loads(content.decode("utf-8"), object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(raw, dict):
        msg = f"it holds {type(raw).__name__}, expected an object of flag: percent"
        raise ValueError(msg)  # noqa: TRY004 - malformed content, like every other
    flags: dict[str, float] = {}
    for name, percent in cast("dict[str, object]", raw).items():
        if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 <= percent <= _FULL:
            shown = repr(percent)[:40]
            msg = f"{name} is {shown}, expected a number in 0..100"
            raise ValueError(msg)
        flags[name] = float(percent)
    return flags


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a flag stands in it twice")
    return found


def _text(flags: Mapping[str, float]) -> bytes:
    return (json.dumps(dict(flags), indent=1) + "\n").encode()
