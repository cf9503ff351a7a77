"""Evidence of excess that is not outvoted by long good behaviour before a fault."""

import math

import numpy as np

from harness.judge.bets import Array, Counts, Excess, Numbers, log_mean_exp

_FIRST = 0.6  # of the stakes, for the bets that begin at once


class RestartedExcess:
    """Averages bets on excess that begin at once with bets that begin when `begin` is called.

    A release that turns bad at 95 % was good until then, and bets that ran all the time have lost much. Bets that
    have not begun are worth 1, so the average is an e-value whenever they begin; `peak` is the highest log of it.
    """

    def __init__(self, restarts: int) -> None:
        """Keep a part of the stakes for `restarts` beginnings."""
        self._bets = [Excess()]
        self._weights = np.array([_FIRST, *[(1 - _FIRST) / restarts] * restarts] if restarts else [1.0])
        self.peak = -math.inf

    def begin(self) -> None:
        """Let the next bets begin; nothing is left to begin after the last."""
        if len(self._bets) < len(self._weights):
            self._bets.append(Excess())

    def update(self, counts: Counts, *, p_b: Numbers, past_c: Numbers, margin: Numbers, phi: Numbers = 1.0) -> None:
        """Take one interval in, as `Excess.update` does."""
        for bets in self._bets:
            bets.update(counts, p_b=p_b, past_c=past_c, margin=margin, phi=phi)
        self.peak = max(self.peak, self.log_e)

    @property
    def log_e(self) -> float:
        """The log of the averaged e-value now."""
        waiting = len(self._weights) - len(self._bets)
        logs: Array = np.array([*(float(bets.log_e) for bets in self._bets), *[0.0] * waiting])
        return float(log_mean_exp(logs, self._weights))
