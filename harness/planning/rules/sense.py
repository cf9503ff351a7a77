"""What is wrong with a rule by what it does: on a healthy stack, a divisor of 0, one request, empty labels. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence

from harness.model.rule import Finding, Rule
from harness.planning.promql.steady import COUNTED, Labels, NotSteadyError, matches
from harness.planning.promql.syntax import Binary, Call, Node, Selector, selectors, walk
from harness.planning.rules.levels import Decided, Levels, Solver
from harness.planning.rules.subject import Subject

_TINY = 1e-7  # of the traffic of a busy service: one request in months
_PACES = (1.0, 1 / 60, 1 / 600)  # a second of what was counted, if that took a second, a minute, ten minutes
_LABEL = re.compile(r"\$labels\.(\w+)")


def sense(rule: Rule, subject: Subject, decided: Sequence[Decided]) -> list[Finding]:
    """Return what the worlds that decide a rule tell against it."""
    solver = Solver(subject)
    return [
        *_healthy(rule, solver),
        *_divisors(rule, solver, decided),
        *_traffic(rule, solver, decided),
        *_labels(rule, solver, decided),
    ]


def _healthy(rule: Rule, solver: Solver) -> Iterator[Finding]:
    """What was recorded is a healthy stack: how long that had counted is not known, so that any pace must do."""
    subject = solver.subject
    if subject.made_up:
        return
    moving = {a.labels for a in subject.atoms if a.bound is not None or subject.kinds.get(a.name) == "counter"}
    paces = _PACES if moving else _PACES[:1]
    worlds = [{a.labels: a.recorded * (pace if a.labels in moving else 1) for a in subject.atoms} for pace in paces]
    if all(_fires(solver, levels) for levels in worlds):
        message = "it fires on what was recorded of the healthy stack"
        mend = "look at its operator, its threshold's unit and what it compares; or record the scrapes again"
        yield Finding("healthy", rule.where("expr"), f"{rule.name}: expr", message, mend)


def _divisors(rule: Rule, solver: Solver, decided: Sequence[Decided]) -> Iterator[Finding]:
    """x/0 is +Inf and above every threshold."""
    for node in walk(solver.subject.tree):
        if not isinstance(node, Binary) or node.op != "/":
            continue
        below = [s for s in selectors(node.rhs) if not _counted(solver.subject.tree, s)]
        for part in decided:
            quiet = part.under
            zero: Levels = {k: 0.0 if any(matches(s, dict(k)) for s in below) else v for k, v in quiet.items()}
            if below and zero != quiet and _fires(solver, zero):
                text = rule.expr[node.rhs.start : node.rhs.end]
                message = f"it fires when `{text}` is 0: x/0 is +Inf"
                mend = f"write `({text} > 0)`, or drop the series where 0 means no limit"
                yield Finding("zero-divisor", rule.where("expr", node.op_start), f"{rule.name}: expr", message, mend)
                break


def _traffic(rule: Rule, solver: Solver, decided: Sequence[Decided]) -> Iterator[Finding]:
    """A ratio or quantile of nearly nothing is no news."""
    nodes = [n for n in walk(solver.subject.tree) if _relative(n, solver.subject.tree)]
    if not nodes:
        return
    for part in decided:
        tiny: Levels = {k: None if v is None else v * _TINY for k, v in part.over.items()}
        if _fires(solver, tiny):
            message = "it fires on next to no traffic: one bad request at night is a ratio of 1"
            mend = "add `and sum by (...) (rate(REQUESTS[...])) > FLOOR`"
            yield Finding("traffic-floor", rule.where("expr", nodes[0].start), f"{rule.name}: expr", message, mend)
            return


def _relative(node: Node, tree: Node) -> bool:
    if isinstance(node, Call):
        return node.func == "histogram_quantile"
    return isinstance(node, Binary) and node.op == "/" and any(_counted(tree, s) for s in selectors(node.rhs))


def _counted(tree: Node, selector: Selector) -> bool:
    return any(
        isinstance(node, Call) and node.func in COUNTED and any(s is selector for a in node.args for s in selectors(a))
        for node in walk(tree)
    )


def _fires(solver: Solver, levels: Levels) -> bool:
    try:
        return solver.fires(levels)
    except NotSteadyError:
        return False


def _labels(rule: Rule, solver: Solver, decided: Sequence[Decided]) -> Iterator[Finding]:
    """A template that names a label which the alert never has shows nothing there."""
    if solver.subject.made_up:
        return
    known: set[str] = set()
    for part in decided:
        try:
            value = solver.world(part.over).value(solver.subject.tree)
        except NotSteadyError:
            return
        if isinstance(value, dict):
            known |= {name for key in value for name in _named(key)}
    # Labels of the rule itself are set after its templates are filled.
    texts: list[tuple[str, Mapping[str, str]]] = [
        ("labels", dict(rule.labels)),
        ("annotations", dict(rule.annotations)),
    ]
    for kind, items in texts:
        for name, text in items.items():
            for label in dict.fromkeys(_LABEL.findall(text)):
                if label not in known:
                    key = f"{kind}.{name}"
                    message = f"`$labels.{label}` is empty: the alert has {', '.join(sorted(known)) or 'no labels'}"
                    yield Finding("template", rule.where(key), f"{rule.name}: {key}", message, "name one that it has")


def _named(key: Labels) -> set[str]:
    return {name for name, _ in key if name != "__name__"}
