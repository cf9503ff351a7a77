"""`rollgate bench parity`: the same releases on local processes and on containers."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.console import say


def bench_parity(
    system: Annotated[str, typer.Option(help="The system to bench.")] = "researchflow",
    only: Annotated[list[str] | None, typer.Option(help="These releases only.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of results; what is there is kept.")] = Path("reports/bench-parity"),
    table: Annotated[Path | None, typer.Option(help="Also write the table here.", metavar="FILE")] = None,
) -> None:
    """Gate every known release on both providers, and compare decision, cause, cases and judgements."""
    from harness.wiring.bench_parity import bench_parity as bench  # noqa: PLC0415 - --help needs none of it

    raise typer.Exit(bench(system, only=only or [], out=out, table=table, echo=say))
