"""Scrape jobs, routes and recordings: the shipped ones are what is required, planted faults are named."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.adapters.recording import scrapes_of
from harness.model.errors import SpecError
from harness.model.rule import Finding
from harness.paths import share_root
from harness.planning.rules.burnrate import burn_rates
from harness.planning.rules.catalogue import Catalogue
from harness.planning.rules.routing import check_routing
from harness.planning.time_scale import parse_duration
from harness.spec import find_system, load_system
from harness.spec.alertmanager import load_routing
from harness.spec.monitoring import find_monitoring, load_monitoring
from harness.spec.scrapes import read_scrapes, scrape_text

pytestmark = pytest.mark.selftest

HOME = share_root() / "stack" / "systems" / "researchflow" / "prometheus"
JOBS = {
    "rf.scrape.ollama": ("ollama", 10, "llm_inference"),
    "rf.scrape.triton": ("triton", 15, "model_inference"),
    "rf.scrape.faiss": ("faiss", 15, "vector_store"),
    "rf.scrape.redis": ("redis", 30, "cache"),
    "rf.scrape.docker": ("docker", 30, "container_runtime"),
    "rf.scrape.node": ("node", 15, "infrastructure"),
    "rf.scrape.cadvisor": ("cadvisor", 15, "containers"),
    "rf.scrape.alertmanager": ("alertmanager", 15, "monitoring"),
    "rf.scrape.prometheus": ("prometheus", 15, "monitoring"),
}
OURS = {"gateway", "haproxy", "gpu", "grafana"}


def config() -> dict[str, Any]:
    """Return the shipped prometheus.yml."""
    return yaml.safe_load((HOME / "prometheus.yml").read_text())


def job_faults(job: dict[str, Any]) -> list[str]:
    """Return what a scrape job lacks: labels, metric relabelling, a timeout of its own within its interval."""
    fixed = {r.get("target_label") for r in job.get("relabel_configs", []) if "source_labels" not in r}
    timeout = parse_duration(job.get("scrape_timeout", "999s"))
    said = {
        "service": "service" in fixed,
        "component": "component" in fixed,
        "metric_relabel_configs": bool(job.get("metric_relabel_configs")),
        "scrape_timeout": timeout <= parse_duration(job.get("scrape_interval", "15s")),
    }
    return [key for key, holds in said.items() if not holds]


def one_job_faults(id_: str, found: dict[str, Any]) -> list[str]:
    """Return where the configuration is not what an id requires."""
    name, interval, component = JOBS[id_]
    job = next((j for j in found["scrape_configs"] if j["job_name"] == name), None)
    if job is None:
        return ["job"]
    fixed = {r.get("target_label"): r.get("replacement") for r in job["relabel_configs"]}
    faults = job_faults(job)
    faults += ["interval"] if parse_duration(job.get("scrape_interval", "15s")) != interval else []
    return faults + (["component"] if fixed.get("component") != component else [])


def global_faults(found: dict[str, Any]) -> list[str]:
    """Return what the whole configuration lacks."""
    common = found["global"]
    said = {
        "intervals": (common["scrape_interval"], common["evaluation_interval"]) == ("15s", "15s"),
        "environment": bool(common.get("external_labels", {}).get("environment")),
        "alerting": bool(found.get("alerting", {}).get("alertmanagers")),
        "rules": found.get("rule_files") == ["rules/*.yml"],
        "jobs": all(not job_faults(job) for job in found["scrape_configs"]),
    }
    return [key for key, holds in said.items() if not holds]


@pytest.mark.parametrize("id_", [pytest.param(id_, marks=pytest.mark.covers(id_, level="static")) for id_ in JOBS])
def test_a_job_is_scraped_as_required(id_: str) -> None:
    """Its interval and component; labels, relabelling and timeout; each of them changed is rejected."""
    assert one_job_faults(id_, config()) == []
    for key in ("scrape_interval", "relabel_configs", "metric_relabel_configs", "scrape_timeout"):
        wrong = config()
        job = next(j for j in wrong["scrape_configs"] if j["job_name"] == JOBS[id_][0])
        job[key] = {"scrape_interval": "77s", "scrape_timeout": "99s"}.get(key, [])
        assert one_job_faults(id_, wrong)
    missing = config()
    missing["scrape_configs"] = [j for j in missing["scrape_configs"] if j["job_name"] != JOBS[id_][0]]
    assert one_job_faults(id_, missing) == ["job"]


@pytest.mark.covers("rf.scrape.global", level="static")
def test_the_whole_configuration_is_as_required() -> None:
    """15 s and 15 s, the environment's label, Alertmanager, the rules; every job whole; each taken away is rejected."""
    assert global_faults(config()) == []
    assert {j["job_name"] for j in config()["scrape_configs"]} == {name for name, *_ in JOBS.values()} | OURS
    for section, key in (("global", "external_labels"), ("alerting", "alertmanagers")):
        wrong = config()
        wrong[section][key] = {}
        assert global_faults(wrong)
    late = config()
    late["global"]["evaluation_interval"] = "1m"
    assert global_faults(late) == ["intervals"]
    bare = config()
    bare["scrape_configs"][3].pop("metric_relabel_configs")
    assert global_faults(bare) == ["jobs"]


