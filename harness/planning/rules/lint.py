"""What is wrong with a rule by its text alone: names, windows, units, bounds, labels, promises. One function a trap."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.model.rule import Finding, Job, Monitoring, Rule
from harness.planning.promql.parse import PromqlError, parse
from harness.planning.promql.steady import COUNTED, NotSteadyError, matches
from harness.planning.promql.syntax import (
    COMPARISONS,
    Aggregate,
    Binary,
    Call,
    Node,
    Selector,
    Subquery,
    bare,
    comparisons,
    constant,
    selectors,
    walk,
)
from harness.planning.rules.catalogue import Catalogue
from harness.planning.rules.mutate import alternatives
from harness.planning.time_scale import format_duration, parse_duration

SEVERITIES = ("critical", "warning", "info", "page", "ticket")
_SCRAPES_IN_WINDOW = 4
_FOR_COUNTERS = (*COUNTED, "absent", "absent_over_time")
_UNSEEN = ("present_over_time", "absent_over_time")  # their windows look back, they do not delay
# What a metric can reach at all, by name. Sources: Triton's and DCGM's documentation, the naming rule for ratios.
_RANGES: tuple[tuple[str, float], ...] = (
    (r"nv_(gpu|cpu)_utilization", 1.0),
    (r"DCGM_FI_DEV_(GPU|MEM_COPY|ENC|DEC)_UTIL", 100.0),
    (r".*_ratio", 1.0),
    (r".*_(percent|percentage|perc)", 100.0),
    (r"vllm:kv_cache_usage_perc|aphrodite:kv_cache_usage_perc", 1.0),
)
_NOT_SHARES = r"redis_mem_fragmentation_ratio"
# A number that another metric bounds.
_CEILINGS = {
    "redis_connected_clients": "redis_config_maxclients",
    "redis_memory_used_bytes": "redis_memory_max_bytes",
    "process_open_fds": "process_max_fds",
    "node_filefd_allocated": "node_filefd_maximum",
    "node_memory_MemAvailable_bytes": "node_memory_MemTotal_bytes",
    "node_filesystem_avail_bytes": "node_filesystem_size_bytes",
    "container_memory_working_set_bytes": "container_spec_memory_limit_bytes",
    "nv_gpu_memory_used_bytes": "nv_gpu_memory_total_bytes",
    "ollama_memory_bytes": "ollama_memory_limit_bytes",
}
_OUTCOMES = frozenset({"outcome", "status", "code", "result"})  # labels that split a whole into good and bad


@dataclass(frozen=True, slots=True)
class _About:
    """One parsed rule with what surrounds it."""

    rule: Rule
    tree: Node
    catalogue: Catalogue
    jobs: Mapping[str, Job]
    records: Mapping[str, Sequence[Rule]]

    def finding(self, check: str, offset: int, message: str, mend: str) -> Finding:
        return Finding(check, self.rule.where("expr", offset), f"{self.rule.name}: expr", message, mend)


def lint(monitoring: Monitoring) -> list[Finding]:
    """Return everything that is wrong with a system's rules by their text and the recorded series."""
    catalogue = Catalogue.of(monitoring)
    jobs = {job.name: job for job in monitoring.jobs}
    records: dict[str, list[Rule]] = {}
    for rule in monitoring.rules:
        if not rule.alert:
            records.setdefault(rule.name, []).append(rule)
    found: list[Finding] = list(_duplicates(monitoring.rules))
    trees: list[tuple[Rule, Node]] = []
    for rule in monitoring.rules:
        if rule.alert:
            found += _metadata(rule)
        try:
            tree = parse(rule.expr)
        except PromqlError as error:
            mend = "write it as promtool takes it; `@` and names that only Prometheus 3 knows are not analysed"
            where = rule.where("expr", error.offset)
            found.append(Finding("syntax", where, f"{rule.name}: expr", f"cannot be read: {error}", mend))
            continue
        about = _About(rule, tree, catalogue, jobs, records)
        try:
            found += [finding for check in _CHECKS for finding in check(about)]
        except NotSteadyError as error:
            mend = "write the pattern with what Python's and Go's regular expressions have in common"
            found.append(Finding("syntax", rule.where("expr"), f"{rule.name}: expr", f"cannot be read: {error}", mend))
            continue
        trees.append((rule, tree))
    found += _uncovered(trees, catalogue, jobs)
    return found


