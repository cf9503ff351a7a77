"""The Ollama exporter: a full look at each scrape, and between scrapes looks at what is loaded."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import cast

import aiohttp
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rollgate_exporters.ollama.api import Loaded, NoAnswer, OllamaApi, Stored
from rollgate_exporters.ollama.loads import Loads, pause_s
from rollgate_exporters.ollama.memory import ServerProcess
from rollgate_exporters.ollama.series import Look, LookCollector, Probes, new_registry
from rollgate_serving.errors import HANDLERS
from rollgate_serving.metrics import exposition
from rollgate_serving.settings import Environment

log = logging.getLogger("rollgate.ollama_exporter")


def build(env: Environment) -> tuple[Starlette, str, int]:
    """Return the application, its host and its port.

    OLLAMA_EXPORTER_URL is the Ollama to ask. OLLAMA_EXPORTER_MEMORY_LIMIT_BYTES is what it may take, 0 for no limit;
    it is shown, not enforced.
    """
    exporter = Exporter(
        url=env.base_url("OLLAMA_EXPORTER_URL"),
        timeout_s=env.number("OLLAMA_EXPORTER_TIMEOUT_S", 2.0, least=0.05, most=60),
        poll_s=env.number("OLLAMA_EXPORTER_POLL_S", 1.0, least=0.01, most=3600),
        limit_bytes=env.whole("OLLAMA_EXPORTER_MEMORY_LIMIT_BYTES", 0, most=2**60),
    )
    host = env.text("OLLAMA_EXPORTER_HOST", "127.0.0.1")
    return create_app(exporter), host, env.whole("OLLAMA_EXPORTER_PORT", 9778, least=1, most=65535)


class Exporter:
    """One Ollama, watched. To be opened inside the event loop."""

    def __init__(self, *, url: str, timeout_s: float, poll_s: float, limit_bytes: int) -> None:
        """Prepare the series; nothing is asked yet."""
        self.registry: CollectorRegistry = new_registry()
        self._url = url
        self._timeout_s = timeout_s
        self._poll_s = poll_s
        self._probes = Probes(self.registry)
        self._loads = Loads()
        self._series = LookCollector(self._loads.counts, limit_bytes)
        self.registry.register(self._series)
        self._process = ServerProcess(url)
        self._changed_at = -float("inf")

    @property
    def reason(self) -> str:
        """Why Ollama was not up at the last look, "" where it was."""
        return self._series.look.reason

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Watch what is loaded, until the context ends."""
        async with aiohttp.ClientSession(trust_env=False) as http:
            self._api = OllamaApi(http, self._url, self._timeout_s, self._probes.told)
            watching = asyncio.create_task(self._watch())
            try:
                yield
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)

    async def look(self) -> None:
        """Ask Ollama all there is to know, at once; the series are then of this moment."""
        answers = await asyncio.gather(self._loaded(), self._api.stored(), self._api.version(), return_exceptions=True)
        wrong = [answer for answer in answers if isinstance(answer, BaseException)]
        if wrong:
            self._take(Look(reason=str(wrong[0]) if isinstance(wrong[0], NoAnswer) else repr(wrong[0])))
            return
        loaded, stored, version = cast("tuple[list[Loaded], list[Stored], str]", answers)
        self._loads.know(one.model for one in stored)
        seen = await asyncio.to_thread(self._process.resident_bytes)
        # Where the process is not seen, what its models take of the host's memory is the least that it takes.
        memory = float(sum(one.size - one.vram for one in loaded)) if seen is None else seen
        self._take(Look(version=version, loaded=tuple(loaded), stored=tuple(stored), memory=memory))

    def _take(self, look: Look) -> None:
        if look.reason != self.reason:
            log.log(logging.WARNING if look.reason else logging.INFO, "Ollama: %s", look.reason or "up")
        self._series.look = look

    async def _loaded(self) -> list[Loaded]:
        asked_at = monotonic()
        try:
            found = await self._api.loaded()
        except NoAnswer as error:
            if error.refused:
                self._loads.process_gone(asked_at)
            raise
        if self._loads.seen([(one.model, one.digest) for one in found], asked_at):
            self._changed_at = asked_at
        return found

    async def _watch(self) -> None:
        while True:
            try:
                await self._loaded()
            except NoAnswer:
                pass  # the next scrape says so
            except Exception:
                log.exception("a look at what is loaded failed")
            await asyncio.sleep(pause_s(monotonic(), self._changed_at, self._poll_s))


def create_app(exporter: Exporter) -> Starlette:
    """Return the application: /metrics, and /health, which is the exporter's own and tells of Ollama beside it."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:  # noqa: ARG001 (Starlette's signature)
        async with exporter.opened():
            yield

    async def metrics(request: Request) -> Response:  # noqa: ARG001 (Starlette's signature)
        await exporter.look()
        return exposition(exporter.registry)

    async def health(request: Request) -> Response:  # noqa: ARG001 (Starlette's signature)
        return JSONResponse({"status": "ok", "ollama": exporter.reason or "ok"})

    routes = [Route("/metrics", metrics, methods=["GET"]), Route("/health", health, methods=["GET"])]
    return Starlette(routes=routes, exception_handlers=HANDLERS, lifespan=lifespan)
