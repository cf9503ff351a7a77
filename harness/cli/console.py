"""What a person sees while a run goes on; stderr, so that stdout stays for results."""

import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console

from harness.model.objective import Objective
from harness.model.plan import StagePlan
from harness.ports import Sink
from harness.report.live import LiveView


def say(text: str, *, err: bool = False) -> None:
    """Print `text`; a reader that went away, or a log on a full disk, must not change what the run ended in."""
    try:
        typer.echo(text, err=err)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, (sys.stderr if err else sys.stdout).fileno())
        os.close(nowhere)


def relative(path: Path) -> str:
    """Return a path as a person would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


@contextmanager
def live_view(plan: StagePlan, objectives: Sequence[Objective]) -> Generator[Sink]:
    """Yield a live view on stderr that knows what to expect, closed whatever happens."""
    view = LiveView(Console(stderr=True))
    view.expect(plan, objectives)
    try:
        yield view
    finally:
        view.close()
