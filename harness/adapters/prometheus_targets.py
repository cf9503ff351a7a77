"""Are all scrape targets that the inventory declares there and up? Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.model.evidence import Arm
from harness.model.system import Service, System

_DEFAULT_INTERVAL_S = 15.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class TargetReport:
    """`faults` are ours; `releases` are the candidate's own targets or series, which its release may have lost.

    `zeros` is what counts as 0 for want of a series, which is nobody's fault.
    """

    faults: tuple[str, ...]
    releases: tuple[str, ...]
    zeros: tuple[str, ...] = ()


def check_targets(system: System, targets: Sequence[Mapping[str, Any]]) -> TargetReport:
    """Hold Prometheus' active targets against the inventory: every job with metrics, both arms where per arm.

    A service that is not on every provider, needs a GPU, or is left unscraped by one way of running, may have no
    target; a target that is there must be up. A candidate's target of a service under release that is down is the
    release's affair; one that is missing is ours.
    """
    faults: list[str] = []
    releases: list[str] = []
    for service in system.services:
        if service.metrics is None or not service.job:
            continue
        mine = [target for target in targets if target["labels"].get("job") == service.job]
        faults += _missing(service, mine)
        for target in mine:
            if target["health"] == "up":
                continue
            arm = target["labels"].get("arm", "")
            name = f"job {service.job}, instance {target['labels'].get('instance', '?')}{f' ({arm})' if arm else ''}"
            note = f"scrape target {target['health']}: {name}: {target.get('lastError') or 'not scraped yet'}"
            (releases if service.under_release and arm == Arm.CANDIDATE else faults).append(note)
    return TargetReport(tuple(faults), tuple(releases))


def under_release(system: System, jobs: Iterable[str]) -> bool:
    """Tell whether all of `jobs`, and there is one, scrape services that a release may change."""
    changeable = {service.job for service in system.services if service.under_release}
    named = set(jobs)
    return bool(named) and named <= changeable


def _missing(service: Service, targets: Sequence[Mapping[str, Any]]) -> list[str]:
    if not targets:
        native = service.native
        optional = service.not_on or (native and (native.unscraped or native.needs_gpu or _prefers_unscraped(service)))
        return [] if optional else [f"scrape target missing: job {service.job} has none"]
    if not service.per_arm:
        return []
    arms = {target["labels"].get("arm") for target in targets}
    return [f"scrape target missing: job {service.job} has none of the {arm}" for arm in Arm if arm.value not in arms]


def _prefers_unscraped(service: Service) -> bool:
    return bool(service.native and service.native.prefer and service.native.prefer.unscraped)


def intervals(targets: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the longest scrape interval of each job, seconds."""
    found: dict[str, float] = {}
    for target in targets:
        job = str(target["labels"].get("job", ""))
        found[job] = max(found.get(job, 0.0), duration_s(str(target.get("scrapeInterval", ""))))
    return found


def duration_s(text: str) -> float:
    """Return the seconds of a Prometheus duration like "1m30s" or "500ms"; 15 s, its default, for none."""
    seconds, number = 0.0, ""
    unit = ""
    for character in f"{text} ":
        if character.isdigit() or character == ".":
            if unit:
                seconds += float(number) * _UNITS.get(unit, 0.0)
                number, unit = "", ""
            number += character
        elif character != " ":
            unit += character
    if number and unit:
        seconds += float(number) * _UNITS.get(unit, 0.0)
    return seconds or _DEFAULT_INTERVAL_S
