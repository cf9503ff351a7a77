"""From single requests to interval records: exact counts by arm, written once an interval is whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import floor

from harness.adapters.load.scores import BOUNDS
from harness.model.evidence import Arm, Evidence, Kind, Source, Unit
from harness.planning.histogram import Histogram, log_linear_bounds

# To 4.2 % at worst, since a quantile's margin is judged on them; short decimals, since each record spells them out.
FINE_BOUNDS_S = tuple(round(bound, 7) for bound in log_linear_bounds(0.0005, 32.0, 24))

TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One ended request. Seconds; `intended_s` is wall clock, `service_s` None where nothing was sent.

    `failure` is "" for a 2xx answer, else what happened. `checks` maps check -> violated, `scores` signal -> score
    in [0, 1], or why there is none.
    """

    intended_s: float
    response_s: float
    service_s: float | None
    failure: str
    arm: Arm | None
    first: bool
    checks: Mapping[str, bool]
    scores: Mapping[str, float | str] = field(default_factory=dict[str, float | str])


class _Arm:
    """The counts of one arm in one interval."""

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self.latency, self.service = Histogram(bounds_s), Histogram(bounds_s)
        self.fine = Histogram(FINE_BOUNDS_S)
        self.events: dict[str, list[int]] = {}
        self.scores: dict[str, Histogram] = {}
        self.unread: dict[str, str] = {}  # why the first answer without its score has none

    def count(self, name: str, *, bad: bool) -> None:
        pair = self.events.setdefault(name, [0, 0])
        pair[0] += 1
        pair[1] += bad

    def add(self, sample: Sample) -> None:
        self.count("error", bad=bool(sample.failure))
        if sample.failure == TIMEOUT:  # slower than every bound, by the choice of the timeout
            for histogram in (self.latency, self.service, self.fine):
                histogram.add(float("inf"))
        if sample.failure:  # any other failure has no latency: a quick refusal is not a quick answer
            return
        self.latency.add(sample.response_s)
        self.fine.add(sample.response_s)
        if sample.service_s is not None:
            self.service.add(sample.service_s)
        for name, violated in sample.checks.items():
            self.count(name, bad=violated)
        for name, score in sample.scores.items():
            self.score(name, score)

    def score(self, name: str, score: float | str) -> None:
        """Count a score; one that can't be read lies beyond the scale, where no judgement passes it."""
        if isinstance(score, str):
            self.unread.setdefault(name, score)
        self.scores.setdefault(name, Histogram(BOUNDS)).add(float("inf") if isinstance(score, str) else score)


@dataclass(slots=True)
class _Interval:
    outstanding: int = 0
    requests: int = 0
    late: int = 0
    units: int = 0
    on_candidate: int = 0
    arms: dict[Arm | None, _Arm] = field(default_factory=dict[Arm | None, _Arm])


class IntervalBook:
    """Keeps the open intervals. A request belongs to the interval in which it was intended to be sent."""

    def __init__(
        self, *, prefix: str, bounds_s: Sequence[float], interval_s: float, unit: Unit, late_s: float, start_s: float
    ) -> None:
        """Start with no interval open; `start_s` is the wall time at which the load starts."""
        self._prefix, self._bounds_s, self._interval_s = prefix, tuple(bounds_s), interval_s
        self._unit, self._late_s, self._start_s = unit, late_s, start_s
        self._open: dict[int, _Interval] = {}

    def begin(self, intended_s: float, lag_s: float) -> None:
        """Note that a request was picked up for sending, `lag_s` after its time."""
        interval = self._open.setdefault(floor(intended_s / self._interval_s), _Interval())
        interval.outstanding += 1
        interval.requests += 1
        interval.late += lag_s > self._late_s

    def end(self, sample: Sample) -> None:
        """Count a request that ended, one way or another."""
        interval = self._open[floor(sample.intended_s / self._interval_s)]
        interval.outstanding -= 1
        interval.arms.setdefault(sample.arm, _Arm(self._bounds_s)).add(sample)
        if sample.arm is not None and (sample.first or self._unit is Unit.REQUEST):
            interval.units += 1
            interval.on_candidate += sample.arm is Arm.CANDIDATE

    def closed(self, until_s: float) -> list[Evidence]:
        """Take out the intervals that ended by `until_s` (wall; nothing earlier is still to be sent).

        An interval with requests outstanding stays: half of it would be its quick half.
        """
        done = sorted(
            key
            for key, interval in self._open.items()
            if not interval.outstanding and (key + 1) * self._interval_s <= until_s
        )
        return [record for key in done for record in self._records(key, self._open.pop(key), until_s)]

    def rest(self, stopped_s: float) -> list[Evidence]:
        """Take out whatever is left after the drain; the last interval ends at `stopped_s`."""
        return [record for key in sorted(self._open) for record in self._records(key, self._open.pop(key), stopped_s)]

    def _records(self, key: int, interval: _Interval, until_s: float) -> list[Evidence]:
        start_s = max(key * self._interval_s, self._start_s)
        span = (start_s, max(start_s, min((key + 1) * self._interval_s, until_s)))
        records = [
            record
            for arm in sorted(interval.arms, key=lambda arm: arm or "")
            for record in self._of_arm(arm, interval.arms[arm], span)
        ]
        if interval.units:
            records.append(
                Evidence(
                    kind=Kind.ASSIGNMENT, source=Source.CLIENT, signal="assignment", start_s=span[0], end_s=span[1],
                    unit=self._unit, n=interval.units, bad=interval.on_candidate,
                )
            )  # fmt: skip
        note = f"{interval.late} of {interval.requests} sent over {self._late_s * 1e3:g} ms late"
        records.append(
            Evidence(
                kind=Kind.EVENTS, source=Source.CLIENT, signal="load.late", start_s=span[0], end_s=span[1],
                n=interval.requests, bad=interval.late, note=note if interval.late else "",
            )
        )  # fmt: skip
        return records

    def _of_arm(self, arm: Arm | None, counts: _Arm, span: tuple[float, float]) -> list[Evidence]:
        suffix = "" if arm else ".unrouted"
        records = [
            Evidence(
                kind=Kind.HISTOGRAM, source=Source.CLIENT, signal=f"{self._prefix}.{name}{suffix}", arm=arm,
                start_s=span[0], end_s=span[1], n=histogram.n, bounds=histogram.bounds, counts=tuple(histogram.counts),
            )
            for name, histogram in (
                ("latency", counts.latency), ("service", counts.service), ("latency.fine", counts.fine),
            )
            if histogram.n
        ]  # fmt: skip
        records += [
            Evidence(
                kind=Kind.EVENTS, source=Source.CLIENT, signal=f"{self._prefix}.{name}{suffix}", arm=arm,
                start_s=span[0], end_s=span[1], n=n, bad=bad,
            )
            for name, (n, bad) in sorted(counts.events.items())
        ]  # fmt: skip
        records += [
            Evidence(
                kind=Kind.HISTOGRAM, source=Source.CLIENT, signal=f"{name}{suffix}", arm=arm, start_s=span[0],
                end_s=span[1], n=scores.n, bounds=scores.bounds, counts=tuple(scores.counts),
                note=_unread(scores, counts.unread.get(name, "")),
            )
            for name, scores in sorted(counts.scores.items())
        ]  # fmt: skip
        return records


def _unread(scores: Histogram, first: str) -> str:
    return f"{scores.counts[-1]} of {scores.n} answers without a score: {first}" if first else ""
