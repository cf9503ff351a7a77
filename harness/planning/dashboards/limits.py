"""What alerts and objectives bound, so that panels show those very numbers and no others.

Two expressions are about the same quantity where they agree once windows, groupings and the labels that only choose
(arm, instance, job, route, ...) are left away: `sum by (arm) (rate(x[2m]))` and `rate(x{arm=~"$arm"}[1m])`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.model.dashboard import Step
from harness.model.evidence import Source
from harness.model.objective import Against, Measure, Objective
from harness.model.rule import Rule
from harness.model.system import Signal
from harness.planning.promql.parse import PromqlError, parse
from harness.planning.promql.syntax import (
    COMPARISONS,
    Aggregate,
    Binary,
    Call,
    Matcher,
    Node,
    Selector,
    bare,
    constant,
    selectors,
)

COLOURS: Mapping[str, str] = {"info": "blue", "ticket": "orange", "warning": "orange", "page": "red", "critical": "red"}
WELL = "green"
_RANK = ("blue", "orange", "red")
_CHOOSING = ("arm", "component", "device", "environment", "instance", "job", "model", "mountpoint", "route", "service",
             "version")  # fmt: skip
_SWAPPED = {">": "<", "<": ">", ">=": "<=", "<=": ">=", "==": "==", "!=": "!="}
_RATES = ("rate", "irate")


@dataclass(frozen=True, slots=True)
class Quantity:
    """What an expression is about: a canonical text, and what it is multiplied by there."""

    text: str
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound on a quantity (at factor 1). `origin` names the alert or objective, `severity` colours it."""

    quantity: str
    op: str
    value: float
    severity: str
    origin: str

    @property
    def from_above(self) -> bool:
        """Whether what lies above is bad."""
        return self.op in {">", ">="}

    def words(self, factor: float) -> str:
        """Return "InferenceErrorRateHigh (warning) above 0.05"."""
        side = "above" if self.from_above else "at" if self.op == "==" else "below"
        return f"{self.origin} ({self.severity}) {side} {_number(self.value * factor)}"


def quantities(text: str) -> list[Quantity]:
    """Return what a query is about, one of each alternative of `or`; none where it cannot be read."""
    try:
        return [_quantity(node) for node in _alternatives(parse(text))]
    except PromqlError:
        return []


def limits_of(
    rules: Iterable[Rule], objectives: Iterable[Objective] = (), signals: Mapping[str, Signal] | None = None
) -> list[Limit]:
    """Return every bound that alerts and objectives state as a number.

    Burn rates are left out: their objectives are here. So are guards, the comparisons after `and`.
    """
    found = [limit for rule in rules if rule.alert and not rule.label("slo") for limit in _alert(rule)]
    for objective in objectives:
        signal = (signals or {}).get(objective.signal)
        if signal is not None:
            found += _objective(objective, signal)
    return found


def bounding(expressions: Iterable[str], limits: Sequence[Limit]) -> list[tuple[Limit, float]]:
    """Return the limits on what the queries show, each with the queries' factor, without repetition."""
    found: dict[tuple[Limit, float], None] = {}
    for quantity in (q for text in expressions for q in quantities(text)):
        found |= {(limit, quantity.factor): None for limit in limits if limit.quantity == quantity.text}
    return list(found)


def steps_of(bounds: Sequence[tuple[Limit, float]]) -> tuple[Step, ...]:
    """Return a panel's thresholds: each limit once, the worst colour where two meet; green alone where none is."""
    low = [(limit, factor) for limit, factor in bounds if not limit.from_above and limit.op != "!="]
    steps: dict[float, str] = {}
    for limit, factor in bounds:
        if limit.from_above:
            value, colour = _rounded(limit.value * factor), COLOURS.get(limit.severity, "orange")
            steps[value] = max(steps.get(value, colour), colour, key=_RANK.index)
    if not low:
        return (Step(None, WELL), *(Step(value, steps[value]) for value in sorted(steps)))
    worst = max((COLOURS.get(limit.severity, "orange") for limit, _ in low), key=_RANK.index)
    well = max(_rounded(limit.value * factor) + (1 if limit.op == "==" else 0) for limit, factor in low)
    return (Step(None, worst), Step(well, WELL), *(Step(v, steps[v]) for v in sorted(steps) if v > well))


