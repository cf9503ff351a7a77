"""`rollgate rollout`, put together: the same driver as in a gate, on a stack that is deployed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness import spec
from harness.adapters.clock import SystemClock
from harness.adapters.load import check_scenario
from harness.adapters.rollouts import RolloutFolder
from harness.model.errors import EnvironmentProblem
from harness.model.event import Noted
from harness.model.plan import StagePlan
from harness.model.status import ExitCode
from harness.model.system import System
from harness.paths import cache_root
from harness.planning.flags import rollback_order, share_clash
from harness.planning.resume import left_by
from harness.planning.rollouts import DOWN, ROLLBACK, UP, Past, outline_down, outline_up, way_up
from harness.ports import Sink
from harness.run.rollout import Ending, Rollout
from harness.wiring.choices import choose_plan
from harness.wiring.gate import new_run_id
from harness.wiring.remote import TARGET_FILE, refuse_lacking
from harness.wiring.rollout_checks import newest, refuse_broken, refuse_moved, refuse_others, unfinished
from harness.wiring.rollout_drive import Drives, refill
from harness.wiring.rollout_status import chain, journal_lines, really_there, target_of
from harness.wiring.rollout_target import (
    Now,
    Place,
    feature_of,
    look,
    percentage,
    place_of,
    refuse_move,
)
from harness.wiring.stored import who

_WITHOUT = {
    "auth": "done without the stack's credentials, which a way down does not need",
    "prometheus": "done without Prometheus, which a way down does not ask",
    "hooks": "hooks are not told of it",
}
Confirm = Callable[[Sequence[str]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a user asked of a feature's rollout. `out` is the folder of the target's rollouts, None for the usual."""

    system: str
    feature: str
    target: Path | None = None
    plan: str | None = None
    time_scale: float = 1.0
    load: bool = False
    out: Path | None = None


