"""Stage plans: how traffic moves, how long each stage bakes, and what proof promotion needs."""

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise


class OnInconclusive(StrEnum):
    """What happens at a deadline without proof."""

    ROLLBACK = "rollback"
    HOLD = "hold"


class RollbackOn(StrEnum):
    """What proves a release bad against its baseline.

    `excess`: worse by more than the margin. `difference`: worse at all; wants a calibrated system, and falls
    back to `blocks` without one. `blocks`: worse at all, judged by whole blocks of intervals, which needs no
    calibration and is slow. `absolute`: never by comparison; objectives against numbers alone decide.
    """

    EXCESS = "excess"
    DIFFERENCE = "difference"
    BLOCKS = "blocks"
    ABSOLUTE = "absolute"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of the ramp. `share` is the candidate's share of traffic in percent.

    Bakes are seconds, already divided by the time scale. A stage ends early once every guardrail is
    settled, never before `min_bake_s`, and at the latest at `max_bake_s`. `until_proven` keeps it to its
    longest bake unless every guardrail passes: set where both arms have traffic enough to be compared,
    because at the last stage only the holdout is left of the baseline.
    """

    id: str
    share: float
    min_bake_s: float
    max_bake_s: float
    until_proven: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """A rollout from 0 to 100 %.

    `alpha` bounds the chance of rolling back a good release over the whole run, `confidence` is what a
    passing bound needs, `holdout` is the baseline's share in percent kept at the last stage, `margins` maps
    objective ids to margins that override the objective's own. `patience_s` is how long an error, or missing
    proof, may hold a stage beyond its `max_bake_s` before `on_inconclusive` strikes (`deadline_s` bounds the
    whole rollout likewise). `rollback_on` is what proves a release bad, `interval_s` the stretch that the arms'
    noise is measured over and compared in, `weights` maps objective ids to weights that override their own, and
    `informational` names guardrails that this plan only shows. `claims` says in plain words what a promotion by
    this plan may claim; `proof` ("each" or "last") tells whether each stage or only the last must be proven to
    go on.
    """

    name: str
    stages: tuple[Stage, ...]
    warmup_s: float
    settle_s: float
    deadline_s: float
    patience_s: float = 10.0
    alpha: float = 0.01
    confidence: float = 0.99
    holdout: float = 5.0
    on_inconclusive: OnInconclusive = OnInconclusive.ROLLBACK
    proof: str = "last"
    time_scale: float = 1.0
    load_rate: float = 40.0
    look_s: float = 1.0
    rollback_on: RollbackOn = RollbackOn.EXCESS
    interval_s: float = 1.0
    margins: tuple[tuple[str, float], ...] = ()
    weights: tuple[tuple[str, float], ...] = ()
    informational: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a plan that does not rise strictly to its end, or whose bakes contradict."""
        shares = [stage.share for stage in self.stages]
        if not shares or any(a >= b for a, b in pairwise(shares)):
            msg = f"plan {self.name}: stages must rise strictly, found {shares}"
            raise ValueError(msg)
        if shares[0] <= 0 or shares[-1] > 100:  # noqa: PLR2004 - percent
            msg = f"plan {self.name}: shares must lie in (0, 100], found {shares}"
            raise ValueError(msg)
        for stage in self.stages:
            if not 0 <= stage.min_bake_s <= stage.max_bake_s:
                msg = f"plan {self.name}, stage {stage.id}: need 0 <= min_bake <= max_bake, found "
                msg += f"{stage.min_bake_s} and {stage.max_bake_s}"
                raise ValueError(msg)
