"""Keyword search: BM25 over the documents' texts."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

# The usual constants of BM25.
K1 = 1.2
B = 0.75
_WORD = re.compile(r"[a-z0-9]+")
_STOP_WORDS = (
    "a an and are as at be by can do does for from has have how i in into is it its of on or our so than that the "
    "their there they this to was we what when where which while who why will with you your "
)
_STOP = frozenset(_STOP_WORDS.split())


def terms(text: str) -> list[str]:
    """Return the text's words, lower-cased, without stop words and plain plural endings."""
    return [_stem(word) for word in _WORD.findall(text.lower()) if word not in _STOP]


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:  # noqa: PLR2004 (shorter stems say nothing)
            return word[: -len(ending)]
    return word


class Keywords:
    """An inverted index. Rows are numbered as in the vector index."""

    def __init__(self, texts: Sequence[str] = ()) -> None:
        """Index `texts` as rows 0, 1, ..."""
        self._postings: dict[str, dict[int, int]] = defaultdict(dict)
        self._lengths: list[int] = []
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Index one more text as the next row."""
        words = terms(text)
        row = len(self._lengths)
        self._lengths.append(len(words))
        for word, count in Counter(words).items():
            self._postings[word][row] = count

    def search(self, query: str, k: int) -> list[tuple[int, float]]:
        """Return up to `k` rows with a positive BM25 score, best first; ties by row."""
        total = len(self._lengths)
        if not total:
            return []
        mean = max(sum(self._lengths) / total, 1.0)
        scores: dict[int, float] = defaultdict(float)
        for word in set(terms(query)):
            rows = self._postings.get(word, {})
            weight = math.log(1 + (total - len(rows) + 0.5) / (len(rows) + 0.5))
            for row, count in rows.items():
                norm = K1 * (1 - B + B * self._lengths[row] / mean)
                scores[row] += weight * count * (K1 + 1) / (count + norm)
        return sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:k]
