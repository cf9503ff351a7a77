"""Before any traffic: every instance answers its health probe, and each check of the inventory holds."""

import pytest

from harness.adapters.clock import SystemClock
from harness.adapters.probes import StackProbes
from harness.model.system import System
from harness.ports import Stack

pytestmark = [pytest.mark.staging, pytest.mark.smoke, pytest.mark.conformance]


def test_every_probe_of_the_inventory_holds(stack: Stack, system: System):
    """The probes that the rollout makes between stages hold now, on both arms."""
    bad = [
        f"{record.signal} {record.arm or ''}: {record.note}"
        for record in StackProbes(system, stack, SystemClock()).collect()
        if record.bad
    ]
    assert not bad, "; ".join(bad)
