"""Does the candidate's memory grow faster than the baseline's?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.judge.binomial import student_quantile
from harness.judge.finding import Finding, Look, Terms, missing
from harness.judge.newest import NewestStage
from harness.model.evidence import Arm, Evidence, Kind
from harness.model.status import Status

_MEGABYTE = 1e6
_FEWEST = 8  # blocks before anything is said
_MOST = 64  # blocks kept; then neighbours are joined
_BLOCK_S = 2.0


@dataclass(slots=True)
class _Block:
    """Growth and exposure of both arms over a stretch: bytes, and minutes at full traffic."""

    grown: dict[Arm, float] = field(default_factory=lambda: dict.fromkeys(Arm, 0.0))
    exposed: dict[Arm, float] = field(default_factory=lambda: dict.fromkeys(Arm, 0.0))
    seconds: float = 0.0

    def join(self, other: "_Block") -> None:
        for arm in Arm:
            self.grown[arm] += other.grown[arm]
            self.exposed[arm] += other.exposed[arm]
        self.seconds += other.seconds


class GrowthTrial:
    """Holds the slope of a gauge (bytes) on the candidate, less the baseline's, to a number of MB a minute.

    What leaks is memory per request, and the candidate's traffic rises from stage to stage. So the slope is
    taken against exposure, the integral of the arm's configured share of traffic: MB (10^6 bytes) a minute
    *at full traffic*. Growth is summed over blocks of at least 2 s; a block's increments are independent
    even where the level wanders, which makes the ratio estimator's interval hold against autocorrelation,
    and a single jump widens the interval rather than tilting the slope.

    Used: readings of judged stages, each of the candidate's with the newest of the baseline's. The first
    seconds of the candidate's traffic (a tenth of the planned bakes, 5 s to 60 s) and of the rest the first
    quarter of its exposure are skipped: allocators and caches fill then, a leak goes on; the baseline is
    warm. A baseline that shrinks counts as one that stands still. Evidence to fail is looked at when 8, 16,
    32, ... blocks are left, with half of what is left of alpha each time, and the newer half of them must show
    the growth too; a pass needs the upper bound within the threshold, and a reading of the newest stage. A warm-up
    that is longer than what is skipped counts as growth.
    """

    def __init__(self, terms: Terms) -> None:
        """Raise ValueError for a unit other than MB/min."""
        if terms.objective.unit != "MB/min":
            msg = f"objective {terms.objective.id}: growth is in MB/min, found {terms.objective.unit!r}"
            raise ValueError(msg)
        self._terms = terms
        planned = sum(stage.max_bake_s for stage in terms.plan.stages)
        self._skip_s = min(60.0, max(5.0, planned / 10))
        self._newest_b: Evidence | None = None
        self._first_s: float | None = None
        self._last: tuple[Evidence, Evidence] | None = None
        self._open = _Block()
        self._blocks: list[_Block] = []
        self._joined = 1
        self._next_look, self._alpha_left = _FEWEST, terms.alpha
        self._failed = ""
        self.stages = NewestStage(terms.plan)

    def observe(self, record: Evidence) -> None:
        """Take one reading of one arm."""
        if record.kind is not Kind.GAUGE or record.value is None or record.value < 0:
            msg = f"{record.signal}: memory is a gauge that is not negative"
            raise ValueError(msg)
        if not self._terms.judges(record):
            return
        if record.arm is Arm.BASELINE:
            self._newest_b = record
        elif record.arm is Arm.CANDIDATE and self._newest_b is not None:
            self.stages.enter(record.stage)
            self._first_s = record.end_s if self._first_s is None else self._first_s
            if record.end_s - self._first_s >= self._skip_s:
                self._step(self._newest_b, record)

    def settle(self) -> None:
        """Nothing waits for the end of a batch."""

    def _step(self, baseline: Evidence, candidate: Evidence) -> None:
        before, self._last = self._last, (baseline, candidate)
        if before is None:
            return
        step = _Block(seconds=candidate.end_s - before[1].end_s)
        for old, new, arm in zip(before, self._last, (Arm.BASELINE, Arm.CANDIDATE), strict=True):
            share = (old.share + new.share) / 2 if candidate.share else 1.0
            if arm is Arm.BASELINE and candidate.share:
                share = 1 - share
            step.grown[arm] = (new.value or 0.0) - (old.value or 0.0)
            step.exposed[arm] = max(share, 0.0) * (new.end_s - old.end_s) / 60
        self._open.join(step)
        if self._open.seconds >= _BLOCK_S * self._joined:
            self._blocks.append(self._open)
            self._open = _Block()
            self._look_to_fail()

    def _look_to_fail(self) -> None:
        warm = self._warm()
        if len(warm) >= self._next_look:
            self._alpha_left /= 2
            slope, half = self._slope(1 - self._alpha_left)
            goes_on = _rate(warm[len(warm) // 2 :], Arm.CANDIDATE)[0] > self._terms.threshold
            if slope - half > self._terms.threshold and goes_on and not self._failed:
                self._failed = f"shown above {slope - half:.1f}"
            self._next_look *= 2
        if len(self._blocks) >= _MOST:
            for left, right in zip(self._blocks[::2], self._blocks[1::2], strict=True):
                left.join(right)
            self._blocks = self._blocks[::2]
            self._joined *= 2
            self._next_look = _MOST // 2

    def _warm(self) -> list[_Block]:
        """Return the blocks after the first quarter of the candidate's exposure."""
        quarter = 0.25 * sum(block.exposed[Arm.CANDIDATE] for block in self._blocks)
        first, exposed = 0, 0.0
        while first < len(self._blocks) and exposed + self._blocks[first].exposed[Arm.CANDIDATE] <= quarter:
            exposed += self._blocks[first].exposed[Arm.CANDIDATE]
            first += 1
        return self._blocks[first:]

    def _slope(self, level: float) -> tuple[float, float]:
        """Return the difference of the slopes and the one-sided half width at `level`, both in MB/min."""
        blocks = self._warm()
        candidate, var_c = _rate(blocks, Arm.CANDIDATE)
        baseline, var_b = _rate(self._blocks, Arm.BASELINE)
        if baseline < 0:
            baseline = var_b = 0.0
        return candidate - baseline, student_quantile(level, len(blocks) - 1) * math.sqrt(var_c + var_b)

    def find(self, look: Look) -> Finding:
        """Judge the slopes so far."""
        count = len(self._warm())
        if count < _FEWEST:
            return missing(
                look, f"{count} of {_FEWEST} blocks of readings after the first {self._skip_s:g} s", fatal=False
            )
        slope, half = self._slope(self._terms.confidence)
        limit = self._terms.threshold
        seen = (
            f"at full traffic the candidate's memory grows by {_rate(self._warm(), Arm.CANDIDATE)[0]:.1f} MB a "
            f"minute, the baseline's by {_rate(self._blocks, Arm.BASELINE)[0]:.1f}; limit {limit:g} more"
        )
        if self._failed:
            status, reason = Status.FAIL, f"{seen}: {self._failed} MB a minute"
        elif slope + half <= limit:
            status, reason = Status.PASS, f"{seen}: shown at most {slope + half:.1f}"
        else:
            status, reason = Status.INCONCLUSIVE, f"{seen}: between {slope - half:.1f} and {slope + half:.1f}"
        return Finding(status=status, reason=reason, estimate=slope, interval=(slope - half, slope + half), n=count)


def _rate(blocks: Sequence[_Block], arm: Arm) -> tuple[float, float]:
    """Return (MB a minute at full traffic, its variance) of one arm: the ratio estimator over blocks."""
    exposed = sum(block.exposed[arm] for block in blocks)
    if exposed <= 0:
        return 0.0, 0.0
    rate = sum(block.grown[arm] for block in blocks) / exposed / _MEGABYTE
    left = sum((block.grown[arm] / _MEGABYTE - rate * block.exposed[arm]) ** 2 for block in blocks)
    return rate, left * len(blocks) / (len(blocks) - 1) / exposed**2
