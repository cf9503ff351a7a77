"""Scores in the load's own answers: a number in the JSON, brought from its scale to 0..1."""

import json
from collections.abc import Mapping, Sequence
from typing import cast

from harness.model.system import Score

# Half a hundredth wide, with each multiple of that in the middle of its bucket: means come out unshifted.
BOUNDS = (*(round((step + 0.5) / 200, 4) for step in range(200)), 1.0)

_ROUNDING = 1e-6  # of a scale: a similarity in single precision may come to 1.0000001


class ScoreReader:
    """Reads the scores of one answer. What can't be read is told in words, never left out."""

    def __init__(self, scores: Sequence[Score]) -> None:
        """Take which numbers are scores."""
        self._scores = [(score, _tokens(score.path)) for score in scores]

    def read(self, path: str, body: bytes) -> Mapping[str, float | str]:
        """Return signal -> score in [0, 1], or what is wrong with it; empty where `path` asks for no scored answer."""
        asked = [(score, tokens) for score, tokens in self._scores if path.startswith(score.requests)]
        if not asked:
            return {}
        try:
            answer: object = json.loads(body)
        except (ValueError, RecursionError):
            return {score.signal: "the answer is no JSON" for score, _ in asked}
        return {score.signal: _score(answer, score, tokens) for score, tokens in asked}


def _tokens(path: str) -> list[str]:
    return [token.replace("~1", "/").replace("~0", "~") for token in path.split("/")[1:]]


def _score(answer: object, score: Score, tokens: Sequence[str]) -> float | str:
    value = answer
    try:
        for token in tokens:
            if isinstance(value, list):
                value = cast("list[object]", value)[_index(token)]
            else:
                value = cast("Mapping[str, object]", value)[token]
    except (LookupError, TypeError, ValueError):
        return f"nothing at {score.path}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"no number at {score.path}"
    slack = _ROUNDING * (score.high - score.low)
    if not score.low - slack <= value <= score.high + slack:  # NaN lies nowhere
        return f"{str(value)[:24]} at {score.path}, outside {score.low:g} to {score.high:g}"
    return min(1.0, max(0.0, (value - score.low) / (score.high - score.low)))


def _index(token: str) -> int:
    if not (token.isascii() and token.isdigit()):
        raise ValueError(token)
    return int(token)
