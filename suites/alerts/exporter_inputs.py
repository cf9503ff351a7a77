"""Exporters beside the stack's own, whose inputs these suites hold: GPUs, a host and an Ollama that can be made ill.

Each is the real exporter (or says that it is a page) on an input that stands in for a machine's, as one more target.
"""

import json
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from proving_ground import VOLUME, Ground, on_volume, replace_text

from harness.adapters.free_ports import hold_port
from harness.adapters.processes import Process, clean_environment, start
from harness.adapters.programs import ensure
from harness.paths import cache_root, share_root

GPU_RECORDING = share_root() / "fixtures" / "nvml" / "one-gpu.json"
MOUNT = "/data"
_GIB_KB = 2**20
_NET_HEAD = (
    "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier"
    " compressed\n"
)


class Inputs:
    """What the exporters beside the stack read."""

    def __init__(self, ground: Ground) -> None:
        """Write every input as a healthy machine has it; nothing runs yet."""
        self.ground = ground
        self.addresses: dict[str, str] = {}
        self.gpu_file = ground.folder / "nvml.json"
        self.host = ground.folder / "host"
        self.model_builds = False  # a new build of the model at every look
        self.gpu_memory = 0.40  # share in use, on the page that stands in for Triton's own of a GPU
        self.network_rate = 0.0  # bytes a second, in and out together
        self._moved = 0.0
        self._ended = threading.Event()
        self.gpu()
        self.memory(0.5)
        for name in ("proc/1", "proc/net", f"root{MOUNT}"):
            (self.host / name).mkdir(parents=True, exist_ok=True)
        (self.host / "proc/1/mounts").write_text(f"volume {MOUNT} ext4 rw 0 0\n", encoding="utf-8")
        self._count(0.0)
        ground.receiver.pages |= {
            "/api/ps": lambda: json.dumps({"models": [self._model()]}),
            "/api/tags": lambda: json.dumps({"models": [{"name": "alerts:latest", "size": 1}]}),
            "/api/version": lambda: json.dumps({"version": "0.0.0-alerts"}),
            "/triton-gpu": self._triton_gpu,
            "/host-disk": self._host_disk,
        }
        self.disk_used = 0.3  # share, where no volume can be filled

    def gpu(self, *, utilization: int = 40, driver: bool = True) -> None:
        """Let the GPU exporter see a GPU that is so busy, or no driver."""
        recording = json.loads(GPU_RECORDING.read_text(encoding="utf-8"))
        recording["devices"][0]["nvmlDeviceGetUtilizationRates"]["gpu"] = utilization
        if not driver:
            recording["nvmlInit"] = {"error": 9}  # NVML_ERROR_DRIVER_NOT_LOADED
        replace_text(self.gpu_file, json.dumps(recording))

    def memory(self, available: float) -> None:
        """Let the host have this share of its memory available."""
        total = 16 * _GIB_KB
        lines = {"MemTotal": total, "MemFree": int(total * available), "MemAvailable": int(total * available)}
        (self.host / "proc").mkdir(parents=True, exist_ok=True)
        text = "".join(f"{name}: {value} kB\n" for name, value in lines.items())
        replace_text(self.host / "proc" / "meminfo", text)

    @property
    def volume(self) -> Path:
        """The host's volume, as its node exporter's process sees it."""
        pid = self._node.pid
        return Path(f"/proc/{pid}/root") / (self.host / f"root{MOUNT}").relative_to("/")

    @contextmanager
    def running(self) -> Generator["Inputs"]:
        """Start the exporters and add them to the targets."""
        processes: list[Process] = []
        ticking = threading.Thread(target=self._tick, daemon=True)
        ticking.start()
        try:
            processes += [self._gpu_exporter(), self._ollama_exporter()]
            self._node = self._node_exporter()
            processes.append(self._node)
            self.ground.add_target("triton", self.ground.receiver.address, __metrics_path__="/triton-gpu")
            if not self.ground.volumes:
                self.ground.add_target("node", self.ground.receiver.address, __metrics_path__="/host-disk")
            yield self
        finally:
            self._ended.set()
            for process in processes:
                process.terminate(2.0)
            ticking.join(5)

    def _started(self, name: str, job: str, command: list[str], env: dict[str, str]) -> Process:
        port = hold_port()
        number = port.release()
        words = [word.replace("PORT", str(number)) for word in command]
        values = {key: value.replace("PORT", str(number)) for key, value in env.items()}
        services = share_root() / "stack" / "services"
        paths = {"PYTHONPATH": f"{services}/exporters/src:{services}/serving/src"}
        log = self.ground.folder / "logs" / f"{name}-input.log"
        process = start(words, env=clean_environment() | paths | values, cwd=self.ground.folder, log=log)
        self.addresses[name] = f"127.0.0.1:{number}"
        self.ground.add_target(job, self.addresses[name])
        return process

    def _gpu_exporter(self) -> Process:
        env = {"GPU_EXPORTER_PORT": "PORT", "GPU_EXPORTER_RECORDING": str(self.gpu_file)}
        return self._started("gpu", "gpu", [sys.executable, "-m", "rollgate_exporters.gpu"], env)

    def _ollama_exporter(self) -> Process:
        env = {"OLLAMA_EXPORTER_PORT": "PORT", "OLLAMA_EXPORTER_URL": f"http://{self.ground.receiver.address}"}
        return self._started("ollama", "ollama", [sys.executable, "-m", "rollgate_exporters.ollama"], env)

    def _node_exporter(self) -> Process:
        program = ensure(["node_exporter"], cache_root(), lambda _text: None)["node_exporter"]
        words = [
            str(program.path), "--web.listen-address=127.0.0.1:PORT", "--collector.disable-defaults",
            "--collector.filesystem", "--collector.meminfo", "--collector.netdev", "--no-collector.netdev.netlink",
            f"--path.procfs={self.host}/proc", f"--path.rootfs={self.host}/root",
        ]  # fmt: skip
        if self.ground.volumes:
            words = [*on_volume(f"{self.host}/root{MOUNT}", VOLUME), *words]
        else:
            words.remove("--collector.filesystem")
        return self._started("node", "node", words, dict(program.env))

    def _model(self) -> dict[str, object]:
        digest = str(time.monotonic_ns()) if self.model_builds else "one"
        return {"name": "alerts:latest", "size": 1, "size_vram": 0, "digest": digest}

    def _triton_gpu(self) -> str:
        total = 80 * 2**30
        of = '_bytes{gpu_uuid="GPU-0000"}'
        return f"nv_gpu_memory_total{of} {total}\nnv_gpu_memory_used{of} {int(total * self.gpu_memory)}\n"

    def _host_disk(self) -> str:
        labels = f'{{device="volume",fstype="ext4",mountpoint="{MOUNT}"}}'
        free = int(VOLUME * (1 - self.disk_used))
        return f"node_filesystem_size_bytes{labels} {VOLUME}\nnode_filesystem_avail_bytes{labels} {free}\n"

    def _tick(self) -> None:
        before = time.monotonic()
        while not self._ended.wait(0.1):
            now = time.monotonic()
            self._count(self.network_rate * (now - before))
            before = now

    def _count(self, moved: float) -> None:
        self._moved += moved / 2
        half = int(self._moved)
        line = f"  eth0: {half} {half // 1000} 0 0 0 0 0 0 {half} {half // 1000} 0 0 0 0 0 0\n"
        replace_text(self.host / "proc" / "net" / "dev", _NET_HEAD + line)
