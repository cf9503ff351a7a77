"""A vector store whose faults are switched while it runs: a known-bad release of these suites.

Its control file: `slow_s` is how long a search takes that comes `every_s` after the last slow one; `used` shows the
index's volume that full (0 to 1), on a machine where none can be filled.
"""

import shutil
import time
from pathlib import Path
from typing import Any

from switched_control import Control

from rollgate_faiss import app, instruments
from rollgate_faiss.store import Hits, Store, Vectors
from rollgate_serving.server import main

CONTROL = Control()


class Slow(Store):
    """A store that takes its time, now and then."""

    _last = 0.0

    def search(self, vector: Vectors, k: int) -> Hits:
        """Search, and keep the caller waiting as the control file says."""
        slow_s, now = CONTROL.now("slow_s"), time.monotonic()
        if slow_s > 0 and now - self._last >= CONTROL.now("every_s"):
            self._last = now
            time.sleep(slow_s)
        return super().search(vector, k)


class Disk:
    """shutil, but for a volume that is shown as full as the control file says."""

    @staticmethod
    def disk_usage(path: Path) -> Any:  # noqa: ANN401 - shutil's own named tuple
        """Return total, used and free bytes."""
        real, used = shutil.disk_usage(path), CONTROL.now("used")
        return real if used <= 0 else type(real)(real.total, int(real.total * used), int(real.total * (1 - used)))


if __name__ == "__main__":
    app.Store = Slow
    instruments.shutil = Disk
    main(app.build)
