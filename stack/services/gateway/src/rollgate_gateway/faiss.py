"""The vector store behind the gateway."""

import array
import base64
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rollgate_gateway.http import Http, UpstreamError


@dataclass(frozen=True, slots=True)
class Document:
    """A document found. `score` is the last step's: similarity after the search, the re-ranker's after that."""

    id: str
    score: float
    text: str


class Faiss:
    """The vector store. Vectors travel as base64 of little-endian 32-bit floats."""

    def __init__(self, http: Http, url: str) -> None:
        """Ask at `url`."""
        self._http, self._url = http, url

    async def search(self, vector: bytes, k: int) -> list[Document]:
        """Return the `k` nearest documents to a vector."""
        body = {"vector_b64": base64.b64encode(vector).decode(), "k": k}
        return _documents(await self._http.post_json("faiss", f"{self._url}/search", body))

    async def search_words(self, query: str, k: int) -> list[Document]:
        """Return up to `k` documents that share words with the query."""
        return _documents(await self._http.post_json("faiss", f"{self._url}/search/keyword", {"query": query, "k": k}))

    async def add(self, ids: Sequence[str], vectors: Sequence[bytes], texts: Sequence[str]) -> None:
        """Add documents and save the index."""
        rows = [_floats(vector) for vector in vectors]
        body = {"ids": list(ids), "vectors": rows, "texts": list(texts)}
        await self._http.post_json("faiss", f"{self._url}/add", body)
        await self._http.post_json("faiss", f"{self._url}/save", {})


def _floats(raw: bytes) -> list[float]:
    values = array.array("f", raw)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()


def _documents(answer: dict[str, Any]) -> list[Document]:
    try:
        rows = zip(answer["ids"], answer["scores"], answer["texts"], strict=True)
        return [Document(str(name), float(score), str(text)) for name, score, text in rows]
    except (KeyError, TypeError, ValueError):
        raise UpstreamError("faiss", "answered without ids, scores and texts") from None
