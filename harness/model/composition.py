"""The composition: what every service of the catalog is as a container, whoever starts it."""

from dataclasses import dataclass

PROFILES = ("gpu", "cpu", "monitoring", "mlops")
ARMS = ("baseline", "candidate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port that the service listens on. `variable` of the user's settings moves its number on the host.

    `host` is that number by default; None for one that only other containers reach.
    """

    name: str
    number: int
    variable: str = ""
    host: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """How the container is asked from within whether it is well.

    `kind` is "http" (GET `path` at `port`, asked by `tool`), or "command" (a shell's line that ends in 0). Times are
    seconds; failures within `start_period_s` do not count.
    """

    kind: str
    port: str = ""
    path: str = "/"
    tool: str = ""
    line: str = ""
    interval_s: float = 10.0
    timeout_s: float = 5.0
    retries: int = 3
    start_period_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Memory in GB of 1024**3 bytes, and CPUs."""

    memory_gb: float
    cpus: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """GPUs that a container asks for: `ids` where there are any, else `count` of them, None for all."""

    count: int | None = None
    ids: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ("gpu",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """What a container sees of the outside at `target`.

    `kind` is "volume" (`source` names one of the composition), "shipped" (a file or folder below `stack/`, read
    only), "host" (a path of the machine) or "targets" (the scrape targets of the
    composition, one file a job, read only).
    """

    kind: str
    target: str
    source: str = ""
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One service of the composition.

    Texts may hold `${NAME:-default}` of the user's settings, and references: `${port.NAME}` (its own),
    `${SERVICE.PORTNAME}` ("name:8000" on the network; `${SERVICE[baseline].PORTNAME}` for a given arm),
    `${secret_file.NAME}`, `${arm}`.

    `image` is a key of images.yaml. `gpus` is what the profile "gpu" adds; a service in "gpu" and "cpu" runs without
    them in the latter. `per_arm` services run once for each arm. One that publishes no port reaches nothing outside.
    """

    name: str
    image: str
    profiles: tuple[str, ...]
    ports: tuple[Port, ...]
    health: HealthCheck
    limits: Amount
    reservations: Amount
    component: str
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    gpus: Gpus | None = None
    mounts: tuple[Mount, ...] = ()
    secrets: tuple[str, ...] = ()
    depends: tuple[str, ...] = ()
    per_arm: bool = False
    metrics: tuple[str, str] | None = None
    job: str = ""
    user: str = ""
    read_only: bool = False
    tmpfs: tuple[str, ...] = ()
    shm_mb: int = 0
    host_pids: bool = False
    stop_s: float = 10.0

    def port(self, name: str) -> Port:
        """Return the port called `name`; KeyError where there is none."""
        return {port.name: port for port in self.ports}[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """How much of a container's output the engine keeps: `files` of `megabytes` each."""

    megabytes: int
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """All services, and what they share. `inventory` is the system whose inventory must say the same."""

    name: str
    inventory: str
    services: tuple[Container, ...]
    log: Log
    volumes: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()

    def service(self, name: str) -> Container:
        """Return the service called `name`; KeyError where there is none."""
        return {service.name: service for service in self.services}[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One container of a composition: a service, on one arm where it is per arm, with its GPUs or without."""

    service: Container
    arm: str
    gpus: Gpus | None
    profiles: tuple[str, ...]

    @property
    def alias(self) -> str:
        """What other containers call it: its variants with and without GPUs share the name."""
        return f"{self.service.name}-{self.arm}" if self.arm else self.service.name

    @property
    def name(self) -> str:
        """Its own name: the alias, and `-cpu` for the variant without GPUs."""
        return f"{self.alias}-cpu" if self.service.gpus and self.gpus is None else self.alias

    @property
    def published(self) -> tuple[Port, ...]:
        """The ports that the host gets; of two arms only the baseline's."""
        return () if self.arm == "candidate" else tuple(port for port in self.service.ports if port.host is not None)
