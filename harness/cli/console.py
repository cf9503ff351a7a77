"""What a person sees while a run goes on; stderr, so that stdout stays for results."""

from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console

from harness.ports import Sink
from harness.report.live import LiveView


@contextmanager
def live_view() -> Generator[Sink]:
    """Yield a live view on stderr that is closed whatever happens."""
    view = LiveView(Console(stderr=True))
    try:
        yield view
    finally:
        view.close()
