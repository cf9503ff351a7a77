"""Prometheus: its configuration is loaded, its rules too, it keeps what it must, and it scrapes the whole inventory."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from fixtures.clients import Connect
from harness.adapters.stack_file import Description
from harness.model.system import Service, System

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


@pytest.fixture(scope="session")
def deadline(description: Description) -> float:
    """Until when all targets must have been scraped, on the monotonic clock: one wait for all cases."""
    return time.monotonic() + START_S + LONGEST_INTERVAL_S / description["time_scale"]


def test_prometheus_scrapes_what_both_arms_share(
    connect: Connect, system: System, description: Description, deadline: float
):
    """Every instance that runs once and declares metrics is a target that is up, within a few scrapes of the start."""
    assert lacking(connect, wanted_targets(system, description, None), None, deadline) == {}


def test_prometheus_scrapes_the_arm(
    arm: str, connect: Connect, system: System, description: Description, deadline: float
):
    """So is every instance of the arm that declares metrics."""
    assert lacking(connect, wanted_targets(system, description, arm), arm, deadline) == {}


def wanted_targets(system: System, description: Description, arm: str | None) -> dict[str, range]:
    """Return how many targets each job may have on an arm (None: of what both share)."""
    least: Counter[str] = Counter()
    most: Counter[str] = Counter()
    for instance in description["instances"]:
        service = system.service(instance["service"])
        if instance["arm"] == arm and service.metrics and service.job:
            least[service.job] += not unscraped(service)
            most[service.job] += 1
    return {job: range(least[job], most[job] + 1) for job in most if least[job]}


def lacking(connect: Connect, wanted: dict[str, range], arm: str | None, deadline: float) -> dict[str, str]:
    """Return the jobs whose targets do not all come up in time, each with how many did and the last error."""
    while True:
        targets = ask(connect, "targets?state=active")["activeTargets"]
        mine = [target for target in targets if target["labels"].get("arm") == arm]
        up = {job: sum(t["labels"]["job"] == job and t["health"] == "up" for t in mine) for job in wanted}
        errors = {t["labels"]["job"]: t["lastError"] for t in mine if t.get("lastError")}
        missing = {
            job: f"{up[job]} of {counts.start} up {errors.get(job, '')}"
            for job, counts in wanted.items()
            if up[job] not in counts
        }
        if not missing or time.monotonic() > deadline:
            return missing
        time.sleep(0.1)


def unscraped(service: Service) -> bool:
    """Whether some way of running the service serves no metrics: then nothing may be asked of its job here."""
    native = service.native
    return bool(native and (native.unscraped or (native.prefer and native.prefer.unscraped)))


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
