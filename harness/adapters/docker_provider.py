"""The docker provider: the containers of a composition, on loopback ports, with one release an arm."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from docker.errors import APIError, DockerException, ImageNotFound

from harness.adapters.docker_container import ServiceContainer
from harness.adapters.docker_faults import UnwellError, start_problem
from harness.adapters.docker_render import DIR, LEASE_FILE, Gated, readable
from harness.adapters.docker_session import DockerSession, Manner
from harness.adapters.docker_stack import DockerStack, described, name_of, run_inside
from harness.adapters.flags_file import write_flags
from harness.adapters.free_ports import HeldPort, hold_port
from harness.adapters.haproxy import HAProxyRouter
from harness.adapters.native_state import RunState
from harness.adapters.probes import Asker, Question, password_name
from harness.adapters.stack_file import Description, description_of, write_description
from harness.model.composition import Composition, Unit
from harness.model.errors import EnvironmentProblem, SpecError
from harness.model.event import Event, Noted, ServiceStarted
from harness.model.evidence import Arm
from harness.model.image import ChosenImage
from harness.model.judgement import ServiceKind, ServiceRecord
from harness.model.system import Release, Service, System
from harness.ports import Stack

PROVIDER = "docker"
_SETTLE_S = 3.0
_POLL_S = 0.1
_PULLS = 4
MAP_NAME = f"{DIR}/limits.map"


class DockerProvider:
    """Brings `system` up as containers with one release an arm, and takes it down again."""

    name = PROVIDER

    def __init__(
        self,
        system: System,
        arms: Mapping[Arm, Release],
        *,
        composition: Composition,
        images: Mapping[str, ChosenImage],
        stack: Path,
        out: Path,
        state: Path,
        run_id: str,
        time_scale: float,
        cache: Path,
        settings: Mapping[str, str],
        gpu: bool,
        on_event: Callable[[Event], None],
        extra_env: Mapping[str, Sequence[tuple[str, str]]] | None = None,
    ) -> None:
        """Keep logs and stack.json in `out`, everything that dies with the run in `state`, a folder named `run_id`.

        `stack` is the folder of what ships, `settings` are the user's for the composition, `extra_env` adds to a
        service's environment on both arms (drills).
        """
        self._system, self._arms, self._images = system, dict(arms), dict(images)
        self._composition, self._stack, self._settings, self._gpu = composition, stack, settings, gpu
        self._out, self._state_path, self._cache = out.absolute(), state.absolute(), cache.absolute()
        self._run_id, self._scale = run_id, time_scale
        self._on_event, self._extra_env = on_event, dict(extra_env or {})
        self._lock = threading.Lock()
        self._state: RunState | None = None
        self._session: DockerSession | None = None
        self._gated: Gated | None = None
        self._held: list[HeldPort] = []
        self._failures: dict[str, str] = {}
        self._absent: dict[str, str] = {}

    def up(self) -> Stack:
        """Start everything in parallel, in dependency order, and describe it in out/stack.json.

        Raises EnvironmentProblem with the last lines of the container that stays down; then nothing is left running.
        """
        try:
            return self._up()
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Keep the logs and remove containers, networks, volumes and the state; safe to call twice."""
        for port in self._held:
            port.release()
        self._held = []
        session, self._session = self._session, None
        left = session.close() if session is not None else None
        if self._state is not None:
            self._state.remove()
            self._state = None
        if left:
            raise EnvironmentProblem(f"the engine keeps what the run made: {left}", mend="remove it by hand")

    def router(self) -> HAProxyRouter:
        """Return the router of the stack that is up."""
        folder = self._router_folder()
        map_file = folder / "limits.map"
        return HAProxyRouter(folder / "admin.sock", map_file, MAP_NAME, lease_file=folder / LEASE_FILE)

    def flags_path(self) -> Path:
        """Return the live flags file of the stack that is up."""
        return self._live().flags_path

    def _up(self) -> Stack:
        self._state = state = RunState(self._state_path, run_id=self._run_id, shm_prefixes=[])
        self._gated = gated = Gated(
            system=self._system,
            composition=self._composition,
            arms=self._arms,
            state=state,
            run_id=self._run_id,
            cache=self._cache,
            scale=self._scale,
            extra_env=self._extra_env,
        )
        readable(self._cache / "models")
        gated.flags_path.parent.mkdir()
        flags = {flag.name: flag.rollout for flag in self._system.flags} | dict(self._system.traffic.flags)
        write_flags(gated.flags_path, flags)
        self._session = session = self._opened(gated)
        units = self._wanted(session)
        gated.scraped.extend(units)
        for unit in units:
            held = {port.name: hold_port() for port in unit.service.ports}
            self._held += held.values()
            gated.ports[unit.alias] = {name: port.number for name, port in held.items()}
        for port in self._held:
            port.release()
        session.start([unit.alias for unit in units])
        containers = [session.started[unit.alias] for unit in units]
        records = self._records(containers)
        write_description(self._out / "stack.json", self._description(containers, records))
        secrets = {name: state.secret_path(name) for name in self._system.secrets}
        return DockerStack(containers, gated.ports, self._failures, secrets, records)

    def _opened(self, gated: Gated) -> DockerSession:
        session = DockerSession(
            self._composition,
            self._images,
            run=self._run_id,
            stack=self._stack,
            state=self._state_path,
            logs=self._out / "logs",
            settings=self._settings,
            gpu=self._gpu,
            manner=Manner(
                over=gated.overlay,
                log=name_of,
                forgives=self._forgives,
                ready=self._ready,
                probe=self._probe,
                restarts=True,
            ),
        )
        self._session = session
        for run in session.open():
            self._note(f"swept what run {run} had left")
        missing = [name for name in self._system.secrets if name not in self._composition.secrets]
        if missing:
            msg = f"the composition has no secret {', '.join(missing)}"
            raise SpecError(msg, where=str(self._system.root / "system.yaml"), key="secrets")
        return session

    def _wanted(self, session: DockerSession) -> list[Unit]:
        """Return the gate's containers, their images at hand; what is optional may be left out, with the reason."""
        wanted: list[Unit] = []
        for service in self._system.services:
            if PROVIDER in dict(service.not_on):
                continue
            units = [unit for unit in session.units.values() if unit.service.name == service.name]
            if not units and any(one.name == service.name for one in self._composition.services):
                self._absent[service.name] = "this machine shows no GPU"
                continue
            if not units:
                msg = f"the composition has no container for {service.name}"
                mend = "describe it there, or say `not_on: {docker: REASON}`"
                raise SpecError(msg, where=str(self._system.root / "system.yaml"), key=service.name, mend=mend)
            wanted += units
        obtained = partial(self._obtained, session)
        with ThreadPoolExecutor(max_workers=_PULLS) as pool:
            answers = list(pool.map(obtained, wanted))
        here: list[Unit] = []
        for unit, problem in zip(wanted, answers, strict=True):
            optional = self._system.service(unit.service.name).docker.optional
            if problem is None:
                here.append(unit)
            elif optional:
                self._absent[unit.service.name] = f"{optional}; {problem.message.splitlines()[0]}"
                self._note(f"without {unit.service.name}: {self._absent[unit.service.name]}", level="warning")
            else:
                raise problem
        return here

    def _obtained(self, session: DockerSession, unit: Unit) -> EnvironmentProblem | None:
        """Have a container's image at hand, pulled where it is not; return why it cannot be had."""
        image = self._images[unit.service.image]
        if session.at_hand(unit):
            return None
        self._note(f"pulling {image.reference}")
        try:
            session.pull(image.reference)
        except (APIError, ImageNotFound, DockerException, OSError) as error:
            said = str(getattr(error, "explanation", "") or error)
            return start_problem(unit.alias, image.reference, said, image.mend)
        return None

    def _forgives(self, unit: Unit, problem: EnvironmentProblem) -> bool:
        """Whether a start that failed is the candidate's own doing: its arm is unhealthy, and the judge says so."""
        service = next((one for one in self._system.services if one.name == unit.service.name), None)
        if (
            service is None
            or unit.arm != Arm.CANDIDATE
            or not service.under_release
            or not isinstance(problem, UnwellError)
        ):
            return False
        self._failures[unit.alias] = problem.message
        self._note(f"{name_of(unit)} does not come up: {problem.message.splitlines()[0]}", level="warning")
        return True

    def _ready(self, container: ServiceContainer) -> None:
        """Run what follows the start, and give the service's own checks a moment to hold too."""
        unit = container.unit
        if all(one.name != unit.service.name for one in self._system.services):
            return
        for words in self._live().after_start(unit):
            code, text = run_inside(container, words)
            if code:
                raise EnvironmentProblem(f"{name_of(unit)}: `{' '.join(words)}` ended with {code}: {text}")
        self._settle(unit, self._system.service(unit.service.name))
        kind = ServiceKind.STAND_IN if self._stand_in(container) else ServiceKind.REAL
        self._emit(
            ServiceStarted(
                name=name_of(unit),
                at=time.time(),
                seconds=container.ready_s,
                kind=kind,
                version=self._version(container),
            )
        )

    def _probe(self, unit: Unit) -> Callable[[], str]:
        """Return what asks a container's health as the inventory says, from here: as on any other provider."""
        service = self._system.service(unit.service.name)
        number = self._live().ports[unit.alias][service.health.port]
        question = Question(
            signal="", address=f"127.0.0.1:{number}", how=service.health, secret=self._password(service)
        )
        return partial(Asker().problem, question)

    def _password(self, service: Service) -> str:
        name = password_name(service.name)
        if name not in self._system.secrets:
            return ""
        return self._live().state.secret_path(name).read_text(encoding="utf-8")

    def _settle(self, unit: Unit, service: Service) -> None:
        """Wait a moment for the service's own checks; one that does not hold is the probes' and the judge's affair."""
        asker, deadline = Asker(), time.monotonic() + _SETTLE_S
        ports = self._live().ports[unit.alias]
        secret = self._password(service)
        for check in service.checks:
            question = Question(signal="", address=f"127.0.0.1:{ports[check.port]}", how=check, secret=secret)
            while asker.problem(question) and time.monotonic() < deadline:
                time.sleep(_POLL_S)

    def _stand_in(self, container: ServiceContainer) -> str:
        """Return what the container's image stands in for, and why; "" for the real thing."""
        image = self._images[container.unit.service.image].image
        return image.stand_in if container.image == image.local_name else ""

    def _version(self, container: ServiceContainer) -> str:
        release = self._live().release(container.unit)
        return release.version if release else container.image

    def _records(self, containers: Sequence[ServiceContainer]) -> list[ServiceRecord]:
        records: dict[str, ServiceRecord] = {}
        for container in containers:
            name, version, note = container.unit.service.name, self._version(container), self._stand_in(container)
            before = records.get(name)
            if before and before.version != version:
                version = f"{before.version}, {version}"
            kind = ServiceKind.STAND_IN if note else ServiceKind.REAL
            records[name] = ServiceRecord(name=name, kind=kind, version=version, note=note)
        return list(records.values())

    def _router_folder(self) -> Path:
        return self._live().state.instances / self._system.traffic.entry.partition(".")[0]

    def _description(self, containers: Sequence[ServiceContainer], records: Sequence[ServiceRecord]) -> Description:
        gated, folder = self._live(), self._router_folder()
        service, _, port = self._system.traffic.entry.partition(".")
        told = description_of(
            self._system,
            self._arms,
            provider=PROVIDER,
            run_id=self._run_id,
            time_scale=self._scale,
            entry=f"127.0.0.1:{gated.ports[service][port]}",
            instances=[described(one, gated.ports[one.unit.alias], self._out / "logs") for one in containers],
            records=records,
            secrets={name: gated.state.secret_path(name) for name in self._system.secrets},
            flags_file=gated.flags_path,
            router={
                "socket": str(folder / "admin.sock"),
                "map_file": str(folder / "limits.map"),
                "map_name": MAP_NAME,
                "lease_port": 0,
            },
        )
        return {**told, "absent": dict(self._absent)}

    def _live(self) -> Gated:
        if self._gated is None or self._state is None:
            raise EnvironmentProblem("the stack is not up")
        return self._gated

    def _emit(self, event: Event) -> None:
        with self._lock:
            self._on_event(event)

    def _note(self, text: str, level: str = "info") -> None:
        self._emit(Noted(text=text, at=time.time(), level=level))
