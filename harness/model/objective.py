"""Objectives: what must hold, as data."""

from dataclasses import dataclass
from enum import StrEnum

from harness.model.evidence import Source


class Measure(StrEnum):
    """How an objective reads its signal."""

    RATIO = "ratio"  # share of bad events
    QUANTILE = "quantile"  # share of latencies above the threshold against 1 - quantile
    AVAILABILITY = "availability"  # every probe of the signal answers
    GROWTH = "growth"  # slope of a gauge, per minute
    SCORE = "score"  # mean of scores in [0, 1]
    COLLECTED = "collected"  # Prometheus yields every series the checks need
    ALERTS = "alerts"  # no critical alert of the system fires on the candidate
    ASSIGNMENT = "assignment"  # observed share of the candidate against the configured one
    SUITE = "suite"  # a test case of suites/ that bears the objective's id


class Against(StrEnum):
    """What an objective's reading is held against."""

    NUMBER = "number"
    BASELINE = "baseline"


class Severity(StrEnum):
    """Guardrails (`critical`) decide; `warning` and `info` are shown only."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """One thing that must hold of the candidate (or of the stack, where `measure` is about it).

    `threshold` is in `unit`: for NUMBER the bound itself ("%", "ms", "MB/min"), for BASELINE the margin by
    which the candidate may be worse ("points" of percent, or "%" relative for a latency quantile).
    """

    id: str
    requirement: str
    signal: str
    measure: Measure
    against: Against = Against.NUMBER
    comparator: str = "<="
    threshold: float = 0.0
    unit: str = ""
    quantile: float | None = None
    sources: tuple[Source, ...] = (Source.CLIENT,)
    severity: Severity = Severity.CRITICAL
    weight: float = 1.0
    stages: tuple[str, ...] = ()
    source: str = ""
    remedy: str = ""
