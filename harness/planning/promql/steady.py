"""What an expression gives while its series are steady: gauges constant, counters rising evenly.

Not an evaluator of PromQL: it knows no time. It finds levels that lie on the two sides of a threshold; whether a rule
fires there is for promtool to say.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from harness.planning.promql.syntax import (
    COMPARISONS,
    SETS,
    Aggregate,
    Binary,
    Call,
    Matcher,
    Matching,
    Node,
    Number,
    Paren,
    Selector,
    Subquery,
    Unary,
)

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]
Value = float | Vector

COUNTED = ("rate", "irate", "increase")
RAMPED = ("deriv", "delta", "idelta")
_KEPT = ("avg_over_time", "min_over_time", "max_over_time", "last_over_time", "quantile_over_time")
_MATHS: Mapping[str, Callable[[float], float]] = {
    "abs": abs, "ceil": math.ceil, "floor": math.floor, "exp": math.exp, "sqrt": math.sqrt,
    "ln": math.log, "log2": math.log2, "log10": math.log10, "round": round, "sgn": lambda x: float((x > 0) - (x < 0)),
}  # fmt: skip


class NotSteadyError(ValueError):
    """The expression asks for something that steady series do not have."""


@dataclass(frozen=True, slots=True)
class World:
    """Levels of all series, by their labels (`__name__` among them).

    A level is a gauge's value, or what a counter rises by in a second. `recorded` are the expressions of recording
    rules with their own labels, by name. `shifted` moves the right side of comparisons, given by their places, by a
    share of itself, so that a value just beside a threshold can be asked for. `taken` remembers which series each
    selector takes, over worlds of one tree whose first world has all series.
    """

    levels: Mapping[Labels, float]
    recorded: Mapping[str, Sequence[tuple[Node, Labels]]] = field(
        default_factory=dict[str, Sequence[tuple[Node, Labels]]]
    )
    shifted: tuple[frozenset[int], float] | None = None
    taken: dict[int, tuple[Labels, ...]] | None = None
    operators: Mapping[int, str] = field(default_factory=dict[int, str])  # by place, in the stead of the written ones
    tick_s: float = 15.0

    def value(self, node: Node) -> Value:
        """Return a number, or the series that the expression gives. Raises NotSteadyError."""
        try:
            return self._value(node)
        except (OverflowError, ZeroDivisionError):
            raise NotSteadyError("the numbers grow beyond all bounds") from None

    def fires(self, node: Node) -> bool:
        """Tell whether an alert on the expression would be active."""
        value = self.value(node)
        return bool(value) if isinstance(value, dict) else True

    def _value(self, node: Node) -> Value:
        if isinstance(node, Paren):
            return self._value(node.expr)
        if isinstance(node, Number):
            return node.value
        if isinstance(node, Unary):
            inner = self._value(node.expr)
            if node.op == "+":
                return inner
            return -inner if isinstance(inner, float | int) else {_unnamed(k): -v for k, v in inner.items()}
        if isinstance(node, Selector):
            return self._select(node)
        if isinstance(node, Subquery):
            return self._value(node.expr)
        if isinstance(node, Aggregate):
            return self._aggregate(node)
        if isinstance(node, Call):
            return self._call(node)
        return self._binary(node)

    def _select(self, node: Selector) -> Vector:
        if node.name in self.recorded:
            found: Vector = {}
            for expr, labels in self.recorded[node.name]:
                value = self._value(expr)
                series = value if isinstance(value, dict) else {frozenset[tuple[str, str]](): value}
                own = dict(labels)
                for key, number in series.items():
                    found[frozenset({**dict(key), **own, "__name__": node.name}.items())] = number
            return {key: number for key, number in found.items() if matches(node, read_labels(key))}
        if self.taken is None:
            return {key: level for key, level in self.levels.items() if matches(node, read_labels(key))}
        if id(node) not in self.taken:
            self.taken[id(node)] = tuple(key for key in self.levels if matches(node, read_labels(key)))
        levels = self.levels
        return {key: levels[key] for key in self.taken[id(node)] if key in levels}

    def _vector(self, node: Node) -> Vector:
        value = self._value(node)
        if not isinstance(value, dict):
            raise NotSteadyError("a number stands where series are expected")
        return value

    def _number(self, node: Node) -> float:
        value = self._value(node)
        if isinstance(value, dict):
            raise NotSteadyError("series stand where a number is expected")
        return float(value)

    def _aggregate(self, node: Aggregate) -> Vector:
        groups: dict[Labels, list[float]] = {}
        for key, value in self._vector(node.expr).items():
            groups.setdefault(_group(key, node.labels, node.without), []).append(value)
        fold = _FOLDS.get(node.op)
        if fold is None:
            raise NotSteadyError(f"{node.op} is not solved for")
        return {group: fold(values) for group, values in groups.items()}

    def _call(self, node: Call) -> Value:
        func, args = node.func, node.args
        if func in {"absent", "absent_over_time"}:
            return {} if self._vector(args[0]) else {absent_labels(args[0]): 1.0}
        if func == "histogram_quantile":
            return _quantiles(self._number(args[0]), self._vector(args[1]))
        if func == "vector":
            return {frozenset(): self._number(args[0])}
        if func == "scalar":
            values = list(self._vector(args[0]).values())
            return values[0] if len(values) == 1 else math.nan
        if func in {"clamp_min", "clamp_max"}:
            bound = self._number(args[1])
            clamp = max if func == "clamp_min" else min
            return {_unnamed(k): clamp(v, bound) for k, v in self._vector(args[0]).items()}
        if func in {"sort", "sort_desc"}:
            return self._value(args[0])
        factor = self._factor(node)
        return {_unnamed(k): factor(v) for k, v in self._vector(args[-1]).items()}

    def _factor(self, node: Call) -> Callable[[float], float]:
        func = node.func
        if func in _MATHS:
            return _MATHS[func]
        ranged = next((arg for arg in node.args if isinstance(arg, Selector | Subquery)), None)
        length = (ranged.range_s if ranged else None) or 0.0
        if func in {"rate", "irate", "deriv", *_KEPT}:
            return lambda x: x
        if func in {"increase", "delta"}:
            return lambda x: x * length
        if func == "idelta":
            return lambda x: x * self.tick_s
        if func == "sum_over_time":
            return lambda x: x * max(1, length // self.tick_s)
        if func in {"count_over_time", "present_over_time"}:
            samples = 1.0 if func == "present_over_time" else max(1.0, length // self.tick_s)
            return lambda _: samples
        raise NotSteadyError(f"{func}() is not solved for")

    def _binary(self, node: Binary) -> Value:
        lhs, rhs = self._value(node.lhs), self._value(node.rhs)
        if self.shifted and node.op_start in self.shifted[0]:
            rhs = _shift(rhs, self.shifted[1])
        if node.op in SETS:
            if not isinstance(lhs, dict) or not isinstance(rhs, dict):
                raise NotSteadyError(f"`{node.op}` is between series only")
            return _set(node.op, lhs, rhs, node.matching)
        op = self.operators.get(node.op_start, node.op)
        pairs: Iterable[tuple[Labels, float, float]]
        if isinstance(lhs, dict):
            pairs = _paired(lhs, rhs, node) if isinstance(rhs, dict) else [(k, v, rhs) for k, v in lhs.items()]
        elif isinstance(rhs, dict):
            pairs = [(k, lhs, v) for k, v in rhs.items()]
        else:
            return float(_arithmetic(op, lhs, rhs))
        scalar_left = not isinstance(lhs, dict)
        found: Vector = {}
        for key, left, right in pairs:
            result = _arithmetic(op, left, right)
            if op in COMPARISONS and not node.returns_bool:
                if result:
                    found[key] = right if scalar_left else left
            else:
                found[_unnamed(key)] = float(result)
        return found


@lru_cache(maxsize=8192)
def read_labels(labels: Labels) -> Mapping[str, str]:
    """Return labels as a mapping, made once for each set: the search asks for the same ones again and again."""
    return dict(labels)


def matches(node: Selector, labels: Mapping[str, str]) -> bool:
    """Tell whether a series is among those that a selector takes."""
    if node.name and labels.get("__name__") != node.name:
        return False
    return all(fits(matcher, labels.get(matcher.label, "")) for matcher in node.matchers)


def fits(matcher: Matcher, value: str) -> bool:
    """Tell whether a label's value passes a matcher."""
    if matcher.op in {"=", "!="}:
        return (value == matcher.value) == (matcher.op == "=")
    try:
        found = re.fullmatch(matcher.value, value, re.DOTALL) is not None
    except re.error:
        raise NotSteadyError(f"the pattern {matcher.value!r} cannot be read") from None
    return found == (matcher.op == "=~")


