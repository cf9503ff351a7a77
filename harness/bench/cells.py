"""What the bench is made of: cells, each a scenario with an effect, what is asked of it, and the bar."""

from dataclasses import dataclass
from enum import StrEnum

from harness.bench.streams import Effect, Layout, World

_WORLD, NO_EFFECT, _LAYOUT = World(), Effect(), Layout()
ROLLGATE = "rollgate"  # the rule under test, among the rules of a cell


class Standing(StrEnum):
    """What a missed bar means: safety bars fail the bench, goals and limits are printed."""

    SAFETY = "safety"
    GOAL = "goal"
    LIMIT = "limit"


class Kind(StrEnum):
    """What is measured on each rollout."""

    CALIBRATED = "rolled back, after A/A"
    BLOCKS = "rolled back, by blocks"
    PROMOTION = "promoted"
    ROUTER = "router found at fault"
    TELEMETRY = "promoted on corrupt telemetry"
    SPEED = "speed"


class Statistic(StrEnum):
    """What is read from the times of a rule; `RATIO` is to the median of the rule `against`."""

    EVER = "share, ever"
    MEDIAN = "median"
    RATIO = "ratio of medians"
    VALUE = "value"


class Tier(StrEnum):
    """How much of the bench is run."""

    FULL = "full"
    QUICK = "quick"
    MINUTE = "minute"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What is wanted of a rule: a statistic at most, or at least, `wanted`; `upper` is for the 95 % bound."""

    wanted: float
    statistic: Statistic = Statistic.EVER
    rule: str = ROLLGATE
    against: str = ""
    at_least: bool = False
    upper: float | None = None
    unit: str = "%"


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """A router asked for `share` of its units of assignment that sends `sent`.

    Sessions make 1 + Poisson(`requests` - 1) requests; with `by_request` each of them is counted as a unit.
    """

    share: float = 0.10
    sent: float = 0.10
    requests: float = 5.0
    by_request: bool = False
    per_look: int = 20
    looks: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One scenario: `runs` by tier (0: not in it), the rules measured, and the bars.

    `wanted` says whether the event that `kind` measures is wanted: soon and often, or never.
    """

    name: str
    title: str
    question: str
    kind: Kind
    standing: Standing
    runs: tuple[int, int, int]  # full, quick, minute
    bars: tuple[Bar, ...]
    wanted: bool = True
    world: World = _WORLD
    effect: Effect = NO_EFFECT
    layout: Layout = _LAYOUT
    opponents: bool = False
    oracle: bool = False
    margin: float = 0.005
    router: Router = Router()
    tempered: bool = True
    chunk: int = 250

    def runs_of(self, tier: Tier) -> int:
        """Return how many rollouts this tier measures."""
        return self.runs[list(Tier).index(tier)]

    @property
    def minutes(self) -> float:
        """What one step of a time is worth in minutes."""
        return self.layout.interval_s / 60
