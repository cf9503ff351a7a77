"""Triton behind the gateway: KServe's second protocol over HTTP, with binary tensors."""

import asyncio
import json
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rollgate_gateway.http import OK, Http, UpstreamError

VECTOR_BYTES = 4
MODEL_CHECK_S = 10.0
HEADER = "Inference-Header-Content-Length"


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
            ready = await self._http.status(f"{self._url}/v2/models/{name}/ready", 0.5) == OK
            self._gpu = (now + MODEL_CHECK_S, ready)
        return self._gpu[1]

    async def _infer(self, model: str, tensors: Sequence["_Tensor"], output: str) -> bytes:
        header = json.dumps(
            {
                "inputs": [tensor.described() for tensor in tensors],
                "outputs": [{"name": output, "parameters": {"binary_data": True}}],
            }
        ).encode()
        raw, headers = await self._http.post(
            "triton",
            f"{self._url}/v2/models/{model}/infer",
            b"".join([header, *(tensor.raw for tensor in tensors)]),
            {HEADER: str(len(header)), "Content-Type": "application/octet-stream"},
        )
        length = headers.get(HEADER, "")
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
