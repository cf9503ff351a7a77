"""Ollama's routes."""

import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from rollgate_ollama_facade import requests
from rollgate_ollama_facade.engine import Completion, Engine, EngineError, ModelFile
from rollgate_serving.body import BadRequest, error_response, read_object
from rollgate_serving.errors import HANDLERS
from rollgate_serving.metrics import exposition, new_registry
from rollgate_serving.settings import Environment, SettingError

log = logging.getLogger("rollgate.ollama")
VERSION = "0.0.0-rollgate-facade"
BODY_BYTES = 1024 * 1024
NS_PER_MS = 1_000_000
DURATION_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
CLIENT_ERRORS = range(400, 500)
Piece = str | Completion


def build(env: Environment) -> tuple[Starlette, str, int]:
    """Return the application, its host and its port.

    OLLAMA_HOST ("host:port") is Ollama's own setting; OLLAMA_MODEL_FILE names the GGUF file,
    OLLAMA_MODEL_NAME the name it is served under.
    """
    host, _, port = env.text("OLLAMA_HOST", "127.0.0.1:11434").rpartition(":")
    if not host or not port.isdigit():
        raise SettingError(f"OLLAMA_HOST is {env.text('OLLAMA_HOST')!r}; expected host:port")
    try:
        model = ModelFile.read(env.path("OLLAMA_MODEL_FILE") or _required("OLLAMA_MODEL_FILE"))
        engine = Engine(
            model,
            parallel=env.whole("OLLAMA_NUM_PARALLEL", 4, least=1, most=64),
            context=env.whole("OLLAMA_CONTEXT_LENGTH", 1024, least=64, most=131072),
            threads=env.whole("OLLAMA_THREADS", 1, least=1, most=256),
        )
    except (OSError, RuntimeError) as error:
        raise SettingError(f"the model in OLLAMA_MODEL_FILE cannot be loaded: {error}") from None
    return create_app(engine, env.text("OLLAMA_MODEL_NAME", "rollgate-tiny")), host, int(port)


def _required(name: str) -> Any:  # noqa: ANN401 (never returns)
    raise SettingError(f"{name} is not set; it names the GGUF file to serve")


class Instruments:
    """What only the server itself can count; all that Ollama's API tells comes from the Ollama exporter."""

    def __init__(self, model: str) -> None:
        """Create the counters at zero."""
        self.registry: CollectorRegistry = new_registry({})
        self.requests = Counter("ollama_requests", "Requests by outcome.", ("route", "outcome"), registry=self.registry)
        for route in ("/api/generate", "/api/chat"):
            for outcome in ("ok", "error", "rejected"):
                self.requests.labels(route, outcome)
        self.duration = Histogram(
            "ollama_request_duration_seconds",
            "Time of a generation.",
            ("model",),
            buckets=DURATION_BOUNDS_S,
            registry=self.registry,
        ).labels(model)
        tokens = Counter("ollama_tokens", "Tokens by kind.", ("model", "kind"), registry=self.registry)
        self.prompt_tokens, self.tokens = tokens.labels(model, "prompt"), tokens.labels(model, "generated")


def create_app(engine: Engine, name: str) -> Starlette:
    """Return the application over a loaded engine."""
    server = _Server(engine, name)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:  # noqa: ARG001 (Starlette's signature)
        yield
        engine.close()

    async def running(request: Request) -> Response:  # noqa: ARG001 (Starlette's signature)
        return PlainTextResponse("Ollama is running")

    routes = [
        Route("/", running, methods=["GET"]),
        Route("/api/version", server.version, methods=["GET"]),
        Route("/api/tags", server.tags, methods=["GET"]),
        Route("/api/ps", server.loaded, methods=["GET"]),
        Route("/api/show", server.show, methods=["POST"]),
        Route("/api/generate", server.generate, methods=["POST"]),
        Route("/api/chat", server.chat, methods=["POST"]),
        Route("/metrics", server.metrics, methods=["GET"]),
    ]
    return Starlette(routes=routes, exception_handlers=HANDLERS, lifespan=lifespan)


