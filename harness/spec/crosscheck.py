"""What one key says of another: names that must exist, graphs that must not turn in circles, numbers that must fit."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from harness.model.errors import SpecError
from harness.planning.flags import cycle
from harness.spec.document import Document, Key, shown
from harness.spec.problems import suggestion, unknown
from harness.spec.references import Scope, scope_of
from harness.spec.schema import DockerSpec, DrillFile, NativeSpec, ReleaseFile, ServiceSpec, SystemFile


def check_services(document: Document, system: SystemFile, root: Path) -> Iterator[SpecError]:
    """Ports, dependencies, references and templates of every service."""
    services, scope = system.services, scope_of(system)
    for name, service in services.items():
        at: Key = ("services", name)
        yield from _ports(document, at, service)
        for index, other in enumerate(service.depends):
            if other not in services:
                yield unknown(document, (*at, "depends", index), other, services, "services")
        if service.job and service.metrics is None:
            yield document.problem(
                (*at, "job"),
                f"found `{service.job}`, but nothing to scrape",
                mend="add `metrics: {port: ..., path: /metrics}`",
            )
        if service.native:
            yield from _native(document, (*at, "native"), service.native, scope.within(name), root)
        yield from _docker(document, (*at, "docker"), service.docker, scope.within(name), root)
    turn = cycle({name: service.depends for name, service in services.items()})
    if turn:
        yield document.problem(
            ("services", turn[0], "depends"),
            f"found the cycle {' -> '.join(turn)}, expected an order to start in",
            mend="drop one of these dependencies",
        )


def _ports(document: Document, at: Key, service: ServiceSpec) -> Iterator[SpecError]:
    asked: list[tuple[Key, str]] = [((*at, "health", "port"), service.health.port)]
    asked += [((*at, "checks", name, "port"), check.port) for name, check in service.checks.items()]
    if service.metrics:
        asked.append(((*at, "metrics", "port"), service.metrics.port))
    for key, port in asked:
        if port not in service.ports:
            yield unknown(document, key, port, service.ports, "ports of this service")


def _native(document: Document, at: Key, native: NativeSpec, scope: Scope, root: Path) -> Iterator[SpecError]:
    """`at` is the key of the native block itself; the preferred block is checked the same way."""
    texts: list[tuple[Key, str]] = [((*at, "env", name), value) for name, value in native.env.items()]
    for key, words in (("command", native.command), ("version_command", native.version_command), ("shm", native.shm)):
        texts += [((*at, key, index), word) for index, word in enumerate(words)]
    for index, command in enumerate(native.after_start):
        texts += [((*at, "after_start", index, place), word) for place, word in enumerate(command)]
    for key, text in texts:
        for _, message, mend in scope.faults(text):
            yield document.problem(key, message, mend=mend)
    for template in native.files:
        yield from _template(document, (*at, "files", template), root / template, scope)
    if native.prefer:
        yield from _native(document, (*at, "prefer"), native.prefer, scope, root)


def _docker(document: Document, at: Key, docker: DockerSpec, scope: Scope, root: Path) -> Iterator[SpecError]:
    texts: list[tuple[Key, str]] = [((*at, "env", name), value) for name, value in docker.env.items()]
    texts += [((*at, "command", index), word) for index, word in enumerate(docker.command)]
    for index, command in enumerate(docker.after_start):
        texts += [((*at, "after_start", index, place), word) for place, word in enumerate(command)]
    for key, text in texts:
        for _, message, mend in scope.faults(text):
            yield document.problem(key, message, mend=mend)
        for name in ("bin.", "share"):
            if f"${{{name}" in text:
                mend = "name the program as its image has it" if name == "bin." else "ship it in the image"
                yield document.problem(key, f"found ${{{name}...}}, which no container has", mend=mend)
    for template in docker.files:
        yield from _template(document, (*at, "files", template), root / template, scope)


def _template(document: Document, key: Key, path: Path, scope: Scope) -> Iterator[SpecError]:
    if str(key[-1]).endswith("/"):
        if not path.is_dir():
            yield document.problem(key, f"{shown(path)}: no such folder", mend="create it, or correct the name")
        return
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else "cannot be read as UTF-8 text"
        yield document.problem(key, f"{shown(path)}: {why}", mend="create it, or correct the name")
        return
    if str(key[-1]).startswith("prometheus/"):  # ships byte for byte: never rendered
        return
    for offset, message, mend in scope.faults(text, template=True):
        yield SpecError(message, where=f"{shown(path)}:{offset + 1}", mend=mend)


def check_traffic(document: Document, system: SystemFile) -> Iterator[SpecError]:
    """The entry, the gateway, Prometheus and the latency bounds."""
    traffic, services = system.traffic, system.services
    for key, address in (("entry", traffic.entry), ("metrics_service", traffic.metrics_service)):
        if address:
            yield from _address(document, ("traffic", key), address, services)
    gateway = services.get(traffic.gateway)
    if gateway is None:
        yield unknown(document, ("traffic", "gateway"), traffic.gateway, services, "services")
    elif not gateway.per_arm:
        yield document.problem(
            ("traffic", "gateway"),
            f"found `{traffic.gateway}`, which runs once, expected a service that runs for each arm",
            mend="add `per_arm: true` to it",
        )
    bounds = traffic.latency_bounds_ms
    for index, (low, high) in enumerate(pairwise(bounds)):
        if low >= high:
            yield document.problem(
                ("traffic", "latency_bounds_ms", index + 1),
                f"found {high:g} after {low:g}, expected bounds that rise strictly",
                mend="sort the bounds and drop what stands twice",
            )
    yield from _signals(document, system)


def _address(document: Document, key: Key, address: str, services: Mapping[str, ServiceSpec]) -> Iterator[SpecError]:
    name, dot, port = address.partition(".")
    if not dot:
        yield document.problem(key, f"found `{address}`, expected SERVICE.PORT", mend="name the port too")
    elif name not in services:
        yield unknown(document, key, name, services, "services")
    elif port not in services[name].ports:
        yield unknown(document, key, port, services[name].ports, f"ports of {name}")


def _signals(document: Document, system: SystemFile) -> Iterator[SpecError]:
    for name, signal in system.signals.items():
        key: Key = ("signals", name)
        if not (signal.client or signal.bad or signal.total or signal.histogram or signal.gauge):
            yield document.problem(
                key, "found no source of numbers", mend="add `client: true`, `bad` and `total`, `histogram` or `gauge`"
            )
        if bool(signal.bad) != bool(signal.total):
            lacking = "total" if signal.bad else "bad"
            yield document.problem(
                key, f"found no `{lacking}`, expected both `bad` and `total`", mend=f"add `{lacking}`"
            )


def check_defaults(document: Document, system: SystemFile, plans: Sequence[str], share: Path) -> Iterator[SpecError]:
    """Default plans and suites exist. `share` is rollgate's data root."""
    for provider, plan in system.default_plans.items():
        if plan not in plans:
            yield unknown(document, ("default_plans", provider), plan, plans, "plans of rollout.yaml")
    for index, suite in enumerate(system.suites):
        if not any((base / suite).exists() for base in (share / "suites", document.path.parent)):
            known = [item.name for item in (share / "suites").glob("*") if item.is_dir()]
            yield document.problem(
                ("suites", index),
                f"found `{suite}`, expected a path under suites/",
                mend=suggestion(suite, known, "suites"),
            )


