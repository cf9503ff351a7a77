"""The series that a rule looks at: real ones that decide it, and decoys that it must not look at."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.model.rule import Rule
from harness.planning.promql.parse import parse
from harness.planning.promql.steady import COUNTED, RAMPED, Labels, NotSteadyError, fits, matches
from harness.planning.promql.syntax import Aggregate, Binary, Call, Matcher, Node, Selector, selectors, walk
from harness.planning.rules.catalogue import Catalogue, changed, finite, without
from harness.planning.rules.mutate import alternatives

_PARTNERS = 6  # of one series, that it may be joined with


@dataclass(frozen=True, slots=True)
class Atom:
    """One series whose level can be set; of a histogram one bucket's own share, not what is cumulated.

    `source` is the series that a decoy imitates, None for a real one. `recorded` is what it was seen at.
    """

    labels: Labels
    recorded: float
    source: Labels | None = None
    name: str = field(init=False)
    bound: float | None = field(init=False)  # the upper bound of a bucket, None for other series

    def __post_init__(self) -> None:
        """Read the metric's name and the bound once: the search asks for them all the time."""
        labels = dict(self.labels)
        text = labels.get("le") if labels["__name__"].endswith("_bucket") else None
        object.__setattr__(self, "name", labels["__name__"])
        object.__setattr__(self, "bound", None if text is None else float(text))


@dataclass(frozen=True, slots=True)
class Subject:
    """Everything about one rule's series. `kinds` maps a name to "counter", "gauge" or "ramp".

    `ghosts` are sets of decoys, one a matcher and value that it must keep out.
    """

    text: str
    tree: Node
    atoms: tuple[Atom, ...]
    ghosts: tuple[tuple[Atom, ...], ...]
    kinds: Mapping[str, str]
    recorded: Mapping[str, Sequence[tuple[Node, Labels]]]
    looked_at: tuple[Selector, ...]
    made_up: bool = False  # some series are not recorded, and their labels are invented


def subject_of(rule: Rule, records: Mapping[str, Sequence[Rule]], catalogue: Catalogue) -> Subject:
    """Return the subject of `rule`; `records` are recording rules by name. Raises PromqlError or NotSteadyError."""
    tree = parse(rule.expr)
    recorded: dict[str, list[tuple[Node, Labels]]] = {}
    looked_at = list(_reached(tree, records, recorded, 0))
    kinds = _kinds([tree, *(node for made in recorded.values() for node, _ in made)])
    grouped = _grouped([tree, *(node for made in recorded.values() for node, _ in made)])
    filters = [s for s in selectors(tree) if s.name in recorded]
    common = {**dict.fromkeys(grouped, "a"), **_shared([*looked_at, *filters])}
    atoms = _buckets(_chosen(looked_at, catalogue, common), catalogue, looked_at)
    real = {atom.labels for atom in atoms}
    ghosts: dict[frozenset[Labels], tuple[Atom, ...]] = {}
    for made in _ghosts([*looked_at, *filters], atoms):
        ghost = tuple(d for d in _buckets(made, catalogue, looked_at) if d.labels not in real)
        if ghost:
            ghosts.setdefault(frozenset(d.labels for d in ghost), ghost)
    made_up = any(not catalogue.named(atom.name) for atom in atoms)
    return Subject(rule.expr, tree, tuple(atoms), tuple(ghosts.values()), kinds, recorded, tuple(looked_at), made_up)


def _reached(
    tree: Node, records: Mapping[str, Sequence[Rule]], recorded: dict[str, list[tuple[Node, Labels]]], depth: int
) -> Iterator[Selector]:
    """Yield the selectors of scraped series, through recording rules."""
    if depth > 8:  # noqa: PLR2004 - a chain of recordings that long is a circle
        raise NotSteadyError("recording rules refer to one another in a circle")
    for selector in selectors(tree):
        if selector.name not in records:
            if not selector.name:
                raise NotSteadyError("a selector without a metric's name is not solved for")
            yield selector
            continue
        made = [(parse(rule.expr), frozenset(rule.labels)) for rule in records[selector.name]]
        recorded[selector.name] = made
        for node, _ in made:
            yield from _reached(node, records, recorded, depth + 1)


def _kinds(trees: Iterable[Node]) -> dict[str, str]:
    """Say how each series moves: as a counter only where the rule takes it for one."""
    kinds: dict[str, str] = {}
    for tree in trees:
        for selector in selectors(tree):
            kinds.setdefault(selector.name, "gauge")
        for node in walk(tree):
            if isinstance(node, Call) and node.func in (*COUNTED, *RAMPED):
                for selector in (s for arg in node.args for s in selectors(arg)):
                    kinds[selector.name] = "counter" if node.func in COUNTED else "ramp"
    return kinds


