"""The llama.cpp engine in this process, called from a small pool of threads."""

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xllamacpp

SILENT = -1


class EngineError(Exception):
    """llama.cpp refused or failed a request. `status` is the HTTP status it gave."""

    def __init__(self, message: str, status: int) -> None:
        """Carry llama.cpp's own sentence."""
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished completion. Times are milliseconds as measured inside llama.cpp."""

    text: str
    reason: str
    prompt_tokens: int
    tokens: int
    prompt_ms: float
    tokens_ms: float


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The served model: its file, its size in bytes and its SHA-256."""

    path: Path
    size: int
    digest: str
    modified_s: float

    @classmethod
    def read(cls, path: Path) -> "ModelFile":
        """Describe the file at `path`; raises OSError where there is none."""
        stat = path.stat()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(path, stat.st_size, digest, stat.st_mtime)


@dataclass(slots=True)
class _Stream:
    """Pieces of one running request, from the engine's thread to the event loop. None ends it."""

    loop: asyncio.AbstractEventLoop
    pieces: asyncio.Queue[dict[str, Any] | None] = field(default_factory=asyncio.Queue)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def put(self, piece: dict[str, Any] | None) -> bool:
        """Pass a piece on; True tells llama.cpp to stop."""
        self.loop.call_soon_threadsafe(self.pieces.put_nowait, piece)
        return self.cancelled.is_set()


class Engine:
    """One loaded model with `parallel` slots that share `context` tokens each."""

    def __init__(self, model: ModelFile, *, parallel: int, context: int, threads: int) -> None:
        """Load the model; raises RuntimeError where llama.cpp cannot."""
        params = xllamacpp.CommonParams()
        params.model.path = os.fspath(model.path)
        params.n_parallel = parallel
        params.n_ctx = context * parallel
        params.n_predict = context
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
        params.warmup = False
        params.verbosity = SILENT
        params.hostnames = ["127.0.0.1"]
        self.model = model
        self._server = xllamacpp.Server(params)
        # Its constructor returns before its loop runs, and a server unloaded before that never ends: one answered
        # request shows that the loop runs.
        self._server.handle_completions({"prompt": "a", "n_predict": 1})
        self._pool = ThreadPoolExecutor(max_workers=parallel, thread_name_prefix="llama")

    async def complete(self, body: dict[str, Any], *, chat: bool) -> Completion:
        """Run a request to its end. `body` is llama.cpp's completion request."""
        call = self._server.handle_chat_completions if chat else self._server.handle_completions
        answer = await asyncio.get_running_loop().run_in_executor(self._pool, call, body)
        return _completion(answer, _text(answer, chat=chat))

    async def stream(self, body: dict[str, Any], *, chat: bool) -> AsyncGenerator[str | Completion]:
        """Yield text as it is made, then the Completion. Leaving the iterator stops the engine's work."""
        call = self._server.handle_chat_completions if chat else self._server.handle_completions
        stream = _Stream(asyncio.get_running_loop())

        def run() -> None:
            try:
                answer = call({**body, "stream": True}, stream.put)
                if isinstance(answer, dict) and answer:
                    stream.put(answer)
            finally:
                stream.put(None)

        work = asyncio.get_running_loop().run_in_executor(self._pool, run)
        last: dict[str, Any] = {}
        try:
            while (piece := await stream.pieces.get()) is not None:
                last = piece
                if text := _text(piece, chat=chat):
                    yield text
            await work
            yield _completion(last, "")
        finally:
            stream.cancelled.set()

    def close(self) -> None:
        """Wait for running requests and unload the model."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        del self._server


def _text(answer: dict[str, Any], *, chat: bool) -> str:
    for choice in answer.get("choices", []):
        if not chat:
            return choice.get("text") or ""
        part = choice.get("delta") or choice.get("message") or {}
        return part.get("content") or ""
    return ""


def _completion(answer: dict[str, Any], text: str) -> Completion:
    if error := answer.get("error"):
        raise EngineError(str(error.get("message", "llama.cpp failed")), int(error.get("code", 500)))
    timings, usage = answer.get("timings", {}), answer.get("usage", {})
    reasons = [choice.get("finish_reason") for choice in answer.get("choices", [])]
    return Completion(
        text=text,
        reason=reasons[0] if reasons and reasons[0] else "stop",
        prompt_tokens=int(usage.get("prompt_tokens", timings.get("prompt_n", 0))),
        tokens=int(usage.get("completion_tokens", timings.get("predicted_n", 0))),
        prompt_ms=float(timings.get("prompt_ms", 0.0)),
        tokens_ms=float(timings.get("predicted_ms", 0.0)),
    )
