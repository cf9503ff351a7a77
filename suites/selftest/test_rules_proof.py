"""Alerts proven by promtool: the shipped ones each under its own id, planted faults each found."""

import dataclasses
import re
from pathlib import Path

import pytest
from rule_files import alert, loaded, system_of

from harness.adapters.promtool import Promtool
from harness.model.errors import EnvironmentProblem
from harness.model.rule import Finding, Rule
from harness.paths import cache_root
from harness.planning.promql import parse
from harness.planning.promql.syntax import comparisons, constant
from harness.planning.rules.cases import CASES
from harness.planning.rules.verdicts import Proven
from harness.spec.monitoring import find_monitoring, load_monitoring
from harness.wiring.rules_proof import prove

pytestmark = pytest.mark.selftest

# id -> alert, group, seconds of `for`, severity, and the comparison that the requirement states
REQUIRED = {
    "rf.alert.inference_latency_p95": ("InferenceLatencyP95High", "ai_inference_alerts", 120, "warning", (">", 5)),
    "rf.alert.inference_latency_p99": ("InferenceLatencyP99Critical", "ai_inference_alerts", 60, "critical", (">", 10)),
    "rf.alert.error_rate_high": ("InferenceErrorRateHigh", "ai_inference_alerts", 300, "warning", (">", 0.05)),
    "rf.alert.error_rate_critical": ("InferenceErrorRateCritical", "ai_inference_alerts", 60, "critical", (">", 0.1)),
    "rf.alert.model_quality_degraded": ("ModelQualityDegraded", "ai_inference_alerts", 300, "warning", (">", 5)),
    "rf.alert.ollama_down": ("OllamaDown", "ollama_alerts", 60, "critical", ("==", 0)),
    "rf.alert.ollama_memory": ("OllamaMemoryHigh", "ollama_alerts", 300, "warning", (">", 0.9)),
    "rf.alert.ollama_gpu_unavailable": ("OllamaGpuUnavailable", "ollama_alerts", 120, "critical", ("==", 0)),
    "rf.alert.triton_down": ("TritonDown", "triton_alerts", 60, "critical", ("==", 0)),
    "rf.alert.triton_queue_depth": ("TritonQueueDepth", "triton_alerts", 300, "warning", (">", 100)),
    "rf.alert.triton_gpu_memory": ("TritonGpuMemoryCritical", "triton_alerts", 120, "critical", (">", 0.95)),
    "rf.alert.faiss_down": ("FaissDown", "faiss_alerts", 60, "critical", ("==", 0)),
    "rf.alert.faiss_index_corrupt": ("FaissIndexCorrupt", "faiss_alerts", 60, "critical", ("==", 0)),
    "rf.alert.faiss_search_latency_p99": ("FaissSearchLatencyP99High", "faiss_alerts", 300, "warning", (">", 1)),
    "rf.alert.faiss_disk": ("FaissDiskHigh", "faiss_alerts", 600, "warning", (">", 0.85)),
    "rf.alert.redis_memory": ("RedisMemoryHigh", "redis_alerts", 300, "warning", (">", 0.85)),
    "rf.alert.redis_connections": ("RedisConnectionsHigh", "redis_alerts", 300, "warning", (">", 10000)),
    "rf.alert.gpu_utilization_high": ("GpuUtilizationHigh", "cost_alerts", 600, "info", (">", 0.95)),
    "rf.alert.model_loading_excessive": ("ModelLoadingExcessive", "cost_alerts", 300, "warning", (">", 10)),
    "rf.alert.host_memory": ("HostMemoryHigh", "infrastructure_alerts", 300, "warning", (">", 0.9)),
    "rf.alert.host_disk": ("HostDiskHigh", "infrastructure_alerts", 600, "warning", (">", 0.85)),
    "rf.alert.network_traffic": ("NetworkTraffic", "infrastructure_alerts", 300, "info", (">", 100e6)),
    "rf.alert.metrics_absent": ("MetricsAbsent", "infrastructure_alerts", 120, "critical", ("==", 0)),
    "pl.alert.error_rate": ("DeploymentErrorRateHigh", "deployment_alerts", 300, "critical", (">", 0.02)),
    "pl.alert.latency": ("DeploymentLatencyHigh", "deployment_alerts", 300, "warning", (">", 0.5)),
    "pl.alert.resources": ("ResourcesExhausted", "deployment_alerts", 600, "warning", (">", 0.8)),
    "pl.alert.canary": ("CanaryDegraded", "deployment_alerts", 300, "critical", (">", 0.005)),
}
SYSTEMS = ("researchflow", "pipeline")
BURNS = "slo_burn_rate"


