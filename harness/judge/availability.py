"""Probes: is every service well, and whose fault is it where one is not?"""

from collections.abc import Iterator
from dataclasses import dataclass

from harness.judge.finding import Finding, Look, Terms, missing
from harness.model.evidence import Arm, Evidence, Kind
from harness.model.status import Status

_DOWN_AFTER = 2  # consecutive bad probes
_FLAPPING = 3  # bad probes, if they are more than a fifth: well at the moment, but not shown to be
_CRASH_LOOP = 2  # exits that nobody asked for


@dataclass(slots=True)
class ProbeState:
    """What the probes of one signal on one arm said: the newest one, and the row of bad ones it ends."""

    last_s: float = float("-inf")
    started_s: float = float("-inf")
    previous_s: float = float("-inf")  # when the one before began
    bad_row: int = 0
    probes: int = 0
    bad: int = 0
    note: str = ""

    def take(self, record: Evidence) -> None:
        """Take one probe."""
        self.previous_s, self.started_s, self.last_s = self.started_s, record.start_s, record.end_s
        self.probes += 1
        if record.bad:
            self.bad += 1
            self.bad_row += 1
            self.note = record.note
        else:
            self.bad_row = 0

    @property
    def down(self) -> bool:
        """Whether the service is down: two bad probes in a row. A single one may be a lost packet."""
        return self.bad_row >= _DOWN_AFTER


class ProbeBook:
    """The newest probes of everything, shared by all availability trials of a run.

    A candidate can't be blamed while a shared service is away, whichever objective watches that one.
    """

    def __init__(self) -> None:
        """Start without a probe."""
        self.states: dict[tuple[str, Arm | None], ProbeState] = {}

    def observe(self, record: Evidence) -> None:
        """Take one probe of any signal."""
        if record.kind is not Kind.EVENTS or record.n < 1:
            msg = f"{record.signal}: a probe is an events record with n >= 1"
            raise ValueError(msg)
        self.states.setdefault((record.signal, record.arm), ProbeState()).take(record)

    def under(self, prefix: str) -> Iterator[tuple[str, Arm | None, ProbeState]]:
        """Yield the signals called `prefix` or `prefix.*`, in a stable order."""
        for signal, arm in sorted(self.states, key=lambda key: (key[0], key[1] or "")):
            if signal == prefix or signal.startswith(prefix + "."):
                yield signal, arm, self.states[signal, arm]

    def shared_trouble(self) -> str:
        """Return a shared signal whose newest probe is bad, "" for none."""
        bad = (signal for (signal, arm), state in self.states.items() if arm is None and state.bad_row)
        return min(bad, default="")


