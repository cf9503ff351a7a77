"""Evidence on disk: JSON lines, append-only, one file a source."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from harness.adapters import durable
from harness.model.codec import decode, encode, parse_json
from harness.model.errors import EnvironmentProblem, SpecError
from harness.model.evidence import Evidence

_FILE = "judged.jsonl"
_LOOKS = "looks.jsonl"
MEND = "restore the file as the run left it"


class EvidenceFiles:
    """The evidence that the judge saw, in the order in which it saw it, under `folder`.

    What is there already is gone on from, in a copy that takes its place: a last line that a crash cut short is left
    out, and what another driver, overtaken and thawed later, still writes does not reach the folder any more.
    """

    def __init__(self, folder: Path) -> None:
        """Create `folder` where it is missing; raise EnvironmentProblem where it cannot be written."""
        self._hash = hashlib.sha256()
        self._kept = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            kept = _take_over(folder / _FILE)
            _take_over(folder / _LOOKS)
            self._file = (folder / _FILE).open("ab")
            self._looks = (folder / _LOOKS).open("a", encoding="utf-8")
            self._hash.update(kept)
            self._kept = kept.count(b"\n")
        except OSError as error:
            msg = f"cannot write evidence to {folder}: {error.strerror}"
            raise EnvironmentProblem(msg, mend="free space or choose another --out") from error

    def append(self, records: Sequence[Evidence]) -> None:
        """Write `records` and hand them to the system before the judge may see them."""
        if not records:
            return
        data = b"".join(encode(record).encode() + b"\n" for record in records)
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise _full(error) from error
        self._hash.update(data)
        self._kept += len(records)

    def looked(self, *, at: float, stage: str, final: bool) -> None:
        """Keep one look: it came after the records appended so far."""
        try:
            self._looks.write(json.dumps({"after": self._kept, "at": at, "stage": stage, "final": final}) + "\n")
            self._looks.flush()
        except OSError as error:
            raise _full(error) from error

    def digest(self) -> str:
        """Return "sha256:..." over everything appended so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def close(self) -> None:
        """Close the files; safe to call twice. EnvironmentProblem when what was kept back cannot be written."""
        for file in (self._file, self._looks):
            try:
                file.close()
            except OSError as error:
                raise _full(error) from error


def _take_over(path: Path) -> bytes:
    """Put a copy in the place of what is there, without what follows the last line's end, and return its bytes."""
    if not path.exists():
        return b""
    found = path.read_bytes()
    whole = found[: found.rfind(b"\n") + 1]
    draft = path.with_name(f".{path.name}.draft")
    durable.write(draft, whole)
    draft.replace(path)
    durable.sync_folder(path.parent)
    return whole


def _full(error: OSError) -> EnvironmentProblem:
    msg = f"cannot write evidence: {error.strerror}"
    return EnvironmentProblem(msg, mend="free space under the run's folder")


@dataclass(frozen=True, slots=True)
class KeptLook:
    """One look of a stored run: after how many records, when, at which stage, and whether it was the last."""

    after: int
    at: float
    stage: str
    final: bool


def read_looks(run_dir: Path) -> list[KeptLook]:
    """Return a stored run's looks in order; SpecError, naming file and line, for a malformed one."""
    path = run_dir / "evidence" / _LOOKS
    found: list[KeptLook] = []
    if not path.is_file():
        msg = "there are no stored looks"
        raise SpecError(msg, where=str(path), mend="name the folder of a finished run")
    before = 0
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            look = KeptLook(**cast("dict[str, Any]", parse_json(line)))
        except (ValueError, TypeError) as error:
            raise SpecError(str(error), where=f"{path}:{number}", mend=MEND) from error
        if not _is_look(look) or look.after < before:
            msg = "this is no look, or it saw less evidence than the one before it"
            raise SpecError(msg, where=f"{path}:{number}", mend=MEND)
        before = look.after
        found.append(look)
    return found


def _is_look(look: KeptLook) -> bool:
    """Tell whether a line that was read keeps the types' promises."""
    after, at, stage, final = cast("tuple[object, ...]", (look.after, look.at, look.stage, look.final))
    whole = isinstance(after, int) and not isinstance(after, bool)
    timed = isinstance(at, int | float) and not isinstance(at, bool) and math.isfinite(at)
    return whole and timed and isinstance(stage, str) and isinstance(final, bool)


def kept_digest(run_dir: Path) -> str:
    """Return "sha256:..." of a stored run's evidence, as `EvidenceFiles.digest` tells it. SpecError: there is none."""
    path = run_dir / "evidence" / _FILE
    try:
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        msg = f"the stored evidence cannot be read: {error.strerror}"
        raise SpecError(msg, where=str(path), mend="name the folder of a finished run") from error


def read_evidence(run_dir: Path) -> Iterator[Evidence]:
    """Yield a stored run's evidence in the order in which the judge saw it.

    Raises SpecError, naming file and line, for a missing file or a line that is no evidence.
    """
    path = run_dir / "evidence" / _FILE
    if not path.is_file():
        msg = "there is no stored evidence"
        raise SpecError(msg, where=str(path), mend="name the folder of a finished run")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield decode(line.decode())
            except ValueError as error:
                raise SpecError(str(error), where=f"{path}:{number}", mend=MEND) from error
