"""Every objective and every stage of the system's plan, as one gate of this session found them.

The gate runs once, at the first test that asks for it: `pytest -m staging --system NAME`.
"""

from typing import TYPE_CHECKING

import pytest

from harness.model.objective import Objective, Severity
from harness.model.plan import Stage
from harness.model.status import Decision, Status, merge
from harness.pytest_plugin.target import Target

if TYPE_CHECKING:  # the engine is slow to import, and collecting needs none of it
    from harness.wiring import GateResult

pytestmark = [pytest.mark.staging, pytest.mark.rollout]


@pytest.mark.slo
def test_objective(objective: Objective, gate_run: "GateResult"):
    """Every judgement of the objective passes; what does not apply here is skipped, never passed."""
    found = [judgement for judgement in gate_run.verdict.judgements if judgement.id == objective.id]
    assert found, f"the verdict holds no judgement of {objective.id}: {gate_run.verdict.reason}"
    if all(judgement.status is Status.NOT_APPLICABLE for judgement in found):
        pytest.skip(f"not applicable: {found[0].reason}")
    status = merge(judgement.status for judgement in found)
    says = "; ".join(f"{item.source}: {item.status} {item.reason}" for item in found if item.status is status)
    if objective.severity is not Severity.CRITICAL and status is not Status.PASS:
        pytest.skip(f"{objective.severity}, does not decide: {says}")
    assert status is Status.PASS, f"{objective.requirement}: {says}"


@pytest.mark.plan
def test_stage(stage: Stage, gate_run: "GateResult"):
    """The stage was reached, the candidate served in it, and nothing failed there."""
    record = next((item for item in gate_run.verdict.stages if item.id == stage.id), None)
    assert record is not None, f"stage {stage.id} was never reached: {gate_run.verdict.reason}"
    assert record.n_candidate > 0, f"stage {stage.id}: no request reached the candidate"
    assert record.status not in (Status.FAIL, Status.ERROR), f"stage {stage.id}: {record.reason}"


@pytest.mark.plan
def test_plan(target: Target, gate_run: "GateResult"):
    """A promotion went through every stage of the plan, in order and none skipped; and these are the required ones."""
    plan, verdict = target.plan, gate_run.verdict
    required = target.requirements.plans.get(plan.name)
    if required:
        assert tuple(stage.share for stage in plan.stages) == required.percent
    assert [record.id for record in verdict.stages] == [stage.id for stage in plan.stages], verdict.reason
    shares = [record.share for record in verdict.stages]
    assert shares == [min(stage.share, 100 - plan.holdout) for stage in plan.stages]


def test_promotes(gate_run: "GateResult"):
    """The gate promotes: exit code 0."""
    verdict = gate_run.verdict
    assert (verdict.decision, gate_run.exit_code) == (Decision.PROMOTE, 0), f"{verdict.cause}: {verdict.reason}"
