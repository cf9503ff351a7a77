"""The GPU exporter: reads NVML at each scrape."""

import logging

from prometheus_client import CollectorRegistry, disable_created_metrics
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rollgate_exporters.gpu.fresh import Fresh
from rollgate_exporters.gpu.library import Driver, Recording
from rollgate_exporters.gpu.nvml import Gpus, Reading
from rollgate_exporters.gpu.series import GpuCollector
from rollgate_serving.errors import HANDLERS
from rollgate_serving.metrics import exposition
from rollgate_serving.settings import Environment

log = logging.getLogger("rollgate.gpu_exporter")


def build(env: Environment) -> tuple[Starlette, str, int]:
    """Return the application, its host and its port.

    GPU_EXPORTER_RECORDING names a recording of NVML to play back in place of this machine's driver.
    """
    recording = env.path("GPU_EXPORTER_RECORDING")
    exporter = Exporter(
        Gpus(Recording(recording) if recording else Driver()),
        simulated=recording is not None,
        patience_s=env.number("GPU_EXPORTER_TIMEOUT_S", 2.0, least=0.05, most=60),
    )
    host = env.text("GPU_EXPORTER_HOST", "127.0.0.1")
    return create_app(exporter), host, env.whole("GPU_EXPORTER_PORT", 9400, least=1, most=65535)


class Exporter:
    """The machine's GPUs, read when asked."""

    def __init__(self, gpus: Gpus, *, simulated: bool, patience_s: float) -> None:
        """Prepare the series; nothing is read yet."""
        disable_created_metrics()
        self.registry = CollectorRegistry(auto_describe=False)
        self.reason = "not read yet"
        self._series = GpuCollector(simulated=simulated)
        self._fresh: Fresh[Reading] = Fresh(gpus.read, patience_s)
        self._patience_s = patience_s
        self.registry.register(self._series)

    async def look(self) -> None:
        """Read all devices; the series are then of this moment."""
        reading = await self._fresh.get()
        self._series.reading = reading
        reason = f"the driver gave no answer within {self._patience_s:g} s" if reading is None else reading.reason
        if not reason and reading is not None and not reading.available:
            reason = "no device answers" if reading.devices else "the driver shows no device"
        if reason != self.reason:
            log.log(logging.WARNING if reason else logging.INFO, "GPUs: %s", reason or "available")
        self.reason = reason


def create_app(exporter: Exporter) -> Starlette:
    """Return the application: /metrics, and /health, which is the exporter's own and tells of the GPUs beside it."""

    async def metrics(request: Request) -> Response:  # noqa: ARG001 (Starlette's signature)
        await exporter.look()
        return exposition(exporter.registry)

    async def health(request: Request) -> Response:  # noqa: ARG001 (Starlette's signature)
        return JSONResponse({"status": "ok", "gpus": exporter.reason or "ok"})

    routes = [Route("/metrics", metrics, methods=["GET"]), Route("/health", health, methods=["GET"])]
    return Starlette(routes=routes, exception_handlers=HANDLERS)
