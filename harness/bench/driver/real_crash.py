"""The crash matrix: kill -9 at every journal write and on both sides of every act, then `--resume`; all is real."""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import cast

from harness.bench.driver import real_child
from harness.bench.driver.real_place import FEATURE, NEVER, Place, wait
from harness.model.errors import EnvironmentProblem
from harness.ports import Entry

RESUMED_WITHIN_S = 5.0
_KILLED = -9
_BACK_WITHIN_S = 10.0  # the lease lapses in about one; a busy machine is given more
_LONGEST_S = 60.0
PACKAGES = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One rollout: from `base` to 100 %, of a release that errs from `bad` percent on, NEVER for a good one."""

    name: str
    bad: float = NEVER
    base: float = 0.0


CASES = (
    Case(name="good, 0 to 100 %"),
    Case(name="errs at 100 %", bad=100.0),
    Case(name="good, 25 to 100 %", base=25.0),
)


@dataclass(frozen=True, slots=True)
class Calm:
    """A rollout that nobody disturbs: its end, its steps, its points of death by name, and its evidence writes."""

    code: int
    path: tuple[float, ...]
    stages: tuple[str, ...]
    points: tuple[str, ...]
    writes: int


@dataclass(slots=True)
class Matrix:
    """What one case came to. `broken` names the point and what did not hold."""

    case: Case
    points: int = 0
    killed: int = 0
    torn: int = 0
    resumed_s: list[float] = field(default_factory=list[float])
    back_s: list[float] = field(default_factory=list[float])
    checks: int = 0
    broken: list[str] = field(default_factory=list[str])

    def hold(self, found: bool, text: str) -> None:  # noqa: FBT001 - an assertion's own shape
        """Count a check, and keep what did not hold."""
        self.checks += 1
        if not found:
            self.broken.append(text)


def forks() -> ForkServerContext:
    """Return how children are started: forked from a process that has imported the command already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(real_child.PRELOADED)
    return context


def begin(place: Place, arguments: Sequence[str], log: str, **options: object) -> ForkServerProcess:
    """Start the command in a process of its own; `options` are those of the child's program."""
    child = forks().Process(target=real_child.command, args=(list(arguments), place.folder / log), kwargs=options)
    child.start()
    return child


def ended(child: ForkServerProcess, within: float = _LONGEST_S) -> int:
    """Return the exit code of a child; EnvironmentProblem for one that does not end."""
    child.join(within)
    if child.exitcode is None:
        child.kill()
        child.join()
        raise EnvironmentProblem(f"a child did not end within {within:g} s", mend="read the log in its world's folder")
    return child.exitcode


def cold(arguments: Sequence[str], log: Path, prefix: Sequence[str] = (), **env: str) -> "subprocess.Popen[bytes]":
    """Start the command as a user does: by a new interpreter, with nothing in it changed."""
    known = {**os.environ, "PYTHONPATH": str(PACKAGES), "NO_COLOR": "1", **env}
    with log.open("ab") as said:
        words = [*prefix, sys.executable, "-m", "harness.cli.main", *arguments]
        return subprocess.Popen(words, env=known, stdin=subprocess.DEVNULL, stdout=said, stderr=said)


def calm(place: Place, case: Case) -> Calm:
    """Run a case undisturbed, twice: to count its points, and its evidence writes."""
    counts: list[list[str]] = []
    code = 0
    for torn in (-1, 0):
        place.bad = case.bad
        place.fresh("calm", case.base)
        told = place.folder / "told"
        code = ended(begin(place, place.arguments("--target-percentage", "100"), "log", told=told, torn=torn))
        counts.append(told.read_text(encoding="utf-8").splitlines())
    entries = place.journal.entries()
    return Calm(code, path_of(entries), _stages(entries), tuple(counts[1]), len(counts[0]))


def crashes(
    place: Place,
    case: Case,
    *,
    only: Callable[[int, str], bool] = lambda _number, _name: True,
    torn: bool = True,
    warm: bool = False,
    echo: Callable[[str], None] = lambda _: None,
) -> Matrix:
    """Kill a case's driver at each of its points, one after another, and have the next process go on.

    `only` chooses points by number and name; `torn`: also in the middle of each evidence write; `warm`: the process
    that resumes is forked too, in place of a new interpreter.
    """
    told, found = calm(place, case), Matrix(case)
    found.points = len(told.points)
    chosen = [(number, name) for number, name in enumerate(told.points, 1) if only(number, name)]
    kills: list[tuple[int, int, str]] = [(number, 0, name) for number, name in chosen]
    kills += [(0, number, f"evidence write {number}, torn") for number in range(1, told.writes + 1) if torn]
    for done, (at, write, name) in enumerate(kills, 1):
        _one(place, case, told, found, at=at, torn=write, name=f"{at or write}: {name}", warm=warm)
        if done % 25 == 0:
            echo(f"{done} of {len(kills)} kills, {len(found.broken)} broken {'; '.join(found.broken[-1:])}")
    return found


