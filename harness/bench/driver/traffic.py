"""The simulated router and flags: what users see, and the adapters through which a driver moves it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.bench.driver.weather import Fault
from harness.model.errors import EnvironmentProblem
from harness.ports import RouterState

if TYPE_CHECKING:
    from harness.bench.driver.world import Process, World

_BASIS = 100


@dataclass(slots=True)
class Traffic:
    """The router and the flag as they are. `settled` is what of the limit needs no lease.

    `foreign`: the newest change was not the driver's. `parent` is what the flags above are worth, percent.
    """

    limit: int
    flag: float
    leased: bool
    settled: int
    holder: "Process | None" = None
    held_until: float = 0.0
    foreign: bool = False
    parent: float = 100.0

    def held(self, at: float) -> bool:
        """Tell whether a live process answers for the lease."""
        return self.holder is not None and not self.holder.frozen and self.held_until >= at

    def seen(self, at: float) -> float:
        """Return the candidate's share that users get, percent."""
        lapsed = self.leased and not self.held(at)
        return (min(self.limit, self.settled) if lapsed else self.limit) / _BASIS


class SimulatedRouter:
    """One process's adapter of the router: it commands, then reads back."""

    name = "simulated"
    sticky = True
    renews = True

    def __init__(self, world: "World", process: "Process") -> None:
        """Belong to `process`."""
        self._world, self._process = world, process
        self.returns_alone = world.traffic.leased

    def read(self) -> RouterState:
        """Ask the router; EnvironmentProblem where it does not answer."""
        world = self._world
        world.call(self._process, "reading the router")
        if world.away() or world.weather.strikes(Fault.UNREAD):
            world.rules.read(None)
            raise EnvironmentProblem("the router does not answer")
        traffic = world.traffic
        world.rules.read(traffic.limit / _BASIS)
        return RouterState(
            limit=traffic.limit,
            lease_held=traffic.held(world.elapsed),
            candidate_up=True,
            baseline_up=True,
            settled=traffic.settled if traffic.leased else None,
        )

    def set_limit(self, limit: int) -> None:
        """Command and read back; EnvironmentProblem where the answer is lost or says something else."""
        world, weather = self._world, self._world.weather
        world.call(self._process, "before a router command")
        world.rules.acts(self._process, limit / _BASIS)
        if world.away() or weather.strikes(Fault.LOST_COMMAND):
            raise EnvironmentProblem("the router does not answer")
        if not weather.strikes(Fault.REFUSAL):
            world.moved(limit, foreign=False, why=f"life {self._process.number}")
            if Fault.DUPLICATE in weather.rates and weather.rng.random() < weather.rates[Fault.DUPLICATE]:
                world.later(weather.rng.uniform(0.2, 10), lambda: world.delivered_again(limit))
        world.call(self._process, "after a router command")
        if weather.strikes(Fault.LOST_ANSWER):
            raise EnvironmentProblem("the router's answer is lost")
        self.read_back(limit)

    def read_back(self, limit: int) -> None:
        """Hold the router to what it was told."""
        if self._world.traffic.limit != limit:
            raise EnvironmentProblem(f"the router was told {limit} and has {self._world.traffic.limit}")

    def hold_lease(self) -> None:
        """Hold the lease; EnvironmentProblem while another process has it."""
        world, traffic = self._world, self._world.traffic
        world.call(self._process, "before the lease")
        if not traffic.leased:
            return
        if traffic.holder not in {None, self._process}:
            raise EnvironmentProblem("the lease's port is taken")
        traffic.holder = self._process
        traffic.held_until = float("inf") if self.renews else world.elapsed + 2.0
        world.say(f"the lease is held: users see {traffic.seen(world.elapsed):g} %")
        world.rules.users_see()

    def settle(self, limit: int) -> None:
        """Make `limit` the share that needs no lease."""
        world, weather = self._world, self._world.weather
        world.call(self._process, "before settling")
        if not world.traffic.leased:
            return
        world.rules.settles(self._process)
        if world.away() or weather.strikes(Fault.LOST_COMMAND):
            raise EnvironmentProblem("the router does not answer")
        world.traffic.settled = limit
        world.say(f"settled: {limit / _BASIS:g} % without a lease")
        world.call(self._process, "after settling")
        if weather.strikes(Fault.LOST_ANSWER):
            raise EnvironmentProblem("the router's answer is lost")

    def drop_lease(self) -> None:
        """Let the lease go."""
        if self._world.traffic.holder is self._process:
            self._world.traffic.holder = None
            self._world.say("the lease is dropped")


class SimulatedFlags:
    """One process's adapter of the flags."""

    def __init__(self, world: "World", process: "Process") -> None:
        """Belong to `process`."""
        self._world, self._process = world, process

    def read(self) -> Mapping[str, float]:
        """Return the one flag; EnvironmentProblem where it cannot be read."""
        self._world.call(self._process, "reading the flags")
        if self._world.weather.strikes(Fault.FLAG_UNREAD):
            raise EnvironmentProblem("the flags cannot be read")
        return {"feature": self._world.traffic.flag}

    def set(self, name: str, percent: float) -> None:
        """Change the flag; EnvironmentProblem where that fails, or only seems to."""
        world = self._world
        world.call(self._process, "before a flag's change")
        world.rules.acts(self._process, percent)
        if world.weather.strikes(Fault.FLAG_REFUSAL):
            raise EnvironmentProblem(f"flag {name} cannot be written")
        world.traffic.flag = percent
        world.say(f"flag: {percent:g} %")
        world.call(self._process, "after a flag's change")
        if world.weather.strikes(Fault.FLAG_LOST_ANSWER):
            raise EnvironmentProblem("the answer of the flags is lost")
