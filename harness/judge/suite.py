"""An objective that a test case of suites/ decides."""

from harness.judge.finding import Finding, Look, missing
from harness.model.evidence import Arm, Evidence, Kind
from harness.model.status import Status

BROKEN = "error: "  # begins the note of a case that could not be carried out: the harness's fault


class SuiteTrial:
    """Cases that bear the objective's id: bad on the candidate alone fails, bad elsewhere is an error.

    The release is blamed only where the baseline's cases of the id ran and hold; without them, and where a case
    could not be carried out (a note that begins with `BROKEN`), it is an error. A record with n=0 is a skipped
    case; nothing but skips is not applicable, with the skip's reason. The candidate's cases all skipped while
    the baseline's ran prove nothing: an error.
    """

    def __init__(self) -> None:
        """Start without a case."""
        self._cases: dict[Arm | None, tuple[int, int]] = {}
        self._notes: dict[Arm | None, str] = {}
        self._skipped = ""
        self._broken = ""

    def observe(self, record: Evidence) -> None:
        """Count the cases of one record."""
        if record.kind is not Kind.EVENTS:
            msg = f"{record.signal}: a suite's result is an events record, found {record.kind}"
            raise ValueError(msg)
        n, bad = self._cases.get(record.arm, (0, 0))
        self._cases[record.arm] = (n + record.n, bad + record.bad)
        if record.bad and record.arm not in self._notes:
            self._notes[record.arm] = record.note
        if record.bad and record.note.startswith(BROKEN):
            self._broken = self._broken or record.note
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
        total = sum(bad for _, bad in self._cases.values())
        status, reason = self._decide(n, total)
        return Finding(status=status, reason=reason, estimate=100 * total / n, n=n)

    def _decide(self, n: int, total: int) -> tuple[Status, str]:
        """Return the status and reason of `n` cases that ran, `total` of them bad."""
        ran = {arm for arm, (count, _) in self._cases.items() if count}
        bad = {arm for arm, (_, count) in self._cases.items() if count}
        if not bad and Arm.BASELINE in ran and Arm.CANDIDATE in self._cases and Arm.CANDIDATE not in ran:
            return Status.ERROR, f"the candidate's cases were skipped, the baseline's were not: {self._skipped}"
        if not bad:
            return Status.PASS, f"{n} cases hold"
        if self._broken:
            return Status.ERROR, f"{total} of {n} cases could not be carried out or do not hold: {self._broken}"
        if bad != {Arm.CANDIDATE}:
            arm = next(arm for arm in (None, Arm.BASELINE) if arm in bad)
            return Status.ERROR, f"{total} of {n} cases break, on the {arm or 'stack'} too: {self._notes[arm]}"
        said = self._notes[Arm.CANDIDATE]
        if Arm.BASELINE not in ran:
            return Status.ERROR, f"{total} of {n} cases break on the candidate, no baseline twin ran: {said}"
        return Status.FAIL, f"{total} of {n} cases break on the candidate alone: {said}"
