"""Fan-out to listeners: one that fails must cost neither the run nor the others."""

import logging
from collections.abc import Sequence

from harness.model.event import Event
from harness.ports import Sink

_LOG = logging.getLogger("rollgate")


class Fanout:
    """Passes each event to every sink."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        """Keep `sinks` in order."""
        self._sinks = list(sinks)

    def emit(self, event: Event) -> None:
        """Emit to all; a sink that raises is dropped with one line."""
        for sink in list(self._sinks):
            try:
                sink.emit(event)
            except Exception:  # noqa: BLE001 - whatever a listener does, the run goes on
                _LOG.exception("a listener failed and is dropped: %s", type(sink).__name__)
                self._sinks.remove(sink)

    def close(self) -> None:
        """Close all."""
        for sink in self._sinks:
            try:
                sink.close()
            except Exception:  # noqa: BLE001 - whatever a listener does, the run goes on
                _LOG.exception("a listener failed to close: %s", type(sink).__name__)


class Recorder:
    """Keeps what the report draws: all events but the raw evidence, which is on disk."""

    def __init__(self) -> None:
        """Start empty."""
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        """Keep `event`."""
        self.events.append(event)

    def close(self) -> None:
        """Do nothing: the record stays."""
