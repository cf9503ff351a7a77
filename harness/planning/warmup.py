"""Whether the load brings what can be judged: told from the warm-up, before any traffic is moved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.model.evidence import Evidence, Kind, Source
from harness.model.objective import Severity
from harness.model.system import System

LEAST = 5  # ended requests before anything is said: at 5 % errors all of them fail in 3 of 10 million warm-ups
_HEARD = 20  # answers before a signal that none of them brought is taken for one that never comes
_UNROUTED = ".unrouted"
_OWN = ("latency", "latency.fine", "service", "error")  # written for every scenario, declared or not


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a scenario called `prefix` is to bring.

    `awaited` are the client's signals that guardrails judge, by objective; `declared` all that the system names.
    For `patience_s` beyond the warm-up the first answers are waited for: what is slow has its intervals late.
    """

    prefix: str
    awaited: Mapping[str, str]
    declared: frozenset[str]
    patience_s: float


@dataclass(slots=True)
class Brought:
    """What the load has brought so far: requests that ended, those that failed, those that named no arm, signals."""

    expected: Expected
    ended: int = 0
    failed: int = 0
    unrouted: int = 0
    signals: set[str] = field(default_factory=set[str])

    def add(self, records: Sequence[Evidence]) -> None:
        """Take in records of whatever source; the client's count."""
        errors = f"{self.expected.prefix}.error"
        for record in records:
            if record.source is not Source.CLIENT or not record.n or record.kind is Kind.ASSIGNMENT:
                continue
            signal = record.signal.removesuffix(_UNROUTED)
            if signal != "load.late":
                self.signals.add(signal)
            if signal == errors:
                self.ended += record.n
                self.failed += record.bad
                self.unrouted += record.n if record.arm is None else 0

    @property
    def enough(self) -> bool:
        """Whether so many requests have ended that something can be said."""
        return self.ended >= LEAST

    def unusable(self) -> str:
        """Say why nothing could be judged by this load, with the mend; "" where something can."""
        if not self.ended:
            return "no request of the warm-up was answered, nor did one fail — see logs/load.log"
        if not self.enough:
            return ""
        if self.failed == self.ended:
            nobody = ", and none named an arm: is the router up?" if self.unrouted == self.ended else ""
            return (
                f"all {self.ended} requests of the warm-up failed{nobody} — try one of the scenario's requests by "
                "hand, and see logs/load.log and the baseline's own log"
            )
        if self.unrouted == self.ended:
            return (
                f"none of the {self.ended} requests of the warm-up named an arm — router or application must set the "
                "header that `traffic.headers.arm` names"
            )
        return self._misnamed() if self.ended - self.failed >= _HEARD else ""

    def unheard(self) -> str:
        """Say which guardrails wait for a signal that has not come yet; "" where none does."""
        waiting = self._waiting()
        return f"not heard of in the warm-up: {waiting}; the load wrote {_names(self.signals)}" if waiting else ""

    def _misnamed(self) -> str:
        """Say so where guardrails wait in vain while the load writes what nobody declared."""
        own = {f"{self.expected.prefix}.{name}" for name in _OWN}
        strange = self.signals - self.expected.declared - own
        waiting = self._waiting()
        if not (strange and waiting):
            return ""
        return (
            f"the load writes {_names(strange)}, which system.yaml does not declare, and never wrote {waiting} — give "
            "the workload's checks the names under `signals`, or declare those that it writes"
        )

    def _waiting(self) -> str:
        missing: dict[str, list[str]] = {}
        for objective, signal in self.expected.awaited.items():
            if signal not in self.signals:
                missing.setdefault(signal, []).append(objective)
        return "; ".join(f"`{signal}` ({', '.join(ids)})" for signal, ids in sorted(missing.items()))


def expected(system: System, patience_s: float) -> Expected:
    """Return what a system's scenario is to bring."""
    declared = frozenset(signal.name for signal in system.signals if signal.client)
    return Expected(
        prefix=system.scenario.name,
        awaited={
            one.id: one.signal
            for one in system.objectives
            if one.severity is Severity.CRITICAL and Source.CLIENT in one.sources and one.signal in declared
        },
        declared=declared,
        patience_s=patience_s,
    )


def _names(signals: set[str]) -> str:
    return ", ".join(f"`{signal}`" for signal in sorted(signals)) or "nothing"
