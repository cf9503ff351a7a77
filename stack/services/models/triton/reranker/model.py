"""Triton model `reranker`: QUERY and TEXT (rows of UTF-8) to SCORE (0 to 1), with the query's embedding where known.

The score joins MiniLM's cosine with the share of the query's weight of words that the text holds. Vectors of texts
are kept, so that a known text costs a look-up and a product.
"""

import json
import math
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

_WORD = re.compile(r"[a-z0-9]+")
MOST_TEXTS = 20_000


def _parameter(args: dict[str, str], name: str) -> str:
    return json.loads(args["model_config"])["parameters"][name]["string_value"]


class Vectors:
    """The vectors of the texts last used; the corpus' own are there from the start."""

    def __init__(self, embed: Callable[[Sequence[str]], Any], known: Iterable[tuple[str, Any]]) -> None:
        """Embed what is missing by `embed`."""
        self._embed, self._kept = embed, OrderedDict(known)

    def of(self, texts: Sequence[str]) -> list[Any]:
        """Return each text's vector."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._kept]
        if missing:
            self._kept.update(zip(missing, self._embed(missing), strict=True))
        found = [self._kept[text] for text in texts]
        while len(self._kept) > MOST_TEXTS:
            self._kept.popitem(last=False)
        return found


class Words:
    """Weights of words: rare ones in the corpus weigh more."""

    def __init__(self, texts: Sequence[str], share: float) -> None:
        """Count words over `texts`; `share` of a score comes from words, the rest from the cosine."""
        self._share, self._count = share, max(len(texts), 1)
        self._holding: dict[str, int] = {}
        for text in texts:
            for word in set(_WORD.findall(text.lower())):
                self._holding[word] = self._holding.get(word, 0) + 1

    def joined(self, cosine: float, query: str, text: str) -> float:
        """Return the score of a pair."""
        asked = set(_WORD.findall(query.lower()))
        held = asked & set(_WORD.findall(text.lower()))
        total = sum(map(self._weight, asked))
        overlap = sum(map(self._weight, held)) / total if total else 0.0
        return min(max((1 - self._share) * cosine + self._share * overlap, 0.0), 1.0)

    def _weight(self, word: str) -> float:
        return math.log(1 + self._count / (1 + self._holding.get(word, 0)))


class TritonPythonModel:
    """Scores pairs; every row of a batch is one pair."""

    def initialize(self, args: dict[str, str]) -> None:
        """Make the configured site-packages importable, then load the model; the stub ignores PYTHONPATH."""
        sys.path.insert(0, _parameter(args, "site_packages"))
        import numpy as np  # noqa: PLC0415 (importable from here on)
        import stub_arrays  # noqa: PLC0415
        import triton_python_backend_utils as pb_utils  # noqa: PLC0415
        from minilm_session import MiniLM  # noqa: PLC0415

        self._np, self._pb_utils, self._arrays = np, pb_utils, stub_arrays
        folder = Path(__file__).resolve().parent / _parameter(args, "model_folder")
        self._model = MiniLM(folder)
        known = np.load(folder / "corpus.npz", allow_pickle=False)
        texts = [str(text) for text in known["texts"]]
        self._texts = Vectors(self._model.embed, zip(texts, known["vectors"], strict=True))
        self._queries = Vectors(self._model.embed, [])
        self._words = Words(texts, float(_parameter(args, "word_share")))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Score each request's pairs."""
        return [self._arrays.result(self._pb_utils, "SCORE", self._scores(request)) for request in requests]

    def _scores(self, request: Any) -> Any:  # noqa: ANN401 (the stub's and numpy's types)
        query, text, given = (
            self._pb_utils.get_input_tensor_by_name(request, name) for name in ("QUERY", "TEXT", "QUERY_EMBEDDING")
        )
        queries, texts = self._arrays.texts(query), self._arrays.texts(text)
        asked = self._queries.of(queries) if given is None else self._arrays.rows(given)
        pairs = zip(asked, self._texts.of(texts), queries, texts, strict=True)
        scores = [self._words.joined(float(left @ right), query, text) for left, right, query, text in pairs]
        return self._np.array(scores, dtype=self._np.float32).reshape(-1, 1)
