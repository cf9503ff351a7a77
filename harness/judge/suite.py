"""An objective that a test case of suites/ decides."""

from harness.judge.finding import Finding, Look, missing
from harness.model.evidence import Arm, Evidence, Kind
from harness.model.status import Status


class SuiteTrial:
    """Cases that bear the objective's id: bad on the candidate alone fails, bad elsewhere is an error.

    A record with n=0 is a skipped case; nothing but skips is not applicable, with the skip's reason.
    """

    def __init__(self) -> None:
        """Start without a case."""
        self._cases: dict[Arm | None, tuple[int, int]] = {}
        self._notes: dict[Arm | None, str] = {}
        self._skipped = ""

    def observe(self, record: Evidence) -> None:
        """Count the cases of one record."""
        if record.kind is not Kind.EVENTS:
            msg = f"{record.signal}: a suite's result is an events record, found {record.kind}"
            raise ValueError(msg)
        n, bad = self._cases.get(record.arm, (0, 0))
        self._cases[record.arm] = (n + record.n, bad + record.bad)
        if record.bad and record.arm not in self._notes:
            self._notes[record.arm] = record.note
        if not record.n:
            self._skipped = self._skipped or record.note or "skipped"

    def settle(self) -> None:
        """Nothing waits for the end of a batch."""

    def find(self, look: Look) -> Finding:
        """Judge the cases that ran."""
        n = sum(count for count, _ in self._cases.values())
        if not self._cases:
            return missing(look, "no test case reported", fatal=True)
        if not n:
            return Finding(status=Status.NOT_APPLICABLE, reason=self._skipped)
        bad = {arm: count for arm, (_, count) in self._cases.items() if count}
        total = sum(bad.values())
        if not bad:
            status, reason = Status.PASS, f"{n} cases hold"
        elif set(bad) == {Arm.CANDIDATE}:
            status, reason = Status.FAIL, f"{total} of {n} cases break on the candidate alone: "
            reason += self._notes[Arm.CANDIDATE]
        else:
            arm = next(arm for arm in (None, Arm.BASELINE) if arm in bad)
            status, reason = Status.ERROR, f"{total} of {n} cases break, on the {arm or 'stack'} too: "
            reason += self._notes[arm]
        return Finding(status=status, reason=reason, estimate=100 * total / n, n=n)
