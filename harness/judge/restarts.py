"""Evidence that is not outvoted by long good behaviour before a fault."""

import math
from collections.abc import Sequence

import numpy as np

from harness.judge.bets import Array, Bets, Counts, Excess, Numbers, log_mean_exp

EXCESS, DIFFERENCE = 0.6, 0.8  # of the stakes, for the evidence that begins at once


class Restarts:
    """How stakes are divided between evidence that begins at once and evidence that begins later, at each stage.

    A release that turns bad at 95 % was good until then, and bets that ran all the time have lost much. Evidence
    that has not begun is worth 1, so the average is an e-value whenever it begins.
    """

    def __init__(self, restarts: int, first: float) -> None:
        """Keep what `first` leaves of the stakes for `restarts` beginnings."""
        self._weights = np.array([first, *[(1 - first) / restarts] * restarts] if restarts else [1.0])

    def left(self, begun: int) -> bool:
        """Tell whether one more may begin."""
        return begun < len(self._weights)

    def average(self, logs: Sequence[float]) -> float:
        """Return the log of the averaged e-value of those that have begun, oldest first, and those that have not."""
        waiting = len(self._weights) - len(logs)
        whole: Array = np.array([*logs, *[0.0] * waiting])
        return float(log_mean_exp(whole, self._weights))


class RestartedBets:
    """Any bets, and the same bets begun anew: the new ones need nothing but a mark of what the old ones were worth."""

    def __init__(self, bets: Bets, restarts: int, first: float) -> None:
        """Take bets that have seen nothing yet."""
        self._bets, self._restarts = bets, Restarts(restarts, first)
        self._marks = [bets.mark()]
        self._due = 0

    def begin(self) -> None:
        """Let the next begin, as soon as all that was seen has been bet on; none is left after the last."""
        self._due += 1
        self.settle()

    def settle(self) -> None:
        """Note that the bets may have closed what was open."""
        while self._due and self._bets.whole:
            self._due -= 1
            if self._restarts.left(len(self._marks)):
                self._marks.append(self._bets.mark())

    @property
    def log_e(self) -> float:
        """The log of the averaged e-value now."""
        return self._restarts.average([float(self._bets.since(mark)) for mark in self._marks])


class RestartedExcess:
    """`Excess`, begun anew with each stage; `peak` is the highest log e-value ever reached."""

    def __init__(self, restarts: int) -> None:
        """Keep a part of the stakes for `restarts` beginnings."""
        self._bets = Excess()
        self._restarted = RestartedBets(self._bets, restarts, EXCESS)
        self.peak = -math.inf

    def begin(self) -> None:
        """Let the next bets begin; nothing is left to begin after the last."""
        self._restarted.begin()

    def update(self, counts: Counts, *, p_b: Numbers, past_c: Numbers, margin: Numbers, phi: Numbers = 1.0) -> None:
        """Take one interval in, as `Excess.update` does."""
        self._bets.update(counts, p_b=p_b, past_c=past_c, margin=margin, phi=phi)
        self.peak = max(self.peak, self._restarted.log_e)

    @property
    def log_e(self) -> float:
        """The log of the averaged e-value now."""
        return self._restarted.log_e
