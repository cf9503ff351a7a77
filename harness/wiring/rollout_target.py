"""What a live rollout is asked for, checked against the system, the target and what is really there."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.adapters.flags_file import FileFlags
from harness.adapters.routers.flag_router import FlagRouter
from harness.model.errors import EnvironmentProblem, SpecError
from harness.model.system import Flag, System
from harness.model.target import Target
from harness.planning.flags import FULL, refuse_raise, share_clash
from harness.ports import Router
from harness.wiring.remote import Deployed, deployed, router_of

_LOG = logging.getLogger("rollgate")
_BASIS = 100
_LEASE_GONE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A deployed system as one feature's rollout sees it."""

    found: Deployed
    flag: Flag

    @property
    def target(self) -> Target:
        """What the target file says."""
        return self.found.target

    @property
    def system(self) -> System:
        """The system as it can be judged there, with the feature as the one that follows the traffic."""
        return self.found.system

    @property
    def flags(self) -> FileFlags | None:
        """The live flags, None where the target names none."""
        file = self._flags_file()
        return FileFlags(file) if file else None

    def _flags_file(self) -> Path | None:
        own = self.target.router.text("file") if self.target.router.kind == "flags" else ""
        path = self.target.flags or own
        return Path(path) if path else None

    @property
    def asks(self) -> bool:
        """Whether a hook must allow each stage."""
        return self.target.hooks is not None and self.target.hooks.before is not None

    @property
    def steers(self) -> str:
        """Whom a rollout here steers, "" for the feature's own flag: a router of one share serves one rollout."""
        router = self.target.router
        if router.kind == "flags":
            return ""
        return " ".join([router.kind, *(f"{name}={router.text(name)}" for name, _ in router.settings)])

    def router(self, feature: str = "", *, note: Callable[[str], None] = _LOG.warning) -> Router:
        """Return who moves this feature's traffic; for `feature`, another one, its own flag does.

        `note` takes what the flags have to say.
        """
        if feature and (file := self._flags_file()):
            return FlagRouter(FileFlags(file, note=note), feature, sticky=self.system.traffic.sticky)
        return router_of(self.target, self.system, split=Path("split.json"))

    def shares(self) -> dict[str, float]:
        """Return every flag's own share: of the live flags, else what is declared as deployed, else its own rollout."""
        live: Mapping[str, float] = self.flags.read() if self.flags else dict(self.system.traffic.flags)
        return {flag.name: live.get(flag.name, flag.rollout) for flag in self.system.flags}


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """What is really there, in percent: `share` of the traffic, `limit` of the router, `flag` where there is one."""

    share: float
    limit: float
    flag: float | None
    held: bool
    settles: bool

    @property
    def lowest(self) -> float:
        """Below or at this, every move is downward."""
        return self.share if self.flag is None else min(self.share, self.flag)


def place_of(system: System, feature: str, file: Path | None, *, load: bool) -> Place:
    """Return where a rollout of `feature` takes place. Raises SpecError; nobody is asked yet.

    What lacks its secrets is left out: `refuse_lacking` is for a way up.
    """
    flag = feature_of(system, feature)
    if file is None:
        msg = "a rollout needs to know where the stack is"
        raise SpecError(msg, key="--target", mend="add --target FILE; docs/remote.md shows one")
    steered = replace(system, traffic=replace(system.traffic, feature=feature))
    found = deployed(steered, file, load=load, needs_secrets=False)
    router = found.target.router
    if found.target.split_by_load:
        msg = "the load's own split moves no user, so there is nothing to roll out"
        raise SpecError(msg, where=str(file), key="router.kind", mend="name the router of the users, or run a gate")
    if router.kind == "flags" and router.text("flag") not in {"", feature}:
        msg = f"it steers `{router.text('flag')}`, not `{feature}`"
        raise SpecError(msg, where=str(file), key="router.flag", mend="drop it: --feature says which flag")
    return Place(found=found, flag=flag)


def feature_of(system: System, feature: str) -> Flag:
    """Return a system's flag by name. Raises SpecError for an unknown one."""
    flag = next((one for one in system.flags if one.name == feature), None)
    if flag is None:
        known = ", ".join(sorted(one.name for one in system.flags)) or "it has none"
        msg = f"{system.name} has no flag `{feature}`"
        raise SpecError(msg, where=str(system.root), key="--feature", mend=f"choose one of: {known}")
    return flag


def percentage(asked: float) -> float:
    """Return a percentage that is a share in whole hundredths; SpecError for anything else."""
    if not (math.isfinite(asked) and 0 <= asked <= FULL):
        msg = f"found {asked:g}, expected 0 to 100"
        raise SpecError(msg, key="--target-percentage", mend="name a share in percent")
    if abs(asked * _BASIS - round(asked * _BASIS)) > 1e-6:  # noqa: PLR2004 - what binary fractions leave over
        msg = f"found {asked!r}, expected whole hundredths of a percent"
        raise SpecError(msg, key="--target-percentage", mend="routers count 10,000 buckets")
    return round(asked * _BASIS) / _BASIS


def look(place: Place) -> Now:
    """Ask router and flag what they really do. Raises EnvironmentProblem where one does not answer."""
    router = place.router()
    state, flag, until = router.read(), None, time.monotonic() + _LEASE_GONE_S
    while state.lease_held and time.monotonic() < until:  # a router takes a moment to see that a driver has gone
        time.sleep(0.1)
        state = router.read()
    if place.flags is not None:
        flag = place.flags.read().get(place.flag.name)
        if flag is None:
            msg = f"the live flags have no `{place.flag.name}`"
            raise EnvironmentProblem(msg, mend="add it to the flags with 0 percent")
    settled = state.limit if not router.returns_alone else (state.settled or 0)
    return Now(
        share=settled / _BASIS,
        limit=state.limit / _BASIS,
        flag=flag,
        held=state.lease_held,
        settles=not router.returns_alone or state.settled is not None,
    )


def refuse_move(place: Place, now: Now, goal: float) -> None:
    """Raise where a move to `goal` must not begin from what is there: EnvironmentProblem, or SpecError for a flag."""
    name = place.flag.name
    if now.held:
        msg = "another driver holds the router's lease"
        raise EnvironmentProblem(msg, mend="end that gate or rollout first")
    if goal <= now.lowest:
        if goal < now.lowest and (clash := share_clash(place.flag, goal)):
            raise SpecError(f"`{name}` cannot stand at {goal:g} %: {clash}", key="--target-percentage")
        return
    if now.limit != now.share:
        msg = f"the router's limit is {now.limit:g} %, and {now.share:g} % is what stays without a driver"
        raise EnvironmentProblem(msg, mend=f"--target-percentage {now.lowest:g} sets both right, in one move")
    if now.flag is not None and now.flag != now.share:
        msg = f"router and flag disagree: the router sends {now.share:g} %, the flag `{name}` says {now.flag:g} %"
        raise EnvironmentProblem(msg, mend=f"--target-percentage {now.lowest:g} sets both right, in one move")
    if not now.settles:
        msg = "no share would outlive the driver: the router's map has no key `settled`"
        raise EnvironmentProblem(msg, mend="add `settled 0` to it, and what the shipped router.cfg does with it")
    if why := refuse_raise(place.system.flags, place.shares() | {name: now.share}, name, goal):
        mend = f"`rollgate flags show {place.system.name}` shows them all"
        raise SpecError(why, key="--target-percentage", mend=mend)
