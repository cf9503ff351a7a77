"""The bench in pictures."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.bench.cells import ROLLGATE, Cell, Standing
from harness.bench.oracle import NOISY_SPRT, SPRT
from harness.bench.outcome import scale_of
from harness.bench.runner import Result
from harness.report.canvas import figure as figure_of

Axes = Any  # and figures: matplotlib's own types leave too much unknown
_FLOOR = 2e-4  # where "never seen" is drawn on a logarithmic axis
_OURS = "#0b6e4f"
_STYLES: dict[str, tuple[str, str]] = {  # colour, marker
    ROLLGATE: (_OURS, "o"),
    "Mann-Whitney judge (Kayenta)": ("#c1440e", "s"),
    "threshold counter, 1 miss (Flagger)": ("#8d6a9f", "<"),
    "threshold counter, 5 misses (Flagger)": ("#8d6a9f", ">"),
    "threshold counter, 10 misses (Flagger)": ("#8d6a9f", "^"),
    "failure limit 0 (Argo Rollouts)": ("#d9a404", "D"),
    "failure limit 3 (Argo Rollouts)": ("#d9a404", "d"),
    "relative criteria (Keptn)": ("#5b8e7d", "P"),
    "asymptotic confidence sequence (GrowthBook)": ("#2b59c3", "v"),
    "z-test each minute": ("#7a7a7a", "x"),
    "t-test each minute": ("#7a7a7a", "+"),
    SPRT: ("#000000", "*"),
    NOISY_SPRT: ("#000000", "*"),
}
_CURVES = (
    ROLLGATE,
    SPRT,
    NOISY_SPRT,
    "Mann-Whitney judge (Kayenta)",
    "asymptotic confidence sequence (GrowthBook)",
    "t-test each minute",
)


def write(results: Sequence[Result], folder: Path) -> list[Path]:
    """Draw what the results allow; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[Path] = []
    for name, draw in (
        ("false-rollback.png", _false_rollbacks),
        ("detection.png", _detections),
        ("bake.png", _bakes),
        ("blocks.png", _blocks),
    ):
        figure = draw(results)
        if figure is not None:
            figure.savefig(folder / name, dpi=110)
            drawn.append(folder / name)
    return drawn


def _good(results: Sequence[Result], prefix: str) -> list[Result]:
    return [result for result in results if result.cell.name.startswith(prefix) and result.tallies]


def _false_rollbacks(results: Sequence[Result]) -> Axes | None:
    """Draw how often each rule rolls a good candidate back, by scenario."""
    good = _good(results, "good.")
    if not good:
        return None
    rules = [rule for rule in _STYLES if any(rule in result.tallies for result in good)]
    figure, axes = _new((11.5, 1.9 + 0.5 * len(good)))
    for row, result in enumerate(good):
        axes.axhspan(row - 0.5, row + 0.5, color="0.96" if row % 2 else "1.0", zorder=0)
        for place, rule in enumerate(rules):
            if rule in result.tallies:
                aside = 0.0 if rule == ROLLGATE else 0.7 * (place / len(rules) - 0.5)
                label = rule if row == 0 else ""
                _dot(axes, result, rule, row + aside, label=label)
    axes.set_yticks(range(len(good)), [_label(result.cell) for result in good])
    axes.set_ylim(len(good) - 0.5, -0.5)
    _share_axis(axes, "good candidates rolled back within the hour (log scale; at the left edge: none seen)")
    axes.axvline(0.01, color=_OURS, linestyle="--", linewidth=1, label="rollgate's bar, 1 %")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8, frameon=False)
    axes.set_title("A release as good as its baseline: 12 metrics, a look every 15 s", loc="left")
    return figure


def _blocks(results: Sequence[Result]) -> Axes | None:
    """Draw the false rollbacks without calibration: by blocks, on the ramp and at half the traffic."""
    kinds = {"blocks.": ("on the ramp", "o", -0.16), "blocks-even.": ("at half the traffic", "s", 0.16)}
    found = {prefix: _good(results, prefix) for prefix in kinds}
    names = list(dict.fromkeys(result.cell.title for group in found.values() for result in group))
    if not names:
        return None
    figure, axes = _new((9, 1.6 + 0.3 * len(names)))
    for prefix, (label, marker, aside) in kinds.items():
        for result in found[prefix]:
            _dot(axes, result, ROLLGATE, names.index(result.cell.title) + aside, marker=marker, label=label)
    limits = {result.cell.title for result in found["blocks-even."] if result.cell.standing is Standing.LIMIT}
    axes.set_yticks(range(len(names)), [name + "  (limit)" * (name in limits) for name in names])
    axes.invert_yaxis()
    _share_axis(axes, "good candidates rolled back within the hour (log scale; at the left edge: none seen)")
    axes.set_xlim(_FLOOR * 0.85, 1.0)
    axes.axvline(0.01, color=_OURS, linestyle="--", linewidth=1, label="the bar, 1 %")
    axes.legend(*_unique(axes), loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8, frameon=False)
    axes.set_title("Without calibration, by blocks of 5 minutes", loc="left")
    return figure


def _dot(axes: Axes, result: Result, rule: str, row: float, *, marker: str = "", label: str = "") -> None:
    tally = result.tallies[rule]
    low, high = tally.share_bounds()
    colour, usual = _STYLES[rule]
    share = max(tally.share, _FLOOR)
    ours = rule == ROLLGATE
    if ours:
        axes.plot([max(low, _FLOOR), max(high, _FLOOR)], [row, row], color=colour, linewidth=2, zorder=3)
    axes.plot(
        share, row, marker or usual, color=colour, markersize=7 if ours else 6, zorder=4 if ours else 2,
        label=label or None, markerfacecolor=colour if tally.hits or ours else "none",
    )  # fmt: skip