def absent_labels(node: Node) -> Labels:
    """Return the labels that absent() gives: those that the selector pins."""
    if not isinstance(node, Selector):
        return frozenset()
    return frozenset((m.label, m.value) for m in node.matchers if m.op == "=" and m.label != "__name__")


@lru_cache(maxsize=16384)
def _group(key: Labels, labels: tuple[str, ...], without: bool) -> Labels:  # noqa: FBT001 - PromQL's own word
    if without:
        return frozenset((k, v) for k, v in key if k not in labels and k != "__name__")
    return frozenset((k, v) for k, v in key if k in labels)


@lru_cache(maxsize=16384)
def _unnamed(key: Labels) -> Labels:
    return frozenset((k, v) for k, v in key if k != "__name__")


def _shift(value: Value, by: float) -> Value:
    """Move a threshold by a share of itself; one of 0 by that share of 1."""

    def moved(number: float) -> float:
        return number + by * (abs(number) if number else 1.0)

    return {k: moved(v) for k, v in value.items()} if isinstance(value, dict) else moved(value)


_FOLDS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "sum": math.fsum,
    "avg": lambda values: math.fsum(values) / len(values),
    "min": min,
    "max": max,
    "count": lambda values: float(len(values)),
    "group": lambda _: 1.0,
}


