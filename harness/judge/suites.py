"""Judgements from the cases of the conformance suites."""

from collections.abc import Sequence

from harness.model.evidence import Arm, Evidence, Source
from harness.model.judgement import Judgement
from harness.model.status import Status

_PREFIX = "suite."


def judge_suites(records: Sequence[Evidence]) -> tuple[Judgement, ...]:
    """Return one judgement for each id that suite evidence bears.

    A case that is bad on the candidate and good on the baseline is the release's `fail`; bad on the baseline
    or on the stack it says nothing about the release: `error`. `n` counts the cases.
    """
    by_id: dict[str, list[Evidence]] = {}
    for record in records:
        if record.source is Source.SUITE and record.signal.startswith(_PREFIX):
            by_id.setdefault(record.signal.removeprefix(_PREFIX), []).append(record)
    return tuple(_judge(name, found) for name, found in sorted(by_id.items()))


def _judge(name: str, records: Sequence[Evidence]) -> Judgement:
    bad = [record for record in records if record.bad]
    ours = [record for record in bad if record.arm is not Arm.CANDIDATE]
    status = Status.PASS if not bad else Status.ERROR if ours else Status.FAIL
    first = (ours or bad or records)[0]
    reason = (
        f"all {len(records)} cases hold" if not bad else f"{len(bad)} of {len(records)} cases do not hold: {first.note}"
    )
    return Judgement(
        id=name,
        status=status,
        requirement="the conformance cases that bear this id hold",
        source=Source.SUITE,
        n=sum(record.n for record in records),
        reason=reason,
        remedy="" if not bad else "read the named case and the service's log under logs/",
        stage="smoke",
    )
