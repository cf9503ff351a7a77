"""`rollgate preflight` and `rollgate doctor`: what this machine has and lacks for a stack."""

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.console import say

if TYPE_CHECKING:
    from harness.wiring.preflight import Preflight

SCHEMA = 1
_COLOURS = {"ok": typer.colors.GREEN, "warning": typer.colors.YELLOW, "error": typer.colors.RED}
_WIDE = 8

Provider = Annotated[str, typer.Option(help="native or docker.", metavar="PROVIDER")]
Gpu = Annotated[bool | None, typer.Option("--gpu/--no-gpu", help="Containers with GPUs (default: what NVML sees).")]
Published = Annotated[bool, typer.Option("--published", help="Ports that the composition publishes must be free.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (doctor, preflight):
        app.command()(command)


def doctor(
    provider: Provider = "native", gpu: Gpu = None, published: Published = False, as_json: AsJson = False
) -> None:
    """Say what this machine has and lacks for a provider; nothing is fetched or started."""
    _told(None, provider, gpu=gpu, published=published, as_json=as_json)


def preflight(
    system: Annotated[str, typer.Argument(help="A system's name, or its folder.", metavar="SYSTEM")],
    provider: Provider = "native",
    gpu: Gpu = None,
    published: Published = False,
    as_json: AsJson = False,
) -> None:
    """Check, and fetch where a native gate of SYSTEM needs it, what this machine has; nothing is started."""
    _told(system, provider, gpu=gpu, published=published, as_json=as_json)


def _told(system: str | None, provider: str, *, gpu: bool | None, published: bool, as_json: bool) -> None:
    from harness.wiring import diagnose  # noqa: PLC0415 - --help loads nothing

    found = diagnose(system, provider, gpu=gpu, publishes=published, note=lambda text: say(f"        {text}", err=True))
    if as_json:
        say(json.dumps(as_data(found), indent=2))
    else:
        _lines(found)
    raise typer.Exit(found.exit_code)


def as_data(found: "Preflight") -> dict[str, object]:
    """Return a preflight as plain JSON values; docs/preflight.md tells the keys, which stay as they are."""
    from harness.model.preflight import worst  # noqa: PLC0415 - see _told
    from harness.planning.summary import summary_data  # noqa: PLC0415

    return {
        "schema": SCHEMA,
        "system": found.system,
        "provider": found.provider,
        "stack": found.stack,
        "status": str(worst(found.found)),
        "exit_code": found.exit_code,
        "checks": [
            {
                "name": item.name,
                "status": str(item.level),
                "found": item.found,
                "expected": item.expected,
                "mend": item.mend,
            }
            for item in found.found
        ],
        "summary": summary_data(found.summary),
    }


def _lines(found: "Preflight") -> None:
    from harness.model.preflight import Level  # noqa: PLC0415 - see _told
    from harness.planning.summary import summary_lines  # noqa: PLC0415

    for item in found.found:
        fine = item.level in {Level.OK, Level.UNKNOWN}
        wanted = "" if fine else f"; expected {item.expected}"
        mend = f" — {item.mend}" if item.mend else ""
        say(f"{status(str(item.level))} {item.name}: {item.found}{wanted}{mend}")
    count = {level: sum(item.level is level for item in found.found) for level in (Level.ERROR, Level.WARNING)}
    what = f"{found.system} on {found.stack}" if found.system else found.stack
    say(f"\n{what}: {_many(count[Level.ERROR], 'error')}, {_many(count[Level.WARNING], 'warning')}\n")
    if found.exit_code:
        say("Mend the errors, then run it again.")
        return
    for line in summary_lines(found.summary):
        say(line)


def status(level: str) -> str:
    """Return a level at its width; in colour on a terminal where NO_COLOR is not set."""
    text = f"{level:{_WIDE}}"
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and level in _COLOURS
    return typer.style(text, fg=_COLOURS[level]) if coloured else text


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
