"""What is wrong with what dashboards show: by scrapes, rules and objectives. One function a trap."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from harness.model.dashboard import Dashboard, Panel, Query
from harness.model.rule import Finding, Monitoring, Recorded, Rule, Scrape
from harness.planning.dashboards.build import asked, slowest_job_s
from harness.planning.dashboards.form import named, uids, variables, whole
from harness.planning.dashboards.limits import Limit, bounding, quantities, steps_of
from harness.planning.dashboards.queries import Windows, names_in
from harness.planning.dashboards.units import UNITS, misfit
from harness.planning.promql.parse import PromqlError, parse
from harness.planning.promql.syntax import Selector, selectors
from harness.planning.rules import lint as rule_lint
from harness.planning.rules.catalogue import Catalogue
from harness.planning.time_scale import format_duration

_OF_GRAFANA = ("-- Mixed --", "-- Grafana --", "-- Dashboard --")
_QUERIES = {"timeseries", "stat", "gauge", "bargauge", "table", "heatmap", "histogram", "barchart", "state-timeline"}
_WITH_LEGEND = {"timeseries", "barchart", "histogram"}


@dataclass(frozen=True, slots=True)
class Ground:
    """What dashboards are held against. `scrape_s` is the scrape interval that the data source is provisioned with."""

    monitoring: Monitoring
    limits: tuple[Limit, ...] = ()
    scrape_s: float = 15.0

    @property
    def with_alerts(self) -> Monitoring:
        """The system's files with the series that Prometheus makes of its alerts."""
        own = tuple(
            Recorded(frozenset({"__name__": name, "alertname": rule.name, "alertstate": state, **fixed}.items()), 1)
            for rule in self.monitoring.alerts
            for fixed in [dict(rule.labels)]
            for name in ("ALERTS", "ALERTS_FOR_STATE")
            for state in ("pending", "firing")
        )  # fmt: skip
        scrapes = self.monitoring.scrapes
        return replace(self.monitoring, scrapes=(*scrapes, Scrape("", own)) if scrapes and own else scrapes)


@dataclass(frozen=True, slots=True)
class _At:
    """One panel of one dashboard."""

    dashboard: Dashboard
    panel: Panel
    ground: Ground
    catalogue: Catalogue

    def finding(self, check: str, key: str, message: str, mend: str) -> Finding:
        return Finding(check, self.dashboard.where(self.panel, key), f"{named(self.panel)}: {key}", message, mend)

    def of_query(self, check: str, query: Query, message: str, mend: str) -> Finding:
        where = f"{self.dashboard.file}:{query.line}"
        return Finding(check, where, f"{named(self.panel)}: {query.ref or '?'}", message, mend)

    def asked(self, query: Query) -> str:
        """The query with its macros at their shortest, as Prometheus gets it."""
        least = self.panel.interval_s or self.ground.scrape_s
        return asked(query, self.dashboard.variables, Windows(scrape_s=least, step_s=0.001))


def lint(dashboards: Sequence[Dashboard], ground: Ground) -> list[Finding]:
    """Return everything that is wrong with a system's dashboards."""
    monitoring = ground.with_alerts
    catalogue = Catalogue.of(monitoring)
    found = list(uids(dashboards))
    for dashboard in dashboards:
        found += whole(dashboard)
        found += variables(dashboard, catalogue)
        places = [_At(dashboard, panel, ground, catalogue) for panel in dashboard.shown]
        found += [finding for at in places for check in _CHECKS for finding in check(at)]
        found += _promql(places, monitoring)
    found += _unshown(dashboards, ground)
    return found


def _words(at: _At) -> Iterator[Finding]:
    panel = at.panel
    if not panel.title.strip():
        yield at.finding("title", "title", "missing, expected what it shows", "add it")
    if not panel.description.strip():
        yield at.finding("description", "description", "missing, expected what it tells a reader", "add it")
    if not panel.unit:
        yield at.finding("unit", "unit", "missing, expected one of Grafana's units", 'add it ("short" for a count)')
    elif panel.unit not in UNITS:
        yield at.finding("unit", "unit", f"found `{panel.unit}`", f"one of {', '.join(sorted(UNITS))}")
    if panel.kind in _WITH_LEGEND and not panel.legend_shown:
        yield at.finding("legend", "legend", "it is hidden: nobody can tell the lines apart", "show it")


def _queries(at: _At) -> Iterator[Finding]:
    panel = at.panel
    if panel.kind in _QUERIES and not panel.queries:
        yield at.finding("schema", "type", "it asks nothing", "add a query, or make it a text panel")
    seen: set[str] = set()
    for query in panel.queries:
        if not query.expr.strip():
            yield at.of_query("syntax", query, "the query is empty", "write it, or drop it")
        if not query.legend.strip():
            mend = "name what differs between its series, as {{arm}}"
            yield at.of_query("legend", query, "it has no legend: series are named by all their labels", mend)
        if not query.ref or query.ref in seen:
            yield at.of_query("ref-id", query, f"found refId `{query.ref}`, expected one of its own", "A, B, ...")
        seen.add(query.ref)


