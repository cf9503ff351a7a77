"""Both arms' shares over intervals in which rates drift."""

from harness.judge.bets import Counts
from harness.judge.binomial import newcombe


class Standardised:
    """Both arms' shares with every interval weighted by n_c n_b / (n_c + n_b), so that common drift cancels.

    Also the plain sums, for reading: `bad_c` of `n_c` on the candidate, `bad_b` of `n_b` on the baseline.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.bad_c = self.n_c = self.bad_b = self.n_b = 0
        self._weight = self._c = self._b = self._var_c = self._var_b = 0.0

    def add(self, counts: Counts) -> None:
        """Take one interval in that both arms saw."""
        bad_c, n_c, bad_b, n_b = int(counts.bad_c), int(counts.n_c), int(counts.bad_b), int(counts.n_b)
        self.bad_c += bad_c
        self.n_c += n_c
        self.bad_b += bad_b
        self.n_b += n_b
        if not (n_c and n_b):
            return
        weight = n_c * n_b / (n_c + n_b)
        self._weight += weight
        self._c += weight * bad_c / n_c
        self._b += weight * bad_b / n_b
        self._var_c += weight * weight / n_c
        self._var_b += weight * weight / n_b

    @property
    def difference(self) -> float:
        """Candidate minus baseline, as a share; 0.0 before any common interval."""
        return (self._c - self._b) / self._weight if self._weight else 0.0

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return Newcombe's interval of the difference, at the effective sizes of the weighted shares."""
        if not self._weight:
            return -1.0, 1.0
        size_c, size_b = self._weight**2 / self._var_c, self._weight**2 / self._var_b
        return newcombe((self._c / self._weight, size_c), (self._b / self._weight, size_b), confidence)
