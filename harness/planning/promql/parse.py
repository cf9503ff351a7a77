"""A PromQL parser that keeps places. What it cannot read it refuses; it never guesses."""

import re
from dataclasses import dataclass, replace

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
from harness.planning.time_scale import parse_duration

AGGREGATIONS = (
    "sum", "avg", "min", "max", "count", "stddev", "stdvar", "group", "topk", "bottomk", "quantile", "count_values",
    "limitk", "limit_ratio",
)  # fmt: skip
_PARAMETERS = ("topk", "bottomk", "quantile", "count_values", "limitk", "limit_ratio")
_POWER, _UNARY = 6, 5
_BINDING = {
    **dict.fromkeys(SETS[:1] + SETS[2:], 2), "or": 1, **dict.fromkeys(COMPARISONS, 3), "+": 4, "-": 4,
    "*": 5, "/": 5, "%": 5, "atan2": 5, "^": _POWER,
}  # fmt: skip
_DEEPEST = 60
_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
    |(?P<duration>(?:\d+(?:ms|[smhdwy]))+(?![\w.]))
    |(?P<number>0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|(?:[iI][nN][fF]|[nN][aA][nN])(?![\w:]))
    |(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)
    |(?P<word>[a-zA-Z_:][a-zA-Z0-9_:]*)
    |(?P<op>==|!=|>=|<=|=~|!~|[-+*/%^><=(){}\[\],@:])""",
    re.VERBOSE | re.DOTALL,
)


class PromqlError(ValueError):
    """An expression that cannot be read; `offset` is where."""

    def __init__(self, message: str, offset: int) -> None:
        """Keep both."""
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


def parse(text: str) -> Node:
    """Return the tree of `text`. Raises PromqlError."""
    reader = _Reader(text, _tokens(text))
    node = reader.expression(0)
    if reader.now.kind != "end":
        raise reader.unexpected("the end")
    return node


def unquoted(text: str) -> str:
    """Return what a quoted string stands for."""
    if text.startswith("`"):
        return text[1:-1]
    return re.sub(r"\\(.)", lambda match: {"n": "\n", "t": "\t"}.get(match[1], match[1]), text[1:-1])


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise PromqlError(f"unexpected character {text[at]!r}", at)
        if match.lastgroup != "space":
            found.append(_Token(str(match.lastgroup), match[0], at, match.end()))
        at = match.end()
    return [*found, _Token("end", "the end", at, at)]


class _Reader:
    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self._text = text
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    @property
    def now(self) -> _Token:
        return self._tokens[self._at]

    def unexpected(self, wanted: str) -> PromqlError:
        return PromqlError(f"found `{self.now.text}`, expected {wanted}", self.now.start)

    def _take(self) -> _Token:
        token = self.now
        self._at += 1
        return token

    def _is(self, *texts: str) -> bool:
        return self.now.kind in {"op", "word"} and self.now.text.lower() in texts

    def _accept(self, *texts: str) -> _Token | None:
        return self._take() if self._is(*texts) else None

    def _expect(self, text: str) -> _Token:
        token = self._accept(text)
        if token is None:
            raise self.unexpected(f"`{text}`")
        return token

    def expression(self, weakest: int) -> Node:
        """Read an expression whose operators bind more strongly than `weakest`."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise PromqlError(f"nested deeper than {_DEEPEST} levels", self.now.start)
        left = self._unary()
        while (binding := _BINDING.get(self.now.text.lower(), 0)) > weakest and self.now.kind in {"op", "word"}:
            token = self._take()
            op = token.text.lower()
            returns_bool = bool(self._accept("bool"))
            matching = self._matching()
            right = self.expression(binding - 1 if op == "^" else binding)
            left = Binary(left.start, right.end, op, token.start, left, right, matching, returns_bool)
        self._depth -= 1
        return left

    def _unary(self) -> Node:
        if sign := self._accept("-", "+"):
            inner = self.expression(_UNARY)
            return Unary(sign.start, inner.end, sign.text, inner)
        return self._suffixes(self._primary())

    def _matching(self) -> Matching:
        on, labels = False, ()
        if word := self._accept("on", "ignoring"):
            on, labels = word.text.lower() == "on", self._labels()
        if word := self._accept("group_left", "group_right"):
            group = word.text.lower().removeprefix("group_")
            include = self._labels() if self._is("(") else ()
            return Matching(on, labels, group, include)
        return Matching(on, labels)

    def _labels(self) -> tuple[str, ...]:
        self._expect("(")
        names: list[str] = []
        while not self._accept(")"):
            if self.now.kind != "word":
                raise self.unexpected("a label's name")
            names.append(self._take().text)
            if not self._is(")"):
                self._expect(",")
        return tuple(names)

    def _primary(self) -> Node:
        token = self.now
        if token.kind in {"number", "duration"}:
            self._take()
            return Number(token.start, token.end, _number(token))
        if token.kind == "string":
            self._take()
            return Number(token.start, token.end, 0.0, unquoted(token.text))
        if self._accept("("):
            inner = self.expression(0)
            return Paren(token.start, self._expect(")").end, inner)
        if self._is("{"):
            return self._selector("", token.start)
        if token.kind != "word":
            raise self.unexpected("an expression")
        self._take()
        if token.text.lower() in AGGREGATIONS and self._is("(", "by", "without"):
            return self._aggregate(token)
        if self._is("("):
            args = self._arguments()
            return Call(token.start, self._tokens[self._at - 1].end, token.text.lower(), args)
        return self._selector(token.text, token.start)

    def _arguments(self) -> tuple[Node, ...]:
        self._expect("(")
        args: list[Node] = []
        while not self._accept(")"):
            args.append(self.expression(0))
            if not self._is(")"):
                self._expect(",")
        return tuple(args)

    def _aggregate(self, token: _Token) -> Aggregate:
        clause = self._accept("by", "without")
        labels = self._labels() if clause else ()
        args = self._arguments()
        if not clause and (clause := self._accept("by", "without")):
            labels = self._labels()
        op = token.text.lower()
        wanted = 2 if op in _PARAMETERS else 1
        if len(args) != wanted:
            raise PromqlError(f"found {len(args)} arguments of {op}, expected {wanted}", token.start)
        without = bool(clause and clause.text.lower() == "without")
        param = args[0] if wanted > 1 else None
        return Aggregate(token.start, self._tokens[self._at - 1].end, op, args[-1], param, labels, without)

    def _selector(self, name: str, start: int) -> Selector:
        matchers: list[Matcher] = []
        if self._accept("{"):
            while not self._accept("}"):
                if self.now.kind == "string" and not name:  # {"a.name", ...}: names in quotes, since Prometheus 3
                    name = unquoted(self._take().text)
                else:
                    matchers.append(self._matcher())
                if not self._is("}"):
                    self._expect(",")
        named = next((m.value for m in matchers if m.label == "__name__" and m.op == "="), "")
        return Selector(start, self._tokens[self._at - 1].end, name or named, tuple(matchers))

    def _matcher(self) -> Matcher:
        label = self._take()
        if label.kind not in {"word", "string"}:
            raise PromqlError(f"found `{label.text}`, expected a label's name", label.start)
        op = self._accept("=", "!=", "=~", "!~")
        if op is None:
            raise self.unexpected("one of = != =~ !~ after the label")
        value = self._take()
        if value.kind != "string":
            raise PromqlError(f"found `{value.text}`, expected a quoted value", value.start)
        name = unquoted(label.text) if label.kind == "string" else label.text
        return Matcher(label.start, value.end, name, op.text, unquoted(value.text), op.start, value.start)

    def _suffixes(self, node: Node) -> Node:
        while True:
            if self._accept("["):
                node = self._range(node)
            elif self._accept("offset"):
                sign = -1 if self._accept("-") else 1
                node = self._moved(node, sign * self._duration())
            elif self._is("@"):
                raise PromqlError("the modifier @ is not understood here", self.now.start)
            else:
                return node

    def _range(self, node: Node) -> Node:
        length = self._duration()
        if self.now.kind in {"op", "word"} and self.now.text.startswith(
            ":"
        ):  # a name may begin so: `:30s` is one token
            step = self._step()
            return Subquery(node.start, self._expect("]").end, node, length, step)
        end = self._expect("]").end
        if not isinstance(node, Selector) or node.range_s is not None:
            raise PromqlError("a range is of a selector alone; write [range:step] for a subquery", node.start)
        return replace(node, range_s=length, end=end)

    def _step(self) -> float:
        token = self._take()
        if token.text == ":":
            return 0.0 if self._is("]") else self._duration()
        try:
            return parse_duration(token.text[1:])
        except ValueError:
            raise PromqlError(f"found `{token.text}`, expected a step like :30s", token.start) from None

    def _moved(self, node: Node, seconds: float) -> Node:
        if not isinstance(node, Selector | Subquery):
            raise PromqlError("an offset is of a selector or subquery alone", node.start)
        return replace(node, offset_s=seconds, end=self._tokens[self._at - 1].end)

    def _duration(self) -> float:
        token = self._take()
        if token.kind not in {"duration", "number"}:
            raise PromqlError(f"found `{token.text}`, expected a duration like 5m", token.start)
        return _number(token)


def _number(token: _Token) -> float:
    if token.kind == "duration":
        return parse_duration(token.text)
    return float(int(token.text, 16)) if token.text.lower().startswith("0x") else float(token.text)
