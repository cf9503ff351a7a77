"""Small changes of a rule, one at a time: a proof that does not notice one of them proves little."""

from collections.abc import Iterator
from dataclasses import dataclass

from harness.planning.promql.parse import parse
from harness.planning.promql.syntax import COMPARISONS, SETS, Binary, Call, Matcher, Node, Selector, constant, walk

_COMPARED = {">": ("<", ">="), "<": (">", "<="), ">=": ("<=", ">"), "<=": (">=", "<"), "==": ("!=", ">"), "!=": ("==",)}
_JOINED = {"and": ("or",), "or": ("and",), "unless": ("and",)}
_CALCULATED = {"/": ("*",), "*": ("/",), "-": ("+",), "+": ("-",)}
_STEP = 0.1  # of a threshold
EDGE = frozenset({(">", ">="), (">=", ">"), ("<", "<="), ("<=", "<")})  # differ at the threshold itself alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One changed rule: `kind` is "operator", "threshold", "for" or "matcher"; `change` says it in words.

    `offset` is the place in the original expression; `edge` marks one that differs only at the very threshold of the
    comparison that stands there.
    """

    kind: str
    change: str
    expr: str
    for_s: float
    offset: int = 0
    edge: bool = False


def mutants(expr: str, for_s: float, tick_s: float) -> list[Mutant]:
    """Return all mutants of a rule that is evaluated every `tick_s` seconds."""
    tree = parse(expr)
    found: list[Mutant] = []
    for node in walk(tree):
        if isinstance(node, Binary):
            found += _operators(expr, node, for_s)
            found += _thresholds(expr, node, for_s)
        elif isinstance(node, Call) and node.func == "histogram_quantile":
            found += _quantile(expr, node, for_s)
        elif isinstance(node, Selector):
            found += [m for matcher in node.matchers for m in _matchers(expr, node, matcher, for_s)]
    return [*found, *_durations(expr, for_s, tick_s)]


def _operators(expr: str, node: Binary, for_s: float) -> Iterator[Mutant]:
    table = _COMPARED if node.op in COMPARISONS else _JOINED if node.op in SETS else _CALCULATED
    if node.op not in SETS and constant(node) is not None:
        return  # a number written as a sum: its value is the threshold's affair
    for other in table.get(node.op, ()):
        text = expr[: node.op_start] + other + expr[node.op_start + len(node.op) :]
        yield Mutant(
            kind="operator",
            change=f"`{node.op}` -> `{other}`",
            expr=text,
            for_s=for_s,
            offset=node.op_start,
            edge=(node.op, other) in EDGE,
        )


def _thresholds(expr: str, node: Binary, for_s: float) -> Iterator[Mutant]:
    if node.op not in COMPARISONS:
        return
    for side in (node.lhs, node.rhs):
        value = constant(side)
        if value is None:
            continue
        for other in (value * (1 + _STEP), value * (1 - _STEP)) if value else (1.0, -1.0):
            yield _number(expr, side, value, other, for_s)


def _quantile(expr: str, node: Call, for_s: float) -> Iterator[Mutant]:
    value = constant(node.args[0])
    if value is not None:
        yield _number(expr, node.args[0], value, value - _STEP / 2, for_s)


def _number(expr: str, side: Node, value: float, other: float, for_s: float) -> Mutant:
    written = f"{other:.12g}"
    text = f"{expr[: side.start]}({written}){expr[side.end :]}"
    return Mutant(kind="threshold", change=f"`{value:g}` -> `{written}`", expr=text, for_s=for_s, offset=side.start)


def _matchers(expr: str, node: Selector, matcher: Matcher, for_s: float) -> Iterator[Mutant]:
    if matcher.label == "__name__":
        return
    kept = [m for m in node.matchers if m is not matcher]
    opening = expr.index("{", node.start)
    closing = expr.index("}", node.matchers[-1].end)
    dropped = ", ".join(expr[m.start : m.end] for m in kept)
    whole = expr[matcher.start : matcher.end]

    def mutant(text: str, change: str) -> Mutant:
        return Mutant(kind="matcher", change=change, expr=text, for_s=for_s, offset=matcher.start)

    yield mutant(f"{expr[: opening + 1]}{dropped}{expr[closing:]}", f"`{whole}` dropped")
    opposite = {"=": "!=", "!=": "=", "=~": "!~", "!~": "=~"}[matcher.op]
    text = expr[: matcher.op_start] + opposite + expr[matcher.op_start + len(matcher.op) :]
    yield mutant(text, f"`{whole}`: `{matcher.op}` -> `{opposite}`")
    for value in _values(matcher):
        quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        yield mutant(f"{expr[: matcher.value_start]}{quoted}{expr[matcher.end :]}", f"`{whole}` -> `{quoted}`")


def _values(matcher: Matcher) -> list[str]:
    parts = alternatives(matcher)
    if len(parts) > 1:
        return ["|".join(other for other in parts if other != part) for part in parts]
    return [f"{matcher.value}-mutant"]


def alternatives(matcher: Matcher) -> list[str]:
    """Return the plain values of a pattern like "ok|error"; the value itself where it is no such pattern."""
    parts = matcher.value.split("|")
    plain = matcher.op in {"=~", "!~"} and all(part and part == _plain(part) for part in parts)
    return parts if plain else [matcher.value]


def _plain(text: str) -> str:
    return "".join(c for c in text if c not in ".*+?()[]{}^$\\")


def _durations(expr: str, for_s: float, tick_s: float) -> Iterator[Mutant]:
    others = [for_s + tick_s]
    if for_s > 0:
        others.append(max(0.0, for_s - tick_s))
        others.append(0.0)
    for other in dict.fromkeys(others):
        yield Mutant(kind="for", change=f"for {for_s:g}s -> {other:g}s", expr=expr, for_s=other)
