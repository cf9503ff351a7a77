"""Comparing arms without knowing their noise: whole blocks of intervals, each worth one bounded bet.

Noise of one arm's own, whatever its memory, is as likely to favour either arm; over a block that is longer
than that memory the difference D of the arms is close to symmetric and close to independent of the last one.
A bet 1 + tanh(kappa D) then has a mean of at most 1. It is slow (a block says at most a factor of two), and
right without calibration.

While the candidate serves the smaller part, D leans to the right (rare events come in whole numbers) and
tanh, concave above 0, makes the bet only safer. Where it serves more than the baseline it leans to the left,
so such blocks say nothing.
"""

import numpy as np

from harness.judge.bets import Array, Bets, Counts, Numbers

BLOCK_INTERVALS = 20
ERROR_SCALES = (0.2, 0.4, 0.7, 1.2, 2.0)
LATENCY_SCALES = (0.04, 0.1, 0.2, 0.4, 0.8)
_MOST_SHARE = 0.525  # of the units on the candidate: one half, and chance


class BlockContest(Bets):
    """Bets on a higher share of bad events, one bounded bet a block."""

    def __init__(
        self,
        shape: tuple[int, ...] = (),
        *,
        intervals: int = BLOCK_INTERVALS,
        scales: tuple[float, ...] = ERROR_SCALES,
    ) -> None:
        """Start with no evidence; `scales` are the bets' kappas, equally weighted, for D in bad events."""
        super().__init__(shape, len(scales))
        self._intervals, self._scales = intervals, np.array(scales)
        self._sums: Array = np.zeros((3, *shape))
        self._seen = 0
        self.blocks = 0

    def update(self, counts: Counts, *, p_b: Numbers = 0.0, phi: Numbers = 1.0) -> None:  # noqa: ARG002 - as BinaryContest
        """Take one interval in; the block's last one decides its bet."""
        n = np.maximum(counts.n_c + counts.n_b, 1)
        # Within each interval, as everywhere: over a whole block a change of shares would meet a change of rates.
        difference = counts.bad_c - (counts.bad_c + counts.bad_b) * counts.n_c / n
        self._sums = self._sums + np.stack(np.broadcast_arrays(difference, counts.n_c, counts.n_b, self._sums[0])[:3])
        self._seen += 1
        if self._seen < self._intervals:
            return
        difference, n_c, n_b = self._sums
        fair = (n_c <= _MOST_SHARE * (n_c + n_b)) & (n_c > 0) & (n_b > 0)
        bets = np.log1p(np.minimum(np.tanh(difference[..., None] * self._scales), 1 - 1e-6).clip(-1 + 1e-6))
        self._logs += np.where(fair[..., None], bets, 0.0)
        self._sums, self._seen = np.zeros_like(self._sums), 0
        self.blocks += 1

    @property
    def whole(self) -> bool:
        """Whether no block is open."""
        return not self._seen
