"""One query: embed, search, re-rank, generate."""

import asyncio
import base64
import hashlib
import time
import unicodedata
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rollgate_gateway.cache import Cache
from rollgate_gateway.faiss import Document, Faiss
from rollgate_gateway.instruments import Instruments
from rollgate_gateway.ollama import Ollama
from rollgate_gateway.triton import Batcher, Triton

CANDIDATES = 10
SPLIT = 5  # pairs in one call of the re-ranker while batch_inference is off
# The tiny model reads about a character a token: longer prompts would make it the stack's dearest part.
CONTEXT_CHARS = 160
QUESTION_CHARS = 120
EMBEDDING_TTL_S = 7 * 24 * 3600
ANSWER_TTL_S = 300
GPU_MODEL = "embedder_gpu"
_SHAPES_ANSWER = frozenset({"ai_inference", "vector_search", "cost_optimization"})
Result = TypeVar("Result")


@dataclass(slots=True)
class Answer:
    """What a query got. `applied` are the features that really took part."""

    text: str = ""
    documents: list[Document] = field(default_factory=list)
    tokens: int = 0
    cached: bool = False
    timings_ms: dict[str, float] = field(default_factory=dict)
    applied: list[str] = field(default_factory=list)


def normalised(query: str) -> str:
    """Return the query as the caches know it: composed, lower case, single blanks, no closing punctuation."""
    return " ".join(unicodedata.normalize("NFKC", query).casefold().split()).rstrip(" ?!.")


