"""A blocking call under a deadline. A driver that hangs must not take the exporter with it."""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

Value = TypeVar("Value")
log = logging.getLogger("rollgate.gpu_exporter")


class Fresh(Generic[Value]):
    """One call at a time, in a thread of its own that nobody waits for at the end of the process."""

    def __init__(self, call: Callable[[], Value], patience_s: float) -> None:
        """Call nothing yet."""
        self._call = call
        self._patience_s = patience_s
        self._running: asyncio.Future[Value | None] | None = None

    async def get(self) -> Value | None:
        """Return what the call gives now, None where it fails or takes too long; then it runs on, alone."""
        if self._running is None:
            self._running = asyncio.get_running_loop().create_future()
            threading.Thread(target=self._run, args=(self._running,), daemon=True).start()
        running = self._running
        try:
            return await asyncio.wait_for(asyncio.shield(running), self._patience_s)
        except TimeoutError:
            return None
        finally:
            if running.done() and self._running is running:
                self._running = None

    def _run(self, future: "asyncio.Future[Value | None]") -> None:
        value = None
        try:
            value = self._call()
        except Exception:
            log.exception("a reading failed")
        with suppress(RuntimeError):  # the loop has ended
            future.get_loop().call_soon_threadsafe(future.set_result, value)
