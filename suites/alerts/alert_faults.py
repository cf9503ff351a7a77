"""The faults that make each alert of the system fire, and how each is mended.

A level is the fault's own size; the threshold stands in the rule alone, and the level is chosen to be past it.
"""

import resource
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from exporter_inputs import MOUNT, Inputs
from proving_ground import REDIS_LIMIT, VOLUME, Ground

INF = float("inf")
BASELINE, CANDIDATE = "baseline", "candidate"
FILL = "alerts:fill"
# Prometheus passes changes of its targets on every 5 s at most, whatever the time scale.
DISCOVERY_S = 5.0
SLOW_S = {BASELINE: 6.5, CANDIDATE: 10.5}  # answers held back: past 5 s and under 8; past 10 s, under the router's 11
DESCRIPTORS = 1000  # of this process, beside the connections that fill Redis
QUEUED = 450  # requests: more than the limit, for as long as a throttled model takes some of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One alert's fault. `what` says it in words; `stand_in` what of it is not real, "" for nothing.

    `labels` are those that its alert must have, [`low`, `high`] the value that it must tell; `shows_s`, `lingers_s`,
    `may` and `after_s` are as in harness.planning.rules.live.Struck.
    """

    alert: str
    what: str
    strike: Callable[[], object]
    mend: Callable[[], object]
    labels: Mapping[str, str]
    low: float
    high: float
    stand_in: str = ""
    shows_s: float = 0.0
    lingers_s: float = 0.0
    may: frozenset[str] = frozenset()
    after_s: float = 0.0


class Faults:
    """All faults, in groups that do not disturb one another; traffic flows in the first two."""

    def __init__(self, ground: Ground, inputs: Inputs, burns: frozenset[str]) -> None:
        """Strike nothing yet; `burns` are the alerts on error budgets, which burn while requests fail or are slow."""
        self.ground, self.inputs, self.burns = ground, inputs, burns
        self._held: list[socket.socket] = []
        self._waiting: list[socket.socket] = []
        self._clients: list[socket.socket] = []
        self._throttled = threading.Event()
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def groups(self) -> list[list[Fault]]:
        """Return the groups in the order in which they are struck."""
        return [
            [*self._hosts(), *self._stores(), *self._models(), *self._failures()],
            [*self._slow(), self._no_gpu(), self._target_gone()],
            [*self._stopped(), self._corrupt(), self._queue(), self._connections()],
            [self._triton_stopped()],
        ]

    def _hosts(self) -> list[Fault]:
        inputs, node = self.inputs, {"instance": self.inputs.addresses["node"]}
        real = self.ground.volumes
        disk = "a volume of the crafted host is filled" if real else "the host's disk is shown as full"
        where = "another node_exporter, on a crafted /proc and root"
        return [
            Fault(
                alert="HostMemoryHigh", what="the host's available memory drops to 7 %", stand_in=where,
                strike=lambda: inputs.memory(0.07), mend=lambda: inputs.memory(0.5),
                labels=node, low=0.92, high=0.94,
            ),
            Fault(
                alert="HostDiskHigh", what=disk, stand_in=where if real else "a page in place of node_exporter",
                strike=lambda: fill(inputs.volume, 0.92) if real else setattr(inputs, "disk_used", 0.92),
                mend=lambda: fill(inputs.volume, 0) if real else setattr(inputs, "disk_used", 0.3),
                labels={"mountpoint": MOUNT} | (node if real else {}), low=0.91, high=0.94,
            ),
            Fault(
                alert="NetworkTraffic", what="an interface moves 130 MB/s", stand_in=where,
                strike=lambda: setattr(inputs, "network_rate", 130e6),
                mend=lambda: setattr(inputs, "network_rate", 0.0),
                labels=node | {"device": "eth0"}, low=100e6, high=160e6,
            ),
            Fault(
                alert="GpuUtilizationHigh", what="the GPU is 98 % busy",
                stand_in="the exporter plays a recording of NVML back",
                strike=lambda: inputs.gpu(utilization=98), mend=inputs.gpu,
                labels={"instance": inputs.addresses["gpu"], "gpu": "0"}, low=0.98, high=0.98,
            ),
        ]  # fmt: skip

    def _stores(self) -> list[Fault]:
        ground, real = self.ground, self.ground.volumes
        return [
            Fault(
                alert="RedisMemoryHigh", what="Redis is filled to 88 % of its maxmemory",
                # Its allocator rounds 222 MiB up to 224, and more than that to the whole 256.
                strike=lambda: ground.redis.setrange(FILL, int(0.867 * REDIS_LIMIT), "x"),
                mend=lambda: ground.redis.delete(FILL), labels={"job": "redis"}, low=0.87, high=1.0,
            ),
            Fault(
                alert="FaissDiskHigh",
                what="the volume of the baseline's index is filled" if real else "that volume is shown as full",
                stand_in="" if real else "this machine lets nobody mount a small volume",
                strike=lambda: self._index_volume(0.93), mend=lambda: self._index_volume(0.0),
                labels={"arm": BASELINE}, low=0.92, high=0.99,
            ),
            Fault(
                alert="FaissSearchLatencyP99High", what="the candidate's searches take 1.02 s, now and then",
                strike=lambda: ground.control(CANDIDATE, slow_s=1.02, every_s=3.0),
                mend=lambda: ground.control(CANDIDATE, slow_s=0.0),
                labels={"arm": CANDIDATE}, low=1.0, high=2.5, shows_s=3.0, lingers_s=1.02,
            ),
        ]  # fmt: skip

    def _models(self) -> list[Fault]:
        inputs = self.inputs
        return [
            Fault(
                alert="OllamaMemoryHigh", what="clients that never finish their requests fill Ollama's memory",
                strike=self._half_sent, mend=self._let_go, labels={"instance": self.ground.address("ollama_exporter")},
                # The server reads what has come, a request at a time, after the last was sent.
                low=0.9, high=3.0, shows_s=2.0,
            ),
            Fault(
                alert="ModelLoadingExcessive", what="the model is another one at each look",
                stand_in="another Ollama exporter, on a page in place of Ollama",
                strike=lambda: setattr(inputs, "model_builds", True),
                mend=lambda: setattr(inputs, "model_builds", False),
                labels={"instance": inputs.addresses["ollama"], "model": "alerts:latest"}, low=10.0, high=30.0,
                # The exporter looks once a second until it sees a change.
                shows_s=1.0,
            ),
            Fault(
                alert="TritonGpuMemoryCritical", what="97 % of the GPU's memory is in use",
                stand_in="a page in place of what Triton says of a GPU",
                strike=lambda: setattr(inputs, "gpu_memory", 0.97), mend=lambda: setattr(inputs, "gpu_memory", 0.4),
                labels={"gpu_uuid": "GPU-0000"}, low=0.969, high=0.971,
            ),
        ]  # fmt: skip

    def _failures(self) -> list[Fault]:
        ground = self.ground
        return [
            Fault(
                alert="InferenceErrorRateHigh", what="each 14th request to the baseline fails",
                strike=lambda: ground.control(BASELINE, fail_every=14),
                mend=lambda: ground.control(BASELINE, fail_every=0),
                labels={"arm": BASELINE}, low=0.05, high=0.1, may=self.burns, after_s=INF,
            ),
            Fault(
                alert="InferenceErrorRateCritical", what="each third request to the candidate fails",
                strike=lambda: ground.control(CANDIDATE, fail_every=3),
                mend=lambda: ground.control(CANDIDATE, fail_every=0),
                labels={"arm": CANDIDATE}, low=0.15, high=0.45,
                may=self.burns | {"InferenceErrorRateHigh"}, after_s=INF,
            ),
            Fault(
                alert="ModelQualityDegraded", what="the candidate returns the worst documents",
                strike=lambda: ground.control(CANDIDATE, wrong=1), mend=lambda: ground.control(CANDIDATE, wrong=0),
                labels={"arm": CANDIDATE}, low=5.0, high=100.0,
            ),
        ]  # fmt: skip

    def _slow(self) -> list[Fault]:
        ground = self.ground

        def slow(alert: str, arm: str, low: float, high: float, may: frozenset[str]) -> Fault:
            held = SLOW_S[arm]
            return Fault(
                alert=alert, what=f"answers of the {arm} take {held:g} s",
                strike=lambda: ground.control(arm, delay_s=held), mend=lambda: ground.control(arm, delay_s=0),
                labels={"arm": arm}, low=low, high=high,
                # An answer counts when it is given, and those that are held back come late.
                shows_s=held, lingers_s=held, may=may | self.burns, after_s=INF,
            )  # fmt: skip

        return [
            slow("InferenceLatencyP95High", BASELINE, 5.0, 8.0, frozenset()),
            slow("InferenceLatencyP99Critical", CANDIDATE, 10.0, 15.0, frozenset({"InferenceLatencyP95High"})),
        ]

    def _no_gpu(self) -> Fault:
        return Fault(
            alert="OllamaGpuUnavailable", what="the GPU's driver is gone",
            stand_in="the exporter plays a recording of NVML back",
            strike=lambda: self.inputs.gpu(driver=False), mend=self.inputs.gpu,
            labels={"instance": self.inputs.addresses["gpu"]}, low=0.0, high=0.0,
        )  # fmt: skip

    def _target_gone(self) -> Fault:
        targets = self.ground.targets("haproxy")
        return Fault(
            alert="MetricsAbsent", what="the router leaves discovery",
            strike=lambda: self.ground.set_targets("haproxy", []),
            mend=lambda: self.ground.set_targets("haproxy", targets),
            labels={"job": "haproxy"}, low=1.0, high=1.0, shows_s=DISCOVERY_S, lingers_s=DISCOVERY_S,
        )  # fmt: skip

    def _stopped(self) -> list[Fault]:
        return [
            self._stop("OllamaDown", "ollama", "ollama", None),
            self._stop("FaissDown", "faiss", "faiss", CANDIDATE),
        ]

    def _triton_stopped(self) -> Fault:
        return self._stop("TritonDown", "triton", "triton", None)

    def _stop(self, alert: str, service: str, job: str, arm: str | None) -> Fault:
        ground = self.ground
        return Fault(
            alert=alert, what=f"the process of {service} is stopped",
            strike=lambda: ground.stop(service, arm), mend=lambda: ground.go_on(service, arm),
            labels={"job": job} | ({"arm": arm} if arm else {}), low=0.0, high=0.0,
            # A scrape that nobody answers ends with its timeout: the scaled interval.
            shows_s=0.5, lingers_s=0.5, may=frozenset({"MetricsAbsent"}),
        )  # fmt: skip

    def _corrupt(self) -> Fault:
        return Fault(
            alert="FaissIndexCorrupt", what="one byte of the baseline's index on disk is another one",
            strike=self._flip, mend=self._flip, labels={"arm": BASELINE}, low=0.0, high=0.0,
        )  # fmt: skip

    def _queue(self) -> Fault:
        return Fault(
            alert="TritonQueueDepth", what="requests wait for a model whose process gets next to none of its time",
            strike=self._fill_queue, mend=self._drain_queue,
            labels={"model": "embedder"}, low=101.0, high=float(QUEUED),
        )  # fmt: skip

    def _connections(self) -> Fault:
        room = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - DESCRIPTORS
        self._maxclients = int(self.ground.redis.config_get("maxclients")["maxclients"])
        whole = room > 10_100 and self._maxclients > 10_100
        count, low, high = (10_050, 10_000.0, 10_100.0) if whole else (240, 90.0, 100.0)
        return Fault(
            alert="RedisConnectionsHigh",
            what=f"{count} clients connect" + ("" if whole else ", of 256: this machine's limit of open files is low"),
            strike=lambda: self._connect(count, whole=whole), mend=lambda: self._disconnect(whole=whole),
            labels={"job": "redis"}, low=low, high=high,
        )  # fmt: skip

    def _index_volume(self, share: float) -> None:
        if self.ground.volumes:
            fill(self.ground.index_folder(BASELINE), share)
        else:
            self.ground.control(BASELINE, used=share)

    def _half_sent(self) -> None:
        """Send all but the end of large requests: what came so far is kept until the rest does."""
        host, _, port = self.ground.address("ollama").rpartition(":")
        head = f"POST /api/generate HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000\r\n\r\n".encode()
        for _ in range(450):
            one = socket.create_connection((host, int(port)), timeout=10)
            self._held.append(one)
            one.sendall(head + b'{"prompt": "' + b"a" * 990_000)

    def _let_go(self) -> None:
        for one in self._held:
            one.close()
        self._held.clear()

    def _flip(self) -> None:
        """Change a byte of the snapshot that is served, or change it back."""
        folder = self.ground.index_folder(BASELINE)
        path = folder / (folder / "CURRENT").read_text(encoding="utf-8").strip()
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 0xFF
        path.write_bytes(raw)

    def save_index(self) -> None:
        """Let the baseline keep an index of its own, whose bytes are nobody else's."""
        answer = httpx.post(f"http://{self.ground.address('faiss', arm=BASELINE)}/save", trust_env=False, timeout=20)
        assert answer.is_success, answer.text

    def _stubs(self, model: str) -> list[psutil.Process]:
        return [one for one in self.ground.processes("triton") if any(model in word for word in one.cmdline()[1:])]

    def _fill_queue(self) -> None:
        """Throttle the model's own process, and send it requests: they wait in Triton."""
        stubs = self._stubs("embedder")
        assert stubs, "Triton runs no process for the embedder"
        self._throttled.clear()
        self._throttle = threading.Thread(target=throttle, args=(stubs, self._throttled), daemon=True)
        self._throttle.start()
        host, _, port = self.ground.address("triton").rpartition(":")
        body = b'{"inputs":[{"name":"TEXT","datatype":"UINT8","shape":[1,4],"data":[116,101,120,116]}]}'
        head = f"POST /v2/models/embedder/infer HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
        for _ in range(QUEUED):
            one = socket.create_connection((host, int(port)), timeout=10)
            self._waiting.append(one)
            one.sendall(head.encode() + body)

    def _drain_queue(self) -> None:
        """Let the model go on, and take every answer: Triton does not bear all of its clients leaving at once."""
        self._throttled.set()
        self._throttle.join(5)
        for one in self._waiting:
            with suppress(OSError):
                one.settimeout(10)
                one.recv(64)
            one.close()
        self._waiting.clear()

    def _connect(self, count: int, *, whole: bool) -> None:
        if not whole:
            self.ground.redis.config_set("maxclients", 256)
        host, _, port = self.ground.address("redis", "redis").rpartition(":")
        self._clients = [socket.create_connection((host, int(port)), timeout=10) for _ in range(count)]

    def _disconnect(self, *, whole: bool) -> None:
        for one in self._clients:
            one.close()
        if not whole:
            self.ground.redis.config_set("maxclients", self._maxclients)


def throttle(processes: Sequence[psutil.Process], ended: threading.Event) -> None:
    """Let processes run a small part of their time only, until `ended`.

    A model's process that stood still for a second would be given up by Triton, and Triton with it.
    """
    while not ended.is_set():
        for one in processes:
            one.suspend()
        ended.wait(0.3)
        for one in processes:
            one.resume()
        ended.wait(0.002)  # on a core of its own it takes several requests in that


def fill(folder: Path, share: float) -> None:
    """Fill a small volume to this share; 0 empties it again."""
    path = folder / "fill"
    path.unlink(missing_ok=True)
    if share > 0:
        path.write_bytes(b"\0" * int(VOLUME * share))
