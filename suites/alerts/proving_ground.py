"""The real stack of these suites: brought up once, its alerts delivered to a receiver, and what faults reach of it."""

import json
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import redis
from alert_receiver import Receiver, receiving
from steady_traffic import Traffic, sending

from harness.adapters.native import NativeProvider
from harness.adapters.stack_file import Description, read_description
from harness.model.evidence import Arm
from harness.model.rule import Monitoring
from harness.model.system import Release, System
from harness.paths import cache_root
from harness.planning.rules.live import Evaluated
from harness.planning.rules.routing import Routing
from harness.spec.alertmanager import load_routing
from harness.spec.monitoring import MonitoringFiles, find_monitoring, load_monitoring
from harness.wiring.gate import new_run_id

# 30 is the most that keeps scrapes, evaluations and windows in proportion: intervals of 15 s become the floor of 0.5 s.
TIME_SCALE = 30.0
OLLAMA_LIMIT = 400 * 2**20  # bytes shown as Ollama's limit, so that this machine can reach it
REDIS_LIMIT = 256 * 2**20  # bytes, the same
VOLUME = 16 * 2**20  # bytes of the index's own volume
_TARGETS_S = 30.0


class Ground:
    """The running stack."""

    def __init__(self, system: System, folder: Path, run_id: str, receiver: Receiver) -> None:
        """Start nothing yet; `folder` takes the run's files."""
        self.system, self.folder, self.receiver = system, folder, receiver
        self.volumes = can_mount()
        self._lock = threading.Lock()  # faults are struck side by side
        self.state = cache_root() / "run" / run_id
        self._controls = folder / "control"
        self._controls.mkdir(parents=True)
        self.provider = NativeProvider(
            system,
            {arm: self._release(arm) for arm in Arm},
            out=folder,
            state=self.state,
            run_id=run_id,
            time_scale=TIME_SCALE,
            cache=cache_root(),
            on_event=lambda _event: None,
            extra_env={
                "ollama_exporter": [("OLLAMA_EXPORTER_MEMORY_LIMIT_BYTES", str(OLLAMA_LIMIT))],
                # What a request took goes back to the machine when it ends, so that the mend can be seen.
                "ollama": [("MALLOC_MMAP_THRESHOLD_", "65536"), ("MALLOC_TRIM_THRESHOLD_", "65536")],
            },
        )

    def _release(self, arm: Arm) -> Release:
        """Return a release whose gateway and vector store take orders from a file, and whose index has its own disk."""
        suite = "${share}/suites/alerts"
        env = (("BAD_RELEASE_CONTROL", str(self.control_path(arm))),)
        faiss = ["${python}", f"{suite}/bad_faiss.py"]
        if self.volumes:
            faiss = [*on_volume("${dir}/index", VOLUME), *faiss]
        return Release(
            name=f"switched-{arm}",
            version=f"alerts-{arm}",
            env=(("gateway", env), ("faiss", env)),
            command=(("gateway", ("${python}", f"{suite}/bad_gateway.py")), ("faiss", tuple(faiss))),
        )

    def control_path(self, arm: str) -> Path:
        """Return the control file of an arm."""
        return self._controls / f"{arm}.json"

    def control(self, arm: str, **values: float) -> None:
        """Set faults of an arm's release; 0 ends one."""
        with self._lock:
            path = self.control_path(arm)
            before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            replace_text(path, json.dumps({**before, **values}))

    def up(self) -> None:
        """Bring the stack up, and let its alerts be delivered here."""
        self.provider.up()
        self.description: Description = read_description(self.folder / "stack.json")
        self._deliver_here()
        self.redis.config_set("maxmemory", REDIS_LIMIT)

    def address(self, service: str, port: str = "http", arm: str | None = None) -> str:
        """Return "host:port"."""
        return self._instance(service, arm)["addresses"][port]

    def _instance(self, service: str, arm: str | None) -> Mapping[str, object]:
        return next(one for one in self.description["instances"] if (one["service"], one["arm"]) == (service, arm))

    def processes(self, service: str, arm: str | None = None) -> list[psutil.Process]:
        """Return the service's own process first, then its descendants."""
        return psutil.Process(self._instance(service, arm)["keeper"]).children(recursive=True)

    def stop(self, service: str, arm: str | None = None) -> None:
        """Stop a service's process where it stands: it answers nobody, and can go on."""
        for process in self.processes(service, arm):
            process.send_signal(signal.SIGSTOP)

    def go_on(self, service: str, arm: str | None = None) -> None:
        """Let a stopped process go on."""
        for process in self.processes(service, arm):
            process.send_signal(signal.SIGCONT)

    @property
    def redis(self) -> redis.Redis:
        """A client of the stack's Redis."""
        host, _, port = self.address("redis", "redis").rpartition(":")
        password = Path(self.description["secrets"]["redis_password"]).read_text(encoding="utf-8")
        return redis.Redis(host=host, port=int(port), password=password)

    def instance_folder(self, name: str) -> Path:
        """Return the folder of a running instance."""
        return self.state / "i" / name

    def index_folder(self, arm: str) -> Path:
        """Return where an arm's index lies, as its own process sees it."""
        inside = self.instance_folder(f"faiss-{arm}") / "index"
        if not self.volumes:
            return inside
        return Path(f"/proc/{self.processes('faiss', arm)[0].pid}/root") / inside.relative_to("/")

    def _deliver_here(self) -> None:
        """Give every receiver of the running copy its channel, as a deployment does; all else stays as it ships."""
        path = self.instance_folder("alertmanager") / "alertmanager.yml"
        text = path.read_text(encoding="utf-8")
        head, word, tail = text.partition("\nreceivers:\n")
        channel = rf"\g<0>\n    webhook_configs: [{{url: 'http://{self.receiver.address}/\g<name>'}}]"
        path.write_text(
            head + word + re.sub(r"^ *- name: (?P<name>[\w-]+).*$", channel, tail, flags=re.MULTILINE), encoding="utf-8"
        )
        answer = httpx.post(f"http://{self.address('alertmanager')}/-/reload", trust_env=False, timeout=5)
        assert answer.is_success, f"Alertmanager refuses its receivers: {answer.text}"

    def add_rules(self, name: str, text: str) -> None:
        """Give Prometheus one more file of rules."""
        (self.instance_folder("prometheus") / "rules" / name).write_text(text, encoding="utf-8")
        self.processes("prometheus")[0].send_signal(signal.SIGHUP)

    def targets(self, job: str) -> list[dict[str, object]]:
        """Return the targets of a job."""
        return json.loads(self._targets_file(job).read_text(encoding="utf-8"))

    def set_targets(self, job: str, targets: list[dict[str, object]]) -> None:
        """Change the targets of a job; Prometheus takes that up within 5 s."""
        replace_text(self._targets_file(job), json.dumps(targets))

    def add_target(self, job: str, address: str, **labels: str) -> None:
        """Add a target to a job."""
        self.set_targets(job, [*self.targets(job), {"targets": [address], "labels": labels}])

    def _targets_file(self, job: str) -> Path:
        return self.instance_folder("prometheus") / "targets" / f"{job}.json"

    def ask(self, path: str, **params: str) -> dict[str, object]:
        """Return the data of a question to Prometheus."""
        url = f"http://{self.address('prometheus')}/api/v1/{path}"
        answer = httpx.get(url, params=params, trust_env=False, timeout=20)
        answer.raise_for_status()
        return answer.json()["data"]

    def await_targets(self, count: int) -> None:
        """Wait until `count` targets, all there are, have been scraped well."""
        deadline = time.monotonic() + _TARGETS_S
        while True:
            targets = self.ask("targets", state="active")["activeTargets"]
            ill = [one["labels"]["job"] + " " + one["lastError"] for one in targets if one["health"] != "up"]
            if len(targets) >= count and not ill:
                return
            assert time.monotonic() < deadline, f"{len(targets)} of {count} targets, not up: {ill}"
            time.sleep(0.1)

    def firing(self) -> list[str]:
        """Return the names of the alerts that fire now."""
        return [one["labels"]["alertname"] for one in self.ask("alerts")["alerts"] if one["state"] == "firing"]

    def evaluated(self, since: float, until: float) -> tuple[Evaluated, ...]:
        """Return every alert's evaluations between two moments, as Prometheus kept them."""
        kept: dict[tuple[tuple[str, str], ...], dict[str, list[float]]] = {}
        window = f"{round(1000 * (until - since))}ms"
        data = self.ask("query", query=f"ALERTS[{window}]", time=f"{until:.3f}")
        for row in data["result"]:
            labels = {k: v for k, v in row["metric"].items() if k not in {"__name__", "alertstate"}}
            states = kept.setdefault(tuple(sorted(labels.items())), {"pending": [], "firing": []})
            states[row["metric"]["alertstate"]] += [float(at) for at, _ in row["values"]]
        return tuple(
            Evaluated(
                alert=dict(labels)["alertname"],
                labels=dict(labels),
                pending=tuple(sorted(states["pending"])),
                firing=tuple(sorted(states["firing"])),
            )
            for labels, states in kept.items()
        )

    def monitoring(self) -> Monitoring:
        """Return the rules and jobs as they run here, durations scaled, with the system's recorded series."""
        shipped = find_monitoring(str(self.system.root))
        folder = self.instance_folder("prometheus")
        return load_monitoring(
            MonitoringFiles(
                name=self.system.name,
                root=folder,
                rules=tuple(folder / "rules" / path.name for path in shipped.rules),
                config=folder / "prometheus.yml",
                scrapes=shipped.scrapes,
            )
        )

    def routing(self) -> Routing:
        """Return Alertmanager's routes as they run here."""
        return load_routing(self.instance_folder("alertmanager") / "alertmanager.yml")


