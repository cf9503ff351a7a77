"""The judge: routes evidence to one trial for each objective and source, and dresses what they find."""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace

from harness.judge.alerts import AlertsTrial
from harness.judge.assignment import AssignmentTrial
from harness.judge.availability import AvailabilityTrial, ProbeBook, RestartTrial
from harness.judge.finding import UNJUDGED_STAGES, Finding, Look, Terms, Trial
from harness.judge.gating import Gating, gating
from harness.judge.growth import GrowthTrial
from harness.judge.instrument import CollectedTrial, Instrument
from harness.judge.latency import FinestLatencyTrial, LatencyTrial
from harness.judge.number import NumberTrial
from harness.judge.pool import Pool, Seat
from harness.judge.quality import QualityTrial
from harness.judge.ratio import RatioTrial
from harness.judge.suite import SuiteTrial
from harness.judge.telemetry import Telemetry
from harness.model.calibration import Calibration
from harness.model.evidence import Arm, Evidence, Kind, Source
from harness.model.judgement import Judgement
from harness.model.objective import Against, Measure, Objective, Severity
from harness.model.plan import StagePlan
from harness.model.status import Status

_STATISTICAL = frozenset({Measure.RATIO, Measure.QUANTILE, Measure.GROWTH, Measure.SCORE})
_COMPARISONS = frozenset({Measure.RATIO, Measure.QUANTILE})  # where the arms' noise is known from a calibration
# The instruments' reports on themselves, and whose measurements they vouch for, whoever hands them in.
_REPORTS = {"load": Source.CLIENT, "metrics": Source.PROMETHEUS}
_FROZEN_S, _FROZEN_LOOKS, _FROZEN_SCRAPES_S, _FROZEN_DUE = 15.0, 10, 60.0, 60.0  # see Judge._frozen
_WHOLE = 100.0  # percent of traffic
_LEAST_ALPHA = 1e-300  # of one trial: a weight next to nothing must not make it 0
_RECOVERY = 5  # good reports in a row before an instrument found faulty is trusted again


