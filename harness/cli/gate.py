"""`rollgate gate`, `rollgate plan` and the operator's words."""

import json
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.console import live_view, say
from harness.report.verdict_json import encode

System = Annotated[str, typer.Argument(help="A system's name, or its folder.", metavar="SYSTEM")]
Release = Annotated[
    str | None, typer.Option(help="Candidate: a release file, or a name under releases/.", metavar="FILE")
]
Baseline = Annotated[str | None, typer.Option(help="Baseline: a release file, or a name.", metavar="FILE")]
Plan = Annotated[str | None, typer.Option(help="A plan of the system's rollout.yaml.", metavar="NAME")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("gate")(gate)
    app.command("plan")(plan)
    for verb in ("pause", "hold", "promote", "abort"):
        app.command(verb, help=f"Tell a running rollout to {verb}.")(_order(verb))


def gate(  # noqa: PLR0917 - the command line's contract
    system: System,
    release: Release = None,
    baseline: Baseline = None,
    provider: Annotated[str, typer.Option(help="auto, native, docker or remote.")] = "auto",
    target: Annotated[
        Path | None, typer.Option(help="Where a deployed stack is, for --provider remote.", metavar="FILE")
    ] = None,
    plan: Plan = None,
    time_scale: Annotated[float, typer.Option(help="Divide every duration by this.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the load's schedule and sessions.")] = 1,
    out: Annotated[Path | None, typer.Option(help="The run's folder (default reports/RUN_ID/).")] = None,
    drill: Annotated[
        str | None, typer.Option(help="Bring in a harness-side fault of drills/: the release must not be blamed.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Verdict on stdout, all else on stderr.")] = False,
    require_real: Annotated[bool, typer.Option(help="Refuse stand-ins and compressed time.")] = False,
) -> None:
    """Bring a system up, or take a deployed one; roll a release out under load, judge it, report, tear down."""
    # locust and scipy are slow to import, --help must not be
    from harness import spec  # noqa: PLC0415
    from harness.wiring import choose_plan, choose_provider, run_gate  # noqa: PLC0415

    loaded = spec.load_system(spec.find_system(system))
    chosen = choose_plan(loaded, choose_provider(provider, target, loaded), plan, time_scale)
    with live_view(chosen, loaded.objectives) as view:
        result = run_gate(
            loaded,
            provider=provider,
            target=target,
            plan=plan,
            release=release,
            baseline=baseline,
            drill=drill,
            seed=seed,
            time_scale=time_scale,
            out=out,
            sinks=[view],
            require_real=require_real,
        )
    verdict = result.verdict
    if as_json:
        say(json.dumps(encode(verdict), indent=2))
    rehearsal = " (rehearsal)" if verdict.rehearsal else ""
    say(f"{verdict.decision}{rehearsal}, cause {verdict.cause}: {verdict.reason}", err=True)
    say(f"report: {result.out / 'report.html'}", err=True)
    raise typer.Exit(result.exit_code)


def plan(
    system: System,
    plan: Plan = None,
    time_scale: Annotated[float, typer.Option(help="Divide every duration by this.")] = 1.0,
) -> None:
    """Print what a gate would do, step by step; nothing is started."""
    from harness import spec  # noqa: PLC0415 - see gate
    from harness.planning.outline import outline  # noqa: PLC0415
    from harness.wiring import choose_plan, choose_provider, how_it_gates  # noqa: PLC0415

    loaded = spec.load_system(spec.find_system(system))
    provider = choose_provider("auto", system=loaded)
    chosen = choose_plan(loaded, provider, plan, time_scale)
    for line in outline(loaded, chosen, provider, how_it_gates(loaded, chosen)):
        say(line)


def _order(verb: str):  # noqa: ANN202 - a typer command
    def order(
        run: Annotated[Path, typer.Argument(help="The running rollout's folder.", metavar="RUN")],
        reason: Annotated[str, typer.Option(help="Why; it is kept in the journal.")],
    ) -> None:
        from harness.wiring import give_order  # noqa: PLC0415 - see gate

        give_order(run, verb, reason)
        say(f"said: {verb}; the driver takes it at its next look", err=True)

    return order
