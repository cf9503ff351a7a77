"""The driver: the only loop that moves traffic. Intent is on disk before an act, the outcome after it."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Protocol

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from harness.model.errors import EnvironmentProblem, LostLeaseError, RollgateError
from harness.model.event import Looked, Noted, StageEnded, StageStarted, TrafficMoved
from harness.model.evidence import Arm, Evidence, Kind, Source, Unit
from harness.model.judgement import Judgement, StageRecord, overall
from harness.model.plan import StagePlan
from harness.model.status import Cause, Decision
from harness.planning import rollout
from harness.planning.resume import Left, state_entry
from harness.planning.timeline import WARMUP, StageTally, Timeline
from harness.planning.warmup import Brought, Expected
from harness.ports import Clock, EvidenceStore, Flags, Hooks, Journal, Load, Metrics, Probes, Router, Sink
from harness.run.hooks import HookCalls

_LOG = logging.getLogger("rollgate")
_BASIS = 100  # basis points a percent: the router counts 10,000 buckets
_PROBE_EVERY_S = 2.0
_STEPPED_S = 0.5  # two clocks that are read one after the other differ by less, also on a busy machine
_FROZEN_S = 1.0  # a sleep so much longer than asked: the process was stopped, and its lease has lapsed


class Judging(Protocol):
    """The judge, as the loop uses it."""

    def observe(self, records: Sequence[Evidence]) -> None:
        """Take `records` in."""
        ...

    def look(self, *, at: float, stage: str, final: bool) -> tuple[Judgement, ...]:
        """Judge everything taken in so far."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the driver works with. `feature` is the flag raised in step with the traffic, "" for none.

    `settles`: the share that a rollout ends at, promoted or held, stays when the driver has gone. `refuses` says why
    the feature must not be raised to a percent right now, "" where it may; EnvironmentProblem where nobody can tell.
    The warm-up must bring what the load is `expected` to bring, before any traffic is moved; None: it is not looked at.
    """

    router: Router
    journal: Journal
    judge: Judging
    store: EvidenceStore
    clock: Clock
    sink: Sink
    load: Load | None = None
    expected: Expected | None = None
    metrics: Metrics | None = None
    probes: Probes | None = None
    flags: Flags | None = None
    feature: str = ""
    latency_signal: str = ""
    settles: bool = False
    hooks: Hooks | None = None
    refuses: Callable[[float], str] = lambda _share: ""
    on_stage: Callable[[str], None] = lambda _stage: None


@dataclass(slots=True)
class Driver:
    """Drives one rollout by `plan`; `records` and `judgements` are what the verdict is made of."""

    plan: StagePlan
    parts: Parts
    state: rollout.State = field(default_factory=rollout.State)
    records: list[StageRecord] = field(default_factory=list[StageRecord])
    judgements: tuple[Judgement, ...] = ()
    timeline: Timeline = field(init=False)
    _tally: StageTally = field(init=False)
    _stage_began: float = 0.0
    _probed: float = -math.inf  # on the clock that never steps
    _ordered: int = 0
    _owed: list[StageRecord] = field(default_factory=list[StageRecord])  # stage records that are not journaled yet
    _adrift: bool = False  # the last move failed: the router may be anywhere
    _left: Left | None = None
    _calls: HookCalls | None = field(init=False, default=None)
    _brought: Brought | None = field(init=False, default=None)
    _epoch: float = field(init=False)

    def __post_init__(self) -> None:
        """Begin with an empty timeline."""
        self.timeline = Timeline(self.plan.settle_s)
        self._tally = StageTally(self.parts.latency_signal)
        self._epoch = self.parts.clock.now() - self.parts.clock.monotonic()
        if self.parts.expected is not None:
            self._brought = Brought(self.parts.expected)
        if self.parts.hooks is not None:
            self._calls = HookCalls(self.parts.hooks, self.parts.journal, self._note)

    def _now(self) -> float:
        """Return the rollout's own time: it starts as the wall clock's and never steps with it.

        Windows, looks and all evidence are in it; the load counts by it from the start.
        """
        return self._epoch + self.parts.clock.monotonic()

    def reconcile(self) -> None:
        """Ask the router what it really does, and bring all traffic to the baseline before anything else."""
        self.parts.journal.fence()
        found = self.parts.router.read()
        if found.limit != 0:
            self._note(f"the router sends {found.limit / _BASIS:g} % to the candidate: taking it back first", "warning")
        answer = self._move(rollout.Move(share=0.0, stage="", why="a rollout starts from the baseline"))
        if isinstance(answer, rollout.MoveFailed):
            msg = f"the router does not go back to the baseline: {answer.reason}"
            raise EnvironmentProblem(msg, mend="read logs/router.log; without this no rollout can start safely")
        self.parts.router.hold_lease()

    def resume(self, left: Left) -> None:
        """Take a rollout up where another process left it; `ramp` then goes on.

        The evidence on disk must have been given to the judge before. What the router really does decides: a share
        that neither the last confirmed move nor an open one explains is somebody else's, and ends the rollout.
        """
        parts = self.parts
        parts.journal.fence()
        found, flag = parts.router.read().limit / _BASIS, self._flag()
        what = {"phase": left.state.phase, "router": found, "flag": flag, "share": left.share, "intent": left.intent}
        parts.journal.append("resume", what, why="a later process goes on")
        self.state, self.records, self._ordered, self._left = left.state, list(left.records), left.ordered, left
        if left.finished:
            self._calls = None  # all has been told
            return
        if self._calls is not None:
            self._calls.again(left.untold)
        known = {left.share, left.share if left.intent is None else left.intent}
        foreign = [share for share in (found, flag) if share is not None and share not in known]
        if foreign:
            if self.state.phase is rollout.Phase.DONE:  # its last process did not come to tell
                self.state = replace(self.state, phase=rollout.Phase.CONFIRMING)
            reason = f"somebody else moved traffic while no driver was there: {foreign[0]:g} % was found, "
            self.stop(reason + f"{left.share:g} % was left", Cause.ENVIRONMENT)
        elif left.turned_back:
            self.stop("the process before was on its way back and could not journal why", Cause.ENVIRONMENT)
        elif self.state.phase is rollout.Phase.DONE:
            self._end_again()
            return
        if not self._over():  # a way back that failed has dropped it
            parts.router.hold_lease()

    def _end_again(self) -> None:
        """End a rollout whose last process had come to its end and not to telling it."""
        state = self.state
        if state.decision is not None and state.cause is not None:
            finish = rollout.Finish(decision=state.decision, cause=state.cause, reason=state.reason)
            self._finish(state, finish)

    def _flag(self) -> float | None:
        """Return the feature's percent as the flags say; None without a feature."""
        if self.parts.flags is None or not self.parts.feature:
            return None
        return self.parts.flags.read().get(self.parts.feature)

    def warm_up(self) -> None:
        """Let traffic run on the baseline for the plan's warm-up: thresholds are taken from it.

        A load that brings nothing to judge by ends the rollout here.
        """
        began = self._now()
        self.timeline.moved(began, WARMUP, self.state.base / 100.0)
        self._stage_began = began
        end = self.parts.clock.monotonic() + self.plan.warmup_s
        while self._warming(end) and not self._over():
            self._pause()
            self._look(WARMUP)
            self._take_orders()
        brought = self._brought
        if brought is None or self._over() or not self.plan.warmup_s:
            return
        if problem := brought.unusable():
            self.stop(f"before any traffic was moved: {problem}", Cause.ENVIRONMENT)
        elif unheard := brought.unheard():
            self._note(unheard, "warning")

    def _warming(self, end: float) -> bool:
        """Tell whether the warm-up goes on: until `end`, and a while longer for the first answers."""
        at, load, brought = self.parts.clock.monotonic(), self.parts.load, self._brought
        if at < end or brought is None or load is None or not self.plan.warmup_s:
            return at < end
        return not brought.enough and at < end + brought.expected.patience_s and load.health().running

    def ramp(self) -> rollout.State:
        """Go up stage by stage until the state machine says that it is over; always end in a known state."""
        if self._over():  # in the warm-up
            return self.state
        try:
            left = self._left
            if left is None:
                if self._calls is not None:
                    self._calls.began(self.state.share, self.state.goal)
                self._apply(rollout.Begin(at=self._now(), asks=self._asks()))
            else:
                self._take_orders(only_abort=True)  # the open move is not made again first
                self._apply(rollout.Resumed(at=self._now(), elapsed_s=left.elapsed_s, asks=self._asks()))
                self._left = None
            while not self._over():
                away_s = self._pause()
                self._take_orders(only_abort=away_s > 0)
                self._stand(away_s)
                self._hear_hooks()
                if not self._over():  # what has decided is not looked at once more
                    self._apply(rollout.Look(at=self._now(), judgements=self._look(self._stage())))
        except KeyboardInterrupt:
            self._bring_back("interrupted", Cause.OPERATOR)
            raise
        except LostLeaseError:
            raise
        except RollgateError as error:
            self._bring_back(str(error), Cause.ENVIRONMENT)
        except Exception as error:  # noqa: BLE001 - whatever fails, traffic goes back first
            _LOG.exception("a defect of the harness ended the rollout")
            self._bring_back(f"internal error: {type(error).__name__}: {str(error)[:200]}", Cause.ENVIRONMENT)
        return self.state

    def _stand(self, away_s: float) -> None:
        """Go on only from where the last move left traffic; a stage during which the process was frozen bakes anew."""
        if self._over():
            return
        if elsewhere := self._elsewhere():
            self.stop(elsewhere, Cause.ENVIRONMENT)
        elif away_s:
            state, at = self.state, self._now()
            what = {"phase": state.phase, "share": state.share, "away_s": away_s}
            self.parts.journal.append("resume", what, why="the process was frozen")  # unless another took over
            elapsed = max(0.0, at - away_s - state.started_at)
            self._left = Left(
                state=state, elapsed_s=elapsed, share=state.share, intent=None, records=(), ordered=self._ordered
            )
            self._apply(rollout.Resumed(at=at, elapsed_s=elapsed, asks=self._asks()))
            self._left = None

    def _elsewhere(self, intent: float | None = None) -> str:
        """Say who else moved traffic or the flag since the last move; "" where nobody did, or nobody answers.

        `intent` is the share of an open move that another process began.
        """
        share = self.state.share
        known = {share, share if intent is None else intent, None}
        for read in (self._limit, self._flag):
            with suppress(EnvironmentProblem):
                if (found := read()) not in known:
                    return f"somebody else moved traffic: {found:g} % was found, {share:g} % was left"
        return ""

    def _limit(self) -> float:
        """Return the router's limit in percent."""
        return self.parts.router.read().limit / _BASIS

    def _asks(self) -> bool:
        return self.parts.hooks is not None and self.parts.hooks.asks

    def _hear_hooks(self) -> None:
        """Take what hooks have answered; nobody waits for them."""
        for event in self._calls.heard(self._now()) if self._calls is not None else ():
            self._apply(event)

    def end_hooks(self, decision: Decision, cause: Cause, reason: str) -> None:
        """Notify of the end, unless that is done, and wait for all hooks that tell, within their own bounds."""
        if self._calls is None:
            return
        with suppress(LostLeaseError):  # the driver that took over tells the rest
            if (ended := self._calls.end(decision, cause, reason, self.state.share)) is not None:
                self._calls.again([ended])
            self._calls.finish()

    def _bring_back(self, reason: str, cause: Cause) -> None:
        """Stop, and where even that fails, take the candidate's traffic away by every means that is left."""
        try:
            self.stop(reason, cause)
        except LostLeaseError:
            raise
        except Exception:  # noqa: BLE001 - the last means are still tried
            _LOG.exception("the way back was not orderly")
            self.parts.router.drop_lease()
            with suppress(RollgateError):
                self.parts.router.set_limit(round(self.state.base * _BASIS))
            self.state = replace(
                self.state,
                phase=rollout.Phase.DONE,
                decision=Decision.ROLLBACK,
                cause=cause,
                reason=f"{reason}; and the way back was not orderly: the lease was dropped",
            )

    def stop(self, reason: str, cause: Cause) -> None:
        """Bring the traffic back and end, whatever was going on; safe to call at any time."""
        self._apply(rollout.Stop(at=self._now(), reason=reason, cause=cause))

    def _apply(self, event: rollout.Event) -> None:
        """Feed `event` to the state machine and carry out what comes out of it, until it rests."""
        events = [event]
        while events:
            before = self.state
            self.state, actions = rollout.step(self.plan, before, events.pop(0))
            if self.state != before:
                self._leave_stage(before)  # before the state: a crash between them must not lose it
                self._keep_state()
            for action in actions:
                match action:
                    case rollout.Ask():
                        self._ask(action)
                    case rollout.Move():
                        events.append(self._move(action))
                    case rollout.Confirm():
                        events.append(self._confirm())
                    case rollout.Finish():
                        self._finish(before, action)

    def _ask(self, action: rollout.Ask) -> None:
        if self._calls is None:
            msg = f"stage {action.stage} waits for a hook, and there is none"
            raise EnvironmentProblem(msg, mend="this is a defect of rollgate: keep the rollout's folder")
        self._calls.ask(action)

    def _keep_state(self) -> None:
        """Leave the state where a later process finds it; on the way back it is left where that is possible."""
        kept = state_entry(self.state, at=self._now(), ordered=self._ordered)
        try:
            self.parts.journal.append("state", kept, why=self.state.reason)
        except EnvironmentProblem as error:
            if self.state.phase not in {rollout.Phase.RETURNING, rollout.Phase.DONE}:
                raise
            self._note(f"the state could not be journaled: {error}", "error")

    def _move(self, move: rollout.Move) -> rollout.Moved | rollout.MoveFailed:
        parts, before = self.parts, self.state.share
        digest = parts.store.digest()
        what = {"action": "move", "from": before, "to": move.share, "stage": move.stage, "feature": parts.feature}
        left, self._left = self._left, None
        self.timeline.moving(self._now())
        if left is not None and self._stands(move.share):
            known = "outcome" if left.intent == move.share else "reconciled"
            self._write(known, {**what, "ok": True, "found": True}, move, digest)
            return self._moved(move, before)
        if move.share > self.state.base and (elsewhere := self._elsewhere(left.intent if left else None)):
            return rollout.MoveFailed(at=self._now(), reason=elsewhere)
        if move.share > before and (refused := self._refused(move.share)):
            return rollout.MoveFailed(at=self._now(), reason=refused)
        self._write("intent", what, move, digest)
        try:
            for attempt in self._attempts():
                with attempt:
                    if attempt.retry_state.attempt_number > 1:  # the wait was long enough for another driver
                        self._write("retry", what, move, digest)
                    parts.router.set_limit(round(move.share * _BASIS))
                    if parts.flags is not None and parts.feature:
                        parts.flags.set(parts.feature, move.share)
        except EnvironmentProblem as error:
            self._write("outcome", {**what, "ok": False, "error": str(error)}, move, digest)
            self._adrift = True
            return rollout.MoveFailed(at=self._now(), reason=str(error))
        self._write("outcome", {**what, "ok": True}, move, digest)
        return self._moved(move, before)

    def _refused(self, share: float) -> str:
        """Say why a raise to `share` must not be made now, "" where it may: parents may have been lowered since."""
        try:
            return self.parts.refuses(share)
        except EnvironmentProblem as error:
            return str(error)

    def _stands(self, share: float) -> bool:
        """Tell whether router and flag are known to be at `share` already."""
        with suppress(EnvironmentProblem):
            return self.parts.router.read().limit == round(share * _BASIS) and self._flag() in {None, share}
        return False

    def _moved(self, move: rollout.Move, before: float) -> rollout.Moved:
        """Note a move that the router has confirmed."""
        parts, at = self.parts, self._now()
        self._adrift = False
        parts.sink.emit(TrafficMoved(before=before, after=move.share, why=move.why, at=at))
        self.timeline.moved(at, move.stage, move.share / 100.0)
        if self.state.phase in {rollout.Phase.MOVING, rollout.Phase.PAUSED}:
            self._stage_began, self._tally = at, StageTally(parts.latency_signal)
            parts.sink.emit(StageStarted(stage=move.stage, share=move.share, at=at))
            parts.on_stage(move.stage)
        return rollout.Moved(at=self._now(), share=move.share)

    def _write(self, kind: str, what: Mapping[str, object], move: rollout.Move, digest: str) -> None:
        """Append to the journal. A move back to the baseline is made even when the journal cannot be written."""
        try:
            self.parts.journal.append(kind, what, why=move.why if kind == "intent" else "", evidence=digest)
        except EnvironmentProblem as error:
            if move.share > self.state.base:
                raise
            self._note(f"the way back could not be journaled: {error}", "error")

    def _leave_stage(self, before: rollout.State) -> None:
        """Keep the record of the stage that the state has just left; what a dead process saw of one is not known."""
        baking = {rollout.Phase.BAKING, rollout.Phase.WAITING, rollout.Phase.PAUSED, rollout.Phase.CONFIRMING}
        if before.index < 0 or before.phase not in baking or self.state.phase in baking:
            return
        if self._left is not None or not self._stage_began:
            return
        arms = self._tally.arms
        now = self._now()
        record = StageRecord(
            id=self.plan.stages[before.index].id,
            share=before.share,
            started_at=self._stage_began,
            ended_at=now,
            status=overall(self.judgements),
            n_baseline=arms[Arm.BASELINE].n,
            n_candidate=arms[Arm.CANDIDATE].n,
            p95_baseline_ms=arms[Arm.BASELINE].quantile_ms(0.95),
            p95_candidate_ms=arms[Arm.CANDIDATE].quantile_ms(0.95),
            reason=self.state.reason,
        )
        self.records.append(record)
        self._owed.append(record)
        self._pay()
        self.parts.sink.emit(StageEnded(record=record, at=now))
        if self._calls is not None:
            self._calls.left(record)

    def _pay(self) -> None:
        """Journal the stage records that a full disk, say, has kept out so far, oldest first."""
        try:
            while self._owed:
                self.parts.journal.append("stage", asdict(self._owed[0]))
                del self._owed[0]
        except EnvironmentProblem as error:
            self._note(f"the stage's record could not be journaled: {error}", "error")

    def _confirm(self) -> rollout.Confirmed:
        """Drain the load, so that what never came back counts too, and judge the whole."""
        if self.parts.load is not None:
            self.parts.load.stop()
        # Twice: one unlucky probe or query at the very end must neither convict nor acquit.
        self._probed = -math.inf
        self._look(self._stage())
        self._pause()
        self._probed = -math.inf
        judgements = self._look(self._stage(), final=True)
        return rollout.Confirmed(at=self._now(), judgements=judgements)

    def _finish(self, before: rollout.State, finish: rollout.Finish) -> None:
        open_ = replace(before, phase=rollout.Phase.PROMOTING, share=self.state.share)
        try:
            problem = "" if finish.decision is Decision.ROLLBACK else self._elsewhere() or self._unsettled()
        except KeyboardInterrupt:
            self.state = open_  # what is not made to stay has not ended: whoever catches this brings traffic back
            raise
        if problem:
            self.state = open_
            self.stop(problem, Cause.ENVIRONMENT)
            return
        if self._owed:
            self._pay()
        if finish.decision is Decision.ROLLBACK and (self._adrift or self.state.share > self.state.base):
            self.parts.router.drop_lease()
            self._note("the router could not be told: the lease is dropped, which ends candidate traffic", "error")
        what = {"action": "finish", "decision": finish.decision, "cause": finish.cause, "share": self.state.share}
        calls = self._calls
        ended = calls and calls.end(finish.decision, finish.cause, finish.reason, self.state.share)
        try:
            self.parts.journal.append("finish", what, why=finish.reason, evidence=self.parts.store.digest())
        except EnvironmentProblem as error:
            self._note(f"the end could not be journaled: {error}", "error")
        if calls and ended:
            calls.again([ended])

    def _unsettled(self) -> str:
        """Make the share stay when the driver has gone; "" where that is done, or not asked for."""
        if not self.parts.settles:
            return ""
        try:
            for attempt in self._attempts():
                with attempt:
                    if attempt.retry_state.attempt_number > 1:  # another driver may have taken over meanwhile
                        self.parts.journal.append("retry", {"action": "settle", "to": self.state.share})
                    self.parts.router.settle(round(self.state.share * _BASIS))
        except EnvironmentProblem as error:
            return f"the share could not be made to stay: {error}"
        return ""

    def _attempts(self) -> Retrying:
        """Return three attempts at an act, with waits that grow between them."""
        return Retrying(
            retry=retry_if_exception_type(EnvironmentProblem),
            stop=stop_after_attempt(3),
            wait=wait_exponential_jitter(multiplier=0.1, max=1.0),
            sleep=self.parts.clock.sleep,
            reraise=True,
        )

    def _stage(self) -> str:
        return self.plan.stages[self.state.index].id if self.state.index >= 0 else WARMUP

    def _look(self, stage: str, *, final: bool = False) -> tuple[Judgement, ...]:
        """Gather what came since the last look, keep it on disk, then judge."""
        placed = [self.timeline.place(record) for record in self._gather()]
        self.parts.store.append(placed)
        self.parts.judge.observe(placed)
        self._tally.add(placed, stage)
        if stage == WARMUP and self._brought is not None:
            self._brought.add(placed)
        at = self._now()
        self.parts.store.looked(at=at, stage=stage, final=final)
        self.judgements = self.parts.judge.look(at=at, stage=stage, final=final)
        self.parts.sink.emit(Looked(stage=stage, at=at, judgements=self.judgements, evidence=tuple(placed)))
        return self.judgements

    def _gather(self) -> list[Evidence]:
        parts, now = self.parts, self._now()
        found: list[Evidence] = []
        if parts.load is not None:
            found.extend(parts.load.collect())
            problems = parts.load.health().problems
            found.append(_instrument("load", now, problems))
        dated: list[Evidence] = []
        if parts.metrics is not None:
            dated.extend(parts.metrics.collect())
        if parts.probes is not None and self._probe_is_due():
            dated.extend(parts.probes.collect())
        stepped_s = parts.clock.now() - self._now()
        if abs(stepped_s) > _STEPPED_S:  # those go by the wall clock, which somebody has set meanwhile
            dated = [replace(one, start_s=one.start_s - stepped_s, end_s=one.end_s - stepped_s) for one in dated]
        found.extend(dated)
        return found

    def _probe_is_due(self) -> bool:
        """Tell whether it is time to probe again, and take it as done."""
        at = self.parts.clock.monotonic()
        if at - self._probed < min(_PROBE_EVERY_S, 4 * self.plan.look_s):
            return False
        self._probed = at
        return True

    def _take_orders(self, *, only_abort: bool = False) -> None:
        """Take what the operator said since; an abort comes before all that was said with it."""
        said = self.parts.journal.since(self._ordered, "order")
        aborts = [entry for entry in said if entry.what["verb"] == "abort"]
        for entry in aborts[:1] or (() if only_abort else said):
            self._ordered = entry.seq
            order = rollout.Order(at=self._now(), verb=str(entry.what["verb"]), reason=entry.why)
            self._note(f"operator says {order.verb}: {order.reason}", "warning")
            before = self.state
            self._apply(order)
            if self.state == before:
                self._keep_state()  # taken, though it changes nothing here: a later process must not take it again

    def _over(self) -> bool:
        return self.state.phase is rollout.Phase.DONE

    def _pause(self) -> float:
        """Sleep until the next look; return the seconds for which the process was frozen meanwhile, 0 if it was not."""
        began = self.parts.clock.monotonic()
        self.parts.clock.sleep(self.plan.look_s)
        away_s = self.parts.clock.monotonic() - began - self.plan.look_s
        return away_s if away_s > _FROZEN_S else 0.0

    def _note(self, text: str, level: str = "info") -> None:
        self.parts.sink.emit(Noted(text=text, at=self._now(), level=level))


def _instrument(signal: str, at: float, problems: Sequence[str]) -> Evidence:
    return Evidence(
        kind=Kind.EVENTS,
        source=Source.PROBE,
        signal=signal,
        start_s=at,
        end_s=at,
        unit=Unit.PROBE,
        n=1,
        bad=int(bool(problems)),
        note="; ".join(problems),
    )
