"""`rollgate stack`: a stack up without a gate; and the stack as containers: its Compose file and its images."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.console import relative, say
from harness.cli.stack_up import down, logs, prune, status, up
from harness.model.errors import SpecError


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    stack = typer.Typer(no_args_is_help=True, help="A stack without a gate; its Compose file and images.")
    for command in (up, down, status, logs, prune, compose, images, sbom):
        stack.command()(command)
    app.add_typer(stack, name="stack")


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


def images(
    names: Annotated[
        list[str] | None, typer.Argument(help="Keys of images.yaml (default: all with a Dockerfile).")
    ] = None,
    ca_bundle: Annotated[
        str, typer.Option(help="Certificates of a proxy that ends TLS (default: this machine's).", metavar="FILE")
    ] = "",
) -> None:
    """Build the images that have a Dockerfile in stack/images/, with the cache of this machine's Docker Engine."""
    from harness.wiring.images import build  # noqa: PLC0415

    build(names or [], ca_bundle, lambda text: say(text, err=True))


def sbom(
    names: Annotated[
        list[str] | None, typer.Argument(help="Keys of images.yaml (default: all that were built here).")
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder that takes the files.")] = Path("reports/sbom"),
) -> None:
    """Write what is in each built image as CycloneDX: its distribution's packages and Python's."""
    from harness.wiring.images import write_sboms  # noqa: PLC0415

    for path in write_sboms(names or [], out, lambda text: say(text, err=True)):
        say(relative(path))
