"""From a dashboard's source to the JSON that Grafana loads: limits and least steps are filled in here."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.model.dashboard import DATASOURCE, Dashboard, Panel, Query, Variable
from harness.model.rule import Job
from harness.planning.dashboards.limits import Limit, bounding, steps_of
from harness.planning.dashboards.queries import ANY, Windows, substituted
from harness.planning.promql.parse import PromqlError, parse
from harness.planning.promql.syntax import selectors
from harness.planning.rules.catalogue import Catalogue
from harness.planning.time_scale import format_duration

SCHEMA_VERSION = 39  # Grafana 11 and 12 read it as it is
_PROMETHEUS = {"type": "prometheus", "uid": DATASOURCE}


def completed(
    source: Dashboard, limits: Sequence[Limit], catalogue: Catalogue, jobs: Sequence[Job], scrape_s: float
) -> Dashboard:
    """Return a source with each panel's thresholds, their origin in its description, and its least step.

    `scrape_s` is the scrape interval that Grafana takes for the data source: a panel of a job that is scraped less
    often needs a least step of its own, or $__rate_interval holds too few scrapes.
    """
    panels: list[Panel] = []
    for panel in source.panels:
        expressions = [asked(query, source.variables) for query in panel.queries]
        bounds = bounding(expressions, limits)
        slowest = slowest_job_s(expressions, catalogue, jobs)
        told = panel.description
        if bounds:
            told += f" Limits: {'; '.join(dict.fromkeys(limit.words(factor) for limit, factor in bounds))}."
        interval = slowest if slowest > scrape_s else 0.0
        panels.append(replace(panel, description=told, steps=steps_of(bounds), interval_s=interval))
    return replace(source, panels=tuple(panels), schema=SCHEMA_VERSION)


def asked(query: Query, variables: Sequence[Variable], windows: Windows | None = None) -> str:
    """Return a query as Prometheus is asked it when the dashboard is opened."""
    values = {v.name: (v.all_value or v.current or ANY) if v.kind == "query" else v.current for v in variables}
    return substituted(query.expr, values, windows or Windows())


def slowest_job_s(expressions: Sequence[str], catalogue: Catalogue, jobs: Sequence[Job]) -> float:
    """Return the longest scrape interval of the jobs whose series a panel shows, 0 where none is known."""
    intervals = {job.name: job.interval_s for job in jobs}
    found = [0.0]
    for text in expressions:
        try:
            taken = selectors(parse(text))
        except PromqlError:
            continue
        found += [intervals[job] for item in taken for job in catalogue.jobs(item) if job in intervals]
    return max(found)


def text_of(dashboard: Dashboard) -> str:
    """Return the file that Grafana loads."""
    return json.dumps(_data(dashboard), indent=1, ensure_ascii=False) + "\n"


def _data(dashboard: Dashboard) -> dict[str, Any]:
    tag = dashboard.tags[0] if dashboard.tags else ""
    links = [
        {
            "title": "Dashboards of this system",
            "type": "dashboards",
            "tags": [tag],
            "asDropdown": True,
            "includeVars": True,
            "keepTime": True,
        }
    ]
    return {
        "id": None,
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": list(dashboard.tags),
        "schemaVersion": dashboard.schema,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": links if tag else [],
        "templating": {"list": [_variable(item) for item in dashboard.variables]},
        "panels": [_panel(panel) for panel in dashboard.panels],
    }


def _variable(variable: Variable) -> dict[str, Any]:
    common: dict[str, Any] = {"name": variable.name, "label": variable.label, "type": variable.kind, "hide": 0}
    if variable.kind == "datasource":
        return {**common, "query": variable.query, "refresh": 1, "regex": "", "multi": False, "includeAll": False}
    if variable.kind == "textbox":
        chosen = {"selected": True, "text": variable.current, "value": variable.current}
        return {**common, "query": variable.query, "current": chosen, "options": [chosen]}
    return {
        **common,
        "datasource": _PROMETHEUS,
        "definition": variable.query,
        "query": {"query": variable.query, "refId": variable.name},
        "refresh": 2,
        "regex": "",
        "sort": 1,
        "multi": variable.many,
        "includeAll": variable.many,
        "allValue": variable.all_value,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
    }


def _panel(panel: Panel) -> dict[str, Any]:
    place = {"h": panel.place.height, "w": panel.place.width, "x": panel.place.x, "y": panel.place.y}
    if panel.kind == "row":
        return {"id": panel.id, "type": "row", "title": panel.title, "collapsed": False, "gridPos": place, "panels": []}
    return {
        "id": panel.id,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _PROMETHEUS,
        "gridPos": place,
        **({"interval": format_duration(panel.interval_s)} if panel.interval_s else {}),
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _stat_options(panel) if panel.kind == "stat" else _TIMESERIES_OPTIONS,
        "targets": [_target(query) for query in panel.queries],
    }


def _target(query: Query) -> dict[str, Any]:
    return {
        "refId": query.ref,
        "datasource": _PROMETHEUS,
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": query.legend,
        "range": True,
        "instant": False,
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps = [{"color": step.colour, "value": step.value} for step in panel.steps]
    coloured = panel.kind == "stat"
    found: dict[str, Any] = {
        "unit": panel.unit,
        "color": {"mode": "thresholds" if coloured else "palette-classic"},
        "thresholds": {"mode": "absolute", "steps": steps},
        "mappings": _mappings(panel.words),
    }
    if panel.decimals is not None:
        found["decimals"] = panel.decimals
    if panel.maximum is not None:
        found |= {"min": 0, "max": panel.maximum}
    if not coloured:
        found["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 30 if panel.stacked else 8,
            "showPoints": "never",
            "spanNulls": False,
            "axisSoftMin": 0,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if len(panel.steps) > 1 else "off"},
        }
    return found


def _mappings(words: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    options = {value: {"index": n, "text": text} for n, (value, text) in enumerate(words)}
    return [{"type": "value", "options": options}] if options else []


def _stat_options(panel: Panel) -> dict[str, Any]:
    return {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "background" if len(panel.steps) > 1 else "value",
        "graphMode": "none" if panel.words else "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "value_and_name",
        "wideLayout": True,
    }


_TIMESERIES_OPTIONS: Mapping[str, Any] = {
    "legend": {
        "displayMode": "table",
        "placement": "bottom",
        "showLegend": True,
        "calcs": ["lastNotNull", "max"],
    },
    "tooltip": {"mode": "multi", "sort": "desc"},
}
