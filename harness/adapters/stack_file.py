"""stack.json: the description of a stack that is up, for suites, load and other processes."""

import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from harness.model.codec import parse_json
from harness.model.errors import EnvironmentProblem
from harness.model.evidence import Arm
from harness.model.judgement import ServiceKind, ServiceRecord
from harness.model.system import Release, System
from harness.ports import InstanceState

SCHEMA = 1


class Headers(TypedDict):
    """Names of the headers that steer requests and tell who answered."""

    session: str
    force: str
    arm: str
    version: str


class DescribedRelease(TypedDict):
    """Which release serves an arm."""

    release: str
    version: str


class DescribedInstance(TypedDict):
    """One process. `addresses` maps port names to "host:port"; `log` is a path; `arm` is None off the arms.

    `keeper` is the id of the process whose descendants are the instance, whatever restarts there are; 0 where it
    has none here. `ready_s` is how many seconds it took to be well, None when it never was. `container` is its id at
    the Docker engine, where that runs it.
    """

    name: str
    service: str
    arm: str | None
    addresses: dict[str, str]
    log: str
    keeper: int
    ready_s: float | None
    container: NotRequired[str]


class DescribedService(TypedDict):
    """One service, as the verdict names it."""

    name: str
    kind: str
    version: str
    note: str


class DescribedRouter(TypedDict):
    """Where the router is steered."""

    socket: str
    map_file: str
    map_name: str
    lease_port: int


class Description(TypedDict):
    """The whole file. `secrets` maps names to files, never to values; `absent` services to why they do not run."""

    schema: int
    run_id: str
    system: str
    system_root: str
    provider: str
    time_scale: float
    entry: str
    gateway: str
    headers: Headers
    arms: dict[str, DescribedRelease]
    instances: list[DescribedInstance]
    services: list[DescribedService]
    absent: NotRequired[dict[str, str]]
    secrets: dict[str, str]
    flags_file: str
    router: DescribedRouter


def description_of(
    system: System,
    arms: Mapping[Arm, Release],
    *,
    provider: str,
    run_id: str,
    time_scale: float,
    entry: str,
    instances: Sequence[DescribedInstance],
    records: Sequence[ServiceRecord],
    secrets: Mapping[str, Path],
    flags_file: Path,
    router: DescribedRouter,
) -> Description:
    """Return the description of a stack that a provider brought up; `entry` is the router's "host:port" for users."""
    traffic = system.traffic
    return {
        "schema": SCHEMA,
        "run_id": run_id,
        "system": system.name,
        "system_root": str(system.root),
        "provider": provider,
        "time_scale": time_scale,
        "entry": entry,
        "gateway": traffic.gateway,
        "headers": {
            "session": traffic.session_header,
            "force": traffic.force_header,
            "arm": traffic.arm_header,
            "version": traffic.version_header,
        },
        "arms": {str(arm): {"release": one.name, "version": one.version} for arm, one in arms.items()},
        "instances": list(instances),
        "services": [
            {"name": one.name, "kind": str(one.kind), "version": one.version, "note": one.note} for one in records
        ],
        "secrets": {name: str(path) for name, path in secrets.items()},
        "flags_file": str(flags_file),
        "router": router,
    }


def write_description(path: Path, description: Description) -> None:
    """Write stack.json; EnvironmentProblem when the disk refuses."""
    try:
        path.write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}"
        raise EnvironmentProblem(msg, mend="free space on that disk") from error


def read_description(path: Path) -> Description:
    """Read stack.json; EnvironmentProblem when it is away, malformed or of another schema."""
    try:
        raw = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"cannot read the stack's description {path}: {error}"
        raise EnvironmentProblem(msg, mend="bring the stack up first") from error
    known = isinstance(raw, dict) and cast("dict[str, object]", raw).get("schema") == SCHEMA
    if not known or (missing := Description.__required_keys__ - cast("dict[str, object]", raw).keys()):
        lacking = f" lacks {', '.join(sorted(missing))}" if known else f" is not of schema {SCHEMA}"  # pyright: ignore[reportPossiblyUnboundVariable] - bound where `known`
        msg = f"the stack's description {path}{lacking}"
        raise EnvironmentProblem(msg, mend="bring the stack up with this version of rollgate")
    return cast("Description", raw)


class DescribedStack:
    """A stack that another process brought up: everything but `kill`."""

    def __init__(self, path: Path) -> None:
        """Read the description at `path`."""
        self.description: Description = read_description(path)
        self._instances = {(one["service"], one["arm"]): one for one in self.description["instances"]}

    def address(self, service: str, port: str, arm: Arm | None = None) -> str:
        """Return "host:port"; KeyError for a service, arm or port that does not run there."""
        return self._instances[service, arm and str(arm)]["addresses"][port]

    def secret(self, name: str) -> str:
        """Return a secret from its file; KeyError for an unknown one."""
        return Path(self.description["secrets"][name]).read_text(encoding="utf-8")

    def instances(self) -> Sequence[InstanceState]:
        """Return who is there. Running means that the first port accepts; restarts are known to the owner alone."""
        return [
            InstanceState(
                name=one["name"],
                service=one["service"],
                arm=Arm(one["arm"]) if one["arm"] else None,
                running=_accepts(next(iter(one["addresses"].values()), "")),
            )
            for one in self._instances.values()
        ]

    def records(self) -> Sequence[ServiceRecord]:
        """Return one record a service."""
        return [
            ServiceRecord(name=one["name"], kind=ServiceKind(one["kind"]), version=one["version"], note=one["note"])
            for one in self.description["services"]
        ]

    def log_tail(self, instance: str, lines: int = 40) -> str:
        """Return the last lines of an instance's log; KeyError for an unknown one."""
        logs: Mapping[str, str] = {one["name"]: one["log"] for one in self._instances.values()}
        path = Path(logs[instance])
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""  # a container's comes later
        return "\n".join(text.splitlines()[-lines:])

    def kill(self, service: str, arm: Arm | None = None) -> None:
        """Refuse: only the owner of a stack may end its parts."""
        msg = f"cannot kill {service} {arm or ''}: this stack belongs to another process"
        raise EnvironmentProblem(msg)


def _accepts(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=0.5):
            return True
    except (OSError, ValueError):
        return False
