"""Commands on data: validate, coverage, init, bench."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.bench_driver import bench_driver
from harness.cli.bench_judge import bench_judge
from harness.cli.bench_parity import bench_parity
from harness.cli.bench_remote import bench_remote
from harness.cli.bench_rollback import bench_rollback
from harness.cli.console import say
from harness.model.errors import SpecError
from harness.paths import share_root


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (validate, coverage, init):
        app.command()(command)
    bench = typer.Typer(no_args_is_help=True, help="Measure rollgate itself.")
    bench.command("gate")(bench_gate)
    bench.command("parity")(bench_parity)
    bench.command("judge")(bench_judge)
    bench.command("driver")(bench_driver)
    bench.command("remote")(bench_remote)
    bench.command("rollback")(bench_rollback)
    app.add_typer(bench, name="bench")


def validate(folder: Annotated[Path, typer.Argument(help="A system's folder, or its name.", metavar="DIR")]) -> None:
    """Check a system's files; every problem is one line with file, line, key and mend."""
    from harness import spec  # noqa: PLC0415 - pydantic models are slow to build, --help is not
    from harness.wiring import check_scenario  # noqa: PLC0415 - the same

    found = folder if folder.is_dir() else spec.find_system(str(folder))
    problems = spec.validate(found)
    for problem in problems:
        say(str(problem), err=True)
    if problems:
        raise typer.Exit(SpecError.exit_code)
    check_scenario(spec.load_system(found))
    say(f"{folder}: sound")


def coverage(
    catalog: Annotated[Path, typer.Option(help="The catalog of ids.", metavar="FILE")],
    junit: Annotated[list[Path] | None, typer.Option(help="junit.xml of real runs.", metavar="FILE")] = None,
    system: Annotated[list[str] | None, typer.Option(help="These systems only.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Say which catalog ids ran and passed, at which level, and which are missing."""
    from harness.report.coverage import print_coverage  # noqa: PLC0415

    raise typer.Exit(print_coverage(catalog, junit or [], systems=system or [], as_json=as_json, echo=say))


def init(folder: Annotated[Path, typer.Argument(help="A new folder.", metavar="DIR")]) -> None:
    """Start a system of your own from the smallest one."""
    if folder.exists() and any(folder.iterdir()):
        msg = f"{folder} exists and is not empty"
        raise SpecError(msg, key="DIR", mend="name a new folder")
    source = share_root() / "stack" / "systems" / "minimal"
    shutil.copytree(
        source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "calibration.yaml")
    )
    for name in ("answer.py", "workloads/answer.py"):  # what to ask is the user's to say, too
        (folder / "scenarios" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(share_root() / "scenarios" / name, folder / "scenarios" / name)
    say(f"{folder}: edit system.yaml, then `rollgate validate {folder}` and `rollgate gate {folder}`")


def bench_gate(  # noqa: PLR0917 - the command line's contract
    system: Annotated[str, typer.Option(help="The system to bench.")] = "researchflow",
    matrix: Annotated[bool, typer.Option(help="Every release and drill x seeds, resumable.")] = False,
    quick: Annotated[bool, typer.Option(help="One seed.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="These releases or drills only.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the bench's runs and table.")] = Path("reports/bench-gate"),
    table: Annotated[Path | None, typer.Option(help="Also write the table here.", metavar="FILE")] = None,
) -> None:
    """Time a gate by phase; with --matrix, hold every known release and drill against what it must end in."""
    from harness.wiring import bench_gates  # noqa: PLC0415

    raise typer.Exit(bench_gates(system, matrix=matrix, quick=quick, only=only or [], out=out, table=table, echo=say))
