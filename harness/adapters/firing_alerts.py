"""Which critical alerts fire on which arm, by Prometheus' own rules."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import httpx

from harness.judge.alerts import SEPARATOR
from harness.model.evidence import Arm, Evidence, Kind, Source, Unit

SIGNAL = "alerts"
CRITICAL = ("critical", "page")
_SHOWN = 3  # names in a fault
_MOST_WORDS = 200  # characters of what a server says


class AlertsUnknownError(ValueError):
    """An answer that does not tell which alerts fire; its text says why."""


def firing_alerts(http: httpx.Client, at: float, hide: Callable[[str], str] = str) -> list[Evidence]:
    """Return one record an arm, at epoch seconds `at`; or one on no arm that says why there is no answer.

    `n` are the critical rules, `bad` and `note` those that fire on the arm, of the baseline also those that wait to.
    An alert is an arm's by its label `arm`. `hide` takes secrets out of what a server says. Never raises for a server
    that is away or talks nonsense.
    """
    try:
        answer = http.get("/api/v1/rules", params={"type": "alert"})
        answer.raise_for_status()
        rules = list(_critical(answer.json()))
    except AlertsUnknownError as error:
        return [_fault(at, hide(str(error)))]
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:_MOST_WORDS]
        return [_fault(at, hide(f"Prometheus does not tell its rules: {said}"))]
    count = len({str(rule["name"]) for rule in rules})
    return [_record(at, arm, count, _names(rules, arm, states)) for arm, states in _STATES.items()]


# Where the baseline is about to have the alert as well, the candidate's came only first.
_STATES = {Arm.BASELINE: ("firing", "pending"), Arm.CANDIDATE: ("firing",)}


def _critical(body: Any) -> Iterator[Mapping[str, Any]]:  # noqa: ANN401 - parsed JSON
    """Yield the rules of critical alerts. Raises AlertsUnknownError where they are none, or cannot be evaluated."""
    if body["status"] != "success":
        raise AlertsUnknownError(f"Prometheus does not tell its rules: {body.get('error', body['status'])}")
    groups = cast("Sequence[Mapping[str, Any]]", body["data"]["groups"])
    rules = [rule for group in groups for rule in group["rules"] if rule["labels"].get("severity") in CRITICAL]
    if not rules:
        raise AlertsUnknownError("Prometheus has loaded no rule of a critical alert")
    ill = [f"{rule['name']} ({rule.get('lastError') or rule['health']})" for rule in rules if rule["health"] != "ok"]
    if ill:
        more = f" and {len(ill) - _SHOWN} more" if len(ill) > _SHOWN else ""
        raise AlertsUnknownError(f"rules that are not evaluated: {SEPARATOR.join(ill[:_SHOWN])}{more}")
    yield from rules


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
