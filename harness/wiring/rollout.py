"""`rollgate rollout`, put together: the same driver as in a gate, on a stack that is deployed."""

import os
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness import spec
from harness.adapters.clock import SystemClock
from harness.adapters.evidence_files import EvidenceFiles, read_evidence, read_looks
from harness.adapters.probes import StackProbes
from harness.adapters.prometheus import PrometheusMetrics
from harness.adapters.remote import RemoteStack
from harness.adapters.rollouts import LOG, RolloutFolder
from harness.model.errors import EnvironmentProblem, SpecError
from harness.model.plan import StagePlan
from harness.model.status import Decision, ExitCode
from harness.model.system import System
from harness.paths import cache_root
from harness.planning.flags import rollback_order, share_clash
from harness.planning.resume import left_by
from harness.planning.rollouts import DOWN, ROLLBACK, UP, Past, excluded_by, newest_up, outline_down, outline_up, way_up
from harness.ports import Journal, Router, Sink
from harness.report.redact import redact
from harness.report.rollout_lines import LogLines
from harness.run.driver import Driver, Judging, Parts
from harness.run.gate import Request
from harness.run.rollout import Ending, Rollout
from harness.run.sinks import Fanout
from harness.wiring.choices import choose_plan
from harness.wiring.gate import keep_spec, new_run_id, shielded
from harness.wiring.remote import TARGET_FILE, PartJudge, RemoteSite, no_calibration
from harness.wiring.rollout_target import Now, Place, feature_of, look, percentage, place_of, refuse_move
from harness.wiring.stored import who

