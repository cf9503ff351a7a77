"""What each kind of file may say: strict pydantic models, the source of the published JSON Schemas too."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$")]
SignalName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*([.-][a-z0-9_]+)*$")]
ObjectiveId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+$")]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]*$")]
Address = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*\.[a-z][a-z0-9_-]*$")]
ProviderName = Literal["native", "docker", "remote"]
Text = Annotated[str, StringConstraints(min_length=1)]
Percent = Annotated[float, Field(ge=0, le=100)]
Seconds = Annotated[float, Field(ge=0, le=30 * 86400)]
Port = Annotated[int, Field(ge=1, le=65535)]
Image = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._/-]*:[A-Za-z0-9._-]*[0-9][A-Za-z0-9._-]*$")]
Amount = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=0.5)]
Confidence = Annotated[float, Field(gt=0.5, lt=1)]
RollbackOnName = Literal["excess", "difference", "blocks", "absolute"]
Moment = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$")]
Interval = Annotated[float, Field(gt=0, le=86400)]
Count = Annotated[int, Field(ge=0)]
HttpStatus = Annotated[int, Field(ge=100, le=599)]
Env = dict[EnvName, str]
Pointer = Annotated[str, StringConstraints(pattern=r"^(/([^/~]|~[01])+)+$")]
UrlPath = Annotated[str, StringConstraints(pattern=r"^/")]


class Strict(BaseModel):
    """No coercion, no unknown key, no NaN, no change after reading."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class File(Strict):
    """The first key of every file names the format's version."""

    schema_: Literal[1] = Field(alias="schema", description="version of this file's format: 1")


class HealthSpec(Strict):
    """How a service is asked whether it is well: see `harness.model.system.Health`."""

    kind: Literal["http", "tcp", "redis"]
    port: Name
    path: UrlPath = "/"
    statuses: Annotated[list[HttpStatus], Field(min_length=1)] = [200]
    body: str = ""
    start_period_s: Annotated[float, Field(gt=0, le=600)] = 30.0


class CheckSpec(Strict):
    """A service-specific validation made between stages."""

    kind: Literal["http", "tcp", "redis", "redis_write"]
    port: Name
    path: UrlPath = "/"
    statuses: Annotated[list[HttpStatus], Field(min_length=1)] = [200]
    body: str = ""


class MetricsSpec(Strict):
    """The scrape endpoint of a service."""

    port: Name
    path: UrlPath = "/metrics"


class NativeSpec(Strict):
    """How the native provider starts a service: see `harness.model.system.Native` for references."""

    command: Annotated[list[Text], Field(min_length=1)]
    env: Env = {}
    files: dict[Text, Text] = {}
    programs: list[Text] = []
    stand_in: str = ""
    version_command: list[Text] = []
    shm: list[Text] = []
    after_start: list[Annotated[list[Text], Field(min_length=1)]] = []
    prefer: "NativeSpec | None" = None
    unscraped: str = ""
    needs_gpu: bool = False


class DockerSpec(Strict):
    """What a gate adds to a service's container: see `harness.model.system.Docker`."""

    command: list[Text] = []
    env: Env = {}
    files: dict[Text, Text] = {}
    after_start: list[Annotated[list[Text], Field(min_length=1)]] = []
    programs: list[Text] = []
    as_caller: bool = False
    optional: str = ""


class ResourcesSpec(Strict):
    """What a service may take: see `harness.model.system.Resources`."""

    memory_gb: Amount | None = None
    cpus: Amount | None = None
    gpus_max: Annotated[int, Field(ge=1)] | None = None


class ServiceSpec(Strict):
    """One service of the inventory. `image` is name:tag; which registry serves it is the user's setting."""

    ports: dict[Name, Port]
    health: HealthSpec
    native: NativeSpec | None = None
    docker: DockerSpec = DockerSpec()
    depends: list[Name] = []
    per_arm: bool = False
    under_release: bool = False
    checks: dict[Name, CheckSpec] = {}
    metrics: MetricsSpec | None = None
    job: str = ""
    component: str = ""
    gpu: bool = False
    image: Image | None = None
    resources: ResourcesSpec = ResourcesSpec()
    not_on: dict[ProviderName, Text] = {}


class HeadersSpec(Strict):
    """Headers that steer a request, and that tell which arm and version answered."""

    session: HeaderName
    force: HeaderName
    arm: HeaderName
    version: HeaderName


