"""What `stack/composition.yaml` may say."""

from typing import Annotated, Literal

from pydantic import Field

from harness.spec.schema import Count, Env, EnvName, File, Name, Port, Strict, Text, UrlPath

Positive = Annotated[float, Field(gt=0)]
Id = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
AbsolutePath = Annotated[str, Field(pattern=r"^/[^:]*$")]


class PortSpec(Strict):
    """See `harness.model.composition.Port`."""

    number: Port
    host: Port | None = None
    variable: EnvName | None = None


class HealthCheckSpec(Strict):
    """See `harness.model.composition.HealthCheck`."""

    kind: Literal["http", "command"]
    start_period_s: Annotated[float, Field(gt=0, le=600)]
    port: Id | None = None
    path: UrlPath | None = None
    tool: Literal["wget", "curl", "python", "bash"] | None = None
    line: Text | None = None
    interval_s: Positive = 10.0
    timeout_s: Positive = 5.0
    retries: Annotated[int, Field(ge=1, le=100)] = 3


class AmountSpec(Strict):
    """Memory and CPUs."""

    memory_gb: Positive
    cpus: Positive


class GpusSpec(Strict):
    """See `harness.model.composition.Gpus`."""

    count: Literal["all"] | Annotated[int, Field(ge=1, le=64)] | None = None
    ids: list[Text] = Field(default_factory=list[str])
    capabilities: Annotated[list[Id], Field(min_length=1)] = Field(default_factory=lambda: ["gpu"])


class MountSpec(Strict):
    """See `harness.model.composition.Mount`."""

    kind: Literal["volume", "shipped", "host", "targets"]
    target: AbsolutePath
    source: Text | None = None
    read_only: bool = False


class ScrapeSpec(Strict):
    """Where Prometheus finds the metrics."""

    port: Id
    path: UrlPath = "/metrics"


class ContainerSpec(Strict):
    """See `harness.model.composition.Container`."""

    image: Name
    component: Text
    profiles: Annotated[list[Literal["gpu", "cpu", "monitoring", "mlops"]], Field(min_length=1)]
    ports: Annotated[dict[Id, PortSpec], Field(min_length=1)]
    health: HealthCheckSpec
    limits: AmountSpec
    reservations: AmountSpec
    entrypoint: list[Text] = Field(default_factory=list[str])
    command: list[Text] = Field(default_factory=list[str])
    env: Env = Field(default_factory=dict[str, str])
    gpus: GpusSpec | None = None
    mounts: list[MountSpec] = Field(default_factory=list[MountSpec])
    secrets: list[Id] = Field(default_factory=list[str])
    depends: list[Id] = Field(default_factory=list[str])
    per_arm: bool = False
    metrics: ScrapeSpec | None = None
    job: Id | None = None
    user: Text | None = None
    read_only: bool = False
    tmpfs: list[AbsolutePath] = Field(default_factory=list[str])
    shm_mb: Count = 0
    host_pids: bool = False
    stop_s: Positive = 10.0


class LogSpec(Strict):
    """Rotation of the containers' logs."""

    megabytes: Annotated[int, Field(ge=1)]
    files: Annotated[int, Field(ge=1)]


class CompositionFile(File):
    """composition.yaml."""

    name: Name
    inventory: Name
    log: LogSpec
    volumes: list[Name] = Field(default_factory=list[str])
    secrets: list[Id] = Field(default_factory=list[str])
    services: Annotated[dict[Id, ContainerSpec], Field(min_length=1)]