def _names(about: _About) -> Iterator[Finding]:
    if about.catalogue.empty:
        return
    for node in selectors(about.tree):
        if not node.name or node.name in about.catalogue.records:
            continue
        if not about.catalogue.knows(node.name):
            near = about.catalogue.near(node.name)
            mend = f"did you mean `{near}`?" if near else "name one that a scrape has, or record the scrapes again"
            yield about.finding("unknown-metric", node.start, f"no recorded scrape has `{node.name}`", mend)
        elif not about.catalogue.find(node):
            yield _no_series(about, node)
        else:
            yield from _alternatives(about, node)


def _no_series(about: _About, node: Selector) -> Finding:
    text = about.rule.expr[node.start : node.end].partition("[")[0]
    for matcher in node.matchers:
        seen = {dict(item.labels).get(matcher.label, "") for item in about.catalogue.named(node.name)}
        if matcher.op in {"=", "=~"} and not any(value and value == matcher.value for value in seen):
            values = ", ".join(sorted(seen - {""})[:6]) or "nothing"
            mend = f"label {matcher.label} has been seen as: {values}; a series must exist before its first event"
            return about.finding("no-series", matcher.start, f"no recorded series matches {text}", mend)
    mend = "a ratio whose numerator has no series yet vanishes: make the service initialise its label values"
    return about.finding("no-series", node.start, f"no recorded series matches {text}", mend)


def _alternatives(about: _About, node: Selector) -> Iterator[Finding]:
    for matcher in node.matchers:
        parts = alternatives(matcher)
        if matcher.op != "=~" or len(parts) == 1:
            continue
        seen = {dict(item.labels).get(matcher.label, "") for item in about.catalogue.named(node.name)}
        for part in parts:
            if part not in seen:
                mend = f"label {matcher.label} has been seen as: {', '.join(sorted(seen - {''})[:6])}"
                yield about.finding(
                    "no-series", matcher.start, f"no recorded series has {matcher.label}={part!r}", mend
                )


def _bounds(about: _About) -> Iterator[Finding]:
    for node in comparisons(about.tree):
        for side, other in ((node.lhs, node.rhs), (node.rhs, node.lhs)):
            threshold, found = constant(other), _quantile_in(side)
            if threshold is None or found is None:
                continue
            call, factor = found
            if len(call.args) < 2 or not selectors(call.args[1]):  # noqa: PLR2004 - a quantile and its buckets
                continue
            selector = selectors(call.args[1])[0]
            bounds = about.catalogue.bounds(selector)
            limit = threshold / factor
            finite = [b for b in bounds if math.isfinite(b)]
            if not bounds:
                continue
            shown = ", ".join(f"{b:g}" for b in finite[-4:])
            if limit >= finite[-1]:
                message = (
                    f"{limit:g} is not below the last bucket of {selector.name} ({finite[-1]:g}): it can never fire"
                )
                yield about.finding(
                    "bucket-bound", other.start, message, f"give it buckets above (they end in {shown})"
                )
            elif limit not in finite:
                message = f"{limit:g} is no bucket bound of {selector.name}: the quantile there is a guess"
                near = min(finite, key=lambda b: abs(b - limit))
                yield about.finding(
                    "bucket-bound", other.start, message, f"use a bound, or add one ({near:g} is nearest)"
                )


def _quantile_in(node: Node) -> tuple[Call, float] | None:
    """Return the histogram_quantile that a side of a comparison is, and what it is multiplied by."""
    node = bare(node)
    if isinstance(node, Call) and node.func == "histogram_quantile":
        return node, 1.0
    if isinstance(node, Binary) and node.op in {"*", "/"}:
        factor, inner = constant(node.rhs), _quantile_in(node.lhs)
        if inner and factor:
            return inner[0], inner[1] * factor if node.op == "*" else inner[1] / factor
    return None


def _windows(about: _About) -> Iterator[Finding]:
    for node in selectors(about.tree):
        if node.range_s is None:
            continue
        intervals = [about.jobs[j].interval_s for j in about.catalogue.jobs(node) if j in about.jobs]
        least = _SCRAPES_IN_WINDOW * max(intervals, default=0.0)
        if node.range_s < least:
            message = (
                f"the window of {format_duration(node.range_s)} holds less than {_SCRAPES_IN_WINDOW} scrapes of "
                f"{format_duration(max(intervals))}"
            )
            yield about.finding("window", node.start, message, f"make it at least {format_duration(least)}")


