"""The GPU exporter over NVML's answers from a file: no machine here has a GPU, and the file is written by hand."""

import asyncio
import ctypes
import json
import threading
from pathlib import Path
from typing import Any

import pynvml
import pytest
from exporter_upstreams import GPU_RECORDING, NvmlFile, scraped, value
from service_upstreams import client_of

from rollgate_exporters.gpu import record
from rollgate_exporters.gpu.app import Exporter, build, create_app
from rollgate_exporters.gpu.fresh import Fresh
from rollgate_exporters.gpu.library import Driver, Recorder, Recording
from rollgate_exporters.gpu.nvml import FIELDS, Gpus, Reading
from rollgate_exporters.gpu.series import GpuCollector
from rollgate_serving.settings import Environment, SettingError

pytestmark = pytest.mark.selftest
UUID = "GPU-5d1c3f0a-0000-0000-0000-000000000001"
NOT_SUPPORTED = {"error": pynvml.NVML_ERROR_NOT_SUPPORTED}
LOST = {"error": pynvml.NVML_ERROR_GPU_IS_LOST}
GONE = {"error": pynvml.NVML_ERROR_DRIVER_NOT_LOADED}
SERIES = {
    "gpu_utilization_ratio": 0.4,
    "gpu_memory_activity_ratio": 0.12,
    "gpu_memory_used_bytes": 21474836480,
    "gpu_memory_total_bytes": 150754820096,
    "gpu_power_watts": 312.45,
    "gpu_power_limit_watts": 700,
    "gpu_energy_joules_total": 81234567.89,
    "gpu_temperature_celsius": 46,
    "gpu_xid_errors_total": 0,
    "gpu_xid_last": 0,
    "gpu_read_failures_total": 0,
    "gpu_up": 1,
}


@pytest.fixture
def nvml(tmp_path: Path) -> NvmlFile:
    """A recording with one device, which the test changes."""
    return NvmlFile(tmp_path)


class Sessions(Recording):
    """As the driver has it: what failed in a session, or as a whole, answers only in a session that begins later."""

    def __init__(self, path: Path) -> None:
        self.well: bool | None = None
        self.broken: set[str] = set()
        super().__init__(path)

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's name
        super().nvmlInit()
        self.well, self.broken = True, set()

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802 - NVML's name
        if not self.well:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
        broken = set(self.broken)
        try:
            return super().nvmlSystemGetDriverVersion()
        except pynvml.NVMLError:
            self.well = False
            raise
        finally:
            self.broken = broken

    def _asked(self, name: str, handle: int, *args: int) -> Any:  # noqa: ANN401 - NVML's own
        if name in self.broken:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        try:
            return super()._asked(name, handle, *args)
        except pynvml.NVMLError as error:
            if error.value == pynvml.NVML_ERROR_GPU_IS_LOST:
                self.broken.add(name)
            raise


def gpus_of(nvml: NvmlFile) -> Gpus:
    """Return a reader of the recording."""
    return Gpus(Sessions(nvml.path))


def app_of(library: Any) -> Any:  # noqa: ANN401 - NVML's own
    """Return the exporter's application over a library."""
    return create_app(Exporter(Gpus(library), simulated=True, patience_s=20))


@pytest.mark.asyncio
async def test_every_value_of_a_device_is_served_in_base_units():
    """Ratios, bytes, watts, joules, degrees; errors by kind; memory by process, by its name without arguments."""
    async with client_of(app_of(Recording(GPU_RECORDING))) as client:
        found = await scraped(client)
    assert value(found, "gpu_available") == value(found, "gpu_simulated") == 1
    assert value(found, "gpu_info", name="NVIDIA H200", driver="570.86.15", uuid=UUID) == 1
    assert {name: value(found, name, gpu="0", uuid=UUID) for name in SERIES} == SERIES
    assert value(found, "gpu_ecc_errors_total", kind="corrected") == 3
    assert value(found, "gpu_ecc_errors_total", kind="uncorrected") == 0
    assert value(found, "gpu_process_memory_bytes", pid="4711", process="ollama") == 18253611008
    assert len([name for name, _ in found if name == "gpu_process_memory_bytes"]) == 1  # of the other nothing is told


