"""Monitoring coverage: is every service scraped, and does a scrape have every metric that somebody asks for?"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from harness.model.dashboard import Dashboard
from harness.model.rule import Finding, Monitoring
from harness.model.system import Service, Signal, System
from harness.planning.dashboards.build import asked
from harness.planning.promql.parse import PromqlError, parse
from harness.planning.promql.syntax import selectors
from harness.planning.rules.catalogue import Catalogue

_OF_PROMETHEUS = ("ALERTS", "ALERTS_FOR_STATE")


@dataclass(frozen=True, slots=True)
class Coverage:
    """What is scraped and named.

    `services` are (name, job, by what; for no job, why), `metrics` (name, who asks for it, where it comes from).
    """

    services: tuple[tuple[str, str, str], ...]
    metrics: tuple[tuple[str, tuple[str, ...], str], ...]
    findings: tuple[Finding, ...]

    @property
    def share(self) -> float:
        """The share of the services that are scraped; 1 where there is none."""
        return sum(bool(job) for _, job, _ in self.services) / len(self.services) if self.services else 1.0


def coverage(
    system: System | None, monitoring: Monitoring, dashboards: Sequence[Dashboard], where: Callable[[str], str]
) -> Coverage:
    """Hold a system's inventory, objectives, alerts and panels against its scrape jobs and recorded scrapes.

    `where` returns "file:line" of a service of the inventory.
    """
    services = tuple(_services(system, {job.name for job in monitoring.jobs})) if system else ()
    mend = "give it `metrics` and `job`, and prometheus.yml a scrape job of that name"
    findings = [
        Finding("unscraped", where(name), f"services.{name}", why, mend) for name, job, why in services if not job
    ]
    catalogue = Catalogue.of(monitoring)
    asking: dict[str, dict[str, str]] = {}
    for name, who, place in (*_signals(system), *_alerts(monitoring), *_panels(dashboards)):
        asking.setdefault(name, {}).setdefault(who, place)
    metrics: list[tuple[str, tuple[str, ...], str]] = []
    for name, users in sorted(asking.items()):
        state = _state(name, catalogue)
        metrics.append((name, tuple(users), state))
        if state == "missing" and not catalogue.empty:
            who, place = next(iter(users.items()))
            message = f"no scrape has `{name}`, which is asked for"
            findings.append(Finding("uncollected", place, who, message, "scrape what serves it, or record it anew"))
    return Coverage(services, tuple(metrics), tuple(findings))


def _services(system: System, jobs: set[str]) -> Iterator[tuple[str, str, str]]:
    for service in system.services:
        if service.metrics and service.job in jobs:
            yield service.name, service.job, "itself"
        elif exporter := _exporter(service, system, jobs):
            yield service.name, exporter.job, exporter.name
        elif service.job:
            yield service.name, "", f"prometheus.yml has no job `{service.job}`"
        else:
            yield service.name, "", "nothing scrapes it, and no exporter of its component does"


def _exporter(service: Service, system: System, jobs: set[str]) -> Service | None:
    """Return the service that serves another's metrics: of its component, scraped, and dependent on it."""
    return next(
        (
            other
            for other in system.services
            if other.metrics
            and other.job in jobs
            and service.name in other.depends
            and other.component == service.component
        ),
        None,
    )


def _signals(system: System | None) -> Iterator[tuple[str, str, str]]:
    wanted = {objective.signal: objective.id for objective in (system.objectives if system else ())}
    for signal in system.signals if system else ():
        for text in _texts(signal):
            for name in _names(text):
                yield name, f"objective {wanted.get(signal.name, signal.name)}", "objectives.yaml:1"


def _texts(signal: Signal) -> list[str]:
    name, brace, labels = signal.histogram.partition("{")
    return [text for text in (signal.bad, signal.total, signal.gauge, name and f"{name}_bucket{brace}{labels}") if text]


def _alerts(monitoring: Monitoring) -> Iterator[tuple[str, str, str]]:
    for rule in monitoring.rules:
        for name in _names(rule.expr):
            yield name, f"alert {rule.name}" if rule.alert else f"recording {rule.name}", rule.where("expr")


def _panels(dashboards: Sequence[Dashboard]) -> Iterator[tuple[str, str, str]]:
    for dashboard in dashboards:
        for panel in dashboard.shown:
            for query in panel.queries:
                for name in _names(asked(query, dashboard.variables)):
                    yield name, f"panel {dashboard.title}: {panel.title}", f"{dashboard.file}:{query.line}"


def _names(text: str) -> list[str]:
    try:
        return [item.name for item in selectors(parse(text)) if item.name]
    except PromqlError:
        return []


def _state(name: str, catalogue: Catalogue) -> str:
    """Return "recorded", "declared", "computed" or "missing"."""
    if name in catalogue.records or name in _OF_PROMETHEUS:
        return "computed"
    if not catalogue.knows(name):
        return "missing"
    return "declared" if catalogue.declared(name) else "recorded"
