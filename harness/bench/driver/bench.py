"""`rollgate bench driver`: many worlds, or one of them step by step."""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from harness.bench.driver import table
from harness.bench.driver.runner import chunks, run
from harness.bench.driver.world import World


def bench_driver(rollouts: int, *, jobs: int, out: Path, tables: Path | None, echo: Callable[[str], None]) -> int:
    """Return 1 where a rule did not hold in any of the rollouts, else 0. The table goes to `out`, and to `tables`."""
    result = run(chunks(rollouts, out), jobs=jobs, console=Console(stderr=True))
    for folder in [out] if tables is None else [out, tables]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "table.md").write_text(table.markdown(result), encoding="utf-8")
    for seed, rule, text in result.broken:
        echo(f"BROKEN: {rule}: {text} (rollgate bench driver --seed {seed})")
    struck, checked = sum(result.hits.values()), sum(result.checks.values())
    echo(
        f"{result.runs:,} rollouts, {result.lives:,} processes, {struck:,} faults of {len(result.hits)} kinds, "
        f"{checked:,} checks of {len(result.checks)} rules: broken in {result.failures:,}; {out / 'table.md'}"
    )
    return 1 if result.failures else 0


def replay(seed: int, *, echo: Callable[[str], None]) -> int:
    """Show every step of the rollout of `seed`; return 1 where a rule does not hold."""
    world = World(seed, tracing=True)
    truth = world.truth
    worth = f"fails from stage {truth.plan.stages[truth.bad].id} on" if truth.is_bad else "is good"
    ladder = ", ".join(f"{share:g}" for share in truth.ladder())
    echo(f"seed {seed}: {ladder} %; the release {'is never proven' if truth.silent else worth}; "
         f"{'a lease' if world.traffic.leased else 'no lease'}")  # fmt: skip
    echo(f"possible faults: {', '.join(world.weather.rates) or 'none'}")
    told = world.run()
    for line in told.trace:
        echo(line)
    echo(f"{told.end}; {len(told.broken)} rules broken" if told.broken else f"{told.end}; every rule held")
    return 1 if told.broken else 0
