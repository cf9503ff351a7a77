"""The one run of a session on which all cases of these suites look."""

import json
import time
from pathlib import Path

import pytest
from exporter_inputs import Inputs
from proof_run import ProofRun
from proving_ground import standing

from harness.model.errors import EnvironmentProblem, SpecError
from harness.model.rule import Monitoring
from harness.paths import cache_root
from harness.pytest_plugin.target import TARGET, Target
from harness.run.gate import rfc3339
from harness.spec.monitoring import find_monitoring, load_monitoring
from harness.wiring.site import prepare

RECORD = "alerts.json"
FAULTY = {"gateway", "faiss", "triton", "ollama", "redis", "router", "prometheus", "alertmanager"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give `alert` the rules of the system that are no burn rates, each under its requirement's id."""
    if "alert" in metafunc.fixturenames:
        rules = [rule for rule in monitoring(metafunc.config.stash[TARGET]).alerts if rule.label("symptom") != "burn"]
        metafunc.parametrize("alert", [pytest.param(rule, id=rule.annotation("requirement")) for rule in rules])

    if "job" in metafunc.fixturenames:
        metafunc.parametrize(
            "job", [pytest.param(job, id=job.name) for job in monitoring(metafunc.config.stash[TARGET]).jobs]
        )


def monitoring(target: Target) -> Monitoring:
    """Return what the system ships; nothing where none is named, or it ships none."""
    if not target.named:
        return Monitoring(())
    try:
        return load_monitoring(find_monitoring(str(target.system.root)))
    except SpecError:
        return Monitoring(())


@pytest.fixture(scope="session")
def proof_run(target: Target) -> ProofRun:
    """The run, once; its record lies in its own folder under reports/."""
    if not target.named:
        pytest.skip("names no system: add --system NAME")
    if target.stack_file or target.provider_name != "native":
        pytest.skip("strikes services down: only on a stack of its own, by the native provider")
    if not monitoring(target).alerts:
        pytest.skip(f"{target.system.name} ships no alerts")
    if lacking := FAULTY - {service.name for service in target.system.services}:
        pytest.skip(f"the faults are those of services that {target.system.name} lacks: {', '.join(sorted(lacking))}")
    try:
        prepare(target.system, cache_root(), lambda _text: None)
    except EnvironmentProblem as problem:
        pytest.skip(str(problem))
    started = rfc3339(time.time())
    try:
        with standing(target.system, Path("reports")) as (ground, traffic), Inputs(ground).running() as inputs:
            run = ProofRun(ground, traffic, inputs)
            run.go()
            text = json.dumps(run.record(started), indent=1) + "\n"
            (ground.folder / RECORD).write_text(text, encoding="utf-8")
    except EnvironmentProblem as problem:
        pytest.fail(str(problem), pytrace=False)
    return run