def routed(text: str, folder: Path) -> list[Finding]:
    """Return what is wrong with an alertmanager.yml, for researchflow's alerts."""
    path = folder / "alertmanager.yml"
    path.write_text(text)
    return check_routing(load_routing(path), load_monitoring(find_monitoring("researchflow")).rules)


def test_the_shipped_routes_are_sound(tmp_path: Path) -> None:
    """Every receiver is reached, every route and inhibition fits some alert."""
    assert [str(f) for f in routed((HOME / "alertmanager.yml").read_text(), tmp_path)] == []


ROUTES = {
    "receiver: inference\n": ("receiver: nobody\n", "receiver", "nobody"),
    '[severity="info"]': ('[severity="information"]', "route", "fits"),
    '[symptom="down"]\n    target_matchers: [symptom=~': (
        '[symptom="dead"]\n    target_matchers: [symptom=~',
        "inhibition",
        "source",
    ),
    'target_matchers: [alertname="MetricsAbsent"]': ('target_matchers: [alertname="Absent"]', "inhibition", "target"),
    "  - name: digest ": ("  - name: unheard\n  - name: digest ", "receiver", "unheard"),
    "  - name: pager ": (
        "  - name: pager\n    webhook_configs: [{url: 'pager.example.org/hook'}]\n  # ",
        "receiver",
        "pager.example.org",
    ),
}


@pytest.mark.parametrize("old", ROUTES)
def test_a_planted_route_is_named(old: str, tmp_path: Path) -> None:
    """An unknown, unheard or unreachable receiver, a route or inhibition that fits nothing; with file and line."""
    new, check, word = ROUTES[old]
    text = (HOME / "alertmanager.yml").read_text()
    assert old in text
    mine = [f for f in routed(text.replace(old, new, 1), tmp_path) if f.check == check]
    assert any(word in f.message for f in mine)
    assert all(re.search(r"alertmanager\.yml:\d+$", f.where) for f in mine)


def test_a_matcher_that_is_none_is_named(tmp_path: Path) -> None:
    """The line, the key, and how to write it."""
    with pytest.raises(SpecError, match=r"alertmanager\.yml:3: route\.routes\[0\]\.matchers\[0\]: found `severity`"):
        routed("route:\n  receiver: a\n  routes: [{matchers: [severity]}]\nreceivers: [{name: a}]\n", tmp_path)


def test_recordings_are_written_and_read_alike(tmp_path: Path) -> None:
    """Names, labels, values and types survive; quotes and newlines too."""
    metric = {"__name__": "a_total", "job": "x", "instance": "127.0.0.1:80", "text": 'q"\\n\n'}
    (made,) = scrapes_of([{"metric": metric, "value": [0, "3"]}], {"a": "counter"})
    assert dict(made.series[0].labels)["instance"] == "x-1"
    (tmp_path / "x.prom").write_text(scrape_text("x", made.series, "declared: by hand"))
    (back,) = read_scrapes(tmp_path)
    assert (back.job, back.declared, back.series) == ("x", "by hand", made.series)
    (tmp_path / "x.prom").write_text("nothing of use\n")
    with pytest.raises(SpecError, match=r"x\.prom:1"):
        read_scrapes(tmp_path)


