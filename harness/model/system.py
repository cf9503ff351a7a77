"""A system: its inventory, its signals, its traffic and its candidates, as data."""

from dataclasses import dataclass
from pathlib import Path

from harness.model.objective import Objective
from harness.model.plan import StagePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a service is asked whether it is well.

    `kind` is "http" (GET `path`, any of `statuses`), "tcp" (connects) or "redis" (PING with the secret).
    `body` is a regular expression that the answer must match, "" for any. `start_period_s` bounds the wait
    at start.
    """

    kind: str
    port: str
    path: str = "/"
    statuses: tuple[int, ...] = (200,)
    body: str = ""
    start_period_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A service-specific health validation made between stages (a model ready, an index sound).

    `kind` as in Health, and "redis_write" (sets and reads back a key).
    """

    name: str
    kind: str
    port: str
    path: str = "/"
    statuses: tuple[int, ...] = (200,)
    body: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Native:
    """How the native provider starts a service.

    `command`, `env` and rendered `files` may hold references: `${dir}` (the instance's own folder),
    `${arm}`, `${version}`, `${port.NAME}` (own port), `${SERVICE.PORTNAME}` ("127.0.0.1:1234" of another
    service; of the same arm where that one is per arm), `${SERVICE.PORTNAME.port}`, `${secret.NAME}`,
    `${bin.PROGRAM}`, `${python}`, `${share}` (rollgate's data root), `${cache}`, `${system}` (the system's
    folder), `${run_id}`, `${listen}` (the address that servers bind to), `${lease}` (where the router asks for the
    driver's lease) and `${lease.port}`, `${SERVICE[baseline].PORTNAME}` for a given arm.
    `files` maps a template (relative to the system's folder) to a name in `${dir}`; a template that ends in "/"
    is a folder of *.yml files. What lies under `prometheus/` is never rendered, only scaled in time.
    `stand_in` names what the program stands in for, and why; "" for the real thing. `shm` are the name prefixes
    that the service owns in /dev/shm, `after_start` the commands that run once when it is well. `prefer` is used
    in place of all this where each of its programs is on the user's PATH. `unscraped` says why this way of running
    the service has no metrics; "" where it has the service's.
    `needs_gpu`: it runs only where the machine shows a GPU.
    """

    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    programs: tuple[str, ...] = ()
    stand_in: str = ""
    version_command: tuple[str, ...] = ()
    shm: tuple[str, ...] = ()
    after_start: tuple[tuple[str, ...], ...] = ()
    prefer: "Native | None" = None
    unscraped: str = ""
    needs_gpu: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Docker:
    """What a gate adds to a service's container, which the composition describes.

    `command`, where there is one, replaces the composition's; `env` goes over its own. Both, and `files` (as for
    `Native`), may hold the references of `Native`, but for `${bin.PROGRAM}` and `${share}`; addresses are names on the
    containers' network. `${dir}`, `${cache}/models`, `${system}` and the folder of `${flags_file}` are mounted where a
    text names them. `after_start` commands run inside the container. `as_caller`: it
    runs as the user who called, so that both can use what lies in `${dir}`. `optional` says why a gate does without
    it where its image cannot be had; "" for one that it needs. `programs` are what the preparation of its files needs
    on this machine.
    """

    command: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    after_start: tuple[tuple[str, ...], ...] = ()
    programs: tuple[str, ...] = ()
    as_caller: bool = False
    optional: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a service may take; None where the system sets no limit. A GB is 1024**3 bytes, as for a container.

    `memory_gb` bounds the resident memory of its whole process tree. `cpus` and `gpus_max` only a container runtime
    can enforce.
    """

    memory_gb: float | None = None
    cpus: float | None = None
    gpus_max: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service of the inventory. `ports` maps names to the well-known numbers (native picks free ones).

    `per_arm` services run once for each arm. `metrics` is (port name, path) of the scrape endpoint, and
    `job` the Prometheus job that scrapes it. `under_release` marks the services that a release may change.
    """

    name: str
    ports: tuple[tuple[str, int], ...]
    health: Health
    native: Native | None = None
    docker: Docker = Docker()
    depends: tuple[str, ...] = ()
    per_arm: bool = False
    under_release: bool = False
    checks: tuple[Check, ...] = ()
    metrics: tuple[str, str] | None = None
    job: str = ""
    component: str = ""
    gpu: bool = False
    image: str = ""  # name:tag of its container, "" where none is named
    resources: Resources = Resources()
    not_on: tuple[tuple[str, str], ...] = ()  # (provider, reason): not_applicable there


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """Where one signal's numbers come from in Prometheus (the client's come from the load generator).

    `bad` and `total` are selectors of counters, of which `bad` may have no series before the first violation;
    `histogram` is one of a histogram (base name without `_bucket`; `scale` turns its unit into seconds, or a score's
    into 0..1), `gauge` one of a gauge.
    `arm_label` names the label that holds "baseline" or "candidate"; "" for a signal of the stack.
    """

    name: str
    client: bool = False
    bad: str = ""
    total: str = ""
    histogram: str = ""
    gauge: str = ""
    scale: float = 1.0
    arm_label: str = "arm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """How requests reach the arms: the public entry and the headers that steer and tell.

    `flags` is the state of the deployed flags before the rollout (percent), over what flags.json says.
    `metrics_service` is SERVICE.PORTNAME of Prometheus, "" where the system has none.
    `unit` is the unit of assignment, "session" or "request". `feature` is the flag that is raised in step
    with the traffic, "" for none. `bounds_s` are the latency bucket bounds of the client's evidence, seconds,
    which hold every latency threshold of the system.
    """

    entry: str  # SERVICE.PORTNAME of the router
    gateway: str  # the service that serves each arm
    session_header: str
    force_header: str
    arm_header: str
    version_header: str
    unit: str = "session"
    feature: str = ""
    bounds_s: tuple[float, ...] = ()
    metrics_service: str = ""
    sticky: bool = True
    flags: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A number in the JSON answers to the load that says how good they are, as the client's evidence of `signal`.

    `path` is a JSON Pointer into the answer. `low` and `high` are the ends of the scale that the number is on; as
    evidence it lies between 0 and 1. `requests` is how the paths of the requests begin whose answers carry it.
    """

    signal: str
    path: str
    low: float = 0.0
    high: float = 1.0
    requests: str = "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Load: a Locust file, its arrival process and its mix. `options` are passed to the scenario as is."""

    name: str
    locustfile: str
    process: str = "poisson"
    options: tuple[tuple[str, str], ...] = ()
    scores: tuple[Score, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """A feature flag. `rollout` and `target` are percent; `strategy` is "canary" or "immediate"."""

    name: str
    rollout: float
    target: float = 100.0
    strategy: str = "canary"
    depends: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A build that can serve an arm: what differs from the system's own inventory.

    `env` and `command` map a service under release to what replaces or adds there. `expect` is read by tests
    alone, never by engine or judge.
    """

    name: str
    version: str
    title: str = ""
    env: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    command: tuple[tuple[str, tuple[str, ...]], ...] = ()
    expect: tuple[tuple[str, str], ...] = ()
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """A harness-side fault, brought in on purpose: it must never blame the release.

    `action` is one of kill_service, misroute, kill_load, stall_load, slow_arms; it strikes when `stage` has
    begun ("" for before the start).
    """

    name: str
    action: str
    stage: str = ""
    service: str = ""
    value: float = 0.0
    env: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    title: str = ""
    expect: tuple[tuple[str, str], ...] = ()
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Everything that a system's folder says."""

    name: str
    title: str
    root: Path
    services: tuple[Service, ...]
    traffic: Traffic
    signals: tuple[Signal, ...]
    objectives: tuple[Objective, ...]
    plans: tuple[StagePlan, ...]
    scenario: Scenario
    secrets: tuple[str, ...] = ()
    flags: tuple[Flag, ...] = ()
    default_plans: tuple[tuple[str, str], ...] = ()  # (provider, plan name)
    prepare: tuple[str, ...] = ()  # scripts under the share root that make models and data in the cache, once
    suites: tuple[str, ...] = ()  # pytest paths under suites/ that conform the stack before traffic

    def service(self, name: str) -> Service:
        """Return the service called `name`; KeyError where there is none."""
        for service in self.services:
            if service.name == name:
                return service
        raise KeyError(name)
