"""`rollgate bench rollback`: what users notice of moved weights, and of a bad feature until it is taken back."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.console import say


def bench_rollback(  # noqa: PLR0917 - the command line's contract
    system: Annotated[str, typer.Option(help="The system to bench.")] = "researchflow",
    plan: Annotated[str, typer.Option(help="The rollouts' plan.", metavar="NAME")] = "quick",
    rate: Annotated[float, typer.Option(min=1, max=100, help="Users' requests a second.")] = 30.0,
    pairs: Annotated[int, typer.Option(min=1, help="Blocks of moving weights, each beside a still one.")] = 3,
    block: Annotated[float, typer.Option(min=2, help="Seconds of a block.")] = 20.0,
    out: Annotated[Path, typer.Option(help="Folder of results.")] = Path("reports/bench-rollback"),
    table: Annotated[Path | None, typer.Option(help="Also write the table here.", metavar="FILE")] = None,
) -> None:
    """Move weights some hundreds of times under load, then let a candidate go bad; fail on a request that this cost."""
    from harness import spec  # noqa: PLC0415 - --help needs none of it
    from harness.wiring.bench_rollback import Asked  # noqa: PLC0415
    from harness.wiring.bench_rollback import bench_rollback as bench  # noqa: PLC0415

    loaded = spec.load_system(spec.find_system(system))
    asked = Asked(system=loaded, plan=plan, rate=rate, pairs=pairs, block_s=block, out=out.resolve())
    raise typer.Exit(bench(asked, table=table, echo=say))
