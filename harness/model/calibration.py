"""What an A/A run found out about the noise of a system's arms, kept with the system and dated."""

from dataclasses import dataclass

ENOUGH_INTERVALS = 960  # of A/A before the noise's memory is known well enough to gate by
MAX_AGE_DAYS = 30.0
MAX_RATE_FACTOR = 2.0  # of load: beyond it, queues behave otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispersion:
    """The long-run variance of two equal arms' difference in log odds, of one objective from one source.

    `contest` is that of the whole latency (or of the share of bad events), `level` that of the share above the
    quantile itself; both are per judging interval. `intervals` are those in which both arms served, `informative`
    of them had anything bad to tell: with none, G is 0 because nothing was seen, not because there is no noise.
    """

    objective: str
    source: str
    contest: float
    level: float
    intervals: int
    informative: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """One system's calibration.

    `made_at` is RFC 3339 in UTC, `interval_s` the judging interval, `load_rate` in requests a second,
    `intervals` the number of A/A intervals, `windows` how many rollouts of the plan's length they were cut
    into, and `false_alarms` in how many of those the judge would have rolled back an equal release.
    `machine` says in words where it was measured.
    """

    system: str
    plan: str
    made_at: str
    interval_s: float
    load_rate: float
    intervals: int
    windows: int
    false_alarms: int
    dispersions: tuple[Dispersion, ...]
    machine: str = ""

    @property
    def wanted(self) -> int:
        """How many more intervals of A/A it wants before it may be used; 0 when it has enough."""
        return max(0, ENOUGH_INTERVALS - self.intervals)

    def dispersion(self, objective: str, source: str) -> Dispersion | None:
        """Return the dispersion of an objective from a source; None where none was measured."""
        found = (one for one in self.dispersions if (one.objective, one.source) == (objective, source))
        return next(found, None)


class Uncalibrated(Exception):
    """Why a calibration can't be used; the text completes "not calibrated: ..."."""


def check(calibration: Calibration | None, *, interval_s: float, load_rate: float, age_days: float) -> Calibration:
    """Return the calibration if it may be used under these conditions.

    `age_days` is its age at the start of the run. Raises Uncalibrated with the reason otherwise.
    """
    if calibration is None:
        raise Uncalibrated("no A/A run of this system is kept; `rollgate calibrate` makes one")
    if calibration.wanted:
        raise Uncalibrated(f"its A/A run wants {calibration.wanted} more intervals of {ENOUGH_INTERVALS}")
    if not 0 <= age_days <= MAX_AGE_DAYS:
        raise Uncalibrated(f"its A/A run is {age_days:.0f} days old, good for {MAX_AGE_DAYS:.0f}")
    if abs(calibration.interval_s - interval_s) > 0.01 * interval_s:
        raise Uncalibrated(f"its A/A run judged every {calibration.interval_s:g} s, this plan every {interval_s:g} s")
    ratio = load_rate / calibration.load_rate if calibration.load_rate > 0 else 0.0
    if not 1 / MAX_RATE_FACTOR <= ratio <= MAX_RATE_FACTOR:
        raise Uncalibrated(f"its A/A run had {calibration.load_rate:g} requests a second, this plan has {load_rate:g}")
    if calibration.windows < 1:
        raise Uncalibrated("its A/A run is too short for even one rollout of its plan to be tried on it")
    if calibration.false_alarms > 0.05 * calibration.windows:
        raise Uncalibrated(
            f"{calibration.false_alarms} of its {calibration.windows} A/A windows would have been rolled back"
        )
    return calibration
