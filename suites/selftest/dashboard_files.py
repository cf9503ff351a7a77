"""Dashboards for the tests of `rollgate dashboards`: one good one over the good rules, and ways to break it."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rule_files import GOOD, system_of

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
DATASOURCES = """\
apiVersion: 1
datasources:
  - {name: Prometheus, uid: prom, type: prometheus, url: "http://127.0.0.1:9090", isDefault: true,
     jsonData: {timeInterval: 15s}}
"""
PROVIDERS = "apiVersion: 1\nproviders: [{name: mine, type: file, options: {path: /dashboards}}]\n"
ERRORS = (
    'sum by (instance) (rate(app_requests_total{outcome="error", instance=~"$instance"}[$__rate_interval]))'
    ' / sum by (instance) (rate(app_requests_total{instance=~"$instance"}[$__rate_interval]))'
)


def panel(number: int, title: str, unit: str, expr: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return one whole panel; `steps` are its limits, the rest replaces its keys."""
    steps = [{"color": "green", "value": None}, *more.pop("steps", [])]
    return {
        "id": number,
        "type": "timeseries",
        "title": title,
        "description": "What it shows.",
        "datasource": SOURCE,
        "gridPos": {"h": 8, "w": 12, "x": 0, "y": 8 * number},
        "fieldConfig": {"defaults": {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}}},
        "options": {"legend": {"showLegend": True}},
        "targets": [{"refId": "A", "datasource": SOURCE, "expr": expr, "legendFormat": "{{instance}}"}],
        **more,
    }


def good() -> dict[str, Any]:
    """Return a sound dashboard over rule_files.GOOD: errors with their limit, latency, both jobs."""
    gone = [{"color": "green", "value": 1}]
    up = panel(3, "Up", "none", "up", type="stat")
    up["fieldConfig"]["defaults"]["thresholds"]["steps"] = [{"color": "red", "value": None}, *gone]
    return {
        "uid": "mine-app",
        "title": "App",
        "schemaVersion": 39,
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                {
                    "name": "instance",
                    "type": "query",
                    "query": {"query": 'label_values(up{job="app"}, instance)', "refId": "i"},
                    "multi": True,
                    "includeAll": True,
                    "allValue": ".*",
                },
            ]
        },
        "panels": [
            panel(1, "Errors", "percentunit", ERRORS, interval="30s", steps=[{"color": "orange", "value": 0.05}]),
            panel(
                2,
                "Latency",
                "s",
                "histogram_quantile(0.95, sum by (instance, le) (rate(app_seconds_bucket[$__rate_interval])))",
                interval="30s",
            ),
            up,
        ],
    }


def dashboards_of(folder: Path, change: Callable[[dict[str, Any]], object] = lambda _: None, rules: str = GOOD) -> Path:
    """Write a system with rules, scrapes and the good dashboard after `change`; return the system's folder."""
    root = system_of(folder, rules).parent.parent.parent
    data = copy.deepcopy(good())
    change(data)
    home = root / "grafana"
    for path, text in (
        (home / "dashboards" / "app.json", json.dumps(data, indent=1)),
        (home / "provisioning" / "datasources" / "d.yml", DATASOURCES),
        (home / "provisioning" / "dashboards" / "d.yml", PROVIDERS),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return root
