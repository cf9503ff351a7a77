"""The HTTP interface of the gateway."""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rollgate_gateway import settings as gateway_settings
from rollgate_gateway.cache import Cache
from rollgate_gateway.faiss import Faiss
from rollgate_gateway.faults import FaultInjector
from rollgate_gateway.flags import Definitions, LiveFlags
from rollgate_gateway.health import Health
from rollgate_gateway.http import Http, UpstreamError
from rollgate_gateway.instruments import Instruments, new_instruments
from rollgate_gateway.ollama import Ollama
from rollgate_gateway.pipeline import Pipeline
from rollgate_gateway.settings import Settings
from rollgate_gateway.triton import Triton
from rollgate_serving.body import BadRequest, error_response, list_field, read_object, text_field, whole_field
from rollgate_serving.errors import HANDLERS
from rollgate_serving.metrics import exposition
from rollgate_serving.settings import Environment, SettingError

log = logging.getLogger("rollgate.gateway")
QUERY_BYTES = 64 * 1024
INGEST_BYTES = 4 * 1024 * 1024
MOST_QUERY = 4_000
MOST_K = 50
MOST_DOCUMENTS = 64
MOST_TEXT = 20_000
MOST_ID = 200
Handler = Callable[[Request], Awaitable[Response]]


def build(env: Environment) -> tuple[Starlette, str, int]:
    """Return the application, its host and its port."""
    settings = gateway_settings.read(env)
    return create_app(settings), settings.host, settings.port


@dataclass(slots=True)
class _Parts:
    """What lives as long as the event loop does."""

    http: Http
    cache: Cache
    pipeline: Pipeline
    health: Health


def create_app(settings: Settings) -> Starlette:
    """Return the gateway. Raises SettingError where the flags' definitions cannot be read."""
    try:
        definitions = Definitions.read(settings.flag_definitions)
    except (OSError, ValueError) as error:
        raise SettingError(f"GATEWAY_FLAG_DEFINITIONS cannot be read: {error}") from None
    instruments = new_instruments(settings.arm, settings.version, settings.ollama_model)
    flags = LiveFlags(settings.flags_file, definitions, settings.flag_overrides)
    gateway = _Gateway(settings, instruments, flags)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:  # noqa: ARG001 (Starlette's signature)
        parts = _assemble(settings, instruments)
        gateway.open(parts)
        opening = asyncio.create_task(parts.cache.open())
        yield
        opening.cancel()
        await asyncio.wait([opening])
        await parts.cache.close()
        await parts.http.close()

    routes = [
        Route("/query", gateway.counted("/query", gateway.query), methods=["POST"]),
        Route("/ingest", gateway.counted("/ingest", gateway.ingest), methods=["POST"]),
        Route("/health", gateway.health, methods=["GET"]),
        Route("/metrics", gateway.metrics, methods=["GET"]),
    ]
    return Starlette(routes=routes, exception_handlers=HANDLERS, lifespan=lifespan)


def _assemble(settings: Settings, instruments: Instruments) -> _Parts:
    http = Http(settings.upstream_timeout_s)
    cache = Cache(settings.redis_url, settings.redis_password, f"rollgate:{settings.arm}:{settings.version}:")
    pipeline = Pipeline(
        faiss=Faiss(http, settings.faiss_url),
        triton=Triton(http, settings.triton_url),
        ollama=Ollama(http, settings.ollama_url, settings.ollama_model),
        cache=cache,
        instruments=instruments,
        max_tokens=settings.max_tokens,
    )
    return _Parts(http, cache, pipeline, Health(http, cache, settings))


class _Gateway:
    """The handlers."""

    def __init__(self, settings: Settings, instruments: Instruments, flags: LiveFlags) -> None:
        self._settings, self._instruments, self._flags = settings, instruments, flags
        self._faults = FaultInjector(settings.faults)
        self._identity = {"X-Arm": settings.arm, "X-Version": settings.version}
        self._parts: _Parts | None = None

    def open(self, parts: _Parts) -> None:
        """Take the parts that the event loop brought."""
        self._parts = parts
        self._faults.start(asyncio.get_running_loop())

    @property
    def _open(self) -> _Parts:
        if self._parts is None:
            raise RuntimeError("the application is used outside its lifespan")
        return self._parts

    def counted(self, route: str, handler: Handler) -> Handler:
        """Count and time every request of a route, turn failures into answers, and say who answered."""

        async def run(request: Request) -> Response:
            started, outcome = time.perf_counter(), "error"
            try:
                response = await handler(request)
                outcome = "ok" if response.status_code < 400 else "error"  # noqa: PLR2004 (HTTP)
            except BadRequest as error:
                outcome = "rejected"
                response = error_response(str(error), error.status)
            except UpstreamError as error:
                response = error_response(str(error), error.status)
            finally:
                self._instruments.request(route, outcome, time.perf_counter() - started)
            response.headers.update(self._identity)
            return response

        return run

    async def query(self, request: Request) -> Response:
        body = await read_object(request, most_bytes=QUERY_BYTES)
        query = text_field(body, "query", most=MOST_QUERY)
        k = whole_field(body, "k", least=1, most=MOST_K, default=5)
        features = self._flags.features(request.headers.get("x-session-id") or secrets.token_hex(8))
        started = time.perf_counter()
        if self._faults.fails():
            return error_response("this release fails a share of its requests, as configured", 500)
        answer = await self._open.pipeline.answer(query, k, features, wrong=self._faults.wrong())
        if (delay := self._faults.delay_s(time.perf_counter() - started)) > 0:
            await asyncio.sleep(delay)
        return JSONResponse(
            {
                "answer": answer.text,
                "documents": [{"id": one.id, "score": one.score, "text": one.text} for one in answer.documents],
                "arm": self._settings.arm,
                "version": self._settings.version,
                "cached": answer.cached,
                "features": list(features),
                "timings_ms": answer.timings_ms,
                "tokens": answer.tokens,
            },
            headers={"X-Features": ",".join(sorted(answer.applied))},
        )

    async def ingest(self, request: Request) -> Response:
        body = await read_object(request, most_bytes=INGEST_BYTES)
        rows = [_document(row, number) for number, row in enumerate(list_field(body, "documents", most=MOST_DOCUMENTS))]
        ids = [name for name, _ in rows]
        if len(set(ids)) != len(ids):
            raise BadRequest("`documents` must have distinct ids")
        await self._open.pipeline.ingest(ids, [text for _, text in rows])
        return JSONResponse({"ingested": len(rows), "arm": self._settings.arm, "version": self._settings.version})

    async def health(self, request: Request) -> Response:  # noqa: ARG002 (Starlette's signature)
        status, report = await self._open.health.report()
        identity = {"arm": self._settings.arm, "version": self._settings.version}
        return JSONResponse(
            {**report, **identity, "flags": self._flags.shares()}, status_code=status, headers=self._identity
        )

    async def metrics(self, request: Request) -> Response:  # noqa: ARG002 (Starlette's signature)
        return exposition(self._instruments.registry)


def _document(row: Any, number: int) -> tuple[str, str]:  # noqa: ANN401 (parsed JSON)
    if not isinstance(row, dict):
        raise BadRequest(f"`documents[{number}]` must be an object with id and text")
    try:
        return text_field(row, "id", most=MOST_ID), text_field(row, "text", most=MOST_TEXT)
    except BadRequest as error:
        raise BadRequest(f"documents[{number}]: {error}") from None