@pytest.fixture(scope="module")
def promtool() -> Promtool:
    """The machine's promtool."""
    try:
        return Promtool.found(cache_root(), lambda _: None)
    except EnvironmentProblem as problem:
        pytest.skip(f"no promtool: {problem}")


def required() -> list[object]:
    """One parameter an id, which bears it."""
    return [pytest.param(id_, id=id_, marks=pytest.mark.covers(id_, level="simulated")) for id_ in REQUIRED]


def shipped() -> dict[str, Rule]:
    """Return the required alerts by requirement."""
    rules = [rule for system in SYSTEMS for rule in load_monitoring(find_monitoring(system)).alerts]
    return {rule.annotation("requirement"): rule for rule in rules if rule.group != BURNS}


def faults(id_: str, rule: Rule) -> list[str]:
    """Return where a rule is not what its requirement says."""
    name, group, seconds, severity, (op, threshold) = REQUIRED[id_]
    compared = {(n.op, constant(n.rhs)) for n in comparisons(parse(rule.expr))}
    said = {
        "alert": rule.name == name,
        "group": rule.group == group,
        "for": rule.for_s == seconds,
        "severity": rule.label("severity") == severity,
        "component": bool(rule.label("component")),
        "threshold": (op, threshold) in compared,
        "delay": bool(rule.annotation("detects_within")),
    }
    return [key for key, holds in said.items() if not holds]


@pytest.mark.parametrize("id_", required())
def test_an_alert_is_the_required_one_and_is_proven(id_: str, promtool: Promtool) -> None:
    """Group, threshold, `for` and severity; seven cases hold, every mutant is noticed."""
    rule = shipped()[id_]
    assert faults(id_, rule) == []
    monitoring = load_monitoring(find_monitoring("pipeline" if id_.startswith("pl.") else "researchflow"))
    alone = tuple(r for r in monitoring.rules if not r.alert or r.name == rule.name)
    (item,), unproven = prove(dataclasses.replace(monitoring, rules=alone), promtool, lambda _: None)
    assert [str(f) for f in [*unproven, *item.findings]] == []
    assert item.cases == dict.fromkeys(CASES, True)
    assert item.killed + item.unreachable == item.mutants > 0


def test_every_alert_is_required_and_the_other_way_round() -> None:
    """27 rules in 7 groups and the pipeline's, no more and no fewer; burn rates are a group of their own."""
    rules = shipped()
    assert set(rules) == set(REQUIRED)
    assert len(rules) == 27
    assert len({rule.group for rule in rules.values()}) == 8


@pytest.mark.covers("rf.alert.every_rule", level="static")
def test_every_rule_is_whole() -> None:
    """Expression, duration, severity, component, the live value, cost where there is one, a runbook."""
    for id_, rule in shipped().items():
        assert rule.for_s > 0, id_
        assert rule.label("severity"), id_
        assert rule.label("component"), id_
        assert "$value" in rule.annotation("summary") + rule.annotation("description"), id_
        assert rule.annotation("runbook_url"), id_
        assert rule.annotation("cost_impact") or "cost" not in rule.group, id_


@pytest.mark.parametrize("id_", REQUIRED)
def test_a_rule_that_is_not_the_required_one_is_rejected(id_: str) -> None:
    """Each number and name of a requirement, changed: the comparison with the requirement says so."""
    rule = shipped()[id_]
    threshold = REQUIRED[id_][4]
    number = re.compile(rf"({re.escape(threshold[0])}\s*)(100e6|{re.escape(f'{threshold[1]:g}')})(?![\d.])")
    assert number.search(rule.expr)
    changed = {
        "for": dataclasses.replace(rule, for_s=rule.for_s + 1),
        "group": dataclasses.replace(rule, group="other"),
        "severity": dataclasses.replace(rule, labels=(("component", "x"), ("severity", "none"))),
        "threshold": dataclasses.replace(rule, expr=number.sub(r"\g<1>77", rule.expr)),
    }
    for key, wrong in changed.items():
        assert key in faults(id_, wrong)


