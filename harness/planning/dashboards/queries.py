"""Grafana's variables and macros in a query, and what Prometheus is asked in their place."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.model.dashboard import Dashboard, Variable
from harness.planning.time_scale import format_duration

_REFERENCE = re.compile(r"\$\{(?P<braced>\w+)(?::\w+)?\}|\[\[(?P<square>\w+)\]\]|\$(?P<plain>\w+)")
_LABEL_VALUES = re.compile(r"^label_values\(\s*(?:(?P<selector>.+),\s*)?(?P<label>[a-zA-Z_]\w*)\s*\)$", re.DOTALL)
MACROS = ("__rate_interval", "__interval", "__range", "__interval_ms", "__range_s", "__range_ms")
_RATE_SCRAPES = 4  # Grafana: $__rate_interval is at least four scrape intervals
ANY = ".*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """What the macros stand for, seconds: the scrape interval that Grafana believes in, a step, the range shown."""

    scrape_s: float = 15.0
    step_s: float = 15.0
    range_s: float = 3600.0

    @property
    def macros(self) -> Mapping[str, str]:
        """Each macro's text."""
        rate_s = max(self.step_s + self.scrape_s, _RATE_SCRAPES * self.scrape_s)
        return {
            "__rate_interval": format_duration(rate_s),
            "__interval": format_duration(self.step_s),
            "__range": format_duration(self.range_s),
            "__interval_ms": f"{self.step_s * 1000:g}",
            "__range_s": f"{self.range_s:g}",
            "__range_ms": f"{self.range_s * 1000:g}",
        }


def names_in(text: str) -> list[str]:
    """Return the variables and macros that a text refers to, in order, each once."""
    return list(dict.fromkeys(_name(match) for match in _REFERENCE.finditer(text)))


def substituted(text: str, values: Mapping[str, str], windows: Windows) -> str:
    """Return a query with its macros and variables replaced; what is unknown stays."""
    known = {**values, **windows.macros}
    return _REFERENCE.sub(lambda match: known.get(_name(match), match[0]), text)


def defaults(dashboard: Dashboard) -> dict[str, str]:
    """Return what each variable stands for when a dashboard is opened: all values, or its default."""
    return {variable.name: _default(variable) for variable in dashboard.variables}


def label_values(variable: Variable) -> tuple[str, str] | None:
    """Return (selector, label) of a variable that lists a label's values; None for one that does not."""
    match = _LABEL_VALUES.match(variable.query.strip()) if variable.kind == "query" else None
    return ((match["selector"] or "").strip(), match["label"]) if match else None


def users_of(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    """Yield (variable, where it is used) of every reference of a dashboard's queries, titles and variables."""
    for panel in dashboard.panels:
        for query in panel.queries:
            yield from ((name, query.expr) for name in names_in(query.expr) + names_in(query.datasource))
        yield from ((name, panel.title) for name in names_in(panel.title) + names_in(panel.datasource))
    for variable in dashboard.variables:
        yield from ((name, variable.query) for name in names_in(variable.query))


def _default(variable: Variable) -> str:
    if variable.kind == "query":
        return variable.all_value or (ANY if variable.many else variable.current or ANY)
    return variable.current or variable.query


def _name(match: re.Match[str]) -> str:
    return match["braced"] or match["square"] or match["plain"]
