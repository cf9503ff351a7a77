"""The catalog's stage plans, as they ship, through the real state machine."""

import shutil
from pathlib import Path

import pytest

from harness import spec
from harness.model.errors import SpecError
from harness.model.judgement import Judgement
from harness.model.objective import Against, Objective
from harness.model.plan import StagePlan
from harness.model.status import Decision, Status
from harness.paths import share_root
from harness.planning import rollout

pytestmark = pytest.mark.selftest

SYSTEM = spec.load_system(spec.find_system("researchflow"))
PLANS = {plan.name: plan for plan in SYSTEM.plans}


def climb(plan: StagePlan, status: Status, until: float = 1e6) -> tuple[list[float], Decision | None]:
    """Play a rollout whose looks all say `status`; return the confirmed shares and the decision."""
    look = (Judgement(id="x", status=status, requirement="", source="client"),)
    now, seen = 0.0, list[float]()
    state, actions = rollout.step(plan, rollout.State(), rollout.Begin(at=now))
    while state.phase is not rollout.Phase.DONE and now < until:
        for action in actions:
            match action:
                case rollout.Move(share=share):
                    seen.append(share)
                    state, actions = rollout.step(plan, state, rollout.Moved(at=now, share=share))
                case rollout.Confirm():
                    state, actions = rollout.step(plan, state, rollout.Confirmed(at=now, judgements=look))
                case rollout.Finish():
                    pass
            break
        else:
            now += plan.look_s
            state, actions = rollout.step(plan, state, rollout.Look(at=now, judgements=look))
    return seen, state.decision


@pytest.mark.covers("rf.rollout.stages", level="simulated")
def test_the_stages_are_10_25_50_75_100_and_nothing_is_skipped() -> None:
    """Plan `stages` climbs exactly so, without holdout; unproven, it never leaves its first stage upward."""
    plan = PLANS["stages"]
    assert plan.holdout == 0
    assert climb(plan, Status.PASS) == ([10, 25, 50, 75, 100], Decision.PROMOTE)
    shares, decision = climb(plan, Status.FAIL)
    assert (shares, decision) == ([10, 0], Decision.ROLLBACK)


@pytest.mark.covers("rf.rollout.pipeline", level="simulated")
def test_the_pipelines_plan_is_10_50_100_with_fixed_and_dynamic_thresholds() -> None:
    """Plan `pipeline` climbs exactly so; guardrails are held against numbers and against the running baseline."""
    assert climb(PLANS["pipeline"], Status.PASS) == ([10, 50, 100], Decision.PROMOTE)
    assert climb(PLANS["pipeline"], Status.ERROR)[1] is not Decision.PROMOTE
    against = {o.against for o in guardrails("query.")}
    assert against == {Against.NUMBER, Against.BASELINE}


def guardrails(prefix: str) -> list[Objective]:
    """Return the critical objectives on signals that begin with `prefix`."""
    return [o for o in SYSTEM.objectives if o.severity == "critical" and o.signal.startswith(prefix)]


@pytest.mark.parametrize("wrong", ["share: 10,", "share: 99,"])
def test_a_plan_that_does_not_climb_is_refused(tmp_path: Path, wrong: str) -> None:
    """The planted violation: stages that fall or repeat never become a plan."""
    folder = tmp_path / "rf"
    shutil.copytree(share_root() / "stack" / "systems" / "researchflow", folder)
    path = folder / "rollout.yaml"
    text = path.read_text(encoding="utf-8")
    assert "share: 50," in text
    path.write_text(text.replace("share: 50,", wrong, 1), encoding="utf-8")
    with pytest.raises(SpecError, match=r"rollout\.yaml:"):
        spec.load_system(folder)
