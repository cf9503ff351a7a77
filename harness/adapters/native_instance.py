"""One process of the native provider: what it is called, where it lives, what its references mean."""

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.adapters.free_ports import HeldPort, hold_port
from harness.adapters.gpu import visible_gpus
from harness.adapters.native_render import LOOPBACK, Scope
from harness.adapters.native_state import RunState
from harness.adapters.native_targets import Scraped
from harness.adapters.processes import Process, clean_environment
from harness.adapters.programs import Program
from harness.model.evidence import Arm
from harness.model.judgement import ServiceKind
from harness.model.system import Native, Release, Service, System
from harness.paths import share_root

PROVIDER = "native"


@dataclass(slots=True, kw_only=True)
class Instance:
    """A service, or one arm of it. `native` is the way of starting it that was chosen for this machine."""

    service: Service
    arm: Arm | None
    native: Native
    release: Release | None
    folder: Path
    log: Path
    ports: dict[str, HeldPort]
    process: Process | None = None
    refers_to: set[str] = field(default_factory=set[str])
    failure: str = ""
    ready_s: float | None = None

    @property
    def name(self) -> str:
        """What logs, events and errors call it: `redis`, or `gateway[candidate]`."""
        return instance_name(self.service.name, self.arm)

    @property
    def kind(self) -> ServiceKind:
        """Whether this is the real program or a stand-in."""
        return ServiceKind.STAND_IN if self.native.stand_in else ServiceKind.REAL

    @property
    def version(self) -> str:
        """The release's version, where the service is under release."""
        return self.release.version if self.release else ""

    def address(self, port: str) -> str:
        """Return "127.0.0.1:PORT"; KeyError for a port that the inventory lacks."""
        return f"127.0.0.1:{self.ports[port].number}"

    @property
    def scraped(self) -> Scraped | None:
        """What Prometheus is told of it; None where it has no metrics."""
        service = self.service
        if service.metrics is None or not service.job or self.native.unscraped:
            return None
        address = self.address(service.metrics[0])
        return Scraped(job=service.job, address=address, arm=self.arm, version=self.version)

    def tail(self, lines: int) -> str:
        """Return the last lines of the log, "" when there is none."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - 64 * 1024))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


def instance_name(service: str, arm: Arm | None) -> str:
    """Return the name of an instance."""
    return f"{service}[{arm}]" if arm else service


def native_services(system: System) -> list[Service]:
    """Return the services that the native provider runs."""
    here = (one for one in system.services if one.native is not None and PROVIDER not in dict(one.not_on))
    return [one for one in here if not lacks_gpu(one)]


def lacks_gpu(service: Service) -> bool:
    """Tell whether the native provider leaves `service` out because this machine shows no GPU."""
    return service.native is not None and service.native.needs_gpu and not visible_gpus()


def program_names(services: Sequence[Service]) -> list[str]:
    """Return every program that `services` may want, preferred ones included."""
    names: dict[str, None] = {}
    for service in services:
        for native in (service.native, service.native.prefer if service.native else None):
            names |= dict.fromkeys(native.programs if native else ())
    return list(names)


def plan_instances(
    system: System, arms: Mapping[Arm, Release], *, state: RunState, logs: Path, programs: Mapping[str, Program]
) -> list[Instance]:
    """Return one instance for each service, two where it is per arm, each with its ports held."""
    planned: list[Instance] = []
    for service in native_services(system):
        for arm in (Arm.BASELINE, Arm.CANDIDATE) if service.per_arm else (None,):
            name = instance_name(service.name, arm)
            release = arms[arm] if arm and service.under_release else None
            planned.append(
                Instance(
                    service=service,
                    arm=arm,
                    native=_choose(service, release, programs),
                    release=release,
                    folder=state.instances / (f"{service.name}-{arm}" if arm else service.name),
                    log=logs / f"{name}.log",
                    ports={port: hold_port() for port, _ in service.ports},
                )
            )
    return planned


def _choose(service: Service, release: Release | None, programs: Mapping[str, Program]) -> Native:
    """Return the preferred way where its programs are on PATH; a release may bring its own command."""
    native = service.native
    assert native is not None  # noqa: S101 - native_services keeps no other
    preferred = native.prefer
    if preferred and all(name in programs and programs[name].origin == "path" for name in preferred.programs):
        native = preferred
    command = dict(release.command).get(service.name) if release else None
    return dataclasses.replace(native, command=command) if command else native


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all instances of a run share."""

    system: System
    run_id: str
    state: RunState
    out: Path
    cache: Path
    scale: float
    lease_port: int
    secrets: Mapping[str, str]
    programs: Mapping[str, Program]
    extra_env: Mapping[str, Sequence[tuple[str, str]]]
    port_of: Callable[[str, str | None, str], int]

    def scope(self, instance: Instance) -> Scope:
        """Return what the references of `instance` mean, for its commands and its environment."""
        values = {
            "dir": str(instance.folder),
            "state": str(self.state.root),
            "out": str(self.out),
            "share": str(share_root()),
            "cache": str(self.cache),
            "system": str(self.system.root),
            "python": sys.executable,
            "run_id": self.run_id,
            "arm": str(instance.arm or ""),
            "version": instance.version,
            "flags_file": str(self.state.flags_path),
            "listen": LOOPBACK,
            "lease": f"{LOOPBACK}:{self.lease_port}",
            "lease.port": str(self.lease_port),
        }
        values |= {f"port.{name}": str(port.number) for name, port in instance.ports.items()}
        values |= {f"secret.{name}": value for name, value in self.secrets.items()}
        values |= {f"secret_file.{name}": str(self.state.secret_path(name)) for name in self.secrets}
        for name, program in self.programs.items():
            values[f"bin.{name}"] = str(program.path)
            values |= {f"bin.{name}.{extra}": path for extra, path in program.extras.items()}

        def port_of(service: str, arm: str | None, port: str) -> int:
            return self.port_of(service, arm or (str(instance.arm) if instance.arm else None), port)

        where = f"{self.system.root / 'system.yaml'}: {instance.service.name}"
        return Scope(values=values, port_of=port_of, scale=self.scale, where=where)

    def environment(self, instance: Instance, scope: Scope) -> dict[str, str]:
        """Return the whole environment of an instance: the clean one, its programs', its own, the release's."""
        env = clean_environment() | {"TMPDIR": str(instance.folder), "PYTHONUNBUFFERED": "1"}
        for name in instance.native.programs:
            if name in self.programs:
                env |= self.programs[name].env
        layers = [instance.native.env, self.extra_env.get(instance.service.name, ())]
        if instance.release:
            layers.insert(1, dict(instance.release.env).get(instance.service.name, ()))
        for layer in layers:
            env |= {name: scope.render(value) for name, value in layer}
        return env

    def working_folder(self, instance: Instance) -> Path:
        """Return where the instance is started: its own folder, unless its program must be elsewhere."""
        wanted = (self.programs[name].cwd for name in instance.native.programs if name in self.programs)
        return next((folder for folder in wanted if folder), instance.folder)

    def file_scope(self, scope: Scope, env: Mapping[str, str]) -> Scope:
        """Return `scope` for files: the instance's environment is known there too."""
        values = dict(scope.values) | {f"env.{name}": value for name, value in env.items()}
        return dataclasses.replace(scope, values=values)
