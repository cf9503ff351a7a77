"""Events that the loops emit; journal, terminal, report, JUnit and Allure listen."""

from dataclasses import dataclass

from harness.model.evidence import Evidence
from harness.model.judgement import Judgement, StageRecord, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseStarted:
    """A phase of the run began: preflight, stack, smoke, warmup, rollout, verdict, teardown."""

    name: str
    at: float
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseEnded:
    """A phase ended, well or not."""

    name: str
    at: float
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStarted:
    """A service answered its health probe for the first time."""

    name: str
    at: float
    seconds: float
    kind: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStarted:
    """Traffic was moved to a stage and read back from the router. `share` in percent."""

    stage: str
    share: float
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEnded:
    """A stage was left."""

    record: StageRecord
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """The judge looked: all judgements as of now, and the evidence that came in since the last look."""

    stage: str
    at: float
    judgements: tuple[Judgement, ...]
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficMoved:
    """The router was told to, and says that it did. Shares in percent."""

    before: float
    after: float
    why: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """Something worth a line."""

    text: str
    at: float
    level: str = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The verdict is in."""

    verdict: Verdict
    at: float


Event = PhaseStarted | PhaseEnded | ServiceStarted | StageStarted | StageEnded | Looked | TrafficMoved | Noted | Decided
