"""Doubles of the driver's surroundings: a clock that is only told the time, and a router in memory."""

from dataclasses import dataclass, field

from harness.model.errors import EnvironmentProblem
from harness.ports import RouterState


@dataclass
class SimulatedClock:
    """Time that passes when somebody sleeps, and a few milliseconds whenever somebody asks."""

    at: float = 1_000_000.0

    def now(self) -> float:
        self.at += 0.003
        return self.at

    def monotonic(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


@dataclass
class PlainRouter:
    """A router in memory that can be told to refuse."""

    limit: int = 0
    lease: bool = False
    settled: int = 0
    refusals: int = 0
    sticky: bool = True
    name: str = "plain"
    returns_alone: bool = True
    history: list[int] = field(default_factory=list[int])

    def read(self) -> RouterState:
        return RouterState(limit=self.limit, lease_held=self.lease, candidate_up=True, baseline_up=True)

    def set_limit(self, limit: int) -> None:
        if self.refusals:
            self.refusals -= 1
            msg = "the router does not answer"
            raise EnvironmentProblem(msg)
        self.limit = limit
        self.history.append(limit)

    def hold_lease(self) -> None:
        self.lease = True

    def drop_lease(self) -> None:
        self.lease = False

    def settle(self, limit: int) -> None:
        self.settled = limit
