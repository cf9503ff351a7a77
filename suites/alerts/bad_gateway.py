"""A gateway whose faults are switched while it runs: a known-bad release of these suites.

Its control file: `fail_every` n (each nth request fails), `delay_s` (answers are held back so long), `wrong` (1: the
worst documents are returned).
"""

from switched_control import Control

from rollgate_gateway import app
from rollgate_gateway.faults import FaultInjector
from rollgate_serving.server import main

CONTROL = Control()


class Switched(FaultInjector):
    """Faults as the control file has them now."""

    _asked = 0

    def fails(self) -> bool:
        """Fail each nth request: evenly, so that any stretch of time has the same share."""
        self._asked += 1
        every = int(CONTROL.now("fail_every"))
        return every > 0 and self._asked % every == 0

    def wrong(self) -> bool:
        """Tell whether answers are wrong now."""
        return CONTROL.now("wrong") > 0

    def delay_s(self, elapsed_s: float) -> float:  # noqa: ARG002 - the method that it replaces has it
        """Return how long to hold back an answer."""
        return CONTROL.now("delay_s")


if __name__ == "__main__":
    app.FaultInjector = Switched
    main(app.build)
