"""What the exporters' selftests ask: a double of Ollama's API, NVML's answers from a file, and a scrape read back."""

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from harness.paths import share_root

GPU_RECORDING = share_root() / "fixtures" / "nvml" / "one-gpu.json"
Series = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


def model(name: str, *, size: int = 1000, vram: int = 0, digest: str = "d", expires: str = "") -> dict[str, Any]:
    """Return a model as /api/ps lists it."""
    return {"name": name, "model": name, "size": size, "size_vram": vram, "digest": digest, "expires_at": expires}


class OllamaDouble:
    """Ollama's three questions; `loaded` and `stored` are its answers, `instead` what a path answers in its place."""

    def __init__(self) -> None:
        self.loaded: list[dict[str, Any]] = []
        self.stored: list[dict[str, Any]] = []
        self.instead: dict[str, Response] = {}
        self._looks = asyncio.Semaphore(0)
        paths = ("/api/ps", "/api/tags", "/api/version", "/elsewhere")
        self.app = Starlette(routes=[Route(path, self._answer, methods=["GET"]) for path in paths])

    async def looked(self, times: int) -> None:
        """Wait until /api/ps was asked so often again."""
        self._looks = asyncio.Semaphore(0)
        for _ in range(times):
            await self._looks.acquire()

    async def _answer(self, request: Request) -> Response:
        path = request.url.path
        if path == "/api/ps":
            self._looks.release()
        bodies = {
            "/api/ps": {"models": self.loaded},
            "/api/tags": {"models": self.stored},
            "/api/version": {"version": "0.13.5"},
            "/elsewhere": {"models": []},
        }
        return self.instead.get(path) or JSONResponse(bodies[path])


class NvmlFile:
    """A recording of NVML that a test changes; each change is a file with another time."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "nvml.json"
        self.document: dict[str, Any] = json.loads(GPU_RECORDING.read_text())
        self._time_ns = 10**18
        self.write()

    @property
    def device(self) -> dict[str, Any]:
        """The first device's answers."""
        return self.document["devices"][0]

    def write(self, text: str | None = None) -> None:
        """Put the document, or `text`, in the file."""
        self.path.write_text(json.dumps(self.document) if text is None else text)
        self._time_ns += 10**9
        os.utime(self.path, ns=(self._time_ns, self._time_ns))


def series(text: str) -> Series:
    """Return an exposition's samples by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Series, name: str, /, **labels: str) -> float | None:
    """Return the one value of `name` whose labels hold `labels`, None where there is none."""
    (got,) = [v for (n, had), v in found.items() if n == name and labels.items() <= dict(had).items()] or [None]
    return got


async def scraped(client: httpx.AsyncClient) -> Series:
    """Return what a scrape finds."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    return series(answer.text)
