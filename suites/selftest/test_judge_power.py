"""Power of the shipped quick plan, by simulated rollouts on the real state machine: the numbers its margins rest on."""

import pytest
from judge_streams import GOOD, KNOWN_BAD, Truth, researchflow, simulate

from harness.model.status import Cause, Decision

pytestmark = pytest.mark.selftest

OBJECTIVES, PLANS = researchflow()
QUICK = PLANS["quick"]


def test_good_releases_are_promoted_within_the_plans_bounds():
    """Six seeds with noise of each arm's own; the design asks for 99 of 100, measured by the same code."""
    outcomes = [simulate(OBJECTIVES, QUICK, GOOD, seed) for seed in range(6)]
    assert [outcome.decision for outcome in outcomes] == [Decision.PROMOTE] * 6, [o.reason for o in outcomes]
    assert sorted(outcome.seconds for outcome in outcomes)[3] <= 100


@pytest.mark.parametrize("name", KNOWN_BAD)
def test_known_bad_releases_are_failed_by_the_judgement_that_names_them(name: str):
    """Three seeds each."""
    truth, judgement = KNOWN_BAD[name]
    for seed in range(3):
        outcome = simulate(OBJECTIVES, QUICK, truth, seed)
        assert (outcome.decision, outcome.cause) == (Decision.ROLLBACK, Cause.RELEASE), outcome.reason
        assert judgement in outcome.failed


def test_a_router_that_doubles_the_share_never_blames_the_release():
    """Twice the share at every stage: no promotion, and the environment is named."""
    outcome = simulate(OBJECTIVES, QUICK, Truth(misroute=2.0), 1)
    assert outcome.decision is Decision.ROLLBACK
    assert outcome.cause is Cause.ENVIRONMENT
    assert "router.assignment" in outcome.reason
