"""The composition: `stack/composition.yaml` in, a checked Composition out."""

from collections.abc import Collection
from pathlib import Path

from harness import paths
from harness.model import composition as model
from harness.spec.composition_checks import composition_problems
from harness.spec.composition_schema import CompositionFile, ContainerSpec, GpusSpec
from harness.spec.problems import Problems, first, read

FILE = Path("stack") / "composition.yaml"


def load_composition(images: Collection[str], path: Path | None = None) -> model.Composition:
    """Return the composition of the file (default: the one that ships); `images` are the keys that it may use.

    Raises SpecError, the first of all that is wrong.
    """
    path = path or paths.share_root() / FILE
    try:
        document, spec = read(path, CompositionFile)
    except Problems as problems:
        raise first(problems.errors) from None
    made = model.Composition(
        name=spec.name,
        inventory=spec.inventory,
        services=tuple(_container(name, item) for name, item in spec.services.items()),
        log=model.Log(megabytes=spec.log.megabytes, files=spec.log.files),
        volumes=tuple(spec.volumes),
        secrets=tuple(spec.secrets),
    )
    if wrong := list(composition_problems(document, made, images)):
        raise first(Problems(wrong).errors)
    return made


def _container(name: str, spec: ContainerSpec) -> model.Container:
    health = spec.health
    return model.Container(
        name=name,
        image=spec.image,
        profiles=tuple(spec.profiles),
        ports=tuple(
            model.Port(name=port, number=item.number, variable=item.variable or "", host=item.host)
            for port, item in spec.ports.items()
        ),
        health=model.HealthCheck(
            kind=health.kind,
            port=health.port or "",
            path=health.path or "",
            tool=health.tool or "",
            line=health.line or "",
            interval_s=health.interval_s,
            timeout_s=health.timeout_s,
            retries=health.retries,
            start_period_s=health.start_period_s,
        ),
        limits=model.Amount(memory_gb=spec.limits.memory_gb, cpus=spec.limits.cpus),
        reservations=model.Amount(memory_gb=spec.reservations.memory_gb, cpus=spec.reservations.cpus),
        component=spec.component,
        entrypoint=tuple(spec.entrypoint),
        command=tuple(spec.command),
        env=tuple(spec.env.items()),
        gpus=_gpus(spec.gpus) if spec.gpus else None,
        mounts=tuple(
            model.Mount(kind=item.kind, target=item.target, source=item.source or "", read_only=item.read_only)
            for item in spec.mounts
        ),
        secrets=tuple(spec.secrets),
        depends=tuple(spec.depends),
        per_arm=spec.per_arm,
        metrics=(spec.metrics.port, spec.metrics.path) if spec.metrics else None,
        job=spec.job or "",
        user=spec.user or "",
        read_only=spec.read_only,
        tmpfs=tuple(spec.tmpfs),
        shm_mb=spec.shm_mb,
        host_pids=spec.host_pids,
        stop_s=spec.stop_s,
    )


def _gpus(spec: GpusSpec) -> model.Gpus:
    count = spec.count if isinstance(spec.count, int) else None
    return model.Gpus(count=count, ids=tuple(spec.ids), capabilities=tuple(spec.capabilities))
