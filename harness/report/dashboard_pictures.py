"""A dashboard as a picture: its own queries, units and limits, drawn without Grafana, and saying so."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.model.dashboard import Answer, Dashboard, Line, Panel, Step
from harness.model.errors import EnvironmentProblem
from harness.report.canvas import figure
from harness.report.quantities import BINARY, binary_ticks, quantity

Axes = Any  # matplotlib's own types leave too much unknown

_COLUMNS, _WIDTH_IN, _ROW_IN, _HEAD_IN, _FOOT_IN = 24, 18.0, 0.34, 1.0, 0.45
_GAP_IN = 0.12
_COLOURS: Mapping[str, str] = {"green": "#2e8b57", "blue": "#3274d9", "orange": "#e0752d", "red": "#c4162a"}
_INK, _PALE, _PAPER, _CARD = "#1f2329", "#6b7280", "#f4f5f5", "#ffffff"
_PALETTE = (
    "#1f60c4", "#e0752d", "#37872d", "#8f3bb8", "#c4162a", "#0d9aa6", "#b877d9", "#6d5f13", "#f2495c", "#5d6470",
    "#a16207", "#0f766e", "#9d174d", "#4338ca", "#65a30d", "#7c2d12",
)  # fmt: skip
_MOST_ROWS = 4
_LIMIT_REACH = 4.0  # a limit this many times above the data is told, not drawn: it would press the data flat
_STATS_A_ROW = 6
_WRAP = 12.0  # letters to an inch of small print


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """What the picture says of itself."""

    system: str
    prometheus: str
    range_s: float


def drawn(dashboard: Dashboard, answers: Mapping[int, Sequence[Answer]], said: Caption, folder: Path) -> Path:
    """Write `folder`/UID.png: `answers` are those to each panel's queries by its id. Raises EnvironmentProblem."""
    rows = max((p.place.y + p.place.height for p in dashboard.panels), default=1)
    height = _HEAD_IN + rows * _ROW_IN + _FOOT_IN
    canvas = figure((_WIDTH_IN, height))
    canvas.set_layout_engine("none")
    canvas.set_facecolor(_PAPER)
    canvas.text(0.25 / _WIDTH_IN, 1 - 0.42 / height, dashboard.title, size=20, weight="bold", color=_INK)
    canvas.text(0.25 / _WIDTH_IN, 1 - 0.75 / height, dashboard.description, size=11, color=_PALE)
    newest = max((line.points[-1][0] for all_ in answers.values() for a in all_ for line in a.lines), default=0.0)
    span = f"{quantity('s', said.range_s)} before {datetime.fromtimestamp(newest, UTC):%F %T} UTC"
    foot = (
        "Drawn by rollgate from the dashboard's own queries, not by Grafana. "
        f"System {said.system}, Prometheus {said.prometheus}, the last {span}."
    )
    canvas.text(0.25 / _WIDTH_IN, 0.16 / height, foot, size=10, color=_PALE)
    for panel in dashboard.panels:
        _panel(_Sheet(canvas, height, (newest - said.range_s, newest)), panel, answers.get(panel.id, ()))
    path = folder / f"{dashboard.uid}.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        canvas.savefig(path, dpi=90, facecolor=_PAPER, metadata={"Software": "rollgate"})
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}"
        raise EnvironmentProblem(msg, mend="name another folder with --out") from error
    return path


@dataclass(frozen=True, slots=True)
class _Sheet:
    """The whole picture: a matplotlib figure, its height in inches, the moments shown."""

    canvas: Any
    height: float
    span: tuple[float, float]

    def axes(self, left: float, top: float, width: float, deep: float) -> Axes:
        """Return axes at a place, in inches from the top left corner."""
        return self.canvas.add_axes(
            (left / _WIDTH_IN, 1 - (top + deep) / self.height, width / _WIDTH_IN, deep / self.height)
        )


