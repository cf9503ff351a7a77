"""The libraries that a reader of GPUs can be given: the driver's own, a recording, and one that records."""

import ctypes
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml

from rollgate_serving.settings import SettingError

_SESSION = ("nvmlInit", "nvmlSystemGetDriverVersion", "nvmlDeviceGetCount")
_CONSTANT = (str, int, float, list, dict)


class Driver:
    """pynvml, and a way to tell handles apart."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - pynvml ships no types
        """Return pynvml's function of that name."""
        return getattr(pynvml, name)

    @staticmethod
    def address(handle: Any) -> Any:  # noqa: ANN401 - NVML's own
        """Return what is equal for two handles of one device."""
        return ctypes.cast(handle, ctypes.c_void_p).value


class Recording:
    """NVML's answers from a JSON file, read again when it changes; nothing here is measured.

    `{"source": TEXT, "nvmlInit": ANSWER, "nvmlSystemGetDriverVersion": ANSWER, "nvmlSystemGetProcessName": {PID: TEXT},
    "devices": [{FUNCTION: ANSWER, ...}, ...], "events": [[DEVICE, XID], ...]}`. An answer is a value, an object of a
    structure's members, `{"error": CODE}`, or, for a function with further arguments, `{"by": {"ARG,ARG": ANSWER}}`. A
    function without an answer is not supported. Events are delivered once for each time that the file is read.
    """

    def __init__(self, path: Path) -> None:
        """Read the file. Raises SettingError where it is no recording."""
        self._path = path
        self._read_at = 0
        self._document: dict[str, Any] = {}
        self._events: list[list[int]] = []
        try:
            self._refresh()
        except (OSError, ValueError, TypeError) as error:
            raise SettingError(f"{path} is no recording of NVML: {error}") from None

    @staticmethod
    def address(handle: int) -> int:
        """Return what is equal for two handles of one device."""
        return handle

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's name
        """Begin a session."""
        try:
            self._refresh()
        except (OSError, ValueError, TypeError):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED) from None
        self._given(self._document.get("nvmlInit"))

    def nvmlShutdown(self) -> None:  # noqa: N802 - NVML's name
        """End a session."""

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802 - NVML's name
        """Return the version, as of a file that may have changed since the last reading."""
        self.nvmlInit()
        return str(self._given(self._document.get("nvmlSystemGetDriverVersion", "")))

    def nvmlSystemGetProcessName(self, pid: int) -> str:  # noqa: N802 - NVML's name
        """Return a process's command."""
        return str(self._document.get("nvmlSystemGetProcessName", {}).get(str(pid), ""))

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 - NVML's name
        """Return how many devices there are."""
        return len(self._document["devices"])

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802 - NVML's name
        """Return the handle of a device: its place in the file."""
        self._given(self._document["devices"][index].get("nvmlDeviceGetHandleByIndex"))
        return index

    def nvmlEventSetCreate(self) -> object:  # noqa: N802 - NVML's name
        """Return a set of events."""
        return self

    def nvmlEventSetFree(self, events: object) -> None:  # noqa: N802 - NVML's name
        """Let go of a set of events."""

    def nvmlDeviceRegisterEvents(self, handle: int, kinds: int, events: object) -> None:  # noqa: ARG002, N802 - NVML's
        """Ask for a device's events."""
        self._given(self._document["devices"][handle].get("nvmlDeviceRegisterEvents"))

    def nvmlEventSetWait_v2(self, events: object, timeout_ms: int) -> SimpleNamespace:  # noqa: ARG002, N802 - NVML's
        """Return the next event."""
        if not self._events:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT)
        device, xid = self._events.pop(0)
        return SimpleNamespace(device=device, eventType=pynvml.nvmlEventTypeXidCriticalError, eventData=xid)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a function of a device."""
        if not name.startswith("nvmlDevice"):
            raise AttributeError(name)
        return partial(self._asked, name)

    def _asked(self, name: str, handle: int, *args: int) -> Any:  # noqa: ANN401 - NVML's own
        missing = {"error": pynvml.NVML_ERROR_NOT_SUPPORTED}
        answer = self._document["devices"][handle].get(name, missing)
        if isinstance(answer, dict) and "by" in answer:
            answer = answer["by"].get(",".join(map(str, args)), missing)
        return self._given(answer)

    @staticmethod
    def _given(answer: Any) -> Any:  # noqa: ANN401 - parsed JSON
        if isinstance(answer, dict) and "error" in answer:
            raise pynvml.NVMLError(int(answer["error"]))
        if isinstance(answer, dict):
            return SimpleNamespace(**answer)
        return [SimpleNamespace(**one) for one in answer] if isinstance(answer, list) else answer

    def _refresh(self) -> None:
        changed = self._path.stat().st_mtime_ns
        if changed == self._read_at:
            return
        document = json.loads(self._path.read_text(encoding="utf-8"))
        if not isinstance(document, dict) or not isinstance(document.get("devices"), list):
            raise TypeError("expected an object with a list of devices")
        if not all(isinstance(one, dict) for one in document["devices"]):
            raise TypeError("expected an object for each device")
        self._document, self._read_at = document, changed
        self._events = [list(event) for event in document.get("events", [])]


class Recorder:
    """Passes every question on to `library` and keeps the answers as a Recording has them."""

    def __init__(self, library: Any) -> None:  # noqa: ANN401 - a library of this module
        """Keep nothing yet."""
        self._library = library
        self._indices: dict[Any, int] = {}
        self.document: dict[str, Any] = {"devices": []}

    def address(self, handle: Any) -> Any:  # noqa: ANN401 - NVML's own
        """Return what is equal for two handles of one device."""
        return self._library.address(handle)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a function that keeps what it was answered."""
        return partial(self._asked, name)

    def _asked(self, name: str, *args: Any) -> Any:  # noqa: ANN401 - NVML's own
        try:
            answer = getattr(self._library, name)(*args)
        except pynvml.NVMLError as error:
            self._keep(name, args, None, {"error": error.value})
            raise
        self._keep(name, args, answer, _plain(answer))
        return answer

    def _keep(self, name: str, args: tuple[Any, ...], answer: Any, kept: Any) -> None:  # noqa: ANN401 - NVML's own
        devices = self.document["devices"]
        if name == "nvmlDeviceGetHandleByIndex":
            devices.append({} if answer is not None else {name: kept})
            if answer is not None:
                self._indices[self.address(answer)] = args[0]
        elif name == "nvmlSystemGetProcessName":
            self.document.setdefault(name, {})[str(args[0])] = kept if isinstance(kept, str) else ""
        elif name in _SESSION:
            if kept is not None and name != "nvmlDeviceGetCount":
                self.document[name] = kept
        elif name.startswith("nvmlDevice"):
            device = devices[self._indices[self.address(args[0])]]
            if name == "nvmlDeviceRegisterEvents" or len(args) == 1:
                device[name] = kept
            else:
                device.setdefault(name, {"by": {}})["by"][",".join(map(str, args[1:]))] = kept


def _plain(answer: Any) -> Any:  # noqa: ANN401 - NVML's own
    """Return an answer as JSON has it."""
    if isinstance(answer, bytes):
        return answer.decode(errors="replace")
    if isinstance(answer, list):
        return [_plain(one) for one in answer]
    if answer is None or isinstance(answer, _CONSTANT):
        return answer
    fields = getattr(type(answer), "_fields_", None)
    names = [name for name, *_ in fields] if fields else list(vars(answer))
    return {name: value for name in names if isinstance(value := getattr(answer, name), int | float | str | None)}
