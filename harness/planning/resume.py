"""Where a rollout was left, by its journal alone: what a later process goes on from."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from harness.model.hook import BEFORE, Delivery
from harness.model.judgement import StageRecord
from harness.model.status import Cause, Decision, Status
from harness.planning.rollout import Phase, State

_LATER = frozenset({"allowed", "refused_at"})  # what journals of before hooks do not have


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """How a rollout stood when its last process was heard of.

    `share` is what the last confirmed move left, percent; `intent` that of a move which was begun and has no outcome.
    `elapsed_s` is how long the rollout had lasted, `ordered` the newest operator's order that was taken, `finished`
    whether its end is told, `untold` what hooks were to be told and are not known to have heard, oldest first.
    """

    state: State
    elapsed_s: float
    share: float
    intent: float | None
    records: tuple[StageRecord, ...]
    ordered: int
    finished: bool = False
    untold: tuple[Delivery, ...] = ()

    @property
    def turned_back(self) -> bool:
        """Whether the last confirmed move went down, and the disk was too full for the state to say so."""
        return self.share < self.state.share and self.state.phase not in {Phase.RETURNING, Phase.DONE}


def state_entry(state: State, *, at: float, ordered: int) -> dict[str, object]:
    """Return what the journal keeps of `state`; `at` is the rollout's own time, as its events count it."""
    elapsed = max(0.0, at - state.started_at) if state.started_at else 0.0
    return {**asdict(state), "elapsed_s": elapsed, "ordered": ordered}


def left_by(entries: Iterable[tuple[str, Mapping[str, object]]]) -> Left | None:
    """Return where the entries of one rollout, (kind, what) each, leave it; None where it never began."""
    state, elapsed, ordered = State(), 0.0, 0
    share, intent = 0.0, None
    records: list[StageRecord] = []
    untold: dict[str, Delivery] = {}
    began = finished = False
    for kind, what in entries:
        match kind:
            case "rollout":
                began, share = True, _number(what["base"])
                state = State(base=share, share=share, goal=_number(what["goal"]))
            case "state":
                state, elapsed, ordered = _state(what), _number(what["elapsed_s"]), int(_number(what["ordered"]))
            case "intent":
                intent = _number(what["to"])
            case "outcome":
                share, intent = (_number(what["to"]), None) if what["ok"] else (share, intent)
            case "stage":
                records.append(_record(what))
            case "finish":
                finished, state = True, _finished(state, what)
            case "hook" | "hooked":
                _tell(untold, kind, what)
            case _:
                continue
    if not began:
        return None
    return Left(
        state=state,
        elapsed_s=elapsed,
        share=share,
        intent=intent,
        records=tuple(records),
        ordered=ordered,
        finished=finished,
        untold=tuple(one for one in untold.values() if one.hook != BEFORE),
    )


def delivery_entry(one: Delivery) -> dict[str, object]:
    """Return what the journal keeps of a delivery to a hook, before it is made."""
    return asdict(one)


def _tell(untold: dict[str, Delivery], kind: str, what: Mapping[str, object]) -> None:
    """Keep what a hook was to be told, until it is known what came of it."""
    name = str(what["id"])
    if kind == "hooked":
        untold.pop(name, None)
        return
    body = {str(name): value for name, value in cast("dict[str, object]", what["body"]).items()}
    untold[name] = Delivery(id=name, hook=str(what["hook"]), body=body)


def _number(value: object) -> float:
    return float(cast("float", value))


def _state(what: Mapping[str, object]) -> State:
    kept: dict[str, Any] = {
        name: what[name] for name in State.__dataclass_fields__ if name in what or name not in _LATER
    }
    kept["phase"] = Phase(kept["phase"])
    kept["decision"] = Decision(kept["decision"]) if kept["decision"] else None
    kept["cause"] = Cause(kept["cause"]) if kept["cause"] else None
    return State(**kept)


def _finished(state: State, what: Mapping[str, object]) -> State:
    """Return the state at a told end, whose last state a full disk may have kept out of the journal."""
    decision, cause = Decision(str(what["decision"])), Cause(str(what["cause"]))
    return replace(state, phase=Phase.DONE, decision=decision, cause=cause)


def _record(what: Mapping[str, object]) -> StageRecord:
    kept: dict[str, Any] = {name: what[name] for name in StageRecord.__dataclass_fields__}
    kept["status"] = Status(kept["status"])
    return StageRecord(**kept)
