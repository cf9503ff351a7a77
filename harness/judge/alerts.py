"""Do critical alerts of the system fire on the candidate?"""

from harness.judge.finding import Finding, Look, missing
from harness.model.evidence import Arm, Evidence, Kind
from harness.model.plan import StagePlan
from harness.model.status import Status

_FAULTS_IN_A_ROW = 2
_OLD_S, _OLD_LOOKS = 15.0, 10  # an answer that is older is none
SEPARATOR = ", "


class AlertsTrial:
    """Reads what Prometheus' rules say: one record an arm and answer, `note` names the alerts that fire there.

    The baseline's names those that are about to fire there, too. An alert of the candidate alone is the release's
    failure; one that the baseline has as well says nothing of the release. A record on no arm is an answer that could
    not be had, or that could not be read: never a pass.
    """

    def __init__(self, plan: StagePlan) -> None:
        """Start without an answer."""
        self._old_s = max(_OLD_S, _OLD_LOOKS * plan.look_s)
        self._firing: dict[Arm, frozenset[str]] = {}
        self._asked: dict[Arm, float] = {}
        self._rules = self._answers = self._faults = 0
        self._fault = ""

    def observe(self, record: Evidence) -> None:
        """Take one arm's part of an answer, or a fault; ValueError for what is neither."""
        if record.kind is not Kind.EVENTS or record.n < 1:
            msg = f"{record.signal}: an answer on alerts is an events record with n >= 1"
            raise ValueError(msg)
        if record.arm is None:
            self._faults, self._fault = self._faults + 1, record.note or "no reason given"
            return
        names = frozenset(record.note.split(SEPARATOR)) if record.note else frozenset[str]()
        if len(names) != record.bad:
            msg = f"{record.signal}: {record.bad} alerts, and {len(names)} names"
            raise ValueError(msg)
        self._firing[record.arm] = names
        self._asked[record.arm] = record.end_s
        if record.arm is Arm.CANDIDATE:
            self._rules, self._answers, self._faults = record.n, self._answers + 1, 0

    def settle(self) -> None:
        """Nothing waits for the end of a batch."""

    def find(self, look: Look) -> Finding:
        """Judge the newest answer."""
        if self._faults:
            certain = look.final or self._faults >= _FAULTS_IN_A_ROW
            status = Status.ERROR if certain else Status.INCONCLUSIVE
            return Finding(status=status, reason=f"the alerts are not known: {self._fault}", n=self._answers)
        if len(self._asked) < len(Arm):
            return missing(look, "no answer of Prometheus on its alerts", fatal=True)
        age = look.at - min(self._asked.values())
        if age > self._old_s:
            status = Status.ERROR if look.final else Status.INCONCLUSIVE
            return Finding(status=status, reason=f"the newest answer on alerts is {age:.0f} s old", n=self._answers)
        own = self._firing[Arm.CANDIDATE] - self._firing[Arm.BASELINE]
        shared = self._firing[Arm.CANDIDATE] & self._firing[Arm.BASELINE]
        if own:
            return self._finding(Status.FAIL, f"{_named(own)} on the candidate, and not on the baseline")
        if shared:
            return self._finding(Status.ERROR, f"{_named(shared)} on both arms: that is not the release's")
        return self._finding(Status.PASS, f"none of {self._rules} critical alerts fires on the candidate")

    def _finding(self, status: Status, reason: str) -> Finding:
        return Finding(status=status, reason=reason, estimate=float(len(self._firing[Arm.CANDIDATE])), n=self._answers)


def _named(names: frozenset[str]) -> str:
    fire = "fires" if len(names) == 1 else "fire"
    return f"{SEPARATOR.join(sorted(names))} {fire}"
