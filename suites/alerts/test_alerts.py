"""Every alert of the system on the running stack: its fault makes it fire, its mend ends it, nothing else does.

One run for all cases: `pytest -m alerts --system researchflow`. Durations are those that ship, divided by one scale.
"""

import pytest
from proof_run import PLANTED_ON, ProofRun, planted_rules

from harness.model.rule import Job, Rule

MOST_SCRAPES = 0.9  # of those that are due: a busy machine may miss one
REQUIRED_JOBS = {
    f"rf.scrape.{name}"
    for name in ("ollama", "triton", "faiss", "redis", "docker", "node", "cadvisor", "alertmanager", "prometheus")
}

pytestmark = [pytest.mark.alerts, pytest.mark.timeout(900)]


def test_an_alert_fires_with_its_fault_and_ends_with_its_mend(
    alert: Rule, proof_run: ProofRun, request: pytest.FixtureRequest
):
    """In the time that its file foretells, with its labels and the fault's value, to its receiver, and never else."""
    proof = proof_run.proof(alert.name)
    assert proof.fault is not None, f"no fault is known that makes {alert.name} fire"
    assert not proof.shown.problems, f"{proof.fault.what}: " + "; ".join(proof.shown.problems)
    request.node.user_properties += [
        ("covers", alert.annotation("requirement")),
        ("covers_level", proof_run.level(proof.fault)),
        ("fault", proof.fault.what),
        ("stand_in", proof.fault.stand_in),
    ]


def test_a_job_is_scraped_at_its_interval_and_its_targets_bear_its_labels(
    job: Job, proof_run: ProofRun, request: pytest.FixtureRequest
):
    """Each target of the inventory, all through the time in which nothing was wrong."""
    targets = [one for one in proof_run.scraped if one.labels["job"] == job.name]
    if not targets:
        pytest.skip(f"the inventory has no target of job {job.name} here")
    scaled = next(one for one in proof_run.rules.jobs if one.name == job.name)
    for one in targets:
        assert (one.interval_s, one.timeout_s) == (scaled.interval_s, scaled.timeout_s)
        assert {name: one.labels.get(name) for name, _ in job.labels} == dict(job.labels)
        due = one.watched_s / one.interval_s
        assert one.scrapes >= MOST_SCRAPES * due, f"{one.labels['instance']}: {one.scrapes} scrapes, {due:.0f} were due"
    if (requirement := f"rf.scrape.{job.name}") in REQUIRED_JOBS:
        request.node.user_properties += [("covers", requirement), ("covers_level", "live")]


def test_alerts_on_budgets_are_silent_until_requests_fail(proof_run: ProofRun):
    """They may take longer than the run to fire, so that nothing more is asked of them."""
    loud = {
        rule.name: proof.shown.problems
        for rule in proof_run.rules.alerts
        if rule.label("symptom") == "burn" and (proof := proof_run.proof(rule.name)).shown.problems
    }
    assert not loud


@pytest.mark.parametrize("name", ["PlantedDoubledFor", "PlantedHighThreshold", "PlantedLowThreshold"])
def test_a_wrong_rule_on_the_same_stack_is_rejected(name: str, proof_run: ProofRun):
    """A copy of a shipped rule with another `for` or threshold, evaluated in the same run, does not pass for it."""
    expected = {
        "PlantedDoubledFor": "before it fired",
        "PlantedHighThreshold": "it never fired",
        "PlantedLowThreshold": "it fired without its fault",
    }
    assert expected.keys() == planted_rules(proof_run.rule(PLANTED_ON)).keys()
    problems = proof_run.proof(PLANTED_ON, named=name).shown.problems
    assert any(expected[name] in problem for problem in problems), problems


def test_what_is_down_is_told_of_once(proof_run: ProofRun):
    """A job that is down yields no series either: that alert fires, and is told to nobody."""
    observed = proof_run.observed
    assert observed is not None
    down = {"ollama", "triton", "faiss"}
    fired = {
        one.labels["job"]
        for one in observed.evaluated
        if one.alert == "MetricsAbsent" and one.firing and one.labels.get("job") in down
    }
    assert fired >= {"ollama", "faiss"}, "the alert never fired: nothing was shown"
    told = [one for one in observed.delivered if one.alert == "MetricsAbsent" and one.labels.get("job") in down]
    assert not [one for one in told if one.firing and one.at >= observed.since]


def test_a_critical_alert_silences_its_own_warning(proof_run: ProofRun):
    """While the candidate's critical error rate lasts, its warning fires and is told to nobody."""
    observed = proof_run.observed
    assert observed is not None
    critical = next(one for one in proof_run.struck if one.alert == "InferenceErrorRateCritical")
    warned = [one for one in observed.evaluated if one.alert == "InferenceErrorRateHigh" and one.firing]
    assert any(one.labels["arm"] == "candidate" for one in warned), "the warning never fired: nothing was shown"
    told = [
        one
        for one in observed.delivered
        if one.alert == "InferenceErrorRateHigh"
        and one.labels["arm"] == "candidate"
        and one.firing
        and critical.began <= one.at <= critical.mended
    ]
    assert not told