@pytest.mark.asyncio
async def test_without_a_driver_no_gpu_is_available_and_the_exporter_is_well(monkeypatch: pytest.MonkeyPatch):
    """The real library as on a machine without NVIDIA's: gpu_available 0, nothing else is claimed."""

    def absent() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", absent)
    app, host, _ = build(Environment({}))
    async with client_of(app) as client:
        found, again = await scraped(client), await scraped(client)
        health = await client.get("/health")
    assert {name for name, _ in found} == {"gpu_available", "gpu_simulated"}
    assert value(found, "gpu_available") == value(again, "gpu_available") == value(found, "gpu_simulated") == 0
    assert (host, health.status_code) == ("127.0.0.1", 200)
    assert health.json() == {"status": "ok", "gpus": "NVML Shared Library Not Found"}


@pytest.mark.asyncio
@pytest.mark.parametrize("where", ["nvmlInit", "nvmlSystemGetDriverVersion"])
async def test_a_driver_that_goes_away_and_comes_back(where: str, nvml: NvmlFile):
    """Unloaded under the exporter's feet: 0 and no old values; loaded again: all of it, the counters still there."""
    nvml.document["events"] = [[0, 31]]
    nvml.write()
    async with client_of(app_of(Sessions(nvml.path))) as client:
        before = await scraped(client)
        nvml.document = {**nvml.document, where: GONE, "events": []}
        nvml.write()
        without = [await scraped(client) for _ in range(2)]
        nvml.document = {**nvml.document, where: "570.86.15" if where != "nvmlInit" else None}
        nvml.write()
        after = await scraped(client)
    assert [value(found, "gpu_available") for found in (before, *without, after)] == [1, 0, 0, 1]
    assert {name for name, _ in without[0]} == {"gpu_available", "gpu_simulated"}
    assert value(before, "gpu_xid_errors_total") == value(after, "gpu_xid_errors_total") == 1
    assert value(after, "gpu_utilization_ratio") == 0.4


