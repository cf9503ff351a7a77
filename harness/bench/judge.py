"""`rollgate bench judge`: run it, say what came out, and whether it may be shipped."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from harness.bench import example, plots, table
from harness.bench.cells import Cell, Standing, Tier
from harness.bench.outcome import Reading, regressions
from harness.bench.runner import Result, chunks, run
from harness.bench.scenarios import all_cells
from harness.model.errors import SpecError
from harness.paths import share_root


def bench_judge(
    tier: Tier,
    *,
    only: Sequence[str],
    runs: int | None,
    jobs: int,
    out: Path,
    tables: Path | None,
    echo: Callable[[str], None],
    cells: Sequence[Cell] | None = None,
    record: Path | None = None,
) -> int:
    """Return 1 when a safety bar fails or a cell is worse than recorded, else 0.

    `only` names cells by their beginning. Results are kept in `out` and not measured again; the table goes
    there, too, and with the plots and the record to `tables`, if given.
    """
    chosen = _chosen(all_cells() if cells is None else cells, only)
    work = chunks(chosen, tier, out, runs=runs)
    by_name = run(work, jobs=jobs, console=Console(stderr=True))
    results = [by_name[cell.name] for cell in chosen if cell.name in by_name]
    before = table.recorded(record or share_root() / "docs" / "benchmarks" / "judge" / table.RECORD)
    worse = regressions(results, before)
    table.write(results, tier, out)
    if tables is not None:
        table.write(results, tier, tables, plots.write(results, tables))
        example.write(tables / "example.png")
    return _say(results, worse, compared=bool(before), echo=echo)


def _chosen(cells: Sequence[Cell], only: Sequence[str]) -> list[Cell]:
    chosen = [cell for cell in cells if not only or any(cell.name.startswith(name) for name in only)]
    unknown = [name for name in only if not any(cell.name.startswith(name) for cell in cells)]
    if unknown:
        msg = f"there is no scenario {', '.join(unknown)}"
        raise SpecError(msg, key="--only", mend=f"choose of {', '.join(cell.name for cell in cells)}")
    return chosen


def _say(results: Sequence[Result], worse: Sequence[str], *, compared: bool, echo: Callable[[str], None]) -> int:
    found = table.rows(results)
    broken = [reading for reading in found if reading.broken]
    missed = [r for r in found if r.met is False and not r.broken and r.cell.standing is not Standing.LIMIT]
    for reading in missed:
        echo(f"missed: {_told(reading)}")
    for line in worse:
        echo(f"REGRESSION: {line}")
    for reading in broken:
        echo(f"SAFETY BAR FAILS: {_told(reading)}")
    met = sum(reading.met is True for reading in found)
    said = f"{met} bars met, {len(missed)} missed within chance or as goals, {len(broken)} safety bars fail, "
    echo(said + (f"{len(worse)} regressions" if compared else "nothing recorded to compare with"))
    return 1 if broken or worse else 0


def _told(reading: Reading) -> str:
    bar = table.bar_text(reading.bar) if reading.bar else ""
    return f"{reading.cell.name}: {reading.cell.question}, {reading.cell.title}: {table.shown(reading)}, bar {bar}"