@dataclass(slots=True)
class Session:
    """One command's view of one target: its folder, its system, and who listens."""

    asked: Asked
    confirm: Confirm
    sinks: Sequence[Sink] = ()
    clock: SystemClock = field(default_factory=SystemClock)
    system: System = field(init=False)
    folder: RolloutFolder = field(init=False)
    drives: Drives = field(init=False)

    def __post_init__(self) -> None:
        """Read the system. Raises SpecError, also for a feature that it does not have."""
        self.system = spec.load_system(spec.find_system(self.asked.system))
        feature_of(self.system, self.asked.feature)
        self.folder = RolloutFolder(folder_of(self.asked, self.system), self.clock)
        self.drives = Drives(self.folder, self.clock, self.sinks)

    def go_to(self, asked_share: float) -> Ending:
        """Bring the feature to a share: up through the plan's stages, down or to where it is at once."""
        goal = percentage(asked_share)
        place = self._place(self.asked.target, load=True)  # what only goes down is not judged, by whatever evidence
        plan = choose_plan(place.system, "remote", self.asked.plan, self.asked.time_scale)
        refuse_broken(self.folder)
        now = look(place)
        refuse_move(place, now, goal)
        refuse_others(self.folder, place)
        if goal <= now.lowest:
            self._confirm(outline_down([(self.asked.feature, goal)]))
            return self._down(place, plan, self._past(place, plan, DOWN, now.limit, goal), f"asked to go to {goal:g} %")
        place = self._place(self.asked.target)
        refuse_lacking(place.found)
        if self.asked.load:
            check_scenario(place.system)
        way = way_up(plan, place.flag, now.share, goal)
        self._confirm(outline_up(way, self.asked.feature, now.share, goal, asks=place.asks))
        past = self._past(place, plan, UP, now.share, goal)
        with self.drives.driving(place, self.system, way, past, settles=True) as (rollout, site):
            stack = site.provider.up()
            refuse_moved(place, now)
            self.drives.begin(place, rollout)
            return rollout.up(stack, site.suites())

    def rollback(self) -> Ending:
        """Take the feature back to where its newest rollout began, flags that depend on it first."""
        origin = newest(self.folder, self.asked.feature)
        place = self._place(self._target_of(origin), load=True)
        plan = choose_plan(place.system, "remote", origin.plan, origin.time_scale)
        refuse_others(self.folder, place, but_own=True)
        now, moves = look(place), list[tuple[str, float]]()
        if now.held:
            msg = "another driver holds the router's lease"
            raise EnvironmentProblem(msg, mend="`rollgate abort` tells it to end")
        goal = min(origin.base, now.share)
        moves = [*self._children(place, goal), (self.asked.feature, goal)]
        self._confirm(outline_down(moves))
        shares = place.shares()
        for name, share in moves[:-1]:
            past = replace(self._past(place, plan, ROLLBACK, shares[name], share), feature=name, router="")
            ending = self._down(place, plan, past, f"before {self.asked.feature} is taken back")
            if ending.code:
                return ending
        past = self._past(place, plan, ROLLBACK, now.limit, goal)
        ending = self._down(place, plan, past, f"taken back to before {origin.id}")
        if not ending.code:
            self.drives.close_open(past)
        return ending

    def resume(self) -> Ending:
        """Go on with the feature's newest rollout, which its process did not finish."""
        refuse_broken(self.folder)
        past = unfinished(self.folder, self.asked.feature)
        kept = self.folder.root / past.id
        self.system = spec.load_system(kept / "system")
        place = self._place(self._target_of(past), load=past.load or past.way != UP)
        plan = choose_plan(place.system, "remote", past.plan, past.time_scale)
        if past.way == UP:
            refuse_lacking(place.found)
        self._confirm([f"  1. go on with {past.id}, from {past.left.share:g} % to {past.goal:g} %"])
        way = way_up(plan, place.flag, past.base, past.goal) if past.way == UP else plan
        with self.drives.driving(place, self.system, way, past, settles=past.way == UP, again=True) as (rollout, site):
            fresh = next(one for one in self.folder.pasts() if one.id == past.id)
            if past.way == UP:
                site.provider.up()
                refill(rollout.driver.parts.judge, kept)
            self._say_lacking(place, rollout)
            return rollout.resume(fresh.left)

    def dry_run(self, asked_share: float | None) -> list[str]:
        """Return what would be done as numbered lines; only files are read, and nothing is asked or written."""
        place = self._place(self.asked.target)
        name = self.asked.feature
        share = place.shares()[name]
        if asked_share is None:
            below = rollback_order(place.system.flags, name)[:-1]
            steps = [f"{child} no higher than {name} will be, at once" for child in below]
            return [f"{n:3d}. {step}" for n, step in enumerate([*steps, f"{name} to where it began, at once"], 1)]
        goal = percentage(asked_share)
        now = Now(share=share, limit=share, flag=share, held=False, settles=True)
        refuse_move(place, now, goal)
        plan = choose_plan(place.system, "remote", self.asked.plan, self.asked.time_scale)
        head = f"{name}: {share:g} to {goal:g} %, plan {plan.name}; what is really there is asked when it begins"
        if goal <= share:
            return [head, *outline_down([(name, goal)])]
        refuse_lacking(place.found)
        return [head, *outline_up(way_up(plan, place.flag, share, goal), name, share, goal, asks=place.asks)]

    def status(self) -> Iterator[str]:
        """Yield where the feature's rollouts stand, by the journal, then what is really there."""
        yield from journal_lines(self.folder, self.asked.feature)
        if file := self.asked.target or target_of(self.folder, self.asked.feature, TARGET_FILE):
            yield really_there(self._place(file, load=True))

    def verify(self) -> str:
        """Hold the journal to its chain; EnvironmentProblem with the entry's number where it is broken."""
        return chain(self.folder)

    def _place(self, file: Path | None, *, load: bool | None = None) -> Place:
        return place_of(self.system, self.asked.feature, file, load=self.asked.load if load is None else load)

    def _past(self, place: Place, plan: StagePlan, way: str, base: float, goal: float) -> Past:
        left = left_by([("rollout", {"base": base, "goal": goal})])
        assert left is not None  # noqa: S101 - it was just begun
        return Past(
            id=new_run_id(self.system.name),
            feature=self.asked.feature,
            way=way,
            base=base,
            goal=goal,
            plan=plan.name,
            time_scale=self.asked.time_scale,
            router=place.steers,
            load=self.asked.load and way == UP,
            who=who(),
            at=self.clock.now(),
            left=left,
        )

    def _confirm(self, lines: Sequence[str]) -> None:
        if not self.confirm(lines):
            raise Refused

    def _target_of(self, past: Past) -> Path:
        return self.asked.target or self.folder.root / past.id / TARGET_FILE

    def _children(self, place: Place, goal: float) -> list[tuple[str, float]]:
        """Return the flags above `goal` that depend on the feature, children before parents, and where they go."""
        if place.flags is None:
            return []
        flags, shares = {flag.name: flag for flag in place.system.flags}, place.shares()
        below = rollback_order(place.system.flags, self.asked.feature)[:-1]
        above = [name for name in below if shares[name] > goal]
        return [(name, 0.0 if share_clash(flags[name], goal) else goal) for name in above]

    def _down(self, place: Place, plan: StagePlan, past: Past, why: str) -> Ending:
        with self.drives.driving(place, self.system, plan, past, settles=False) as (rollout, _):
            if past.feature == self.asked.feature:
                self._say_lacking(place, rollout)
            self.drives.begin(place, rollout)
            return rollout.down(why)

    def _say_lacking(self, place: Place, rollout: Rollout) -> None:
        """Say what a way back is made without."""
        for what, error in place.found.lacking.items():
            text = f"{_WITHOUT[what]}: {error}"
            rollout.driver.parts.sink.emit(Noted(text=text, at=self.clock.now(), level="warning"))


class Refused(Exception):
    """The user did not want it: nothing was moved."""

    code = int(ExitCode.NO_EVIDENCE)


def folder_of(asked: Asked, system: System) -> Path:
    """Return the folder of a target's rollouts."""
    return asked.out.resolve() if asked.out else cache_root() / "rollouts" / system.name