def _grouped(trees: Iterable[Node]) -> list[str]:
    """Return the labels that expressions group or join by: made-up series need them."""
    found: dict[str, None] = {}
    for tree in trees:
        for node in walk(tree):
            labels = node.labels if isinstance(node, Aggregate) and not node.without else ()
            if isinstance(node, Binary) and node.matching.on:
                labels = (*labels, *node.matching.labels)
            found |= dict.fromkeys(label for label in labels if label != "le")
    return list(found)


def _chosen(looked_at: Sequence[Selector], catalogue: Catalogue, common: Mapping[str, str]) -> list[Atom]:
    atoms: dict[Labels, Atom] = {}
    pinned = frozenset(common.items())
    for selector in sorted(looked_at, key=lambda s: -len(s.matchers)):
        for wanted in _wanted(selector, looked_at):
            if any(wanted(dict(a.labels)) for a in atoms.values()):
                continue
            pool = [r for r in catalogue.find(selector) if wanted(dict(r.labels))]
            best = max(pool, key=lambda r: (len(r.labels & pinned), _overlap(r.labels, atoms)), default=None)
            if best is not None:
                atoms[best.labels] = Atom(best.labels, finite(best.value))
            elif made := _made(selector, wanted, common, catalogue):
                atoms[made] = Atom(made, 1000.0)
    return list(atoms.values())


def _wanted(selector: Selector, looked_at: Sequence[Selector]) -> Iterator["_Wanted"]:
    """Yield what must be there for a selector: a series, one an alternative, one that a narrower one leaves out."""
    several = [m for m in selector.matchers if m.op == "=~" and len(alternatives(m)) > 1]
    if several:
        for matcher in several:
            for value in alternatives(matcher):
                yield _Wanted(selector, (matcher.label, value))
    else:
        yield _Wanted(selector)
    for other in looked_at:
        if other.name == selector.name and set(_texts(other)) > set(_texts(selector)):
            yield _Wanted(selector, beside=other)


def _texts(selector: Selector) -> list[tuple[str, str, str]]:
    return [(m.label, m.op, m.value) for m in selector.matchers]


@dataclass(frozen=True, slots=True)
class _Wanted:
    selector: Selector
    pinned: tuple[str, str] | None = None
    beside: Selector | None = None

    def __call__(self, labels: Mapping[str, str]) -> bool:
        if not matches(self.selector, labels) or (self.beside and matches(self.beside, labels)):
            return False
        return self.pinned is None or labels.get(self.pinned[0]) == self.pinned[1]


def _overlap(labels: Labels, atoms: Mapping[Labels, Atom]) -> int:
    """Say how well a series goes with those chosen already: labels in common, with the one that is most like it."""
    plain = without(labels, "__name__")
    return max((len(plain & other) * 10 - len(plain ^ other) for other in atoms), default=0)


def _shared(looked_at: Sequence[Selector]) -> dict[str, str]:
    """Return labels that the rule pins to one value: series made up for one side of a join need those of the other."""
    found: dict[str, set[str]] = {}
    for selector in looked_at:
        for matcher in selector.matchers:
            if matcher.label not in {"le", "__name__"}:
                found.setdefault(matcher.label, set()).add(_value(matcher))
    return {label: next(iter(values)) for label, values in found.items() if len(values) == 1}


def _made(selector: Selector, wanted: _Wanted, common: Mapping[str, str], catalogue: Catalogue) -> Labels | None:
    """Return a series made up for a selector; None where the metric is recorded, so that nothing of it is made up."""
    recorded = bool(catalogue.named(selector.name))
    if recorded and not wanted.beside:
        return None
    base = dict(catalogue.find(selector)[0].labels) if recorded and catalogue.find(selector) else {}
    labels = {**common, **base, "__name__": selector.name}
    for matcher in selector.matchers:
        if matcher.label not in base:
            labels[matcher.label] = _value(matcher)
    if wanted.pinned:
        labels[wanted.pinned[0]] = wanted.pinned[1]
    if wanted.beside:
        extra = next(m for m in wanted.beside.matchers if (m.label, m.op, m.value) not in _texts(selector))
        labels[extra.label] = other_value(extra)
    if selector.name.endswith("_bucket"):
        labels.setdefault("le", "+Inf")
    return frozenset(labels.items()) if wanted(labels) else None


