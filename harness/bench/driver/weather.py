"""Which faults a world has, and which of them really struck."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random


class Fault(StrEnum):
    """One kind of fault. A crash is counted by the place where it struck, by the world."""

    DELAY = "an answer is delayed"
    LOST_COMMAND = "a router command is lost"
    LOST_ANSWER = "the router moves, its answer is lost"
    REFUSAL = "the router refuses in silence"
    DUPLICATE = "an old router command is delivered again, later"
    UNREAD = "the router cannot be read"
    OUTAGE = "the router is away for a while"
    FLAG_LOST_ANSWER = "the flag changes, the answer is lost"
    FLAG_REFUSAL = "the flag cannot be written"
    FLAG_UNREAD = "the flags cannot be read"
    CRASH = "the process is killed"
    STALL = "the process is frozen for a while"
    TAKEOVER = "a second driver takes over from a frozen one"
    INTERRUPT = "Ctrl-C"
    DISK_FULL = "the disk is full for a while"
    CLOCK_STEP = "the wall clock steps"
    FOREIGN = "somebody else moves traffic by hand"
    PARTIAL = "metrics come in part"
    JUDGE_ERROR = "the judge has errors for a while"
    ORDER = "an operator's order"
    HOOK_REFUSES = "a hook refuses"
    HOOK_SILENT = "a hook gives no answer"
    HOOK_LATE = "a hook answers late"
    PARENT = "a flag above it is lowered"


# How often each strikes, at most: per call, or per world for what lasts a while or comes once.
_PER_CALL = {
    Fault.DELAY: 0.2,
    Fault.LOST_COMMAND: 0.3,
    Fault.LOST_ANSWER: 0.5,
    Fault.REFUSAL: 0.3,
    Fault.DUPLICATE: 0.4,
    Fault.UNREAD: 0.2,
    Fault.FLAG_LOST_ANSWER: 0.5,
    Fault.FLAG_REFUSAL: 0.3,
    Fault.FLAG_UNREAD: 0.2,
    Fault.STALL: 0.1,
    Fault.TAKEOVER: 0.7,
    Fault.INTERRUPT: 0.02,
    Fault.PARTIAL: 0.3,
    Fault.HOOK_REFUSES: 0.7,
    Fault.HOOK_SILENT: 0.3,
    Fault.HOOK_LATE: 0.7,
}
HARMLESS = {Fault.DELAY, Fault.CRASH, Fault.CLOCK_STEP, Fault.PARTIAL}
_CALM, _MILD = 0.08, 0.3  # shares of the worlds without any fault, and with harmless ones alone
_ON = 0.3  # the chance of each fault in any other world


@dataclass(slots=True)
class Weather:
    """The faults of one world. `hits` counts those that struck."""

    rng: Random
    rates: dict[Fault, float] = field(default_factory=dict[Fault, float])
    hits: Counter[str] = field(default_factory=Counter[str])
    over: bool = False

    @classmethod
    def draw(cls, rng: Random) -> "Weather":
        """Draw which faults are possible, and how often."""
        kind = rng.random()
        if kind < _CALM:
            return cls(rng)
        among = sorted(HARMLESS) if kind < _MILD else sorted(Fault)
        chance = 2 * _ON if kind < _MILD else _ON
        chosen = [fault for fault in among if rng.random() < chance]
        return cls(rng, {fault: rng.uniform(0.1, 1) * _PER_CALL.get(fault, 1.0) for fault in chosen})

    @property
    def harmless(self) -> bool:
        """Whether a rollout must end here as its release deserves."""
        return HARMLESS.issuperset(self.rates)

    def has(self, fault: Fault) -> bool:
        """Tell whether a fault that is drawn once for a world is one of this world's."""
        return fault in self.rates

    def strikes(self, fault: Fault) -> bool:
        """Tell whether `fault` strikes now, and count it."""
        if self.over or fault not in self.rates or self.rng.random() >= self.rates[fault]:
            return False
        self.hits[fault] += 1
        return True
