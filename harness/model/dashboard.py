"""Dashboards as Grafana's files state them: panels, queries, thresholds, variables."""

from collections.abc import Mapping
from dataclasses import dataclass, field

DATASOURCE = "${datasource}"


@dataclass(frozen=True, slots=True)
class Step:
    """From `value` on (None: from the bottom) a panel shows `colour`."""

    value: float | None
    colour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One query of a panel. `legend` is the template of a series' name, `datasource` the uid as the file has it."""

    ref: str
    expr: str
    legend: str = ""
    datasource: str = DATASOURCE
    line: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a panel is, in Grafana's grid: 24 columns, rows of about 30 pixels."""

    x: int = 0
    y: int = 0
    width: int = 12
    height: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel; a `kind` of "row" is a heading. `interval_s` is the least step, 0 where none is set.

    `words` are what numbers are shown as, `maximum` the end of the scale. `lines` maps a key ("title", "unit", ...)
    to its line.
    """

    id: int
    title: str
    kind: str
    description: str = ""
    unit: str = ""
    queries: tuple[Query, ...] = ()
    steps: tuple[Step, ...] = ()
    interval_s: float = 0.0
    legend_shown: bool = True
    datasource: str = DATASOURCE
    place: Place = Place()
    stacked: bool = False
    maximum: float | None = None
    decimals: int | None = None
    words: tuple[tuple[str, str], ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A template variable. `kind` is "query", "datasource", "textbox", ...; `query` its query or its default."""

    name: str
    kind: str
    query: str = ""
    label: str = ""
    many: bool = False
    all_value: str = ""
    current: str = ""
    line: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One dashboard with its file. `requirement` is the id it answers, "" for none."""

    uid: str
    title: str
    file: str
    panels: tuple[Panel, ...]
    variables: tuple[Variable, ...] = ()
    description: str = ""
    tags: tuple[str, ...] = ()
    schema: int = 0
    requirement: str = ""
    lines: Mapping[str, int] = field(default_factory=dict[str, int])

    def where(self, panel: Panel | None = None, key: str = "") -> str:
        """Return "file:line" of a panel's key, or of the dashboard's own."""
        lines = panel.lines if panel else self.lines
        return f"{self.file}:{lines.get(key, lines.get('', 1))}"

    @property
    def shown(self) -> tuple[Panel, ...]:
        """The panels that show something."""
        return tuple(panel for panel in self.panels if panel.kind not in {"row", "text"})


@dataclass(frozen=True, slots=True)
class Line:
    """One series of a panel: its name, and its points (seconds since the epoch, value) in order."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a running Prometheus gives to one query.

    `status` is "data", "empty", "undefined" (only NaN), "refused" (an error) or "not_applicable" (the stack has no such
    part); `reason` says why.
    """

    ref: str
    status: str
    reason: str = ""
    lines: tuple[Line, ...] = ()
