"""Whether an alert on a running stack did what its rule says: from what was struck, evaluated and delivered. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.model.rule import Job, Rule
from harness.planning.promql.parse import parse
from harness.planning.promql.syntax import selectors
from harness.planning.rules.catalogue import Catalogue
from harness.planning.rules.lint import delay_bound_s
from harness.planning.rules.routing import Routing, routes_of

# What scheduling, HTTP and a busy machine may add to a prediction: real seconds, whatever the time scale.
BUSY_S = 1.5
_GAP = 2.5  # evaluations without a sample end an episode
_LATE = 2  # evaluations that `for` may be held longer: one to its end, one that was missed

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """What the files say of a rule, seconds: from a lasting fault to firing, to its delivery, from the mend to its end.

    `receiver` is who must hear of it.
    """

    fires_s: float
    delivered_s: float
    resolved_s: float
    receiver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Struck:
    """A fault that was brought in for one alert, at epoch seconds `began`, and mended at `mended`.

    `labels` must be among the alert's; the value that it tells lies in [`low`, `high`]. `shows_s` is how long the
    fault itself takes to be seen by a scrape, `lingers_s` how long it lasts after its mend. `may` are other alerts that
    are right to fire meanwhile, up to `after_s` after the mend.
    """

    alert: str
    began: float
    mended: float
    labels: Labels = field(default_factory=dict[str, str])
    low: float = float("-inf")
    high: float = float("inf")
    shows_s: float = 0.0
    lingers_s: float = 0.0
    may: frozenset[str] = frozenset()
    after_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """One series of an alert as Prometheus kept it: the evaluations, epoch seconds, at which it waited and fired."""

    alert: str
    labels: Labels
    pending: tuple[float, ...]
    firing: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """One alert of one notification, as a receiver got it at epoch seconds `at`."""

    receiver: str
    alert: str
    labels: Labels
    annotations: Labels
    firing: bool
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """All of a run, watched from `since` to `until`, epoch seconds."""

    since: float
    until: float
    evaluated: tuple[Evaluated, ...]
    delivered: tuple[Delivered, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a run showed of a rule; seconds are real ones since the fault, or since its mend for `resolved_s`."""

    fired_s: float | None
    delivered_s: float | None
    resolved_s: float | None
    told: float | None
    silent: bool
    problems: tuple[str, ...]

    @property
    def proven(self) -> bool:
        """Whether nothing is wanting."""
        return not self.problems


def foretell(rule: Rule, jobs: Sequence[Job], catalogue: Catalogue, routing: Routing) -> Foretold:
    """Return what the files promise of a rule, as they are: scaled ones for a stack whose time is compressed."""
    tree = parse(rule.expr)
    intervals = {job.name: job.interval_s for job in jobs}
    scraped = [intervals[j] for s in selectors(tree) for j in catalogue.jobs(s) if j in intervals]
    sample = max(scraped, default=rule.interval_s)
    fires = delay_bound_s(rule, tree, sample)
    route = next(routes_of(routing.root, {"alertname": rule.name, **dict(rule.labels)}))
    return Foretold(
        fires_s=fires,
        delivered_s=fires + route.group_wait_s,
        resolved_s=fires - rule.for_s + rule.keep_firing_s + route.group_interval_s,
        receiver=route.receiver,
    )


def show(
    rule: Rule, struck: Struck | None, foretold: Foretold, observed: Observed, others: Sequence[Struck] = ()
) -> Shown:
    """Judge one rule; `struck` is None for one that nothing was done to, `others` are all other faults of the run."""
    evaluated = [one for one in observed.evaluated if one.alert == rule.name]
    heard = [one for one in observed.delivered if one.alert == rule.name]
    problems: list[str] = []
    windows = list(_windows(rule, struck, foretold, others))
    loud = list(_loud(evaluated, heard, observed, windows))
    problems += loud
    if struck is None:
        return Shown(
            fired_s=None, delivered_s=None, resolved_s=None, told=None, silent=not loud, problems=tuple(problems)
        )
    mine = [one for one in evaluated if _fits(struck.labels, one.labels)]
    fired = _fired(rule, struck, foretold, mine, problems)
    own = [one for one in heard if _fits(struck.labels, one.labels) and one.at >= struck.began]
    delivered, told = _delivery(rule, struck, foretold, own, problems)
    resolved = _resolution(struck, foretold, own, delivered, problems)
    return Shown(
        fired_s=fired,
        delivered_s=delivered,
        resolved_s=resolved,
        told=told,
        silent=not loud,
        problems=tuple(problems),
    )