def _datasources(at: _At) -> Iterator[Finding]:
    known = {v.name for v in at.dashboard.variables if v.kind == "datasource"}
    uids = {(query.datasource, query) for query in at.panel.queries}
    for uid, query in sorted(uids, key=lambda pair: pair[1].ref):
        names = names_in(uid)
        if uid in _OF_GRAFANA or (names and set(names) <= known):
            continue
        found = f"`{uid}` is hard-coded" if uid and not names else f"`{uid}` is no data source variable"
        mend = "use ${datasource}, with a variable of type datasource: another Grafana has other uids"
        yield at.of_query("datasource", query, found if uid else "it names no data source", mend)


def _fits(at: _At) -> Iterator[Finding]:
    for query in at.panel.queries:
        if "__range_s" in query.expr or at.panel.unit not in UNITS:  # a time that is no number's own unit
            continue
        why = misfit(at.panel.unit, at.asked(query))
        if why:
            yield at.of_query("unit", query, why, "take the unit that fits, or convert the query")


def _rate_windows(at: _At) -> Iterator[Finding]:
    """$__rate_interval is four scrapes of what Grafana takes for the scrape interval, not of the job's."""
    if not any("__rate_interval" in query.expr for query in at.panel.queries):
        return
    slowest = slowest_job_s([at.asked(q) for q in at.panel.queries], at.catalogue, at.ground.monitoring.jobs)
    least = at.panel.interval_s or at.ground.scrape_s
    if slowest > least:
        slow = format_duration(slowest)
        message = f"$__rate_interval is {format_duration(4 * least)} here, and the job is scraped every {slow}"
        yield at.finding("window", "interval", message, f'set the least step (Min interval) to "{slow}"')


def _thresholds(at: _At) -> Iterator[Finding]:
    """A panel of what an alert or objective bounds shows that bound, and no other."""
    bounds = bounding([at.asked(query) for query in at.panel.queries], at.ground.limits)
    wanted, found = steps_of(bounds), at.panel.steps
    shown, right = {s.value for s in found if s.value is not None}, {s.value for s in wanted if s.value is not None}
    origins = "; ".join(dict.fromkeys(limit.words(factor) for limit, factor in bounds))
    if bounds and shown != right:
        listed = ", ".join(f"{value:g}" for value in sorted(shown)) or "none"
        mend = f"show {', '.join(f'{value:g}' for value in sorted(right))}: rollgate dashboards generate"
        yield at.finding("threshold", "thresholds", f"found {listed}, but there is {origins}", mend)
    elif bounds and found != wanted:
        mend = " then ".join(f"{s.colour}{'' if s.value is None else f' from {s.value:g}'}" for s in wanted)
        yield at.finding("threshold", "thresholds", f"its colours do not follow {origins}", mend)
    elif not bounds and shown and at.ground.limits:
        listed = ", ".join(f"{value:g}" for value in sorted(shown))
        message = f"found {listed}, which no alert and no objective states of what it shows"
        yield at.finding("threshold", "thresholds", message, "drop it, or write the rule first")


def _promql(places: Sequence[_At], monitoring: Monitoring) -> Iterator[Finding]:
    """Everything that is wrong with a rule's expression is wrong with a panel's, too."""
    asked_of = {f"{at.panel.id}/{n}": (at, query) for at in places for n, query in enumerate(at.panel.queries)}
    rules = [
        Rule(
            name=name,
            alert=False,
            expr=at.asked(query),
            group=at.dashboard.uid,
            file=at.dashboard.file,
            expr_line=query.line,
            folded=True,
        )
        for name, (at, query) in asked_of.items()
        if query.expr.strip()
    ]
    records = [rule for rule in monitoring.rules if not rule.alert]
    for finding in rule_lint.lint(replace(monitoring, rules=(*records, *rules))):
        name = finding.key.removesuffix(": expr")
        if name not in asked_of:
            continue
        at, query = asked_of[name]
        if finding.check != "window" or "__rate_interval" not in query.expr:  # _rate_windows knows the better mend
            yield replace(finding, key=f"{named(at.panel)}: {query.ref or '?'}")


def _unshown(dashboards: Sequence[Dashboard], ground: Ground) -> Iterator[Finding]:
    """Whoever is woken by an alert finds a panel of what it is about."""
    queries = [asked(q, d.variables) for d in dashboards for p in d.shown for q in p.queries]
    shown = {quantity.text for text in queries for quantity in quantities(text)}
    names = {item.name for text in queries for item in selectors_of(text)}
    for rule in ground.monitoring.alerts:
        if rule.label("slo"):
            continue
        bounded = {limit.quantity for limit in ground.limits if limit.origin == rule.name}
        if bounded & shown or (not bounded and names & {item.name for item in selectors_of(rule.expr)}):
            continue
        about = next(iter(sorted(bounded)), rule.expr)
        message = f"no panel shows what it is about: {about}"
        yield Finding("unshown", rule.where("expr"), f"{rule.name}: expr", message, "add a panel with that query")


def selectors_of(text: str) -> list[Selector]:
    """Return the selectors of an expression, none where it cannot be read."""
    try:
        return selectors(parse(text))
    except PromqlError:
        return []


_CHECKS: tuple[Callable[[_At], Iterator[Finding]], ...] = (
    _words,
    _queries,
    _datasources,
    _fits,
    _rate_windows,
    _thresholds,
)