def test_recordings_tell_nothing_of_the_machine() -> None:
    """No folder, address or kernel of whoever recorded is kept."""
    for path in (share_root() / "fixtures" / "scrapes").rglob("*.prom"):
        assert not re.search(r"127\.0\.0\.1|/root|/home|/tmp|Linux \d", path.read_text()), path.name


def test_every_metric_that_an_alert_or_a_signal_names_is_recorded() -> None:
    """Or declared by hand, with the reason; the rules and system.yaml ask for nothing else."""
    catalogue = Catalogue.of(load_monitoring(find_monitoring("researchflow")))
    names = set()
    for signal in load_system(find_system("researchflow")).signals:
        names |= {text.partition("{")[0] for text in (signal.bad, signal.total, signal.gauge) if text}
        names |= {f"{signal.histogram.partition('{')[0]}_bucket"} if signal.histogram else set()
    assert [name for name in sorted(names) if not catalogue.knows(name)] == []
    assert catalogue.declared("gpu_available")
    assert catalogue.declared("gateway_requests_total") == ""
    assert not catalogue.knows("gateway_requests")


def test_burn_rates_follow_the_objectives() -> None:
    """The shipped file is what the objectives give; a factor above 1/budget is left out and says so."""
    system = load_system(find_system("researchflow"))
    signals = {signal.name: signal for signal in system.signals}
    text = burn_rates(system.name, system.objectives, signals)
    assert text == (HOME / "rules" / "burn-rate.yml").read_text()
    assert text.count("- alert: ") == 12
    loose = [o for o in system.objectives if o.id == "rf.rollout.error_rate"]

    text = burn_rates("x", [dataclasses.replace(loose[0], threshold=10)], signals)
    assert text.count("- alert: ") == 3
    assert "# rf.rollout.error_rate over 1h: a budget of 0.1 cannot burn 14.4 times as fast" in text
    assert burn_rates("x", [], signals) == ""


BAD_ROUTING = {
    "a pattern that is none": (
        "  routes: [{matchers: ['a=~\"(\"']}]",
        "",
        r":2: route\.routes\[0\]\.matchers\[0\]: found",
    ),
    "an older pattern that is none": (
        "  routes: [{match_re: {a: '('}}]",
        "",
        r":2: route\.routes\[0\]\.match_re\.a: found",
    ),
    "equal to a number": ("", "inhibit_rules: [{equal: 3}]", r":4: inhibit_rules\[0\]\.equal: expected a list"),
}


@pytest.mark.parametrize("what", BAD_ROUTING)
def test_a_routing_file_of_the_wrong_form_is_named(what: str, tmp_path: Path) -> None:
    """Its line and key, never a crash."""
    route, more, words = BAD_ROUTING[what]
    with pytest.raises(SpecError, match=words):
        routed(f"route: \n{route or '  group_wait: 1s'}\n  receiver: a\n{more or 'receivers: [{name: a}]'}\n", tmp_path)


def test_matchers_of_the_older_form_are_read(tmp_path: Path) -> None:
    """A route that no alert can take is one in either form."""
    for form in ("match: {severity: never}", "match_re: {severity: 'never|ever'}"):
        text = f"route:\n  receiver: a\n  routes:\n  - receiver: b\n    {form}\nreceivers: [{{name: a}}, {{name: b}}]\n"
        assert {f.check for f in routed(text, tmp_path)} == {"route", "receiver"}


def test_a_bucket_without_a_number_is_named(tmp_path: Path) -> None:
    """A recorded scrape that somebody wrote by hand."""
    (tmp_path / "app.prom").write_text('# recorded\na_bucket{le="abc"} 1\n')
    with pytest.raises(SpecError, match=r"app\.prom:2: found le='abc'"):
        read_scrapes(tmp_path)
