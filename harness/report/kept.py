"""What the report draws and the verdict does not hold, kept beside it so that a report can be written again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from harness.model.codec import parse_json
from harness.model.event import Decided, Event, Looked, TrafficMoved
from harness.model.objective import Against, Measure, Objective
from harness.ports import Case

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The suites' cases, the logs' ends (masked), the moves and looks, the latency thresholds, the command."""

    cases: tuple[Case, ...] = ()
    log_tails: Mapping[str, str] = field(default_factory=dict[str, str])
    moves: tuple[tuple[float, float, float, str], ...] = ()  # (at, before, after, why): epoch seconds, percent
    looks: tuple[float, ...] = ()  # epoch seconds
    decided: float | None = None
    limits: tuple[tuple[str, str, float], ...] = ()  # (signal, requirement, ms)
    scores: tuple[str, ...] = ()  # signals whose histograms hold no latencies
    command: str = ""

    @classmethod
    def of(
        cls,
        *,
        cases: Sequence[Case],
        log_tails: Mapping[str, str],
        events: Sequence[Event],
        objectives: Sequence[Objective],
        command: str,
    ) -> "Kept":
        """Keep of a run's events and objectives what the report draws."""
        return cls(
            cases=tuple(cases),
            log_tails=dict(log_tails),
            moves=tuple((e.at, e.before, e.after, e.why) for e in events if isinstance(e, TrafficMoved)),
            looks=tuple(e.at for e in events if isinstance(e, Looked)),
            decided=next((e.at for e in events if isinstance(e, Decided)), None),
            limits=tuple((o.signal, o.requirement, o.threshold) for o in objectives if _is_latency_bound(o)),
            scores=tuple(dict.fromkeys(o.signal for o in objectives if o.measure is Measure.SCORE)),
            command=command,
        )


def _is_latency_bound(objective: Objective) -> bool:
    return objective.measure is Measure.QUANTILE and objective.against is Against.NUMBER and objective.unit == "ms"


def dumps(kept: Kept) -> str:
    """Return the text of report.json."""
    return json.dumps({"version": VERSION, **asdict(kept)}, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def loads(text: str) -> Kept:
    """Return what `dumps` wrote; ValueError for what is no such text."""
    raw = parse_json(text)
    if not isinstance(raw, dict):
        msg = "report.json holds no object"
        raise ValueError(msg)  # noqa: TRY004 - one error type for every malformed text
    doc = cast("dict[str, Any]", raw)
    if doc.pop("version", None) != VERSION:
        msg = "report.json is of another version"
        raise ValueError(msg)
    try:
        return Kept(
            cases=tuple(_case(case) for case in doc.pop("cases")),
            moves=tuple((m[0], m[1], m[2], m[3]) for m in doc.pop("moves")),
            looks=tuple(doc.pop("looks")),
            limits=tuple((li[0], li[1], li[2]) for li in doc.pop("limits")),
            scores=tuple(doc.pop("scores", ())),
            **doc,
        )
    except (KeyError, TypeError, IndexError) as error:
        msg = f"report.json is incomplete: {error}"
        raise ValueError(msg) from error


def _case(doc: dict[str, Any]) -> Case:
    values: dict[str, Any] = {**doc, "covers": tuple(doc["covers"])}
    return Case(**values)
