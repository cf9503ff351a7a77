"""Laws of judging: same evidence, same judgements; nothing bad makes a verdict better."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judge_streams import GOOD, World, events, objective_of, researchflow, verdict_on

from harness.judge import Judge
from harness.model.codec import decode, encode
from harness.model.evidence import Arm, Evidence
from harness.model.objective import Against, Measure
from harness.model.status import Status, merge

pytestmark = pytest.mark.selftest

STATUSES = st.sampled_from(list(Status))
RANK = {Status.PASS: 0, Status.INCONCLUSIVE: 1, Status.ERROR: 2, Status.FAIL: 3}


@given(st.lists(STATUSES), st.lists(STATUSES), st.lists(STATUSES))
def test_merging_is_associative_and_commutative(one: list[Status], two: list[Status], three: list[Status]):
    """Grouping and order do not matter, but for what is empty: that is an error."""
    assert merge([*one, *two]) is merge([*two, *one])
    parts = [part for part in (one, two, three) if set(part) - {Status.NOT_APPLICABLE}]
    assert merge(merge(part) for part in parts) is merge([*one, *two, *three])


@given(st.lists(STATUSES), st.sampled_from([Status.FAIL, Status.ERROR, Status.INCONCLUSIVE]))
def test_adding_something_bad_never_improves_a_merged_status(statuses: list[Status], worse: Status):
    """Unless there was nothing: an empty set is an error already."""
    if set(statuses) - {Status.NOT_APPLICABLE}:
        assert RANK[merge([*statuses, worse])] >= RANK[merge(statuses)]


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 6)), min_size=1, max_size=25), st.data())
def test_adding_failures_to_the_candidate_never_turns_a_judgement_into_a_pass(
    rows: list[tuple[int, int]], data: st.DataObject
):
    """One more bad event in an interval, against a number and against the baseline."""
    index = data.draw(st.integers(0, len(rows) - 1))
    objectives = (
        objective_of(Measure.RATIO, "q.error", 5, "%"),
        objective_of(Measure.RATIO, "q.error", 2, "points", against=Against.BASELINE),
    )

    def records(extra: int) -> Iterator[Evidence]:
        for at, (n, bad) in enumerate(rows):
            more = extra if at == index else 0
            yield events("q.error", Arm.BASELINE, float(at), n)
            yield events("q.error", Arm.CANDIDATE, float(at), n, min(n, bad + more))

    number = objectives[0]
    before, after = (verdict_on(number, list(records(extra))) for extra in (0, 1))
    assert RANK[after.status] >= RANK[before.status]
    for objective in objectives:
        before, after = (verdict_on(objective, list(records(extra))) for extra in (0, 10))
        assert not (before.status is Status.FAIL and after.status is Status.PASS)
        assert not (before.status is Status.INCONCLUSIVE and after.status is Status.PASS)


def _stream(seed: int) -> list[list[Evidence]]:
    world = World(GOOD, 40.0, seed)
    batches = [world.second("warmup", 0.0) for _ in range(6)]
    return batches + [world.second("50", 0.5) for _ in range(12)]


def test_the_same_evidence_gives_the_same_judgements_through_files_and_however_often_one_looks():
    """Once looked at after every batch, once replayed from JSON lines and looked at once."""
    objectives, plans = researchflow()
    live, replay = Judge(objectives, plans["quick"]), Judge(objectives, plans["quick"])
    for batch in _stream(3):
        live.observe(batch)
        live.look(at=1.0, stage="50", final=False)
        replay.observe([decode(encode(record)) for record in batch])
    looks = [judge.look(at=1_000_018.0, stage="50", final=True) for judge in (live, replay, live)]
    assert looks[0] == looks[1] == looks[2]


def test_every_objective_of_the_shipped_system_is_judged_from_each_of_its_sources():
    """One judgement each, in the file's order, none a pass on no evidence."""
    objectives, plans = researchflow()
    for plan in plans.values():
        judgements = Judge(objectives, plan).look(at=0.0, stage="10", final=True)
        assert [(j.id, j.source) for j in judgements] == [(o.id, s.value) for o in objectives for s in o.sources]
        assert not [j for j in judgements if j.status is Status.PASS]
