"""The shipped stage plans are the required ones. Starts nothing."""

import pytest

from harness import spec
from harness.model.objective import Against, Severity
from harness.paths import share_root

pytestmark = [pytest.mark.conformance]

ROOT = share_root() / "stack" / "systems" / "researchflow"


@pytest.mark.covers("rf.rollout.stages", "rf.rollout.pipeline", level="static")
@pytest.mark.parametrize("name", spec.load_requirements(ROOT).plans)
def test_a_plan_has_the_required_stages(name: str):
    """Each plan that conformance.yaml names rises through the percentages it asks for, to all of the traffic."""
    system = spec.load_system(ROOT)
    plan = next(plan for plan in system.plans if plan.name == name)
    assert tuple(stage.share for stage in plan.stages) == spec.load_requirements(ROOT).plans[name].percent
    assert plan.stages[-1].share == 100


@pytest.mark.covers("rf.rollout.pipeline", level="static")
def test_thresholds_are_fixed_and_of_the_running_baseline():
    """Errors and latency are held both against a number and against the baseline that runs beside the candidate."""
    system = spec.load_system(ROOT)
    decisive = [item for item in system.objectives if item.severity is Severity.CRITICAL]
    for signal in ("query.error", "query.latency"):
        assert {item.against for item in decisive if item.signal == signal} == {Against.NUMBER, Against.BASELINE}
