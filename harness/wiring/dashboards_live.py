"""Panels against a running Prometheus: what each shows there, and pictures of it."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.adapters.panels import PanelSource, Series
from harness.adapters.prometheus_targets import check_targets, intervals
from harness.model.dashboard import Answer, Dashboard, Line, Query
from harness.model.rule import Finding
from harness.planning.dashboards.build import asked
from harness.planning.dashboards.lint import selectors_of
from harness.planning.dashboards.queries import Windows
from harness.planning.rules.catalogue import Catalogue
from harness.report.dashboard_pictures import Caption, drawn
from harness.spec.dashboards import load_dashboard
from harness.wiring.dashboards_ground import Surroundings

_POINTS = 120
_DEFAULT_SCRAPE_S = 15.0

Answers = Mapping[tuple[str, int], tuple[Answer, ...]]


@dataclass(frozen=True, slots=True)
class Stack:
    """The running stack: its Prometheus, the jobs that it has targets of, and those that it need not have."""

    source: PanelSource
    names: frozenset[str]
    intervals: Mapping[str, float]
    lacking: frozenset[str]


def ask_panels(about: Surroundings, url: str, range_s: float) -> tuple[Sequence[Dashboard], Answers, str]:
    """Return the dashboards, what the Prometheus at `url` answers to each panel's queries, and its version.

    Raises EnvironmentProblem where it does not answer.
    """
    dashboards = [load_dashboard(path) for path in about.files.jsons]
    catalogue = Catalogue.of(about.ground.with_alerts)
    source = PanelSource(url)
    try:
        stack = _stack(about, source)
        answers = {
            (dashboard.uid, panel.id): tuple(
                _answer(dashboard, query, stack, catalogue, range_s) for query in panel.queries
            )
            for dashboard in dashboards
            for panel in dashboard.shown
        }
    finally:
        source.close()
    return dashboards, answers, source.version


def check_live(about: Surroundings, url: str, range_s: float) -> tuple[list[Finding], list[tuple[str, str]]]:
    """Return a finding for every query without data, and (panel, reason) of those that do not apply to this stack."""
    dashboards, answers, _ = ask_panels(about, url, range_s)
    findings = list(_wanting(dashboards, answers))
    spared = [
        (f"{dashboard.title}: {panel.title}", answer.reason)
        for dashboard in dashboards
        for panel in dashboard.shown
        for answer in answers[dashboard.uid, panel.id]
        if answer.status == "not_applicable"
    ]
    return findings, list(dict.fromkeys(spared))


def draw(about: Surroundings, url: str, folder: Path, range_s: float) -> list[Path]:
    """Draw each dashboard of a system into `folder` as UID.png from the Prometheus at `url`."""
    dashboards, answers, version = ask_panels(about, url, range_s)
    said = Caption(system=about.files.name, prometheus=version, range_s=range_s)
    return [
        drawn(dashboard, {key[1]: found for key, found in answers.items() if key[0] == dashboard.uid}, said, folder)
        for dashboard in dashboards
    ]


def _stack(about: Surroundings, source: PanelSource) -> Stack:
    targets = source.targets()
    there = intervals(targets)
    lacking: set[str] = set()
    if about.system:
        faults = check_targets(about.system, targets).faults
        jobs = {service.job for service in about.system.services if service.job} | {
            job.name for job in about.ground.monitoring.jobs
        }
        lacking = {job for job in jobs - set(there) if not any(f"job {job} has none" in fault for fault in faults)}
    return Stack(source, source.names(), there, frozenset(lacking))


def _answer(dashboard: Dashboard, query: Query, stack: Stack, catalogue: Catalogue, range_s: float) -> Answer:
    taken = selectors_of(asked(query, dashboard.variables))
    paces = [stack.intervals[job] for item in taken for job in catalogue.jobs(item) if job in stack.intervals]
    scrape_s = max(paces, default=max(stack.intervals.values(), default=_DEFAULT_SCRAPE_S))
    step_s = max(range_s / _POINTS, scrape_s)
    text = asked(query, dashboard.variables, Windows(scrape_s=scrape_s, step_s=step_s, range_s=range_s))
    found = stack.source.over(text, range_s, step_s)
    if isinstance(found, str):
        return Answer(query.ref, "refused", found)
    lines = tuple(line for series in found if (line := _line(query, series)).points)
    if lines:
        return Answer(query.ref, "data", lines=lines)
    why = _inapplicable([item.name for item in taken], {j for i in taken for j in catalogue.jobs(i)}, stack, catalogue)
    if why:
        return Answer(query.ref, "not_applicable", why)
    return Answer(query.ref, "undefined" if found else "empty", "it is not a number" if found else "it has no series")


def _line(query: Query, series: Series) -> Line:
    labels, points = series
    name = re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: labels.get(match[1], ""), query.legend).strip()
    return Line(name or query.ref, tuple(point for point in points if math.isfinite(point[1])))


def _inapplicable(names: Sequence[str], jobs: set[str], stack: Stack, catalogue: Catalogue) -> str:
    """Return why this stack cannot show a query, "" where it ought to.

    Either its jobs are of parts that this stack need not have, or its series were declared by hand and nothing here
    serves them.
    """
    away = sorted(jobs & stack.lacking)
    absent = [name for name in names if name not in stack.names]
    if away and absent:
        return f"this stack has no {', '.join(away)}"
    return next((why for name in absent if (why := catalogue.declared(name))), "")


def _wanting(dashboards: Sequence[Dashboard], answers: Answers) -> Iterator[Finding]:
    for dashboard in dashboards:
        for panel in dashboard.shown:
            for query, answer in zip(panel.queries, answers[dashboard.uid, panel.id], strict=True):
                if answer.status in {"data", "not_applicable"}:
                    continue
                mend = "load the stack for a few scrapes; else mend the query, or what serves its series"
                where = f"{dashboard.file}:{query.line}"
                yield Finding(
                    "no-data", where, f"{panel.title}: {query.ref}", f"{answer.status}: {answer.reason}", mend
                )
