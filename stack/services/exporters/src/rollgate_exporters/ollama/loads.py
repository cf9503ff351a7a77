"""How often models were loaded, counted from what /api/ps shows. Ollama itself keeps no such count."""

from collections.abc import Iterable, Mapping

QUICK_S = 0.04  # a model that comes and goes ten times a second shows itself at this pace
QUICK_FOR_S = 5.0

Identity = tuple[str, str]  # name and digest


class Loads:
    """Loads by model since the exporter's start: an honest lower bound.

    A model that is listed and was not before has been loaded. What came and went between two looks, and what was
    loaded again between them, is not seen. What was there at the first look was loaded at a time nobody knows, and is
    not counted.
    """

    def __init__(self) -> None:
        """Have seen nothing yet."""
        self._counts: dict[str, int] = {}
        self._loaded: frozenset[Identity] | None = None
        self._newest = -1.0

    @property
    def counts(self) -> Mapping[str, int]:
        """Loads by model name; 0 for a model that is known and was not loaded."""
        return self._counts

    def know(self, models: Iterable[str]) -> None:
        """Begin the series of models that could be loaded, so that a first load is an increase."""
        for model in models:
            self._counts.setdefault(model, 0)

    def seen(self, loaded: Iterable[Identity], asked_at: float) -> bool:
        """Take in an answer of /api/ps; tell whether anything changed.

        An answer that was asked for before the newest one that is known tells nothing: answers may overtake.
        """
        if asked_at < self._newest:
            return False
        self._newest = asked_at
        before, now = self._loaded, frozenset(loaded)
        self.know(model for model, _ in now)
        for model, _ in now - (now if before is None else before):
            self._counts[model] += 1
        self._loaded = now
        return before is not None and before != now

    def process_gone(self, asked_at: float) -> None:
        """Nobody listens: the process is gone, and all that it had loaded. What is there later was loaded again."""
        if asked_at >= self._newest:
            self._newest = asked_at
            self._loaded = frozenset()


def pause_s(now: float, changed_at: float, poll_s: float) -> float:
    """Return how long to wait for the next look: shorter for a while after a change, when more may follow."""
    return min(QUICK_S, poll_s) if now - changed_at < QUICK_FOR_S else poll_s
