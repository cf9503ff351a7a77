"""The hooks as the driver uses them: what is to be told is in the journal before it is sent, what came of it after."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from harness.model.errors import EnvironmentProblem
from harness.model.hook import AFTER, BEFORE, NOTIFY, Delivered, Delivery
from harness.model.judgement import StageRecord
from harness.model.status import Cause, Decision
from harness.planning.resume import delivery_entry
from harness.planning.rollout import Allowed, Ask, Refused
from harness.ports import Hooks, Journal

_ENDED = "ended"


@dataclass(slots=True)
class HookCalls:
    """Calls one rollout's hooks. An id names a fact: a later process that tells it again uses the same one."""

    hooks: Hooks
    journal: Journal
    note: Callable[[str, str], None]
    _asked: dict[str, Ask] = field(default_factory=dict[str, Ask])
    _waiting: set[int] = field(default_factory=set[int])
    _ended: bool = False

    def ask(self, action: Ask) -> None:
        """Begin to ask the hook before a stage. Raises EnvironmentProblem where that cannot be journaled."""
        text = f"may stage {action.stage} begin, at {action.share:g} %?"
        body = {"type": "stage.before", "stage": action.stage, "share": action.share, "text": text}
        one = self._delivery(BEFORE, quote(action.stage, safe=""), body)
        self._asked[one.id] = action
        self._journal(one)
        self.hooks.send(one)

    def left(self, record: StageRecord) -> None:
        """Tell the hook after a stage how it went."""
        text = f"stage {record.id} ended at {record.share:g} %: {record.status}"
        more = {"stage": record.id, "share": record.share, "status": record.status, "reason": record.reason}
        self._tell(self._delivery(AFTER, quote(record.id, safe=""), {"type": "stage.after", **more, "text": text}))

    def began(self, share: float, goal: float) -> None:
        """Notify that the rollout has begun."""
        self._notify("began", {"share": share, "goal": goal, "text": f"it begins at {share:g} %, towards {goal:g} %"})

    def end(self, decision: Decision, cause: Cause, reason: str, share: float) -> Delivery | None:
        """Journal that the end is to be notified, once; None where nobody is, or it is known."""
        if self._ended or not self.hooks.has(NOTIFY):
            return None
        self._ended = True
        text = f"{decision} at {share:g} %, cause {cause}: {reason}"
        more = {"decision": decision, "cause": cause, "reason": reason, "share": share, "text": text}
        one = self._delivery(NOTIFY, _ENDED, {"type": "rollout.ended", **more})
        return one if self._known(one) else None

    def again(self, untold: Sequence[Delivery]) -> None:
        """Tell what a process before was to tell, and is not known to have told."""
        for one in untold:
            self.hooks.send(one)

    def heard(self, at: float) -> list[Allowed | Refused]:
        """Journal what came of deliveries, and return what the state machine must know of it."""
        found: list[Allowed | Refused] = []
        for one in self.hooks.collect():
            known = self._outcome(one)
            asked = self._asked.get(one.id)
            if asked is None:
                continue
            if one.ok and known:
                found.append(Allowed(at=at, index=asked.index))
                continue
            why = "its answer could not be journaled" if one.ok else one.said
            found.append(Refused(at=at, index=asked.index, reason=why))
            if asked.index not in self._waiting:
                self._waiting.add(asked.index)
                text = f"the hook before stage {asked.stage} holds it: {why}"
                more = {"stage": asked.stage, "share": asked.share, "text": text}
                self._notify("waiting", more, key=f"waiting-{quote(asked.stage, safe='')}")
        return found

    def finish(self) -> None:
        """Wait for all that is told, within the hooks' own bounds, and journal what came of it."""
        for one in self.hooks.finish():
            self._outcome(one)

    def _notify(self, what: str, body: Mapping[str, object], *, key: str = "") -> None:
        self._tell(self._delivery(NOTIFY, key or what, {"type": f"rollout.{what}", **body}))

    def _tell(self, one: Delivery) -> None:
        if self.hooks.has(one.hook) and self._known(one):
            self.hooks.send(one)

    def _delivery(self, hook: str, key: str, body: Mapping[str, object]) -> Delivery:
        return Delivery(id=f"{self.hooks.rollout}/{hook}/{key}", hook=hook, body=body)

    def _known(self, one: Delivery) -> bool:
        """Journal what is to be told; what cannot be journaled is not told, which changes nothing else."""
        try:
            self._journal(one)
        except EnvironmentProblem as error:
            self.note(f"hook {one.hook} is not told, because that could not be journaled: {error}", "error")
            return False
        return True

    def _journal(self, one: Delivery) -> None:
        self.journal.append("hook", delivery_entry(one), why=str(one.body.get("text", "")))

    def _outcome(self, one: Delivered) -> bool:
        """Journal and tell what came of a delivery; False where it could not be journaled, and must not be acted on."""
        known = True
        what = {"id": one.id, "hook": one.hook, "ok": one.ok}
        try:
            self.journal.append("hooked", what, why=one.said)
        except EnvironmentProblem as error:
            known = False
            self.note(f"what hook {one.hook} answered could not be journaled: {error}", "error")
        if not one.ok:
            self.note(f"hook {one.hook} failed ({one.id}): {one.said}", "warning")
        elif one.hook == BEFORE:
            self.note(f"hook before allows it ({one.id}): {one.said}", "info")
        return known
