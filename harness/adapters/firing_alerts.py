"""Which critical alerts fire on which arm, by Prometheus' own rules."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast

import httpx

from harness.judge.alerts import SEPARATOR
from harness.model.evidence import Arm, Evidence, Kind, Source, Unit

SIGNAL = "alerts"
CRITICAL = ("critical", "page")
_SHOWN = 3  # names in a fault
_MOST_WORDS = 200  # characters of what a server says
_OLD_S, _OLD_ROUNDS = 15.0, 4  # rules that were last evaluated longer ago than so many of their intervals say nothing


class AlertsUnknownError(ValueError):
    """An answer that does not tell which alerts fire; its text says why."""


def firing_alerts(http: httpx.Client, at: float, hide: Callable[[str], str] = str) -> list[Evidence]:
    """Return one record an arm, at epoch seconds `at`; or one on no arm that says why there is no answer.

    `n` are the critical rules, `bad` and `note` those that fire on the arm, of the baseline also those that wait to.
    An alert is an arm's by its label `arm`. `hide` takes secrets out of what a server says. Never raises for a server
    that is away or talks nonsense. What was evaluated long ago, by the server's own clock, is no answer either.
    """
    try:
        answer = http.get("/api/v1/rules", params={"type": "alert"})
        answer.raise_for_status()
        date = answer.headers.get("Date")
        rules = list(_critical(answer.json(), parsedate_to_datetime(date).timestamp() if date else at))
    except AlertsUnknownError as error:
        return [_fault(at, hide(str(error)))]
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:_MOST_WORDS]
        return [_fault(at, hide(f"Prometheus does not tell its rules: {said}"))]
    count = len({str(rule["name"]) for rule in rules})
    return [_record(at, arm, count, _names(rules, arm, states)) for arm, states in _STATES.items()]


# Where the baseline is about to have the alert as well, the candidate's came only first.
_STATES = {Arm.BASELINE: ("firing", "pending"), Arm.CANDIDATE: ("firing",)}


def _critical(body: Any, now: float) -> Iterator[Mapping[str, Any]]:  # noqa: ANN401 - parsed JSON
    """Yield the rules of critical alerts. Raises AlertsUnknownError where they are none, or are not evaluated."""
    if body["status"] != "success":
        raise AlertsUnknownError(f"Prometheus does not tell its rules: {body.get('error', body['status'])}")
    groups = cast("Sequence[Mapping[str, Any]]", body["data"]["groups"])
    found = [(group, rule) for group in groups for rule in group["rules"] if _is_critical(rule)]
    if not found:
        raise AlertsUnknownError("Prometheus has loaded no rule of a critical alert")
    ill = [f"{rule['name']} ({why})" for group, rule in found if (why := _ill(group, rule, now))]
    if ill:
        more = f" and {len(ill) - _SHOWN} more" if len(ill) > _SHOWN else ""
        raise AlertsUnknownError(f"rules that are not evaluated: {SEPARATOR.join(ill[:_SHOWN])}{more}")
    yield from (rule for _, rule in found)


def _is_critical(rule: Mapping[str, Any]) -> bool:
    """Tell whether a rule's alerts are critical; a severity that a template fills in stands on the alerts alone."""
    return any(one["labels"].get("severity") in CRITICAL for one in (rule, *rule["alerts"]))


def _ill(group: Mapping[str, Any], rule: Mapping[str, Any], now: float) -> str:
    """Return why a rule says nothing of this moment, "" where it does."""
    if rule["health"] != "ok":
        return str(rule.get("lastError") or rule["health"])
    age = now - datetime.fromisoformat(rule["lastEvaluation"]).timestamp()
    return f"last {age:.0f} s ago" if age > max(_OLD_S, _OLD_ROUNDS * float(group["interval"])) else ""


def _names(rules: Sequence[Mapping[str, Any]], arm: Arm, states: Sequence[str]) -> list[str]:
    return sorted(
        {
            str(rule["name"])
            for rule in rules
            for alert in rule["alerts"]
            if alert["labels"].get("arm") == arm and alert["state"] in states
        }
    )


def _record(at: float, arm: Arm, rules: int, names: Sequence[str]) -> Evidence:
    return Evidence(
        kind=Kind.EVENTS, source=Source.PROMETHEUS, signal=SIGNAL, unit=Unit.PROBE, start_s=at, end_s=at,
        arm=arm, n=rules, bad=len(names), note=SEPARATOR.join(names),
    )  # fmt: skip


def _fault(at: float, why: str) -> Evidence:
    return Evidence(
        kind=Kind.EVENTS, source=Source.PROMETHEUS, signal=SIGNAL, unit=Unit.PROBE, start_s=at, end_s=at,
        n=1, bad=1, note=why,
    )  # fmt: skip
