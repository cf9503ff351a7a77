"""One deployed system to which anything may be done in any order, and what must hold of it after each step.

Everything is real but the driver's clock: time passes for it where a step lets it. So a process stands still between
steps, and the same steps give the same history.
"""

import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

from harness.adapters.flags_file import write_flags
from harness.bench.driver.real_child import Steps
from harness.bench.driver.real_crash import begin, ended, forks, left
from harness.bench.driver.real_place import CHILD, FEATURE, NEVER, Place, wait
from harness.model.errors import EnvironmentProblem
from harness.planning.rollouts import Past

TORN = {"half": b'{\n "search": 2', "empty": b"", "noise": b"\x00\xff\x00", "no object": b"[1, 2]"}
_EPOCH = 1_700_000_000.0
_PATIENCE_S = 30.0
_MOST_SLEEPS = 400  # of one command that runs to its end


class BrokenError(AssertionError):
    """An invariant does not hold."""


@dataclass(slots=True)
class Model:
    """The system, the driver that lives there now, and what was done by hand since anybody drove."""

    place: Place
    echo: Callable[[str], None]
    done: Counter[str] = field(default_factory=Counter[str])
    ends: Counter[str] = field(default_factory=Counter[str])
    checks: int = 0
    driver: ForkServerProcess | None = None
    line: "Connection[float, float] | None" = None
    asleep: float = 0.0
    feature: str = FEATURE
    at: float = _EPOCH
    base: float = 0.0
    by_hand: set[float] = field(default_factory=set[float])
    lost: bool = False
    flags: Mapping[str, float] = field(default_factory=dict[str, float])

    def begin(self, name: str, base: float) -> None:
        """Begin a history of its own."""
        self.place.bad = NEVER
        self.place.fresh(name, base)
        self.by_hand, self.lost, self.at, self.feature = set(), False, _EPOCH, FEATURE
        self.base, self.flags = base, self.place.flags.read()

    def close(self) -> None:
        """End what still lives."""
        if self.driver is not None:
            self.kill()
        self.echo(f"{sum(self.done.values())} steps")

    @property
    def known(self) -> bool:
        """Whether there was any rollout."""
        return bool(self.place.journal.pasts())

    @property
    def unfinished(self) -> bool:
        """Whether a driver left the newest rollout of the feature, and nobody drives now."""
        mine = [one for one in self.place.journal.pasts() if one.feature == FEATURE]
        return self.driver is None and bool(mine) and not mine[-1].left.finished

    @property
    def troubled(self) -> bool:
        """Whether something was done by hand that nobody has set right."""
        return self.lost or bool(self.by_hand)

    # ---- what can be done

    def command(self, verb: str, *more: str, feature: str = FEATURE, driving: bool = False) -> int | None:
        """Start a command; with `driving` it is let go at its first sleep, else it is heard to its end.

        Returns its exit code, None while it still drives.
        """
        self.done[verb] += 1
        ours, theirs = forks().Pipe()
        asked = self.place.arguments(*more, feature=feature)
        process = begin(self.place, asked, "log", steps=Steps(theirs, self.at))
        theirs.close()
        for _ in range(_MOST_SLEEPS):
            slept = _heard(process, ours)
            if slept is None:
                return self._ended(process, ours, verb)
            if driving:
                self.driver, self.line, self.asleep, self.feature = process, ours, slept, feature
                self.by_hand.clear()
                return None
            self.at += slept
            ours.send(0.0)
        process.kill()
        process.join()
        raise BrokenError(f"`{verb}` does not come to an end")

    def tick(self, looks: int, *, frozen_s: float = 0.0) -> None:
        """Let the driver go on for some looks; the first sleep lasts longer by `frozen_s`."""
        self.done["freeze" if frozen_s else "look"] += 1
        for _ in range(looks):
            process, line = self.driver, self.line
            if process is None or line is None:
                return
            self.at += self.asleep + frozen_s
            line.send(frozen_s)
            frozen_s = 0.0
            slept = _heard(process, line)
            if slept is None:
                self.driver = self.line = None
                self._ended(process, line, "driver")
            else:
                self.asleep = slept

    def second(self, *more: str) -> None:
        """Start a second command beside the driver: it is refused, and moves nothing."""
        before = self.place.journal.entries()
        code = self.command("second driver", *more, feature=self.feature)
        _hold(code in {2, 4}, f"a second driver was not refused: exit code {code}")
        _hold(self.place.journal.entries() == before, "a second driver wrote to the journal")

    def kill(self) -> None:
        """Kill the driver; users go back by themselves."""
        process, line = self.driver, self.line
        if process is None or line is None:
            return
        self.done["kill -9"] += 1
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        line.close()
        self.driver = self.line = None
        if self.feature == FEATURE:
            settled = (self.place.router().read().settled or 0) / 100
            self._soon(lambda: self.place.users_see(settled), f"users to be back at {settled:g} %")

    def order(self, verb: str) -> None:
        """Give the newest rollout an order, by the command."""
        if not (found := self.place.journal.pasts()):
            return
        self.done[f"order: {verb}"] += 1
        words = [verb, str(self.place.out / found[-1].id), "--reason", "as told"]
        code = ended(begin(self.place, words, "log"))
        self.ends[f"{verb}: exit code {code}"] += 1
        _hold(code == (2 if found[-1].left.finished else 0), f"{verb}: exit code {code}")

    def hand(self, limit: int) -> None:
        """Move the router's limit by hand."""
        self.done["moved by hand"] += 1
        self.place.meddle(limit)
        self.by_hand.add(limit / 100)

    def renew(self, how: str) -> None:
        """Restart HAProxy, or have it reload: it begins with what its map on disk says."""
        self.done[f"HAProxy: {how}"] += 1
        if how == "restart":
            self.place.stop()
            self.place.start()
        else:
            self.place.reload()
        self.by_hand.add(self.place.router().read().limit / 100)  # the disk may be behind somebody's hand
        if self.driver is not None and self.feature == FEATURE:
            wait(lambda: self.place.router().read().lease_held, "HAProxy to see the lease")

    def release(self, bad: float) -> None:
        """Let the candidate err from a share on."""
        self.done["another release"] += 1
        self.place.bad = bad

    def tear(self, how: str) -> None:
        """Put something unusable in the place of the flags."""
        self.done["flags torn"] += 1
        (self.place.folder / "live.json").write_bytes(TORN[how])
        self.lost = True

    def write_flags(self) -> None:
        """Write the flags anew by hand, as the router is; what depends on the feature is off."""
        self.done["flags written anew"] += 1
        write_flags(self.place.folder / "live.json", {FEATURE: self.place.router().read().limit / 100, CHILD: 0.0})

    # ---- what must hold

    def hold(self) -> None:
        """Hold everything to the invariants. BrokenError where one is broken."""
        self.checks += 1
        journal, state = self.place.journal, self.place.router().read()
        _hold(journal.broken_link() is None, "the chain is broken")
        pasts = journal.pasts()
        self._hold_movers(pasts)
        mine = [one for one in pasts if one.feature == FEATURE]
        meant, found = self._meant(mine), state.limit / 100
        _hold(found in meant | self.by_hand, f"the router is at {found:g} %, meant is {meant}, by hand {self.by_hand}")
        if not self.by_hand:
            settled = (state.settled or 0) / 100
            _hold(settled <= found, f"{settled:g} % are settled, the limit is {found:g} %")
            goal = max(mine[-1].goal, mine[-1].base) if mine else self.base
            _hold(found <= goal, f"{found:g} % is above the goal of {goal:g} %")
        self._hold_flags(meant)

    def _meant(self, mine: Sequence[Past]) -> set[float]:
        """Return the shares that the journal explains: the last confirmed move's, the open intent's, the baseline."""
        if not mine:
            return {self.base}
        entries = [e for e in self.place.journal.entries() if e.what.get("rollout") == mine[-1].id]
        share, intent = left(entries, mine[-1].base)
        return {share, mine[-1].base, share if intent is None else intent}

    def _hold_movers(self, pasts: Sequence[Past]) -> None:
        live = [name for name in (FEATURE, CHILD) if self.place.journal.driven(name)]
        _hold(live == ([] if self.driver is None else [self.feature]), f"{live} are driven")
        open_ones = [one.id for one in pasts if not one.left.finished]
        _hold(len(open_ones) <= 1, f"{open_ones} are open beside each other")

    def _hold_flags(self, meant: set[float]) -> None:
        try:
            flags = self.place.flags.read()
        except EnvironmentProblem:
            _hold(self.lost, "the flags cannot be read, and nobody tore them")
            return
        self.lost = False
        _hold(flags[FEATURE] in meant | self.by_hand, f"the flag is at {flags[FEATURE]:g} %, meant is {meant}")
        raised = flags[CHILD] > self.flags[CHILD]  # a parent may be lowered alone: its child's effective share follows
        _hold(not raised or flags[CHILD] <= flags[FEATURE], f"the child was raised above its parent: {flags}")
        self.flags = flags

    def _soon(self, condition: Callable[[], object], what: str) -> None:
        with suppress(EnvironmentProblem):
            wait(condition, what, within=5.0)
            return
        raise BrokenError(f"waited in vain for {what}")

    def _ended(self, process: ForkServerProcess, line: "Connection[float, float]", verb: str) -> int:
        line.close()
        code = ended(process)
        self.ends[f"{verb}: exit code {code}"] += 1
        _hold(code in {0, 1, 2, 3, 4}, f"`{verb}` ended with {code}")
        self.by_hand = {self.place.router().read().limit / 100} & self.by_hand
        return code


def _heard(process: ForkServerProcess, line: "Connection[float, float]") -> float | None:
    """Return for how long a process wants to sleep, None when it has ended."""
    if not line.poll(_PATIENCE_S):
        process.kill()
        process.join()
        raise BrokenError("the driver neither sleeps nor ends")
    with suppress(EOFError, ConnectionError):
        return line.recv()
    return None


def _hold(found: bool, text: str) -> None:  # noqa: FBT001 - an assertion's own shape
    if not found:
        raise BrokenError(text)
