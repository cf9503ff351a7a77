"""Critical alerts and promotion: from Prometheus' answer on its rules to the judgement, and each way to be wrong."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness import spec
from harness.adapters.firing_alerts import firing_alerts
from harness.judge import Judge
from harness.model.errors import SpecError
from harness.model.evidence import Arm, Evidence, Kind, Source, Unit
from harness.model.judgement import Judgement
from harness.model.status import Status

pytestmark = pytest.mark.selftest

SYSTEM = spec.load_system(spec.find_system("researchflow"))
OBJECTIVE = next(one for one in SYSTEM.objectives if one.id == "canary.critical_alerts")
PLAN = next(plan for plan in SYSTEM.plans if plan.name == "quick")


def rule(name: str, *alerts: Mapping[str, Any], severity: str = "critical", health: str = "ok") -> dict[str, Any]:
    """Return a rule as Prometheus tells it."""
    return {
        "name": name, "labels": {"severity": severity}, "health": health, "lastError": "", "alerts": list(alerts),
        "lastEvaluation": "1970-01-01T00:01:39.123456789Z",
    }  # fmt: skip


def alert(arm: str | None, state: str = "firing") -> dict[str, Any]:
    """Return an alert of an arm, None for one of the stack."""
    return {"labels": {"arm": arm} if arm else {}, "state": state}


def told(*rules: dict[str, Any], interval_s: float = 0.5) -> str:
    """Return the body of Prometheus' answer."""
    group = {"name": "g", "interval": interval_s, "rules": list(rules)}
    return json.dumps({"status": "success", "data": {"groups": [group]}})


def asked(body: str, at: float = 100.0, status: int = 200, date: str = "") -> list[Evidence]:
    """Ask a Prometheus that answers so."""
    headers = {"Date": date} if date else {}
    transport = httpx.MockTransport(lambda _request: httpx.Response(status, text=body, headers=headers))
    with httpx.Client(transport=transport, base_url="http://prometheus") as http:
        return firing_alerts(http, at)


def report(at: float) -> Evidence:
    """Return a good collection of Prometheus."""
    return Evidence(
        kind=Kind.EVENTS, source=Source.PROMETHEUS, signal="metrics", unit=Unit.PROBE, start_s=at, end_s=at, n=1
    )


def judged(answers: Sequence[str], *, at: float | None = None, final: bool = False, status: int = 200) -> Judgement:
    """Judge answers that came a second apart; the look is at the last of them, or at `at`."""
    judge = Judge([OBJECTIVE], PLAN)
    end = 100.0
    for number, body in enumerate(answers):
        end = 100.0 + number
        judge.observe([*asked(body, end, status), report(end)])
    return judge.look(at=end if at is None else at, stage="50", final=final)[0]


QUIET = told(rule("Slow"), rule("Broken"))
OWN = told(rule("Slow", alert("candidate")), rule("Broken"))


def test_no_critical_alert_on_the_candidate_passes():
    """Those of the stack, of the baseline, that only wait, and warnings do not count."""
    others = told(
        rule("Slow", alert("baseline"), alert("candidate", "pending")),
        rule("Down", alert(None)),
        rule("Worse", alert("candidate"), severity="warning"),
    )
    for body in (QUIET, others):
        found = judged([body])
        assert found.status is Status.PASS, found.reason
    assert "none of 2 critical alerts" in judged([QUIET]).reason


def test_a_critical_alert_on_the_candidate_fails_it_by_name():
    """At the first answer that says so, and as long as it does."""
    found = judged([QUIET, OWN])
    assert found.status is Status.FAIL
    assert "Slow fires on the candidate" in found.reason
    assert judged([OWN, QUIET]).status is Status.PASS


def test_what_fires_on_both_arms_is_not_the_releases():
    """Nor is what the baseline is about to have; another alert beside it is."""
    for state in ("firing", "pending"):
        found = judged([told(rule("Slow", alert("candidate"), alert("baseline", state)))])
        assert found.status is Status.ERROR
        assert "Slow fires on both arms" in found.reason
    both = told(rule("Slow", alert("candidate"), alert("baseline")), rule("Broken", alert("candidate")))
    assert judged([both]).status is Status.FAIL
    assert "Broken fires" in judged([both]).reason


UNKNOWN = {
    "not found": ("404 page not found", 404, "HTTPStatusError"),
    "not JSON": ("<html>", 200, "JSONDecodeError"),
    "no object": ("[]", 200, "TypeError"),
    "an error": (json.dumps({"status": "error", "error": "query timed out"}), 200, "query timed out"),
    "no rules": (told(), 200, "no rule of a critical alert"),
    "warnings alone": (told(rule("Worse", severity="warning")), 200, "no rule of a critical alert"),
    "a rule that fails": (told(rule("Slow", health="err")), 200, "rules that are not evaluated: Slow (err)"),
    "a rule not yet evaluated": (told(rule("Slow", health="unknown")), 200, "Slow (unknown)"),
}