class TrafficSpec(Strict):
    """How requests reach the arms."""

    entry: Address
    gateway: Name
    headers: HeadersSpec
    latency_bounds_ms: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=2)]
    unit: Literal["session", "request"] = "session"
    sticky: bool = True
    feature: str = ""
    metrics_service: str = ""
    flags: dict[Name, Percent] = {}


class SignalSpec(Strict):
    """Where one signal's numbers come from: see `harness.model.system.Signal`."""

    client: bool = False
    bad: str = ""
    total: str = ""
    histogram: str = ""
    gauge: str = ""
    scale: Annotated[float, Field(gt=0)] = 1.0
    arm_label: str = "arm"


class SystemFile(File):
    """system.yaml: the inventory."""

    name: Name
    title: Text
    traffic: TrafficSpec
    services: Annotated[dict[Name, ServiceSpec], Field(min_length=1)]
    signals: dict[SignalName, SignalSpec]
    secrets: list[Name] = []
    prepare: list[Text] = []
    suites: list[Text] = []
    default_plans: dict[ProviderName, Name] = {}


class ObjectiveSpec(Strict):
    """One thing that must hold."""

    requirement: Text
    signal: Text
    measure: Literal[
        "ratio", "quantile", "availability", "growth", "score", "collected", "alerts", "assignment", "suite"
    ]
    against: Literal["number", "baseline"] = "number"
    comparator: Literal["<=", "<", ">=", ">"] | None = None
    threshold: float | None = None
    unit: str = ""
    quantile: Annotated[float, Field(gt=0, lt=1)] | None = None
    sources: Annotated[list[Literal["client", "prometheus", "probe", "suite"]], Field(min_length=1)] | None = None
    severity: Literal["critical", "warning", "info"] = "critical"
    weight: Annotated[float, Field(gt=0)] = 1.0
    stages: list[str] = []
    source: str = ""
    remedy: str = ""


class ObjectivesFile(File):
    """objectives.yaml: every objective."""

    objectives: Annotated[dict[ObjectiveId, ObjectiveSpec], Field(min_length=1)]


class StageSpec(Strict):
    """One step of the ramp; `id` defaults to the share."""

    share: Annotated[float, Field(gt=0, le=100)]
    min_bake_s: Seconds
    max_bake_s: Seconds
    until_proven: bool = False
    id: str = ""


class PlanSpec(Strict):
    """One stage plan."""

    stages: Annotated[list[StageSpec], Field(min_length=1)]
    warmup_s: Seconds
    settle_s: Seconds
    deadline_s: Annotated[float, Field(gt=0)]
    patience_s: Seconds = 10.0
    alpha: Share = 0.01
    confidence: Confidence = 0.99
    holdout: Annotated[float, Field(ge=0, lt=100)] = 5.0
    on_inconclusive: Literal["rollback", "hold"] = "rollback"
    proof: Literal["each", "last"] = "last"
    time_scale: Annotated[float, Field(gt=0)] = 1.0
    load_rate: Annotated[float, Field(gt=0)] = 40.0
    look_s: Annotated[float, Field(ge=0.05, le=86400)] = 1.0
    rollback_on: RollbackOnName = "excess"
    interval_s: Interval | None = None
    margins: dict[ObjectiveId, float] = {}
    weights: dict[ObjectiveId, Amount] = {}
    informational: list[ObjectiveId] = []
    claims: list[Text] = []


class RolloutFile(File):
    """rollout.yaml: the stage plans."""

    plans: Annotated[dict[Name, PlanSpec], Field(min_length=1)]


class BakeSpec(Strict):
    """Other bakes for a stage of the plan, in the plan's own seconds."""

    min_bake_s: Seconds | None = None
    max_bake_s: Seconds | None = None


class PolicyFile(File):
    """A policy to judge a stored run by; what is absent stays as the run's plan has it."""

    alpha: Share | None = None
    confidence: Confidence | None = None
    rollback_on: RollbackOnName | None = None
    interval_s: Interval | None = None
    on_inconclusive: Literal["rollback", "hold"] | None = None
    proof: Literal["each", "last"] | None = None
    margins: dict[ObjectiveId, float] = {}
    weights: dict[ObjectiveId, Amount] = {}
    informational: list[ObjectiveId] | None = None
    stages: dict[Text, BakeSpec] = {}


