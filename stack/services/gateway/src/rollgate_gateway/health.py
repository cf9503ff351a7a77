"""The gateway's health: hard dependencies decide, the cache is soft."""

import asyncio
import time
from typing import Any

from rollgate_gateway.cache import Cache
from rollgate_gateway.http import OK, Http
from rollgate_gateway.settings import Settings

TIMEOUT_S = 1.0
FRESH_S = 0.25


class Health:
    """Asks every service behind the gateway; answers within FRESH_S of each other share one round of questions."""

    def __init__(self, http: Http, cache: Cache, settings: Settings) -> None:
        """Ask over `http` the services that `settings` name."""
        self._http, self._cache = http, cache
        self._urls = {
            "faiss": f"{settings.faiss_url}/health",
            "triton": f"{settings.triton_url}/v2/health/ready",
            "triton.embedder": f"{settings.triton_url}/v2/models/embedder/ready",
            "triton.reranker": f"{settings.triton_url}/v2/models/reranker/ready",
            "ollama": f"{settings.ollama_url}/api/tags",
        }
        self._lock = asyncio.Lock()
        self._known: tuple[float, dict[str, Any]] | None = None

    async def report(self) -> tuple[int, dict[str, Any]]:
        """Return the HTTP status and the body: "ok", "degraded" (no cache) or "unavailable" (503)."""
        async with self._lock:
            if self._known is None or time.monotonic() - self._known[0] > FRESH_S:
                self._known = (time.monotonic(), await self._ask())
        dependencies = self._known[1]
        hard = [name for name, state in dependencies.items() if name != "redis" and state != "ok"]
        if hard:
            reason = f"{', '.join(hard)} cannot serve"
            return 503, {"status": "unavailable", "reason": reason, "dependencies": dependencies}
        soft = dependencies["redis"] == "away"
        return OK, {"status": "degraded" if soft else "ok", "dependencies": dependencies}

    async def _ask(self) -> dict[str, str]:
        asked = [self._http.status(url, TIMEOUT_S) for url in self._urls.values()]
        statuses = (await asyncio.gather(self._cache.probe(), *asked))[1:]
        states = {
            name: "ok" if status == OK else f"answered {status}" if status else "no answer"
            for name, status in zip(self._urls, statuses, strict=True)
        }
        return {**states, "redis": self._cache.state}
