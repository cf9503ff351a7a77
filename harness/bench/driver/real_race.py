"""Two drivers at once on one feature, in processes of their own, with the real HAProxy: exactly one moves traffic."""

import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess

from harness.bench.driver.real_crash import begin, ended, forks, path_of
from harness.bench.driver.real_place import FEATURE, SHARES, Place, wait
from harness.model.errors import EnvironmentProblem

_PATIENCE_S = 60.0


@dataclass(slots=True)
class Races:
    """What many races came to: how many of each kind, who won by which exit codes, and what did not hold."""

    kinds: Counter[str] = field(default_factory=Counter[str])
    ends: Counter[str] = field(default_factory=Counter[str])
    broken: list[str] = field(default_factory=list[str])
    back_s: list[float] = field(default_factory=list[float])

    def hold(self, found: bool, text: str) -> None:  # noqa: FBT001 - an assertion's own shape
        """Keep what does not hold."""
        if not found:
            self.broken.append(text)

    @staticmethod
    def turns(who: Sequence[str]) -> bool:
        """Tell whether several wrote one after another, no one between another's entries."""
        changes = [one for one, before in zip(who, ["", *who], strict=False) if one != before]
        return len(changes) == len(set(changes))


UP = ("--target-percentage", "100")
KINDS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "two begin": (UP, UP),
    "two resume": (("--resume",), ("--resume",)),
    "one resumes, one rolls back": (("--resume",), ("--rollback",)),
}


def races(place: Place, count: int, echo: Callable[[str], None] = lambda _: None) -> Races:
    """Run `count` races, of each kind by turns."""
    found = Races()
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        _race(place, kind, f"race {number}", found)
        if (number + 1) % 20 == 0:
            echo(f"{number + 1} of {count} races, {len(found.broken)} broken")
    return found


def _race(place: Place, kind: str, name: str, found: Races) -> None:
    place.fresh("race")
    if kind != "two begin":
        killed_at(place, SHARES[0])
    barrier = forks().Barrier(2)
    seen = len(place.journal.entries())
    both = [
        begin(place, place.arguments(*more), f"log{number}", barrier=barrier)
        for number, more in enumerate(KINDS[kind], 1)
    ]
    codes = [ended(child) for child in both]
    found.kinds[kind] += 1
    entries = place.journal.entries()
    movers = {e.who for e in entries[seen:] if e.kind in {"intent", "outcome", "reconciled"}}
    found.ends[f"{kind}: exit codes {sorted(codes)}, {len(movers)} moved"] += 1
    refused = [code for code in codes if code in {2, 4}]
    # A second command may begin where the first has ended: then both have moved, one after the other.
    turns = found.turns([e.who for e in entries[seen:]])
    found.hold(len(movers) == 1 or turns, f"{name}: {kind}: {movers} moved at the same time")
    found.hold(len(refused) == 1 or turns, f"{name}: {kind}: exit codes {codes}")
    found.hold(place.journal.broken_link() is None, f"{name}: the chain is broken")
    state, share = place.router().read(), (path_of(entries) or (0.0,))[-1]
    there = (state.limit / 100, (state.settled or 0) / 100, place.flags.read()[FEATURE])
    found.hold(there == (share, share, share), f"{name}: {kind}: {there} at the end, the journal says {share:g}")


def killed_at(place: Place, share: float) -> None:
    """Have a driver killed while it bakes at `share`."""
    child = begin(place, place.arguments(*UP), "log")
    try:
        _reached(place, child, lambda: place.moved_to(share), "log")
    finally:
        child.kill()
        child.join()


def _reached(place: Place, child: BaseProcess, condition: Callable[[], object], log: str) -> None:
    """Wait until a driver is where it is wanted; EnvironmentProblem with its last words where it ended before."""
    found: list[object] = []

    def there() -> bool:
        alive = child.is_alive()  # before the condition is asked: what it did last counts
        found[:] = [condition()]
        return bool(found[0]) or not alive

    wait(there, f"a driver at {SHARES[0]:g} %", within=_PATIENCE_S)
    if not found[0]:
        said = (place.folder / log).read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
        msg = f"a driver ended with {child.exitcode} before it was at {SHARES[0]:g} %: {' / '.join(said)}"
        raise EnvironmentProblem(msg, mend="run this part again")


def _frozen_between_writes(place: Place, pid: int) -> bool:
    """Freeze a driver that bakes at the first stage; one in the middle of a journal write would hold its lock."""
    if not place.moved_to(SHARES[0]):
        return False
    os.kill(pid, signal.SIGSTOP)
    journal = sqlite3.connect(place.journal.journal_file, timeout=0.1, isolation_level=None)
    with closing(journal), suppress(sqlite3.OperationalError):
        journal.execute("begin immediate")
        journal.execute("rollback")
        return True
    os.kill(pid, signal.SIGCONT)
    return False


def takeover(place: Place, number: int, found: Races) -> None:
    """Freeze a driver until its lease has lapsed, let another go on to the end, and thaw the first.

    The lock of the feature is left out here: on one machine it refuses the second driver for as long as the frozen
    one exists. What is shown is the second line: fencing tokens, and evidence that a stale driver cannot add to.
    """
    place.fresh("takeover")
    first = begin(place, place.arguments(*UP), "log1", unlocked=True)
    _reached(place, first, lambda: _frozen_between_writes(place, first.pid or 0), "log1")
    try:
        found.back_s.append(wait(lambda: place.users_see(0), "users to be back", within=_PATIENCE_S))
        second = begin(place, place.arguments("--resume"), "log2", unlocked=True)
        code = ended(second)
        entries = place.journal.entries()
        files = sorted((place.out / place.journal.pasts()[-1].id / "evidence").glob("*.jsonl"))
        kept = [file.read_bytes() for file in files]
        before = place.router().read().limit
    finally:
        os.kill(first.pid or 0, signal.SIGCONT)
    stale = ended(first)
    found.kinds["takeover from a frozen driver"] += 1
    found.ends[f"takeover from a frozen driver: the second ended with {code}, the thawed one with {stale}"] += 1
    name = f"takeover {number}"
    found.hold(stale == EnvironmentProblem.exit_code, f"{name}: the stale driver ended with {stale}")
    found.hold(place.journal.entries() == entries, f"{name}: the stale driver wrote to the journal")
    found.hold(place.router().read().limit == before, f"{name}: the stale driver moved traffic")
    found.hold([file.read_bytes() for file in files] == kept, f"{name}: the stale driver added evidence")