FUNCTIONS = {
    "nvmlDeviceGetUtilizationRates": {"utilization", "memory_activity"},
    "nvmlDeviceGetMemoryInfo": {"memory_used", "memory_total"},
    "nvmlDeviceGetPowerUsage": {"power"},
    "nvmlDeviceGetEnforcedPowerLimit": {"power_limit"},
    "nvmlDeviceGetTotalEnergyConsumption": {"energy"},
    "nvmlDeviceGetTemperature": {"temperature"},
    "nvmlDeviceGetTotalEccErrors": {"ecc_corrected", "ecc_uncorrected"},
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_value_that_a_device_lacks_is_missing_alone(function: str, nvml: NvmlFile):
    """NotSupported is no failure; another error is counted, once for each value, and hides nothing else either."""
    assert set.union(*FUNCTIONS.values()) == set(FIELDS)
    for answer, failures in ((NOT_SUPPORTED, 0), ({"error": pynvml.NVML_ERROR_UNKNOWN}, len(FUNCTIONS[function]))):
        nvml.device[function] = answer
        nvml.write()
        (device,) = gpus_of(nvml).read().devices
        assert device.up
        assert set(FIELDS) - set(device.values) == FUNCTIONS[function]
        assert len(device.processes) == 2
        assert device.failures == failures


def test_what_a_device_cannot_tell_of_processes_and_errors_is_not_told(nvml: NvmlFile):
    """No process list, no events: no series for them, and above all no reassuring zero."""
    nvml.device["nvmlDeviceGetComputeRunningProcesses"] = NOT_SUPPORTED
    nvml.device["nvmlDeviceRegisterEvents"] = NOT_SUPPORTED
    nvml.write()
    reading = gpus_of(nvml).read()
    (device,) = reading.devices
    assert (device.processes, device.xids, device.failures, device.up) == ((), None, 0, True)
    collector = GpuCollector(simulated=True)
    collector.reading = reading
    names = {sample.name for family in collector.collect() for sample in family.samples}
    assert not {"gpu_xid_errors_total", "gpu_xid_last", "gpu_process_memory_bytes"} & names


def test_a_device_that_is_lost_is_told_from_those_that_are_well(nvml: NvmlFile):
    """Two devices, one falls off the bus, or is gone from the count: it is down, without values, the other is well."""
    other = {**nvml.device, "nvmlDeviceGetUUID": "GPU-2"}
    nvml.document["devices"].append(other)
    nvml.write()
    gpus = gpus_of(nvml)
    assert [device.up for device in gpus.read().devices] == [True, True]
    nvml.document["devices"][1] = {"nvmlDeviceGetHandleByIndex": LOST}
    nvml.write()
    reading = gpus.read()
    assert [(d.gpu, d.uuid, d.up, bool(d.values)) for d in reading.devices] == [
        ("0", UUID, True, True),
        ("1", "GPU-2", False, False),
    ]
    assert reading.available
    nvml.document["devices"].pop()
    nvml.write()
    assert [device.up for device in gpus.read().devices] == [True, False]


def test_the_only_device_that_is_lost_leaves_no_gpu_available_until_it_is_back(nvml: NvmlFile):
    """It has a handle, and each question to it fails; after its reset it answers a new session."""
    gpus, well = gpus_of(nvml), dict(nvml.device)
    assert gpus.read().available
    nvml.document["devices"][0] = {**dict.fromkeys(well, LOST), "nvmlDeviceGetUUID": UUID}
    nvml.write()
    lost = gpus.read()
    assert (lost.available, [device.up for device in lost.devices], lost.reason) == (False, [False], "")
    nvml.document["devices"][0] = well
    nvml.write()
    (device,) = gpus.read().devices
    assert device.up
    assert device.failures > 0


def test_critical_errors_are_counted_for_the_device_they_happened_on(nvml: NvmlFile):
    """Three on the second of two devices, in one reading; the last one's number; nothing twice."""
    nvml.document["devices"].append({**nvml.device, "nvmlDeviceGetUUID": "GPU-2"})
    nvml.document["events"] = [[1, 13], [1, 31], [1, 79]]
    nvml.write()
    gpus = gpus_of(nvml)
    first, second = gpus.read().devices
    assert (first.xids and first.xids.count, second.xids and (second.xids.count, second.xids.last)) == (0, (3, 79))
    assert gpus.read().devices[1].xids == second.xids


def test_a_critical_error_of_a_device_that_is_lost_with_it_is_counted(nvml: NvmlFile):
    """XID 79: the device can no longer say who it is when its event arrives."""
    gpus = gpus_of(nvml)
    assert gpus.read().available
    nvml.document["devices"][0] = {"nvmlDeviceGetHandleByIndex": LOST}
    nvml.document["events"] = [[0, 79]]
    nvml.write()
    (device,) = gpus.read().devices
    assert not device.up
    assert device.xids
    assert (device.xids.count, device.xids.last) == (1, 79)


def test_handles_of_one_device_are_known_again():
    """NVML gives out another pointer object to the same place each time."""
    place = pynvml.struct_c_nvmlDevice_t()
    other = pynvml.struct_c_nvmlDevice_t()
    one, same = (ctypes.cast(ctypes.pointer(place), pynvml.c_nvmlDevice_t) for _ in range(2))
    assert Driver.address(one) == Driver.address(same)
    assert Driver.address(one) != Driver.address(ctypes.pointer(other))


def test_every_name_that_is_asked_for_is_pynvmls():
    """The recording answers any name; the real library must have those that the reader uses."""
    asked: set[str] = set()

    class Noted(Recording):
        def __getattribute__(self, name: str) -> Any:  # noqa: ANN401 - NVML's own
            asked.update({name} if name.startswith("nvml") else ())
            return super().__getattribute__(name)

    gpus = Gpus(Noted(GPU_RECORDING))
    assert gpus.read().available
    gpus.close()
    assert len(asked) > 15
    assert {name for name in asked if not callable(getattr(pynvml, name, None))} == set()


@pytest.mark.asyncio
async def test_a_driver_that_hangs_leaves_the_exporter_answering():
    """Scrapes meanwhile say 0 and do not pile up calls; when it answers again, so does the exporter."""
    hangs, calls = threading.Event(), 0

    class Hanging(Recording):
        def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802 - NVML's name
            nonlocal calls
            calls += 1
            hangs.wait(60)
            return super().nvmlSystemGetDriverVersion()

    exporter = Exporter(Gpus(Hanging(GPU_RECORDING)), simulated=True, patience_s=0.05)
    try:
        async with client_of(create_app(exporter)) as client:
            during = [await scraped(client) for _ in range(3)]
            health = (await client.get("/health")).json()
            assert calls == 1
            hangs.set()
            async with asyncio.timeout(30):
                while value(after := await scraped(client), "gpu_available") != 1:
                    pass
    finally:
        hangs.set()
    assert [value(found, "gpu_available") for found in during] == [0, 0, 0]
    assert health["gpus"] == "the driver gave no answer within 0.05 s"
    assert value(after, "gpu_utilization_ratio") == 0.4


@pytest.mark.asyncio
async def test_a_reading_that_breaks_is_none_and_the_next_one_is_tried(caplog: pytest.LogCaptureFixture):
    """An error that nobody foresaw: logged, no GPU, no end of the exporter."""
    results = iter([OSError("no"), Reading(driver="1")])

    def read() -> Reading:
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    fresh = Fresh(read, 20)
    assert await fresh.get() is None
    assert await fresh.get() == Reading(driver="1")
    assert "a reading failed" in caplog.text


def test_what_is_recorded_plays_back_the_same(tmp_path: Path, nvml: NvmlFile, capsys: pytest.CaptureFixture[str]):
    """Record a device with a lack and a failure; the playback's reading equals the original's."""
    nvml.device["nvmlDeviceGetTotalEnergyConsumption"] = NOT_SUPPORTED
    nvml.device["nvmlDeviceGetTemperature"] = {"by": {"0": {"error": pynvml.NVML_ERROR_UNKNOWN}}}
    nvml.write()
    out = tmp_path / "recorded.json"
    assert record.main([str(out)], Recording(nvml.path)) == 0
    assert json.loads(out.read_text())["source"].endswith("from NVIDIA H200, driver 570.86.15")
    assert Gpus(Recording(out)).read() == gpus_of(nvml).read()

    nvml.document["nvmlInit"] = GONE
    nvml.write()
    assert record.main([str(tmp_path / "none.json")], Recording(nvml.path)) == 4
    assert "no GPU to record: Driver Not Loaded" in capsys.readouterr().err
    assert not (tmp_path / "none.json").exists()
    assert record.main([]) == 2


def test_structures_of_the_real_library_are_recorded_by_their_members():
    """NVML's own structures have fields; lists of processes hold plain objects."""

    class Library(Recording):
        def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:  # noqa: ANN401, ARG002, N802 - NVML's own
            return pynvml.c_nvmlUtilization_t(gpu=7, memory=2)

    recorder = Recorder(Library(GPU_RECORDING))
    (device,) = Gpus(recorder).read().devices
    assert device.values["utilization"] == 0.07
    assert recorder.document["devices"][0]["nvmlDeviceGetUtilizationRates"] == {"gpu": 7, "memory": 2}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"devices": {}}', '{"devices": [1]}', "{"])
def test_a_file_that_is_no_recording_stops_the_start_and_later_is_a_driver_that_is_gone(text: str, nvml: NvmlFile):
    """At the start a sentence that names it; under a running exporter no GPU, until it is mended."""
    gpus = gpus_of(nvml)
    assert gpus.read().available
    nvml.write(text)
    with pytest.raises(SettingError, match="is no recording of NVML"):
        build(Environment({"GPU_EXPORTER_RECORDING": str(nvml.path)}))
    assert not gpus.read().available
    nvml.write()
    assert gpus.read().available
