"""The `rollgate` command: options in, exit code out; no traceback reaches a user."""

import logging
import signal
import sys
import traceback
from datetime import UTC, datetime
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from harness.cli import calibrate, dashboards, data, flags, gate, preflight, rollout, rules, runs, stack
from harness.cli.console import say
from harness.model.errors import RollgateError
from harness.model.status import ExitCode
from harness.paths import cache_root


class _Commands(TyperGroup):
    """All commands. An interrupt ends one in a clear line and the contract's code; typer by itself says nothing."""

    def invoke(self, ctx: Any) -> object:  # noqa: ANN401 - typer keeps its context's type to itself
        """Run the command that was asked for; what an interrupt says is where it left things."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            said = f": {interrupt}" if str(interrupt) else ""
            say(f"rollgate: interrupted{said}", err=True)
            raise typer.Exit(ExitCode.INTERRUPTED) from None


app = typer.Typer(
    name="rollgate",
    cls=_Commands,
    help="Release gate for GPU inference stacks: promote, hold or roll back, with proof.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - only for this option

        typer.echo(f"rollgate {version('rollgate')}")
        raise typer.Exit


@app.callback()
def root(
    _version_: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Release gate for GPU inference stacks: promote, hold or roll back, with proof."""


gate.register(app)
rollout.register(app)
runs.register(app)
calibrate.register(app)
data.register(app)
preflight.register(app)
flags.register(app)
rules.register(app)
dashboards.register(app)
stack.register(app)


class _Interrupts:
    """The first SIGINT or SIGTERM interrupts; later ones must not disturb the way back."""

    def __init__(self) -> None:
        self.seen = False

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        if not self.seen:
            self.seen = True
            raise KeyboardInterrupt


def main() -> None:
    """Run the command line and exit with the contract's codes."""
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s", stream=sys.stderr)
    interrupts = _Interrupts()
    signal.signal(signal.SIGINT, interrupts)
    signal.signal(signal.SIGTERM, interrupts)
    try:
        app(standalone_mode=True)
    except RollgateError as error:
        typer.echo(f"rollgate: error: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # before a command began, or after its end
        say("rollgate: interrupted", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        sys.exit(ExitCode.ENVIRONMENT)
    except Exception as error:  # noqa: BLE001 - the last resort: a defect of ours, kept for a report, not shown raw
        said = f"{type(error).__name__}: {str(error)[:200]}"
        typer.echo(f"rollgate: internal error: {said} — details in {_keep_crash()}", err=True)
        sys.exit(ExitCode.ENVIRONMENT)


def _keep_crash() -> str:
    """Write the traceback where it can be found, and return that file's name."""
    folder = cache_root() / "crashes"
    path = folder / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.txt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(traceback.format_exc(), encoding="utf-8")
    except OSError as error:
        return f"no file: {error.strerror}"
    return str(path)


if __name__ == "__main__":
    main()
