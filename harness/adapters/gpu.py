"""GPUs of this machine, through NVML."""

from typing import Any, cast

import pynvml  # pyright: ignore[reportMissingTypeStubs] - it ships none

# The binding carries no types: one cast here instead of one at each call.
_NVML = cast("Any", pynvml)


def visible_gpus() -> tuple[str, ...]:
    """Return one line for each NVIDIA GPU (name, memory, driver); empty where there is no driver."""
    try:
        _NVML.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        driver = _text(_NVML.nvmlSystemGetDriverVersion())
        found: list[str] = []
        for index in range(int(_NVML.nvmlDeviceGetCount())):
            handle = _NVML.nvmlDeviceGetHandleByIndex(index)
            total = int(_NVML.nvmlDeviceGetMemoryInfo(handle).total) // 2**20
            found.append(f"{_text(_NVML.nvmlDeviceGetName(handle))}, {total} MiB, driver {driver}")
        return tuple(found)
    except pynvml.NVMLError as error:
        return (f"NVML answered {error}",)
    finally:
        _NVML.nvmlShutdown()


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
