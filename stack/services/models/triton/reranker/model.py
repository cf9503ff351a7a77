"""Triton model `reranker`: QUERY and TEXT (rows of UTF-8) to SCORE (0 to 1), with the query's embedding where it is known.

The score joins MiniLM's cosine with the share of the query's weight of words that the text holds. Vectors of texts
are kept, so that a known text costs a look-up and a product.
"""

import json
import math
import re
import sys
from collections import OrderedDict
from pathlib import Path

_WORD = re.compile(r"[a-z0-9]+")
MOST_TEXTS = 20_000


def _parameter(args, name):
    return json.loads(args["model_config"])["parameters"][name]["string_value"]


class Vectors:
    """The vectors of the texts last used; the corpus' own are there from the start."""

    def __init__(self, embed, known):
        self._embed, self._kept = embed, OrderedDict(known)

    def of(self, texts):
        missing = [text for text in dict.fromkeys(texts) if text not in self._kept]
        if missing:
            self._kept.update(zip(missing, self._embed(missing)))
        found = [self._kept[text] for text in texts]
        while len(self._kept) > MOST_TEXTS:
            self._kept.popitem(last=False)
        return found


class Words:
    """Weights of words: rare ones in the corpus weigh more."""

    def __init__(self, texts, share):
        self._share, self._count = share, max(len(texts), 1)
        self._in = {}
        for text in texts:
            for word in set(_WORD.findall(text.lower())):
                self._in[word] = self._in.get(word, 0) + 1

    def joined(self, cosine, query, text):
        """Return the score of a pair."""
        asked = set(_WORD.findall(query.lower()))
        held = asked & set(_WORD.findall(text.lower()))
        total = sum(map(self._weight, asked))
        overlap = sum(map(self._weight, held)) / total if total else 0.0
        score = (1 - self._share) * cosine + self._share * overlap
        return min(max(score, 0.0), 1.0)

    def _weight(self, word):
        return math.log(1 + self._count / (1 + self._in.get(word, 0)))


class TritonPythonModel:
    """Scores pairs; every row of a batch is one pair."""

    def initialize(self, args):
        """Make the configured site-packages importable, then load the model; the stub ignores PYTHONPATH."""
        sys.path.insert(0, _parameter(args, "site_packages"))
        import numpy
        import stub_arrays
        import triton_python_backend_utils as pb_utils
        from minilm_session import MiniLM

        self._numpy, self._pb_utils, self._arrays = numpy, pb_utils, stub_arrays
        folder = Path(_parameter(args, "model_folder"))
        self._model = MiniLM(folder)
        known = numpy.load(folder / "corpus.npz", allow_pickle=False)
        texts = [str(text) for text in known["texts"]]
        self._texts = Vectors(self._model.embed, zip(texts, known["vectors"]))
        self._queries = Vectors(self._model.embed, [])
        self._words = Words(texts, float(_parameter(args, "word_share")))

    def execute(self, requests):
        """Score each request's pairs."""
        return [self._arrays.result(self._pb_utils, "SCORE", self._scores(request)) for request in requests]

    def _scores(self, request):
        query, text, given = (
            self._pb_utils.get_input_tensor_by_name(request, name) for name in ("QUERY", "TEXT", "QUERY_EMBEDDING")
        )
        queries, texts = self._arrays.texts(query), self._arrays.texts(text)
        asked = self._queries.of(queries) if given is None else self._arrays.rows(given)
        scores = [
            self._words.joined(float(self._numpy.dot(left, right)), query, text)
            for left, right, query, text in zip(asked, self._texts.of(texts), queries, texts)
        ]
        return self._numpy.array(scores, dtype=self._numpy.float32).reshape(-1, 1)
