"""A live rollout's driver, put together on a deployed stack, in the folder of its target's rollouts."""

import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.adapters.clock import SystemClock
from harness.adapters.evidence_files import EvidenceFiles, read_evidence, read_looks
from harness.adapters.probes import StackProbes
from harness.adapters.prometheus import PrometheusMetrics
from harness.adapters.remote import RemoteStack
from harness.adapters.rollouts import LOG, RolloutFolder
from harness.model.errors import EnvironmentProblem
from harness.model.event import Noted
from harness.model.plan import StagePlan
from harness.model.status import Decision
from harness.model.system import System
from harness.planning.rollouts import ROLLBACK, Past
from harness.ports import Journal, Sink
from harness.report.atomic import write_text
from harness.report.redact import redact
from harness.report.rollout_lines import LogLines
from harness.report.rollout_summary import lines_of, summary
from harness.run.driver import Driver, Judging, Parts
from harness.run.gate import Request
from harness.run.rollout import Rollout
from harness.run.sinks import Fanout
from harness.wiring.gate import keep_spec, shielded
from harness.wiring.remote import PartJudge, RemoteSite, no_calibration
from harness.wiring.rollout_checks import refuse_others
from harness.wiring.rollout_target import Place
from harness.wiring.site import expected_of

SUMMARY = "summary.md"


@dataclass(slots=True)
class Drives:
    """Makes drivers of one target's rollouts. `begun` are the rollouts that the journal has been told of."""

    folder: RolloutFolder
    clock: SystemClock
    sinks: Sequence[Sink] = ()
    begun: list[str] = field(default_factory=list[str])

    def begin(self, place: Place, rollout: Rollout) -> None:
        """Tell the journal, unless somebody else has begun meanwhile what excludes this one."""
        with self.folder.one_at_a_time():
            refuse_others(self.folder, place, but_own=rollout.past.way == ROLLBACK)
            rollout.begin()
        self.begun.append(rollout.past.id)

    def close_open(self, past: Past) -> None:
        """Tell the journal of the feature's rollouts that never ended: they have been taken back."""
        for one in self.folder.pasts():
            if one.feature == past.feature and not one.left.finished:
                journal = self.folder.journal(who=_me(), rollout=one.id, scope=one.feature)
                what = {"action": "finish", "decision": Decision.ROLLBACK, "cause": "operator", "share": past.goal}
                journal.append("finish", what, why=f"taken back by {past.id}")
                journal.close()

    @contextmanager
    def driving(
        self,
        place: Place,
        system: System,
        plan: StagePlan,
        past: Past,
        *,
        settles: bool,
        again: bool = False,
    ) -> Generator[tuple[Rollout, RemoteSite]]:
        """Yield a rollout ready to begin, or to go on; a folder in which none began is taken away again.

        `system` is what its folder keeps a copy of. A rollout of another feature than the place's moves by that
        one's own flag.
        """
        out = self.folder.root / past.id
        steered = replace(place.system, traffic=replace(place.system.traffic, feature=past.feature))
        found = replace(place.found, system=steered)
        self.folder.make()
        with ExitStack() as held:
            held.enter_context(self.folder.driving(past.feature, past.id))
            if not again:
                _make(out)
                held.callback(lambda: None if past.id in self.begun else shutil.rmtree(out, ignore_errors=True))
                keep_spec(system, out, hidden=found.holds_secret)
                found.keep(out)
            journal = self.folder.journal(who=_me(), rollout=past.id, scope=past.feature)
            held.callback(journal.close)
            request = Request(
                run_id=past.id, system=found.system, plan=plan, arms=found.arms(), out=out, seed=1
            )  # fmt: skip
            log = self._log(past.id)
            fanout = Fanout([*self.sinks, log])
            site = RemoteSite(found, request, fanout.emit)
            log.redact = lambda text: redact(text, site.secrets)
            held.callback(fanout.close)
            parts = self._parts(place, request, site, fanout, journal=journal, past=past)
            held.callback(_close, parts)
            rollout = Rollout(past=past, driver=Driver(plan, replace(parts, settles=settles)), shielded=shielded)
            held.callback(lambda: self._summarise(rollout, out, log) if again or past.id in self.begun else None)
            yield rollout, site

    def _log(self, rollout: str) -> LogLines:
        try:
            file = (self.folder.root / LOG).open("a", encoding="utf-8")
        except OSError as error:
            msg = f"cannot write {self.folder.root / LOG}: {error.strerror}"
            raise EnvironmentProblem(msg, mend="free space, or choose another --out") from error
        return LogLines(file, rollout, redact)

    def _parts(
        self, place: Place, request: Request, site: RemoteSite, sink: Sink, *, journal: Journal, past: Past
    ) -> Parts:
        judge = PartJudge(no_calibration().judge(request.system, request.plan), place.found.absent)
        reached = site.reach(RemoteStack(request.system, place.target, ()))
        own = past.feature == place.flag.name

        def note(text: str) -> None:
            sink.emit(Noted(text=text, at=self.clock.now(), level="warning"))

        return Parts(
            router=reached.router if own else place.router(past.feature, note=note),
            journal=journal,
            judge=judge,
            store=EvidenceFiles(request.out / "evidence"),
            clock=self.clock,
            sink=sink,
            load=reached.load if past.load else None,
            expected=expected_of(request.system) if past.load else None,
            metrics=reached.metrics,
            probes=reached.probes,
            flags=reached.flags,
            feature=past.feature if reached.flags is not None else "",
            hooks=reached.hooks if own else None,  # one is told of the whole: nothing may hold up a way back
            refuses=reached.refuses,
        )

    def _summarise(self, rollout: Rollout, out: Path, log: LogLines) -> None:
        """Leave a page about what was done; the rollout has ended as it has, whatever becomes of that."""
        driver = rollout.driver
        try:
            lines = lines_of((self.folder.root / LOG).read_text(encoding="utf-8"), rollout.past.id)
            write_text(out / SUMMARY, log.redact(summary(rollout.past, driver.state, driver.records, lines)))
        except OSError as error:
            text = f"{out / SUMMARY} could not be written: {error.strerror}"
            driver.parts.sink.emit(Noted(text=text, at=self.clock.now(), level="warning"))


def refill(judge: Judging, kept: Path) -> None:
    """Give a judge what was judged before, at the looks that were made. Raises SpecError for a broken file."""
    records, done = list(read_evidence(kept)), 0
    for one in read_looks(kept):
        judge.observe(records[done : one.after])
        done = one.after
        judge.look(at=one.at, stage=one.stage, final=one.final)
    judge.observe(records[done:])


def _me() -> str:
    return f"driver:{os.getpid()}"


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
