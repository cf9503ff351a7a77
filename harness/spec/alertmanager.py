"""alertmanager.yml in, routes, receivers and inhibitions with their lines out."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Never, cast

from harness.model.errors import SpecError
from harness.planning.rules.routing import Inhibition, Match, Route, Routing
from harness.planning.time_scale import parse_duration
from harness.spec.document import Document, Key, read_document

_MATCHER = re.compile(r"""^\s*"?(?P<label>[a-zA-Z_]\w*)"?\s*(?P<op>=~|!~|!=|=)\s*(?P<value>.*?)\s*$""")
_ADDRESSES = ("url", "api_url", "webhook_url")


def load_routing(path: Path) -> Routing:
    """Read the file. Raises SpecError with file, line and mend; what amtool alone knows is left to it."""
    document = read_document(path)
    data = cast("dict[str, Any]", document.data)
    if not isinstance(data.get("route"), dict):
        raise document.problem(
            ("route",), "missing, expected the route of all alerts", mend="add `route: {receiver: ...}`"
        )
    receivers: dict[str, tuple[str, tuple[str, ...]]] = {}
    for index, item in enumerate(_list(document, ("receivers",))):
        name = str(item.get("name", ""))
        receivers[name] = (document.where(("receivers", index)), tuple(_addresses(item)))
    inhibitions = [
        Inhibition(
            _matches(document, ("inhibit_rules", i, "source_matchers")),
            _matches(document, ("inhibit_rules", i, "target_matchers")),
            tuple(str(label) for label in cast("list[object]", equal)),
            document.where(("inhibit_rules", i)),
        )
        for i, item in enumerate(_list(document, ("inhibit_rules",)))
        if isinstance(equal := item.get("equal", []), list) or _no_list(document, ("inhibit_rules", i, "equal"))
    ]
    return Routing(_route(document, ("route",), Route("", (), "")), receivers, tuple(inhibitions))


def _route(document: Document, at: Key, above: Route) -> Route:
    data = cast("dict[str, Any]", _at(document, at))
    own = Route(
        str(data.get("receiver", above.receiver)),
        _matches(document, (*at, "matchers")),
        document.where(at),
        carries_on=bool(data.get("continue", False)),
        group_wait_s=_seconds(document, (*at, "group_wait"), above.group_wait_s),
        group_interval_s=_seconds(document, (*at, "group_interval"), above.group_interval_s),
    )
    routes = [_route(document, (*at, "routes", i), own) for i in range(len(_list(document, (*at, "routes"))))]
    return replace(own, routes=tuple(routes))


def _no_list(document: Document, at: Key) -> Never:
    raise document.problem(at, "expected a list of labels", mend="write `equal: [LABEL]`")


def _seconds(document: Document, at: Key, inherited: float) -> float:
    found = _at(document, at)
    if found is None:
        return inherited
    try:
        return parse_duration(str(found))
    except ValueError as error:
        raise document.problem(at, str(error), mend="write a duration like 30s or 5m") from None


def _matches(document: Document, at: Key) -> tuple[Match, ...]:
    found: list[Match] = []
    raw = _at(document, at)
    items = cast("list[object]", raw) if isinstance(raw, list) else []
    for index, text in enumerate(items):
        match = _MATCHER.match(str(text))
        if match is None:
            mend = 'write label="value", with one of = != =~ !~'
            raise document.problem((*at, index), f"found `{text}`, expected a matcher", mend=mend)
        found.append(Match(match["label"], match["op"], match["value"].strip('"')))
        _compiled(document, (*at, index), found[-1])
    return (*found, *_older(document, at))


def _older(document: Document, at: Key) -> Iterator[Match]:
    """Yield the matchers of the older form, which Alertmanager still takes: mappings of a label to its value."""
    prefix = str(at[-1]).removesuffix("matchers")  # "", "source_", "target_"
    for name, op in ((f"{prefix}match", "="), (f"{prefix}match_re", "=~")):
        raw = _at(document, (*at[:-1], name))
        for label, value in (cast("dict[object, object]", raw) if isinstance(raw, dict) else {}).items():
            match = Match(str(label), op, str(value))
            _compiled(document, (*at[:-1], name, str(label)), match)
            yield match


def _compiled(document: Document, at: Key, match: Match) -> None:
    if match.op in {"=~", "!~"}:
        try:
            re.compile(match.value)
        except re.error as error:
            message = f"found the pattern `{match.value}`, expected a regular expression: {error}"
            raise document.problem(at, message, mend="mend the pattern") from None


def _at(document: Document, at: Key) -> object:
    value: Any = document.data
    for key in at:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _list(document: Document, at: Key) -> list[dict[str, Any]]:
    value = _at(document, at)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in cast("list[object]", value)):
        raise SpecError(
            "expected a list of mappings", where=document.where(at), key=str(at[-1]), mend="write `- key: ...`"
        )
    return cast("list[dict[str, Any]]", value)


def _addresses(receiver: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for configs in receiver.values():
        if isinstance(configs, list):
            for config in cast("list[Any]", configs):
                if isinstance(config, dict):
                    entries = cast("dict[str, Any]", config)
                    found += [str(entries[key]) for key in _ADDRESSES if key in entries]
    return found
