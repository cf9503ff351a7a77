"""`rollgate bench judge`: the judge on rollouts of known truth, against the rules of other tools."""

import os
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.console import say


def bench_judge(  # noqa: PLR0917 - the command line's contract
    quick: Annotated[bool, typer.Option(help="Fewer rollouts; under 3 minutes.")] = False,
    minute: Annotated[bool, typer.Option(help="Fewer still; under a minute.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Scenarios whose name begins so.", metavar="SCENARIO")] = None,
    runs: Annotated[int | None, typer.Option(min=1, help="Rollouts of each scenario.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    out: Annotated[Path, typer.Option(help="Folder of results; what is there is kept.")] = Path("reports/bench-judge"),
    table: Annotated[Path | None, typer.Option(help="Also write table, plots and record here.", metavar="DIR")] = None,
) -> None:
    """Measure the judge on simulated rollouts; fail on a safety bar, or on less than was recorded."""
    from harness.bench.cells import Tier  # noqa: PLC0415 - scipy and matplotlib are slow to load, --help is not
    from harness.bench.judge import bench_judge as bench  # noqa: PLC0415

    tier = Tier.MINUTE if minute else Tier.QUICK if quick else Tier.FULL
    raise typer.Exit(bench(tier, only=only or [], runs=runs, jobs=jobs, out=out, tables=table, echo=say))
