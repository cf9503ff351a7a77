"""Reads GPUs through NVML. The library is handed in, with pynvml's own names: pynvml, or a recording of its answers."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pynvml

log = logging.getLogger("rollgate.gpu_exporter")

# What no answer on one device can be blamed on: the driver, or our session with it, is gone.
_SESSION_ENDED = frozenset(
    {
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    }
)
# A device says so of what it does not have; that is no error of it.
_LACKING = frozenset({pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND})
_MOST_EVENTS = 1000  # taken in one reading

Library = Any  # pynvml ships no types
Handle = Any


def _ecc(library: Library, handle: Handle, kind: int) -> float:
    return library.nvmlDeviceGetTotalEccErrors(handle, kind, pynvml.NVML_AGGREGATE_ECC)


# Values of a device in base units, each asked by itself: what one device lacks, or fails on, is missing alone.
FIELDS: Mapping[str, Callable[[Library, Handle], float]] = {
    "utilization": lambda lib, dev: lib.nvmlDeviceGetUtilizationRates(dev).gpu / 100,
    "memory_activity": lambda lib, dev: lib.nvmlDeviceGetUtilizationRates(dev).memory / 100,
    "memory_used": lambda lib, dev: lib.nvmlDeviceGetMemoryInfo(dev).used,
    "memory_total": lambda lib, dev: lib.nvmlDeviceGetMemoryInfo(dev).total,
    "power": lambda lib, dev: lib.nvmlDeviceGetPowerUsage(dev) / 1000,
    "power_limit": lambda lib, dev: lib.nvmlDeviceGetEnforcedPowerLimit(dev) / 1000,
    "energy": lambda lib, dev: lib.nvmlDeviceGetTotalEnergyConsumption(dev) / 1000,
    "temperature": lambda lib, dev: lib.nvmlDeviceGetTemperature(dev, pynvml.NVML_TEMPERATURE_GPU),
    "ecc_corrected": lambda lib, dev: _ecc(lib, dev, pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
    "ecc_uncorrected": lambda lib, dev: _ecc(lib, dev, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
}


@dataclass(frozen=True, slots=True)
class Process:
    """A process on a device, and the device memory it holds, bytes (None where the driver does not tell)."""

    pid: int
    name: str
    memory: int | None


@dataclass(slots=True)
class Xids:
    """The critical errors that the driver reported of a device, since the exporter first saw it."""

    count: int = 0
    last: int = 0


@dataclass(frozen=True, slots=True)
class Device:
    """A device. `up`: it answers at least something. `values` are by the names of FIELDS. `xids`: None if not told."""

    gpu: str
    uuid: str
    name: str
    up: bool
    values: Mapping[str, float] = field(default_factory=dict[str, float])
    processes: tuple[Process, ...] = ()
    xids: Xids | None = None
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """All devices at one moment. `reason` says why there is no driver to ask; "" where there is one."""

    devices: tuple[Device, ...] = ()
    driver: str = ""
    reason: str = ""

    @property
    def available(self) -> bool:
        """Whether a GPU can be seen."""
        return any(device.up for device in self.devices)


@dataclass(slots=True)
class _Known:
    """What stays of a device between readings, also while it does not answer."""

    gpu: str
    name: str
    failures: int = 0
    xids: Xids = field(default_factory=Xids)


class Gpus:
    """The machine's GPUs. A driver that goes away is asked for anew at each reading."""

    def __init__(self, library: Library) -> None:
        """Open nothing yet."""
        self._nvml = library
        self._open = False
        self._events: Any = None
        self._registered: dict[Any, str] = {}  # uuid by the handle's address
        self._known: dict[str, _Known] = {}

    def read(self) -> Reading:
        """Return all devices as of now. Never raises: what is wrong with the driver is the reading's reason."""
        try:
            if not self._open:
                self._nvml.nvmlInit()
                self._open = True
            driver = _text(self._nvml.nvmlSystemGetDriverVersion())
            found = {device.uuid: device for device in self._devices()}
            self._take_events()
        except pynvml.NVMLError as error:
            self.close()
            return Reading(reason=str(error))
        lost = [
            Device(known.gpu, uuid, known.name, up=False) for uuid, known in self._known.items() if uuid not in found
        ]
        devices = tuple(self._with_history(device) for device in (*found.values(), *lost))
        reading = Reading(tuple(sorted(devices, key=lambda one: (one.gpu, one.uuid))), driver)
        if devices and not reading.available:
            self.close()  # after a reset they answer only to those who ask anew
        return reading

    def close(self) -> None:
        """End the session with the driver; the next reading begins another."""
        events, was_open = self._events, self._open
        self._open, self._events, self._registered = False, None, {}
        try:
            if events is not None:
                self._nvml.nvmlEventSetFree(events)
            if was_open:
                self._nvml.nvmlShutdown()
        except pynvml.NVMLError as error:
            log.debug("closing NVML: %s", error)

    def _devices(self) -> Iterator[Device]:
        for index in range(int(self._nvml.nvmlDeviceGetCount())):
            try:
                handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
                uuid = _text(self._nvml.nvmlDeviceGetUUID(handle))
            except pynvml.NVMLError as error:
                if error.value in _SESSION_ENDED:
                    raise
                continue  # it is lost; its uuid is among the known, if it was ever seen
            if uuid not in self._known:
                self._known[uuid] = _Known(str(index), self._optional("nvmlDeviceGetName", handle))
            self._known[uuid].gpu = str(index)
            self._register(handle, uuid)
            yield self._device(handle, uuid)

    def _device(self, handle: Handle, uuid: str) -> Device:
        known, values = self._known[uuid], dict[str, float]()
        for name, ask in FIELDS.items():
            try:
                values[name] = float(ask(self._nvml, handle))
            except pynvml.NVMLError as error:
                self._failed(error, known, name)
        try:
            processes = tuple(self._processes(handle))
        except pynvml.NVMLError as error:
            self._failed(error, known, "processes")
            processes = ()
        return Device(known.gpu, uuid, known.name, up=bool(values), values=values, processes=processes)

    def _failed(self, error: pynvml.NVMLError, known: _Known, what: str) -> None:
        if error.value in _SESSION_ENDED:
            raise error
        if error.value not in _LACKING:
            known.failures += 1
            log.debug("GPU %s, %s: %s", known.gpu, what, error)

    def _processes(self, handle: Handle) -> Iterator[Process]:
        for one in self._nvml.nvmlDeviceGetComputeRunningProcesses(handle):
            command = self._optional("nvmlSystemGetProcessName", one.pid)
            # Only the program's name: arguments may hold what is nobody's business.
            name = command.split()[0].rpartition("/")[2] if command.strip() else ""
            yield Process(one.pid, name, None if one.usedGpuMemory is None else int(one.usedGpuMemory))

    def _register(self, handle: Handle, uuid: str) -> None:
        """Ask the driver to tell of this device's critical errors; some devices and containers cannot."""
        if uuid in self._registered.values():
            return
        try:
            if self._events is None:
                self._events = self._nvml.nvmlEventSetCreate()
            self._nvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeXidCriticalError, self._events)
        except pynvml.NVMLError as error:
            if error.value in _SESSION_ENDED:
                raise
            log.debug("GPU %s tells no XID errors: %s", uuid, error)
        else:
            self._registered[self._nvml.address(handle)] = uuid

    def _take_events(self) -> None:
        if self._events is None:
            return
        for _ in range(_MOST_EVENTS):
            try:
                event = self._nvml.nvmlEventSetWait_v2(self._events, 0)
            except pynvml.NVMLError as error:
                if error.value in _SESSION_ENDED:
                    raise
                return  # a time-out: there is none
            uuid = self._registered.get(self._nvml.address(event.device))
            if uuid is not None and event.eventType == pynvml.nvmlEventTypeXidCriticalError:
                xids = self._known[uuid].xids
                xids.count += 1
                xids.last = int(event.eventData)
                log.warning("GPU %s: XID %d", uuid, xids.last)

    def _with_history(self, device: Device) -> Device:
        known = self._known[device.uuid]
        told = known.xids.count > 0 or device.uuid in self._registered.values()
        xids = Xids(known.xids.count, known.xids.last) if told else None
        return Device(
            device.gpu, device.uuid, device.name, device.up, device.values, device.processes, xids, known.failures
        )

    def _optional(self, name: str, *args: Any) -> str:  # noqa: ANN401 - NVML's own
        try:
            return _text(getattr(self._nvml, name)(*args))
        except pynvml.NVMLError:
            return ""


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