def _fits(wanted: Labels, found: Labels) -> bool:
    return all(found.get(name) == value for name, value in wanted.items())


def episodes(one: Evaluated, interval_s: float) -> Iterator[tuple[float | None, float, float]]:
    """Yield (began to wait, first firing, last firing) of each time that a series fired."""
    runs: list[list[float]] = []
    for at in one.firing:
        if runs and at - runs[-1][1] <= _GAP * interval_s:
            runs[-1][1] = at
        else:
            runs.append([at, at])
    for fired, last in runs:
        yield _waited(one, fired, interval_s), fired, last


def _waited(one: Evaluated, fired: float, interval_s: float) -> float | None:
    first, next_ = None, fired
    for at in reversed([at for at in one.pending if at < fired]):
        if next_ - at > _GAP * interval_s:
            break
        first = next_ = at
    return first


def _fired(
    rule: Rule, struck: Struck, foretold: Foretold, mine: Sequence[Evaluated], problems: list[str]
) -> float | None:
    found = [
        (fired, waited, last)
        for one in mine
        for waited, fired, last in episodes(one, rule.interval_s)
        if struck.began <= fired
    ]
    if not found:
        problems.append("it never fired")
        return None
    fired, waited, _ = min(found, key=lambda item: item[0])
    took, bound = fired - struck.began, foretold.fires_s + struck.shows_s + BUSY_S
    if took > bound:
        problems.append(f"it fired after {took:.1f} s, {bound:.1f} s are foretold")
    held, step = (0.0 if waited is None else fired - waited), rule.interval_s
    if rule.for_s and not rule.for_s - step / 2 <= held <= rule.for_s + _LATE * step + step / 2:
        problems.append(f"it waited {held:.1f} s before it fired, its `for` is {rule.for_s:.1f} s")
    stayed = max(last for f, _, last in found if f <= struck.mended or f == fired)
    if stayed < struck.mended - _GAP * step:
        problems.append(f"it ended {struck.mended - stayed:.1f} s before the mend")
    return took


def _delivery(
    rule: Rule, struck: Struck, foretold: Foretold, own: Sequence[Delivered], problems: list[str]
) -> tuple[float | None, float | None]:
    """Return when the alert was first delivered, and the value that it told."""
    fired = [one for one in own if one.firing]
    if not fired:
        problems.append("no receiver ever got it")
        return None, None
    first = min(fired, key=lambda one: one.at)
    took, bound = first.at - struck.began, foretold.delivered_s + struck.shows_s + BUSY_S
    if took > bound:
        problems.append(f"it was delivered after {took:.1f} s, {bound:.1f} s are foretold")
    if first.receiver != foretold.receiver:
        problems.append(f"{first.receiver} got it, expected {foretold.receiver}")
    for name, value in rule.labels:
        if "{{" not in value and first.labels.get(name) != value:
            problems.append(f"label {name} is {first.labels.get(name)!r}, expected {value!r}")
    missing = [name for name, _ in rule.annotations if not first.annotations.get(name, "").strip()]
    if missing:
        problems.append(f"annotations {', '.join(missing)} are empty")
    told = told_value(rule, first.annotations)
    if told is None:
        problems.append("its annotations tell no value")
    elif not struck.low <= told <= struck.high:
        problems.append(f"it tells {told:.4g}, the fault is {struck.low:.4g} to {struck.high:.4g}")
    return took, told


def _resolution(
    struck: Struck, foretold: Foretold, own: Sequence[Delivered], delivered: float | None, problems: list[str]
) -> float | None:
    if delivered is None:
        return None
    ended = [one.at for one in own if not one.firing and one.at >= struck.mended]
    if not ended:
        problems.append("its end was never delivered")
        return None
    took, bound = min(ended) - struck.mended, foretold.resolved_s + struck.lingers_s + BUSY_S
    if took > bound:
        problems.append(f"its end was delivered after {took:.1f} s, {bound:.1f} s are foretold")
    return took