class Judge:
    """Judges a rollout. Deterministic; keeps sums, not records.

    The plan's `alpha` is divided among the objectives that a release may fail by chance (ratios, quantiles,
    growth; guardrails alone), by their weights and evenly among their sources; each fails only at its own
    anytime-valid level. So a release that is within every margin is rolled back with a chance of at most
    alpha over all looks, stages and objectives together. Where the plan rolls back on any difference, the
    comparisons with the baseline pool their parts of alpha: the weighted average of their e-values decides, and
    the objectives that carry it are the ones that fail. This rests on arms that differ by the release alone, and
    on noise of an arm's own that is either known from a calibration, or averaged out in blocks, or within the
    margins: `claims` says which.

    The plan overrides thresholds (`margins`), `weights`, and what only informs. Records of the stages "",
    "warmup" and "smoke" are not judged by ratios, quantiles, growth and assignment (the baseline's warm-up feeds
    thresholds); probes, suites and reports of instruments count whatever their stage.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        plan: StagePlan,
        calibration: Calibration | None = None,
        *,
        uncalibrated: str = "",
    ) -> None:
        """Take what is required, how, and what is known of the arms' noise.

        `uncalibrated` says why there is no calibration. Raises ValueError for an objective whose measure, unit and
        sources contradict.
        """
        self._plan = plan
        self._gating = _for_all(gating(plan, calibration, uncalibrated), objectives)
        self._book = ProbeBook()
        self._telemetry = Telemetry()
        self._instruments = {
            Source.CLIENT: Instrument("the load generator", _RECOVERY, strict_end=True),
            Source.PROMETHEUS: Instrument("Prometheus", _RECOVERY),
        }
        # The end of the newest record in which a source saw anything of an arm, by signal.
        self._newest: dict[tuple[Source, str, Arm], float] = {}
        # How many units of the baseline were due since its last one, by what the candidate served.
        self._due: dict[tuple[Source, str], float] = {}
        self._seats = _seats(_by_policy(objectives, plan), plan, self._book, self._gating)
        self._pool = Pool(self._seats)
        self._routes: dict[tuple[Source, str], list[Seat]] = {}
        for seat in self._seats:
            for signal in seat.signals:
                self._routes.setdefault((seat.source, signal), []).append(seat)

    def observe(self, records: Sequence[Evidence]) -> None:
        """Take in a batch of records, in order of time for each series. Never raises for bad evidence."""
        for record in records:
            if self._telemetry.accept(record):
                try:
                    self._route(record)
                except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                    self._telemetry.mark(record, str(error))
        for seat in self._seats:
            seat.trial.settle()
        self._pool.settle()

    @property
    def claims(self) -> tuple[str, ...]:
        """How this run compares the arms, and what it may therefore claim, in plain words."""
        return self._gating.claims

    def _route(self, record: Evidence) -> None:
        if record.signal in _REPORTS:
            self._instruments[_REPORTS[record.signal]].observe(record)
        self._date(record)
        root = record.signal.split(".", 1)[0]
        if record.source is Source.PROBE and record.kind is not Kind.GAUGE:
            self._book.observe(record)
        for seat in self._routes.get((record.source, record.signal), ()):
            seat.trial.observe(record)
        if record.source is Source.PROBE and root != record.signal:
            for seat in self._routes.get((record.source, root), ()):
                seat.trial.observe(record)

    def _date(self, record: Evidence) -> None:
        """Keep when an arm was last seen, and what was due of the baseline since."""
        if record.arm is None or not (record.n or record.kind is Kind.GAUGE):
            return
        key = record.source, record.signal
        newest = self._newest.get((*key, record.arm), record.end_s)
        self._newest[*key, record.arm] = max(record.end_s, newest)
        if record.arm is Arm.BASELINE:
            self._due[key] = 0.0
        elif record.share > 0 and record.start_s >= self._newest.get((*key, Arm.BASELINE), -math.inf):
            due = 1.0 if record.kind is Kind.GAUGE else record.n * (1 - record.share) / record.share
            self._due[key] = self._due.get(key, 0.0) + due

    def look(self, *, at: float, stage: str, final: bool) -> tuple[Judgement, ...]:
        """Judge everything seen so far; one judgement for each objective and source, in the objectives' order.

        Changes nothing: the same evidence gives the same judgements however often it is asked.
        """
        look = Look(at=at, stage=stage, final=final)
        if not final:
            return tuple(self._judgement(seat, look, seat.trial) for seat in self._seats)
        return tuple(self._judgement(seat, look, self._whole(seat)) for seat in self._seats)

    def _whole(self, seat: Seat) -> Trial:
        """Return the seat's trial with its last judging interval closed: no more will come."""
        if not isinstance(seat.trial, RatioTrial | FinestLatencyTrial):
            return seat.trial
        trial = deepcopy(seat.trial)
        try:
            trial.flush()
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            return _Unreadable(str(error))
        return trial

    def _judgement(self, seat: Seat, look: Look, trial: Trial) -> Judgement:
        finding = self._trusted(seat, look, self._pool.named(seat, trial.find(look)))
        if finding.status is Status.PASS and self._behind(seat, trial, look):
            reason = f"nothing was seen of stage {look.stage} yet; before it: {finding.reason}"
            finding = replace(finding, status=Status.INCONCLUSIVE, reason=reason)
        objective = seat.terms.objective
        return Judgement(
            id=objective.id,
            status=finding.status,
            requirement=self._requirement(seat),
            source=seat.source.value,
            threshold=_limit(seat.terms) if objective.measure in _STATISTICAL else None,
            unit=objective.unit,
            estimate=finding.estimate,
            interval=finding.interval,
            n=finding.n,
            reason=finding.reason,
            remedy=objective.remedy,
            severity=objective.severity.value,
            stage=look.stage,
            needed=finding.needed,
            comparator=objective.comparator,
        )

    def _requirement(self, seat: Seat) -> str:
        """Return what is required in this run: the plan's own margin is named where it differs."""
        objective, threshold = seat.terms.objective, seat.terms.threshold
        if threshold == objective.threshold:
            return objective.requirement
        return f"{objective.requirement} (plan {self._plan.name}: {threshold:g} {objective.unit})"

    def _trusted(self, seat: Seat, look: Look, finding: Finding) -> Finding:
        """Return the finding, or what is left of it when its evidence or its instrument is faulty."""
        prefixes = tuple(signal + "." for signal in seat.signals)
        for (source, signal), fault in sorted(self._telemetry.faults.items()):
            own = source is seat.source and (signal in seat.signals or signal.startswith(prefixes))
            if own or _REPORTS.get(signal) is seat.source:
                return replace(finding, status=Status.ERROR, reason=fault, needed=None)
        early = self._telemetry.ahead(seat.source, seat.signals, look.at) if finding.status is Status.PASS else 0.0
        if early:
            reason = f"a clock is wrong: evidence is dated {early:.0f} s after this look; it said: {finding.reason}"
            return replace(finding, status=Status.INCONCLUSIVE, reason=reason)
        instrument = self._instruments.get(seat.source)
        if instrument is not None and seat.terms.objective.measure is not Measure.COLLECTED:
            return self._vouched(seat, look, finding, instrument)
        return finding

    def _vouched(self, seat: Seat, look: Look, finding: Finding, instrument: Instrument) -> Finding:
        """Return what is left of a finding by what its instrument says of itself."""
        if instrument.faulty(look):
            reason = f"{instrument.name} is not to be trusted: {instrument.note}; it said: {finding.reason}"
            return replace(finding, status=Status.ERROR, reason=reason, needed=None)
        if instrument.suspect and finding.status in {Status.PASS, Status.FAIL}:
            reason = f"waits for {instrument.name}, whose newest report is bad ({instrument.note}): {finding.reason}"
            return replace(finding, status=Status.INCONCLUSIVE, reason=reason)
        if not instrument.reports and look.final and (not finding.n or finding.status is Status.PASS):
            reason = f"{finding.reason}; {instrument.name} never reported on itself"
            return replace(finding, status=Status.ERROR, reason=reason, needed=None)
        if not instrument.reports and finding.status is Status.PASS:
            reason = f"waits for {instrument.name} to report on itself: {finding.reason}"
            return replace(finding, status=Status.INCONCLUSIVE, reason=reason)
        silent = self._frozen(seat, look) if finding.status is Status.PASS else ""
        if silent:
            reason = f"{instrument.name} saw nothing of {silent}; before that: {finding.reason}"
            return replace(finding, status=Status.INCONCLUSIVE, reason=reason)
        return finding

    def _behind(self, seat: Seat, trial: Trial, look: Look) -> bool:
        """Tell whether a pass would rest on earlier stages alone.

        Of a comparison nothing is to be seen where no traffic is left to the baseline.
        """
        objective = seat.terms.objective
        if look.stage in UNJUDGED_STAGES or (objective.stages and look.stage not in objective.stages):
            return False
        served = {stage.id: min(stage.share, _WHOLE - self._plan.holdout) for stage in self._plan.stages}
        if objective.against is Against.BASELINE and served.get(look.stage, 0.0) >= _WHOLE:
            return False
        trial = trial.judged if isinstance(trial, FinestLatencyTrial) else trial
        staged = isinstance(trial, NumberTrial | RatioTrial | LatencyTrial | QualityTrial | GrowthTrial)
        return staged and not trial.stages.reached(look.stage)

    def _frozen(self, seat: Seat, look: Look) -> str:
        """Return which arm a source saw too long ago to pass on, and for how long not; "" for none.

        Old is what exceeds 15 s, ten looks, and four usual scrapes (of 15 s, divided by the time scale). Counters
        that stand still are as old as what they last counted. A comparison wants the baseline's, too, unless so
        little went there that its silence may be chance.
        """
        objective, plan = seat.terms.objective, self._plan
        if objective.measure not in _STATISTICAL or look.stage in UNJUDGED_STAGES:
            return ""
        old = max(_FROZEN_S, _FROZEN_LOOKS * plan.look_s, _FROZEN_SCRAPES_S / plan.time_scale)
        age = self._age(seat, Arm.CANDIDATE, look)
        if age > old:
            return f"the candidate for the last {age:.0f} s"
        age = self._age(seat, Arm.BASELINE, look)
        due = min((self._due.get((seat.source, signal), math.inf) for signal in seat.signals), default=0.0)
        if objective.against is Against.BASELINE and age > old and _FROZEN_DUE <= due < math.inf:
            return f"the baseline for the last {age:.0f} s"
        return ""

    def _age(self, seat: Seat, arm: Arm, look: Look) -> float:
        """Return how long ago, s, the seat's source last saw anything of an arm; 0 where it never did."""
        keys = ((seat.source, signal, arm) for signal in seat.signals)
        return look.at - max((self._newest[key] for key in keys if key in self._newest), default=look.at)


