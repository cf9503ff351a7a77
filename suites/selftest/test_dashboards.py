"""The dashboards that ship show what is required, their limits follow rules and objectives, all is monitored."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest

from harness.model.dashboard import Dashboard
from harness.paths import share_root
from harness.planning.dashboards.build import asked
from harness.planning.dashboards.coverage import coverage
from harness.planning.dashboards.limits import limits_of, quantities
from harness.planning.dashboards.lint import lint, selectors_of
from harness.planning.dashboards.queries import Windows, names_in, substituted
from harness.planning.dashboards.units import misfit
from harness.report.quantities import quantity
from harness.spec.dashboard_source import load_source
from harness.spec.dashboards import load_dashboard, provisioned
from harness.wiring.dashboards import generate_dashboards, monitoring_coverage, systems_with_monitoring
from harness.wiring.dashboards_ground import surroundings

pytestmark = pytest.mark.selftest

HOME = share_root() / "stack" / "systems" / "researchflow"
# What each must show, and a metric without which it does not.
REQUIRED: dict[str, dict[str, str]] = {
    "rf.dash.overview": {
        "service status": "up",
        "request rates": "gateway_requests_total",
        "error rates": "gateway_requests_total",
        "latency": "gateway_request_duration_seconds_bucket",
    },
    "rf.dash.ollama": {
        "memory": "ollama_memory_bytes",
        "token generation": "gen_ai_client_token_usage_sum",
        "load times": "gateway_model_load_seconds_total",
        "GPU utilisation": "gpu_utilization_ratio",
    },
    "rf.dash.triton": {
        "model status": "nv_inference_pending_request_count",
        "latency distribution": "gateway_step_duration_seconds_bucket",
        "GPU metrics": "nv_gpu_utilization",
    },
    "rf.dash.faiss": {
        "search operations": "faiss_requests_total",
        "latency": "faiss_search_duration_seconds_bucket",
        "index size": "faiss_index_size_bytes",
        "disk usage": "faiss_volume_avail_bytes",
    },
    "rf.dash.cost": {
        "GPU hours": "gpu_available",
        "inference costs": "node_load1",
        "efficiency": "process_cpu_seconds_total",
    },
    "rf.dash.infrastructure": {
        "system resources": "node_memory_MemAvailable_bytes",
        "I/O": "node_disk_written_bytes_total",
        "network traffic": "node_network_receive_bytes_total",
    },
}


def shipped() -> dict[str, Dashboard]:
    """Return the shipped dashboards by the id that each answers."""
    about = surroundings("researchflow")
    return {
        load_source(source).requirement: load_dashboard(about.files.made_from(source)) for source in about.files.sources
    }


def lacking(dashboard: Dashboard, required: dict[str, str]) -> list[str]:
    """Return what a dashboard does not show of what it must."""
    names = {
        item.name
        for panel in dashboard.shown
        for query in panel.queries
        for item in selectors_of(asked(query, dashboard.variables))
    }
    return [what for what, metric in required.items() if metric not in names]


@pytest.mark.parametrize("id_", [pytest.param(id_, marks=pytest.mark.covers(id_, level="static")) for id_ in REQUIRED])
def test_a_dashboard_shows_what_is_required(id_: str) -> None:
    """Every required thing, on panels without a fault, chosen by arm and instance; without one panel it is noticed."""
    dashboard = shipped()[id_]
    assert lacking(dashboard, REQUIRED[id_]) == []
    assert {"datasource", "arm", "instance"} <= {variable.name for variable in dashboard.variables}
    about = surroundings("researchflow")
    assert [f for f in lint([dashboard], about.ground) if f.check != "unshown"] == []
    for metric in REQUIRED[id_].values():
        kept = [p for p in dashboard.panels if not any(re.search(rf"\b{metric}\b", q.expr) for q in p.queries)]
        assert lacking(dataclasses.replace(dashboard, panels=tuple(kept)), REQUIRED[id_])


def test_every_alert_is_shown_and_no_uid_stands_twice() -> None:
    """All six together: nothing is wanting; without the one of a component its alerts are named."""
    about, dashboards = surroundings("researchflow"), shipped()
    assert set(dashboards) == set(REQUIRED)
    assert lint(list(dashboards.values()), about.ground) == []
    del dashboards["rf.dash.faiss"]
    named = {f.key for f in lint(list(dashboards.values()), about.ground)}
    assert {"FaissSearchLatencyP99High: expr", "FaissDiskHigh: expr"} <= named


def datasource_faults(home: Path) -> list[str]:
    """Return what is not as rf.dash.datasources requires."""
    found = provisioned(home)
    sources = {str(entry["type"]): entry for entry in found["datasources"][1]}
    said = {
        "prometheus": bool(sources.get("prometheus", {}).get("isDefault")),
        "loki": "loki" in sources and not sources["loki"].get("isDefault"),
        "dashboards": any(entry.get("type") == "file" for entry in found["providers"][1]),
    }
    return [key for key, holds in said.items() if not holds]


@pytest.mark.covers("rf.dash.datasources", level="static")
def test_prometheus_is_primary_and_loki_optional_and_both_are_provisioned(tmp_path: Path) -> None:
    """Prometheus is the default and Loki is not; no panel needs Loki; each taken away is rejected."""
    assert datasource_faults(HOME / "grafana") == []
    assert all("loki" not in query.datasource for d in shipped().values() for p in d.shown for query in p.queries)
    home = tmp_path / "grafana"
    shutil.copytree(HOME / "grafana" / "provisioning", home / "provisioning")
    path = home / "provisioning" / "datasources" / "datasources.yml"
    text = path.read_text()
    for old, new, fault in (
        ("isDefault: true", "isDefault: false", "prometheus"),
        ("type: loki", "type: tempo", "loki"),
    ):
        path.write_text(text.replace(old, new))
        assert datasource_faults(home) == [fault]


def copied(folder: Path) -> Path:
    """Return a copy of the shipped system."""
    return Path(shutil.copytree(HOME, folder / "researchflow"))


DRIFTS = {
    "an alert's threshold": ("prometheus/rules/redis.yml", "> 0.85", "> 0.8", "infrastructure.json", 0.8),
    "a threshold in percent": ("prometheus/rules/redis.yml", "* 100 > 90", "* 100 > 80", "infrastructure.json", 80),
    "an objective": ("objectives.yaml", "threshold: 8000", "threshold: 10000", "overview.json", None),
}  # fmt: skip


@pytest.mark.parametrize("what", DRIFTS)
def test_limits_cannot_drift_from_rules_and_objectives(what: str, tmp_path: Path) -> None:
    """A changed rule or objective alone is rejected by its panel; made anew, the panel has the new limit."""
    place, old, new, file, value = DRIFTS[what]
    root = copied(tmp_path)
    path = root / place
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    about = surroundings(str(root))
    dashboards = [load_dashboard(item) for item in about.files.jsons]
    found = [f for f in lint(dashboards, about.ground) if f.check == "threshold"]
    assert found
    assert all(f"{file}:" in f.where for f in found)
    written = {item.name: item for item in generate_dashboards(str(root))}
    dashboards = [load_dashboard(item) for item in written.values()]
    assert lint(dashboards, about.ground) == []
    assert value is None or any(s.value == value for p in load_dashboard(written[file]).shown for s in p.steps)


def test_the_shipped_files_are_made_of_their_sources(tmp_path: Path) -> None:
    """Byte for byte; and a change by hand of one of them is not what its source says."""
    root = copied(tmp_path)
    made = {path.name: path.read_text() for path in generate_dashboards(str(root))}
    assert made == {path.name: path.read_text() for path in (HOME / "grafana" / "dashboards").glob("*.json")}
    assert len({json.loads(text)["uid"] for text in made.values()}) == len(REQUIRED)


@pytest.mark.covers("ml.slo.monitoring_coverage", level="static")
@pytest.mark.parametrize("system", systems_with_monitoring())
def test_every_service_of_a_system_is_monitored(system: str) -> None:
    """100 % of the services are scraped, and a scrape has every metric that is asked for."""
    _, found = monitoring_coverage(system)
    assert found.findings == ()
    assert found.share == 1.0
    assert found.metrics


@pytest.mark.covers("rf.rollout.metrics", level="static")
def test_what_is_not_scraped_is_named(tmp_path: Path) -> None:
    """A job taken away, an exporter taken away, a metric that no scrape has: each by service or by who asks for it."""
    root = copied(tmp_path)
    config = root / "prometheus" / "prometheus.yml"
    text = config.read_text()
    config.write_text(text.replace("job_name: faiss", "job_name: index"))
    name, found = monitoring_coverage(str(root))
    assert (name, found.share < 1) == ("researchflow", True)
    (finding,) = found.findings
    assert (finding.check, finding.key) == ("unscraped", "services.faiss")
    assert "system.yaml:" in finding.where
    config.write_text(text.replace("job_name: redis", "job_name: store"))
    _, found = monitoring_coverage(str(root))
    assert {f.key for f in found.findings} == {"services.redis", "services.redis_exporter"}
    config.write_text(text)

    about = surroundings(str(root))
    assert about.system is not None
    bare = dataclasses.replace(
        about.ground.monitoring, scrapes=tuple(s for s in about.ground.monitoring.scrapes if s.job != "gateway")
    )
    dashboards = [load_dashboard(item) for item in about.files.jsons]
    blind = coverage(about.system, bare, dashboards, lambda name: f"system.yaml:{name}")
    missing = {f.message.split("`")[1]: f.key for f in blind.findings}
    assert missing["gateway_requests_total"].startswith("objective ")
    assert missing["gateway_quality_score_sum"].startswith("alert ")
    assert missing["gateway_cache_lookups_total"].startswith("panel ")


SAME = {
    "windows and groupings": ("sum by (arm) (rate(x_total[2m]))", 'rate(x_total{arm=~".*"}[1m])'),
    "a guard against 0": ("a / (b > 0)", "sum(a) / sum(b)"),
    "the instant form": ("sum(irate(x_total[1m]))", "rate(x_total[1m])"),
}
OTHER = {
    "a rate and an increase": ("rate(x_total[2m])", "increase(x_total[2m])"),
    "two quantiles": ("histogram_quantile(0.95, x)", "histogram_quantile(0.99, x)"),
    "two outcomes": ('rate(x_total{outcome="ok"}[1m])', 'rate(x_total{outcome="error"}[1m])'),
    "a share and its complement": ("a / b", "1 - a / b"),
    "a count and a sum": ("count(a)", "sum(a)"),
}


@pytest.mark.parametrize("what", [*SAME, *OTHER])
def test_limits_are_of_the_same_quantity_only(what: str) -> None:
    """What only chooses or groups does not matter; what changes the meaning does."""
    one, other = {**SAME, **OTHER}[what]
    assert (quantities(one) == quantities(other)) is (what in SAME)


def test_guards_and_burn_rates_are_no_limits() -> None:
    """The traffic floor after `and` bounds nothing, and a burn rate's factor is its objective's, not its own."""
    about = surroundings("researchflow")
    limits = limits_of(about.ground.monitoring.rules)
    assert [limit for limit in limits if limit.quantity.startswith("rate(gateway_requests_total")] == []
    assert {limit.origin for limit in limits if limit.origin.startswith("BudgetBurn")} == set()
    p95 = [limit for limit in limits if limit.origin == "InferenceLatencyP95High"]
    assert [(limit.op, limit.value) for limit in p95] == [(">", 5.0)]


UNITS = {
    ("s", "histogram_quantile(0.9, rate(x_seconds_bucket[5m]))"): True,
    ("ms", "histogram_quantile(0.9, rate(x_seconds_bucket[5m])) * 1000"): True,
    ("s", "rate(x_seconds_sum[5m]) / rate(x_seconds_count[5m])"): True,
    ("µs", "rate(nv_inference_queue_duration_us[5m]) / rate(nv_inference_request_success[5m])"): True,
    ("s", "rate(nv_inference_queue_duration_us[5m]) / rate(nv_inference_request_success[5m])"): False,
    ("Bps", "rate(x_bytes_total[5m])"): True,
    ("bytes", "rate(x_bytes_total[5m])"): False,
    ("bps", "rate(x_bytes_total[5m]) * 8"): True,
    ("percentunit", "rate(node_cpu_seconds_total[5m])"): True,
    ("percent", "DCGM_FI_DEV_GPU_UTIL"): True,
    ("percentunit", "DCGM_FI_DEV_GPU_UTIL"): False,
    ("short", "gpu_utilization_ratio"): False,
    ("reqps", "rate(x_total[5m])"): True,
    ("reqpm", "rate(x_total[5m]) * 60"): True,
    ("short", "rate(x_total[5m])"): False,
    ("mbytes", "DCGM_FI_DEV_FB_USED"): True,
    ("h", "sum(increase(x_seconds_total[1h])) / 3600"): True,
    ("watt", "x_watts"): True,
    ("watt", "x_celsius"): False,
}


@pytest.mark.parametrize("asked_of", list(UNITS))
def test_a_unit_fits_what_a_query_gives(asked_of: tuple[str, str]) -> None:
    """By the units that names promise, through rates, quantiles, divisions and factors."""
    assert (misfit(*asked_of) == "") is UNITS[asked_of]


def test_macros_and_variables_become_what_prometheus_is_asked() -> None:
    """All the ways to write them; $__rate_interval is four scrapes, or a step and a scrape where that is more."""
    text = 'a{b=~"$b", c=~"${c:regex}", d=~"[[d]]"}[$__rate_interval] [$__range]'
    assert names_in(text) == ["b", "c", "d", "__rate_interval", "__range"]
    found = substituted(text, {"b": "1", "c": "2", "d": "3"}, Windows(scrape_s=15, step_s=30, range_s=600))
    assert found == 'a{b=~"1", c=~"2", d=~"3"}[60s] [600s]'
    assert Windows(scrape_s=15, step_s=120).macros["__rate_interval"] == "135s"


def test_quantities_are_shown_in_units_that_people_read() -> None:
    """The pictures' own words."""
    told = {
        ("s", 0.0125): "12.5 ms",
        ("s", 4e-5): "40 µs",
        ("s", 0.0): "0 s",
        ("h", 3.0): "3 h",
        ("bytes", 3 * 1024**3): "3 GiB",
        ("Bps", 2048.0): "2 KiB/s",
        ("percentunit", 0.5): "50 %",
        ("reqps", 12.0): "12 req/s",
        ("currencyUSD", 2.5): "$ 2.50",
        ("short", 1234567.0): "1.23 M",
    }
    assert {key: quantity(*key) for key in told} == told
