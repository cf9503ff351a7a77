"""A server's own metrics registry, with the process collector labelled by arm and version."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.responses import Response


class LabelledProcess(Collector):
    """The standard process metrics (resident memory, CPU, open files) with fixed labels on every sample."""

    def __init__(self, labels: dict[str, str]) -> None:
        """Label with `labels`, for instance arm and version."""
        self._labels = labels
        self._process = ProcessCollector(registry=None)

    def collect(self) -> Iterable[Metric]:
        """Yield the process metrics as of now."""
        for metric in self._process.collect():
            labelled = Metric(metric.name, metric.documentation, metric.type)
            for sample in metric.samples:
                labelled.add_sample(sample.name, {**sample.labels, **self._labels}, sample.value)
            yield labelled


def new_registry(labels: dict[str, str]) -> CollectorRegistry:
    """Return a registry of its own that holds the labelled process metrics."""
    disable_created_metrics()  # a time of creation for every series doubles a scrape and tells nobody anything
    registry = CollectorRegistry(auto_describe=False)
    registry.register(LabelledProcess(labels))
    return registry


def exposition(registry: CollectorRegistry) -> Response:
    """Return the registry in Prometheus' text format."""
    return Response(generate_latest(registry), media_type=None, headers={"content-type": CONTENT_TYPE_LATEST})
