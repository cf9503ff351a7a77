"""The run: a healthy stack watched, group after group of faults struck and mended, and what was seen, judged."""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from alert_faults import Fault, Faults
from exporter_inputs import Inputs
from proving_ground import TIME_SCALE, Ground
from steady_traffic import Traffic

from harness.model.rule import Rule
from harness.planning.rules.catalogue import Catalogue
from harness.planning.rules.live import BUSY_S, Foretold, Observed, Shown, Struck, foretell, show
from harness.planning.time_scale import format_duration, parse_duration

WITH_TRAFFIC = 2  # groups
PLANTED_ON = "HostMemoryHigh"
SLOW_END_S = 20.0  # of receivers that are told of an end much later: nobody waits for them between groups
_SETTLE_S = 10.0
_POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was found of one rule of the running stack. `fault` is None for a rule that nothing was done to."""

    rule: Rule
    fault: Fault | None
    foretold: Foretold
    shown: Shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Scraped:
    """A target as Prometheus has it, and how often it was scraped while the healthy stack was watched."""

    labels: dict[str, str]
    interval_s: float
    timeout_s: float
    scrapes: int
    watched_s: float


class ProofRun:
    """One run on a stack that is up."""

    def __init__(self, ground: Ground, traffic: Traffic, inputs: Inputs) -> None:
        """Prepare the faults and the predictions; nothing is struck yet."""
        self.ground, self.traffic, self.inputs = ground, traffic, inputs
        self.rules = ground.monitoring()
        burns = frozenset(rule.name for rule in self.rules.alerts if rule.label("symptom") == "burn")
        self.faults = Faults(ground, inputs, burns)
        self.groups = self.faults.groups()
        catalogue, routing = Catalogue.of(self.rules), ground.routing()
        self.foretold = {rule.name: foretell(rule, self.rules.jobs, catalogue, routing) for rule in self.rules.alerts}
        self.struck: list[Struck] = []
        self.scraped: list[Scraped] = []
        self.observed: Observed | None = None

    def go(self) -> None:
        """Watch, strike, mend; then ask Prometheus for every evaluation of every alert."""
        since = self._healthy()
        self.scraped = self._scraped(since)
        for number, group in enumerate(self.groups):
            if number == WITH_TRAFFIC:
                self.traffic.on.clear()
                time.sleep(1.0)
            self._strike(group)
        self._await_ends(self.struck, float("inf"))
        until = time.time()
        self.observed = Observed(
            since=since,
            until=until,
            evaluated=self.ground.evaluated(since, until),
            delivered=tuple(self.ground.receiver.delivered),
        )

    def _healthy(self) -> float:
        """Let the stack run as it is for as long as any alert may take to fire; return when the watch began."""
        planted = planted_rules(self.rule(PLANTED_ON))
        self.ground.add_rules("planted.yml", rule_file(planted))
        self.faults.save_index()
        self.traffic.on.set()
        files = (self.ground.instance_folder("prometheus") / "targets").glob("*.json")
        groups = [group for path in files for group in json.loads(path.read_text(encoding="utf-8"))]
        self.ground.await_targets(sum(len(group["targets"]) for group in groups))
        # Before its first scrape every job is absent: that is how a stack starts, and not what is watched here.
        deadline = time.monotonic() + _SETTLE_S
        while set(self.ground.firing()) - set(planted) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        time.sleep(min(one.resolved_s for one in self.foretold.values()))
        since = time.time()
        own = {fault.alert for group in self.groups for fault in group}
        time.sleep(max(one.fires_s for name, one in self.foretold.items() if name in own))
        return since

    def _scraped(self, since: float) -> list[Scraped]:
        """Return every target with the scrapes that it had while all was well."""
        until = time.time()
        window = f"{round(1000 * (until - since))}ms"
        rows = self.ground.ask("query", query=f"up[{window}]", time=f"{until:.3f}")["result"]
        samples = {(row["metric"]["job"], row["metric"]["instance"]): len(row["values"]) for row in rows}
        return [
            Scraped(
                labels=one["labels"],
                interval_s=parse_duration(one["scrapeInterval"]),
                timeout_s=parse_duration(one["scrapeTimeout"]),
                scrapes=samples.get((one["labels"]["job"], one["labels"]["instance"]), 0),
                watched_s=until - since,
            )
            for one in self.ground.ask("targets", state="active")["activeTargets"]
        ]

    def _strike(self, group: Sequence[Fault]) -> None:
        with ThreadPoolExecutor(max_workers=len(group)) as pool:
            began = list(pool.map(lambda fault: _timed(fault.strike), group))
            self._await_told(group, began)
            mended = list(pool.map(lambda fault: _timed(fault.mend), group))
        struck = [
            Struck(
                alert=fault.alert,
                began=at,
                mended=end,
                labels=fault.labels,
                low=fault.low,
                high=fault.high,
                shows_s=fault.shows_s + took,
                lingers_s=fault.lingers_s + ending,
                may=fault.may,
                after_s=fault.after_s,
            )
            for fault, (at, took), (end, ending) in zip(group, began, mended, strict=True)
        ]
        self.struck += struck
        self._await_ends(struck, SLOW_END_S)

    def _await_told(self, group: Sequence[Fault], began: Sequence[tuple[float, float]]) -> None:
        """Wait until every fault of the group has been told, or should have been."""
        for fault, (at, took) in zip(group, began, strict=True):
            due = at + took + self.foretold[fault.alert].delivered_s + fault.shows_s + BUSY_S
            self._await(fault.alert, fault.labels, firing=True, since=at, until=due)

    def _await_ends(self, struck: Sequence[Struck], longest_s: float) -> None:
        for one in struck:
            foretold = self.foretold[one.alert]
            if foretold.resolved_s < longest_s:
                due = one.mended + foretold.resolved_s + one.lingers_s + BUSY_S
                self._await(one.alert, one.labels, firing=False, since=one.mended, until=due)

    def _await(self, alert: str, labels: Any, *, firing: bool, since: float, until: float) -> None:  # noqa: ANN401
        while time.time() < until:
            if any(
                one.alert == alert and one.firing == firing and one.at >= since and labels.items() <= one.labels.items()
                for one in list(self.ground.receiver.delivered)
            ):
                return
            time.sleep(_POLL_S)

    def rule(self, name: str) -> Rule:
        """Return a shipped rule as it runs."""
        return next(rule for rule in self.rules.alerts if rule.name == name)

    def fault(self, name: str) -> Fault | None:
        """Return the fault of an alert."""
        return next((fault for group in self.groups for fault in group if fault.alert == name), None)

    def proof(self, name: str, *, named: str = "") -> Proof:
        """Judge one alert; `named` is what it is called on the stack, where that is not its own name."""
        assert self.observed is not None, "the run is not over"
        rule = self.rule(name)
        own = next((one for one in self.struck if one.alert == name), None)
        others = [one for one in self.struck if one is not own]
        shown = show(replace(rule, name=named or name), own, self.foretold[name], self.observed, others)
        return Proof(rule=rule, fault=self.fault(name), foretold=self.foretold[name], shown=shown)

    def level(self, fault: Fault) -> str:
        """Return how an alert was proven here: `live`, or `simulated` where the fault or its service stands in."""
        kinds = {one["name"]: one["kind"] for one in self.ground.description["services"]}
        component = self.rule(fault.alert).label("component")
        services = [one.name for one in self.ground.system.services if one.component == component]
        stands_in = any(kinds.get(name) == "stand_in" for name in services)
        return "simulated" if fault.stand_in or stands_in else "live"

    def record(self, started_at: str) -> dict[str, Any]:
        """Return the run as data."""
        observed = self.observed
        assert observed is not None, "the run is not over"
        return {
            "schema_version": 1,
            "system": self.ground.system.name,
            "time_scale": TIME_SCALE,
            "started_at": started_at,
            "watched_s": round(observed.until - observed.since, 1),
            "services": [dict(one) for one in self.ground.description["services"]],
            "rules": [self._row(self.proof(rule.name)) for rule in self.rules.alerts],
        }

    def _row(self, proof: Proof) -> dict[str, Any]:
        rule, fault, shown, foretold = proof.rule, proof.fault, proof.shown, proof.foretold
        struck = next((one for one in self.struck if one.alert == rule.name), None)
        row: dict[str, Any] = {
            "id": rule.annotation("requirement"),
            "alert": rule.name,
            "silent": shown.silent,
            "problems": list(shown.problems),
        }
        if fault is None or struck is None:
            reason = f"may take {format_duration(round(foretold.fires_s))} to fire even here: longer than the run"
            return row | {"status": "not_applicable", "reason": reason}
        return row | {
            "status": "proven" if shown.proven else "failed",
            "level": self.level(fault),
            "fault": fault.what,
            "stand_in": fault.stand_in,
            "receiver": foretold.receiver,
            "told": shown.told,
            "fired_s": _rounded(shown.fired_s),
            "delivered_s": _rounded(shown.delivered_s),
            "delivered_within_s": _rounded(foretold.delivered_s + struck.shows_s + BUSY_S),
            "resolved_s": _rounded(shown.resolved_s),
            "resolved_within_s": _rounded(foretold.resolved_s + struck.lingers_s + BUSY_S),
        }


def planted_rules(rule: Rule) -> dict[str, Rule]:
    """Return wrong copies of a rule, which run beside the shipped ones and must all be rejected."""
    left, op, _ = rule.expr.rpartition(">")
    return {
        "PlantedDoubledFor": replace(rule, for_s=2 * rule.for_s),
        "PlantedHighThreshold": replace(rule, expr=f"{left}{op} 0.99"),
        "PlantedLowThreshold": replace(rule, expr=f"{left}{op} 0.01"),
    }


def rule_file(rules: dict[str, Rule]) -> str:
    """Return a rule file of alerts by name."""
    made = [
        {
            "alert": name,
            "expr": rule.expr,
            "for": format_duration(rule.for_s),
            "labels": dict(rule.labels),
            "annotations": dict(rule.annotations),
        }
        for name, rule in rules.items()
    ]
    interval = format_duration(next(iter(rules.values())).interval_s)
    return json.dumps({"groups": [{"name": "planted", "interval": interval, "rules": made}]})


def _timed(act: Any) -> tuple[float, float]:  # noqa: ANN401 - any callable
    """Do it, and return when it began and how many seconds it took."""
    began = time.time()
    act()
    return began, time.time() - began


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
