"""Is the instrument itself sound? What a faulty one measured is an error, whatever it says."""

from harness.judge.finding import Finding, Look, Terms, missing
from harness.model.evidence import Arm, Evidence, Kind
from harness.model.status import Status

_BAD_IN_A_ROW = 2
_GONE_IN_A_ROW = 10  # reports that miss the candidate's metrics alone
_GONE_SCRAPES_S = 45.0  # and for so long, real seconds divided by the time scale: three usual scrapes


class Instrument:
    """A collector's reports on itself: the signal "load" of the client, "metrics" of Prometheus.

    Two bad reports in a row make it faulty; `recovery` good ones in a row clear it again. While the newest
    report is bad but not yet faulty, what it measured neither passes nor fails. With `strict_end` a single bad
    one at the last look is a fault: the load's last reconciliation of what it sent happens only once.
    """

    def __init__(self, name: str, recovery: int, *, strict_end: bool = False) -> None:
        """Name it for the reasons."""
        self.name = name
        self._recovery = recovery
        self._strict_end = strict_end
        self.reports = self.bad_reports = 0
        self._bad_row = self._good_row = 0
        self._invalid = False
        self.note = ""

    def observe(self, record: Evidence) -> None:
        """Take one report; ValueError when it is none."""
        if record.kind is not Kind.EVENTS or record.n < 1:
            msg = f"{record.signal}: a report is an events record with n >= 1"
            raise ValueError(msg)
        self.reports += 1
        if record.bad:
            self.bad_reports += 1
            self._bad_row, self._good_row = self._bad_row + 1, 0
            self.note = record.note or "no reason given"
            self._invalid = self._invalid or self._bad_row >= _BAD_IN_A_ROW
        else:
            self._bad_row, self._good_row = 0, self._good_row + 1
            self._invalid = self._invalid and self._good_row < self._recovery

    def faulty(self, look: Look) -> bool:
        """Tell whether what it measured is worth nothing now."""
        return self._invalid or (self._strict_end and look.final and self._bad_row > 0)

    @property
    def suspect(self) -> bool:
        """Whether the newest report is bad."""
        return self._bad_row > 0


class CollectedTrial:
    """Does Prometheus yield every series that the checks need?

    A bad report is never the release's failure. A report that is good but has a note on the candidate says that
    the candidate's targets alone are down: no pass, and after ten in a row the release's failure. A bad report
    breaks the row, since the baseline's metrics are then not shown to be there. A good report with a note on no arm
    says what counts as 0 for want of a series; it passes, and the reason tells.
    """

    def __init__(self, terms: Terms) -> None:
        """Start without a report."""
        self._reports = Instrument("Prometheus", recovery=1)
        self._gone_s = _GONE_SCRAPES_S / terms.plan.time_scale
        self._gone = 0
        self._gone_since = self._gone_until = 0.0
        self._gone_note = self._zeros = ""

    def observe(self, record: Evidence) -> None:
        """Take one collection's report."""
        self._reports.observe(record)
        self._zeros = record.note if not record.bad and record.arm is None else ""
        if record.bad or record.arm is not Arm.CANDIDATE or not record.note:
            self._gone = 0
            return
        if not self._gone:
            self._gone_since = record.end_s
        self._gone, self._gone_until, self._gone_note = self._gone + 1, record.end_s, record.note

    def settle(self) -> None:
        """Nothing waits for the end of a batch."""

    def find(self, look: Look) -> Finding:
        """Judge the collections so far."""
        seen = self._reports
        if not seen.reports:
            return missing(look, "no collection from Prometheus", fatal=True)
        counts = f"{seen.bad_reports} of {seen.reports} collections incomplete"
        if seen.faulty(look):
            status, reason = Status.ERROR, f"{seen.note} ({counts})"
        elif seen.suspect:
            status, reason = Status.INCONCLUSIVE, f"{seen.note} ({counts}); the next collection decides"
        elif self._gone:
            status, reason = self._without_candidate()
        else:
            status, reason = Status.PASS, f"the newest collection was complete; {counts}"
            reason += f"; {self._zeros}" if self._zeros else ""
        share = 100 * seen.bad_reports / seen.reports
        return Finding(status=status, reason=reason, estimate=share, n=seen.reports)

    def _without_candidate(self) -> tuple[Status, str]:
        """Return the status and reason while the candidate's metrics alone are gone."""
        lasted = self._gone_until - self._gone_since
        if self._gone >= _GONE_IN_A_ROW and lasted >= self._gone_s:
            what = f"the candidate's metrics are gone while the baseline's answer, for {self._gone} collections"
            return Status.FAIL, f"{what} in a row ({self._gone_note})"
        return Status.INCONCLUSIVE, f"{self._gone_note}; the candidate's metrics are missing, {self._gone} in a row"
