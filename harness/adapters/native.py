"""The native provider: real programs as local processes on free loopback ports."""

import re
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.adapters import programs as resolver
from harness.adapters.flags_file import write_flags
from harness.adapters.free_ports import hold_port
from harness.adapters.haproxy import HAProxyRouter
from harness.adapters.native_instance import (
    PROVIDER,
    Instance,
    Surroundings,
    instance_name,
    native_services,
    plan_instances,
    program_names,
)
from harness.adapters.native_stack import NativeStack
from harness.adapters.native_start import Starter
from harness.adapters.native_state import RunState
from harness.adapters.programs import Program
from harness.adapters.stack_file import DescribedRouter, Description, description_of, write_description
from harness.model.errors import EnvironmentProblem
from harness.model.event import Event, Noted, ServiceStarted
from harness.model.evidence import Arm
from harness.model.judgement import ServiceKind, ServiceRecord
from harness.model.system import Release, System
from harness.ports import Stack

_GRACE_S = 5.0
_VERSION = re.compile(r"\d+\.\d+(?:\.\d+)*(?:[-+~.\w]*)?")
_VERSION_S = 10.0
Resolve = Callable[[Sequence[str], Path, Callable[[str], None]], Mapping[str, Program]]


class NativeProvider:
    """Brings `system` up with one release an arm, and takes it down again."""

    name = PROVIDER

    def __init__(
        self,
        system: System,
        arms: Mapping[Arm, Release],
        *,
        out: Path,
        state: Path,
        run_id: str,
        time_scale: float,
        cache: Path,
        on_event: Callable[[Event], None],
        extra_env: Mapping[str, Sequence[tuple[str, str]]] | None = None,
        programs: Resolve = resolver.ensure,
    ) -> None:
        """Keep logs and stack.json in `out`, everything that dies with the run in `state`.

        `extra_env` adds to a service's environment on both arms (drills); `programs` finds the real programs.
        """
        self._system = system
        self._arms = dict(arms)
        self._out = out.absolute()
        self._state_path = state.absolute()
        self._run_id = run_id
        self._scale = time_scale
        self._cache = cache.absolute()
        self._on_event = on_event
        self._extra_env = dict(extra_env or {})
        self._resolve = programs
        self._state: RunState | None = None
        self._instances: list[Instance] = []
        self._lease_port = 0
        self._lock = threading.Lock()

    def up(self) -> Stack:
        """Start everything in parallel, in dependency order, and describe it in out/stack.json.

        Raises EnvironmentProblem with the log of the part that stays down; then nothing is left running.
        """
        try:
            return self._up()
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """End everything, clients before their servers, and remove the state; safe to call twice."""
        left = [one for one in self._instances if one.process is not None]
        while left:
            needed = {name for one in left for name in self._needs(one)}
            batch = [one for one in left if one.service.name not in needed] or left
            with ThreadPoolExecutor(max_workers=len(batch)) as pool:
                list(pool.map(_end, batch))
            left = [one for one in left if one not in batch]
        for instance in self._instances:
            for port in instance.ports.values():
                port.release()
        self._instances = []
        if self._state is not None:
            self._state.remove()
            self._state = None

    def router(self) -> HAProxyRouter:
        """Return the router of the stack that is up."""
        told = self._router_description()
        return HAProxyRouter(Path(told["socket"]), Path(told["map_file"]), told["map_name"], told["lease_port"])

    def flags_path(self) -> Path:
        """Return the live flags file of the stack that is up."""
        return self._live_state().flags_path

    def _up(self) -> Stack:
        services = native_services(self._system)
        programs = self._resolve(program_names(services), self._cache, self._note)
        shm = [part.replace("${run_id}", self._run_id) for one in services if one.native for part in one.native.shm]
        self._state = state = RunState(self._state_path, run_id=self._run_id, shm_prefixes=shm)
        logs = self._out / "logs"
        try:
            logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"cannot create {logs}: {error.strerror}"
            raise EnvironmentProblem(msg, mend="choose another --out") from error
        flags = {flag.name: flag.rollout for flag in self._system.flags} | dict(self._system.traffic.flags)
        write_flags(state.flags_path, flags)
        secrets = state.make_secrets(self._system.secrets)
        lease = hold_port()
        self._instances = plan_instances(self._system, self._arms, state=state, logs=logs, programs=programs)
        self._lease_port = lease.release()
        around = Surroundings(
            system=self._system,
            run_id=self._run_id,
            state=state,
            out=self._out,
            cache=self._cache,
            scale=self._scale,
            lease_port=self._lease_port,
            secrets=secrets,
            programs=programs,
            extra_env=self._extra_env,
            port_of=self._port_of,
        )
        Starter(self._instances, around, ready=self._announce(around), warn=self._warn).run()
        records = self._records(around)
        write_description(self._out / "stack.json", self._description(records, state))
        return NativeStack(self._instances, secrets, records)

    def _needs(self, instance: Instance) -> set[str]:
        """Return the services that must outlive `instance`: those it is a client of."""
        needs = set(instance.service.depends)
        if self._system.traffic.metrics_service.partition(".")[0] == instance.service.name:
            needs |= {one.service.name for one in self._instances if one is not instance}
        return needs - {instance.service.name}

    def _port_of(self, service: str, arm: str | None, port: str) -> int:
        for instance in self._instances:
            if instance.service.name == service and instance.arm in {None, arm}:
                return instance.ports[port].number
        raise KeyError(service)

    def _announce(self, around: Surroundings) -> Callable[[Instance, float], None]:
        def ready(instance: Instance, seconds: float) -> None:
            version = _version(instance, around)
            self._emit(
                ServiceStarted(name=instance.name, at=time.time(), seconds=seconds, kind=instance.kind, version=version)
            )

        return ready

    def _records(self, around: Surroundings) -> list[ServiceRecord]:
        records: dict[str, ServiceRecord] = {}
        for instance in self._instances:
            name, version = instance.service.name, _version(instance, around)
            before = records.get(name)
            if before and before.version != version:
                version = f"{before.version}, {version}"
            kind, note = instance.kind, instance.native.stand_in
            records[name] = ServiceRecord(name=name, kind=ServiceKind(kind), version=version, note=note)
        return list(records.values())

    def _router_description(self) -> DescribedRouter:
        name = self._system.traffic.entry.partition(".")[0]
        folder = self._live_state().instances / name
        map_file = str(folder / "limits.map")
        return {
            "socket": str(folder / "admin.sock"),
            "map_file": map_file,
            "map_name": map_file,
            "lease_port": self._lease_port,
        }

    def _description(self, records: Sequence[ServiceRecord], state: RunState) -> Description:
        service, _, port = self._system.traffic.entry.partition(".")
        return description_of(
            self._system,
            self._arms,
            provider=PROVIDER,
            run_id=self._run_id,
            time_scale=self._scale,
            entry=f"127.0.0.1:{self._port_of(service, None, port)}",
            instances=[
                {
                    "name": instance_name(one.service.name, one.arm),
                    "service": one.service.name,
                    "arm": str(one.arm) if one.arm else None,
                    "addresses": {name: one.address(name) for name in one.ports},
                    "log": str(one.log),
                    "keeper": one.process.keeper if one.process else 0,
                    "ready_s": one.ready_s,
                }
                for one in self._instances
            ],
            records=records,
            secrets={name: state.secret_path(name) for name in self._system.secrets},
            flags_file=state.flags_path,
            router=self._router_description(),
        )

    def _live_state(self) -> RunState:
        if self._state is None:
            msg = "the stack is not up"
            raise EnvironmentProblem(msg)
        return self._state

    def _emit(self, event: Event) -> None:
        with self._lock:
            self._on_event(event)

    def _note(self, text: str) -> None:
        self._emit(Noted(text=text, at=time.time()))

    def _warn(self, text: str) -> None:
        self._emit(Noted(text=text, at=time.time(), level="warning"))


def _end(instance: Instance) -> None:
    if instance.process is not None:
        instance.process.terminate(_GRACE_S)


def _version(instance: Instance, around: Surroundings) -> str:
    """Return the release's version, the resolved program's, or what the version command prints."""
    if instance.version:
        return instance.version
    for name in instance.native.programs[:1]:
        if name in around.programs and around.programs[name].version:
            return around.programs[name].version
    if not instance.native.version_command:
        return ""
    scope = around.scope(instance)
    command = [scope.render(word) for word in instance.native.version_command]
    try:
        answer = subprocess.run(
            command, env=around.environment(instance, scope), capture_output=True, timeout=_VERSION_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    match = _VERSION.search((answer.stdout + answer.stderr).decode("utf-8", "replace"))
    return match[0] if match else ""
