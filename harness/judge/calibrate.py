"""What an A/A run shows of the noise of a system's arms."""

from collections.abc import Sequence

from harness.judge.finding import Terms
from harness.judge.gating import Gating
from harness.judge.latency import FinestLatencyTrial, LatencyTrial
from harness.judge.ratio import RatioTrial
from harness.model.calibration import Dispersion
from harness.model.evidence import Evidence, Source
from harness.model.objective import Against, Measure, Objective
from harness.model.plan import RollbackOn, StagePlan

_HOW = Gating(mode=RollbackOn.ABSOLUTE, calibration=None, why="it is being calibrated")


class Calibrator:
    """Measures the dispersion of every comparison, while both arms serve the same release.

    It reads the evidence with the very trials that judge: same pairs, same intervals, same thresholds. Records
    of the warm-up feed thresholds only.
    """

    def __init__(self, objectives: Sequence[Objective], plan: StagePlan) -> None:
        """Prepare a trial for each ratio and quantile against the baseline, from each of its sources."""
        self._trials: list[tuple[Objective, Source, RatioTrial | FinestLatencyTrial]] = []
        for objective in objectives:
            kind = {Measure.RATIO: RatioTrial, Measure.QUANTILE: FinestLatencyTrial}.get(objective.measure)
            if kind is None or objective.against is not Against.BASELINE:
                continue
            for source in objective.sources:
                terms = Terms(
                    objective=objective,
                    plan=plan,
                    source=source,
                    threshold=objective.threshold,
                    alpha=plan.alpha,
                    gating=_HOW,
                    measures_noise=True,
                )
                self._trials.append((objective, source, kind(terms)))

    def observe(self, records: Sequence[Evidence]) -> None:
        """Take in records of both arms, in order of time. Raises ValueError for one that can't be read."""
        for record in records:
            for objective, source, trial in self._trials:
                signals = (objective.signal, f"{objective.signal}.fine")
                fits = signals if objective.measure is Measure.QUANTILE else signals[:1]
                if record.source is source and record.signal in fits:
                    trial.observe(record)

    def gap(self) -> None:
        """Note that time passed unseen, as between two runs: neighbours across it are none. What is open is closed."""
        for _, _, trial in self._trials:
            trial.flush()
            _judged(trial).noise.gap()

    @property
    def intervals(self) -> int:
        """The judging intervals seen by the objective that saw the fewest; 0 without any comparison."""
        return min((_judged(trial).noise.level.intervals for _, _, trial in self._trials), default=0)

    def dispersions(self) -> tuple[Dispersion, ...]:
        """Return what was found, one for each comparison and source."""
        found: list[Dispersion] = []
        for objective, source, trial in self._trials:
            noise = _judged(trial).noise
            found.append(
                Dispersion(
                    objective=objective.id,
                    source=source.value,
                    contest=float(noise.contest.value),
                    level=float(noise.level.value),
                    intervals=noise.level.intervals,
                    informative=noise.level.informative,
                )
            )
        return tuple(found)


def _judged(trial: RatioTrial | FinestLatencyTrial) -> RatioTrial | LatencyTrial:
    return trial.judged if isinstance(trial, FinestLatencyTrial) else trial
