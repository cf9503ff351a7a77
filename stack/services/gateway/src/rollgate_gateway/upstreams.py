"""What the gateway asks: FAISS, Triton (KServe v2, binary tensors) and Ollama, over one pool of connections."""

import array
import asyncio
import base64
import json
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

VECTOR_BYTES = 4
MODEL_CHECK_S = 10.0
HEADER = "Inference-Header-Content-Length"


class UpstreamError(Exception):
    """A service behind the gateway failed. `status` is what the gateway answers: 502, or 504 for no answer in time."""

    def __init__(self, service: str, reason: str, status: int = 502) -> None:
        """Name the service and what it did."""
        super().__init__(f"{service}: {reason}")
        self.service = service
        self.status = status


@dataclass(frozen=True, slots=True)
class Document:
    """A document found. `score` is the last step's: similarity after the search, the re-ranker's after that."""

    id: str
    score: float
    text: str


@dataclass(frozen=True, slots=True)
class Generated:
    """A text that Ollama made, and of how many tokens."""

    text: str
    prompt_tokens: int
    tokens: int


class Http:
    """POST and GET with one retry where a pooled connection proved stale before any answer came."""

    def __init__(self, timeout_s: float) -> None:
        """Open a pool; to be called inside the event loop."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=timeout_s, connect=min(timeout_s, 2.0)),
            connector=aiohttp.TCPConnector(limit=256, limit_per_host=64, keepalive_timeout=20),
            trust_env=False,
        )

    async def post(
        self, service: str, url: str, body: bytes, headers: dict[str, str] | None = None
    ) -> tuple[bytes, aiohttp.typedefs.LooseHeaders]:
        """Return body and headers of a 200; raise UpstreamError for all else."""
        try:
            try:
                return await self._post(service, url, body, headers)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                return await self._post(service, url, body, headers)
        except TimeoutError:
            raise UpstreamError(service, "no answer in time", 504) from None
        except aiohttp.ClientError as error:
            raise UpstreamError(service, f"cannot be reached ({type(error).__name__})") from None

    async def _post(self, service: str, url: str, body: bytes, headers: dict[str, str] | None) -> tuple[bytes, Any]:
        async with self._session.post(url, data=body, headers=headers) as answer:
            raw = await answer.read()
            if answer.status != 200:  # noqa: PLR2004 (HTTP)
                raise UpstreamError(service, f"answered {answer.status}: {_sentence(raw)}")
            return raw, answer.headers

    async def post_json(self, service: str, url: str, body: dict[str, Any]) -> dict[str, Any]:
        """Post and return JSON objects."""
        raw, _ = await self.post(service, url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            answer = json.loads(raw)
        except ValueError:
            raise UpstreamError(service, "answered with what is not JSON") from None
        if not isinstance(answer, dict):
            raise UpstreamError(service, "answered with what is not an object")
        return answer

    async def status(self, url: str, timeout_s: float) -> int:
        """Return the status of a GET, 0 for no answer."""
        try:
            async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=timeout_s)) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            return 0

    async def close(self) -> None:
        """Close the pool."""
        await self._session.close()


def _sentence(raw: bytes) -> str:
    try:
        return str(json.loads(raw)["error"])[:200]
    except (ValueError, KeyError, TypeError):
        return raw[:200].decode("utf-8", "replace")


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


class Triton:
    """The embedder and the re-ranker."""

    def __init__(self, http: Http, url: str) -> None:
        """Ask at `url`."""
        self._http, self._url = http, url
        self._gpu: tuple[float, bool] = (0.0, False)

    async def embed(self, texts: Sequence[str], *, model: str = "embedder") -> list[bytes]:
        """Return one vector a text, as little-endian 32-bit floats."""
        raw = await self._infer(model, [_texts("TEXT", texts)], "EMBEDDING")
        size, rest = divmod(len(raw), len(texts))
        if rest or not size:
            raise UpstreamError("triton", f"{model} gave {len(raw)} bytes for {len(texts)} texts")
        return [raw[start : start + size] for start in range(0, len(raw), size)]

    async def rerank(self, query: str, texts: Sequence[str], vector: bytes | None) -> list[float]:
        """Return the score of each text for the query; its vector, where known, saves a second embedding."""
        count = len(texts)
        inputs = [_texts("QUERY", [query] * count), _texts("TEXT", texts)]
        if vector is not None:
            inputs.append(_Tensor("QUERY_EMBEDDING", "FP32", [count, len(vector) // VECTOR_BYTES], vector * count))
        raw = await self._infer("reranker", inputs, "SCORE")
        if len(raw) != count * VECTOR_BYTES:
            raise UpstreamError("triton", f"reranker gave {len(raw)} bytes for {count} texts")
        return list(struct.unpack(f"<{count}f", raw))

    async def has_gpu_model(self, name: str) -> bool:
        """Tell whether Triton serves a GPU instance under `name`; asked every MODEL_CHECK_S seconds at most."""
        now = time.monotonic()
        if now >= self._gpu[0]:
            ready = await self._http.status(f"{self._url}/v2/models/{name}/ready", 0.5) == 200  # noqa: PLR2004 (HTTP)
            self._gpu = (now + MODEL_CHECK_S, ready)
        return self._gpu[1]

    async def _infer(self, model: str, tensors: Sequence["_Tensor"], output: str) -> bytes:
        header = json.dumps({
            "inputs": [tensor.described() for tensor in tensors],
            "outputs": [{"name": output, "parameters": {"binary_data": True}}],
        }).encode()
        raw, headers = await self._http.post(
            "triton",
            f"{self._url}/v2/models/{model}/infer",
            b"".join([header, *(tensor.raw for tensor in tensors)]),
            {HEADER: str(len(header)), "Content-Type": "application/octet-stream"},
        )
        length = dict(headers).get(HEADER, "")
        if not length.isdigit():
            raise UpstreamError("triton", f"{model} answered without binary tensors")
        return raw[int(length) :]


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One binary input tensor."""

    name: str
    datatype: str
    shape: list[int]
    raw: bytes

    def described(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "datatype": self.datatype,
            "shape": self.shape,
            "parameters": {"binary_data_size": len(self.raw)},
        }


