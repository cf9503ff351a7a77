"""A session of containers: its networks, volumes, secrets and logs; started in parallel, and gone when it ends."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, DockerException, ImageNotFound
from docker.types import EndpointConfig
from testcontainers.core.config import testcontainers_config

from harness.adapters.docker_arguments import Overlay, Placement, arguments
from harness.adapters.docker_container import ServiceContainer
from harness.adapters.docker_faults import engine_problem, start_problem
from harness.adapters.docker_owner import RUN_LABEL, Left, owner, remove, start_reaper, sweep
from harness.model.composition import Composition, Unit
from harness.model.errors import EnvironmentProblem
from harness.model.image import ChosenImage
from harness.planning.composition import chosen, scrape_targets

_SOCKET = "unix:///var/run/docker.sock"
_KNOCK_S = 5.0
REUSED = "reused"  # the owner, and the run, of containers that outlive their session: no sweep takes them for dead


def connect() -> Any:  # noqa: ANN401 - docker has no types
    """Return a client of the engine. Raises EnvironmentProblem where none answers, with the mend."""
    try:
        _knock(os.environ.get("DOCKER_HOST") or _SOCKET)
        client: Any = docker.from_env(timeout=60)
        client.ping()
    except (DockerException, OSError) as error:
        raise engine_problem(str(error)) from error
    return client


def _knock(address: str) -> None:
    """Connect to a local engine's socket and go: docker's client leaves its own open where that fails."""
    if address.startswith("unix://"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knocking:
            knocking.settimeout(_KNOCK_S)
            knocking.connect(address.removeprefix("unix://"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a session's containers differ from the composition's word, and who is told of them.

    `over` says what a container has over it, when it is about to start; `log` names its log file. `forgives` takes
    the error of one that does not come up and says whether the others go on without it; `ready` gets each that is
    well, from several threads. `restarts`: what exits is started again. `probe` makes what tells from here whether a
    container is well; without one its own health check is asked every second, which under load costs more than a stack
    does.
    """

    over: Callable[[Unit], Overlay] = lambda _unit: Overlay()
    log: Callable[[Unit], str] | None = None
    forgives: Callable[[Unit, EnvironmentProblem], bool] = lambda _unit, _problem: False
    ready: Callable[[ServiceContainer], None] = lambda _container: None
    restarts: bool = False
    probe: Callable[[Unit], Callable[[], str]] | None = None


