"""What one trial finds at one look, before it is dressed as a judgement."""

from dataclasses import dataclass
from typing import Protocol

from harness.judge.gating import Gating
from harness.model.calibration import Dispersion
from harness.model.evidence import Evidence, Source
from harness.model.objective import Objective
from harness.model.plan import StagePlan
from harness.model.status import Status

WARMUP = "warmup"
UNJUDGED_STAGES = frozenset({"", WARMUP, "smoke"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """When the judge looks. `at` in seconds since the epoch; `final` is the last look of the run."""

    at: float
    stage: str
    final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A status with its numbers; `estimate` and `interval` are in the objective's unit."""

    status: Status
    reason: str
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    n: int = 0
    needed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What one objective is held to in one run, for one source.

    `threshold` is the objective's own or the plan's override; `alpha` is this trial's share of the plan's
    chance of ever failing a good release; `confidence` is what a passing bound needs; `gating` is how this run
    compares the arms; `measures_noise` says that both arms serve the same release, to learn of their noise.
    """

    objective: Objective
    plan: StagePlan
    source: Source
    threshold: float
    alpha: float
    gating: Gating
    measures_noise: bool = False

    @property
    def confidence(self) -> float:
        """The confidence of a passing bound, in (0, 1)."""
        return self.plan.confidence

    @property
    def dispersion(self) -> Dispersion | None:
        """What is known of the arms' noise here."""
        return self.gating.dispersion(self.objective.id, self.source.value)

    def judges(self, record: Evidence) -> bool:
        """Tell whether a record is judged: not warm-up, smoke or a transition, and of the objective's stages."""
        if record.stage in UNJUDGED_STAGES:
            return False
        return not self.objective.stages or record.stage in self.objective.stages


class Trial(Protocol):
    """One objective judged from one source: takes records one by one and can be asked at any time.

    `observe` raises ValueError for a record that the trial can't read; the judge makes that an error.
    `settle` is called after each batch, for what must not depend on the order within it.
    """

    def observe(self, record: Evidence) -> None:
        """Take one record in; ValueError for one that can't be read."""
        ...

    def settle(self) -> None:
        """Note that a batch is over."""
        ...

    def find(self, look: Look) -> Finding:
        """Judge what was seen so far, changing nothing."""
        ...


def missing(look: Look, what: str, *, fatal: bool) -> Finding:
    """Return the finding for want of data: never a pass; an error at the last look where it is `fatal`."""
    status = Status.ERROR if look.final and fatal else Status.INCONCLUSIVE
    return Finding(status=status, reason=f"no evidence: {what}")


def percent(share: float) -> str:
    """Write a share in [0, 1] as percent, e.g. "3.4 %"."""
    value = 100 * share
    digits = 1 if value >= 1 or value == 0 else 2
    return f"{value:.{digits}f} %"


def of(bad: float, n: float) -> str:
    """Write counts with their share: "14 of 410 (3.4 %)"."""
    return f"{bad:.0f} of {n:.0f} ({percent(bad / n)})" if n else "0 of 0"
