"""What must hold of a driver, whatever happens around it: checked at every step and at the end."""

import bisect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, cast

from harness.model.hook import Delivery
from harness.model.status import Cause, Decision, Status
from harness.planning.rollout import Phase, State, stage_share
from harness.ports import Entry

if TYPE_CHECKING:
    from harness.bench.driver.world import Process, World

_NEAR = 1e-6


class Rule(StrEnum):
    """One invariant."""

    INTENT = "an act's intent is in the journal before it"
    BOUND = "users see no more of the candidate than the newest intent, or the last confirmed share"
    GOAL = "no act goes above the goal"
    LADDER = "no share on the way up is skipped"
    BAKED = "no stage is left upward before its shortest bake, unless an operator says so"
    OUTCOME = "each move has one outcome, and at that moment router and flag are there"
    LEASE = "whoever judges a stage holds the lease"
    EVIDENCE = "nothing is judged that is not on disk"
    FENCED = "a driver that another took over from moves nothing"
    ABORT = "after an operator's abort nothing goes up, and it is taken within two looks"
    BAD = "a failing release is never promoted"
    PROOF = "a promotion follows from a final look that passes"
    RECORD = "a promoted rollout has a record of every stage, each with its time and a verdict"
    AGREE = "at the end router, flag and decision agree, or the journal says that they do not"
    STAYS = "what is promoted or held stays when its driver has gone, where it is to stay"
    OVER = "a rollout that is over moves nothing more"
    TRUTH = "with harmless faults alone a rollout ends as its release deserves"
    ENDS = "once faults cease, one more process brings the rollout to its end"
    SOUND = "no defect of the driver comes to light as an unexpected error"
    CHAIN = "the journal's chain is whole"
    HAND = "before each step up the router is asked, and it is where it was left"
    ASKED = "no stage begins before its hook allows it, unless an operator says so"
    TOLD = "what a hook is told is in the journal before it, one fact under one id"
    PARENTS = "no raise is begun above what the flags above are worth at that moment"


