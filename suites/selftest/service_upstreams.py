"""Small real servers for the gateway's tests: any ASGI application on a free port, doubles of Triton and Redis."""

import asyncio
import hashlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

DIMENSION = 384
HEADER = "Inference-Header-Content-Length"


@asynccontextmanager
async def serving(app: Starlette, listener: socket.socket | None = None) -> AsyncIterator[str]:
    """Serve an application on a free port of the loopback, or on `listener`; give its base URL."""
    if listener is None:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="on", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[method-assign]
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0.005)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def client_of(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client that talks to an application in this process, with its lifespan running."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service", timeout=20) as client,
    ):
        yield client


def hashed_vector(text: str) -> np.ndarray:
    """Return a vector of length one that depends on the text's words alone: texts that share words lie close."""
    vector = np.zeros(DIMENSION, dtype=np.float32)
    for word in text.lower().replace("?", " ").replace(".", " ").split():
        seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "little")
        vector += np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


class TritonDouble:
    """KServe's protocol with binary tensors, over word hashes. `calls` counts the calls of each model."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.gpu_model = False
        self.app = Starlette(
            routes=[
                Route("/v2/health/ready", self._ready),
                Route("/v2/models/{model}/ready", self._ready),
                Route("/v2/models/{model}/infer", self._infer, methods=["POST"]),
            ]
        )

    async def _ready(self, request: Request) -> Response:
        known = request.path_params.get("model") != "embedder_gpu" or self.gpu_model
        return Response(status_code=200 if known else 400)

    async def _infer(self, request: Request) -> Response:
        raw, cut = await request.body(), int(request.headers[HEADER])
        tensors, at = {}, cut
        for described in json.loads(raw[:cut])["inputs"]:
            size = described["parameters"]["binary_data_size"]
            tensors[described["name"]] = (described["shape"], raw[at : at + size])
            at += size
        model = request.path_params["model"]
        self.calls.append((model, tensors["TEXT"][0][0]))
        if model == "reranker":
            values = self._scores(tensors)
        else:
            values = b"".join(hashed_vector(text).tobytes() for text in _texts(*tensors["TEXT"]))
        header = json.dumps({"outputs": [{"name": "X", "parameters": {"binary_data_size": len(values)}}]}).encode()
        return Response(header + values, headers={HEADER: str(len(header))})

    def _scores(self, tensors: dict[str, tuple[list[int], bytes]]) -> bytes:
        queries, texts = _texts(*tensors["QUERY"]), _texts(*tensors["TEXT"])
        scores = [float(hashed_vector(query) @ hashed_vector(text)) for query, text in zip(queries, texts, strict=True)]
        return struct.pack(f"<{len(scores)}f", *scores)


def _texts(shape: list[int], raw: bytes) -> list[str]:
    rows, width = shape
    return [raw[row * width : (row + 1) * width].rstrip(b"\0").decode() for row in range(rows)]


class RedisDouble:
    """Enough of Redis' protocol for the gateway. `hangs` makes it take commands and never answer."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.hangs = False
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        """Address for a client."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Listen; after a stop, on the same port as before."""
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
            for talk in self._talks:
                talk.cancel()
            await asyncio.gather(*self._talks, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.current_task()
        self._talks.add(talk)
        try:
            while line := await reader.readline():
                words = [await self._word(reader) for _ in range(int(line[1:]))]
                if self.hangs:
                    await asyncio.sleep(3600)
                writer.write(self._answer([words[0].upper(), *words[1:]]))
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._talks.discard(talk)
            writer.transport.abort()

    @staticmethod
    async def _word(reader: asyncio.StreamReader) -> bytes:
        size = int((await reader.readline())[1:])
        return (await reader.readexactly(size + 2))[:-2]

    def _answer(self, words: list[bytes]) -> bytes:
        commands: dict[bytes, Callable[[], bytes]] = {
            b"PING": lambda: b"+PONG\r\n",
            b"GET": lambda: _bulk(self.values.get(words[1])),
            b"INCRBY": lambda: b":%d\r\n" % self._increased(words[1]),
        }
        if words[0] == b"SET":
            self.values[words[1]] = words[2]
        return commands.get(words[0], lambda: b"+OK\r\n")()

    def _increased(self, key: bytes) -> int:
        value = int(self.values.get(key, b"0")) + 1
        self.values[key] = b"%d" % value
        return value


def _bulk(value: bytes | None) -> bytes:
    return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)


def ollama_double(calls: list[dict[str, Any]]) -> Starlette:
    """Answer /api/generate with as many words as tokens were asked for; note every call."""

    async def generate(request: Request) -> Response:
        body = await request.json()
        calls.append(body)
        count = body["options"]["num_predict"]
        return JSONResponse({"response": " word" * count, "eval_count": count, "prompt_eval_count": 3, "done": True})

    async def tags(request: Request) -> Response:  # noqa: ARG001 (Starlette's signature)
        return JSONResponse({"models": []})

    return Starlette(routes=[Route("/api/generate", generate, methods=["POST"]), Route("/api/tags", tags)])
