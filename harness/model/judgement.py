"""Judgements and the verdict they are merged into."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from harness.model.status import Cause, Decision, ExitCode, Status, merge

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One objective's answer from one source.

    `interval` is the confidence interval of `estimate`, both in `unit`; `n` counts the units judged;
    `needed` is how many more requests would settle an inconclusive answer (None: not known). Good are estimates
    that stand to `threshold` as `comparator` says.
    """

    id: str
    status: Status
    requirement: str
    source: str
    threshold: float | None = None
    unit: str = ""
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    n: int = 0
    reason: str = ""
    remedy: str = ""
    severity: str = "critical"
    stage: str = ""
    needed: int | None = None
    comparator: str = "<="

    @property
    def beyond(self) -> bool:
        """Whether the estimate lies on the wrong side of the threshold."""
        if self.estimate is None or self.threshold is None:
            return False
        return self.estimate < self.threshold if self.comparator in {">", ">="} else self.estimate > self.threshold


def overall(judgements: Iterable[Judgement]) -> Status:
    """Merge the guardrails: fail > error > inconclusive > pass; none at all is an error."""
    return merge(judgement.status for judgement in judgements if judgement.severity == "critical")


class ServiceKind(StrEnum):
    """Whether a service of the run was the real program or a stand-in for it."""

    REAL = "real"
    STAND_IN = "stand_in"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRecord:
    """One service of the run, as the verdict names it."""

    name: str
    kind: ServiceKind
    version: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecord:
    """What one stage saw. Times are seconds since the epoch; `share` is the candidate's share in percent."""

    id: str
    share: float
    started_at: float
    ended_at: float
    status: Status
    n_baseline: int = 0
    n_candidate: int = 0
    p95_baseline_ms: float | None = None
    p95_candidate_ms: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The run's outcome, written to verdict.json. Times are RFC 3339 strings in UTC."""

    run_id: str
    system: str
    baseline: str
    candidate: str
    decision: Decision
    cause: Cause
    status: Status
    exit_code: ExitCode
    rehearsal: bool
    plan: str
    started_at: str
    finished_at: str
    evidence_digest: str
    reason: str = ""
    claims: tuple[str, ...] = ()
    stages: tuple[StageRecord, ...] = ()
    judgements: tuple[Judgement, ...] = ()
    services: tuple[ServiceRecord, ...] = ()
    gpu: tuple[str, ...] = ()
    time_scale: float = 1.0
    seed: int = 0
    provider: str = ""
    waivers: tuple[dict[str, str], ...] = field(default_factory=tuple[dict[str, str], ...])
    schema_version: int = SCHEMA_VERSION
