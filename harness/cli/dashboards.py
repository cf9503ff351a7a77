"""`rollgate dashboards`: check, make and draw a system's dashboards; what of the system is monitored."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.console import relative, say
from harness.model.errors import SpecError
from harness.planning.time_scale import parse_duration

if TYPE_CHECKING:
    from harness.model.rule import Finding
    from harness.wiring.dashboards import CheckedDashboards

Systems = Annotated[
    list[str] | None,
    typer.Argument(help="Names of systems, folders or JSON files (default: all that ship).", metavar="SYSTEM"),
]
System = Annotated[str, typer.Argument(help="A system's name, or its folder.", metavar="SYSTEM")]
Last = Annotated[str, typer.Option(help="The time that panels show, up to now.", metavar="DURATION")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    dashboards = typer.Typer(no_args_is_help=True, help="A system's dashboards: check, generate, draw.")
    for command in (check, generate, draw, coverage):
        dashboards.command()(command)
    app.add_typer(dashboards, name="dashboards")


def check(
    systems: Systems = None,
    live: Annotated[str, typer.Option(help="A Prometheus in which every panel must have data.", metavar="URL")] = "",
    last: Last = "10m",
    as_json: AsJson = False,
) -> None:
    """Check every dashboard: form, queries, units, limits, and that all is monitored; 2 when anything is wanting."""
    from harness.wiring import dashboards as wired  # noqa: PLC0415 - --help loads nothing

    range_s = _seconds(last)
    results = [
        wired.check_dashboards(name, lambda text: say(text, err=True), live=live, range_s=range_s)
        for name in systems or wired.systems()
    ]
    _tell(finding for result in results for finding in result.findings)
    if as_json:
        say(json.dumps([_as_data(result) for result in results], indent=2))
    else:
        for result in results:
            _table(result)
    if not all(result.sound for result in results):
        raise typer.Exit(SpecError.exit_code)


def generate(system: System) -> None:
    """Write SYSTEM's dashboards from their sources, with the limits of its rules and objectives."""
    from harness.wiring import dashboards as wired  # noqa: PLC0415

    for path in wired.generate_dashboards(system):
        say(relative(path))


def draw(
    system: System,
    live: Annotated[str, typer.Option(help="The running Prometheus whose data is drawn.", metavar="URL")],
    out: Annotated[Path, typer.Option(help="The folder for UID.png of each dashboard.")],
    last: Last = "10m",
) -> None:
    """Draw each of SYSTEM's dashboards from its own queries, without Grafana; the picture says so."""
    from harness.wiring import dashboards as wired  # noqa: PLC0415

    for path in wired.draw_dashboards(system, live, out, _seconds(last)):
        say(relative(path))


def coverage(systems: Systems = None) -> None:
    """Name every service that nothing scrapes, and every metric that is asked for and that no scrape has; 2 for one."""
    from harness.wiring import dashboards as wired  # noqa: PLC0415

    sound = True
    for asked in systems or wired.systems_with_monitoring():
        name, found = wired.monitoring_coverage(asked)
        _tell(found.findings)
        sound = sound and not found.findings
        for service, job, by in found.services:
            say(f"{'ok   ' if job else 'fault'} {service:16} {f'job {job}, by {by}' if job else by}")
        states = [state for _, _, state in found.metrics]
        counts = ", ".join(f"{states.count(s)} {s}" for s in ("recorded", "declared", "computed", "missing"))
        scraped = sum(bool(job) for _, job, _ in found.services)
        say(f"{name}: {scraped} of {len(found.services)} services scraped; {len(states)} metrics asked for: {counts}")
    if not sound:
        raise typer.Exit(SpecError.exit_code)


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise SpecError(str(error), key="--last", mend="write 10m") from None


def _tell(findings: "Iterable[Finding]") -> None:
    for finding in findings:
        say(str(finding), err=True)


def _table(result: "CheckedDashboards") -> None:
    wrong = {finding.where.rpartition(":")[0] for finding in result.findings}
    for item in result.dashboards:
        queries = sum(len(panel.queries) for panel in item.shown)
        limited = sum(len(panel.steps) > 1 for panel in item.shown)
        mark = "fault" if item.file in wrong else "ok   "
        say(f"{mark} {item.uid:20} {len(item.shown):3} panels  {queries:3} queries  {limited:2} panels with limits")
    for panel, why in result.spared:
        say(f"      not applicable here: {panel}: {why}")
    verdict = "sound" if result.sound else f"{len(result.findings)} to mend"
    say(f"{result.system}: {len(result.dashboards)} dashboards, {verdict} (promtool {result.promtool})")


def _as_data(result: "CheckedDashboards") -> dict[str, Any]:
    return {
        "system": result.system,
        "promtool": result.promtool,
        "sound": result.sound,
        "findings": [asdict(finding) for finding in result.findings],
        "dashboards": [
            {"uid": item.uid, "title": item.title, "file": item.file, "panels": len(item.shown)}
            for item in result.dashboards
        ],
        "not_applicable": [{"panel": panel, "reason": why} for panel, why in result.spared],
        "services": [{"name": name, "job": job, "by": by} for name, job, by in result.covered.services],
    }
