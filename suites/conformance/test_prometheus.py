"""Prometheus: its configuration is loaded, its rules too, it keeps what it must, and it scrapes the whole inventory."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from fixtures.clients import Connect
from harness.adapters.stack_file import Description
from harness.model.system import System

pytestmark = [
    pytest.mark.staging,
    pytest.mark.smoke,
    pytest.mark.conformance,
    pytest.mark.service("prometheus"),
]

START_S = 7.0  # Prometheus scrapes nothing in its first five seconds
LONGEST_INTERVAL_S = 30.0  # of any job, at time scale 1


def ask(connect: Connect, path: str) -> Any:  # noqa: ANN401 - parsed JSON
    """Return the data of an API call, which must have succeeded."""
    answer = connect("prometheus", "http").get(f"/api/v1/{path}")
    body = answer.json()
    assert body.get("status") == "success", f"{path}: {body}"
    return body["data"]


def test_prometheus_scrapes_the_whole_inventory(connect: Connect, system: System, description: Description):
    """Every instance that declares metrics is an active target that is up, within a few scrapes of the start."""
    instances: dict[str, int] = {}
    for instance in description["instances"]:
        job = system.service(instance["service"]).job
        if job and system.service(instance["service"]).metrics:
            instances[job] = instances.get(job, 0) + 1
    deadline = time.monotonic() + START_S + LONGEST_INTERVAL_S / description["time_scale"]
    while True:
        targets = ask(connect, "targets?state=active")["activeTargets"]
        up: dict[str, int] = {}
        for target in targets:
            job = target["labels"]["job"]
            up[job] = up.get(job, 0) + (target["health"] == "up")
        lacking = {job: f"{up.get(job, 0)} of {count} up" for job, count in instances.items() if up.get(job) != count}
        if not lacking or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    errors = [f"{t['labels']['job']}: {t['lastError']}" for t in targets if t.get("lastError")]
    unscraped = {
        service.job
        for service in system.services
        if service.native and ((service.native.prefer and service.native.prefer.unscraped) or service.native.unscraped)
    }
    lacking = {job: text for job, text in lacking.items() if job not in unscraped}
    assert not lacking, f"{lacking}; {'; '.join(errors)}"


def test_every_series_bears_its_service_and_component(connect: Connect, system: System):
    """Targets carry the labels that alerts and dashboards group by."""
    known = {service.job for service in system.services if service.job}
    targets = ask(connect, "targets?state=active")["activeTargets"]
    assert targets, "there are no targets"
    for target in targets:
        labels = target["labels"]
        assert labels["job"] in known, f"job {labels['job']} belongs to no service of the inventory"
        assert labels.get("service"), f"{labels['job']}: no `service` label"
        assert labels.get("component"), f"{labels['job']}: no `component` label"


def test_the_configuration_is_the_shipped_one(connect: Connect, system: System):
    """The last reload succeeded, and the running configuration has a job for every job of the inventory."""
    lines = connect("prometheus", "http").get("/metrics").text.splitlines()
    assert "prometheus_config_last_reload_successful 1" in lines
    running = ask(connect, "status/config")["yaml"]
    missing = [
        service.job for service in system.services if service.job and f"job_name: {service.job}\n" not in running
    ]
    assert not missing, f"no such jobs in the running configuration: {missing}"


def test_the_alert_rules_are_loaded(connect: Connect, system: System):
    """Every group of the system's rule files runs, and no rule's last evaluation failed."""
    shipped = {
        line.split("name:", 1)[1].strip()
        for path in (system.root / "prometheus" / "rules").glob("*.yml")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip().startswith("- name:")
    }
    assert shipped, "the system ships no rules"
    groups = ask(connect, "rules")["groups"]
    assert {group["name"] for group in groups} >= shipped
    failing = [
        f"{rule['name']}: {rule['lastError']}" for group in groups for rule in group["rules"] if rule["health"] == "err"
    ]
    assert not failing, "; ".join(failing)


def test_prometheus_keeps_what_it_must(connect: Connect, required: Callable[[str], Any]):
    """The running retention is the required one."""
    assert ask(connect, "status/flags")["storage.tsdb.retention.time"] == required("retention")