_BASIS = 100
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
    begun: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        """Read the system. Raises SpecError, also for a feature that it does not have."""
        self.system = spec.load_system(spec.find_system(self.asked.system))
        feature_of(self.system, self.asked.feature)
        self.folder = RolloutFolder(folder_of(self.asked, self.system), self.clock)

    def go_to(self, asked_share: float) -> Ending:
        """Bring the feature to a share: up through the plan's stages, down or to where it is at once."""
        goal = percentage(asked_share)
        place = self._place(self.asked.target)
        plan = choose_plan(place.system, "remote", self.asked.plan, self.asked.time_scale)
        self._refuse_broken()
        now = look(place)
        refuse_move(place, now, goal)
        self._refuse_others(place)
        if goal <= now.lowest:
            self._confirm(outline_down([(self.asked.feature, goal)]))
            return self._down(place, plan, self._past(place, plan, DOWN, now.limit, goal), f"asked to go to {goal:g} %")
        way = way_up(plan, place.flag, now.share, goal)
        self._confirm(outline_up(way, self.asked.feature, now.share, goal))
        past = self._past(place, plan, UP, now.share, goal)
        with self._driving(place, way, past, settles=True) as (rollout, site):
            stack = site.provider.up()
            self._refuse_moved(place, now)
            self._begin(place, rollout)
            return rollout.up(stack, site.suites())

    def rollback(self) -> Ending:
        """Take the feature back to where its newest rollout began, flags that depend on it first."""
        origin = self._newest()
        place = self._place(self._target_of(origin))
        plan = choose_plan(place.system, "remote", origin.plan, origin.time_scale)
        self._refuse_others(place, but_own=True)
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
            ending = self._down(place, plan, past, f"before {self.asked.feature} is taken back", place.router(name))
            if ending.code:
                return ending
        past = self._past(place, plan, ROLLBACK, now.limit, goal)
        ending = self._down(place, plan, past, f"taken back to before {origin.id}")
        if not ending.code:
            self._close_open(past)
        return ending

    def resume(self) -> Ending:
        """Go on with the feature's newest rollout, which its process did not finish."""
        self._refuse_broken()
        mine = [one for one in self.folder.pasts() if one.feature == self.asked.feature]
        if not mine or mine[-1].left.finished:
            said = f"rollout {mine[-1].id} is finished" if mine else "there was none"
            raise SpecError(f"nothing to resume: {said}", key="--resume", mend="begin one by --target-percentage")
        past = mine[-1]
        kept = self.folder.root / past.id
        self.system = spec.load_system(kept / "system")
        place = self._place(self._target_of(past), load=past.load)
        plan = choose_plan(place.system, "remote", past.plan, past.time_scale)
        self._confirm([f"  1. go on with {past.id}, from {past.left.share:g} % to {past.goal:g} %"])
        way = way_up(plan, place.flag, past.base, past.goal) if past.way == UP else plan
        with self._driving(place, way, past, settles=past.way == UP, again=True) as (rollout, site):
            fresh = next(one for one in self.folder.pasts() if one.id == past.id)
            if past.way == UP:
                site.provider.up()
                refill(rollout.driver.parts.judge, kept)
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
        return [head, *outline_up(way_up(plan, place.flag, share, goal), name, share, goal)]

    def status(self) -> Iterator[str]:
        """Yield where the feature's rollouts stand, by the journal, then what is really there."""
        mine = [one for one in self.folder.pasts() if one.feature == self.asked.feature]
        if not mine:
            yield f"{self.asked.feature}: no rollout yet"
        for one in mine[-3:]:
            state = one.left.state
            ended = f"{state.decision}, cause {state.cause}: {state.reason}" if one.left.finished else "not finished"
            yield f"{one.id} {one.way} {one.base:g} to {one.goal:g} %, at {one.left.share:g} % ({state.phase}); {ended}"
        if driver := self.folder.driven(self.asked.feature):
            yield f"driven by {driver}"
        file = self.asked.target or (self._target_of(mine[-1]) if mine else None)
        if file is not None:
            now = look(self._place(file))
            flag = "" if now.flag is None else f", the flag says {now.flag:g} %"
            held = ", a driver holds its lease" if now.held else ""
            yield f"really there: the router's limit is {now.limit:g} %, {now.share:g} % needs no driver{held}{flag}"

    def verify(self) -> str:
        """Hold the journal to its chain; EnvironmentProblem with the entry's number where it is broken."""
        self._refuse_broken()
        return f"{self.folder.journal_file}: {len(self.folder.entries())} entries, the chain is whole"

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

    def _newest(self) -> Past:
        found = newest_up(self.folder.pasts(), self.asked.feature)
        if found is None:
            msg = f"there was no rollout of `{self.asked.feature}` to take back"
            raise SpecError(msg, where=str(self.folder.root), key="--rollback", mend="use --target-percentage")
        return found

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

    def _refuse_broken(self) -> None:
        if (number := self.folder.broken_link()) is not None:
            msg = f"the journal {self.folder.journal_file} was changed: entry {number} does not fit the one before it"
            raise EnvironmentProblem(msg, mend="find out by whom; --rollback still works")

    def _refuse_others(self, place: Place, *, but_own: bool = False) -> None:
        feature = self.asked.feature
        known = [one for one in self.folder.pasts() if not (but_own and one.feature == feature)]
        found = excluded_by(known, self.system.flags, feature, place.steers)
        if found is not None:
            one, why = found
            mend = f"--feature {one.feature} with --resume or --rollback ends it"
            if driver := self.folder.driven(one.feature):
                why, mend = f"{why} ({driver})", f"wait for it, or `rollgate abort {self.folder.root / one.id}`"
            raise EnvironmentProblem(why, mend=mend)

    def _refuse_moved(self, place: Place, before: Now) -> None:
        if look(place) != before:
            raise EnvironmentProblem("somebody else moved traffic just now: nothing was begun", mend="try again")

    def _begin(self, place: Place, rollout: Rollout) -> None:
        """Tell the journal, unless somebody else has begun meanwhile what excludes this one."""
        with self.folder.one_at_a_time():
            self._refuse_others(place, but_own=rollout.past.way == ROLLBACK)
            rollout.begin()
        self.begun.append(rollout.past.id)

    def _down(self, place: Place, plan: StagePlan, past: Past, why: str, router: Router | None = None) -> Ending:
        with self._driving(place, plan, past, settles=False, router=router) as (rollout, _):
            self._begin(place, rollout)
            return rollout.down(why)

    def _close_open(self, past: Past) -> None:
        """Tell the journal of the feature's rollouts that never ended: they have been taken back."""
        for one in self.folder.pasts():
            if one.feature == past.feature and not one.left.finished:
                journal = self.folder.journal(who=f"driver:{os.getpid()}", rollout=one.id, scope=one.feature)
                what = {"action": "finish", "decision": Decision.ROLLBACK, "cause": "operator", "share": past.goal}
                journal.append("finish", what, why=f"taken back by {past.id}")
                journal.close()

    @contextmanager
    def _driving(
        self,
        place: Place,
        plan: StagePlan,
        past: Past,
        *,
        settles: bool,
        again: bool = False,
        router: Router | None = None,
    ) -> Generator[tuple[Rollout, RemoteSite]]:
        """Yield a rollout ready to begin, or to go on; a folder in which none began is taken away again."""
        out, found = self.folder.root / past.id, replace(place.found, system=place.system)
        self.folder.make()
        with ExitStack() as held:
            held.enter_context(self.folder.driving(past.feature, past.id))
            if not again:
                _make(out)
                held.callback(lambda: None if past.id in self.begun else shutil.rmtree(out, ignore_errors=True))
                keep_spec(self.system, out)
                found.keep(out)
            journal = self.folder.journal(who=f"driver:{os.getpid()}", rollout=past.id, scope=past.feature)
            held.callback(journal.close)
            request = Request(
                run_id=past.id, system=found.system, plan=plan, arms=found.arms(), out=out, seed=1
            )  # fmt: skip
            log = self._log(past.id)
            fanout = Fanout([*self.sinks, log])
            site = RemoteSite(found, request, fanout.emit)
            log.redact = lambda text: redact(text, site.secrets)
            held.callback(fanout.close)
            parts = replace(self._parts(place, request, site, fanout, journal), settles=settles)
            if not past.load:
                parts = replace(parts, load=None)
            held.callback(_close, parts)
            if router is not None:
                parts = replace(parts, router=router)
            if parts.flags is not None:
                parts = replace(parts, feature=past.feature)
            yield Rollout(past=past, driver=Driver(plan, parts), shielded=shielded), site

    def _log(self, rollout: str) -> LogLines:
        try:
            file = (self.folder.root / LOG).open("a", encoding="utf-8")
        except OSError as error:
            msg = f"cannot write {self.folder.root / LOG}: {error.strerror}"
            raise EnvironmentProblem(msg, mend="free space, or choose another --out") from error
        return LogLines(file, rollout, redact)

    def _parts(self, place: Place, request: Request, site: RemoteSite, sink: Sink, journal: Journal) -> Parts:
        judge = PartJudge(no_calibration().judge(request.system, request.plan), place.found.absent)
        reached = site.reach(RemoteStack(request.system, place.target, ()))
        return Parts(
            router=reached.router,
            journal=journal,
            judge=judge,
            store=EvidenceFiles(request.out / "evidence"),
            clock=self.clock,
            sink=sink,
            load=reached.load,
            metrics=reached.metrics,
            probes=reached.probes,
            flags=reached.flags,
        )


class Refused(Exception):
    """The user did not want it: nothing was moved."""

    code = int(ExitCode.NO_EVIDENCE)


def folder_of(asked: Asked, system: System) -> Path:
    """Return the folder of a target's rollouts."""
    return asked.out.resolve() if asked.out else cache_root() / "rollouts" / system.name


def refill(judge: Judging, kept: Path) -> None:
    """Give a judge what was judged before, at the looks that were made. Raises SpecError for a broken file."""
    records, done = list(read_evidence(kept)), 0
    for one in read_looks(kept):
        judge.observe(records[done : one.after])
        done = one.after
        judge.look(at=one.at, stage=one.stage, final=one.final)
    judge.observe(records[done:])


def _make(out: Path) -> None:
    try:
        (out / "logs").mkdir(parents=True)
    except OSError as error:
        msg = f"cannot create {out}: {error.strerror}"
        raise EnvironmentProblem(msg, mend="name a folder that you may write by --out") from error


def _close(parts: Parts) -> None:
    if isinstance(parts.store, EvidenceFiles):
        parts.store.close()
    for part in (parts.metrics, parts.probes):
        if isinstance(part, PrometheusMetrics | StackProbes):
            part.close()
