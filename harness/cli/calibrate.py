"""`rollgate calibrate`."""

import time
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from harness.cli.console import say
from harness.model.calibration import ENOUGH_INTERVALS

_EVERY_S = 30.0


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("calibrate")(calibrate)


def calibrate(
    system: Annotated[str, typer.Argument(help="A system's name, or its folder.", metavar="SYSTEM")],
    plan: Annotated[str | None, typer.Option(help="A plan of the system's rollout.yaml.", metavar="NAME")] = None,
    intervals: Annotated[int, typer.Option(help="How many judging intervals of A/A to collect.")] = ENOUGH_INTERVALS,
    out: Annotated[
        Path | None, typer.Option(help="Where the evidence is kept, to go on from (default: in the cache).")
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Say what is there and what is wanting; start nothing.")] = (
        False
    ),
) -> None:
    """Measure the noise of SYSTEM: both arms serve the baseline until enough is known; resumable."""
    # scipy and locust are slow to import, --help must not be
    from harness.wiring import calibrate as wired  # noqa: PLC0415
    from harness.wiring import calibration_words as words  # noqa: PLC0415

    asked = wired.asked_for(system, plan=plan, intervals=intervals, out=out)
    if status:
        words.status(asked, _Lines(out=True))
        return
    with _Shown() as shown:
        made, code = wired.calibrate(asked, shown)
    if made is not None:
        for line in words.summary(asked, made):
            say(line)
    raise typer.Exit(code)


class _Lines:
    """Says everything as lines."""

    def __init__(self, *, out: bool = False) -> None:
        self._out = out
        self._next = 0.0

    def collected(self, intervals: float, wanted: int, left_s: float) -> None:
        """Say so now and then."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _EVERY_S
        self.say(_so_far(intervals, wanted, left_s))

    def say(self, text: str) -> None:
        """Say a line."""
        say(text, err=not self._out)


class _Shown:
    """A bar on a terminal, lines elsewhere."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._lines = _Lines()
        self._bar: Progress | None = None
        self._task = TaskID(0)
        if console.is_terminal:
            self._bar = Progress(TextColumn("{task.description}"), BarColumn(), console=console, transient=True)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("A/A", total=1.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def collected(self, intervals: float, wanted: int, left_s: float) -> None:
        """Move the bar, or say a line now and then."""
        if self._bar is None:
            self._lines.collected(intervals, wanted, left_s)
            return
        words = _so_far(intervals, wanted, left_s)
        self._bar.update(self._task, completed=min(intervals, wanted), total=float(wanted), description=words)

    def say(self, text: str) -> None:
        """Say a line above the bar."""
        if self._bar is None:
            self._lines.say(text)
        else:
            self._bar.console.print(text, markup=False, highlight=False)


def _so_far(intervals: float, wanted: int, left_s: float) -> str:
    from harness.wiring.calibration_words import spoken  # noqa: PLC0415 - see calibrate

    done = min(int(intervals), wanted)
    return f"A/A: {done} of {wanted} intervals" + (f", about {spoken(left_s)} to go" if done < wanted else "")