class DispersionSpec(Strict):
    """The noise of one objective from one source: see `harness.model.calibration.Dispersion`."""

    contest: Annotated[float, Field(ge=0)]
    level: Annotated[float, Field(ge=0)]
    intervals: Count
    informative: Count


class CalibrationSpec(Strict):
    """What an A/A run by one plan found: see `harness.model.calibration.Calibration`."""

    made_at: Moment
    interval_s: Interval
    load_rate: Amount
    intervals: Count
    windows: Count
    false_alarms: Count
    machine: str = ""
    dispersions: dict[ObjectiveId, dict[Literal["client", "prometheus"], DispersionSpec]]


class CalibrationFile(File):
    """calibration.yaml: what `rollgate calibrate` found, by plan."""

    system: Name
    plans: Annotated[dict[Name, CalibrationSpec], Field(min_length=1)]


class ScoreSpec(Strict):
    """A number in the load's JSON answers that says how good they are: see `harness.model.system.Score`."""

    path: Pointer
    scale: Annotated[list[float], Field(min_length=2, max_length=2)]
    requests: UrlPath = "/"


class ScenarioSpec(Strict):
    """Load: a Locust file, its arrival process, its mix, and which numbers in the answers are scores, by signal."""

    name: Name
    locustfile: Text
    process: Literal["constant", "poisson"] = "poisson"
    options: dict[Name, str] = {}
    scores: dict[SignalName, ScoreSpec] = {}


class ScenariosFile(File):
    """scenarios.yaml."""

    scenario: ScenarioSpec


class FlagSpec(Strict):
    """A feature flag."""

    rollout: Percent
    target: Percent = 100.0
    strategy: Literal["canary", "immediate"] = "canary"
    depends: list[Name] = []
    description: str = ""


class FlagsFile(File):
    """flags.json."""

    flags: dict[Name, FlagSpec]


class ReleaseFile(File):
    """releases/*.yaml."""

    name: Name
    version: Text
    title: str = ""
    env: dict[Name, Env] = {}
    command: dict[Name, Annotated[list[Text], Field(min_length=1)]] = {}
    expect: dict[Name, str] = {}


class DrillFile(File):
    """drills/*.yaml."""

    name: Name
    action: Literal["kill_service", "misroute", "kill_load", "stall_load", "slow_arms"]
    title: str = ""
    stage: str = ""
    service: str = ""
    value: float = 0.0
    env: dict[Name, Env] = {}
    expect: dict[Name, str] = {}


class InventorySpec(Strict):
    """What system.yaml must say of a service, key by key: see `harness.spec.inventory.Inventory`."""

    ports: Annotated[list[Port], Field(min_length=1)] | None = None
    health: Text | None = None
    start_period_s: Seconds | None = None
    memory_gb: Amount | None = None
    cpus: Amount | None = None
    gpus_max: Annotated[int, Field(ge=1)] | None = None
    gpu: bool | None = None


class RequirementSpec(Strict):
    """What the conformance suites hold a service to: facts by name, and the catalog ids that they prove."""

    covers: list[ObjectiveId] = []
    inventory: InventorySpec = InventorySpec()
    facts: dict[Name, str | int | float | bool] = {}


class PlanRequirementSpec(Strict):
    """The stages that a plan must have, in percent, and the catalog ids that a run through them proves."""

    percent: Annotated[list[Annotated[float, Field(gt=0, le=100)]], Field(min_length=1)]
    covers: list[ObjectiveId] = []


class FlagRequirementSpec(Strict):
    """What flags.json must say of a flag, and the catalog ids that its cases prove."""

    covers: list[ObjectiveId] = []
    rollout: Percent | None = None
    target: Percent | None = None
    strategy: Literal["canary", "immediate"] | None = None
    depends: list[Name] | None = None


class ConformanceFile(File):
    """conformance.yaml: requirements by service, by plan and by flag."""

    services: dict[Name, RequirementSpec] = {}
    plans: dict[Name, PlanRequirementSpec] = {}
    flags: dict[Name, FlagRequirementSpec] = {}


KINDS: dict[str, type[File]] = {
    "system": SystemFile,
    "objectives": ObjectivesFile,
    "rollout": RolloutFile,
    "scenarios": ScenariosFile,
    "flags": FlagsFile,
    "release": ReleaseFile,
    "drill": DrillFile,
    "conformance": ConformanceFile,
    "policy": PolicyFile,
    "calibration": CalibrationFile,
}
