"""Drills: harness-side faults, struck on purpose through the same ports that a run uses."""

from harness.model.errors import SpecError
from harness.model.system import Drill
from harness.ports import Stack
from harness.run.driver import Driver


def strike(drill: Drill, stack: Stack, driver: Driver) -> None:
    """Bring the fault in. Faults of `env` (misroute, slow_arms) are in place since the start."""
    load = driver.parts.load
    match drill.action:
        case "kill_service":
            stack.kill(drill.service)
        case "kill_load" if load is not None:
            load.kill()
        case "stall_load" if load is not None:
            load.stall(drill.value)
        case "misroute" | "slow_arms":
            return
        case _:
            msg = f"cannot strike {drill.action!r} here"
            raise SpecError(msg, where=drill.path, key="action", mend="see the drills of stack/systems/")