def proofs(path: Path, promtool: Promtool) -> tuple[list[Proven], list[Finding]]:
    """Prove a planted rule file; its watch rule is left out."""
    monitoring = loaded(path)
    kept = tuple(rule for rule in monitoring.rules if rule.name not in {"Gone", "DatabaseGone"})
    return prove(dataclasses.replace(monitoring, rules=kept), promtool, lambda _: None)


ERRORS = 'sum by (job) (rate(app_requests_total{outcome="error"}[5m]))'
ALL = "sum by (job) (rate(app_requests_total[5m]))"
FLOOR = f" and {ALL} > 0.1"
# what is wrong -> (expression, annotations of `alert`, check and words of the finding)
PLANTED = {
    "a part that cannot matter": (f"{ERRORS} / {ALL} > 0.05 and {ALL} > 0.1 and {ALL} >= 0", "undecided", "alone"),
    "a matcher that keeps nothing out": (
        'app_queue{job=~".*"} > 10',
        "mutant",
        'matcher: `job=~".*"` dropped',
    ),
    "a rule that never fires": ("app_queue > 10 and app_queue < 5", "unproven", "make it fire"),
    "a function that is not solved for": ("changes(app_queue[5m]) > 3", "unproven", "changes"),
    "a selector without a name": ('{job="app"} > 3', "unproven", "name"),
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_rule_is_rejected(what: str, tmp_path: Path, promtool: Promtool) -> None:
    """It is named by file and line, with what is wrong."""
    expr, check, words = PLANTED[what]
    path = system_of(tmp_path, alert(expr))
    results, unproven = proofs(path, promtool)
    mine = [f for f in [*unproven, *(f for item in results for f in item.findings)] if f.check == check]
    assert any(words in f.message for f in mine), [str(f) for item in results for f in item.findings]
    assert all(f.where.startswith(f"{path}:") and f.key.startswith("Planted") for f in mine)
    assert not any(item.sound for item in results)


def test_a_good_rule_is_proven_whole(tmp_path: Path, promtool: Promtool) -> None:
    """Seven cases, all mutants, and a delay no longer than promised."""
    results, unproven = prove(loaded(system_of(tmp_path)), promtool, lambda _: None)
    assert unproven == []
    assert [str(f) for item in results for f in item.findings] == []
    errors = next(item for item in results if item.rule.name == "ErrorsHigh")
    assert errors.cases == dict.fromkeys(CASES, True)
    assert errors.killed == errors.mutants - errors.unreachable > 10
    assert errors.delay_s is not None
    assert 120 < errors.delay_s <= 465


def test_a_rule_without_scrapes_is_proven_on_series_made_up(tmp_path: Path, promtool: Promtool) -> None:
    """A stranger's file alone: regular expressions, joins and recordings included."""
    text = alert('errors:ratio{service="shop"} > 0.1').replace(
        "    rules:\n",
        "    rules:\n      - record: errors:ratio\n        expr: |\n"
        '          sum by (service) (rate(http_requests_total{code=~"5.."}[5m]))'
        " / sum by (service) (rate(http_requests_total[5m]))\n",
        1,
    )
    path = tmp_path / "stranger.yml"
    path.write_text(text)
    monitoring = load_monitoring(find_monitoring(str(path)))
    kept = tuple(rule for rule in monitoring.rules if rule.name != "Gone")
    results, unproven = prove(dataclasses.replace(monitoring, rules=kept), promtool, lambda _: None)
    assert unproven == []
    assert [str(f) for f in results[0].findings] == []
    assert results[0].cases == dict.fromkeys(CASES, True)


def test_the_two_windows_of_a_burn_rate_both_matter(tmp_path: Path, promtool: Promtool) -> None:
    """With both windows it is proven; with one alone, or one that is as long, a mutant or a burst gives it away."""
    long, short = (f"{ERRORS} / {ALL} > 0.5".replace("5m", window) for window in ("1h", "5m"))
    both = system_of(tmp_path / "both", alert(f"{long} and {short}{FLOOR}"))
    results, unproven = proofs(both, promtool)
    assert unproven == []
    assert [str(f) for f in results[0].findings] == []
    twice = system_of(tmp_path / "twice", alert(f"{short} and {short}{FLOOR}"))
    results, _ = proofs(twice, promtool)
    assert {f.check for f in results[0].findings} & {"mutant", "case"}
