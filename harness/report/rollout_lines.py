"""A live rollout as lines, for a person and for a log: what was done and why, and with `verbose` every look."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

from harness.model.event import Event, Looked, Noted, ServiceStarted, StageEnded, StageStarted, TrafficMoved
from harness.model.status import Status

GOOD, BAD, PLAIN, WARNING = "good", "bad", "plain", "warning"
_TONES = {Status.PASS: GOOD, Status.FAIL: BAD, Status.ERROR: BAD}
_LEVELS = {"error": BAD, "warning": WARNING}


def line_of(event: Event, *, verbose: bool = False) -> tuple[str, str] | None:
    """Return an event's line and its tone; None for one that is not worth a line."""
    match event:
        case TrafficMoved():
            tone = GOOD if event.after > event.before else WARNING
            return f"moved from {event.before:g} to {event.after:g} %: {event.why}", tone
        case StageStarted():
            return f"stage {event.stage} began at {event.share:g} %", PLAIN
        case StageEnded():
            record = event.record
            return f"stage {record.id} ended: {record.status}", _TONES.get(record.status, PLAIN)
        case ServiceStarted():
            return f"{event.name} answers, version {event.version}", PLAIN
        case Noted():
            return event.text, _LEVELS.get(event.level, PLAIN)
        case Looked() if verbose:
            told = ", ".join(f"{j.id} {j.status}" for j in event.judgements if j.status is not Status.NOT_APPLICABLE)
            return f"looked ({event.stage}): {told or 'nothing to judge yet'}", PLAIN
        case _:
            return None


@dataclass(slots=True)
class Lines:
    """A sink that hands each line and its tone to `write`."""

    write: Callable[[str, str], None]
    verbose: bool = False

    def emit(self, event: Event) -> None:
        """Say what `event` brought."""
        if (line := line_of(event, verbose=self.verbose)) is not None:
            self.write(*line)

    def close(self) -> None:
        """Nothing is held."""


@dataclass(slots=True)
class LogLines:
    """A sink that adds every line, and every look, to a log, with its moment and the rollout; nothing secret."""

    file: TextIO
    rollout: str
    redact: Callable[[str], str]

    def emit(self, event: Event) -> None:
        """Write what `event` brought."""
        if (line := line_of(event, verbose=True)) is not None:
            self.say(line[0])

    def say(self, text: str) -> None:
        """Write one line of our own."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.file.write(f"{at} {self.rollout} {self.redact(text)}\n")
        self.file.flush()

    def close(self) -> None:
        """Close the file."""
        self.file.close()
