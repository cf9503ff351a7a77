"""Before any traffic: every instance answers its health probe, and each check of the inventory holds."""

import pytest

from harness.adapters.clock import SystemClock
from harness.adapters.probes import StackProbes
from harness.model.evidence import Arm, Evidence
from harness.model.system import System
from harness.ports import Stack

pytestmark = [pytest.mark.staging, pytest.mark.smoke, pytest.mark.conformance]


@pytest.fixture(scope="session")
def probed(stack: Stack, system: System) -> list[Evidence]:
    """One round of the probes that the rollout makes between stages."""
    probes = StackProbes(system, stack, SystemClock())
    records = list(probes.collect())
    probes.close()
    return records


def bad(records: list[Evidence], arm: Arm | None) -> list[str]:
    """Return what is wrong with an arm's instances, or with the ones that both arms share."""
    mine = [record for record in records if record.arm is arm]
    assert mine, f"nothing was probed on {arm or 'what both arms share'}"
    return [f"{record.signal}: {record.note}" for record in mine if record.bad]


def test_what_both_arms_share_is_well(probed: list[Evidence]):
    """Every service that runs once answers, and its checks hold: a fault here is never a release's."""
    assert not bad(probed, None)


def test_an_arms_own_instances_are_well(arm: str, probed: list[Evidence]):
    """Every service of the arm answers, and its checks hold."""
    assert not bad(probed, Arm(arm))
