"""`rollgate stack`: what is deployed as containers."""

from typing import Annotated

import typer

from harness.cli.console import relative, say
from harness.model.errors import SpecError


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    stack = typer.Typer(no_args_is_help=True, help="The stack as containers: its Compose file.")
    stack.callback()(_stack)
    stack.command()(compose)
    app.add_typer(stack, name="stack")


def _stack() -> None:
    """Keep `compose` a command of its own: typer makes a lone one the whole."""


def compose(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; 2 when the file is not what it must be.")
    ] = False,
) -> None:
    """Write stack/compose.yaml from stack/composition.yaml and the images, or check it."""
    from harness.wiring import composition  # noqa: PLC0415 - --help loads nothing

    if not check:
        say(relative(composition.write_compose()))
    problems = composition.compose_problems()
    for problem in problems:
        say(f"rollgate: error: {problem}", err=True)
    if problems:
        raise typer.Exit(SpecError.exit_code)
