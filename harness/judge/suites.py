"""Judgements from the cases of the conformance suites."""

from collections.abc import Sequence

from harness.judge.finding import Finding, Look
from harness.judge.suite import SuiteTrial
from harness.model.evidence import Evidence, Source
from harness.model.judgement import Judgement
from harness.model.status import Status

_PREFIX = "suite."
_STAGE = "smoke"


def judge_suites(records: Sequence[Evidence]) -> tuple[Judgement, ...]:
    """Return one judgement for each id that suite evidence bears, by the rules of `SuiteTrial`.

    A case that is bad on the candidate while the baseline's ran and hold is the release's `fail`; bad on the
    baseline or on the stack, without a baseline's twin, or not carried out, it says nothing about the release:
    `error`. Nothing but skips is `not_applicable`. `n` counts the cases that ran.
    """
    by_id: dict[str, list[Evidence]] = {}
    for record in records:
        # A file need not keep its types: `str` is for what is no text.
        if record.source is Source.SUITE and str(record.signal).startswith(_PREFIX):
            by_id.setdefault(record.signal.removeprefix(_PREFIX), []).append(record)
    return tuple(_judge(name, found) for name, found in sorted(by_id.items()))


def _judge(name: str, records: Sequence[Evidence]) -> Judgement:
    finding = _find(records)
    sound = finding.status in {Status.PASS, Status.NOT_APPLICABLE}
    return Judgement(
        id=name,
        status=finding.status,
        requirement="the conformance cases that bear this id hold",
        source=Source.SUITE,
        n=finding.n,
        reason=finding.reason,
        remedy="" if sound else "read the named case and the service's log under logs/",
        stage=_STAGE,
    )


def _find(records: Sequence[Evidence]) -> Finding:
    trial = SuiteTrial()
    try:
        for record in records:
            trial.observe(record)
    except (AttributeError, TypeError, ValueError) as error:
        return Finding(status=Status.ERROR, reason=f"corrupt evidence: {error}")
    return trial.find(Look(at=max(record.end_s for record in records), stage=_STAGE, final=True))