def _rate_order(about: _About) -> Iterator[Finding]:
    for node in walk(about.tree):
        if not isinstance(node, Call) or node.func not in COUNTED:
            continue
        for arg in node.args:
            inner = bare(arg)
            summed = isinstance(inner, Subquery) and any(isinstance(item, Aggregate) for item in walk(inner.expr))
            if isinstance(inner, Selector) and inner.name in about.records:
                summed = any(isinstance(item, Aggregate) for r in about.records[inner.name] for item in _tree(r))
            if summed:
                message = f"{node.func}() of a sum: a counter's reset hides in the sum of the others"
                yield about.finding("rate-order", node.start, message, "take the rate first, sum then")


def _tree(rule: Rule) -> Iterator[Node]:
    try:
        return walk(parse(rule.expr))
    except PromqlError:
        return iter(())


def _quantile_labels(about: _About) -> Iterator[Finding]:
    for node in walk(about.tree):
        if not isinstance(node, Call) or node.func != "histogram_quantile" or len(node.args) < 2:  # noqa: PLR2004
            continue
        inner = bare(node.args[1])
        if isinstance(inner, Aggregate) and ("le" in inner.labels) == inner.without:
            message = "the buckets are summed without `le`: there is no histogram left"
            yield about.finding("quantile-le", inner.start, message, "sum by (le, ...)")


def _counters(about: _About) -> Iterator[Finding]:
    ruled: set[int] = set()
    for node in walk(about.tree):
        if isinstance(node, Call):
            inside = [s for arg in node.args for s in selectors(arg)]
            ruled |= {id(s) for s in inside if s.range_s is not None or node.func in _FOR_COUNTERS}
            if node.func in COUNTED:
                for selector in inside:
                    if about.catalogue.counter(selector.name) is False:
                        message = f"{node.func}() of `{selector.name}`, which is a gauge"
                        yield about.finding("counter", selector.start, message, "use delta() or deriv(), or a counter")
    for selector in selectors(about.tree):
        if (
            id(selector) not in ruled
            and about.catalogue.counter(selector.name)
            and not _compared_to_zero(about, selector)
        ):
            message = f"`{selector.name}` is a counter and is compared as it stands: it only ever grows"
            yield about.finding("counter", selector.start, message, "compare its rate() or increase()")


def _compared_to_zero(about: _About, selector: Selector) -> bool:
    return any(n.op == "==" and selector in selectors(n.lhs) and constant(n.rhs) == 0 for n in comparisons(about.tree))


def _units(about: _About) -> Iterator[Finding]:
    for node in walk(about.tree):
        if not isinstance(node, Binary) or node.op not in COMPARISONS:
            continue
        threshold, name = constant(node.rhs), _direct(node.lhs)
        top = next((limit for pattern, limit in _RANGES if re.fullmatch(pattern, name)), None)
        if threshold is None or top is None or re.fullmatch(_NOT_SHARES, name):
            continue
        if threshold > top or (threshold == top and node.op == ">"):
            message = f"`{name}` goes from 0 to {top:g}: it is never {node.op} {threshold:g}"
            yield about.finding(
                "unit", node.rhs.start, message, f"write the threshold in its unit, {threshold / 100 * top:g}"
            )
        elif top > 1 and 0 < threshold <= 1:
            message = f"`{name}` goes from 0 to {top:g}: {node.op} {threshold:g} is nearly always true"
            yield about.finding(
                "unit", node.rhs.start, message, f"write the threshold in its unit, {threshold * top:g}"
            )


def _ceilings(about: _About) -> Iterator[Finding]:
    for node in comparisons(about.tree):
        threshold, name = constant(node.rhs), _direct(node.lhs)
        ceiling = _CEILINGS.get(name, "")
        if threshold is None or node.op not in {">", ">="}:
            continue
        values = [item.value for item in about.catalogue.named(ceiling) if item.value > 0]
        if values and threshold >= max(values):
            message = f"`{name}` cannot be above `{ceiling}`, which was recorded as {max(values):g}: it never fires"
            yield about.finding(
                "ceiling", node.rhs.start, message, f"compare the share, {name} / {ceiling}, or raise it"
            )


def _shares(about: _About) -> Iterator[Finding]:
    """A share is never above 1, and of a whole that holds the part."""
    for node in walk(about.tree):
        if not isinstance(node, Binary) or node.op != "/":
            continue
        part, whole = selectors(node.lhs), selectors(node.rhs)
        if len(part) != 1 or len(whole) != 1:
            continue
        known = part[0].name in _CEILINGS and _CEILINGS[part[0].name] == whole[0].name
        over = [n for n in comparisons(about.tree) if bare(n.lhs) is node and (constant(n.rhs) or 0.0) > 1]
        for comparison in over if known else ():
            message = f"{part[0].name} is a share of {whole[0].name}: it is never {comparison.op} what is above 1"
            yield about.finding("unit", comparison.rhs.start, message, "write the threshold as a share of 1")
        yield from _left_out(about, node, part[0], whole[0])