class Pipeline:
    """The steps, over the services behind the gateway."""

    def __init__(
        self, *, faiss: Faiss, triton: Triton, ollama: Ollama, cache: Cache, instruments: Instruments, max_tokens: int
    ) -> None:
        """Generate at most `max_tokens` tokens an answer."""
        self._faiss, self._triton, self._ollama, self._cache = faiss, triton, ollama, cache
        self._batcher = Batcher(triton)
        self._instruments = instruments
        self._max_tokens = max_tokens
        self._epoch = 0  # a new one, after documents were added, leaves former whole answers behind

    async def answer(self, query: str, k: int, features: Sequence[str], *, wrong: bool) -> Answer:
        """Return `k` documents and a text. Raises UpstreamError."""
        on, answer = frozenset(features), Answer()
        key = self._answer_key(query, k, on)
        if "semantic_cache" in on and not wrong and await self._recall(key, answer):
            answer.applied.append("semantic_cache")
            return answer
        candidates, vector = await self._candidates(query, max(k, CANDIDATES), on, answer)
        ranked = await self._rerank(query, candidates, vector, on, answer)
        # A wrong answer keeps the shape of a right one: the worst candidates, where there are enough of them.
        answer.documents = ranked[k:][:k] or ranked[1:] or ranked if wrong else ranked[:k]
        await self._generate(query, on, answer)
        if "semantic_cache" in on and not wrong:
            await self._cache.put(key, _stored(answer), ANSWER_TTL_S)
            answer.applied.append("semantic_cache")
        if "advanced_monitoring" in on:
            answer.applied.append("advanced_monitoring")
            for step, took_ms in answer.timings_ms.items():
                self._instruments.step_s[step].observe(took_ms / 1000)
        if answer.documents:
            self._instruments.quality.observe(100 * min(max(answer.documents[0].score, 0.0), 1.0))
        return answer

    async def ingest(self, ids: Sequence[str], texts: Sequence[str]) -> None:
        """Embed documents, add them to the index and save it. Raises UpstreamError."""
        vectors: list[bytes] = []
        for start in range(0, len(texts), CANDIDATES):
            vectors += await self._triton.embed(texts[start : start + CANDIDATES])
        await self._faiss.add(ids, vectors, texts)
        self._epoch = max(await self._cache.count("epoch"), self._epoch + 1)

    async def _candidates(
        self, query: str, count: int, on: frozenset[str], answer: Answer
    ) -> tuple[list[Document], bytes | None]:
        if "vector_search" not in on:
            answer.timings_ms["embed"] = 0.0
            return await _timed("search", self._faiss.search_words(query, count), answer), None
        vector = await _timed("embed", self._embedding(query, on, answer), answer)
        answer.applied.append("vector_search")
        return await _timed("search", self._faiss.search(vector, count), answer), vector

    async def _embedding(self, query: str, on: frozenset[str], answer: Answer) -> bytes:
        key = f"embedding:{_digest(normalised(query))}"
        stored = await self._cache.get(key)
        self._instruments.caches["embedding", stored is not None].inc()
        if isinstance(stored, str):
            try:
                return base64.b64decode(stored, validate=True)
            except ValueError:
                pass  # somebody else's value under our key: embed anew and overwrite it
        model = "embedder"
        if "triton_gpu_acceleration" in on and await self._triton.has_gpu_model(GPU_MODEL):
            model = GPU_MODEL
            answer.applied.append("triton_gpu_acceleration")
        if "batch_inference" in on:
            vector = await self._batcher.embed(normalised(query), model=model)
        else:
            vector = (await self._triton.embed([normalised(query)], model=model))[0]
        await self._cache.put(key, base64.b64encode(vector).decode(), EMBEDDING_TTL_S)
        return vector

    async def _rerank(
        self, query: str, found: list[Document], vector: bytes | None, on: frozenset[str], answer: Answer
    ) -> list[Document]:
        if not found:
            answer.timings_ms["rerank"] = 0.0
            return []
        size = len(found) if "batch_inference" in on else SPLIT
        if "batch_inference" in on:
            answer.applied.append("batch_inference")
        parts = [found[start : start + size] for start in range(0, len(found), size)]
        calls = [self._triton.rerank(query, [document.text for document in part], vector) for part in parts]
        scores = await _timed("rerank", asyncio.gather(*calls), answer)
        flat = [score for part in scores for score in part]
        scored = [Document(document.id, score, document.text) for document, score in zip(found, flat, strict=True)]
        return sorted(scored, key=lambda document: -document.score)

    async def _generate(self, query: str, on: frozenset[str], answer: Answer) -> None:
        best = answer.documents[0].text if answer.documents else ""
        if "ai_inference" not in on:
            answer.text, answer.timings_ms["generate"] = best, 0.0
            return
        answer.applied.append("ai_inference")
        most = self._max_tokens
        if "cost_optimization" in on:
            most = max(1, most // 2)
            answer.applied.append("cost_optimization")
        prompt = f"Context: {best[:CONTEXT_CHARS]}\nQuestion: {query[:QUESTION_CHARS]}\nAnswer:"
        made = await _timed("generate", self._ollama.generate(prompt, most), answer)
        answer.text, answer.tokens = made.text, made.tokens
        self._instruments.gen_ai_duration_s.observe(answer.timings_ms["generate"] / 1000)
        self._instruments.gen_ai_tokens["input"].observe(made.prompt_tokens)
        self._instruments.gen_ai_tokens["output"].observe(made.tokens)
        self._instruments.model_load_s.inc(max(0.0, made.load_s))

    def _answer_key(self, query: str, k: int, on: frozenset[str]) -> str:
        shape = ",".join(sorted(on & _SHAPES_ANSWER))
        return f"answer:{self._epoch}:{_digest(f'{normalised(query)}|{k}|{shape}')}"

    async def _recall(self, key: str, answer: Answer) -> bool:
        """Fill in a stored answer; tell whether there was one."""
        stored = await self._cache.get(key)
        self._instruments.caches["answer", stored is not None].inc()
        try:
            documents = [Document(*row) for row in stored["documents"]]
            answer.text, answer.documents, answer.tokens = stored["text"], documents, stored["tokens"]
        except (KeyError, TypeError):
            return False
        answer.cached = True
        answer.timings_ms = dict.fromkeys(("embed", "search", "rerank", "generate"), 0.0)
        return True


async def _timed(step: str, work: Awaitable[Result], answer: Answer) -> Result:
    started = time.perf_counter()
    try:
        return await work
    finally:
        answer.timings_ms[step] = round(1000 * (time.perf_counter() - started), 3)


def _stored(answer: Answer) -> dict[str, Any]:
    rows = [[document.id, document.score, document.text] for document in answer.documents]
    return {"text": answer.text, "documents": rows, "tokens": answer.tokens}


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
