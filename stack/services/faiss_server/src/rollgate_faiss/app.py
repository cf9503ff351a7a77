"""The HTTP interface of the FAISS server."""

import asyncio
import base64
import binascii
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rollgate_faiss import snapshot
from rollgate_faiss.instruments import Instruments, new_instruments
from rollgate_faiss.store import Hits, Store, Vectors
from rollgate_serving.body import (
    BadRequest,
    error_response,
    is_number,
    list_field,
    read_object,
    text_field,
    whole_field,
)
from rollgate_serving.errors import HANDLERS
from rollgate_serving.metrics import exposition
from rollgate_serving.settings import Environment, SettingError

log = logging.getLogger("rollgate.faiss")
INDEX_TYPE = "flat"
MOST_K = 100
MOST_DOCUMENTS = 5000
MOST_TEXT = 20_000
MOST_QUERY = 4_000
SEARCH_BYTES = 256 * 1024
ADD_BYTES = 64 * 1024 * 1024
Handler = Callable[[Request], Awaitable[Response]]


def build(env: Environment) -> tuple[Starlette, str, int]:
    """Return the application, its host and its port.

    FAISS_DIR takes saves and is loaded at start. FAISS_SNAPSHOT is served instead of what FAISS_DIR holds;
    FAISS_SEED_SNAPSHOT only while FAISS_DIR is empty. FAISS_WORKERS bounds the threads of one search.
    """
    if (kind := env.text("FAISS_INDEX_TYPE", INDEX_TYPE)) != INDEX_TYPE:
        msg = f"FAISS_INDEX_TYPE is {kind!r}; expected {INDEX_TYPE!r} (exact search), the only one that is served"
        raise SettingError(msg)
    if workers := env.whole("FAISS_WORKERS", 0, most=256):
        faiss.omp_set_num_threads(workers)
    store = Store(env.whole("FAISS_DIMENSION", 384, least=1, most=65536), Path(env.text("FAISS_DIR")))
    _load_at_start(store, env)
    folder = Path(env.text("FAISS_DIR"))
    instruments = new_instruments(env.text("FAISS_ARM", "none"), env.text("FAISS_VERSION", "none"), folder)
    return (
        create_app(store, instruments),
        env.text("FAISS_HOST", "127.0.0.1"),
        env.whole("FAISS_PORT", 5000, most=65535),
    )


def _load_at_start(store: Store, env: Environment) -> None:
    explicit = env.path("FAISS_SNAPSHOT")
    chosen = explicit or snapshot.current(store.folder) or env.path("FAISS_SEED_SNAPSHOT")
    if chosen is None:
        return
    if not chosen.is_file():
        raise SettingError(f"the snapshot {chosen} does not exist")
    try:
        store.load(chosen)
    except snapshot.CorruptSnapshotError:
        # Start all the same: /health says what is wrong, and every search is refused until a sound /load.
        log.warning("started with a corrupt index; searches are refused")


def create_app(store: Store, instruments: Instruments) -> Starlette:
    """Return the application over a store."""
    server = _Server(store, instruments)
    routes = [
        Route("/add", server.counted("/add", server.add), methods=["POST"]),
        Route("/search", server.counted("/search", server.search), methods=["POST"]),
        Route("/search/keyword", server.counted("/search/keyword", server.search_words), methods=["POST"]),
        Route("/save", server.counted("/save", server.save), methods=["POST"]),
        Route("/load", server.counted("/load", server.load), methods=["POST"]),
        Route("/health", server.health, methods=["GET"]),
        Route("/metrics", server.metrics, methods=["GET"]),
    ]
    return Starlette(routes=routes, exception_handlers=HANDLERS)