def _left_out(about: _About, node: Binary, part: Selector, whole: Selector) -> Iterator[Finding]:
    """Errors of all that is no error are no error rate: they pass 1, and every threshold too early."""
    values = [{m.label: (m.op, m.value) for m in one.matchers if m.label != "le"} for one in (part, whole)]
    ours, its = ({frozenset(item.labels) for item in about.catalogue.find(one)} for one in (part, whole))
    apart = {label for label in {*values[0], *values[1]} if values[0].get(label) != values[1].get(label)}
    if (
        part.name == whole.name
        and about.catalogue.counter(part.name)
        and apart
        and apart <= _OUTCOMES
        and not ours & its
    ):
        text = about.rule.expr[whole.start : whole.end].partition("[")[0]
        message = f"{text} leaves out what it is divided into: that is no share"
        yield about.finding("share", node.rhs.start, message, "divide by all outcomes, the bad ones among them")


def _instants(about: _About) -> Iterator[Finding]:
    """What is no news after one sample."""
    for node in walk(about.tree):
        if isinstance(node, Call) and node.func in {"irate", "idelta"} and about.rule.alert:
            message = f"{node.func}() looks at two samples alone: one better than the others begins `for` anew"
            yield about.finding("window", node.start, message, "use rate() or delta()")
    scraped = [
        about.jobs[j].interval_s for s in selectors(about.tree) for j in about.catalogue.jobs(s) if j in about.jobs
    ]
    slowest, rule = max(scraped, default=0.0), about.rule
    if rule.alert and 0 < rule.for_s < slowest:
        message = (
            f"`for` is less than the {format_duration(slowest)} between two scrapes: it waits for no second sample"
        )
        yield Finding(
            "for", rule.where("for"), f"{rule.name}: for", message, f"make it {format_duration(slowest)} or more"
        )


def _direct(node: Node) -> str:
    """Return the metric that a side shows in its own unit, "" where it is calculated."""
    node = bare(node)
    if isinstance(node, Aggregate) and node.op in {"max", "min", "avg"}:
        return _direct(node.expr)
    if isinstance(node, Call) and node.func in {"max_over_time", "min_over_time", "avg_over_time", "last_over_time"}:
        return _direct(node.args[0])
    return node.name if isinstance(node, Selector) else ""


def _absent_up(about: _About) -> Iterator[Finding]:
    """`up == 0` needs absent(up) beside it."""
    calls = [n for n in walk(about.tree) if isinstance(n, Call) and n.func.startswith("absent")]
    guarded = [s for call in calls for s in selectors(call) if s.name == "up"]
    unless = any(isinstance(n, Binary) and n.op == "unless" for n in walk(about.tree))
    for node in comparisons(about.tree):
        left = bare(node.lhs)
        if not isinstance(left, Selector) or left.name != "up" or constant(node.rhs) not in {0, 1} or unless:
            continue
        wanted = {(m.op, m.value) for m in left.matchers if m.label == "job"}
        if not any(wanted <= {(m.op, m.value) for m in g.matchers if m.label == "job"} for g in guarded):
            text = about.rule.expr[left.start : left.end]
            message = f"`{text} == 0` misses a target that left discovery: then there is no `up` at all"
            yield about.finding("absent", node.start, message, f"add `or absent({text})`")


def _uncovered(trees: Sequence[tuple[Rule, Node]], catalogue: Catalogue, jobs: Mapping[str, Job]) -> Iterator[Finding]:
    """Every job that an alert depends on must have an alert that notices when it is gone."""
    watched = [s for _, tree in trees for s in _watched(tree)]
    seen: set[str] = set()
    for rule, tree in trees:
        if not rule.alert:
            continue
        for selector in selectors(tree):
            for job in sorted(catalogue.jobs(selector) & set(jobs) - seen):
                seen.add(job)
                labels = {"__name__": "up", "job": job, **dict(jobs[job].labels)}
                if not any(matches(s, labels) for s in watched):
                    message = f"nothing fires when job {job}, which it looks at, yields no series any more"
                    mend = f'add a rule with absent(up{{job="{job}"}})'
                    yield Finding("uncovered", rule.where("expr", selector.start), f"{rule.name}: expr", message, mend)


def _watched(tree: Node) -> Iterator[Selector]:
    for node in walk(tree):
        if isinstance(node, Call) and (node.func.startswith("absent") or node.func == "present_over_time"):
            yield from (s for s in selectors(node) if s.name == "up")


