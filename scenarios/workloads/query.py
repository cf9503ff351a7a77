"""A research assistant's questions: POST /query, and the document that must be among the answer's.

Options: `queries` is a JSON lines file in the system's folder ({"query", "expect", "generation"}), `k` how many
documents are asked for, `fresh_share` the share of questions about documents of generation 2 (added to the index
last), `skew` the exponent of the popularity law within a generation (0: all alike).
"""

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from harness.adapters.load.workload import Request, Response, Workload

_FRESH = 2  # generation of the documents that an outdated index lacks


class _Query(NamedTuple):
    body: bytes
    expect: str
    fresh: bool


class Queries:
    """Asks seeded questions; popular ones come again, as users' do, and meet caches."""

    def __init__(self, queries: Sequence[_Query], weights: Sequence[float]) -> None:
        """Keep `queries`, each drawn in proportion to its weight."""
        self._queries = queries
        total = sum(weights)
        self._until = [sum_ / total for sum_ in accumulate(weights)]

    def request(self, draw: float) -> Request:
        """Ask the question that `draw` chooses."""
        query = self._queries[min(bisect_right(self._until, draw), len(self._queries) - 1)]
        headers = (("Content-Type", "application/json"),)
        return Request("POST", "/query", body=query.body, headers=headers, expect=query)

    def check(self, request: Request, response: Response) -> Mapping[str, bool]:
        """Look for the expected document: without it an answer is wrong, or stale if the document is fresh."""
        query: Any = request.expect
        try:
            found = {str(document["id"]) for document in json.loads(response.body)["documents"]}
        except (ValueError, KeyError, TypeError):
            found = set[str]()
        return {"stale" if query.fresh else "wrong": query.expect not in found}


def workload(options: Mapping[str, str], root: Path) -> Workload:
    """Return the workload; OSError, KeyError or ValueError for a file or an option that does not fit."""
    k, skew = int(options.get("k", "5")), float(options.get("skew", "0"))
    lines = (root / options.get("queries", "queries.jsonl")).read_text(encoding="utf-8").splitlines()
    raw = [json.loads(line) for line in lines if line.strip()]
    queries = [
        _Query(json.dumps({"query": q["query"], "k": k}).encode(), str(q["expect"]), q["generation"] == _FRESH)
        for q in raw
    ]
    fresh_share = float(options.get("fresh_share", sum(q.fresh for q in queries) / max(1, len(queries))))
    shares = {False: 1 - fresh_share, True: fresh_share}
    groups = {fresh: [q for q in queries if q.fresh is fresh] for fresh in shares if shares[fresh] > 0}
    if not all(groups.values()):
        msg = f"no queries of one generation in {options.get('queries')}, though fresh_share is {fresh_share:g}"
        raise ValueError(msg)
    chosen: list[_Query] = []
    weights: list[float] = []
    for fresh, group in groups.items():
        Random(0).shuffle(group)
        ranks = [1 / (rank + 1) ** skew for rank in range(len(group))]
        chosen += group
        weights += [shares[fresh] * weight / sum(ranks) for weight in ranks]
    return Queries(chosen, weights)