def check_replacements(
    document: Document,
    env: Mapping[str, Mapping[str, str]],
    command: Mapping[str, Sequence[str]],
    scope: Scope,
    *,
    only_under_release: bool,
) -> Iterator[SpecError]:
    """What a release or a drill puts into services: they exist, may be changed, and the references hold."""
    for section, names in (("env", env), ("command", command)):
        for name in names:
            service = scope.services.get(name)
            if service is None:
                yield unknown(document, (section, name), name, scope.services, "services")
            elif only_under_release and not service.under_release:
                allowed = [other for other, item in scope.services.items() if item.under_release]
                yield document.problem(
                    (section, name),
                    f"found `{name}`, which is not under release",
                    mend=f"a release may change: {', '.join(allowed) or 'nothing (add `under_release: true`)'}",
                )
    texts: list[tuple[str, Key, str]] = [
        (name, ("env", name, key), value) for name, values in env.items() for key, value in values.items()
    ]
    texts += [
        (name, ("command", name, index), word) for name, words in command.items() for index, word in enumerate(words)
    ]
    for name, key, text in texts:
        if name in scope.services:
            for _, message, mend in scope.within(name).faults(text):
                yield document.problem(key, message, mend=mend)


def check_release(document: Document, release: ReleaseFile, scope: Scope) -> Iterator[SpecError]:
    """A release touches only what is under release."""
    yield from check_replacements(document, release.env, release.command, scope, only_under_release=True)


def check_drill(
    document: Document, drill: DrillFile, scope: Scope, stages: Collection[str] | None
) -> Iterator[SpecError]:
    """A drill names a service to kill, a stage to strike in, a value where its action needs one.

    `stages` is None where the plans could not be read.
    """
    yield from check_replacements(document, drill.env, {}, scope, only_under_release=False)
    if drill.service and drill.service not in scope.services:
        yield unknown(document, ("service",), drill.service, scope.services, "services")
    if drill.stage and stages is not None and drill.stage not in stages:
        yield unknown(document, ("stage",), drill.stage, stages, "stages of any plan")
    needs = {
        "kill_service": ("service", bool(drill.service)),
        "misroute": ("value", drill.value > 0),
        "stall_load": ("value", drill.value > 0),
        "slow_arms": ("env", bool(drill.env)),
    }
    key, given = needs.get(drill.action, ("", True))
    if not given:
        yield document.problem((key,), f"missing, expected a {key} for {drill.action}", mend=f"add `{key}: ...` here")