def _texts(name: str, texts: Sequence[str]) -> _Tensor:
    """Return texts as rows of UTF-8, padded with zero bytes to the longest."""
    encoded = [text.replace("\0", " ").encode() for text in texts]
    width = max(map(len, encoded))
    return _Tensor(name, "UINT8", [len(encoded), width], b"".join(text.ljust(width, b"\0") for text in encoded))


class Batcher:
    """Gathers texts that arrive within `window_s` into one call of the embedder."""

    def __init__(self, triton: Triton, *, window_s: float = 0.002, most: int = 8) -> None:
        """Send at most `most` texts in one call."""
        self._triton, self._window_s, self._most = triton, window_s, most
        self._waiting: list[tuple[str, str, asyncio.Future[bytes]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def embed(self, text: str, *, model: str = "embedder") -> bytes:
        """Return the text's vector."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes] = loop.create_future()
        self._waiting.append((model, text, future))
        if len(self._waiting) >= self._most:
            self._flush()
        elif self._timer is None:
            self._timer = loop.call_later(self._window_s, self._flush)
        return await future

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._waiting = self._waiting, []
        for model in {name for name, _, _ in batch}:
            chosen = [(text, future) for name, text, future in batch if name == model]
            task = asyncio.get_running_loop().create_task(self._send(model, chosen))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

    async def _send(self, model: str, batch: list[tuple[str, asyncio.Future[bytes]]]) -> None:
        try:
            vectors = await self._triton.embed([text for text, _ in batch], model=model)
        except UpstreamError as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(UpstreamError(error.service, str(error).partition(": ")[2], error.status))
            return
        for (_, future), vector in zip(batch, vectors, strict=True):
            if not future.done():
                future.set_result(vector)


class Ollama:
    """The language model."""

    def __init__(self, http: Http, url: str, model: str) -> None:
        """Ask for `model` at `url`."""
        self._http, self._url, self.model = http, url, model

    async def generate(self, prompt: str, most_tokens: int) -> Generated:
        """Return a completion of at most `most_tokens` tokens, the likeliest ones (temperature 0)."""
        body = {
            "model": self.model,
            "prompt": prompt,
            "stream": False,
            "options": {"num_predict": most_tokens, "temperature": 0, "seed": 0},
        }
        answer = await self._http.post_json("ollama", f"{self._url}/api/generate", body)
        if not isinstance(answer.get("response"), str):
            raise UpstreamError("ollama", "answered without a response")
        return Generated(
            answer["response"], int(answer.get("prompt_eval_count") or 0), int(answer.get("eval_count") or 0)
        )
