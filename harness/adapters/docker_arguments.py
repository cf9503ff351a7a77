"""What the engine is asked for when a container is created: a pure function of the composition and of where it runs."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docker.errors import DockerException
from docker.types import DeviceRequest, LogConfig, Mount
from docker.utils import parse_bytes

from harness.adapters.docker_compose import LABEL, gigabytes, unprivileged
from harness.adapters.docker_health import health_test
from harness.model import composition as model
from harness.model.errors import SpecError
from harness.planning.composition import SECRETS, render

_NANO = 1_000_000_000
_LEAST_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where and for whom containers run.

    `stack` is the folder of shipped files, `secrets` and `targets` those with the run's own. `settings` are the
    user's (.env). `cpus` is what the engine has: it refuses a limit above. `owner` says whose they are, for the
    sweep. `quick_health` asks every second, so that a start is seen at once. `restarts`: the engine starts again
    what exits.
    """

    run: str
    owner: str
    inside: str
    stack: Path
    secrets: Path
    targets: Path
    cpus: float
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    quick_health: bool = True
    restarts: bool = False

    @property
    def labels(self) -> dict[str, str]:
        """Labels of everything that the run makes: containers, networks and volumes."""
        return {f"{LABEL}.run": self.run, f"{LABEL}.owner": self.owner}

    def named(self, name: str) -> str:
        """Return the engine's name for something of this run."""
        return f"{LABEL}-{self.run}-{name}"

    def setting(self, name: str, default: str) -> str:
        """Return the user's setting, or its default."""
        return self.settings.get(name) or default


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """What one container has over the composition's word: a gate's command, environment and files.

    `ports` are the loopback ports that its own are published at, by name; the engine chooses where there are none.
    `binds` are its paths that are this machine's: which, and whether it may write there.
    """

    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    binds: Mapping[str, tuple[Path, bool]] = field(default_factory=dict[str, tuple[Path, bool]])
    ports: Mapping[str, int] = field(default_factory=dict[str, int])
    user: str = ""
    working_dir: str = ""


def arguments(
    unit: model.Unit, composition: model.Composition, placement: Placement, over: Overlay | None = None
) -> dict[str, Any]:
    """Return the keyword arguments of docker's `containers.create`, but for image and network.

    Every port is published on loopback: tests and probes ask from the host. Raises SpecError for a limit of the
    user's that is none.
    """
    over = over or Overlay()
    service, health = unit.service, unit.service.health

    def told(text: str) -> str:
        return render(text, unit, composition, setting=placement.setting)

    interval_s = _LEAST_INTERVAL_S if placement.quick_health else health.interval_s
    made: dict[str, Any] = {
        "name": placement.named(unit.name),
        "entrypoint": [told(word) for word in service.entrypoint],
        "command": list(over.command) or [told(word) for word in service.command],
        "environment": {name: told(value) for name, value in service.env} | dict(over.env),
        "user": over.user or service.user,
        "working_dir": over.working_dir,
        "pid_mode": "host" if service.host_pids else "",
        "read_only": service.read_only,
        "tmpfs": dict.fromkeys(service.tmpfs, ""),
        "shm_size": f"{service.shm_mb}m" if service.shm_mb else "",
        "security_opt": ["no-new-privileges:true"],
        "cap_drop": ["ALL"] if unprivileged(over.user or service.user) else [],
        "ports": {f"{port.number}/tcp": _published(over.ports.get(port.name)) for port in service.ports},
        "mounts": [_mount(mount, unit, composition, placement) for mount in service.mounts]
        + [Mount(at, str(path), type="bind", read_only=not writes) for at, (path, writes) in over.binds.items()]
        + _secrets(unit, placement),
        "healthcheck": {
            "test": health_test(unit, composition, setting=placement.setting, literal=lambda text: text),
            "interval": int(interval_s * _NANO),
            "timeout": int(health.timeout_s * _NANO),
            "retries": health.retries,
            "start_period": int(health.start_period_s * _NANO),
        },
        "device_requests": [_device(unit.gpus)] if unit.gpus else [],
        "log_config": LogConfig(
            type="json-file",
            config={"max-size": f"{composition.log.megabytes}m", "max-file": str(composition.log.files)},
        ),
        "restart_policy": {"Name": "unless-stopped"} if placement.restarts else {},
        "labels": _labels(unit, composition, placement),
        **_limits(service, placement),
    }
    return {key: value for key, value in made.items() if value}


def _published(number: int | None) -> tuple[str, ...] | tuple[str, int]:
    return ("127.0.0.1",) if number is None else ("127.0.0.1", number)


def _limits(service: model.Container, placement: Placement) -> dict[str, Any]:
    name = service.name.upper()
    cpus = _number(f"{name}_CPU_LIMIT", placement.setting(f"{name}_CPU_LIMIT", f"{service.limits.cpus:g}"))
    limit = placement.setting(f"{name}_MEMORY_LIMIT", gigabytes(service.limits.memory_gb))
    kept = gigabytes(service.reservations.memory_gb)
    try:
        # Engines refuse to keep more than the limit, which a user may have lowered.
        kept = min(kept, limit, key=parse_bytes)
    except DockerException as error:
        msg = f"found {limit!r}, expected an amount of memory"
        raise SpecError(msg, where=f"environment {name}_MEMORY_LIMIT", mend="write 512m or 8g") from error
    return {
        "mem_limit": limit,
        "mem_reservation": kept,
        "nano_cpus": int(min(cpus, placement.cpus) * _NANO),
    }


def _number(variable: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        msg = f"found {text!r}, expected a number of CPUs above 0"
        raise SpecError(msg, where=f"environment {variable}", mend="write 2 or 0.5")
    return number


def _labels(unit: model.Unit, composition: model.Composition, placement: Placement) -> dict[str, str]:
    labels = {
        f"{LABEL}.composition": composition.name,
        f"{LABEL}.service": unit.service.name,
        f"{LABEL}.component": unit.service.component,
    }
    return labels | ({f"{LABEL}.arm": unit.arm} if unit.arm else {}) | placement.labels


def _mount(mount: model.Mount, unit: model.Unit, composition: model.Composition, placement: Placement) -> Mount:
    if mount.kind == "volume":
        source = placement.named(mount.source)
        return Mount(mount.target, source, type="volume", read_only=mount.read_only, labels=placement.labels)
    if mount.kind == "host":
        path = Path(render(mount.source, unit, composition, setting=placement.setting))
        return Mount(mount.target, str(placement.stack / path), type="bind", read_only=mount.read_only)
    source = placement.targets if mount.kind == "targets" else placement.stack / mount.source
    return Mount(mount.target, str(source), type="bind", read_only=True)


def _secrets(unit: model.Unit, placement: Placement) -> list[Mount]:
    return [
        Mount(f"{SECRETS}/{name}", str(placement.secrets / name), type="bind", read_only=True)
        for name in unit.service.secrets
    ]


def _device(gpus: model.Gpus) -> DeviceRequest:
    asked: dict[str, Any] = {"device_ids": list(gpus.ids)} if gpus.ids else {"count": gpus.count or -1}
    return DeviceRequest(driver="nvidia", capabilities=[list(gpus.capabilities)], **asked)


def plain(made: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments as plain JSON values: for logs and comparisons."""
    return json.loads(json.dumps(made, default=dict))