class _Server:
    """The handlers, over one engine with one model."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name if ":" in name else f"{name}:latest"
        self._instruments = Instruments(self._name)

    async def version(self, request: Request) -> Response:  # noqa: ARG002 (Starlette's signature)
        return JSONResponse({"version": VERSION})

    async def tags(self, request: Request) -> Response:  # noqa: ARG002 (Starlette's signature)
        return JSONResponse({"models": [self._described()]})

    async def loaded(self, request: Request) -> Response:  # noqa: ARG002 (Starlette's signature)
        return JSONResponse({"models": [{**self._described(), "size_vram": 0, "expires_at": "0001-01-01T00:00:00Z"}]})

    async def show(self, request: Request) -> Response:
        body = await read_object(request, most_bytes=BODY_BYTES)
        if refusal := self._unknown(str(body.get("model") or body.get("name") or "")):
            return refusal
        return JSONResponse({"details": self._described()["details"], "model_info": {"general.architecture": "llama"}})

    async def metrics(self, request: Request) -> Response:  # noqa: ARG002 (Starlette's signature)
        return exposition(self._instruments.registry)

    async def generate(self, request: Request) -> Response:
        return await self._answer(request, requests.generate, chat=False)

    async def chat(self, request: Request) -> Response:
        return await self._answer(request, requests.chat, chat=True)

    async def _answer(
        self, request: Request, read: Callable[[dict[str, Any]], requests.Asked], *, chat: bool
    ) -> Response:
        started, route = time.perf_counter_ns(), request.url.path
        outcome = "error"
        try:
            asked = read(await read_object(request, most_bytes=BODY_BYTES))
            if refusal := self._unknown(asked.model):
                outcome = "rejected"
                return refusal
            if not asked.engine:
                outcome = "ok"
                return JSONResponse(self._line("", chat=chat) | {"done": True, "done_reason": "load"})
            if asked.stream:
                pieces = self._engine.stream(asked.engine, chat=chat)
                first = await anext(pieces)  # what is refused is refused before the status line is out
                outcome = "ok"
                lines = self._lines(first, pieces, started, chat=chat)
                return StreamingResponse(lines, media_type="application/x-ndjson")
            finished = await self._engine.complete(asked.engine, chat=chat)
            outcome = "ok"
            return JSONResponse(self._last(finished, finished.text, started, chat=chat))
        except BadRequest:
            outcome = "rejected"
            raise
        except EngineError as error:
            outcome = "rejected" if error.status in CLIENT_ERRORS else "error"
            return error_response(str(error), error.status)
        finally:
            self._instruments.requests.labels(route, outcome).inc()

    async def _lines(
        self, first: Piece, pieces: AsyncGenerator[Piece], started: int, *, chat: bool
    ) -> AsyncIterator[bytes]:
        """Yield one JSON object a line; an error after the start is the last line, as in Ollama."""
        try:
            yield self._encoded(first, started, chat=chat)
            async for piece in pieces:
                yield self._encoded(piece, started, chat=chat)
        except EngineError as error:
            yield json.dumps({"error": str(error)}).encode() + b"\n"
        finally:
            await pieces.aclose()

    def _encoded(self, piece: Piece, started: int, *, chat: bool) -> bytes:
        line = (
            self._last(piece, "", started, chat=chat)
            if isinstance(piece, Completion)
            else self._line(piece, chat=chat) | {"done": False}
        )
        return json.dumps(line).encode() + b"\n"

    def _line(self, text: str, *, chat: bool) -> dict[str, Any]:
        said = {"message": {"role": "assistant", "content": text}} if chat else {"response": text}
        return {"model": self._name, "created_at": _iso(time.time()), **said}

    def _last(self, finished: Completion, text: str, started: int, *, chat: bool) -> dict[str, Any]:
        total = time.perf_counter_ns() - started
        self._instruments.duration.observe(total / 1e9)
        self._instruments.prompt_tokens.inc(finished.prompt_tokens)
        self._instruments.tokens.inc(finished.tokens)
        return self._line(text, chat=chat) | {
            "done": True,
            "done_reason": finished.reason,
            "total_duration": total,
            "load_duration": 0,
            "prompt_eval_count": finished.prompt_tokens,
            "prompt_eval_duration": int(finished.prompt_ms * NS_PER_MS),
            "eval_count": finished.tokens,
            "eval_duration": int(finished.tokens_ms * NS_PER_MS),
        }

    def _unknown(self, model: str) -> Response | None:
        full = model if ":" in model else f"{model}:latest"
        return None if full == self._name else error_response(f"model '{model}' not found", 404)

    def _described(self) -> dict[str, Any]:
        model = self._engine.model
        details = {"format": "gguf", "family": "llama", "parameter_size": "0.1M", "quantization_level": "F32"}
        return {
            "name": self._name,
            "model": self._name,
            "modified_at": _iso(model.modified_s),
            "size": model.size,
            "digest": model.digest,
            "details": details,
        }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