def delay_bound_s(rule: Rule, tree: Node, sample_s: float) -> float:
    """Return how long a lasting fault may take to fire: the window it fills, `for`, a scrape and an evaluation."""
    windows = [0.0]
    for node in walk(tree):
        if isinstance(node, Call) and node.func not in _UNSEEN:
            windows += [arg.range_s or 0.0 for arg in node.args if isinstance(arg, Selector | Subquery)]
    late = min(
        (max(0.0, s.offset_s) for s in selectors(tree)), default=0.0
    )  # when even the newest that it looks at is old
    return max(windows) + late + rule.for_s + sample_s + rule.interval_s


def _delays(about: _About) -> Iterator[Finding]:
    promised = about.rule.annotation("detects_within")
    if not promised:
        return
    where, key = about.rule.where("annotations.detects_within"), f"{about.rule.name}: annotations.detects_within"
    try:
        within = parse_duration(promised)
    except ValueError as error:
        yield Finding("delay", where, key, str(error), "write a duration like 4m30s")
        return
    scraped = [
        about.jobs[j].interval_s for s in selectors(about.tree) for j in about.catalogue.jobs(s) if j in about.jobs
    ]
    needed = delay_bound_s(about.rule, about.tree, max(scraped, default=about.rule.interval_s))
    if within < needed:
        message = (
            f"it may take {format_duration(needed)} to fire (window, `for`, a scrape, an evaluation), not {promised}"
        )
        yield Finding(
            "delay", where, key, message, f"promise {format_duration(needed)}, or shorten the window or `for`"
        )


def _newer(about: _About) -> Iterator[Finding]:
    """What Prometheus 3 changed."""
    for node in walk(about.tree):
        if isinstance(node, Call) and node.func in {"holt_winters", "double_exponential_smoothing"}:
            message = f"{node.func}() has another name in another version of Prometheus"
            yield about.finding("version", node.start, message, "use predict_linear() or a plain average")
        if isinstance(node, Selector):
            for matcher in node.matchers:
                if matcher.label in {"le", "quantile"} and matcher.op == "=" and re.fullmatch(r"\d+", matcher.value):
                    message = f'{matcher.label}="{matcher.value}" is "{matcher.value}.0" from Prometheus 3 on'
                    mend = f'write {matcher.label}=~"{matcher.value}(\\\\.0)?"'
                    yield about.finding("version", matcher.start, message, mend)


def _duplicates(rules: Sequence[Rule]) -> Iterator[Finding]:
    seen: dict[tuple[str, tuple[tuple[str, str], ...]], Rule] = {}
    for rule in rules:
        first = seen.setdefault((rule.name, tuple(sorted(rule.labels))), rule)
        if first is not rule:
            key = "alert" if rule.alert else "record"
            message = f"{rule.name} stands here twice with the same labels, first at {first.where(key)}"
            yield Finding("duplicate", rule.where(key), f"{rule.name}: {key}", message, "rename one, or drop it")


def _metadata(rule: Rule) -> Iterator[Finding]:
    def wrong(check: str, key: str, message: str, mend: str) -> Finding:
        return Finding(check, rule.where(key), f"{rule.name}: {key}", message, mend)

    severity = rule.label("severity")
    if severity not in SEVERITIES:
        found = f"found `{severity}`" if severity else "missing"
        yield wrong("label", "labels.severity", f"{found}, expected one of {', '.join(SEVERITIES)}", "add it")
    if not rule.label("component"):
        yield wrong("label", "labels.component", "missing, expected the component it is about", "add it")
    for key in ("summary", "description", "runbook_url"):
        if not rule.annotation(key).strip():
            yield wrong("annotation", f"annotations.{key}", "missing, expected a text", f"add `{key}`")
    texts = rule.annotation("summary") + rule.annotation("description")
    if texts.strip() and "$value" not in texts:
        yield wrong("annotation", "annotations.description", "does not show the live value", "add {{ $value }}")
    if ("cost" in rule.group or rule.label("symptom") == "cost") and not rule.annotation("cost_impact").strip():
        yield wrong("annotation", "annotations.cost_impact", "missing, expected what it costs", "add `cost_impact`")


_CHECKS: tuple[Callable[[_About], Iterator[Finding]], ...] = (
    _names,
    _bounds,
    _windows,
    _rate_order,
    _quantile_labels,
    _counters,
    _units,
    _ceilings,
    _shares,
    _instants,
    _absent_up,
    _delays,
    _newer,
)
