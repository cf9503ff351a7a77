"""Where Alertmanager sends what, and what silences what. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.model.rule import Finding, Rule


@dataclass(frozen=True, slots=True)
class Match:
    """One matcher of a route or inhibition. A label that a rule fills in from its series passes any matcher."""

    label: str
    op: str
    value: str

    def passes(self, labels: Mapping[str, str]) -> bool:
        """Tell whether alerts of a rule with these labels can pass."""
        value = labels.get(self.label)
        if value is None or "{{" in value:
            return True
        found = re.fullmatch(self.value, value) is not None if self.op in {"=~", "!~"} else value == self.value
        return found == (self.op in {"=", "=~"})


@dataclass(frozen=True, slots=True)
class Route:
    """One route; `where` is "file:line", waits are in seconds: before a group is first told, and between tellings."""

    receiver: str
    matches: tuple[Match, ...]
    where: str
    routes: tuple["Route", ...] = ()
    carries_on: bool = False
    group_wait_s: float = 30.0
    group_interval_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Inhibition:
    """What silences what."""

    sources: tuple[Match, ...]
    targets: tuple[Match, ...]
    equal: tuple[str, ...]
    where: str


@dataclass(frozen=True, slots=True)
class Routing:
    """A whole alertmanager.yml; `receivers` maps names to (line, addresses)."""

    root: Route
    receivers: Mapping[str, tuple[str, tuple[str, ...]]]
    inhibitions: tuple[Inhibition, ...] = ()


def check_routing(routing: Routing, rules: Sequence[Rule]) -> list[Finding]:
    """Return what is wrong with receivers and their addresses, routes and inhibitions, seen from the alerts."""
    alerts = [{"alertname": rule.name, **dict(rule.labels)} for rule in rules if rule.alert]
    reached = {receiver for labels in alerts for receiver in receivers_of(routing.root, labels)}
    return [
        *_routes(routing.root, routing, alerts, "route"),
        *_receivers(routing, reached),
        *_inhibitions(routing, alerts),
    ]


def receivers_of(route: Route, labels: Mapping[str, str]) -> Iterator[str]:
    """Yield who may hear of an alert with these labels: the deepest routes that it fits."""
    yield from (found.receiver for found in routes_of(route, labels))


def routes_of(route: Route, labels: Mapping[str, str]) -> Iterator[Route]:
    """Yield the deepest routes that an alert with these labels may take."""
    deeper = False
    for child in route.routes:
        if all(match.passes(labels) for match in child.matches):
            deeper = True
            yield from routes_of(child, labels)
            if not child.carries_on and all(match.label in labels for match in child.matches):
                return
    if not deeper:
        yield route


def _routes(route: Route, routing: Routing, alerts: Sequence[Mapping[str, str]], key: str) -> Iterator[Finding]:
    if route.receiver not in routing.receivers:
        known = ", ".join(sorted(routing.receivers)) or "none"
        message = f"found the receiver `{route.receiver}`, which is not there"
        yield Finding("receiver", route.where, key, message, f"known receivers: {known}")
    fitting = [labels for labels in alerts if all(match.passes(labels) for match in route.matches)]
    if alerts and not fitting:
        yield Finding("route", route.where, key, "no alert fits this route", "correct its matchers, or drop it")
    for index, child in enumerate(route.routes):
        yield from _routes(child, routing, fitting, f"{key}.routes[{index}]")


def _receivers(routing: Routing, reached: set[str]) -> Iterator[Finding]:
    for name, (where, addresses) in routing.receivers.items():
        if name not in reached:
            message = f"no alert reaches the receiver `{name}`"
            yield Finding("receiver", where, f"receivers.{name}", message, "route something to it, or drop it")
        for address in addresses:
            if not re.fullmatch(r"https?://[^/\s:]+(:\d+)?(/\S*)?", address):
                message = f"found the address `{address}`, expected http(s)://HOST[:PORT]/..."
                yield Finding("receiver", where, f"receivers.{name}", message, "write the whole address")


def _inhibitions(routing: Routing, alerts: Sequence[Mapping[str, str]]) -> Iterator[Finding]:
    for number, item in enumerate(routing.inhibitions):
        key = f"inhibit_rules[{number}]"
        for word, side in (("source", item.sources), ("target", item.targets)):
            fits = [a for a in alerts if all(m.passes(a) and (m.label in a or m.op in {"!=", "!~"}) for m in side)]
            if alerts and not fits:
                message = f"no alert is a {word} of this inhibition"
                yield Finding("inhibition", item.where, key, message, "correct its matchers, or drop it")