@contextmanager
def standing(system: System, reports: Path) -> Generator[tuple[Ground, Traffic]]:
    """Bring the system up for its alerts, with traffic that can be turned on, and take it down again."""
    run_id = new_run_id(f"{system.name}-alerts")
    with receiving() as receiver:
        ground = Ground(system, reports.absolute() / run_id, run_id, receiver)
        try:
            ground.up()
            traffic = Traffic(ground.description["entry"], system.traffic.force_header, system.root / "queries.jsonl")
            with sending(traffic):
                yield ground, traffic
        finally:
            with suppress(psutil.Error, AttributeError):
                for one in ground.description["instances"]:
                    ground.go_on(one["service"], one["arm"])
            ground.provider.down()


def replace_text(path: Path, text: str) -> None:
    """Write a file so that its readers see the old one or the new one, whole."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def on_volume(folder: str, size: int) -> list[str]:
    """Return the words before a command that give it a small volume of its own at `folder`, gone when it ends."""
    script = f'mkdir -p "$0" && mount -t tmpfs -o size={size} volume "$0" && exec "$@"'
    return ["unshare", "--user", "--map-root-user", "--mount", "--", "sh", "-c", script, folder]


def can_mount() -> bool:
    """Tell whether this machine lets us give a process a volume of its own."""
    words = [*on_volume(tempfile.gettempdir(), VOLUME), "true"]
    try:
        return subprocess.run(words, capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
