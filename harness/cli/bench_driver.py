"""`rollgate bench driver`: the driver in simulated worlds full of faults, or with real parts."""

import os
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.console import say


def bench_driver(  # noqa: PLR0917 - the command line's contract
    rollouts: Annotated[int, typer.Option(min=1, help="Rollouts, from seeds 0, 1, ...")] = 1_000_000,
    seed: Annotated[int | None, typer.Option(min=0, help="Replay this one rollout and show its steps.")] = None,
    real: Annotated[
        bool, typer.Option("--real", help="With HAProxy, SQLite, flags and processes in place of simulated ones.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Processes; --real has one.")] = os.cpu_count() or 1,
    out: Annotated[Path, typer.Option(help="Folder of results; what is there is kept.")] = Path("reports/bench-driver"),
    table: Annotated[Path | None, typer.Option(help="Also write the table here.", metavar="DIR")] = None,
) -> None:
    """Drive rollouts through crashes, lost answers and full disks, simulated or real; fail where a rule breaks."""
    from harness.bench.driver.bench import bench_driver as bench  # noqa: PLC0415 - --help needs none of it
    from harness.bench.driver.bench import replay  # noqa: PLC0415

    if real:
        from harness.bench.driver.real_bench import bench_real  # noqa: PLC0415

        raise typer.Exit(bench_real(out, tables=table, echo=say))
    if seed is not None:
        raise typer.Exit(replay(seed, echo=say))
    raise typer.Exit(bench(rollouts, jobs=jobs, out=out, tables=table, echo=say))
