"""GPUs of this machine, through NVML."""

import pynvml


def visible_gpus() -> tuple[str, ...]:
    """Return one line for each NVIDIA GPU (name, memory, driver); empty where there is no driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        found: list[str] = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            total = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) // 2**20
            found.append(f"{_text(pynvml.nvmlDeviceGetName(handle))}, {total} MiB, driver {driver}")
        return tuple(found)
    except pynvml.NVMLError as error:
        return (f"NVML answered {error}",)
    finally:
        pynvml.nvmlShutdown()


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
