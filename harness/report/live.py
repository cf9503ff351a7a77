"""The run in the terminal while it lasts: a live view for people, plain lines for logs."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from harness.model.event import Decided, Event, Noted
from harness.model.objective import Objective
from harness.model.plan import StagePlan
from harness.report.live_plain import PlainLines
from harness.report.live_state import RunState
from harness.report.live_view import ending, frame

_REFRESH_HZ = 4


def stderr_console() -> Console:
    """Return a console on stderr: stdout stays free for a verdict."""
    return Console(stderr=True, highlight=False)


class LiveView:
    """A Sink that shows the run.

    On a terminal it draws; elsewhere, with NO_COLOR, CI or TERM=dumb, it writes plain lines. It never breaks
    the run: its own first exception becomes one note and ends the view.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        objectives: Sequence[Objective] = (),
        plan: StagePlan | None = None,
        title: str = "",
        now: Callable[[], float] = time.time,
        plain: bool | None = None,
    ) -> None:
        """`plan` gives the stage bar and the bound on the time left, `objectives` the number still to come."""
        self._console = console or stderr_console()
        self._console.on_broken_pipe = self._gone  # rich's own would end the whole run with exit code 1
        self._state = RunState(plan=plan)
        self._objectives = len(objectives)
        self._title = title
        self._now = now
        self._lock = threading.RLock()
        self._broken = False
        self._live: Live | None = None
        self._plain: PlainLines | None = None
        if _wants_plain(self._console) if plain is None else plain:
            self._plain = PlainLines(self._line)

    def expect(self, plan: StagePlan, objectives: Sequence[Objective] = ()) -> None:
        """Tell the view what is to come, where that was not known when it was made."""
        with self._lock:
            self._state.plan = plan
            self._objectives = len(objectives)

    def emit(self, event: Event) -> None:
        """Take one event in and show it."""
        if self._broken:
            return
        try:
            with self._lock:  # never held while rich is called: rich's own thread takes its lock first, then this
                self._state.update(event)
            if self._plain:
                self._plain.event(event, self._state)
            else:
                self._draw(event)
        except Exception as error:  # noqa: BLE001 - a view must never break the run
            self._break(error)

    def close(self) -> None:
        """Give the terminal back."""
        try:
            if self._plain and not self._broken:
                self._plain.flush(self._state.last - (self._state.began or self._state.last))
            self._stop()
        except Exception as error:  # noqa: BLE001 - as above
            self._break(error)

    def _stop(self) -> None:
        if self._live:
            live, self._live = self._live, None
            live.stop()

    def _line(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)

    def _draw(self, event: Event) -> None:
        if isinstance(event, Decided):
            self._stop()
            self._console.print(ending(event.verdict))
            return
        if self._live is None and self._state.verdict is None:
            self._live = _Live(
                self._break,
                get_renderable=self._frame,
                console=self._console,
                refresh_per_second=_REFRESH_HZ,
                transient=True,
                redirect_stdout=False,
            )
            self._live.start()
        if isinstance(event, Noted) and event.level != "info":
            self._console.print(Text(f"{event.level}: {event.text}", style="yellow"))

    def _frame(self) -> RenderableType:
        """Draw one frame; called from rich's own thread too."""
        try:
            with self._lock:
                return frame(self._state, self._now(), title=self._title, objectives=self._objectives)
        except Exception as error:  # noqa: BLE001 - as above
            return Text(f"(the live view failed: {type(error).__name__}: {error})")

    def _gone(self) -> None:
        """Go silent: whoever read the terminal or the pipe has left."""
        self._broken = True
        self._console.quiet = True

    def _break(self, error: Exception) -> None:
        if self._broken:
            return
        self._broken = True
        try:
            self._stop()
            self._line(f"the live view failed and is off, the run goes on: {type(error).__name__}: {error}")
        except Exception:  # noqa: BLE001, S110 - nothing can be written any more
            pass


class _Live(Live):
    """rich's Live whose own thread hands a failing drawing over instead of dying with a traceback."""

    def __init__(self, failed: Callable[[Exception], None], **options: Any) -> None:  # noqa: ANN401 - Live's own
        self._failed = failed
        super().__init__(**options)

    def refresh(self) -> None:
        """Draw once more."""
        try:
            super().refresh()
        except Exception as error:  # noqa: BLE001 - a view must never break the run
            self._failed(error)


def _wants_plain(console: Console) -> bool:
    named = any(os.environ.get(name) for name in ("NO_COLOR", "CI")) or os.environ.get("TERM") == "dumb"
    return named or not console.is_terminal
