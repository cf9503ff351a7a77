"""`rollgate stack up|down|status|logs`: a stack that stays up after the command."""

from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.console import say

if TYPE_CHECKING:  # --help loads nothing
    from harness.wiring.stack import Status

System = Annotated[str, typer.Argument(help="A system's name, or its folder.")]


def up(
    system: System,
    provider: Annotated[str, typer.Option(help="auto, native or docker.")] = "auto",
    plan: Annotated[str | None, typer.Option(help="Whose time scale the stack runs at.", metavar="NAME")] = None,
    release: Annotated[
        str | None, typer.Option(help="What serves the candidate arm (default: the good one).", metavar="FILE")
    ] = None,
) -> None:
    """Bring a system's stack up, and leave it running; no traffic goes to the candidate."""
    from harness.wiring import stack  # noqa: PLC0415 - --help loads nothing

    stack.up(system, provider, plan=plan, release=release, say=lambda text: say(text, err=True))


def down(system: System) -> None:
    """Take a stack down: processes or containers, networks, volumes and secrets."""
    from harness.wiring import stack  # noqa: PLC0415

    say(f"the stack of {system} is down" if stack.down(system) else f"no stack of {system} was up")


def status(system: System) -> None:
    """Say what of a stack runs, where it answers, and which file holds each credential."""
    from harness.wiring import stack  # noqa: PLC0415

    found = stack.status(system)
    _show(system, found)
    if not all(one.running for one in found.instances):
        raise typer.Exit(4)


def logs(
    system: System,
    instance: Annotated[str, typer.Argument(help="An instance, as `status` names it (default: all).")] = "",
    lines: Annotated[int, typer.Option(help="How many of the last lines.", min=1)] = 40,
) -> None:
    """Print the last lines of a stack's logs."""
    from harness.wiring import stack  # noqa: PLC0415

    for name, text in stack.logs(system, instance, lines):
        say(f"==> {name} <==\n{text}")


def prune() -> None:
    """Remove the containers, networks and volumes that `pytest --reuse-containers` kept."""
    from harness.wiring.images import forget_reused  # noqa: PLC0415

    if stays := forget_reused():
        say(f"rollgate: error: the engine keeps {stays}", err=True)
        raise typer.Exit(4)
    say("nothing of reused sessions is left")


def _show(name: str, found: "Status") -> None:
    kinds = {one.name: one for one in found.services}
    say(f"{name} on {found.provider}, users' entry at http://{found.entry}")
    for one in found.instances:
        record = kinds.get(one.service)
        told = f"{record.kind} {record.version}".strip() if record else ""
        where = ", ".join(f"{port} {at}" for port, at in found.addresses[one.name].items())
        say(f"  {one.name:<22} {'runs' if one.running else 'DOWN':<5} {where}  ({told})")
    for service, reason in found.absent.items():
        say(f"  {service:<22} left out: {reason}")
    for secret, file in found.secrets.items():
        say(f"  the secret {secret} is in {file}")
