"""The server's metrics."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from rollgate_serving.metrics import new_registry

# A bound at 1 s, the alert's threshold, and two above it.
SEARCH_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
ROUTES = ("/add", "/search", "/search/keyword", "/save", "/load")
OUTCOMES = ("ok", "error", "rejected")


@dataclass(frozen=True, slots=True)
class Instruments:
    """The metrics with the arm's labels bound."""

    registry: CollectorRegistry
    search_s: Histogram
    requests: Counter
    integrity: Gauge
    size_bytes: Gauge
    documents: Gauge
    labels: dict[str, str]

    def count(self, route: str, outcome: str) -> None:
        """Count a request of `route`, outcome "ok", "error" or "rejected"."""
        self.requests.labels(route=route, outcome=outcome, **self.labels).inc()


def new_instruments(arm: str, version: str, folder: Path) -> Instruments:
    """Create the metrics; every counter exists at zero from the start. `folder` is where the index is kept."""
    labels = {"arm": arm, "version": version}
    registry = new_registry(labels)
    names = tuple(labels)
    requests = Counter("faiss_requests", "Requests by outcome.", ("route", "outcome", *names), registry=registry)
    for route in ROUTES:
        for outcome in OUTCOMES:
            requests.labels(route=route, outcome=outcome, **labels)
    _volume(folder, labels, registry)
    return Instruments(
        registry=registry,
        search_s=Histogram(
            "faiss_search_duration_seconds",
            "Time of a vector search.",
            names,
            buckets=SEARCH_BOUNDS_S,
            registry=registry,
        ).labels(**labels),
        requests=requests,
        integrity=Gauge(
            "faiss_index_integrity_ok", "1 while the index is sound, else 0.", names, registry=registry
        ).labels(**labels),
        size_bytes=Gauge("faiss_index_size_bytes", "Bytes of the vectors.", names, registry=registry).labels(**labels),
        documents=Gauge("faiss_documents", "Documents in the index.", names, registry=registry).labels(**labels),
        labels=labels,
    )


def _volume(folder: Path, labels: dict[str, str], registry: CollectorRegistry) -> None:
    """Show the volume that the index is on: NaN while the folder cannot be reached."""

    def asked(*, free: bool) -> float:
        there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
        try:
            usage = shutil.disk_usage(there)
        except OSError:
            return float("nan")
        return float(usage.free if free else usage.total)

    size = Gauge("faiss_volume_size_bytes", "Size of the index's volume.", tuple(labels), registry=registry)
    avail = Gauge("faiss_volume_avail_bytes", "Bytes free on the index's volume.", tuple(labels), registry=registry)
    size.labels(**labels).set_function(lambda: asked(free=False))
    avail.labels(**labels).set_function(lambda: asked(free=True))