def _value(matcher: Matcher) -> str:
    """Return a value that passes a matcher."""
    guesses = [*alternatives(matcher), "", "a", "other", "1", "500"]
    guess = re.sub(r"\.[*+]", "x", matcher.value.strip("^$"))
    guess = re.sub(r"\[0-9\][*+]?|\\d[*+]?", "1", guess)
    guesses += [guess, guess.replace(".", "0"), guess.replace("\\.", "."), guess.partition("|")[0].strip("()")]
    for value in guesses:
        if fits(matcher, value) and (value or matcher.op in {"!=", "!~"}):
            return value
    raise NotSteadyError(f"no value was found for {matcher.label}{matcher.op}{matcher.value!r}")


def other_value(matcher: Matcher) -> str:
    """Return a value that does not pass a matcher."""
    guesses = (f"{matcher.value}-other", "other", "", *alternatives(matcher), "a", "x")
    for value in guesses:
        if not fits(matcher, value):
            return value
    raise NotSteadyError(f"every value passes {matcher.label}{matcher.op}{matcher.value!r}")


def _ghosts(looked_at: Sequence[Selector], atoms: Sequence[Atom]) -> Iterator[list[Atom]]:
    """Yield decoys: what a matcher keeps out, with whatever that may be joined with; then the one series alone."""
    for selector in looked_at:
        filtering = not any(a.name == selector.name for a in atoms)  # what a recording rule makes has its labels
        real = next((a for a in atoms if matches(selector, _as(a.labels, selector.name, filtering=filtering))), None)
        if real is None:
            continue
        for matcher in selector.matchers:
            if matcher.label in {"__name__", "le"}:
                continue
            values = _kept_out(matcher)
            held = dict(real.labels).get(matcher.label)
            companions = [a for a in atoms if dict(a.labels).get(matcher.label) == held]
            for value in values:
                pairs = [[real, other] for other in companions if other is not real][:_PARTNERS]
                for group in (companions, *pairs, [real]):
                    yield [Atom(changed(a.labels, matcher.label, value), a.recorded, a.labels) for a in group]


def _as(labels: Labels, name: str, *, filtering: bool) -> dict[str, str]:
    return {**dict(labels), "__name__": name} if filtering else dict(labels)


def _kept_out(matcher: Matcher) -> list[str]:
    """Return values that a matcher keeps out; none where it keeps out nothing."""
    if matcher.op == "!~":
        return alternatives(matcher)
    try:
        return [matcher.value if matcher.op == "!=" else other_value(matcher)]
    except NotSteadyError:
        return []


def _buckets(chosen: Sequence[Atom], catalogue: Catalogue, looked_at: Sequence[Selector]) -> list[Atom]:
    """Complete histograms: a bucket brings all buckets of its histogram, and so does a count beside them."""
    histograms = {s.name for s in looked_at if s.name.endswith("_bucket")}
    found: dict[Labels, Atom] = {}
    for atom in chosen:
        base = atom.name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
        if f"{base}_bucket" not in histograms:
            found[atom.labels] = atom
            continue
        key = without(changed(atom.labels, "__name__", f"{base}_bucket"), "le")
        seen = {r.labels: finite(r.value) for r in catalogue.named(f"{base}_bucket")} if atom.source is None else {}
        below = 0.0
        for text in _bounds(key, catalogue, [s for s in looked_at if s.name == f"{base}_bucket"]):
            labels = changed(key, "le", text)
            source = None
            if atom.source is not None:
                own = without(changed(atom.source, "__name__", f"{base}_bucket"), "le")
                source = changed(own, "le", text)
            share, below = max(0.0, seen.get(labels, below) - below), seen.get(labels, below)
            found.setdefault(labels, Atom(labels, share, source))
    return list(found.values())


def _bounds(key: Labels, catalogue: Catalogue, looked_at: Sequence[Selector]) -> list[str]:
    """Return the bounds that matter: all, or where every selector names one, those with their neighbours and +Inf."""
    name = dict(key)["__name__"]
    texts = {dict(item.labels).get("le", "") for item in catalogue.named(name)} - {""}
    bounds = sorted(texts or {"0.1", "1", "5", "10", "60", "+Inf"}, key=float)
    pins = [[m for m in selector.matchers if m.label == "le"] for selector in looked_at]
    if not all(pins):
        return bounds
    named = [i for i, text in enumerate(bounds) if any(all(fits(m, text) for m in pin) for pin in pins)]
    near = {i + step for i in named for step in (-1, 0, 1)} | {len(bounds) - 1}
    return [text for i, text in enumerate(bounds) if i in near]