def _panel(sheet: _Sheet, panel: Panel, answers: Sequence[Answer]) -> None:
    column = (_WIDTH_IN - 0.3) / _COLUMNS
    left, width = 0.15 + panel.place.x * column, panel.place.width * column
    top = _HEAD_IN + panel.place.y * _ROW_IN
    deep = panel.place.height * _ROW_IN
    if panel.kind == "row":
        place = ((left + 0.1) / _WIDTH_IN, 1 - (top + 0.25) / sheet.height)
        sheet.canvas.text(*place, panel.title, size=13, weight="bold", color=_INK)
        return
    left, top, width, deep = left + _GAP_IN / 2, top + _GAP_IN / 2, width - _GAP_IN, deep - _GAP_IN
    card = sheet.axes(left, top, width, deep)
    card.set_facecolor(_CARD)
    card.set_xticks([])
    card.set_yticks([])
    for side in card.spines.values():
        side.set_color("#d8d9da")
    card.text(0.1 / width, 1 - 0.1 / deep, panel.title, va="top", size=11, weight="bold", color=_INK)
    lines = [line for answer in answers for line in answer.lines]
    if not lines:
        reasons = list(dict.fromkeys(a.reason for a in answers))
        words = "not applicable" if all(a.status == "not_applicable" for a in answers) else "no data"
        text = "\n".join([words, *(_wrapped(reason, width * _WRAP) for reason in reasons)])
        card.text(0.5, 0.45, text, ha="center", va="center", size=9.5, color=_PALE)
    elif panel.kind == "stat":
        _stat(card, panel, lines)
    else:
        columns, rows = _table(panel, lines, width - 0.3)
        plot = sheet.axes(left + 0.75, top + 0.4, width - 0.95, deep - 0.8 - 0.17 * rows)
        _timeseries(plot, panel, lines, sheet.span)
        _legend(card, plot, columns, columns * rows, 0.2 / width)
        far = _far(panel, lines)
        if far:
            told = f"▲ limits far above: {', '.join(quantity(panel.unit, value) for value in far)}"
            card.text(1 - 0.1 / width, 1 - 0.12 / deep, told, va="top", ha="right", size=8, color=_COLOURS["red"])
        spared = [a.reason for a in answers if a.status == "not_applicable"]
        if spared:
            card.text(0.99, 0.02, f"in part not applicable: {spared[0]}", ha="right", size=7.5, color=_PALE)


