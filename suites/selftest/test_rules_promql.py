"""The PromQL parser: it reads what promtool reads, keeps places, and refuses what it does not understand."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.adapters.promtool import Promtool
from harness.model.errors import EnvironmentProblem
from harness.paths import cache_root
from harness.planning.promql import PromqlError, parse, walk
from harness.planning.promql.steady import NotSteadyError, World, quantile
from harness.planning.promql.syntax import Binary, Selector, constant, steady_text
from harness.planning.rules.mutate import mutants
from harness.spec.monitoring import find_monitoring, load_monitoring

pytestmark = pytest.mark.selftest

GOOD = [
    'histogram_quantile(0.95, sum by (arm, le) (rate(a_bucket{route="/q", x=~"a|b"}[2m]))) > 5',
    "a / on (x) group_left (y) (b > 0) and on () vector(1) unless c offset 5m",
    "-a ^ 2 ^ 3 > 1e8",
    "sum(a) without (x) > 0.5",
    "up{job='x'} == 0 or absent(up{job=\"z\"}) # said why",
    "rate(nv:foo[5m:30s]) > bool 2",
    "max_over_time(sum(rate(x[1m]))[1h:]) != 0x1F",
    ":tensorflow:serving:request_count > 1h30m",
    'topk(3, a) > 1 or count_values("v", b) < Inf',
    "a - b + c * d / e % f >= 1",
]
BAD = ["rate(a[5m)", "a >", "sum(", '{a="b"', "a ~ b", "a[5m] > 1 x", "sum(a, b)", "a{b>1}", "(((a", "a and"]


@pytest.fixture(scope="module")
def promtool() -> Promtool:
    """The machine's promtool."""
    try:
        return Promtool.found(cache_root(), lambda _: None)
    except EnvironmentProblem as problem:
        pytest.skip(f"no promtool: {problem}")


@pytest.mark.parametrize("text", GOOD)
def test_every_place_is_where_the_text_says(text: str) -> None:
    """Operators, selectors and matchers stand in the text at the offsets that the tree gives."""
    for node in walk(parse(text)):
        if isinstance(node, Binary):
            assert text[node.op_start :].lower().startswith(node.op)
        if isinstance(node, Selector):
            assert text[node.start :].startswith(node.name)
            for matcher in node.matchers:
                assert text[matcher.start : matcher.end].startswith(matcher.label)
                assert text[matcher.op_start :].startswith(matcher.op)


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_promql_is_refused_at_a_place(text: str) -> None:
    """The error says where, and it is within the text."""
    with pytest.raises(PromqlError) as caught:
        parse(text)
    assert 0 <= caught.value.offset <= len(text)


def test_promtool_and_the_parser_agree(promtool: Promtool, tmp_path: Path) -> None:
    """What one reads the other reads, and what one refuses the other refuses; each expression in a file of its own."""
    files = [tmp_path / f"{index}.yml" for index in range(len(GOOD) + len(BAD))]
    for path, text in zip(files, [*GOOD, *BAD], strict=True):
        body = text.split(" #")[0].replace("'", "''")
        path.write_text(f"groups: [{{name: g, rules: [{{alert: A, expr: '{body}'}}]}}]\n")
    refused = {path for path, _ in promtool.check("rules", files)}
    # `> 1h30m` is a number from Prometheus 3 on only, `vector == bool` belongs to types that the parser does not check.
    lenient = {files[7], files[5]}
    assert refused - lenient == set(files[len(GOOD) :]) - lenient


@given(st.text(alphabet="abc{}[]()=~!\"'<>+-*/ 0159msum.by,:@#\\\n", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text makes the parser fail in another way."""
    offset = 0
    try:
        parse(text)
    except PromqlError as error:
        offset = error.offset
    assert 0 <= offset <= len(text)


def test_operators_bind_as_in_prometheus() -> None:
    """`or` is weaker than `and`, that than a comparison, that than a sum; powers go to the right."""
    top = parse("a or b and c > d + e * f ^ g ^ h")
    assert isinstance(top, Binary)
    assert top.op == "or"
    assert isinstance(top.rhs, Binary)
    assert (top.rhs.op, getattr(top.rhs.rhs, "op", "")) == ("and", ">")
    assert constant(parse("-(2 * 3) + 1")) == -5
    assert constant(parse("a + 1")) is None


def test_windows_alone_make_twins() -> None:
    """Two comparisons that differ in their ranges alone read the same without them."""
    text = 'rate(a{b="[x]"}[1h]) > 1 and rate(a{b="[x]"}[5m]) > 1 and rate(a{b="[y]"}[5m]) > 1'
    nodes = [n for n in walk(parse(text)) if isinstance(n, Binary) and n.op == ">"]
    first, second, third = (steady_text(node, text) for node in nodes)
    assert first == second != third


def test_steady_series_give_what_prometheus_gives() -> None:
    """Sums, ratios, quantiles, sets and absence over known levels."""
    world = World(
        {
            frozenset({"__name__": "e", "o": "bad"}.items()): 5.0,
            frozenset({"__name__": "e", "o": "ok"}.items()): 95.0,
            frozenset({"__name__": "z"}.items()): 0.0,
        }
    )
    assert world.value(parse('sum(rate(e{o="bad"}[1m])) / sum(rate(e[1m]))')) == {frozenset(): 0.05}
    assert world.fires(parse("e / z > 1")) is False  # labels do not meet
    assert world.fires(parse("sum(e) / sum(z) > 1")) is True  # x/0 is +Inf
    assert world.fires(parse("sum(z) / sum(z) > 0")) is False  # 0/0 is NaN
    assert world.fires(parse("absent(nothing)")) is True
    assert world.fires(parse("e unless on (o) e")) is False
    assert quantile(0.5, [(1.0, 10.0), (2.0, 20.0), (float("inf"), 20.0)]) == 1.0
    assert quantile(0.75, [(1.0, 10.0), (2.0, 20.0), (float("inf"), 20.0)]) == 1.5
    with pytest.raises(NotSteadyError):
        world.value(parse("changes(e[5m]) > 1"))


def test_every_mutant_of_a_shipped_rule_is_promql_again() -> None:
    """No mutant dies of its syntax."""
    rules = load_monitoring(find_monitoring("researchflow")).alerts
    assert rules
    for rule in rules:
        for mutant in mutants(rule.expr, rule.for_s, 15.0):
            assert (parse(mutant.expr), mutant.expr, mutant.for_s) != (None, rule.expr, rule.for_s)


def test_each_kind_of_mutant_is_made() -> None:
    """Operators, sets, thresholds, quantiles, matchers with their alternatives, and `for`."""
    text = 'histogram_quantile(0.9, rate(a_bucket{b="x", c=~"y|z"}[5m])) > 3 and d / e == 0'
    changes = {mutant.change for mutant in mutants(text, 60.0, 15.0)}
    for wanted in (
        "`>` -> `<`",
        "`>` -> `>=`",
        "`and` -> `or`",
        "`/` -> `*`",
        "`3` -> `3.3`",
        "`0` -> `1`",
        "`0.9` -> `0.85`",
    ):
        assert wanted in changes
    assert {'`b="x"` dropped', '`b="x"`: `=` -> `!=`', '`c=~"y|z"` -> `"z"`', '`c=~"y|z"` -> `"y"`'} <= changes
    assert {"for 60s -> 75s", "for 60s -> 45s", "for 60s -> 0s"} <= changes
