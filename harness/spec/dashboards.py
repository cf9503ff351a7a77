"""A system's dashboards: Grafana's JSON files, their sources and their provisioning in, dashboards with lines out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field

from harness import paths
from harness.model.dashboard import Dashboard, Panel, Place, Query, Step, Variable
from harness.model.errors import SpecError
from harness.planning.time_scale import parse_duration
from harness.spec.document import Document, Key, read_document, shown
from harness.spec.problems import Problems, first, read, suggestion

SOURCES, JSONS = "sources", "dashboards"


class _Loose(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


class _Target(_Loose):
    ref: str = Field(default="", alias="refId")
    expr: str = ""
    legend: str = Field(default="", alias="legendFormat")
    datasource: dict[str, Any] | str | None = None


class _Grid(_Loose):
    h: int = 8
    w: int = 12
    x: int = 0
    y: int = 0


class _StepSpec(_Loose):
    color: str = ""
    value: float | None = None


class _Thresholds(_Loose):
    steps: list[_StepSpec] = Field(default_factory=list[_StepSpec])


class _Mapping(_Loose):
    type: str = ""
    options: dict[str, Any] = Field(default_factory=dict[str, Any])


class _Stacking(_Loose):
    mode: str = "none"


class _Custom(_Loose):
    stacking: _Stacking = _Stacking()


class _Defaults(_Loose):
    unit: str = ""
    thresholds: _Thresholds = _Thresholds()
    mappings: list[_Mapping] = Field(default_factory=list[_Mapping])
    custom: _Custom = _Custom()
    max: float | None = None
    decimals: int | None = None


class _FieldConfig(_Loose):
    defaults: _Defaults = _Defaults()


class _Legend(_Loose):
    shown: bool | None = Field(default=None, alias="showLegend")


class _Options(_Loose):
    legend: _Legend = _Legend()


class _Panel(_Loose):
    id: int = 0
    title: str = ""
    type: str
    description: str = ""
    datasource: dict[str, Any] | str | None = None
    grid: _Grid = Field(default=_Grid(), alias="gridPos")
    interval: str = ""
    field_config: _FieldConfig = Field(default=_FieldConfig(), alias="fieldConfig")
    options: _Options = _Options()
    targets: list[_Target] = Field(default_factory=list[_Target])
    panels: list["_Panel"] = Field(default_factory=list["_Panel"])


class _Variable(_Loose):
    name: str
    type: str
    query: dict[str, Any] | str = ""
    definition: str = ""
    label: str | None = ""
    multi: bool = False
    include_all: bool = Field(default=False, alias="includeAll")
    all_value: str | None = Field(default=None, alias="allValue")
    current: dict[str, Any] = Field(default_factory=dict[str, Any])


class _Templating(_Loose):
    variables: list[_Variable] = Field(default_factory=list[_Variable], alias="list")


class _Dashboard(_Loose):
    uid: str | None = ""
    title: str
    description: str = ""
    tags: list[str] = Field(default_factory=list[str])
    schema_version: int = Field(alias="schemaVersion")
    panels: list[_Panel]
    templating: _Templating = _Templating()


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardFiles:
    """Where a system's dashboards are. `sources` are what the JSON files are made from, none for hand-kept ones."""

    name: str
    root: Path
    jsons: tuple[Path, ...]
    sources: tuple[Path, ...] = ()
    home: Path | None = None

    def made_from(self, source: Path) -> Path:
        """Return the JSON file that a source becomes."""
        return source.parent.parent / JSONS / f"{source.stem}.json"


def find_dashboards(name_or_path: str) -> DashboardFiles:
    """Return the files of a shipped system by name, of a folder, or one JSON file. Raises SpecError."""
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return DashboardFiles(name=path.stem, root=path.parent, jsons=(path,))
    shipped = paths.share_root() / "stack" / "systems" / name_or_path
    root = next((folder for folder in (path, shipped) if name_or_path and folder.is_dir()), None)
    if root is None:
        raise SpecError(
            f"found no system `{name_or_path}`, expected a name, a folder or a dashboard's JSON file",
            mend=suggestion(name_or_path, systems_with_dashboards(), "systems with dashboards"),
        )
    home = root / "grafana" if (root / "grafana").is_dir() else root
    folder = home / JSONS if (home / JSONS).is_dir() else home
    files = DashboardFiles(
        name=root.resolve().name,
        root=root,
        jsons=tuple(sorted(folder.glob("*.json"))),
        sources=tuple(sorted((home / SOURCES).glob("*.yaml"))),
        home=home,
    )
    if not files.jsons and not files.sources:
        raise SpecError("found no dashboards", where=shown(root), mend="put them into grafana/dashboards/*.json")
    return files


def systems_with_dashboards() -> list[str]:
    """Return the names of the shipped systems that have dashboards."""
    found = (paths.share_root() / "stack" / "systems").glob(f"*/grafana/{JSONS}/*.json")
    return sorted({item.parent.parent.parent.name for item in found})


