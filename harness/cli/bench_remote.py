"""`rollgate bench remote`: gates on two plain servers of a user's own."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.console import say


def bench_remote(
    seeds: Annotated[int, typer.Option(min=1, help="Seeds; router and servers take turns with them.")] = 3,
    only: Annotated[list[str] | None, typer.Option(help="These cases only.", metavar="CASE")] = None,
    out: Annotated[Path, typer.Option(help="Folder of results; what is there is kept.")] = Path("reports/bench-remote"),
    table: Annotated[Path | None, typer.Option(help="Also write the table here.", metavar="FILE")] = None,
) -> None:
    """Gate good, erring, slow, tail-heavy, dead and dying servers behind three routers; fail on a wrong verdict."""
    from harness.wiring.bench_remote import bench_remote as bench  # noqa: PLC0415 - --help needs none of it

    raise typer.Exit(bench(seeds=seeds, only=only or [], out=out, table=table, echo=say))