def _stat(card: Axes, panel: Panel, lines: Sequence[Line]) -> None:
    across = min(_STATS_A_ROW, len(lines)) if panel.place.width > _STATS_A_ROW else min(3, len(lines))
    down = -(-len(lines) // across)
    words = dict(panel.words)
    for number, line in enumerate(lines):
        value = line.points[-1][1]
        x = (number % across + 0.5) / across
        y = 0.8 - (number // across + 0.5) / down * 0.78
        text = words.get(f"{value:g}", quantity(panel.unit, value, panel.decimals))
        ink = _COLOURS.get(_colour(panel.steps, value), _INK) if len(panel.steps) > 1 else _INK
        size = 17 if down == 1 else 12
        card.text(x, y, text, ha="center", va="center", size=size, weight="bold", color=ink)
        card.text(x, y - (0.22 if down == 1 else 0.14), line.name, ha="center", va="center", size=8.5, color=_PALE)


def _timeseries(plot: Axes, panel: Panel, lines: Sequence[Line], span: tuple[float, float]) -> None:
    plot.set_facecolor(_CARD)
    if panel.stacked:
        _stack(plot, lines, span[0])
    else:
        for number, line in enumerate(lines):
            x, y = [at - span[0] for at, _ in line.points], [value for _, value in line.points]
            plot.plot(x, y, color=_PALETTE[number % len(_PALETTE)], linewidth=1.3, label=_label(panel, line),
                      marker="." if len(x) == 1 else None)  # fmt: skip
    values = [value for line in lines for _, value in line.points]
    for value, colour in _bad(panel):
        if value <= _reach(panel, lines):
            plot.axhline(value, color=_COLOURS.get(colour, _PALE), linewidth=1.2, linestyle="--")
    if panel.maximum is not None:
        plot.set_ylim(0, panel.maximum * 1.04)
    elif min(values) >= 0:
        plot.set_ylim(bottom=0)
    plot.set_xlim(0, span[1] - span[0])
    _axes(plot, panel.unit, span[0])


def _bad(panel: Panel) -> list[tuple[float, str]]:
    return [(step.value, step.colour) for step in panel.steps if step.value is not None and step.colour != "green"]


def _reach(panel: Panel, lines: Sequence[Line]) -> float:
    """Return up to where limits are drawn: the scale's end, a few times the data, or anywhere where all is 0."""
    top = max(value for line in lines for _, value in line.points)
    return panel.maximum or (top * _LIMIT_REACH if top > 0 else math.inf)


def _far(panel: Panel, lines: Sequence[Line]) -> list[float]:
    return [value for value, _ in _bad(panel) if value > _reach(panel, lines)]


def _axes(plot: Axes, unit: str, origin: float) -> None:
    def in_unit(value: float, _: int) -> str:
        return quantity(unit, value)

    def moment(value: float, _: int) -> str:
        return datetime.fromtimestamp(origin + value, UTC).strftime("%H:%M:%S")

    plot.yaxis.set_major_formatter(in_unit)
    plot.xaxis.set_major_formatter(moment)
    plot.locator_params(axis="x", nbins=5)
    plot.locator_params(axis="y", nbins=5)
    if unit in BINARY:
        plot.set_yticks(binary_ticks(plot.get_ylim()[1]))
    plot.tick_params(labelsize=8, colors=_PALE, length=2)
    plot.grid(visible=True, color="#e5e7eb", linewidth=0.6)
    for side in plot.spines.values():
        side.set_visible(False)


def _stack(plot: Axes, lines: Sequence[Line], origin: float) -> None:
    moments = sorted({at for line in lines for at, _ in line.points})
    series = [dict(line.points) for line in lines]
    heights = [[found.get(at, 0.0) for at in moments] for found in series]
    plot.stackplot([at - origin for at in moments], *heights, labels=[line.name for line in lines], alpha=0.55,
                   colors=[_PALETTE[n % len(_PALETTE)] for n in range(len(lines))])  # fmt: skip


def _table(panel: Panel, lines: Sequence[Line], width: float) -> tuple[int, int]:
    """Return the columns and rows of a legend in `width` inches; what does not fit is counted in its last place."""
    longest = max(len(line.name if panel.stacked else _label(panel, line)) for line in lines)
    columns = max(1, min(6, int(width / (0.072 * longest + 0.35)), len(lines)))
    return columns, min(_MOST_ROWS, -(-len(lines) // columns))


def _legend(card: Axes, plot: Axes, columns: int, most: int, left: float) -> None:
    handles, names = plot.get_legend_handles_labels()
    if len(names) > most:
        handles, names = handles[:most], [*names[: most - 1], f"and {len(names) - most + 1} more"]
    card.legend(handles, names, loc="lower left", bbox_to_anchor=(left, 0.01), ncols=columns, frameon=False, fontsize=8,
                labelcolor=_INK, handlelength=1.2, borderaxespad=0, columnspacing=1.4, labelspacing=0.3)  # fmt: skip


def _label(panel: Panel, line: Line) -> str:
    return f"{line.name}: {quantity(panel.unit, line.points[-1][1], panel.decimals)}"


def _colour(steps: Sequence[Step], value: float) -> str:
    reached = [step.colour for step in steps if step.value is None or step.value <= value]
    return reached[-1] if reached else "green"


def _wrapped(text: str, most: float) -> str:
    lines: list[str] = []
    now = ""
    for word in text.split():
        if len(now) + len(word) > most and now:
            lines.append(now)
            now = ""
        now += f"{' ' if now else ''}{word}"
    return "\n".join([*lines, now])