def load_dashboard(path: Path) -> Dashboard:
    """Read one of Grafana's JSON files. Raises SpecError, the first of what is wrong with its form."""
    try:
        document, spec = read(path, _Dashboard)
    except Problems as problems:
        raise first(problems.errors) from None
    panels: list[Panel] = []
    for index, item in enumerate(spec.panels):
        at: Key = ("panels", index)
        panels.append(_panel(document, item, at))
        panels += [_panel(document, inner, (*at, "panels", n)) for n, inner in enumerate(item.panels)]
    variables = [_variable(document, item, n) for n, item in enumerate(spec.templating.variables)]
    return Dashboard(
        uid=spec.uid or "",
        title=spec.title,
        file=shown(path),
        panels=tuple(panels),
        variables=tuple(variables),
        description=spec.description,
        tags=tuple(spec.tags),
        schema=spec.schema_version,
        lines={key: document.lines.get((key,), 1) for key in ("", "uid", "title", "schemaVersion", "panels")},
    )


def provisioned(home: Path) -> Mapping[str, tuple[Document, Sequence[Mapping[str, Any]]]]:
    """Return what Grafana is provisioned with, "datasources" and "providers", with a file of each. Raises SpecError."""
    found: dict[str, tuple[Document, Sequence[Mapping[str, Any]]]] = {}
    for folder, key in (("datasources", "datasources"), ("dashboards", "providers")):
        for path in sorted((home / "provisioning" / folder).glob("*.y*ml")):
            document = read_document(path)
            items = cast("dict[str, Any]", document.data).get(key)
            if not isinstance(items, list):
                raise document.problem((key,), "missing, expected a list", mend=f"write `{key}:` with its entries")
            before = found.get(key, (document, []))[1]
            found[key] = (document, [*before, *cast("list[dict[str, Any]]", items)])
    return found


def _panel(document: Document, spec: _Panel, at: Key) -> Panel:
    defaults, whole = spec.field_config.defaults, _uid(spec.datasource)
    legend = spec.options.legend.shown
    return Panel(
        id=spec.id,
        title=spec.title,
        kind=spec.type,
        description=spec.description,
        unit=defaults.unit,
        queries=tuple(_query(document, item, (*at, "targets", n), whole) for n, item in enumerate(spec.targets)),
        steps=tuple(Step(step.value, step.color) for step in defaults.thresholds.steps),
        interval_s=_interval(document, spec.interval, at),
        legend_shown=spec.type != "timeseries" if legend is None else legend,
        datasource=whole,
        place=Place(x=spec.grid.x, y=spec.grid.y, width=spec.grid.w, height=spec.grid.h),
        stacked=defaults.custom.stacking.mode == "normal",
        maximum=defaults.max,
        decimals=defaults.decimals,
        words=tuple(
            (key, str(cast("dict[str, Any]", shown_as).get("text", "")))
            for mapping in defaults.mappings
            if mapping.type == "value"
            for key, shown_as in mapping.options.items()
        ),
        lines=_lines(document, at),
    )


def _query(document: Document, spec: _Target, at: Key, whole: str) -> Query:
    line = document.lines.get((*at, "expr"), document.lines.get(at, 1))
    return Query(ref=spec.ref, expr=spec.expr, legend=spec.legend, datasource=_uid(spec.datasource) or whole, line=line)


def _lines(document: Document, at: Key) -> dict[str, int]:
    places: dict[str, Key] = {
        "": at,
        **{key: (*at, key) for key in ("id", "title", "type", "description", "datasource", "gridPos", "interval")},
        "unit": (*at, "fieldConfig", "defaults", "unit"),
        "thresholds": (*at, "fieldConfig", "defaults", "thresholds"),
        "legend": (*at, "options", "legend"),
    }
    return {name: document.lines.get(key, document.lines.get(at, 1)) for name, key in places.items()}


def _interval(document: Document, text: str, at: Key) -> float:
    text = text.lstrip(">")
    if not text or text.startswith("$"):
        return 0.0
    try:
        return parse_duration(text)
    except ValueError as error:
        raise document.problem((*at, "interval"), str(error), mend='write a duration like "30s"') from None


def _uid(datasource: dict[str, Any] | str | None) -> str:
    return datasource if isinstance(datasource, str) else str((datasource or {}).get("uid") or "")


def _variable(document: Document, spec: _Variable, number: int) -> Variable:
    query = spec.query if isinstance(spec.query, str) else str(spec.query.get("query", ""))
    value = spec.current.get("value")
    return Variable(
        name=spec.name,
        kind=spec.type,
        query=query or spec.definition,
        label=spec.label or "",
        many=spec.multi or spec.include_all,
        all_value=spec.all_value or "",
        current=str(value) if isinstance(value, str | int | float) and value != "$__all" else "",
        line=document.lines.get(("templating", "list", number), 1),
    )