class _Unreadable:
    """A trial whose last interval cannot be read."""

    def __init__(self, fault: str) -> None:
        self._fault = fault

    def observe(self, record: Evidence) -> None:
        pass

    def settle(self) -> None:
        pass

    def find(self, look: Look) -> Finding:  # noqa: ARG002 - a trial's
        return Finding(status=Status.ERROR, reason=f"corrupt evidence: {self._fault}")


def _by_policy(objectives: Sequence[Objective], plan: StagePlan) -> tuple[Objective, ...]:
    """Return the objectives with the plan's weights, and what it only shows demoted."""
    weights = dict(plan.weights)
    return tuple(
        replace(
            objective,
            weight=weights.get(objective.id, objective.weight),
            severity=Severity.INFO if objective.id in plan.informational else objective.severity,
        )
        for objective in objectives
    )


def _seats(objectives: Sequence[Objective], plan: StagePlan, book: ProbeBook, how: Gating) -> tuple[Seat, ...]:
    margins = dict(plan.margins)
    deciding = [o for o in objectives if o.measure in _STATISTICAL and o.severity is Severity.CRITICAL]
    largest = max((objective.weight for objective in deciding), default=0.0)
    total = sum(objective.weight / largest for objective in deciding) if largest > 0 else 0.0
    seats: list[Seat] = []
    for objective in objectives:
        weight = min(1.0, objective.weight / largest / total) if total > 0 else 1.0
        if objective.weight <= 0:
            msg = f"objective {objective.id}: its weight must be positive, found {objective.weight}"
            raise ValueError(msg)
        for source in objective.sources:
            terms = Terms(
                objective=objective,
                plan=plan,
                source=source,
                threshold=margins.get(objective.id, objective.threshold),
                alpha=max(plan.alpha * weight / len(objective.sources), _LEAST_ALPHA),
                gating=how.of(objective.id, source.value),
            )
            seats.append(Seat(terms=terms, trial=_trial(terms, book), signals=_signals(objective)))
    return tuple(seats)


