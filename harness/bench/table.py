"""The bench in words and numbers: a Markdown table, a CSV, and the record for the next bench."""

import csv
import json
import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, cast

from harness.bench.cells import ROLLGATE, Bar, Kind, Standing, Statistic, Tier
from harness.bench.outcome import Reading, Recorded, readings, record, scale_of
from harness.bench.runner import Result

RECORD = "recorded.json"
_NAMES = {Tier.FULL: "", Tier.QUICK: " --quick", Tier.MINUTE: " --minute"}


def rows(results: Sequence[Result]) -> list[Reading]:
    """Return every reading, safety bars first, then goals, then what is only shown."""
    found = [reading for result in results for reading in readings(result)]
    order = list(Standing)
    return sorted(found, key=lambda reading: order.index(reading.cell.standing))


def markdown(results: Sequence[Result], tier: Tier, pictures: Sequence[Path] = ()) -> str:
    """Return the whole table, with `pictures` that lie beside it."""
    lines = ["# The judge, measured", "", f"Made by `rollgate bench judge{_NAMES[tier]}`.", *_READ_THIS]
    titles = {
        Standing.SAFETY: "Safety bars: one that is missed fails the bench",
        Standing.GOAL: "Goals",
        Standing.LIMIT: "Shown: limits of the guarantee, and what has no bar",
    }
    for standing, group in groupby(rows(results), key=lambda reading: reading.cell.standing):
        lines += ["", f"## {titles[standing]}", "", *_HEAD, *(_row(reading) for reading in group)]
    lines += _opponents(results)
    if pictures:
        lines += ["", "## Pictures"]
        lines += [line for path in pictures for line in ("", f"![{path.stem.replace('-', ' ')}]({path.name})")]
    return "\n".join(lines) + "\n"


_READ_THIS = [
    "",
    "Each row is a scenario with known truth; the brackets are 95 % bounds of the simulation. Scenarios are in",
    "`harness/bench/scenarios.py`. Arm noise a/b has standard deviation a on the log error rate and b on the log",
    "latency; phi is its memory over 15 s.",
]
_HEAD = [
    "| what | scenario | bar | measured | runs | distance | met |",
    "|---|---|---|---|---|---|---|",
]


def _row(reading: Reading) -> str:
    met = {None: "-", True: "yes", False: "**NO**" if reading.broken else "no"}[reading.met]
    cells = [
        reading.cell.question if reading.statistic is not Statistic.VALUE else reading.rule,
        reading.cell.title,
        bar_text(reading.bar) if reading.bar else "-",
        shown(reading),
        str(reading.runs or 1),
        _value(reading.distance, reading.statistic, reading.bar) if reading.met is False else "-",
        met,
    ]
    return "| " + " | ".join(cells) + " |"


def shown(reading: Reading) -> str:
    """Return what was measured with its bounds, as text."""
    if math.isnan(reading.measured):
        return "not measured"
    value = _value(reading.measured, reading.statistic, reading.bar)
    if reading.statistic is Statistic.VALUE:
        return value
    low, high = (_value(part, reading.statistic, reading.bar, bare=True) for part in (reading.low, reading.high))
    return f"{value} [{low}, {high}]"


def bar_text(bar: Bar) -> str:
    """Return what is wanted, as text."""
    sign = ">=" if bar.at_least else "<="
    text = f"{sign} {_value(bar.wanted, bar.statistic, bar)}"
    if bar.statistic is Statistic.RATIO:
        text += f" {bar.against}"
    if bar.upper is not None:
        text += f" (bound {_value(bar.upper, bar.statistic, bar)})"
    return text


def _value(value: float, statistic: Statistic, bar: Bar | None, *, bare: bool = False) -> str:
    if math.isinf(value):
        return "never"
    unit = bar.unit if bar else "min"
    if statistic is Statistic.EVER:
        return f"{100 * value:.2f}" + ("" if bare else " %")
    number = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}"  # noqa: PLR2004 - where decimals say nothing
    return number if bare else f"{number} {unit}"


def _opponents(results: Sequence[Result]) -> list[str]:
    """Return a table of all rules: how often each rolls back, and when in the median."""
    measured = [result for result in results if len(result.tallies) > 1 and result.cell.kind is Kind.CALIBRATED]
    rules = list(dict.fromkeys(rule for result in measured for rule in result.tallies))
    if not measured:
        return []
    lines = ["", "## Other rules on the same rollouts", ""]
    lines += ["Share rolled back within the hour; in brackets the median minute, where half were.", ""]
    lines += ["| rule | " + " | ".join(result.cell.name for result in measured) + " |"]
    lines += ["|---" * (len(measured) + 1) + "|"]
    for rule in [ROLLGATE, *(rule for rule in rules if rule != ROLLGATE)]:
        lines.append(f"| {rule} | " + " | ".join(_told(result, rule) for result in measured) + " |")
    return lines


def _told(result: Result, rule: str) -> str:
    tally = result.tallies.get(rule)
    if tally is None:
        return "-"
    text = f"{100 * tally.share:.3g} %"
    if result.cell.wanted and math.isfinite(tally.median):
        text += f" ({tally.median * scale_of(result.cell):.3g})"
    return text


def write(results: Sequence[Result], tier: Tier, folder: Path, pictures: Sequence[Path] = ()) -> None:
    """Write the table, the CSV and the record into `folder`, where `pictures` lie."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(markdown(results, tier, pictures), encoding="utf-8")
    with (folder / "results.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["cell", "rule", "runs", "acted", "share", "share_low", "share_high", "median", "unit"])
        for result in results:
            writer.writerows(_csv(result))
    text = json.dumps({"tier": tier.value, "cells": record(results)}, indent=1, sort_keys=True)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")


def _csv(result: Result) -> list[list[object]]:
    unit = "units" if result.cell.kind is Kind.ROUTER else "min"
    lines: list[list[object]] = []
    for rule, tally in result.tallies.items():
        low, high = tally.share_bounds()
        median = tally.median * scale_of(result.cell)
        numbers = [f"{value:.5f}" for value in (tally.share, low, high)]
        lines.append([result.cell.name, rule, tally.runs, tally.hits, *numbers, f"{median:.3f}", unit])
    for name, value in result.values.items():
        lines.append([result.cell.name, name, 1, "", "", "", "", f"{value:.4g}", ""])
    return lines


def recorded(path: Path) -> Recorded:
    """Return what an earlier bench recorded; nothing where there is no such file."""
    if not path.is_file():
        return {}
    raw = cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
    return cast("Recorded", raw["cells"])
