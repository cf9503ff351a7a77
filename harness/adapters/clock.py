"""The system's clock."""

import time


class SystemClock:
    """Wall and monotonic time of this machine."""

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never step."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep; a signal handler may end it by raising."""
        time.sleep(max(0.0, seconds))