def _for_all(how: Gating, objectives: Sequence[Objective]) -> Gating:
    """Return `how`, with the comparisons named of which its calibration knows nothing, or saw nothing bad."""
    if how.calibration is None:
        return how
    compared = [o for o in objectives if o.against is Against.BASELINE and o.measure in _COMPARISONS]
    unmeasured: list[str] = []
    unseen: list[str] = []
    for name, source in ((objective.id, source.value) for objective in compared for source in objective.sources):
        known = how.dispersion(name, source)
        if known is None or not known.informative:
            (unmeasured if known is None else unseen).append(f"{name} ({source})")
    return replace(how, unmeasured=tuple(unmeasured), unseen=tuple(unseen))


_OF_TERMS: dict[Measure, Callable[[Terms], Trial]] = {
    Measure.GROWTH: GrowthTrial,
    Measure.SCORE: QualityTrial,
    Measure.COLLECTED: CollectedTrial,
    Measure.ASSIGNMENT: AssignmentTrial,
}


def _trial(terms: Terms, book: ProbeBook) -> Trial:
    objective = terms.objective
    match objective.measure:
        case Measure.RATIO if objective.against is Against.BASELINE:
            return RatioTrial(terms)
        case Measure.QUANTILE if objective.against is Against.BASELINE:
            return FinestLatencyTrial(terms)
        case Measure.RATIO | Measure.QUANTILE:
            return NumberTrial(terms)
        case Measure.AVAILABILITY:
            return RestartTrial() if objective.signal.split(".")[0] == "restarts" else AvailabilityTrial(terms, book)
        case Measure.ALERTS:
            return AlertsTrial(terms.plan)
        case Measure.SUITE:
            return SuiteTrial()
        case Measure.GROWTH | Measure.SCORE | Measure.COLLECTED | Measure.ASSIGNMENT as measure:
            return _OF_TERMS[measure](terms)


def _signals(objective: Objective) -> tuple[str, ...]:
    if objective.measure is Measure.SUITE:
        return (f"suite.{objective.id}",)
    if objective.measure is Measure.QUANTILE and objective.against is Against.BASELINE:
        return objective.signal, f"{objective.signal}.fine"
    return (objective.signal,)


def _limit(terms: Terms) -> float:
    """Return what the estimate is held against: a margin downwards where more is better."""
    downwards = terms.objective.against is Against.BASELINE and terms.objective.comparator in {">", ">="}
    return -terms.threshold if downwards else terms.threshold
