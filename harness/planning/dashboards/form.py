"""What is wrong with dashboards as files: uids, ids, places, variables. What they show is lint's affair."""

import re
from collections.abc import Iterator, Mapping, Sequence

from harness.model.dashboard import Dashboard, Panel, Query, Variable
from harness.model.rule import Finding
from harness.planning.dashboards.queries import MACROS, label_values, names_in, users_of
from harness.planning.promql.parse import PromqlError, parse
from harness.planning.promql.syntax import selectors
from harness.planning.rules.catalogue import Catalogue

_OLDEST_SCHEMA = 36  # before it a data source was a bare name
_COLUMNS = 24
_UID = re.compile(r"[a-zA-Z0-9_-]{1,40}")
_BUILT_IN = re.compile(r"__\w+|timeFilter")
_ONE_VALUE = re.compile(r'(?P<label>\w+)\s*(?:!=|=(?!~))\s*"(?P<value>[^"]*)"')


def named(panel: Panel) -> str:
    """Return what to call a panel."""
    return panel.title or f"panel {panel.id}"


def uids(dashboards: Sequence[Dashboard]) -> Iterator[Finding]:
    """Yield what is wrong with uids: none, a bad one, one that two dashboards have."""
    seen: dict[str, Dashboard] = {}
    for item in dashboards:
        if not _UID.fullmatch(item.uid):
            mend = "give it one of letters, digits, - and _, up to 40; links and bookmarks hold on to it"
            yield Finding("uid", item.where(key="uid"), f"{item.title}: uid", f"found `{item.uid}`, no fixed uid", mend)
        elif seen.setdefault(item.uid, item) is not item:
            message = f"`{item.uid}` is the uid of {seen[item.uid].file}, too: Grafana loads one of them"
            yield Finding("uid", item.where(key="uid"), f"{item.title}: uid", message, "give each its own")


def whole(item: Dashboard) -> Iterator[Finding]:
    """Yield what is wrong with one dashboard as a whole, its ids, titles and places."""

    def wrong(check: str, key: str, message: str, mend: str, panel: Panel | None = None) -> Finding:
        about = named(panel) if panel else item.title or item.uid
        return Finding(check, item.where(panel, key), f"{about}: {key}", message, mend)

    if item.schema < _OLDEST_SCHEMA:
        message = f"found {item.schema}, expected {_OLDEST_SCHEMA} or newer"
        yield wrong("schema", "schemaVersion", message, "open and save it in a present Grafana")
    if not item.title.strip():
        yield wrong("title", "title", "missing, expected the dashboard's name", "add it")
    if not item.shown:
        yield wrong("schema", "panels", "it has no panels", "add one, or drop the file")
    ids: dict[int, Panel] = {}
    titles: dict[str, Panel] = {}
    for panel in item.panels:
        if panel.id < 1:
            yield wrong("panel-id", "id", "missing, expected a number from 1", "give it one: links point to it", panel)
        elif ids.setdefault(panel.id, panel) is not panel:
            message = f"{panel.id} is the id of `{named(ids[panel.id])}`, too"
            yield wrong("panel-id", "id", message, "give each its own", panel)
        if panel.title and titles.setdefault(panel.title, panel) is not panel:
            yield wrong("title", "title", "another panel here has the same title", "say how they differ", panel)
    yield from (wrong("layout", "gridPos", message, "move it", panel) for panel, message in _overlaps(item.panels))


def _overlaps(panels: Sequence[Panel]) -> Iterator[tuple[Panel, str]]:
    for number, panel in enumerate(panels):
        place = panel.place
        if place.x < 0 or place.x + place.width > _COLUMNS or place.width < 1 or place.height < 1:
            yield panel, f"it does not fit into {_COLUMNS} columns"
        for other in panels[:number]:
            across = place.x < other.place.x + other.place.width and other.place.x < place.x + place.width
            down = place.y < other.place.y + other.place.height and other.place.y < place.y + place.height
            if across and down:
                yield panel, f"it lies over `{named(other)}`"


def variables(dashboard: Dashboard, catalogue: Catalogue) -> Iterator[Finding]:
    """Yield what is wrong with variables: used or declared in vain, of one value or of none."""
    declared = {variable.name: variable for variable in dashboard.variables}
    used = {name for name, _ in users_of(dashboard)}
    for panel in dashboard.shown:
        for query in panel.queries:
            where, key = f"{dashboard.file}:{query.line}", f"{named(panel)}: {query.ref}"
            for name in names_in(query.expr):
                if name not in declared and name not in MACROS and not _BUILT_IN.fullmatch(name):
                    known = ", ".join(declared) or "none"
                    yield Finding("variable", where, key, f"${name} is not declared", f"declared are: {known}")
            for label, value in _exactly(query, declared):
                message = f'{label}="{value}" takes one value, the variable may have many'
                yield Finding("variable", where, key, message, f'write {label}=~"{value}"')
    for variable in dashboard.variables:
        where, key = f"{dashboard.file}:{variable.line}", f"${variable.name}"
        if variable.name not in used:
            yield Finding("variable", where, key, "no query uses it", "use it, or drop it")
        yield from (Finding("variable", where, key, *told) for told in _values(variable, catalogue))


def _exactly(query: Query, declared: Mapping[str, Variable]) -> Iterator[tuple[str, str]]:
    """Yield (label, value) of the matchers that hold a variable of many values to be one value."""
    for match in _ONE_VALUE.finditer(query.expr):
        if any(declared[name].many for name in names_in(match["value"]) if name in declared):
            yield match["label"], match["value"]


def _values(variable: Variable, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    listed = label_values(variable)
    if variable.kind == "query" and listed is None:
        yield f"cannot be read: {variable.query}", "write label_values(METRIC{...}, LABEL)"
    if listed is None or catalogue.empty:
        return
    text, label = listed
    try:
        taken = [series for node in selectors(parse(text)) for series in catalogue.find(node)] if text else []
    except PromqlError as error:
        yield f"cannot be read: {error}", "write label_values(METRIC{...}, LABEL)"
        return
    if text and not any(label in dict(series.labels) for series in taken):
        yield f"no recorded series of {text} has the label {label}", "name a metric that has it"
