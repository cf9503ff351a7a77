"""The tree of a PromQL expression. `start` and `end` are offsets in the text; durations are seconds."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS = ("==", "!=", ">", "<", ">=", "<=")
SETS = ("and", "or", "unless")


@dataclass(frozen=True, slots=True)
class Number:
    """A number, or a string where `text` is not None."""

    start: int
    end: int
    value: float
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Matcher:
    """`label op "value"`; the offsets span all of it, `value_start` and `value_end` the quoted value."""

    start: int
    end: int
    label: str
    op: str
    value: str
    op_start: int
    value_start: int


@dataclass(frozen=True, slots=True)
class Selector:
    """Series by name and matchers; with `range_s` a range, else an instant."""

    start: int
    end: int
    name: str
    matchers: tuple[Matcher, ...]
    range_s: float | None = None
    offset_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Subquery:
    """`expr[range:step]`."""

    start: int
    end: int
    expr: "Node"
    range_s: float
    step_s: float
    offset_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Call:
    """A function with its arguments."""

    start: int
    end: int
    func: str
    args: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`op by (labels) (expr)`; `param` is the first argument of topk, quantile and their like."""

    start: int
    end: int
    op: str
    expr: "Node"
    param: "Node | None"
    labels: tuple[str, ...]
    without: bool


@dataclass(frozen=True, slots=True)
class Unary:
    """A sign before an expression."""

    start: int
    end: int
    op: str
    expr: "Node"


@dataclass(frozen=True, slots=True)
class Matching:
    """How vectors meet: `on` (else ignoring) the labels; `group` is "left", "right" or ""."""

    on: bool
    labels: tuple[str, ...]
    group: str = ""
    include: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Binary:
    """`lhs op rhs`; `op_start` is where the operator stands."""

    start: int
    end: int
    op: str
    op_start: int
    lhs: "Node"
    rhs: "Node"
    matching: Matching
    returns_bool: bool = False


@dataclass(frozen=True, slots=True)
class Paren:
    """An expression in brackets."""

    start: int
    end: int
    expr: "Node"


Node = Number | Selector | Subquery | Call | Aggregate | Unary | Binary | Paren


def children(node: Node) -> tuple[Node, ...]:
    """Return the expressions directly below `node`."""
    if isinstance(node, Call):
        return node.args
    if isinstance(node, Aggregate):
        return (*((node.param,) if node.param else ()), node.expr)
    if isinstance(node, Binary):
        return (node.lhs, node.rhs)
    if isinstance(node, Subquery | Unary | Paren):
        return (node.expr,)
    return ()


def walk(node: Node) -> Iterator[Node]:
    """Yield `node` and all below it, parents first."""
    yield node
    for child in children(node):
        yield from walk(child)


def bare(node: Node) -> Node:
    """Return `node` without the brackets around it."""
    while isinstance(node, Paren):
        node = node.expr
    return node


def selectors(node: Node) -> list[Selector]:
    """Return all selectors of an expression, in their order."""
    return [item for item in walk(node) if isinstance(item, Selector)]


def comparisons(node: Node) -> list[Binary]:
    """Return all filtering comparisons of an expression, in their order."""
    found = [item for item in walk(node) if isinstance(item, Binary)]
    return [item for item in found if item.op in COMPARISONS and not item.returns_bool]


def steady_text(node: Node, text: str) -> str:
    """Return an expression without its windows: steady series cannot tell expressions apart that agree in it."""
    cut = sorted((s.start, s.end) for s in selectors(node) if s.range_s is not None)
    found, at = "", node.start
    for start, end in cut:
        found += text[at:start] + re.sub(r"\[[^\]]*\]$", "[]", text[start:end])
        at = end
    return " ".join((found + text[at : node.end]).split())


def constant(node: Node) -> float | None:
    """Return the value of an expression of numbers alone, else None."""
    node = bare(node)
    if isinstance(node, Number) and node.text is None:
        return node.value
    if isinstance(node, Unary):
        inner = constant(node.expr)
        return None if inner is None else -inner if node.op == "-" else inner
    if isinstance(node, Binary) and node.op in {"*", "/", "+", "-"}:
        lhs, rhs = constant(node.lhs), constant(node.rhs)
        if lhs is None or rhs is None or (node.op == "/" and rhs == 0):
            return None
        return {"*": lhs * rhs, "+": lhs + rhs, "-": lhs - rhs}[node.op] if node.op != "/" else lhs / rhs
    return None