def _arithmetic(op: str, left: float, right: float) -> float | bool:
    if op in COMPARISONS:
        return {"==": left == right, "!=": left != right, ">": left > right, "<": left < right,
                ">=": left >= right, "<=": left <= right}[op]  # fmt: skip
    if op == "/":
        if right == 0:
            return math.nan if left == 0 or math.isnan(left) else math.copysign(math.inf, left)
        return left / right
    if op == "%":
        return math.fmod(left, right) if right else math.nan
    if op == "^":
        return math.pow(left, right)
    if op == "atan2":
        return math.atan2(left, right)
    return left + right if op == "+" else left - right if op == "-" else left * right


def _signature(key: Labels, matching: Matching) -> Labels:
    if matching.on:
        return frozenset((k, v) for k, v in key if k in matching.labels)
    return frozenset((k, v) for k, v in key if k not in matching.labels and k != "__name__")


def _set(op: str, lhs: Vector, rhs: Vector, matching: Matching) -> Vector:
    right = {_signature(key, matching) for key in rhs}
    if op == "and":
        return {key: value for key, value in lhs.items() if _signature(key, matching) in right}
    if op == "unless":
        return {key: value for key, value in lhs.items() if _signature(key, matching) not in right}
    left = {_signature(key, matching) for key in lhs}
    return lhs | {key: value for key, value in rhs.items() if _signature(key, matching) not in left}


def _paired(lhs: Vector, rhs: Vector, node: Binary) -> Iterable[tuple[Labels, float, float]]:
    """Yield (labels, left, right) of the series that meet; NotSteadyError where more than one would."""
    matching = node.matching
    many, one = (rhs, lhs) if matching.group == "right" else (lhs, rhs)
    ones: dict[Labels, tuple[Labels, float]] = {}
    for key, value in one.items():
        if ones.setdefault(_signature(key, matching), (key, value))[0] != key:
            raise NotSteadyError("several series meet one: the matching is not one-to-one")
    found: list[tuple[Labels, float, float]] = []
    seen: set[Labels] = set()
    for key, value in many.items():
        signature = _signature(key, matching)
        if signature not in ones:
            continue
        if not matching.group and signature in seen:
            raise NotSteadyError("several series meet one: the matching is not one-to-one")
        seen.add(signature)
        other_key, other = ones[signature]
        if matching.group:
            result = {**dict(key), **{k: v for k, v in other_key if k in matching.include}}
            labels: Labels = frozenset(result.items())
        elif node.op in COMPARISONS and not node.returns_bool:
            labels = key if not matching.on else signature
        else:
            labels = signature
        left, right = (other, value) if matching.group == "right" else (value, other)
        found.append((labels, left, right))
    return found


def _quantiles(q: float, series: Vector) -> Vector:
    groups: dict[Labels, list[tuple[float, float]]] = {}
    for key, value in series.items():
        labels = dict(key)
        if "le" not in labels:
            continue
        try:
            bound = float(labels.pop("le"))
        except ValueError:
            continue
        labels.pop("__name__", None)
        groups.setdefault(frozenset(labels.items()), []).append((bound, value))
    return {group: quantile(q, sorted(buckets)) for group, buckets in groups.items()}


def quantile(q: float, buckets: Sequence[tuple[float, float]]) -> float:
    """Return the quantile of cumulative (bound, count) pairs as Prometheus computes it; NaN without observations."""
    if len(buckets) < 2 or not math.isinf(buckets[-1][0]) or not buckets[-1][1] > 0:  # noqa: PLR2004
        return math.nan
    rank = q * buckets[-1][1]
    index = next((i for i, (_, count) in enumerate(buckets[:-1]) if count >= rank), len(buckets) - 1)
    if index == len(buckets) - 1:
        return buckets[-2][0]
    bound, count = buckets[index]
    if index == 0 and bound <= 0:
        return bound
    low, below = buckets[index - 1] if index else (0.0, 0.0)
    if count == below:
        return bound
    return low + (bound - low) * (rank - below) / (count - below)
