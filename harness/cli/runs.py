"""Commands on stored runs: judge, explain, report, history."""

import json
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.console import say
from harness.model.status import ExitCode

Run = Annotated[Path, typer.Argument(help="A run's folder.", metavar="RUN_DIR")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (judge, explain, report, history):
        app.command()(command)


def judge(
    run_dir: Run,
    policy: Annotated[
        Path | None, typer.Option(help="Judge by this policy instead; say what would have happened.", metavar="FILE")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Judge a stored run again from its evidence alone; with another policy, say what it would have come to."""
    from harness.wiring import differences, judge_again, judge_by_policy, recorded_by  # noqa: PLC0415 - scipy is slow to import, --help is not

    if policy is not None:
        from harness.cli.replayed import as_document, as_lines  # noqa: PLC0415

        found = judge_by_policy(run_dir, policy)
        lines = [json.dumps(as_document(found, str(policy)), indent=2)] if as_json else as_lines(found, str(policy))
        for line in lines:
            say(line)
        raise typer.Exit(found.code)
    judgements, code = judge_again(run_dir)
    if as_json:
        say(json.dumps(judgements, indent=2))
    else:
        for one in judgements:
            say(f"{one['status']:<14} {one['id']:<28} {one['source']:<11} {one['reason']}")
    if code == ExitCode.NO_EVIDENCE and all(one["status"] == "pass" for one in judgements):
        say("the run was never looked at: its suites alone prove nothing of the release", err=True)
    differing = differences(run_dir, judgements)
    if differing:
        then, now = recorded_by(run_dir)
        say(f"not as in verdict.json, which is of {then}; this is {now}:", err=True)
    for line in differing:
        say(f"  {line}", err=True)
    raise typer.Exit(code)


def explain(run_dir: Run, id_: Annotated[str, typer.Argument(help="A judgement's id.", metavar="ID")]) -> None:
    """Say in plain words why one judgement fell as it did."""
    from harness.report.explain import explain as in_words  # noqa: PLC0415
    from harness.wiring import read_verdict  # noqa: PLC0415

    say(in_words(read_verdict(run_dir), id_))


def report(run_dir: Run) -> None:
    """Write a stored run's report again."""
    from harness.wiring import report_again  # noqa: PLC0415

    say(report_again(run_dir))


def history(
    folder: Annotated[Path, typer.Option("--reports", help="Folder of runs.")] = Path("reports"),
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """List past runs, newest first."""
    from harness.report.history import past_runs  # noqa: PLC0415

    found = past_runs(folder)
    if as_json:
        say(json.dumps(found, indent=2))
        return
    for run in found:
        say(
            f"{run['started_at']:<25} {run['run_id']:<40} {run['candidate']:<24} "
            f"{run['decision']:<9} {run['cause']:<12} {run['problem'] or 'exit ' + str(run['exit_code'])}"
        )
    if not found:
        say(f"no runs under {folder}", err=True)