def _label(cell: Cell) -> str:
    return cell.title + ("" if cell.standing is Standing.SAFETY else "  (limit)")


def _share_axis(axes: Axes, label: str) -> None:
    axes.set_xscale("log")
    axes.set_xlim(_FLOOR * 0.85, 1.3)
    ticks = [_FLOOR, 0.001, 0.01, 0.1, 1.0]
    axes.set_xticks(ticks, ["none", "0.1 %", "1 %", "10 %", "100 %"])
    axes.set_xlabel(label)


def _detections(results: Sequence[Result]) -> Axes | None:
    """Draw the share of bad candidates rolled back against time."""
    rows = ("iid", "ar8", "ar8-wild")
    columns = ("errors-2", "errors-3", "errors-5")
    by_name = {result.cell.name: result for result in results if result.tallies}
    wanted = [[by_name.get(f"{column}.{row}") for column in columns] for row in rows]
    others = [by_name.get(name) for name in ("latency-5.common", "latency-20.ar8", "tail.ar8")]
    if not any(result for line in [*wanted, others] for result in line):
        return None
    figure: Axes = figure_of((13, 13))
    grid = figure.subplots(4, 3, sharey=True)
    for line, group in zip(grid, [*wanted, others], strict=True):
        for axes, result in zip(line, group, strict=True):
            if result is None:
                axes.set_visible(False)
            else:
                _curves(axes, result, _CURVES)
    for line in grid:
        line[0].set_ylabel("rolled back")
    handles, labels = _unique(*(axes for line in grid for axes in line))
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle("Bad candidates found, half the traffic on each arm", x=0.01, ha="left")
    return figure


def _bakes(results: Sequence[Result]) -> Axes | None:
    """Draw promotion: of a good candidate against time, and of one exactly at the margin."""
    bakes, margins = _good(results, "bake-"), _good(results, "margin.")
    if not bakes or not margins:
        return None
    figure: Axes = figure_of((12, 5))
    left, right = figure.subplots(1, 2)
    colours = {"bake-50": "#2b59c3", "bake-200": _OURS, "bake-1000": "#c1440e"}
    for result in bakes:
        times = np.geomspace(0.5, result.cell.layout.intervals * result.cell.minutes, 200)
        reached = result.tallies[ROLLGATE].reached(times / result.cell.minutes)
        noisy = not result.cell.name.endswith("iid")
        colour = colours[result.cell.name.split(".")[0]]
        left.plot(times, reached, color=colour, linestyle="--" if noisy else "-", label=_rate(result.cell))
    left.set_xscale("log")
    left.set_xticks([1, 3, 10, 30, 100, 300], ["1", "3", "10", "30", "100", "300"])
    left.set_xlabel("minutes of bake at half the traffic")
    left.set_ylabel("promoted")
    left.set_title("As good as its baseline: errors shown within +0.5 points", loc="left", fontsize=10)
    left.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    for row, result in enumerate(margins):
        tally = result.tallies[ROLLGATE]
        low, high = tally.share_bounds()
        right.plot([100 * low, 100 * high], [row, row], color=_OURS, linewidth=2)
        right.plot(100 * tally.share, row, "o", color=_OURS)
    right.set_yticks(range(len(margins)), [result.cell.title.split(", ", 1)[1] for result in margins])
    right.invert_yaxis()
    right.set_xlim(0, 10)
    right.axvline(5, color=_OURS, linestyle="--", linewidth=1)
    right.set_xlabel("promoted within 2 hours, %; the bar is at 5 %")
    right.set_title("Exactly at the margin: errors 1.5 % against 1 %", loc="left", fontsize=10)
    return figure


def _rate(cell: Cell) -> str:
    return cell.title.replace(" requests a minute and arm", " a minute and arm").replace(" requests", "")


def _curves(axes: Axes, result: Result, rules: Sequence[str]) -> None:
    end = result.cell.layout.intervals * result.cell.minutes
    steps = np.arange(result.cell.layout.intervals + 1)
    shown = [rule for rule in rules if rule in result.tallies]
    for rule in shown:
        tally = result.tallies[rule]
        colour, _ = _STYLES[rule]
        style = {SPRT: ":", NOISY_SPRT: "--"}.get(rule, "-")
        width = 2.2 if rule == ROLLGATE else 1.2
        axes.plot(steps * scale_of(result.cell), tally.reached(steps), style, color=colour, linewidth=width, label=rule)
    axes.set_title(re.sub(r", \d+ requests a minute and arm", "", result.cell.title), fontsize=9, loc="left")
    slowest = max(result.tallies[rule].at_rank(int(0.98 * result.tallies[rule].runs)) for rule in shown)
    axes.set_xlim(0, min(end, 1.25 * slowest * scale_of(result.cell)))
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("minutes")
    axes.grid(alpha=0.25)


def _new(size: tuple[float, float]) -> tuple[Axes, Axes]:
    figure: Axes = figure_of(size)
    return figure, figure.subplots()


def _unique(*axes: Axes) -> tuple[list[Any], list[str]]:
    """Return each label of the axes once, with its handle."""
    found: dict[str, Any] = {}
    for one in axes:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return list(found.values()), list(found)
