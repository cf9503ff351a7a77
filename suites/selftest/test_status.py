"""Statuses, evidence and exit codes: the contract's laws."""

import json
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.codec import decode, encode
from harness.model.evidence import Arm, Evidence, Kind, Source
from harness.model.status import Cause, Decision, ExitCode, Status, exit_code, merge

pytestmark = pytest.mark.selftest

ORDER = [Status.PASS, Status.INCONCLUSIVE, Status.ERROR, Status.FAIL]


@given(st.lists(st.sampled_from(list(Status)), max_size=6), st.lists(st.sampled_from(list(Status)), max_size=6))
def test_merging_parts_is_merging_the_whole(left: list[Status], right: list[Status]) -> None:
    """Associative and commutative, whatever is not applicable."""
    known = [s for s in (*left, *right) if s is not Status.NOT_APPLICABLE]
    halves = [merge(side) for side in (left, right) if any(s is not Status.NOT_APPLICABLE for s in side)]
    assert merge(known) == merge([*right, *left]) == merge(halves)


@given(st.lists(st.sampled_from(ORDER), min_size=1, max_size=6), st.sampled_from(ORDER))
def test_one_more_status_never_improves_a_merge(statuses: list[Status], more: Status) -> None:
    """Adding anything can only make it worse or leave it."""
    assert ORDER.index(merge([*statuses, more])) >= ORDER.index(merge(statuses))


def test_nothing_judged_is_an_error() -> None:
    """An empty set, or only not-applicable ones, never passes."""
    assert merge([]) is Status.ERROR
    assert merge([Status.NOT_APPLICABLE]) is Status.ERROR


def test_exit_codes_follow_the_contract() -> None:
    """0 promoted, 1 the release, 3 want of evidence or an operator, 4 the environment."""
    codes = {(d, c): exit_code(d, c) for d in Decision for c in Cause}
    assert all(code is ExitCode.PROMOTED for (d, _), code in codes.items() if d is Decision.PROMOTE)
    for decision in (Decision.HOLD, Decision.ROLLBACK):
        assert codes[decision, Cause.RELEASE] is ExitCode.RELEASE
        assert codes[decision, Cause.ENVIRONMENT] is ExitCode.ENVIRONMENT
        assert codes[decision, Cause.EVIDENCE] is codes[decision, Cause.OPERATOR] is ExitCode.NO_EVIDENCE


records = st.builds(
    lambda n, bad, arm, at, note: Evidence(
        kind=Kind.EVENTS,
        source=Source.CLIENT,
        signal="x",
        start_s=at,
        end_s=at + 1,
        arm=arm,
        n=n + bad,
        bad=bad,
        note=note,
    ),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.sampled_from([None, *Arm]),
    st.floats(0, 2e9),
    st.text(max_size=20),
)


@given(records)
def test_evidence_survives_its_line(record: Evidence) -> None:
    """Encode, decode: the same record; encode again: the same bytes."""
    line = encode(record)
    assert decode(line) == record
    assert encode(decode(line)) == line


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "nonsense",
        '{"version":2}',
        '{"kind":"events","source":"client","signal":"x","start_s":0,"end_s":1,"n":1,"bad":2,"version":1}',
        '{"kind":"events","source":"client","signal":"x","start_s":2,"end_s":1,"version":1}',
        '{"kind":"events","source":"client","signal":"x","start_s":NaN,"end_s":1,"version":1}',
        '{"kind":"events","source":"client","signal":"x","start_s":0,"end_s":1,"surprise":1,"version":1}',
        '{"kind":"histogram","source":"client","signal":"x","start_s":0,"end_s":1,"n":3,"bounds":[1],"counts":[1,1],"version":1}',
        '{"kind":"histogram","source":"client","signal":"x","start_s":0,"end_s":1,"n":2,"bounds":[2,1],"counts":[1,1,0],"version":1}',
        '{"kind":"gauge","source":"client","signal":"x","start_s":0,"end_s":1,"version":1}',
        '{"kind":"events","version":1}',
    ],
)
def test_a_line_that_contradicts_itself_is_refused(line: str) -> None:
    """Each malformed record is a ValueError, never evidence."""
    with pytest.raises(ValueError):  # noqa: PT011 - every malformed line is this one type
        decode(line)


def test_a_count_between_bounds_is_never_guessed() -> None:
    """A threshold that is no bucket bound cannot be judged exactly, and is refused."""
    record = Evidence(
        kind=Kind.HISTOGRAM,
        source=Source.CLIENT,
        signal="x",
        start_s=0,
        end_s=1,
        n=3,
        bounds=(1.0, 2.0),
        counts=(1, 1, 1),
    )
    assert [record.slower_than(t) for t in (1.0, 2.0)] == [2, 1]
    with pytest.raises(ValueError, match="no bucket bound"):
        record.slower_than(1.5)


def test_merge_does_not_depend_on_order() -> None:
    """Every order of all statuses merges to fail."""
    assert {merge(p) for p in permutations(Status)} == {Status.FAIL}
    assert json.loads(json.dumps(Status.FAIL)) == "fail"