@pytest.mark.parametrize("case", UNKNOWN)
@pytest.mark.parametrize("final", [False, True])
def test_alerts_that_are_not_known_are_never_a_pass(case: str, final: bool):  # noqa: FBT001 - a case
    """Waited for at first, an error the second time and at the end; also after good answers."""
    body, status, words = UNKNOWN[case]
    found = judged([body], final=final, status=status)
    assert found.status is (Status.ERROR if final else Status.INCONCLUSIVE)
    assert words in found.reason
    assert judged([body, body], status=status).status is Status.ERROR
    if status == 200:
        assert judged([QUIET, body]).status is Status.INCONCLUSIVE
        assert judged([QUIET, body, QUIET]).status is Status.PASS


def test_rules_that_are_no_longer_evaluated_are_no_answer():
    """Prometheus answers, and its groups stand still: by its own clock, and by as much as their interval allows."""
    told_late = asked(QUIET, at=130.0)
    assert [(one.arm, one.bad) for one in told_late] == [(None, 1)]
    assert "rules that are not evaluated: Slow (last 31 s ago), Broken (last 31 s ago)" in told_late[0].note
    assert len(asked(told(rule("Slow"), interval_s=60.0), at=130.0)) == len(Arm)
    assert len(asked(QUIET, at=9e9, date="Thu, 01 Jan 1970 00:01:50 GMT")) == len(Arm)
    assert len(asked(QUIET, at=100.0, date="Thu, 01 Jan 1970 00:02:20 GMT")) == 1


def test_a_severity_that_a_template_fills_in_counts():
    """It stands on the alert, not on the rule."""
    one = alert("candidate")
    one["labels"]["severity"] = "critical"
    templated = rule("Slow", one, severity="{{ with $value }}critical{{ end }}")
    assert judged([told(rule("Broken"), templated)]).status is Status.FAIL


@pytest.mark.parametrize("final", [False, True])
def test_no_answer_or_an_old_one_is_never_a_pass(final: bool):  # noqa: FBT001 - a case
    """A Prometheus that was never asked, or not for a while."""
    worst = Status.ERROR if final else Status.INCONCLUSIVE
    assert Judge([OBJECTIVE], PLAN).look(at=100.0, stage="50", final=final)[0].status is worst
    assert judged([QUIET], at=114.0, final=final).status is Status.PASS
    old = judged([QUIET], at=116.0, final=final)
    assert old.status is worst
    assert "16 s old" in old.reason


@pytest.mark.parametrize(
    "planted",
    [
        {"bad": 1, "n": 2, "note": ""},
        {"bad": 0, "n": 2, "note": "Slow"},
        {"bad": 1, "n": 2, "note": "Slow, Broken"},
        {"bad": 0, "n": 0, "note": ""},
    ],
)
def test_an_answer_that_contradicts_itself_is_corrupt_evidence(planted: dict[str, Any]):
    """Counts and names must agree, in a file that was changed too."""
    judge = Judge([OBJECTIVE], PLAN)
    judge.observe(
        [
            Evidence(
                kind=Kind.EVENTS, source=Source.PROMETHEUS, signal="alerts", start_s=100.0, end_s=100.0, arm=arm,
                **planted,
            )
            for arm in Arm
        ]
        + [report(100.0)]
    )  # fmt: skip
    assert judge.look(at=100.0, stage="50", final=False)[0].status is not Status.PASS


OBJECTIVES = "objectives.yaml"
SHIPPED = "    signal: alerts\n    measure: alerts\n    sources: [prometheus]\n"
MISTAKES = {
    "another source": (OBJECTIVES, SHIPPED, SHIPPED.replace("prometheus", "client"), "expected prometheus"),
    "two sources": (OBJECTIVES, SHIPPED, SHIPPED.replace("[", "[probe, "), "found probe, prometheus"),
    "another signal": (OBJECTIVES, SHIPPED, SHIPPED.replace("signal: alerts", "signal: metrics"), "expected `alerts`"),
    "no Prometheus": ("system.yaml", "  metrics_service: prometheus.http\n", "", "names no Prometheus"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_objective_on_alerts_that_could_never_be_judged_is_refused(mistake: str, tmp_path: Path):
    """By its key, before anything starts."""
    name, before, after, words = MISTAKES[mistake]
    root = Path(shutil.copytree(SYSTEM.root, tmp_path / "researchflow"))
    text = (root / name).read_text(encoding="utf-8")
    assert before in text
    (root / name).write_text(text.replace(before, after), encoding="utf-8")
    with pytest.raises(SpecError) as raised:
        spec.load_system(root)
    problems = "\n".join(str(one) for one in spec.validate(root))
    assert "canary.critical_alerts" in str(raised.value)
    assert words in problems


def test_the_shipped_objective_is_a_guardrail_of_prometheus():
    """It decides, and every plan keeps it deciding."""
    assert (OBJECTIVE.severity, OBJECTIVE.sources) == ("critical", (Source.PROMETHEUS,))
    assert all(OBJECTIVE.id not in plan.informational for plan in SYSTEM.plans)
