"""From what the files say to the engine's own nouns. Everything was checked before: nothing here can fail."""

from collections.abc import Mapping
from pathlib import Path

from harness.model.evidence import Source
from harness.model.objective import Against, Measure, Objective, Severity
from harness.model.plan import OnInconclusive, RollbackOn, Stage, StagePlan
from harness.model.system import (
    Check,
    Docker,
    Drill,
    Flag,
    Health,
    Native,
    Release,
    Resources,
    Scenario,
    Score,
    Service,
    Signal,
    Traffic,
)
from harness.spec.objectives import interval_of, sources_of, stage_id
from harness.spec.schema import (
    DockerSpec,
    DrillFile,
    FlagSpec,
    NativeSpec,
    ObjectiveSpec,
    PlanSpec,
    ReleaseFile,
    ScenarioSpec,
    ServiceSpec,
    SignalSpec,
    TrafficSpec,
)

_MS = 1000.0


def service(name: str, spec: ServiceSpec) -> Service:
    """Return one service of the inventory."""
    health = spec.health
    return Service(
        name=name,
        ports=tuple(spec.ports.items()),
        health=Health(
            kind=health.kind,
            port=health.port,
            path=health.path,
            statuses=tuple(health.statuses),
            body=health.body,
            start_period_s=health.start_period_s,
        ),
        native=native(spec.native) if spec.native else None,
        docker=docker(spec.docker),
        depends=tuple(spec.depends),
        per_arm=spec.per_arm,
        under_release=spec.under_release,
        checks=tuple(
            Check(
                name=key,
                kind=check.kind,
                port=check.port,
                path=check.path,
                statuses=tuple(check.statuses),
                body=check.body,
            )
            for key, check in spec.checks.items()
        ),
        metrics=(spec.metrics.port, spec.metrics.path) if spec.metrics else None,
        job=spec.job,
        component=spec.component,
        gpu=spec.gpu,
        image=spec.image or "",
        resources=Resources(
            memory_gb=spec.resources.memory_gb, cpus=spec.resources.cpus, gpus_max=spec.resources.gpus_max
        ),
        not_on=tuple(spec.not_on.items()),
    )


def native(spec: NativeSpec) -> Native:
    """Return how the native provider starts a service."""
    return Native(
        command=tuple(spec.command),
        env=tuple(spec.env.items()),
        files=tuple(spec.files.items()),
        programs=tuple(spec.programs),
        stand_in=spec.stand_in,
        version_command=tuple(spec.version_command),
        shm=tuple(spec.shm),
        after_start=tuple(tuple(command) for command in spec.after_start),
        prefer=native(spec.prefer) if spec.prefer else None,
        unscraped=spec.unscraped,
        needs_gpu=spec.needs_gpu,
    )


def docker(spec: DockerSpec) -> Docker:
    """Return what a gate adds to a service's container."""
    return Docker(
        command=tuple(spec.command),
        env=tuple(spec.env.items()),
        files=tuple(spec.files.items()),
        after_start=tuple(tuple(command) for command in spec.after_start),
        programs=tuple(spec.programs),
        as_caller=spec.as_caller,
        optional=spec.optional,
    )


def traffic(spec: TrafficSpec) -> Traffic:
    """Return how requests reach the arms; bounds in seconds."""
    return Traffic(
        entry=spec.entry,
        gateway=spec.gateway,
        session_header=spec.headers.session,
        force_header=spec.headers.force,
        arm_header=spec.headers.arm,
        version_header=spec.headers.version,
        unit=spec.unit,
        feature=spec.feature,
        bounds_s=tuple(bound / _MS for bound in spec.latency_bounds_ms),
        metrics_service=spec.metrics_service,
        sticky=spec.sticky,
        flags=tuple(spec.flags.items()),
    )


def signal(name: str, spec: SignalSpec) -> Signal:
    """Return one signal."""
    return Signal(
        name=name,
        client=spec.client,
        bad=spec.bad,
        total=spec.total,
        histogram=spec.histogram,
        gauge=spec.gauge,
        scale=spec.scale,
        arm_label=spec.arm_label,
    )


def objective(name: str, spec: ObjectiveSpec) -> Objective:
    """Return one objective, its threshold in its own unit."""
    return Objective(
        id=name,
        requirement=spec.requirement,
        signal=spec.signal,
        measure=Measure(spec.measure),
        against=Against(spec.against),
        comparator=spec.comparator or "<=",
        threshold=spec.threshold or 0.0,
        unit=spec.unit,
        quantile=spec.quantile,
        sources=tuple(Source(item) for item in sources_of(spec)),
        severity=Severity(spec.severity),
        weight=spec.weight,
        stages=tuple(spec.stages),
        source=spec.source,
        remedy=spec.remedy,
    )


def plan(name: str, spec: PlanSpec) -> StagePlan:
    """Return one stage plan; its seconds are as the file says."""
    return StagePlan(
        name=name,
        stages=tuple(
            Stage(
                id=stage_id(stage.id, stage.share),
                share=stage.share,
                min_bake_s=stage.min_bake_s,
                max_bake_s=stage.max_bake_s,
                until_proven=stage.until_proven,
            )
            for stage in spec.stages
        ),
        warmup_s=spec.warmup_s,
        settle_s=spec.settle_s,
        deadline_s=spec.deadline_s,
        patience_s=spec.patience_s,
        alpha=spec.alpha,
        confidence=spec.confidence,
        holdout=spec.holdout,
        on_inconclusive=OnInconclusive(spec.on_inconclusive),
        proof=spec.proof,
        time_scale=spec.time_scale,
        load_rate=spec.load_rate,
        look_s=spec.look_s,
        rollback_on=RollbackOn(spec.rollback_on),
        interval_s=interval_of(spec.interval_s, spec.look_s),
        margins=tuple(spec.margins.items()),
        weights=tuple(spec.weights.items()),
        informational=tuple(spec.informational),
        claims=tuple(spec.claims),
    )


def scenario(spec: ScenarioSpec) -> Scenario:
    """Return the load."""
    return Scenario(
        name=spec.name,
        locustfile=spec.locustfile,
        process=spec.process,
        options=tuple(spec.options.items()),
        scores=tuple(
            Score(signal=signal, path=score.path, low=score.scale[0], high=score.scale[1], requests=score.requests)
            for signal, score in spec.scores.items()
        ),
    )


def flag(name: str, spec: FlagSpec) -> Flag:
    """Return one feature flag."""
    return Flag(
        name=name,
        rollout=spec.rollout,
        target=spec.target,
        strategy=spec.strategy,
        depends=tuple(spec.depends),
        description=spec.description,
    )


def release(spec: ReleaseFile, path: Path) -> Release:
    """Return one release."""
    return Release(
        name=spec.name,
        version=spec.version,
        title=spec.title,
        env=_env(spec.env),
        command=tuple((name, tuple(words)) for name, words in spec.command.items()),
        expect=tuple(spec.expect.items()),
        path=str(path),
    )


def drill(spec: DrillFile, path: Path) -> Drill:
    """Return one drill."""
    return Drill(
        name=spec.name,
        action=spec.action,
        stage=spec.stage,
        service=spec.service,
        value=spec.value,
        env=_env(spec.env),
        title=spec.title,
        expect=tuple(spec.expect.items()),
        path=str(path),
    )


def _env(values: Mapping[str, Mapping[str, str]]) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    return tuple((name, tuple(pairs.items())) for name, pairs in values.items())
