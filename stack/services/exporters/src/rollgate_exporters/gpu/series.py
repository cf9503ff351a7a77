"""The GPU exporter's metrics."""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from rollgate_exporters.gpu.nvml import Device, Reading

Family = type[GaugeMetricFamily] | type[CounterMetricFamily]
OF_GPU = ("gpu", "uuid")
# name, kind, words, field of a device (nvml.FIELDS)
_FIELDS: tuple[tuple[str, Family, str, str], ...] = (
    ("gpu_utilization_ratio", GaugeMetricFamily, "Share of the last second in which a kernel ran.", "utilization"),
    (
        "gpu_memory_activity_ratio",
        GaugeMetricFamily,
        "Share of time in which memory was read or written.",
        "memory_activity",
    ),
    ("gpu_memory_used_bytes", GaugeMetricFamily, "Memory in use.", "memory_used"),
    ("gpu_memory_total_bytes", GaugeMetricFamily, "Memory.", "memory_total"),
    ("gpu_power_watts", GaugeMetricFamily, "Power drawn.", "power"),
    ("gpu_power_limit_watts", GaugeMetricFamily, "Power that the device may draw.", "power_limit"),
    ("gpu_energy_joules", CounterMetricFamily, "Energy drawn since the driver was loaded.", "energy"),
    ("gpu_temperature_celsius", GaugeMetricFamily, "Temperature of the chip.", "temperature"),
)


class GpuCollector(Collector):
    """The newest reading, as series. A device that does not answer has no old values."""

    def __init__(self, *, simulated: bool) -> None:
        """`simulated`: the readings come from a recording and not from this machine."""
        self.reading: Reading | None = None
        self._simulated = simulated

    def collect(self) -> Iterator[Metric]:
        """Yield all series."""
        reading = self.reading or Reading(reason="the driver does not answer in time")
        yield GaugeMetricFamily("gpu_available", "1 while a GPU can be seen.", value=float(reading.available))
        words = "1 where all of this is played back from a recording and nothing is measured."
        yield GaugeMetricFamily("gpu_simulated", words, value=float(self._simulated))
        devices = reading.devices
        info = GaugeMetricFamily(
            "gpu_info", "1, with the device's name and driver.", labels=(*OF_GPU, "name", "driver")
        )
        for one in devices:
            info.add_metric((one.gpu, one.uuid, one.name, reading.driver), 1)
        yield info
        yield _each(GaugeMetricFamily, "gpu_up", "1 while the device answers.", devices, lambda one: float(one.up))
        for name, kind, told, field in _FIELDS:
            yield _each(kind, name, told, devices, lambda one, field=field: one.values.get(field))
        yield from _errors(devices)
        yield _processes(devices)


def _errors(devices: tuple[Device, ...]) -> Iterator[Metric]:
    words = "Memory errors over the device's life."
    ecc = CounterMetricFamily("gpu_ecc_errors", words, labels=(*OF_GPU, "kind"))
    for one in devices:
        for kind in ("corrected", "uncorrected"):
            if (value := one.values.get(f"ecc_{kind}")) is not None:
                ecc.add_metric((one.gpu, one.uuid, kind), value)
    yield ecc
    words = "Critical errors (XID) that the driver reported while the exporter was connected to it."
    yield _each(CounterMetricFamily, "gpu_xid_errors", words, devices, lambda one: one.xids and one.xids.count)
    words = "Number of the last XID; 0: none."
    yield _each(GaugeMetricFamily, "gpu_xid_last", words, devices, lambda one: one.xids and one.xids.last)
    words = "Questions that the device failed to answer, other than those on what it does not have."
    yield _each(CounterMetricFamily, "gpu_read_failures", words, devices, lambda one: one.failures)


def _processes(devices: tuple[Device, ...]) -> Metric:
    words = "Device memory of a process that computes on it."
    family = GaugeMetricFamily("gpu_process_memory_bytes", words, labels=(*OF_GPU, "pid", "process"))
    for one in devices:
        for process in one.processes:
            if process.memory is not None:
                family.add_metric((one.gpu, one.uuid, str(process.pid), process.name), process.memory)
    return family


def _each(
    kind: Family, name: str, words: str, devices: tuple[Device, ...], value: Callable[[Device], float | None]
) -> Metric:
    family = kind(name, words, labels=OF_GPU)
    for one in devices:
        if (found := value(one)) is not None:
            family.add_metric((one.gpu, one.uuid), found)
    return family
