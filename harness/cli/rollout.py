"""`rollgate rollout`: the same driver as a gate's, on a stack that is deployed."""

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.console import say
from harness.model.errors import EnvironmentProblem, SpecError

if TYPE_CHECKING:
    from harness.run.rollout import Ending
    from harness.wiring.rollout import Session

_COLOURS = {"good": typer.colors.GREEN, "bad": typer.colors.RED, "warning": typer.colors.YELLOW}


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("rollout")(rollout)


def rollout(  # noqa: PLR0917 - the command line's contract
    system: Annotated[str, typer.Argument(help="A system's name, or its folder.", metavar="SYSTEM")],
    feature: Annotated[str, typer.Option(help="The flag that follows the traffic.", metavar="FLAG")],
    target_percentage: Annotated[
        float | None, typer.Option(help="Where to bring it, 0 to 100: up through the plan's stages, down at once.")
    ] = None,
    target: Annotated[
        Path | None, typer.Option(help="Where the stack is (default: where the feature's last rollout was).")
    ] = None,
    plan: Annotated[str | None, typer.Option(help="A plan of the system's rollout.yaml.", metavar="NAME")] = None,
    time_scale: Annotated[float, typer.Option(help="Divide every duration by this.")] = 1.0,
    load: Annotated[bool, typer.Option("--load", help="Send load of rollgate's own, and judge by it too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the steps; ask and change nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Do not ask before traffic is moved.")] = False,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Go back to where the feature's newest rollout began.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a rollout's process died.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Say where it stands, and what is really there.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Hold the journal to its chain of hashes.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Say what every look found.")] = False,
    export: Annotated[
        Path | None, typer.Option(help="Write the journal's entries there as JSON lines.", metavar="FILE")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the rollouts' journal (default: in the cache).", metavar="DIR")
    ] = None,
) -> None:
    """Bring a feature to a share of the users of a deployed stack, by proof; or take it back."""
    # numpy and locust are slow to import, --help must not be
    from harness.report.rollout_lines import Lines  # noqa: PLC0415
    from harness.wiring.rollout import Asked, Refused, Session  # noqa: PLC0415

    _one_of(target_percentage, {"--rollback": rollback, "--resume": resume, "--status": status, "--verify": verify})
    asked = Asked(
        system=system, feature=feature, target=target, plan=plan, time_scale=time_scale, load=load, out=out
    )  # fmt: skip

    def confirm(steps: Sequence[str]) -> bool:
        return force or _confirmed(steps)

    session = Session(asked, confirm, [Lines(_line, verbose)])
    if dry_run:
        _no_others({"--resume": resume, "--status": status, "--verify": verify})
        for line in session.dry_run(target_percentage):
            say(line)
        return
    try:
        code = _told(session) if status else _verified(session) if verify else 0
        if not (status or verify):
            ending = session.rollback() if rollback else session.resume() if resume else _to(session, target_percentage)
            code = _ended(feature, ending)
    except Refused as refused:
        say("nothing was moved", err=True)
        code = refused.code
    finally:
        if export is not None:
            _export(session, export)
    raise typer.Exit(code)


def _to(session: "Session", share: float | None) -> "Ending":
    return session.go_to(0.0 if share is None else share)


def _one_of(share: float | None, others: dict[str, bool]) -> None:
    chosen = [name for name, on in others.items() if on] + (["--target-percentage"] if share is not None else [])
    if len(chosen) != 1:
        found = " and ".join(chosen) or "none of them"
        msg = f"found {found}, expected one of --target-percentage P, {', '.join(others)}"
        raise SpecError(msg, key="rollout", mend="say what is to be done")


def _no_others(others: dict[str, bool]) -> None:
    for name, on in others.items():
        if on:
            raise SpecError(f"{name} is not planned ahead", key="--dry-run", mend=f"drop --dry-run or {name}")


def _confirmed(steps: Sequence[str]) -> bool:
    """Show the steps and ask; SpecError where nobody is there to answer."""
    for step in steps:
        say(step)
    if not sys.stdin.isatty():
        msg = "traffic would be moved, and there is no terminal to ask"
        raise SpecError(msg, key="rollout", mend="add --force")
    try:
        return typer.confirm("Go on?")
    except typer.Abort:
        say("", err=True)  # the question has no end of its line
        raise KeyboardInterrupt("nothing was moved") from None


def _line(text: str, tone: str) -> None:
    """Print a line; in colour on a terminal where NO_COLOR is not set."""
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and tone in _COLOURS
    say(typer.style(text, fg=_COLOURS[tone]) if coloured else text)


def _told(session: "Session") -> int:
    for line in session.status():
        say(line)
    return 0


def _verified(session: "Session") -> int:
    say(session.verify())
    return 0


def _ended(feature: str, ending: "Ending") -> int:
    tone = "bad" if ending.code else "good"
    _line(f"{feature} is at {ending.share:g} %: {ending.reason}", tone)
    return ending.code


def _export(session: "Session", path: Path) -> None:
    from harness.report.atomic import write_text  # noqa: PLC0415 - see rollout

    lines = [json.dumps(dataclasses.asdict(entry), sort_keys=True) for entry in session.folder.entries()]
    try:
        write_text(path, "".join(f"{line}\n" for line in lines))
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}"
        raise EnvironmentProblem(msg, mend="name a file in a folder that can be written") from error
