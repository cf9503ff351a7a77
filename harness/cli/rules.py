"""`rollgate rules`: prove alert rules, write those that objectives imply, record what a stack serves."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.console import relative, say
from harness.model.errors import SpecError
from harness.planning.time_scale import format_duration

if TYPE_CHECKING:
    from harness.planning.rules.verdicts import Proven
    from harness.wiring.rules import Checked

Live = Annotated[str, typer.Option(help="The address of a running Prometheus, http://HOST:PORT.", metavar="URL")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    rules = typer.Typer(no_args_is_help=True, help="A system's alert rules: prove, generate, record.")
    for command in (check, generate, record, table):
        rules.command()(command)
    app.add_typer(rules, name="rules")


def check(
    systems: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names of systems, folders or rule files (default: all that ship rules).", metavar="SYSTEM"
        ),
    ] = None,
    live: Live = "",
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Prove every alert: promtool, lint, seven cases, and each mutant of it noticed; 2 when anything is wanting."""
    from harness.wiring import rules as wired  # noqa: PLC0415 - --help loads nothing

    results = [
        wired.check_rules(name, lambda text: say(text, err=True), live=live)
        for name in systems or wired.systems_with_rules()
    ]
    for result in results:
        for finding in result.findings:
            say(str(finding), err=True)
    if as_json:
        say(json.dumps([_as_data(result) for result in results], indent=2))
    else:
        for result in results:
            for line in _table(result):
                say(line)
    if not all(result.sound for result in results):
        raise typer.Exit(SpecError.exit_code)


def generate(system: Annotated[str, typer.Argument(help="A system's name, or its folder.", metavar="SYSTEM")]) -> None:
    """Write SYSTEM's burn-rate alerts from its objectives."""
    from harness.wiring import rules as wired  # noqa: PLC0415

    path = wired.generate_rules(system)
    say(str(path) if path else f"{system}: no objective is a share of requests that Prometheus counts")


def record(
    system: Annotated[str, typer.Argument(help="A system's name, or its folder.", metavar="SYSTEM")],
    live: Live,
) -> None:
    """Write down what the Prometheus of a running, healthy stack has scraped: names, labels, buckets."""
    from harness.wiring import rules as wired  # noqa: PLC0415

    for path in wired.record_scrapes(system, live):
        say(relative(path))


def table(
    live: Annotated[
        list[Path] | None,
        typer.Option(help="alerts.json of a run on a live stack; may be given once a system.", metavar="FILE"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the table goes.")] = Path("docs/benchmarks/alerts/table.md"),
) -> None:
    """Write the table of all alerts: lint, cases, mutants, and what live runs showed; 2 when anything is wanting."""
    from harness.wiring.rules_table import write_table  # noqa: PLC0415

    words = ["rollgate", "rules", "table", *(f"--live {relative(path)}" for path in live or ())]
    sound = write_table(live or [], out, lambda text: say(text, err=True), " ".join(words))
    say(relative(out))
    if not sound:
        raise typer.Exit(SpecError.exit_code)


def _table(result: "Checked") -> Sequence[str]:
    width = max((len(p.rule.name) for p in result.proven), default=4)
    lines = [f"{result.system} (promtool {result.promtool})"]
    wrong = {f.key.partition(":")[0] for f in result.findings}
    for item in result.proven:
        name = item.rule.name
        kept = f"{sum(item.cases.values())}/{len(item.cases)} cases"
        mutants = f"{item.killed}/{item.mutants - item.unreachable} mutants noticed"
        lines.append(
            f"{'fault' if name in wrong else 'ok   '} {name:{width}}  {kept}  {mutants:24}  fires after {_delay(item)}"
        )
    lines += [f"      job {job} is declared, not recorded: {why}" for job, why in result.declared]
    verdict = "sound" if result.sound else f"{len(result.findings)} to mend"
    lines.append(f"{result.system}: {len(result.proven)} of {len(result.monitoring.alerts)} alerts proven, {verdict}")
    return lines


def _delay(item: "Proven") -> str:
    return "never" if item.delay_s is None else format_duration(item.delay_s)


def _as_data(result: "Checked") -> dict[str, Any]:
    return {
        "system": result.system,
        "promtool": result.promtool,
        "sound": result.sound,
        "findings": [asdict(finding) for finding in result.findings],
        "rules": [
            {
                "alert": item.rule.name,
                "group": item.rule.group,
                "requirement": item.rule.annotation("requirement"),
                "cases": dict(item.cases),
                "mutants": item.mutants,
                "killed": item.killed,
                "unreachable": item.unreachable,
                "fires_after_s": item.delay_s,
            }
            for item in result.proven
        ],
        "declared": dict(result.declared),
    }
