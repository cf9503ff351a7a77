"""What a person sees while a run goes on; stderr, so that stdout stays for results."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from rich.console import Console

from harness.model.objective import Objective
from harness.model.plan import StagePlan
from harness.ports import Sink
from harness.report.live import LiveView


@contextmanager
def live_view(plan: StagePlan, objectives: Sequence[Objective]) -> Generator[Sink]:
    """Yield a live view on stderr that knows what to expect, closed whatever happens."""
    view = LiveView(Console(stderr=True))
    view.expect(plan, objectives)
    try:
        yield view
    finally:
        view.close()