class _Server:
    """The handlers, over one store."""

    def __init__(self, store: Store, instruments: Instruments) -> None:
        self._store = store
        self._instruments = instruments
        self._saving = asyncio.Lock()

    def counted(self, route: str, handler: Handler) -> Handler:
        """Count every request of a route by outcome."""

        async def run(request: Request) -> Response:
            outcome = "error"
            try:
                response = await handler(request)
                outcome = "ok" if response.status_code < 400 else "error"  # noqa: PLR2004 (HTTP)
            except BadRequest:
                outcome = "rejected"
                raise
            finally:
                self._instruments.count(route, outcome)
            return response

        return run

    async def add(self, request: Request) -> Response:
        body = await read_object(request, most_bytes=ADD_BYTES)
        ids = [_text(value, "ids", number) for number, value in enumerate(list_field(body, "ids", most=MOST_DOCUMENTS))]
        if len(set(ids)) != len(ids) or not all(ids):
            raise BadRequest("`ids` must be distinct and not empty")
        rows = list_field(body, "vectors", most=MOST_DOCUMENTS)
        texts = [
            _text(value, "texts", number)
            for number, value in enumerate(list_field(body, "texts", most=MOST_DOCUMENTS, required=False))
        ] or [""] * len(ids)
        if not len(ids) == len(rows) == len(texts):
            raise BadRequest(f"{len(ids)} ids, {len(rows)} vectors and {len(texts)} texts do not match")
        vectors = np.stack([_vector(row, self._store.dimension, f"vectors[{n}]") for n, row in enumerate(rows)])
        fresh = self._store.add(ids, vectors, texts)
        return JSONResponse({"added": fresh, "replaced": len(ids) - fresh, "documents": len(self._store)})

    async def search(self, request: Request) -> Response:
        body = await read_object(request, most_bytes=SEARCH_BYTES)
        k = whole_field(body, "k", least=1, most=MOST_K, default=10)
        if "vector_b64" in body:
            vector = _packed(body["vector_b64"], self._store.dimension)
        else:
            vector = _vector(body.get("vector"), self._store.dimension, "vector")
        if self._store.damage:
            return self._refusal()
        started = time.perf_counter()
        hits = self._store.search(vector, k)
        self._instruments.search_s.observe(time.perf_counter() - started)
        return _answer(hits)

    async def search_words(self, request: Request) -> Response:
        body = await read_object(request, most_bytes=SEARCH_BYTES)
        query = text_field(body, "query", most=MOST_QUERY)
        k = whole_field(body, "k", least=1, most=MOST_K, default=10)
        if self._store.damage:
            return self._refusal()
        return _answer(self._store.search_words(query, k))

    async def save(self, request: Request) -> Response:  # noqa: ARG002 (Starlette's signature)
        if self._store.damage:
            return self._refusal()
        try:
            async with self._saving:
                # Encoded here, where nothing else changes the index; only the disk is waited for in a thread.
                path = await run_in_threadpool(snapshot.save, self._store.folder, self._store.encoded())
                self._store.saved(path)
        except OSError as error:
            return error_response(f"the snapshot cannot be written: {error.strerror}", 507)
        return JSONResponse({"saved": path.name, "index_checksum": self._store.checksum, "documents": len(self._store)})

    async def load(self, request: Request) -> Response:  # noqa: ARG002 (Starlette's signature)
        path = snapshot.current(self._store.folder) or self._store.source
        if path is None:
            raise BadRequest("nothing has been saved yet", 409)
        try:
            self._store.load(path)
        except snapshot.CorruptSnapshotError:
            return self._refusal()
        return JSONResponse({"loaded": path.name, "documents": len(self._store)})

    async def health(self, request: Request) -> Response:  # noqa: ARG002 (Starlette's signature)
        sound = self._refresh()
        body: dict[str, Any] = {
            "status": "ok" if sound else "error",
            "integrity": "ok" if sound else "corrupt",
            "documents": len(self._store),
            "dimension": self._store.dimension,
            "index_checksum": self._store.checksum,
            "snapshot": self._store.source.name if self._store.source else None,
        }
        if not sound:
            body["error"] = self._store.damage
        return JSONResponse(body, status_code=200 if sound else 503)

    async def metrics(self, request: Request) -> Response:  # noqa: ARG002 (Starlette's signature)
        self._refresh()
        return exposition(self._instruments.registry)

    def _refresh(self) -> bool:
        sound = self._store.sound()
        self._instruments.integrity.set(1 if sound else 0)
        self._instruments.size_bytes.set(self._store.size_bytes)
        self._instruments.documents.set(len(self._store))
        return sound

    def _refusal(self) -> Response:
        return error_response(f"the index is corrupt: {self._store.damage}", 503)


def _answer(hits: Hits) -> Response:
    return JSONResponse({"ids": hits.ids, "scores": hits.scores, "texts": hits.texts})


def _text(value: object, name: str, number: int) -> str:
    return text_field({name: value}, name, most=MOST_TEXT) if name == "ids" else _optional_text(value, name, number)


def _optional_text(value: object, name: str, number: int) -> str:
    if not isinstance(value, str):
        raise BadRequest(f"`{name}[{number}]` must be a string")
    return text_field({name: value}, name, most=MOST_TEXT, required=False)


def _vector(value: object, dimension: int, name: str) -> Vectors:
    if not isinstance(value, list):
        raise BadRequest(f"`{name}` must be a list of {dimension} numbers")
    if len(value) != dimension:
        raise BadRequest(f"`{name}` has {len(value)} numbers; the index's dimension is {dimension}")
    if not all(map(is_number, value)):
        raise BadRequest(f"`{name}` must hold finite numbers only")
    return _finite(np.array(value, dtype=np.float64), name)


def _packed(value: object, dimension: int) -> Vectors:
    try:
        raw = base64.b64decode(value if isinstance(value, str) else "!", validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("`vector_b64` must be base64 of little-endian 32-bit floats") from None
    if len(raw) != dimension * 4:
        raise BadRequest(
            f"`vector_b64` holds {len(raw)} bytes; the index's dimension is {dimension} ({dimension * 4} bytes)"
        )
    return _finite(np.frombuffer(raw, dtype="<f4").astype(np.float64), "vector_b64")


def _finite(values: np.ndarray, name: str) -> Vectors:
    """Return the values as float32; a number too large for one is refused too."""
    with np.errstate(over="ignore"):
        vector = values.astype(np.float32)
    if not np.isfinite(vector).all():
        raise BadRequest(f"`{name}` must hold finite numbers only")
    return vector
