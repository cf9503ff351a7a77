"""What a run's events add up to, for a view to draw."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.model.event import (
    Decided,
    Event,
    Looked,
    Noted,
    PhaseEnded,
    PhaseStarted,
    ServiceStarted,
    StageEnded,
    StageStarted,
    TrafficMoved,
)
from harness.model.evidence import Arm, Evidence, Kind, Source
from harness.model.judgement import Judgement, StageRecord, Verdict
from harness.model.plan import StagePlan
from harness.report.latency import FINE, Histogram, rank

WINDOW_S = 15.0
_NOTES = 4


@dataclass(slots=True)
class Phase:
    """A phase of the run and how it went; `ok` is None while it lasts."""

    name: str
    started: float
    ended: float | None = None
    ok: bool | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmNow:
    """An arm in the last seconds, by the client's clock: requests a second, latencies in seconds."""

    rate: float
    requests: int
    p50: float | None
    p95: float | None
    p99: float | None
    errors: int


@dataclass(slots=True)
class RunState:
    """The run so far. `update` takes events in their order; nothing here reads a clock."""

    plan: StagePlan | None = None
    began: float | None = None
    last: float = 0.0
    phases: list[Phase] = field(default_factory=list[Phase])
    services: list[ServiceStarted] = field(default_factory=list[ServiceStarted])
    stage: str = ""
    stage_began: float = 0.0
    share: float = 0.0
    ended: dict[str, StageRecord] = field(default_factory=dict[str, StageRecord])
    judgements: tuple[Judgement, ...] = ()
    looks: int = 0
    notes: deque[Noted] = field(default_factory=lambda: deque(maxlen=_NOTES))
    verdict: Verdict | None = None
    _recent: deque[Evidence] = field(default_factory=deque[Evidence])

    def update(self, event: Event) -> None:
        """Take in one event."""
        at = event.at
        self.began = at if self.began is None else self.began
        self.last = max(self.last, at)
        match event:
            case PhaseStarted():
                self.phases.append(Phase(event.name, at, detail=event.detail))
            case PhaseEnded():
                self._end_phase(event)
            case ServiceStarted():
                self.services.append(event)
            case StageStarted():
                self.stage, self.share, self.stage_began = event.stage, event.share, at
            case StageEnded():
                self.ended[event.record.id] = event.record
            case TrafficMoved():
                self.share = event.after
            case Looked():
                self._look(event)
            case Noted():
                self.notes.append(event)
            case Decided():
                self.verdict = event.verdict

    def arm(self, arm: Arm) -> ArmNow:
        """Return what the clients saw of `arm` over the last WINDOW_S seconds."""
        mine = [record for record in self._recent if record.arm is arm]
        latencies = Histogram.merged(_main_signal(mine))
        errors = sum(record.bad for record in mine if record.kind is Kind.EVENTS and _is_error(record.signal))
        return ArmNow(
            rate=latencies.n / self._window(),
            requests=latencies.n,
            p50=latencies.quantile(0.5),
            p95=latencies.quantile(0.95),
            p99=latencies.quantile(0.99),
            errors=errors,
        )

    def bound_s(self, now: float) -> float | None:
        """Return at most how many seconds of rollout are left by the plan; None before it has begun."""
        if self.plan is None or not self.stage or self.verdict:
            return None
        ids = [stage.id for stage in self.plan.stages]
        if self.stage not in ids:
            return None
        ahead = self.plan.stages[ids.index(self.stage) :]
        left = sum(stage.max_bake_s for stage in ahead) - max(0.0, now - self.stage_began)
        began = next((phase.started for phase in self.phases if phase.name == "rollout"), self.stage_began)
        return max(0.0, min(left, self.plan.deadline_s - (now - began)))

    def _end_phase(self, event: PhaseEnded) -> None:
        for phase in reversed(self.phases):
            if phase.name == event.name and phase.ended is None:
                phase.ended, phase.ok, phase.detail = event.at, event.ok, event.detail or phase.detail
                return
        self.phases.append(Phase(event.name, event.at, event.at, event.ok, event.detail))

    def _look(self, event: Looked) -> None:
        self.looks += 1
        self.judgements = event.judgements
        self._recent.extend(r for r in event.evidence if r.source is Source.CLIENT and r.arm is not None)
        newest = max((record.end_s for record in self._recent), default=0.0)
        while self._recent and self._recent[0].end_s < newest - WINDOW_S:
            self._recent.popleft()

    def _window(self) -> float:
        if not self._recent:
            return 1.0
        return max(1.0, max(r.end_s for r in self._recent) - min(r.start_s for r in self._recent))


def _main_signal(records: Sequence[Evidence]) -> list[Evidence]:
    """Return the histograms of the arm's main latency, in the finest buckets that there are."""
    totals: dict[str, int] = {}
    for record in records:
        if record.kind is Kind.HISTOGRAM:
            totals[record.signal] = totals.get(record.signal, 0) + record.n
    main = min(totals, key=lambda signal: rank(signal.removesuffix(FINE), totals[signal]), default="")
    main = main.removesuffix(FINE)
    wanted = main + FINE if main + FINE in totals else main
    return [record for record in records if record.kind is Kind.HISTOGRAM and record.signal == wanted]


def _is_error(signal: str) -> bool:
    return signal.rpartition(".")[2] in {"error", "errors"}