def _windows(
    rule: Rule, struck: Struck | None, foretold: Foretold, others: Sequence[Struck]
) -> Iterator[tuple[float, float, Labels]]:
    """Yield when, and with which labels, the rule is right to fire."""
    ends = foretold.resolved_s + BUSY_S
    if struck is not None:
        yield struck.began, struck.mended + struck.lingers_s + ends, struck.labels
    for one in others:
        if rule.name in one.may:
            yield one.began, one.mended + one.after_s + ends, {}


def _loud(
    evaluated: Sequence[Evaluated],
    heard: Sequence[Delivered],
    observed: Observed,
    windows: Sequence[tuple[float, float, Labels]],
) -> Iterator[str]:
    """Yield when the rule fired, or was told as firing, while no fault that it is about was there."""

    def wrong(at: float, labels: Labels) -> bool:
        return observed.since <= at <= observed.until and not any(
            began <= at <= ended and _fits(wanted, labels) for began, ended, wanted in windows
        )

    for one in evaluated:
        at = next((at for at in one.firing if wrong(at, one.labels)), None)
        if at is not None:
            yield f"it fired without its fault {at - observed.since:.1f} s into the run: {_brief(one.labels)}"
    for told in heard:
        if told.firing and wrong(told.at, told.labels):
            yield (
                f"{told.receiver} was told of it without its fault {told.at - observed.since:.1f} s into the run: "
                f"{_brief(told.labels)}"
            )


def _brief(labels: Labels) -> str:
    kept = sorted((k, v) for k, v in labels.items() if k not in {"alertname", "severity", "component", "symptom"})
    return ", ".join(f"{k}={v}" for k, v in kept) or "no labels"


_PLACEHOLDER = re.compile(r"\{\{\s*(.*?)\s*\}\}")
_BLOCK = re.compile(r"\{\{-?\s*(?:with|if|range)\b.*?\{\{-?\s*end\s*-?\}\}", re.DOTALL)
_VALUE = re.compile(r"\$value(?:\s*\|\s*(?P<form>\w+)(?:\s+\"[^\"]*\")?)?")
_NUMBER = r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|Inf|NaN)"
_SHAPES = {
    "humanizePercentage": rf"{_NUMBER}%",
    "humanizeDuration": r"-?(?:[\d.]+(?:d|h|ms|us|m|s)\s?)+",
    "humanize": rf"{_NUMBER}[a-zA-Z]?",
}
_PREFIXES = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_UNITS_S = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}


def told_value(rule: Rule, annotations: Labels) -> float | None:
    """Return the live value that the annotations of an alert tell, None where none does.

    A rule's own template says where in the text it stands and in which form.
    """
    for name, template in rule.annotations:
        form = next((m["form"] or "" for p in _PLACEHOLDER.findall(template) if (m := _VALUE.fullmatch(p))), None)
        if form is None:
            continue
        match = re.fullmatch(_pattern(template), annotations.get(name, "").strip(), re.DOTALL)
        if match:
            return _number(match["value"], form)
    return None


def _pattern(template: str) -> str:
    """Return what a text looks like that was made from a template: anything in its placeholders, but for the value."""
    text = _BLOCK.sub("{{ . }}", template.strip())
    parts, found, place = list[str](), False, 0
    for match in _PLACEHOLDER.finditer(text):
        parts.append(re.escape(text[place : match.start()]))
        value = _VALUE.fullmatch(match[1])
        if value and not found:
            found = True
            parts.append(f"(?P<value>{_SHAPES.get(value['form'] or '', _NUMBER)})")
        else:
            parts.append(".*?")
        place = match.end()
    return "".join([*parts, re.escape(text[place:])])


def _number(text: str, form: str) -> float:
    if form == "humanizePercentage":
        return float(text.rstrip("%")) / 100
    if form == "humanizeDuration":
        sign = -1.0 if text.startswith("-") else 1.0
        parts = re.findall(r"([\d.]+)(ms|us|d|h|m|s)", text)
        return sign * sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if form == "humanize" and text[-1].isalpha() and text[-1] in _PREFIXES:
        return float(text[:-1]) * _PREFIXES[text[-1]]
    return float(text)