@dataclass(slots=True)
class Rules:
    """Holds one world's drivers to the rules. `broken` says which did not hold, in order."""

    world: "World"
    checks: Counter[str] = field(default_factory=Counter[str])
    broken: list[tuple[Rule, str]] = field(default_factory=list[tuple[Rule, str]])
    confirmed: float = 0.0
    bound: float = 0.0
    intent: float | None = None
    resumed: bool = False
    newest: int = 0
    aborted: bool = False
    over: bool = False
    passed: bool = False
    promotes: int = 0
    unheard_looks: int = 0
    confirmed_at: float = 0.0
    ordered_to: float | None = None
    found: set[float] = field(default_factory=set[float])
    ladder: list[float] = field(default_factory=list[float])
    permitted: float | None = None
    allowed: set[str] = field(default_factory=set[str])
    by_hand: bool = False
    facts: dict[str, str] = field(default_factory=dict[str, str])

    def start(self) -> None:
        """Begin at the base."""
        self.ladder = self.world.truth.ladder()
        self.confirmed = self.bound = self.world.truth.base

    def hold(self, rule: Rule, found: bool, text: str) -> None:  # noqa: FBT001 - an assertion's own shape
        """Count a check, and keep what did not hold."""
        self.checks[rule] += 1
        if not found:
            self.broken.append((rule, text))
            self.world.say(f"BROKEN: {rule}: {text}")

    def acts(self, process: "Process", share: float) -> None:
        """Check a command to the router or the flags, as it is sent."""
        base = self.world.truth.base
        way_back = share <= base and process.disk_failed
        self.hold(Rule.INTENT, self.intent == share or way_back, f"{share:g} % with the open intent {self.intent}")
        self.hold(Rule.GOAL, share <= self.world.truth.goal, f"{share:g} %")
        self.hold(Rule.FENCED, process.number >= self.newest, f"life {process.number} after life {self.newest}")
        self.hold(Rule.OVER, not self.over or way_back, f"{share:g} % after the end")
        self.hold(Rule.ABORT, not self.aborted or share <= base, f"{share:g} % after an abort")

    def read(self, share: float | None) -> None:
        """Take note of what a driver found the router at, None for no answer: then it may go on."""
        self.found = {self.confirmed if share is None else share}

    def settles(self, process: "Process") -> None:
        """Check that a share which is to stay belongs to a rollout that ends."""
        self.hold(Rule.FENCED, process.number >= self.newest, f"life {process.number} after life {self.newest}")
        self.hold(Rule.INTENT, self.over or process.disk_failed, "a share is settled while the rollout goes on")

    def users_see(self) -> None:
        """Check what users get after any change."""
        traffic = self.world.traffic
        seen = traffic.seen(self.world.elapsed)
        self.hold(Rule.BOUND, traffic.foreign or seen <= self.bound + _NEAR, f"{seen:g} % over {self.bound:g} %")

    def fenced(self, process: "Process") -> None:
        """Take note that `process` has the newest token."""
        self.newest = process.number

    def wrote(self, process: "Process", entry: Entry) -> None:
        """Check an entry that has just become durable."""
        match entry.kind:
            case "resume":
                self.resumed, self.intent = True, None
                self.bound = max(self.bound, self.confirmed)
            case "intent":
                self._intent(process, _share(entry))
            case "outcome" | "reconciled":
                self._outcome(process, entry)
            case "hooked":
                self.allowed |= {str(entry.what["id"])} if entry.what["ok"] else set()
            case "hook":
                self._fact(entry)
            case "state":
                self.over = entry.what["phase"] == Phase.DONE
            case _:
                pass

    def _intent(self, process: "Process", share: float) -> None:
        alone = self.intent is None or process.disk_failed or (process.interrupted and share <= self.world.truth.base)
        self.hold(Rule.OUTCOME, alone, f"intent {share:g} while {self.intent} is open")
        if share > self.confirmed:
            step = bisect.bisect_right(self.ladder, self.confirmed + _NEAR)
            self.hold(Rule.LADDER, share <= self.ladder[step] + _NEAR, f"{self.confirmed:g} to {share:g} %")
            self._baked(share)
            known = bool(self.found) and self.found <= {self.confirmed, self.bound}
            self.hold(
                Rule.HAND, known, f"intent {share:g} after {self.found or 'no look'}, {self.confirmed:g} was left"
            )
            self._asked(share)
            self.hold(Rule.PARENTS, self.permitted == share, f"{share:g} %, {self.permitted} was permitted")
            self.permitted = None
        self.hold(Rule.ABORT, not self.aborted or share <= self.world.truth.base, f"intent {share:g} after an abort")
        self.intent = share
        self.bound = max(self.bound, share)

    def _asked(self, share: float) -> None:
        """Check a step up: the hook before that stage has allowed it."""
        truth = self.world.truth
        stage = next((s for s in truth.plan.stages if abs(stage_share(truth.plan, s) - share) < _NEAR), None)
        if self.world.asks and stage is not None:
            name = f"r1/before/{stage.id}"
            self.hold(Rule.ASKED, name in self.allowed or self.by_hand, f"{share:g} % without {name}")

    def _fact(self, entry: Entry) -> None:
        """Check what is to be told: an id never names another fact."""
        body = cast("dict[str, object]", entry.what["body"])
        name, fact = str(entry.what["id"]), f"{body['type']} {body.get('stage', '')}"
        known = self.facts.setdefault(name, fact)
        self.hold(Rule.TOLD, known == fact, f"{name} is {fact} and was {known}")
        ids = [one for one, told in self.facts.items() if told == fact]
        self.hold(Rule.TOLD, ids == [name], f"{fact} is told as {ids}")

    def told(self, process: "Process", delivery: Delivery) -> None:
        """Check a delivery as it is sent."""
        self.hold(Rule.TOLD, delivery.id in self.facts, f"{delivery.id} is not in the journal")
        self.hold(Rule.FENCED, process.number >= self.newest, f"life {process.number} tells after life {self.newest}")

    def _baked(self, share: float) -> None:
        """Check a step up from a stage: that stage has baked."""
        truth = self.world.truth
        rung = bisect.bisect_right(self.ladder, self.confirmed + _NEAR) - 2
        if self.confirmed <= truth.base or rung < 0:
            return
        if self.promotes:
            self.promotes, self.ordered_to = self.promotes - 1, share
        if share == self.ordered_to:  # also when a later process makes that move again
            return
        wanted = truth.plan.stages[min(rung, len(truth.plan.stages) - 1)].min_bake_s
        baked = self.world.elapsed - self.confirmed_at
        self.hold(Rule.BAKED, baked >= wanted - _NEAR, f"{self.confirmed:g} to {share:g} % after {baked:.2f} s")

    def _outcome(self, process: "Process", entry: Entry) -> None:
        share, traffic = _share(entry), self.world.traffic
        found = bool(entry.what.get("found"))
        if not entry.what["ok"]:
            self.hold(
                Rule.OUTCOME, self.intent == share or process.disk_failed, f"failed {share:g} % without its intent"
            )
            self.intent = None
            return
        unwritten = process.disk_failed and share <= self.world.truth.base
        explained = (self.resumed if found else self.intent == share) or unwritten
        self.hold(Rule.OUTCOME, explained, f"{entry.kind} {share:g} %, the open intent is {self.intent}")
        there = traffic.limit == round(share * 100) and traffic.flag == share
        self.hold(Rule.OUTCOME, there or traffic.foreign, f"{share:g} %: router {traffic.limit}, flag {traffic.flag:g}")
        again = share == self.confirmed and share > self.world.truth.base and not self.resumed
        self.hold(Rule.OUTCOME, not again, f"{share:g} % a second time")
        self.confirmed = self.bound = share
        self.intent, self.resumed, self.found = None, False, set()
        self.confirmed_at, self.ordered_to = self.world.elapsed, None

    def ordered(self, entries: Sequence[Entry]) -> None:
        """Take note of the orders that a driver has just been given."""
        verbs = {entry.what["verb"] for entry in entries}
        self.unheard_looks = 0
        self.aborted |= "abort" in verbs
        self.by_hand |= "promote" in verbs
        self.promotes += sum(entry.what["verb"] == "promote" for entry in entries)

    def observed(self, process: "Process", count: int) -> None:
        """Check that the judge knows what the disk has, no more; one that was overtaken decides nothing."""
        if process.number < self.newest:
            return
        self.hold(Rule.EVIDENCE, count == len(self.world.disk.evidence), f"{count} records judged")

    def looked(self, process: "Process", stage: str, status: Status, *, final: bool) -> None:
        """Take note of a look, and check that it could see anything."""
        if process.number < self.newest:
            return
        traffic = self.world.traffic
        self.passed = final and status is Status.PASS
        holds = not traffic.leased or traffic.held(self.world.elapsed)
        self.hold(Rule.LEASE, holds, f"stage {stage} is judged without the lease by life {process.number}")
        if self.world.abort_pending and not self.aborted:
            self.unheard_looks += 1
            self.hold(Rule.ABORT, self.unheard_looks <= 3, "not taken")  # noqa: PLR2004 - two more to confirm the whole

    def ended(self, process: "Process", state: State) -> None:
        """Check a rollout whose driver says that it is over, while its process still lives."""
        decision, truth, traffic = state.decision, self.world.truth, self.world.traffic
        self.hold(Rule.SOUND, "internal error" not in state.reason, state.reason)
        if decision is Decision.PROMOTE:
            self.hold(Rule.BAD, not truth.is_bad, f"it fails from stage {truth.bad} on")
            self.hold(Rule.PROOF, process.promoted_before or self.passed, "the final look did not pass")
            records = [e.what for e in self.world.disk.entries if e.kind == "stage"]
            found = {record["id"] for record in records} == {stage.id for stage in truth.plan.stages}
            dated = all(cast("float", record["started_at"]) > 0 for record in records)
            self.hold(Rule.RECORD, (found or process.disk_failed) and dated, f"{len(records)} records")
        if self.aborted and not process.over_before:
            self.hold(Rule.ABORT, decision is Decision.ROLLBACK, f"the end is {decision}")
        share = {Decision.PROMOTE: truth.goal, Decision.ROLLBACK: truth.base}.get(
            decision or Decision.HOLD, state.share
        )
        there = traffic.limit == round(share * 100) and traffic.flag == share
        said = "way back" in state.reason and state.cause is not Cause.PROOF and self._told(process)
        safe = not traffic.leased or not traffic.held(self.world.elapsed)  # a frozen one may have it still
        fine = there or traffic.foreign or (decision is Decision.ROLLBACK and said and safe)
        where = f"router {traffic.limit}, flag {traffic.flag:g}, lease {traffic.holder is not None}"
        self.hold(Rule.AGREE, fine, f"{decision} at {share:g} %: {where}")

    def _told(self, process: "Process") -> bool:
        """Tell whether the journal says how it ended, where it could be written."""
        last = next((e for e in reversed(self.world.disk.entries) if e.kind == "finish"), None)
        return process.disk_failed or (last is not None and "way back" in last.why)

    def closed(self, state: State | None) -> None:
        """Check the world once nothing happens any more."""
        world = self.world
        self.hold(Rule.ENDS, state is not None, "the rollout has no end")
        self.hold(Rule.CHAIN, world.disk.whole(), "a link is broken")
        stays = state is not None and state.decision in {Decision.PROMOTE, Decision.HOLD}
        if state is not None and stays and world.settles and not world.traffic.foreign:
            seen = world.traffic.seen(world.elapsed)
            self.hold(Rule.STAYS, seen == state.share, f"users see {seen:g} % of {state.share:g} %")
        if state is not None and world.weather.harmless:
            got, wanted = (state.decision, state.cause), world.truth.end()
            self.hold(Rule.TRUTH, got == wanted, f"{got[0]} by {got[1]}, expected {wanted[0]} by {wanted[1]}")


def _share(entry: Entry) -> float:
    return float(cast("float", entry.what["to"]))
