"""A router in memory that keeps every promise, and routers that break one each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import router_conformance as checks
from router_conformance import Rig

from harness.adapters.load.split import bucket
from harness.model.errors import EnvironmentProblem
from harness.model.evidence import Arm
from harness.ports import RouterState


@dataclass
class World:
    """The program behind the adapter: what it runs, what it would start with, who holds the lease."""

    running: int = 0
    stored: int = 0
    leased: bool = False
    settled: int = 0
    away: bool = False


class Honest:
    """The adapter. `caught_by` is the check that a liar must fail."""

    name = "memory"
    sticky = True
    returns_alone = True
    caught_by: ClassVar[Callable[[Rig], None]] = staticmethod(checks.says_what_it_is)

    def __init__(self, world: World) -> None:
        self.world = world

    def read(self) -> RouterState:
        self.answering()
        held = self.world.leased
        return RouterState(
            limit=self.world.running, lease_held=held, candidate_up=True, baseline_up=True, settled=self.world.settled
        )

    def set_limit(self, limit: int) -> None:
        if not 0 <= limit <= 10_000:
            msg = f"a limit lies in 0..10000, found {limit}"
            raise ValueError(msg)
        self.answering()
        self.world.running = self.world.stored = limit
        self.world.settled = min(self.world.settled, limit)

    def hold_lease(self) -> None:
        self.world.leased = True

    def drop_lease(self) -> None:
        self.world.leased = False

    def settle(self, limit: int) -> None:
        self.answering()
        self.world.settled = limit

    def answering(self) -> None:
        """Raise while the program is away."""
        if self.world.away:
            raise EnvironmentProblem("the router does not answer", mend="start it")

    def serves(self, session: str, force: str) -> str:
        """Return the arm that the program gives to a request."""
        if force:
            return force
        limit = self.world.running if self.world.leased else self.world.settled
        return Arm.CANDIDATE if bucket(session) < limit else Arm.BASELINE


class MemoryRig:
    """The rig of a router in memory."""

    forces = keeps = True
    patience_s = 0.05

    def __init__(self, make: type[Honest]) -> None:
        self._make, self.world = make, World()
        self.router = self.another()

    def another(self) -> Honest:
        return self._make(self.world)

    def meddle(self, limit: int) -> None:
        self.world.running = self.world.stored = limit

    def renewals(self) -> Mapping[str, Callable[[], None]]:
        return {"restart": self._restart}

    def stop(self) -> None:
        self.world.away = True

    def arms(self, sessions: Sequence[str], force: str = "") -> list[str]:
        return [self.router.serves(session, force) for session in sessions]

    def _restart(self) -> None:
        self.world.running = self.world.stored


def memory_rig(make: type[Honest]) -> MemoryRig:
    """Return the rig of a router in memory, honest or not."""
    return MemoryRig(make)


class Nameless(Honest):
    """Does not say what it is."""

    name = ""


class AcceptsAndIgnores(Honest):
    """Takes a limit without a word and changes nothing."""

    caught_by = staticmethod(checks.takes_every_limit)

    def set_limit(self, limit: int) -> None:
        del limit


class SaysWhatItWasTold(Honest):
    """Changes nothing, and says what it was told when it is asked."""

    caught_by = staticmethod(checks.sends_what_it_says)
    told = 0

    def set_limit(self, limit: int) -> None:
        self.told = limit

    def read(self) -> RouterState:
        return RouterState(limit=self.told, lease_held=True, candidate_up=True, baseline_up=True)


class TakesHalf(Honest):
    """Halves the share, and says so when it is asked."""

    caught_by = staticmethod(checks.takes_every_limit)

    def set_limit(self, limit: int) -> None:
        super().set_limit(limit // 2)


class SendsHalf(Honest):
    """Says the whole share and sends half of it."""

    caught_by = staticmethod(checks.sends_what_it_says)

    def serves(self, session: str, force: str) -> str:
        below = bucket(session) < self.world.running // 2 and self.world.leased
        return force or (Arm.CANDIDATE if below else Arm.BASELINE)


class ForgetsAfterReload(Honest):
    """Changes what runs, and never what it would start with."""

    caught_by = staticmethod(checks.outlives_a_renewal)

    def set_limit(self, limit: int) -> None:
        super().set_limit(limit)
        self.world.stored = 0


class AnswersStale(Honest):
    """Remembers what it set last and never asks the program again."""

    caught_by = staticmethod(checks.sees_a_foreign_change)
    last = 0

    def set_limit(self, limit: int) -> None:
        super().set_limit(limit)
        self.last = limit

    def read(self) -> RouterState:
        self.answering()
        return RouterState(limit=self.last, lease_held=True, candidate_up=True, baseline_up=True)


class Adds(Honest):
    """Moves on by the limit each time: the same call twice is twice the share."""

    caught_by = staticmethod(checks.is_idempotent)

    def set_limit(self, limit: int) -> None:
        super().set_limit(min(10_000, self.world.running + limit))


class Clamps(Honest):
    """Makes a share of anything."""

    caught_by = staticmethod(checks.refuses_what_is_no_share)

    def set_limit(self, limit: int) -> None:
        super().set_limit(min(max(limit, 0), 10_000))


class MovesThenRefuses(Honest):
    """Refuses what is no share, after it has moved everybody."""

    caught_by = staticmethod(checks.refuses_what_is_no_share)

    def set_limit(self, limit: int) -> None:
        self.world.running = min(max(limit, 0), 10_000)
        super().set_limit(limit)


class NeverAway(Honest):
    """Goes on to answer when the program is gone."""

    caught_by = staticmethod(checks.says_when_it_is_away)

    def answering(self) -> None:
        pass


class KnowsNoMend(Honest):
    """Says that the program is gone, and leaves the reader alone with it."""

    caught_by = staticmethod(checks.says_when_it_is_away)

    def answering(self) -> None:
        if self.world.away:
            raise EnvironmentProblem("something failed")


class Reshuffles(Honest):
    """Keeps the share exactly, of other users each time."""

    caught_by = staticmethod(checks.never_moves_a_user_out)

    def serves(self, session: str, force: str) -> str:
        below = bucket(f"{session}/{self.world.running}") < self.world.running and self.world.leased
        return force or (Arm.CANDIDATE if below else Arm.BASELINE)


class IgnoresTheHeader(Honest):
    """Sends everybody by the share, whatever they ask for."""

    caught_by = staticmethod(checks.lets_an_arm_be_forced)

    def serves(self, session: str, force: str) -> str:
        del force
        return super().serves(session, "")


class StaysWithTheDead(Honest):
    """Promises that traffic returns alone, and leaves it where it is."""

    caught_by = staticmethod(checks.returns_alone_as_it_says)

    def drop_lease(self) -> None:
        pass


class ReturnsUnasked(Honest):
    """Says that traffic stays when the driver dies; it does not, which would end a rollout by surprise."""

    returns_alone = False
    caught_by = staticmethod(checks.returns_alone_as_it_says)


class SettlesInWords(Honest):
    """Says that a share stays without a lease; it does not."""

    caught_by = staticmethod(checks.keeps_what_is_settled)

    def serves(self, session: str, force: str) -> str:
        return super().serves(session, force) if force or self.world.leased else Arm.BASELINE


class KeepsWhoWasTakenBack(Honest):
    """Leaves the settled ones on the candidate when the limit is taken down."""

    caught_by = staticmethod(checks.keeps_what_is_settled)

    def set_limit(self, limit: int) -> None:
        settled = self.world.settled
        super().set_limit(limit)
        self.world.settled = settled


LIARS = tuple(Honest.__subclasses__())