class AvailabilityTrial:
    """Every probe under a prefix ("health", "check") answers.

    The candidate down while the baseline's twin was probed well in the same round, and no shared service is
    in trouble, is the release's failure, for good. Anything else down is an error, for as long as it lasts.
    A single bad newest probe is inconclusive at any look, the last one too: it neither convicts nor acquits.
    """

    def __init__(self, terms: Terms, book: ProbeBook) -> None:
        """Read the probes from `book`, which the judge feeds."""
        self._prefix = terms.objective.signal
        self._stale_s = max(15.0, 8 * terms.plan.look_s)
        self._book = book
        self._failed = ""

    def observe(self, record: Evidence) -> None:
        """Keep nothing, the book has it; ValueError for what is no probe."""
        if record.kind is not Kind.EVENTS:
            msg = f"{record.signal}: a probe is an events record, found {record.kind}"
            raise ValueError(msg)

    def settle(self) -> None:
        """Hold a failure fast once a whole round of probes is in."""
        if not self._failed:
            self._failed = next((blame for blame, fault in self._downs() if fault is Status.FAIL), "")

    def find(self, look: Look) -> Finding:
        """Judge the newest probes."""
        states = list(self._book.under(self._prefix))
        probes = sum(state.probes for _, _, state in states)
        if self._failed:
            return Finding(status=Status.FAIL, reason=self._failed, n=probes)
        if not states:
            return missing(look, f"nothing probed {self._prefix}", fatal=True)
        blame = next((blame for blame, _ in self._downs()), "")  # settled: none of it is the release's
        if blame:
            return Finding(status=Status.ERROR, reason=blame, n=probes)
        doubt = self._doubt(look, states)
        if doubt:
            status = Status.ERROR if look.final else Status.INCONCLUSIVE
            return Finding(status=status, reason=doubt, n=probes)
        for signal, arm, state in states:
            if state.bad_row:
                said = state.note or "no answer"
                reason = f"{signal} of the {arm or 'stack'}: the newest probe is bad ({said}); the next one decides"
                return Finding(status=Status.INCONCLUSIVE, reason=reason, n=probes)
        bad = sum(state.bad for _, _, state in states)
        seen = f"{len(states)} endpoints, {probes} probes, {bad} bad, none down"
        return Finding(status=Status.PASS, reason=seen, estimate=100 * bad / probes, n=probes)

    def _downs(self) -> Iterator[tuple[str, Status]]:
        """Yield (reason, fail or error) for each thing that is down."""
        shared = self._book.shared_trouble()
        for signal, arm, state in self._book.under(self._prefix):
            if not state.down:
                continue
            note = (
                f"{signal} of the {arm or 'stack'}: {state.bad_row} bad probes in a row ({state.note or 'no answer'})"
            )
            if arm is not Arm.CANDIDATE:
                yield f"{note}; not the release's", Status.ERROR
            elif shared:
                yield f"{note}, while the shared {shared} is in trouble too", Status.ERROR
            elif self._twin_well(signal, state):
                yield f"{note}, while the baseline's is well", Status.FAIL
            else:
                yield f"{note}, and the baseline's is not shown to be well", Status.ERROR

    def _twin_well(self, signal: str, candidate: ProbeState) -> bool:
        """Tell whether the baseline's twin answered in the candidate's newest round of probes, not only before."""
        twin = self._book.states.get((signal, Arm.BASELINE))
        if twin is None or twin.bad_row:
            return False
        # Beginnings are compared: a probe that times out ends long after its twin's of the same round.
        round_s = candidate.started_s - candidate.previous_s  # of two probes at least: the candidate is down
        return twin.started_s >= candidate.started_s - round_s / 2

    def _doubt(self, look: Look, states: list[tuple[str, Arm | None, ProbeState]]) -> str:
        """Return what the probes as a whole leave open, "" for nothing."""
        arms = {(signal, arm) for signal, arm, _ in states}
        for signal, arm, state in states:
            name = f"{signal} of the {arm or 'stack'}"
            if look.at - state.last_s > self._stale_s:
                return f"{name} was not probed for {look.at - state.last_s:.0f} s"
            if state.bad >= _FLAPPING and state.bad > state.probes / 5:
                return f"{name} comes and goes: {state.bad} of {state.probes} probes bad"
            other = Arm.BASELINE if arm is Arm.CANDIDATE else Arm.CANDIDATE
            if arm is not None and (signal, other) not in arms:
                return f"{signal} is probed on the {arm} only"
        return ""


class RestartTrial:
    """Exits that nobody asked for, by the gauge "restarts" of each arm.

    Two or more of the candidate with none of the baseline: a crash loop, the release's failure. One is
    neither (never a pass); any of the baseline is an error.
    """

    def __init__(self) -> None:
        """Start without a reading."""
        self._highest: dict[tuple[str, Arm | None], float] = {}

    def observe(self, record: Evidence) -> None:
        """Keep the highest reading of each gauge."""
        if record.kind is not Kind.GAUGE or record.value is None or record.value < 0:
            msg = f"{record.signal}: restarts are a gauge that is not negative"
            raise ValueError(msg)
        key = (record.signal, record.arm)
        self._highest[key] = max(self._highest.get(key, 0.0), record.value)

    def settle(self) -> None:
        """Nothing waits for the end of a batch."""

    def find(self, look: Look) -> Finding:
        """Judge the exits so far."""
        exits = dict.fromkeys([arm for _, arm in self._highest], 0)
        for (_, arm), value in self._highest.items():
            exits[arm] += int(value)
        if Arm.CANDIDATE not in exits or Arm.BASELINE not in exits:
            return missing(look, "the restarts of both arms were not read", fatal=True)
        mine, others = exits[Arm.CANDIDATE], sum(count for arm, count in exits.items() if arm is not Arm.CANDIDATE)
        reason = f"the candidate's processes ended {mine} times unasked, all others {others} times"
        if others:
            status = Status.ERROR
        elif mine >= _CRASH_LOOP:
            status = Status.FAIL
        else:
            status = Status.INCONCLUSIVE if mine else Status.PASS
        return Finding(status=status, reason=reason, estimate=float(mine), n=len(self._highest))
