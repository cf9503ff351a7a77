"""The Ollama exporter's metrics."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from rollgate_exporters.ollama.api import PATHS, Loaded, Stored

# Beyond the longest time that a probe may take by default, 2 s.
PROBE_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
OUTCOMES = ("ok", "error")


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at Ollama found. `reason` says why it is not up; then there is no more to tell.

    `memory` is in bytes, None where nobody can tell.
    """

    reason: str = ""
    version: str = ""
    loaded: tuple[Loaded, ...] = ()
    stored: tuple[Stored, ...] = ()
    memory: float | None = None

    @property
    def up(self) -> bool:
        """Whether Ollama answered all that it was asked."""
        return not self.reason


class Probes:
    """How long the exporter's own questions take, and how they end; every series is there from the start."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Create the series at zero."""
        seconds = Histogram(
            "ollama_probe_duration_seconds",
            "Time of the exporter's own questions to Ollama, those without an answer included.",
            ("path",),
            buckets=PROBE_BOUNDS_S,
            registry=registry,
        )
        count = Counter(
            "ollama_probes", "The exporter's own questions to Ollama.", ("path", "outcome"), registry=registry
        )
        self._seconds = {path: seconds.labels(path) for path in PATHS}
        self._count = {(path, outcome): count.labels(path, outcome) for path in PATHS for outcome in OUTCOMES}

    def told(self, path: str, outcome: str, seconds: float) -> None:
        """Count a question."""
        self._seconds[path].observe(seconds)
        self._count[path, outcome].inc()


class LookCollector(Collector):
    """The newest look, as series. What a stopped Ollama would say is not served: no old numbers."""

    def __init__(self, loads: Mapping[str, int], limit_bytes: int) -> None:
        """Serve `loads` as they are at each scrape; `limit_bytes` is what Ollama may take, 0 for no limit."""
        self.look = Look(reason="not asked yet")
        self._loads = loads
        self._limit = limit_bytes

    def collect(self) -> Iterator[Metric]:
        """Yield all series."""
        look = self.look
        yield _gauge("ollama_up", "1 while Ollama answers /api/ps, /api/tags and /api/version.", float(look.up))
        yield _gauge("ollama_memory_limit_bytes", "What Ollama may take; 0: no limit.", self._limit)
        yield _by_model(
            CounterMetricFamily(
                "ollama_model_loads",
                "Loads seen from outside, by looking at /api/ps: at least so many.",
                labels=("model",),
            ),
            self._loads,
        )
        if not look.up:
            return
        info = GaugeMetricFamily("ollama_info", "1, with Ollama's version.", labels=("version",))
        info.add_metric((look.version,), 1)
        yield info
        yield _gauge("ollama_loaded_models", "Models in memory.", len(look.loaded))
        if look.memory is not None:
            yield _gauge("ollama_memory_bytes", "Host memory of Ollama and its runners.", look.memory)
        yield from _of_models(look)


def _of_models(look: Look) -> Iterator[Metric]:
    told: tuple[tuple[str, str, dict[str, float]], ...] = (
        ("ollama_model_size_bytes", "Size of a model on disk.", {m.model: m.size for m in look.stored}),
        (
            "ollama_model_memory_bytes",
            "Memory of a loaded model, on host and GPUs.",
            {m.model: m.size for m in look.loaded},
        ),
        (
            "ollama_model_vram_bytes",
            "Part of a loaded model's memory that is on GPUs.",
            {m.model: m.vram for m in look.loaded},
        ),
        (
            "ollama_model_expires_timestamp_seconds",
            "When a loaded model will be unloaded, Unix time; none for one that stays.",
            {m.model: m.expires for m in look.loaded if m.expires is not None},
        ),
    )
    for name, words, values in told:
        yield _by_model(GaugeMetricFamily(name, words, labels=("model",)), values)


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=value)


def _by_model(family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[str, float]) -> Metric:
    for model, value in sorted(values.items()):
        family.add_metric((model,), value)
    return family


def new_registry() -> CollectorRegistry:
    """Return a registry without the exporter's own process: under this job, readers expect Ollama's."""
    disable_created_metrics()
    return CollectorRegistry(auto_describe=False)
