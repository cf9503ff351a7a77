"""Bad input through the whole judge: never an exception, never a pass that rests on it, always a reason."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from judge_streams import objective_of, plan_of

from harness.judge import Judge
from harness.model.codec import decode
from harness.model.evidence import Arm, Evidence, Kind, Source, Unit
from harness.model.judgement import Judgement
from harness.model.objective import Against, Measure, Objective
from harness.model.plan import RollbackOn, Stage, StagePlan
from harness.model.status import Status

pytestmark = pytest.mark.selftest

SECONDS, N = 48, 400
BEGAN = 1_000_000.0
BOUNDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
SHARES = np.array([0.1, 0.4, 0.3, 0.15, 0.04, 0.008, 0.001, 0.001])
TENTHS = tuple(k / 10 for k in range(1, 11))
BOTH = (Source.CLIENT, Source.PROMETHEUS)
PROMETHEUS, PROBE = (Source.PROMETHEUS,), (Source.PROBE,)
BASELINE = Against.BASELINE


def _objectives() -> tuple[Objective, ...]:
    made = (
        ("ratio", Measure.RATIO, "q.error", 5, "%", {"sources": BOTH}),
        ("excess", Measure.RATIO, "q.error", 3, "points", {"sources": BOTH, "against": BASELINE}),
        ("quantile", Measure.QUANTILE, "q.latency", 500, "ms", {"sources": BOTH, "quantile": 0.95}),
        ("slower", Measure.QUANTILE, "q.latency", 160, "%", {"sources": BOTH, "quantile": 0.9, "against": BASELINE}),
        ("growth", Measure.GROWTH, "memory", 50, "MB/min", {"sources": PROMETHEUS}),
        ("score", Measure.SCORE, "answer.quality", 50, "%", {"comparator": ">="}),
        ("worse", Measure.SCORE, "answer.quality", 30, "points", {"comparator": ">=", "against": BASELINE}),
        ("health", Measure.AVAILABILITY, "health", 0, "", {"sources": PROBE}),
        ("restarts", Measure.AVAILABILITY, "restarts", 0, "", {"sources": PROBE}),
        ("collected", Measure.COLLECTED, "metrics", 0, "", {"sources": PROMETHEUS}),
        ("router", Measure.ASSIGNMENT, "assignment", 0, "", {}),
        ("case", Measure.SUITE, "", 0, "", {"sources": (Source.SUITE,)}),
    )
    return tuple(
        objective_of(measure, signal, threshold, unit, **{"id": name, **changes})
        for name, measure, signal, threshold, unit, changes in made
    )


OBJECTIVES = _objectives()


def _plan(mode: RollbackOn = RollbackOn.EXCESS) -> StagePlan:
    stages = (Stage(id="50", share=50.0, min_bake_s=5.0, max_bake_s=float(SECONDS)),)
    return plan_of(stages=stages, rollback_on=mode, interval_s=1.0)


def second(at: int) -> Iterator[Evidence]:
    """Yield what everybody says of one second of a good candidate, the same in every run."""
    rng = np.random.default_rng(at)
    start = BEGAN + at
    common: dict[str, Any] = {"start_s": start, "end_s": start + 1.0, "stage": "50", "share": 0.5}

    def events(source: Source, signal: str, arm: Arm | None, n: int = 1, bad: int = 0) -> Evidence:
        return Evidence(kind=Kind.EVENTS, source=source, signal=signal, arm=arm, n=n, bad=bad, **common)

    def gauge(source: Source, signal: str, arm: Arm, value: float) -> Evidence:
        return Evidence(kind=Kind.GAUGE, source=source, signal=signal, arm=arm, value=value, **common)

    def histogram(source: Source, signal: str, arm: Arm, bounds: tuple[float, ...], counts: np.ndarray) -> Evidence:
        whole = tuple(int(c) for c in counts)
        return Evidence(
            kind=Kind.HISTOGRAM, source=source, signal=signal, arm=arm, n=sum(whole), bounds=bounds, counts=whole,
            **common,
        )  # fmt: skip

    yield events(Source.PROBE, "load", None)
    yield events(Source.PROMETHEUS, "metrics", None)
    units = int(rng.poisson(N / 2))
    yield Evidence(
        kind=Kind.ASSIGNMENT, source=Source.CLIENT, signal="assignment", unit=Unit.SESSION, n=units,
        bad=int(rng.binomial(units, 0.5)), **common,
    )  # fmt: skip
    for arm in Arm:
        for source in BOTH:
            yield events(source, "q.error", arm, N, int(rng.binomial(N, 0.005)))
            yield histogram(source, "q.latency", arm, BOUNDS, rng.multinomial(N, SHARES / SHARES.sum()))
        yield gauge(Source.PROMETHEUS, "memory", arm, 2e8 + 1e4 * float(rng.standard_normal()))
        scores = np.zeros(11)
        scores[7:10] = rng.multinomial(60, [0.2, 0.5, 0.3])
        yield histogram(Source.CLIENT, "answer.quality", arm, TENTHS, scores)
        yield gauge(Source.PROBE, "restarts", arm, 0.0)
        yield events(Source.PROBE, "health.gateway", arm)
        yield events(Source.SUITE, "suite.case", arm)


@cache
def _fed(mode: RollbackOn, seconds: int) -> Judge:
    judge = Judge(OBJECTIVES, _plan(mode))
    for at in range(seconds):
        judge.observe(list(second(at)))
    return judge


def fed(mode: RollbackOn = RollbackOn.EXCESS, seconds: int = SECONDS) -> Judge:
    """Return a judge of its own that has seen so many good seconds."""
    return copy.deepcopy(_fed(mode, seconds))


def last(judge: Judge, at: float = BEGAN + SECONDS) -> dict[tuple[str, str], Judgement]:
    """Return the judgements of the last look by (id, source)."""
    found = judge.look(at=at, stage="50", final=True)
    assert all(judgement.reason for judgement in found)
    return {(judgement.id, judgement.source): judgement for judgement in found}


def bent(record: Evidence, **changes: object) -> Evidence:
    """Return a record with changes that its own checks would refuse, as a careless reader of files could."""
    made = object.__new__(Evidence)
    for field in fields(Evidence):
        object.__setattr__(made, field.name, changes.get(field.name, getattr(record, field.name)))
    return made


@pytest.mark.parametrize("mode", list(RollbackOn))
def test_the_sound_stream_passes_everything(mode: RollbackOn):
    """Or the tests below would prove nothing."""
    assert {key: j.status for key, j in last(fed(mode)).items() if j.status is not Status.PASS} == {}


NUMBERS = st.one_of(
    st.sampled_from([math.nan, math.inf, -math.inf, -1.0, -1, 1e300, 10**400, 2**63, None, "1", "", True, [], 0.5]),
    st.floats(), st.integers(-3, 3),
)  # fmt: skip
TEXTS = st.sampled_from(["", "load", "metrics", "q.error", "health", "health.x", "50", None, 5, [], b"x", "x" * 3000])


def _buckets(inside: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inside, max_size=9).map(tuple), st.sampled_from([None, 3, [1], "ab", (), BOUNDS, BOUNDS[::-1]])
    )


CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "kind": st.sampled_from([*Kind, "events", None, 1]),
    "source": st.sampled_from([*Source, "client", None, 1, []]),
    "signal": TEXTS,
    "start_s": st.one_of(NUMBERS, st.sampled_from([BEGAN - 100, BEGAN + 3.5, BEGAN + 900])),
    "end_s": st.one_of(NUMBERS, st.sampled_from([BEGAN - 100, BEGAN + 3.5, BEGAN + 900])),
    "arm": st.sampled_from([*Arm, None, "candidate", 3]),
    "unit": st.sampled_from([*Unit, "request", None]),
    "stage": TEXTS,
    "share": NUMBERS,
    "n": NUMBERS,
    "bad": NUMBERS,
    "bounds": _buckets(NUMBERS),
    "counts": _buckets(NUMBERS),
    "value": NUMBERS,
    "note": TEXTS,
    "version": st.sampled_from([1, 2, None, "1", True]),
}
SAMPLE = tuple(second(0))


@st.composite
def bent_records(draw: st.DrawFn) -> Evidence:
    """Draw a record of the stream with up to five fields replaced by anything."""
    record = draw(st.sampled_from(SAMPLE))
    names = draw(st.lists(st.sampled_from(sorted(CHANGES)), max_size=5, unique=True))
    return bent(record, **{name: draw(CHANGES[name]) for name in names})


@settings(max_examples=250, suppress_health_check=list(HealthCheck))
@given(st.lists(bent_records(), max_size=12), st.sampled_from(list(RollbackOn)), st.booleans())
def test_nothing_that_a_record_may_hold_is_an_exception(records: list[Evidence], mode: RollbackOn, warm: bool):  # noqa: FBT001
    """Any fields at all, alone and after a sound stream; a look after each record and a good second after all."""
    judge = fed(mode, 20) if warm else fed(mode, 0)
    for record in records:
        judge.observe([record])
        judge.look(at=BEGAN + 20, stage="50", final=False)
    judge.observe(list(second(30)))
    judgements = judge.look(at=BEGAN + 31, stage="50", final=True)
    assert [(j.id, j.source) for j in judgements] == [(o.id, s.value) for o in OBJECTIVES for s in o.sources]
    assert all(isinstance(j.status, Status) and j.reason for j in judgements)
    for judgement in judgements:
        numbers = [judgement.estimate, *(judgement.interval or ())]
        assert all(number is None or math.isfinite(number) for number in numbers), judgement


def _bounds(record: Evidence, *changed: object) -> Evidence:
    return bent(record, bounds=(*record.bounds[: -len(changed)], *changed))


def _is(*kinds: Kind) -> Callable[[Evidence], bool]:
    return lambda record: record.kind in kinds


_ANY, _BUCKETS, _GAUGE = _is(*Kind), _is(Kind.HISTOGRAM), _is(Kind.GAUGE)
_COUNTED = _is(Kind.EVENTS, Kind.ASSIGNMENT)
_TILED = _is(Kind.EVENTS, Kind.ASSIGNMENT, Kind.HISTOGRAM)
VOID: dict[str, tuple[Callable[[Evidence], bool], Callable[[Evidence], Evidence]]] = {
    "NaN start": (_ANY, lambda r: bent(r, start_s=math.nan)),
    "infinite end": (_ANY, lambda r: bent(r, end_s=math.inf)),
    "NaN share": (_ANY, lambda r: bent(r, share=math.nan)),
    "share above 1": (_ANY, lambda r: bent(r, share=1.5)),
    "share below 0": (_ANY, lambda r: bent(r, share=-0.1)),
    "time beyond belief": (_ANY, lambda r: bent(r, start_s=1e12, end_s=1e12)),
    "ends before it starts": (_ANY, lambda r: bent(r, end_s=r.start_s - 1)),
    "text for a time": (_ANY, lambda r: bent(r, start_s="0", end_s="1")),
    "nothing for a time": (_ANY, lambda r: bent(r, end_s=None)),
    "negative units": (_ANY, lambda r: bent(r, n=-1, bad=-1)),
    "negative violations": (_ANY, lambda r: bent(r, bad=-1)),
    "units beyond belief": (_COUNTED, lambda r: bent(r, n=10**400)),
    "half a unit": (_COUNTED, lambda r: bent(r, n=r.n + 0.5)),
    "a truth for a count": (_COUNTED, lambda r: bent(r, bad=False)),
    "more violations than units": (_COUNTED, lambda r: bent(r, bad=r.n + 1)),
    "buckets where there are none": (_COUNTED, lambda r: bent(r, bounds=(1.0,), counts=(r.n, 0))),
    "negative bucket": (_BUCKETS, lambda r: bent(r, counts=(r.counts[0] + 1 + r.counts[1], -1, *r.counts[2:]))),
    "buckets that do not add up": (_BUCKETS, lambda r: bent(r, n=r.n + 1)),
    "a bucket too few": (_BUCKETS, lambda r: bent(r, counts=(r.counts[0] + r.counts[1], *r.counts[2:]))),
    "no bucket at all": (_BUCKETS, lambda r: bent(r, bounds=(), counts=(r.n,))),
    "unsorted bounds": (_BUCKETS, lambda r: bent(r, bounds=(r.bounds[1], r.bounds[0], *r.bounds[2:]))),
    "the same bound twice": (_BUCKETS, lambda r: _bounds(r, r.bounds[-3], r.bounds[-1])),
    "NaN bound": (_BUCKETS, lambda r: _bounds(r, math.nan)),
    "infinite bound": (_BUCKETS, lambda r: _bounds(r, math.inf)),
    "a bound of 0": (_BUCKETS, lambda r: bent(r, bounds=(0.0, *r.bounds[1:]))),
    "text for a bound": (_BUCKETS, lambda r: _bounds(r, "1")),
    "a list of buckets": (_BUCKETS, lambda r: bent(r, counts=None)),
    "other bounds": (_BUCKETS, lambda r: bent(r, bounds=tuple(b * 0.99 for b in r.bounds))),
    "NaN value": (_GAUGE, lambda r: bent(r, value=math.nan)),
    "infinite value": (_GAUGE, lambda r: bent(r, value=-math.inf)),
    "no value": (_GAUGE, lambda r: bent(r, value=None)),
    "negative value": (_GAUGE, lambda r: bent(r, value=-1.0)),
    "value beyond belief": (_GAUGE, lambda r: bent(r, value=1e300)),
    "a kind that is unknown": (_ANY, lambda r: bent(r, kind="summary")),
    "an arm that is unknown": (_ANY, lambda r: bent(r, arm="canary")),
    "a source as text": (_ANY, lambda r: bent(r, source=r.source.value)),
    "a later version": (_ANY, lambda r: bent(r, version=2)),
    "a stage that is no text": (_ANY, lambda r: bent(r, stage=50)),
    "the clock went back": (_TILED, lambda r: bent(r, start_s=r.start_s - 0.3, end_s=r.end_s - 0.3)),
    "another kind, a gauge": (_TILED, lambda r: bent(r, kind=Kind.GAUGE, value=1.0, n=0, bad=0, bounds=(), counts=())),
    "another kind, events": (_is(Kind.HISTOGRAM, Kind.GAUGE, Kind.ASSIGNMENT),
                             lambda r: bent(r, kind=Kind.EVENTS, value=None, n=9, bad=0, bounds=(), counts=())),
}  # fmt: skip
_SERIES = sorted({(r.source, r.signal, r.arm) for r in SAMPLE}, key=str)


def _resting_on(source: Source, signal: str) -> set[tuple[str, str]]:
    """Return the judgements (id, source) that read a series, or whose instrument it is."""
    instrument = {"load": Source.CLIENT, "metrics": Source.PROMETHEUS}.get(signal)
    reads = {
        (o.id, s.value)
        for o in OBJECTIVES
        for s in o.sources
        if s is source and (signal == o.signal or signal.startswith(o.signal + ".") or signal == f"suite.{o.id}")
        and (o.signal or o.measure is Measure.SUITE)
    }  # fmt: skip
    vouched = {(o.id, s.value) for o in OBJECTIVES for s in o.sources if s is instrument}
    return reads | vouched


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("name", VOID)
def test_one_void_record_takes_the_pass_from_what_rests_on_it_and_from_nothing_else(name: str, late: bool):  # noqa: FBT001
    """Into each series that it fits, at the end and in the middle of a stream that passes otherwise."""
    fits, spoil = VOID[name]
    records = list(second(SECONDS if late else 20))
    for source, signal, arm in _SERIES:
        record = next(r for r in records if (r.source, r.signal, r.arm) == (source, signal, arm))
        overlaps = name == "the clock went back"
        if not fits(record) or (overlaps and source not in BOTH):
            continue
        judge = fed(seconds=SECONDS if late else 20)
        judge.observe([*([record] if overlaps else []), spoil(record)])
        if not late:
            judge.observe(list(second(21)))
        found = last(judge, BEGAN + (SECONDS + 1 if late else 22))
        wanted = _resting_on(source, signal)
        assert wanted
        for key in wanted:
            assert found[key].status is Status.ERROR, (name, signal, found[key])
            assert found[key].reason
        if late:
            others = {key for key, judgement in found.items() if judgement.status is not Status.PASS}
            assert others == wanted, (name, signal)


@pytest.mark.parametrize("series", [key for key in _SERIES if key[0] is not Source.SUITE])
def test_a_record_that_comes_twice_is_an_error_in_whatever_order(series: tuple[Source, str, Arm | None]):
    """The same interval again, at once and much later, with the same numbers and with others."""
    source, signal, arm = series
    for at, changes in ((SECONDS - 1, {}), (3, {}), (3, {"note": "other"})):
        record = next(r for r in second(at) if (r.source, r.signal, r.arm) == series)
        judge = fed()
        judge.observe([replace(record, **changes)])
        found = last(judge)
        for key in _resting_on(source, signal):
            assert found[key].status is Status.ERROR
            assert "came twice" in found[key].reason
    assert arm is None or arm in Arm


@pytest.mark.parametrize("arm", list(Arm))
@pytest.mark.parametrize("source", BOTH)
def test_an_arm_that_is_silent_passes_no_comparison(arm: Arm, source: Source):
    """From the beginning; the other source still speaks for itself."""
    judge = Judge(OBJECTIVES, _plan())
    for at in range(SECONDS):
        judge.observe([r for r in second(at) if r.source is not source or r.arm is not arm])
    found = last(judge)
    compared = {"excess", "slower", "worse", "growth"} if source is Source.CLIENT else {"excess", "slower", "growth"}
    wanted = {key for key in found if key[0] in compared and key[1] == source.value}
    if arm is Arm.CANDIDATE:
        wanted |= {key for key in found if key[0] in {"ratio", "quantile", "score"} and key[1] == source.value}
    assert {key for key, judgement in found.items() if judgement.status is not Status.PASS} == wanted
    assert {found[key].status for key in wanted} <= {Status.INCONCLUSIVE, Status.ERROR}


def test_empty_intervals_pass_nothing_and_break_nothing():
    """Nobody counted anything, all along."""
    judge = Judge(OBJECTIVES, _plan())
    for at in range(SECONDS):
        judge.observe([replace(r, n=0, bad=0, counts=(0,) * len(r.counts)) for r in second(at)])
    found = last(judge)
    gauges = {("growth", "prometheus"), ("restarts", "probe")}
    assert {key for key, judgement in found.items() if judgement.status is Status.PASS} <= gauges


@pytest.mark.parametrize(
    "source, signal, ids",
    [(Source.PROMETHEUS, "q.error", ("ratio", "excess")), (Source.PROBE, "health.gateway", ("health",)),
     (Source.PROMETHEUS, "metrics", ("collected",))],
)  # fmt: skip
def test_a_series_dated_ahead_cannot_hide_that_it_stopped(source: Source, signal: str, ids: tuple[str, ...]):
    """One record of each arm from ten minutes ahead, then nothing for a minute."""
    judge = fed()
    judge.observe([r for r in second(SECONDS + 600) if (r.source, r.signal) == (source, signal)])
    found = last(judge, BEGAN + SECONDS + 60)
    for name in ids:
        assert found[name, source.value].status is Status.INCONCLUSIVE
        assert "a clock is wrong" in found[name, source.value].reason


@settings(max_examples=300)
@given(
    st.one_of(st.text(max_size=40), st.dictionaries(st.sampled_from(sorted(CHANGES)), NUMBERS, max_size=9).map(repr))
)
def test_a_line_of_a_file_is_evidence_or_a_value_error(line: str):
    """Whatever stands there."""
    try:
        assert isinstance(decode(line), Evidence)
    except ValueError:
        return


@pytest.mark.parametrize(
    "fragment",
    ['"counts":5', '"bounds":null', '"n":"7"', '"n":null', '"arm":[]', '"kind":{}', '"signal":7', '"start_s":1e999',
     '"end_s":[1]', '"bad":1.5', '"share":"x"', '"counts":{"a":1}'],
)  # fmt: skip
def test_a_malformed_line_of_a_file_is_refused_or_judged_corrupt(fragment: str):
    """By the codec with a ValueError, or by the judge with an error on what rests on it."""
    line = (
        '{"kind":"events","source":"client","signal":"q.error","start_s":1000048.0,"end_s":1000049.0,"arm":"candidate"'
    )
    line += f',"stage":"50","share":0.5,"n":400,"bad":1,"version":1,{fragment}}}'
    try:
        record = decode(line)
    except ValueError:
        return
    judge = fed()
    judge.observe([record])
    found = last(judge, BEGAN + SECONDS + 1)
    assert fragment == '"signal":7' or found["ratio", "client"].status is Status.ERROR