def _alternatives(node: Node) -> Iterator[Node]:
    """Yield the parts of a query of which each can be shown."""
    node = bare(node)
    if isinstance(node, Binary) and node.op == "or":
        yield from (item for side in (node.lhs, node.rhs) for item in _alternatives(side) if selectors(item))
    elif isinstance(node, Binary) and node.op in {"and", "unless"}:
        yield from _alternatives(node.lhs)
    else:
        yield node


def _alert(rule: Rule) -> Iterator[Limit]:
    try:
        parts = list(_alternatives(parse(rule.expr)))
    except PromqlError:
        return
    for part in parts:
        if not isinstance(part, Binary) or part.op not in COMPARISONS:
            continue
        left, right = constant(part.lhs), constant(part.rhs)
        if (left is None) == (right is None):
            continue
        side, op = (part.lhs, part.op) if right is not None else (part.rhs, _SWAPPED[part.op])
        quantity = _quantity(side)
        value = (right if right is not None else left or 0.0) / quantity.factor
        yield Limit(quantity.text, op, value, rule.label("severity") or "warning", rule.name)


def _objective(objective: Objective, signal: Signal) -> Iterator[Limit]:
    if objective.against is not Against.NUMBER or Source.PROMETHEUS not in objective.sources:
        return
    name, brace, labels = signal.histogram.partition("{")
    if objective.measure is Measure.QUANTILE and objective.quantile and name and objective.unit == "ms":
        text = f"histogram_quantile({objective.quantile:g}, rate({name}_bucket{brace}{labels}[5m]))"
        value = objective.threshold / 1000 / signal.scale
    elif objective.measure is Measure.RATIO and objective.unit == "%" and signal.bad and signal.total:
        text, value = f"rate({signal.bad}[5m]) / rate({signal.total}[5m])", objective.threshold / 100
    else:
        return
    for quantity in quantities(text):
        op = {"<=": ">", "<": ">=", ">=": "<", ">": "<="}[objective.comparator]
        yield Limit(quantity.text, op, _rounded(value / quantity.factor), objective.severity.value, objective.id)


def _quantity(node: Node) -> Quantity:
    node = bare(node)
    if isinstance(node, Selector):
        kept = sorted(_matcher(m) for m in node.matchers if m.label not in _CHOOSING and m.value != ".*")
        return Quantity(node.name + ("{" + ",".join(kept) + "}" if kept else ""))
    if isinstance(node, Aggregate):
        inner = _quantity(node.expr)
        return inner if node.op in {"sum", "avg", "min", "max"} else Quantity(f"{node.op}({inner.text})")
    if isinstance(node, Call):
        func = "rate" if node.func in _RATES else node.func
        numbers = [constant(arg) for arg in node.args]
        args = (f"{n:g}" if n is not None else _quantity(a).text for n, a in zip(numbers, node.args, strict=True))
        return Quantity(f"{func}({', '.join(args)})")
    if isinstance(node, Binary):
        return _binary(node)
    number = constant(node)
    return Quantity(f"{number:g}" if number is not None else f"?{node.start}")


def _binary(node: Binary) -> Quantity:
    left, right = constant(node.lhs), constant(node.rhs)
    if node.op in COMPARISONS and right is not None and not node.returns_bool:
        return _quantity(node.lhs)  # a filter: `x > 0`
    if right is not None and left is None and node.op in {"*", "/"} and right:
        inner = _quantity(node.lhs)
        return Quantity(inner.text, inner.factor * right if node.op == "*" else inner.factor / right)
    if left is not None and right is None and node.op == "*":
        inner = _quantity(node.rhs)
        return Quantity(inner.text, inner.factor * left)
    lhs, rhs = _quantity(node.lhs), _quantity(node.rhs)
    factor = {"/": lhs.factor / rhs.factor, "*": lhs.factor * rhs.factor}.get(node.op, 1.0)
    if node.op in {"+", "-"} and lhs.factor == rhs.factor:
        factor = lhs.factor
    return Quantity(f"({lhs.text} {node.op} {rhs.text})", factor)


def _matcher(matcher: Matcher) -> str:
    parts = sorted(re.split(r"\|", matcher.value)) if matcher.op in {"=~", "!~"} else [matcher.value]
    return f"{matcher.label}{matcher.op}{'|'.join(parts)}"


def _rounded(value: float) -> float:
    """Drop what dividing and multiplying by a power of ten has left."""
    return float(f"{value:.12g}")


def _number(value: float) -> str:
    return f"{_rounded(value):g}"