class DockerSession:
    """Containers of one run on networks of their own. Not for use by several threads at once."""

    def __init__(
        self,
        composition: Composition,
        images: Mapping[str, ChosenImage],
        *,
        run: str,
        stack: Path,
        state: Path,
        logs: Path,
        settings: Mapping[str, str],
        gpu: bool = False,
        pull: bool = True,
        manner: Manner | None = None,
        reuse: bool = False,
    ) -> None:
        """Keep secrets and scrape targets in `state`, a folder named `run`, logs in `logs`; `stack` is what ships.

        Nothing is asked of the engine before `open`. `pull`: images that are not here are pulled. `reuse`: containers
        of an earlier session of the same run are taken over where they are still what they would be made as, and all
        stay when this one closes; `forget` removes them.
        """
        self._composition = composition
        self._images = dict(images)
        self._units = {unit.alias: unit for unit in chosen(composition, gpu=gpu)}
        self._state, self._logs, self._pull = state, logs, pull
        self._started: dict[str, ServiceContainer] = {}
        self._lock = threading.Lock()
        self._reaper: subprocess.Popen[bytes] | None = None
        self._client: Any = None
        self._copies = 0
        self._manner = manner or Manner()
        self._reuse = reuse
        self.placement = Placement(
            run=run,
            owner=REUSED if reuse else owner(),
            inside=f"rollgate-{run}-stack",
            stack=stack,
            secrets=state / "secrets",
            targets=state / "targets",
            cpus=float(os.cpu_count() or 1),
            settings=settings,
            restarts=self._manner.restarts,
            quick_health=self._manner.probe is None,
        )

    @property
    def units(self) -> Mapping[str, Unit]:
        """The containers that this session can start, by alias."""
        return self._units

    @property
    def started(self) -> Mapping[str, ServiceContainer]:
        """The containers that were started, by alias; one that was forgiven may not run."""
        return self._started

    def open(self) -> list[str]:
        """Sweep what dead sessions left, start the reaper, make networks and files; return the runs that were swept.

        Raises EnvironmentProblem where no engine answers.
        """
        self._client = client = connect()
        swept = sweep(client)
        for run in swept:
            shutil.rmtree(self._state.parent / run, ignore_errors=True)
        if not self._reuse:
            self._reaper = start_reaper(self.placement.run, self._state)
        self.placement = replace(self.placement, cpus=float(client.info().get("NCPU", 1)))
        testcontainers_config.ryuk_disabled = not _has_image(client, testcontainers_config.ryuk_image)
        there = {one.name for one in client.networks.list(filters={"label": f"{RUN_LABEL}={self.placement.run}"})}
        for name, internal in ((self.placement.inside, True), (self._outside, False)):
            if name in there:
                continue
            client.networks.create(name, driver="bridge", internal=internal, labels=self.placement.labels)
        self._write_files()
        return swept

    def start(self, names: Iterable[str]) -> dict[str, ServiceContainer]:
        """Start services (by alias: redis, gateway-baseline) and what they depend on, in parallel; return all of them.

        What runs already is kept. Raises EnvironmentProblem naming the service, with its last lines.
        """
        wanted = self._with_dependencies(names)
        left = [alias for alias in wanted if alias not in self._started]
        while left:
            ready = [alias for alias in left if not set(self._needs(self._units[alias])) & set(left)]
            with ThreadPoolExecutor(max_workers=len(ready)) as pool:
                list(pool.map(self._bring_up, ready))
            left = [alias for alias in left if alias not in ready]
        return {alias: self._started[alias] for alias in wanted}

    def _bring_up(self, alias: str) -> None:
        container = self._make(alias)
        self._started[alias] = container
        try:
            self._start_one(container)
        except EnvironmentProblem as problem:
            if not self._manner.forgives(container.unit, problem):
                raise
        else:
            self._manner.ready(container)

    def start_fresh(self, alias: str) -> ServiceContainer:
        """Start one more container of a service, apart from the session's own: no other finds it by name."""
        with self._lock:
            self._copies += 1
            number = self._copies
        return self._start_one(self._make(alias, f"fresh{number}"))

    def close(self) -> Left:
        """Keep the logs, remove everything of the run, and return what could not be removed; safe to call twice."""
        if self._client is None:
            return Left()
        for container in self._started.values():
            container.keep_log()
        left = Left() if self._reuse else remove(self._client, self.placement.run)
        for container in self._started.values():
            container.get_docker_client().client.close()
        self._started = {}
        self._client.close()
        self._client = None
        if self._reaper is not None and self._reaper.stdin is not None:
            self._reaper.stdin.close()
            self._reaper.wait(timeout=60)
        if not self._reuse:
            shutil.rmtree(self._state, ignore_errors=True)
        return left

    @property
    def _outside(self) -> str:
        return self.placement.named("edge")

    def _make(self, alias: str, copy: str = "") -> ServiceContainer:
        unit = self._units[alias]
        reference = self.at_hand(unit)
        if not reference:
            image = self._images[unit.service.image]
            if not self._pull:
                raise start_problem(alias, image.reference, "no such image, and nothing is pulled", image.mend)
            reference = image.reference
        asked = arguments(unit, self._composition, self.placement, self._manner.over(unit))
        aliases = [alias]
        if copy:
            asked["name"] += f"-{copy}"
            asked["mounts"] = [one for one in asked["mounts"] if one["Type"] != "volume"]
            aliases = []
        asked["network"] = self.placement.inside
        asked["networking_config"] = {self.placement.inside: EndpointConfig("1.41", aliases=aliases)}
        name = self._manner.log(unit) if self._manner.log else asked["name"]
        return ServiceContainer(
            unit,
            reference,
            asked,
            outside=self._outside,
            log=self._logs / f"{name}.log",
            patience_s=unit.service.health.start_period_s,
            probe=self._manner.probe(unit) if self._manner.probe else None,
        )

    def _start_one(self, container: ServiceContainer) -> ServiceContainer:
        alias, image = container.unit.alias, self._images[container.unit.service.image]
        try:
            return container.start() if not self._reuse else container.start_or_adopt(self._client)
        except (APIError, ImageNotFound) as error:
            container.keep_log()
            said = str(error.explanation or error)
            raise start_problem(alias, container.image, said, image.mend, container.tail()) from error

    def pull(self, reference: str) -> None:
        """Pull an image. Raises docker's errors where that cannot be done."""
        self._client.images.pull(reference)

    def at_hand(self, unit: Unit) -> str:
        """Return the image that is here for a container: the chosen one, else one built here in its place."""
        image = self._images[unit.service.image]
        if _has_image(self._client, image.reference):
            return image.reference
        if image.by == "images.yaml" and image.image.build and _has_image(self._client, image.image.local_name):
            return image.image.local_name
        return ""

    def _needs(self, unit: Unit) -> list[str]:
        names: list[str] = []
        for name in unit.service.depends:
            others = [one for one in self._units.values() if one.service.name == name]
            names += [one.alias for one in others if not unit.arm or one.arm in {"", unit.arm}]
        return names

    def _with_dependencies(self, names: Iterable[str]) -> Sequence[str]:
        wanted: list[str] = []
        todo = list(names)
        while todo:
            alias = todo.pop(0)
            if alias not in self._units:
                known = ", ".join(sorted(self._units))
                raise EnvironmentProblem(f"there is no container {alias} here", mend=f"known ones: {known}")
            if alias not in wanted:
                wanted.append(alias)
                todo += self._needs(self._units[alias])
        return wanted

    def _write_files(self) -> None:
        """Write secrets and targets: a folder that its owner alone enters, files that any container's user can read."""
        for folder in (self._state, self.placement.secrets, self.placement.targets, self._logs):
            folder.mkdir(parents=True, exist_ok=True)
        self._state.chmod(0o700)
        for name in self._composition.secrets:
            path = self.placement.secrets / name
            if not path.exists():  # what is reused knows the one that it was started with
                path.write_text(secrets.token_urlsafe(24), encoding="utf-8")
                path.chmod(0o444)
        jobs = scrape_targets(self._composition, lambda unit: unit.alias in self._units)
        for job, groups in jobs.items():
            (self.placement.targets / f"{job}.json").write_text(json.dumps(groups), encoding="utf-8")


def forget(run: str, state: Path) -> Left:
    """Remove what sessions that were reused left; return what could not be removed. Raises EnvironmentProblem."""
    client = connect()
    try:
        left = remove(client, run)
    finally:
        client.close()
    shutil.rmtree(state, ignore_errors=True)
    return left


def new_run() -> str:
    """Return a name for a run that no other has: short, for names on the network."""
    return f"{time.strftime('%H%M%S')}{secrets.token_hex(3)}"


def _has_image(client: Any, reference: str) -> bool:  # noqa: ANN401
    try:
        client.images.get(reference)
    except (ImageNotFound, APIError):
        return False
    return True