def _one(place: Place, case: Case, told: Calm, found: Matrix, *, at: int, torn: int, name: str, warm: bool) -> None:
    place.fresh("crash", case.base)
    asked = place.arguments("--target-percentage", "100")
    code = ended(begin(place, asked, "log", told=place.folder / "told", at=at, torn=torn))
    if torn and code == told.code:  # it took fewer looks this time
        return
    found.hold(code == _KILLED, f"{name}: the process ended with {code}, not by the kill")
    found.killed += code == _KILLED and not torn
    found.torn += code == _KILLED and bool(torn)
    _hold_dead(place, case, found, name)
    began_s, seen = time.time(), len(place.journal.entries())
    pasts = place.journal.pasts()
    over = bool(pasts) and pasts[-1].left.finished
    if over:
        code = told.code
    else:
        again = place.arguments("--resume") if pasts else asked
        code = ended(begin(place, again, "log")) if warm else cold(again, place.folder / "log").wait(_LONGEST_S)
    found.hold(code == told.code, f"{name}: resumed, it ended with {code}, expected {told.code}")
    entries = place.journal.entries()
    if not over:
        moved = next((e.at for e in entries[seen:] if e.kind in {"outcome", "reconciled", "finish"}), None)
        in_time = moved is not None and moved - began_s <= RESUMED_WITHIN_S
        found.hold(in_time, f"{name}: resumed after {(moved or 0) - began_s:.1f} s")
        if moved is not None:
            found.resumed_s.append(moved - began_s)
    _hold_end(place, told, found, entries, name)


def _hold_dead(place: Place, case: Case, found: Matrix, name: str) -> None:
    """Hold what a dead process left to the rules: all that is there was meant, and users go back by themselves."""
    entries, state = place.journal.entries(), place.router().read()
    share, intent = left(entries, case.base)
    flag = place.flags.read()[FEATURE]
    known = {share} if intent is None else {share, intent}
    found.hold(place.journal.broken_link() is None, f"{name}: the chain is broken")
    found.hold(state.limit / 100 in known, f"{name}: the router is at {state.limit / 100:g}, the journal says {known}")
    found.hold(flag in known, f"{name}: the flag is at {flag:g}, the journal says {known}")
    settled = (state.settled or 0) / 100
    with suppress(EnvironmentProblem):
        found.back_s.append(wait(lambda: place.users_see(settled), "users to be back", within=_BACK_WITHIN_S))
        return
    found.hold(False, f"{name}: users are not back at {settled:g} % after {_BACK_WITHIN_S:g} s")  # noqa: FBT003


def _hold_end(place: Place, told: Calm, found: Matrix, entries: Sequence[Entry], name: str) -> None:
    """Hold the end to that of the calm rollout."""
    base = found.case.base
    state, flag, path = place.router().read(), place.flags.read()[FEATURE], path_of(entries)
    goal = told.path[-1]
    found.hold(path == told.path, f"{name}: the steps were {path}, expected {told.path}")
    found.hold(left(entries, base) == (goal, None), f"{name}: the journal leaves {left(entries, base)}")
    there = (state.limit / 100, (state.settled or 0) / 100, flag)
    found.hold(there == (goal, goal, goal), f"{name}: limit, settled and flag are {there}, expected {goal:g}")
    found.hold(place.users_see(goal), f"{name}: users do not see {goal:g} %")
    found.hold(set(told.stages) >= set(_stages(entries)), f"{name}: records of {_stages(entries)}")
    ends = [e for e in entries if e.kind == "finish"]
    found.hold(len(ends) == 1, f"{name}: {len(ends)} ends")
    found.hold(place.journal.broken_link() is None, f"{name}: the chain is broken at the end")


def left(entries: Iterable[Entry], base: float) -> tuple[float, float | None]:
    """Return the share of the last confirmed move, and the open intent's."""
    share, intent = base, None
    for entry in entries:
        match entry.kind:
            case "intent":
                intent = _to(entry)
            case "outcome" | "reconciled" if entry.what["ok"]:
                share, intent = _to(entry), None
            case _:
                pass
    return share, intent


def path_of(entries: Iterable[Entry]) -> tuple[float, ...]:
    """Return the shares of the confirmed moves, in order."""
    return tuple(_to(e) for e in entries if e.kind == "outcome" and e.what["ok"])


def _to(entry: Entry) -> float:
    return float(cast("float", entry.what["to"]))


def _stages(entries: Iterable[Entry]) -> tuple[str, ...]:
    return tuple(str(e.what["id"]) for e in entries if e.kind == "stage")
