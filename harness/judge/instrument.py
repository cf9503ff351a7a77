"""Is the instrument itself sound? What a faulty one measured is an error, whatever it says."""

from harness.judge.finding import Finding, Look, missing
from harness.model.evidence import Evidence, Kind
from harness.model.status import Status

_BAD_IN_A_ROW = 2


class Instrument:
    """A collector's reports on itself: the signal "load" of the client, "metrics" of Prometheus.

    Two bad reports in a row make it faulty, at the last look a single one; `recovery` good ones in a row
    clear it again. While the newest report is bad but not yet faulty, what it measured neither passes nor
    fails.
    """

    def __init__(self, name: str, recovery: int) -> None:
        """Name it for the reasons."""
        self.name = name
        self._recovery = recovery
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
        return self._invalid or (look.final and self._bad_row > 0)

    @property
    def suspect(self) -> bool:
        """Whether the newest report is bad."""
        return self._bad_row > 0


class CollectedTrial:
    """Does Prometheus yield every series that the checks need? Never the release's failure."""

    def __init__(self) -> None:
        """Start without a report."""
        self._reports = Instrument("Prometheus", recovery=1)

    def observe(self, record: Evidence) -> None:
        """Take one collection's report."""
        self._reports.observe(record)

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
        else:
            status, reason = Status.PASS, f"the newest collection was complete; {counts}"
        share = 100 * seen.bad_reports / seen.reports
        return Finding(status=status, reason=reason, estimate=share, n=seen.reports)
