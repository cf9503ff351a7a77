"""`rollgate flags`: show a system's feature flags, hand them to flagd and take them back, put a torn file back."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.console import say
from harness.model.errors import EnvironmentProblem
from harness.model.system import Flag, System

Named = Annotated[str, typer.Argument(help="A system's name, or its folder.", metavar="SYSTEM")]
Live = Annotated[
    Path | None,
    typer.Option(help="The live flags file; without it, what is deployed before a rollout.", metavar="FILE"),
]
Out = Annotated[Path | None, typer.Option(help="Write there; without it, on stdout.", metavar="FILE")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    flags = typer.Typer(no_args_is_help=True, help="A system's feature flags: their shares, flagd, a torn file.")
    for command in (show, recover):
        flags.command()(command)
    flags.command("export")(export_flags)
    flags.command("import")(import_flags)
    app.add_typer(flags, name="flags")


def show(
    system: Named,
    live: Live = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Print each flag's own share, what it is worth under its parents, and who they are."""
    from harness.planning.flags import effective_shares  # noqa: PLC0415 - --help loads nothing

    loaded = _load(system)
    shares = _shares(loaded, live)
    effective = effective_shares(loaded.flags, shares)
    if as_json:
        say(json.dumps({flag.name: _row(flag, shares, effective) for flag in loaded.flags}, indent=2))
        return
    if not loaded.flags:
        say(f"{loaded.name} has no flags")
        return
    rows: list[tuple[str, ...]] = [("flag", "share %", "effective %", "target %", "strategy", "depends on")]
    for flag in loaded.flags:
        numbers = (f"{value:g}" for value in (shares[flag.name], effective[flag.name], flag.target))
        rows.append((flag.name, *numbers, flag.strategy, ", ".join(flag.depends) or "-"))
    for line in _table(rows):
        say(line)


def export_flags(system: Named, live: Live = None, out: Out = None) -> None:
    """Write SYSTEM's flags as a flagd definition: effective shares, by the session's key."""
    from harness.adapters import flagd  # noqa: PLC0415

    loaded = _load(system)
    _hand_over(flagd.export(loaded.flags, _shares(loaded, live), name=loaded.name), out)


def import_flags(
    system: Named,
    file: Annotated[Path, typer.Argument(help="A flagd definition file.", metavar="FILE")],
    out: Out = None,
) -> None:
    """Read a flagd definition and write it as SYSTEM's flags.json; nothing that is live is touched."""
    from harness import spec  # noqa: PLC0415
    from harness.adapters import flagd_reader  # noqa: PLC0415

    traffic = _load(system).traffic
    needed = [name for name in dict.fromkeys((traffic.feature, *dict(traffic.flags))) if name]
    _hand_over(spec.flags_text(flagd_reader.read(file, needed=needed)), out)


def recover(file: Annotated[Path, typer.Argument(help="A live flags file.", metavar="FILE")]) -> None:
    """Put the newest sound backup in the place of a torn, malformed or missing live flags file."""
    from harness.adapters.flags_file import FileFlags  # noqa: PLC0415

    say(FileFlags(file).recover() or f"{file}: sound, nothing was done")


def _load(system: str) -> System:
    from harness import spec  # noqa: PLC0415 - pydantic models are slow to build, --help is not

    return spec.load_system(spec.find_system(system))


def _shares(system: System, live: Path | None) -> dict[str, float]:
    """Return each flag's own share: of the live file, else what is deployed before a rollout, else its own rollout."""
    from harness.adapters.flags_file import FileFlags  # noqa: PLC0415

    stated: Mapping[str, float] = FileFlags(live).read() if live else dict(system.traffic.flags)
    unknown = sorted(set(stated) - {flag.name for flag in system.flags})
    if unknown:
        say(f"{live}: {system.name} has no {', '.join(unknown)}: passed over", err=True)
    return {flag.name: stated.get(flag.name, flag.rollout) for flag in system.flags}


def _hand_over(text: str, out: Path | None) -> None:
    from harness.report.atomic import write_text  # noqa: PLC0415

    if out is None:
        say(text.rstrip("\n"))
        return
    try:
        write_text(out, text)
    except OSError as error:
        msg = f"cannot write {out}: {error.strerror or error}"
        raise EnvironmentProblem(msg, mend="name a file in a folder that can be written") from error
    say(f"{out}: written", err=True)


def _row(flag: Flag, shares: Mapping[str, float], effective: Mapping[str, float]) -> dict[str, object]:
    return {
        "share": shares[flag.name],
        "effective": effective[flag.name],
        "target": flag.target,
        "strategy": flag.strategy,
        "depends": list(flag.depends),
        "description": flag.description,
    }


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
