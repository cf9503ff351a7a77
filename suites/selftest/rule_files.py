"""Rule files for the tests of `rollgate rules`: one good rule, its scrapes, and ways to break it."""

from pathlib import Path

from harness.model.rule import Monitoring
from harness.spec.monitoring import find_monitoring, load_monitoring

CONFIG = """\
global: {scrape_interval: 15s, evaluation_interval: 15s}
scrape_configs:
  - {job_name: app, scrape_interval: 30s, static_configs: [{targets: ["127.0.0.1:1"]}]}
  - {job_name: db, scrape_interval: 15s, static_configs: [{targets: ["127.0.0.1:2"]}]}
"""

GOOD = """\
groups:
  - name: app_alerts
    rules:
      - alert: ErrorsHigh
        expr: |
          sum by (instance) (rate(app_requests_total{outcome="error"}[5m]))
            / sum by (instance) (rate(app_requests_total[5m]))
            > 0.05
            and sum by (instance) (rate(app_requests_total[5m])) > 0.1
        for: 2m
        labels: {severity: warning, component: app}
        annotations:
          summary: '{{ $value }} of the requests to {{ $labels.instance }} fail'
          description: what the summary says
          runbook_url: https://example.org/errors
          detects_within: 7m45s
      - alert: Gone
        expr: up{job="app"} == 0 or absent(up{job="app"}) or (present_over_time(up[5m]) unless up)
        for: 1m
        labels: {severity: critical, component: app}
        annotations: {summary: 'app is gone: {{ $value }}', description: same, runbook_url: https://example.org/gone}
      - alert: DatabaseGone
        expr: absent(up{job="db"})
        for: 1m
        labels: {severity: critical, component: db}
        annotations: {summary: 'db is gone: {{ $value }}', description: same, runbook_url: https://example.org/gone}
"""

BOUNDS = ("0.1", "1.0", "5.0", "10.0", "+Inf")


def _histogram(name: str, labels: str) -> list[str]:
    return [f"# TYPE {name} histogram", *(f'{name}_bucket{{{labels},le="{le}"}} 1' for le in BOUNDS)]


APP = "\n".join(
    [
        "# recorded for a test",
        "# TYPE app_requests_total counter",
        'app_requests_total{instance="app-1",job="app",outcome="error"} 0',
        'app_requests_total{instance="app-1",job="app",outcome="ok"} 9',
        *_histogram("app_seconds", 'instance="app-1",job="app"'),
        'app_seconds_count{instance="app-1",job="app"} 1',
        "# TYPE app_queue gauge",
        'app_queue{instance="app-1",job="app"} 3',
        'up{instance="app-1",job="app"} 1',
    ]
)
DB = """\
# recorded for a test
# TYPE redis_connected_clients gauge
redis_connected_clients{instance="db-1",job="db"} 3
redis_config_maxclients{instance="db-1",job="db"} 10000
# TYPE redis_memory_used_bytes gauge
redis_memory_used_bytes{instance="db-1",job="db"} 1e6
# TYPE redis_memory_max_bytes gauge
redis_memory_max_bytes{instance="db-1",job="db"} 8e9
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{instance="db-1",job="db",gpu_uuid="0"} 0.4
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{instance="db-1",job="db",gpu="0"} 40
up{instance="db-1",job="db"} 1"""


def system_of(folder: Path, rules: str = GOOD, config: str = CONFIG) -> Path:
    """Write a system's monitoring files below `folder`, and return the rule file."""
    home = folder / "mine" / "prometheus"
    (home / "rules").mkdir(parents=True)
    (home / "scrapes").mkdir()
    (home / "prometheus.yml").write_text(config)
    (home / "scrapes" / "app.prom").write_text(APP + "\n")
    (home / "scrapes" / "db.prom").write_text(DB + "\n")
    path = home / "rules" / "app.yml"
    path.write_text(rules)
    return path


def loaded(path: Path) -> Monitoring:
    """Return what `rollgate rules check` would read of the system that a rule file is in."""
    return load_monitoring(find_monitoring(str(path.parent.parent.parent)))


def alert(expr: str, name: str = "Planted", hold: str = "2m", **annotations: str) -> str:
    """Return a rule file with one alert on `expr`, and the one that watches the jobs."""
    texts = {"summary": "{{ $value }}", "description": "x", "runbook_url": "https://example.org/x", **annotations}
    head = "groups:\n  - name: planted\n    rules:\n"
    watch = (
        "      - alert: Gone\n"
        '        expr: absent(up{job="app"}) or absent(up{job="db"})\n'
        "        for: 1m\n"
        "        labels: {severity: critical, component: app}\n"
        "        annotations: {summary: 'gone {{ $value }}', description: x, runbook_url: 'https://example.org/x'}\n"
    )
    body = "".join(f"          {line}\n" for line in expr.splitlines())
    notes = "".join(f"          {key}: '{text}'\n" for key, text in texts.items())
    return (
        f"{head}{watch}      - alert: {name}\n        expr: |\n{body}        for: {hold}\n"
        f"        labels: {{severity: warning, component: app}}\n        annotations:\n{notes}"
    )
