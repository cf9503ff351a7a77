"""The simulated hooks, and the flags above the feature: who must allow a stage, who is told, what bounds a raise."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from harness.bench.driver.weather import Fault
from harness.model.errors import EnvironmentProblem
from harness.model.hook import BEFORE, Delivered, Delivery

if TYPE_CHECKING:
    from harness.bench.driver.world import Process, World

_NEVER = float("inf")


class SimulatedHooks:
    """One process's hooks. What is told before a stage may be refused, come late, or never be answered."""

    rollout = "r1"

    def __init__(self, world: "World", process: "Process") -> None:
        """Belong to `process`: with it end the deliveries that are under way."""
        self._world, self._process = world, process
        self._under_way: list[tuple[float, Delivered]] = []
        self.asks = world.asks

    def has(self, hook: str) -> bool:
        """Tell whether there is such a hook: what only tells is always there."""
        return self.asks or hook != BEFORE

    def send(self, delivery: Delivery) -> None:
        """Deliver, and settle what will come of it."""
        world, weather = self._world, self._world.weather
        if not self.has(delivery.hook):
            return
        world.call(self._process, "before a hook is told")
        world.rules.told(self._process, delivery)
        world.say(f"hook {delivery.id} is told")
        seconds, ok, said = 0.0, True, "status 204"
        if weather.strikes(Fault.HOOK_SILENT):
            seconds = _NEVER
        elif weather.strikes(Fault.HOOK_REFUSES):
            ok, said = False, "status 500"
        elif weather.strikes(Fault.HOOK_LATE):
            seconds = weather.rng.uniform(1, 20)
        self._under_way.append(
            (world.elapsed + seconds, Delivered(id=delivery.id, hook=delivery.hook, ok=ok, said=said))
        )
        world.point(self._process, "after a hook is told")

    def collect(self) -> Sequence[Delivered]:
        """Return what has come by now; once faults have ceased, silence ends too, as a hook's own timeout ends it."""
        now = _NEVER if self._world.weather.over else self._world.elapsed
        found = [one for due, one in self._under_way if due <= now]
        self._under_way = [pair for pair in self._under_way if pair[0] > now]
        return found

    def finish(self) -> Sequence[Delivered]:
        """Return what came of the rest."""
        found = [one for _, one in self._under_way]
        self._under_way = []
        return found


def refusal(world: "World", process: "Process") -> Callable[[float], str]:
    """Return what refuses a raise above what the parents are worth at that moment."""

    def refuses(share: float) -> str:
        world.call(process, "reading the parents")
        if world.weather.strikes(Fault.FLAG_UNREAD):
            raise EnvironmentProblem("the flags cannot be read")
        parent = world.traffic.parent
        if share > parent:
            return f"its parent is effective at {parent:g} %"
        world.rules.permitted = share
        return ""

    return refuses
