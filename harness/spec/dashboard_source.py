"""What a person writes of a dashboard: titles, queries, units. Numbering, places, limits and JSON are `generate`'s."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from harness.model.dashboard import Dashboard, Panel, Place, Query, Variable
from harness.spec.document import shown
from harness.spec.problems import Problems, first, read

_COLUMNS = 24
_SIZES = {"stat": (6, 5), "timeseries": (12, 8)}


def _text(value: object) -> object:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else value


Text = Annotated[str, BeforeValidator(_text)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Query(_Strict):
    expr: str
    legend: str


class _Panel(_Strict):
    title: str
    description: str
    unit: str
    kind: Literal["timeseries", "stat"] = "timeseries"
    queries: list[_Query] = Field(min_length=1)
    width: int | None = Field(default=None, ge=2, le=_COLUMNS)
    height: int | None = Field(default=None, ge=2, le=24)
    stacked: bool = False
    maximum: float | None = None
    decimals: int | None = None
    words: dict[str, str] = Field(default_factory=dict[str, str])


class _Row(_Strict):
    title: str
    panels: list[_Panel] = Field(min_length=1)


class _Variable(_Strict):
    label: str
    values: str = ""
    default: Text = ""


class _Source(_Strict):
    uid: str
    title: str
    description: str
    requirement: str = ""
    tags: list[str] = Field(default_factory=list[str])
    variables: dict[str, _Variable] = Field(default_factory=dict[str, _Variable])
    rows: list[_Row] = Field(min_length=1)


def load_source(path: Path) -> Dashboard:
    """Read one source file; panels get ids and places, no limits yet. Raises SpecError."""
    try:
        _, spec = read(path, _Source)
    except Problems as problems:
        raise first(problems.errors) from None
    return Dashboard(
        uid=spec.uid,
        title=spec.title,
        file=shown(path),
        panels=tuple(_placed(spec.rows)),
        variables=(
            Variable(name="datasource", kind="datasource", query="prometheus", label="Data source"),
            *(_variable(name, item) for name, item in spec.variables.items()),
        ),
        description=spec.description,
        tags=tuple(spec.tags),
        requirement=spec.requirement,
    )


def _variable(name: str, spec: _Variable) -> Variable:
    if spec.values:
        return Variable(name=name, kind="query", query=spec.values, label=spec.label, many=True, all_value=".*")
    return Variable(name=name, kind="textbox", query=spec.default, label=spec.label, current=spec.default)


def _placed(rows: list[_Row]) -> list[Panel]:
    """Number the panels and lay them out from left to right, a row under another."""
    panels: list[Panel] = []
    y = 0
    for row in rows:
        place = Place(x=0, y=y, width=_COLUMNS, height=1)
        panels.append(Panel(id=len(panels) + 1, title=row.title, kind="row", place=place))
        x, y, deepest = 0, y + 1, 0
        for spec in row.panels:
            usual = _SIZES[spec.kind]
            width, height = spec.width or usual[0], spec.height or usual[1]
            if x + width > _COLUMNS:
                x, y, deepest = 0, y + deepest, 0
            panels.append(_panel(spec, len(panels) + 1, Place(x=x, y=y, width=width, height=height)))
            x, deepest = x + width, max(deepest, height)
        y += deepest
    return panels


def _panel(spec: _Panel, number: int, place: Place) -> Panel:
    return Panel(
        id=number,
        title=spec.title,
        kind=spec.kind,
        description=" ".join(spec.description.split()),
        unit=spec.unit,
        queries=tuple(
            Query(ref=chr(ord("A") + n), expr=" ".join(query.expr.split()), legend=query.legend)
            for n, query in enumerate(spec.queries)
        ),
        place=place,
        stacked=spec.stacked,
        maximum=spec.maximum,
        decimals=spec.decimals,
        words=tuple(spec.words.items()),
    )
