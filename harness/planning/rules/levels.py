"""Levels that decide a rule: for each of its comparisons a world just under it and one just over it.

Found by search, not by algebra: one direction at a time (a series alone, a share moved between two, a group scaled, a
bucket emptied into the next) until the whole rule turns where a threshold moved by half a percent makes it turn.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from harness.planning.promql.steady import Labels, NotSteadyError, World, matches, read_labels
from harness.planning.promql.syntax import Binary, Call, Selector, comparisons, constant, steady_text, walk
from harness.planning.rules.catalogue import changed, without
from harness.planning.rules.subject import Atom, Subject

Levels = Mapping[Labels, float | None]  # None: the series is gone

_BESIDE = 0.005  # how far under and over, as a share of the threshold
_MASS = 1000.0
_HALVINGS = 60
_SHARES = (0.0, 1e-4, 1e-3, 0.01, 0.03, 0.06, 0.12, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97, 0.995, 1.0)
_FACTORS = (0.0, *(10.0**e for e in range(-9, 10)))
_LOUD = 1e9
MODES = ("quiet", "opposite", "loud")  # decoys at 0, as what they imitate in the other phase, above everything
_POINTS = (0.0, *(10.0**e for e in range(-6, 14)))


@dataclass(frozen=True, slots=True)
class Decided:
    """A part of a rule with the worlds that turn it. `place` is where its operator (or absent()) stands.

    `under` does not fire and `over` does, and nothing but this part tells them apart; `edge` is exactly at the
    threshold, None where no number is. `twins` are the places of comparisons that differ in their windows alone: steady
    series decide them together.
    """

    place: int
    text: str
    under: Levels
    over: Levels
    edge: Levels | None = None
    twins: tuple[int, ...] = ()


@dataclass(slots=True)
class Solver:
    """Searches worlds for one rule. `decoys` are those that the rule, rightly, does not look at."""

    subject: Subject
    decoys: tuple[Atom, ...] = ()
    _bases: list[dict[Labels, float | None]] = field(default_factory=list[dict[Labels, float | None]])
    _twins: dict[int, frozenset[int]] = field(default_factory=dict[int, frozenset[int]])
    _layout: "tuple[tuple[Atom, ...], Layout] | None" = None
    _taken: dict[int, tuple[Labels, ...]] = field(default_factory=dict[int, tuple[Labels, ...]])
    _first: int = 0  # how many of them do not come from parts decided before

    def world(
        self,
        levels: Levels,
        shifted: tuple[frozenset[int], float] | None = None,
        *,
        mode: str = "quiet",
        other: Levels | None = None,
    ) -> World:
        """Return the world of `levels`, with the decoys as `decoyed` has them."""
        both = decoyed(levels, self.decoys, mode, levels if other is None else other)
        return World(self._series().expanded(both), self.subject.recorded, shifted)

    def fires(self, levels: Levels, shifted: tuple[frozenset[int], float] | None = None) -> bool:
        """Tell whether the rule's expression is true in the world of `levels`, its decoys quiet."""
        if not self._taken and any(level is None for level in levels.values()):
            return self.world(levels, shifted).fires(self.subject.tree)  # what is remembered must begin with all series
        return replace(self.world(levels, shifted), taken=self._taken).fires(self.subject.tree)

    def _series(self) -> "Layout":
        if self._layout is None or self._layout[0] is not self.decoys:
            self._layout = (self.decoys, Layout.of([*self.subject.atoms, *self.decoys]))
            self._taken = {}
        return self._layout[1]

    def fit_decoys(self, decided: Sequence["Decided"]) -> None:
        """Keep the decoys that change nothing of what the rule says of its own series, however loud they are."""
        kept: dict[Labels, Atom] = {}
        for ghost in self.subject.ghosts:
            if not all(decoy.labels in kept for decoy in ghost):
                trial = Solver(self.subject, (*kept.values(), *(d for d in ghost if d.labels not in kept)))
                if all(trial.holds(part) for part in decided):
                    kept = {d.labels: d for d in trial.decoys}
        self.decoys = tuple(kept.values())

    def holds(self, part: "Decided") -> bool:
        """Tell whether a part is decided as it was found, in every mode of the decoys."""
        try:
            return all(
                not self.world(part.under, mode=mode, other=part.over).fires(self.subject.tree)
                and self.world(part.over, mode=mode, other=part.under).fires(self.subject.tree)
                for mode in MODES
            )
        except NotSteadyError:
            return False

    def solve(self) -> tuple[list[Decided], list[int]]:
        """Return what was decided, and the places of the comparisons that nothing could decide alone."""
        self._bases = list(self._first_bases())
        self._first = len(self._bases)
        groups: dict[str, list[Binary]] = {}
        for node in comparisons(self.subject.tree):
            groups.setdefault(steady_text(node, self.subject.text), []).append(node)
        self._twins = {g[0].op_start: frozenset(n.op_start for n in g) for g in groups.values()}
        waiting = [group[0] for group in groups.values()]
        done: list[Decided] = []
        progress = True
        while waiting and progress:
            progress = False
            for node in list(waiting):
                found = self._comparison(node)
                if found:
                    done.append(found)
                    waiting.remove(node)
                    self._bases += [dict(found.under), dict(found.over)]
                    progress = True
        done += self._absences()
        return sorted(done, key=lambda d: d.place), [node.op_start for node in waiting]

    def complain(self) -> None:
        """Raise NotSteadyError with the reason why the rule cannot be computed at all, where there is one."""
        for base in self._bases[:1]:
            self.fires(base)

    def _first_bases(self) -> Iterator[dict[Labels, float | None]]:
        recorded: dict[Labels, float | None] = {a.labels: a.recorded for a in self.subject.atoms if a.bound is None}
        buckets = [a for a in self.subject.atoms if a.bound is not None]
        # No two levels alike, none 0 or 1, where a series is more than a yes or no: every term of a sum then matters.
        varied = {
            key: seen
            if seen == 1 and self.subject.kinds.get(dict(key)["__name__"]) == "gauge"
            else _MASS * (1 + 0.37 * place)
            for place, (key, seen) in enumerate(recorded.items())
        }
        for plain in (varied, recorded, *(dict.fromkeys(recorded, level) for level in (1000.0, 1.0, 0.0))):
            base = dict(plain)
            for histogram in _histograms(buckets):
                for index, atom in enumerate(histogram):
                    base[atom.labels] = _MASS if index == len(histogram) // 2 else 0.0
            yield base
        for name in sorted({a.name for a in self.subject.atoms}):
            zeroed: dict[Labels, float | None] = {a.labels: _MASS if a.bound == math.inf else 0.0 for a in buckets}
            yield zeroed | {k: 0.0 if read_labels(k)["__name__"] == name else _MASS for k in recorded}

    def _comparison(self, node: Binary) -> Decided | None:
        sign = -1.0 if node.op in {"<", "<="} else 1.0
        if constant(node.rhs) is None and constant(node.lhs) is not None:
            sign = -sign  # 5 < x
        second: Decided | None = None
        for base in [*self._bases[self._first :][::-1], *self._bases[: self._first]]:  # the newest worlds first
            for move in self._moves(base, node):
                found = self._along(node, sign, move)
                if found and self._turned_by(node, found.under, -sign * 4 * _BESIDE):
                    return found
                second = second or found
        return second  # its lower side does not depend on this comparison alone

    def _along(self, node: Binary, sign: float, move: "_Move") -> Decided | None:
        """Return the worlds on the two sides of a comparison along one direction, None where it does not turn there."""
        try:
            truths = [self.fires(move.at(t)) for t in move.grid]
            pair = next((p for p in pairwise(range(len(truths))) if truths[p[0]] != truths[p[1]]), None)
            if pair is None:
                return None
            ends = (move.grid[pair[0]], move.grid[pair[1]])
            if node.op in {"==", "!="}:
                false, true = ends if truths[pair[1]] else ends[::-1]
                sound = self._turned_by(node, move.at(true if node.op == "==" else false), 0.37)
                return self._decided(node, move, false, true, true) if sound else None
            return self._between(node, sign, move, pair[0])
        except NotSteadyError:
            return None

    def _between(self, node: Binary, sign: float, move: "_Move", at: int) -> Decided | None:
        places = self._twins[node.op_start]
        over = self._turn(move, (places, sign * _BESIDE), at, want=True)
        under = self._turn(move, (places, -sign * _BESIDE), at, want=False)
        exact = self._turn(move, None, at, want=False)
        if exact is None:
            return None
        if over is None or not self.fires(move.at(over)):
            over = self._turn(move, None, at, want=True)
        if (
            under is None
            or self.fires(move.at(under))
            or not self._turned_by(node, move.at(under), -sign * 4 * _BESIDE)
        ):
            under = exact
        if over is None or not self._turned_by(node, move.at(over), sign * 4 * _BESIDE):
            return None
        return self._decided(node, move, under, over, exact)

    def _turned_by(self, node: Binary, levels: Levels, shift: float) -> bool:
        """Tell whether the rule's answer depends on this comparison in this world."""
        return self.fires(levels) != self.fires(levels, (self._twins[node.op_start], shift))

    def _decided(self, node: Binary, move: "_Move", under: float, over: float, exact: float) -> Decided:
        edge = self._edge(node, move, exact, under, over)
        twins = tuple(sorted(self._twins[node.op_start]))
        return Decided(node.op_start, node.op, move.at(under), move.at(over), edge, twins)

    def _edge(self, node: Binary, move: "_Move", exact: float, under: float, over: float) -> Levels | None:
        """Return a world at the very threshold: a round number near the turn where `>` and `>=` differ."""
        low, high = min(under, over), max(under, over)
        for digits in range(10):
            near = round(exact, digits)
            if not low <= near <= high:
                continue
            levels = move.at(near)
            if self.fires(levels) != self._fires_as(node, levels, _TWIN.get(node.op, node.op)):
                return levels
        return None

    def _fires_as(self, node: Binary, levels: Levels, op: str) -> bool:
        return replace(self.world(levels), operators={node.op_start: op}).fires(self.subject.tree)

    def _turn(
        self, move: "_Move", shifted: tuple[frozenset[int], float] | None, at: int, *, want: bool
    ) -> float | None:
        """Return the point beside the turn nearest to `at` in the grid, on the side where the rule gives `want`."""
        truths = [self.fires(move.at(t), shifted) for t in move.grid]
        turns = [i for i, (a, b) in enumerate(pairwise(truths)) if a != b]
        if not turns:
            return None
        index = min(turns, key=lambda i: abs(i - at))
        low, high = move.grid[index], move.grid[index + 1]
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if middle in {low, high}:
                break
            if self.fires(move.at(middle), shifted) == truths[index]:
                low = middle
            else:
                high = middle
        return low if truths[index] == want else high

    def _absences(self) -> list[Decided]:
        """Return one decided part for each absent(): its series there, and gone."""
        quiet = next((b for b in self._bases if not self._safely(b, default=True)), None)
        found: list[Decided] = []
        for node in walk(self.subject.tree):
            if quiet is None or not isinstance(node, Call) or node.func not in {"absent", "absent_over_time"}:
                continue
            taken = [s for s in walk(node.args[0]) if isinstance(s, Selector)]
            gone = {k: None if any(matches(s, dict(k)) for s in taken) else v for k, v in quiet.items()}
            if self._safely(gone, default=False):
                found.append(Decided(node.start, "absent", quiet, gone))
        return found

    def _safely(self, levels: Levels, *, default: bool) -> bool:
        try:
            return self.fires(levels)
        except NotSteadyError:
            return default

    def _moves(self, base: Mapping[Labels, float | None], node: Binary) -> Iterator["_Move"]:
        numbers = sorted(
            {
                abs(c)
                for n in comparisons(self.subject.tree)
                for side in (n.lhs, n.rhs)
                if (c := constant(side)) is not None
            }
        )
        own = [c for side in (node.lhs, node.rhs) if (c := constant(side)) is not None]
        plain = [a.labels for a in self.subject.atoms if a.bound is None]
        points = sorted({*_POINTS, *(p for c in own for p in (abs(c), abs(c) + 1, max(0.0, abs(c) - 1)))})
        for keys in self._groups():
            yield _Move(base, _FACTORS, lambda t, keys=keys: {k: (base[k] or 0.0) * t for k in keys})
        for key in plain:
            yield _Move(base, points, lambda t, key=key: {key: t})
        for key in plain:
            for other in plain:
                if key != other and dict(key)["__name__"] == dict(other)["__name__"]:
                    yield _Move(base, _SHARES, lambda t, key=key, other=other: _moved(base, other, key, t))
        for histogram in _histograms([a for a in self.subject.atoms if a.bound is not None]):
            pairs = list(pairwise(histogram))
            for low, high in sorted(pairs, key=lambda p: p[0].bound not in numbers):
                yield _Move(base, _SHARES, lambda t, h=histogram, low=low, high=high: _poured(h, low, high, t))

    def _groups(self) -> Iterator[list[Labels]]:
        """Yield series that may be scaled together: of one name, of one label's value, all."""
        keys = [a.labels for a in self.subject.atoms]
        seen: set[frozenset[Labels]] = set()
        pairs = sorted({pair for key in keys for pair in key if pair[0] != "le"})
        for wanted in [*pairs, None]:
            group = [key for key in keys if wanted is None or wanted in key]
            if len(group) > 1 and frozenset(group) not in seen:
                seen.add(frozenset(group))
                yield group


_TWIN = {">": ">=", ">=": ">", "<": "<=", "<=": "<"}


@dataclass(frozen=True, slots=True)
class _Move:
    """A direction: `grid` are the points looked at first, `change` what a point sets over the base."""

    base: Mapping[Labels, float | None]
    grid: Sequence[float]
    change: Callable[[float], Mapping[Labels, float]]

    def at(self, t: float) -> dict[Labels, float | None]:
        return {**self.base, **self.change(t)}


def _moved(base: Mapping[Labels, float | None], source: Labels, target: Labels, t: float) -> dict[Labels, float]:
    total = (base[source] or 0.0) + (base[target] or 0.0) or _MASS
    return {source: total * (1 - t), target: total * t}


def _poured(histogram: Sequence[Atom], low: Atom, high: Atom, t: float) -> dict[Labels, float]:
    empty = {atom.labels: 0.0 for atom in histogram}
    return empty | {low.labels: _MASS * (1 - t), high.labels: _MASS * t}


def _histograms(buckets: Sequence[Atom]) -> list[list[Atom]]:
    groups: dict[Labels, list[Atom]] = {}
    for atom in buckets:
        groups.setdefault(without(atom.labels, "le"), []).append(atom)
    return [sorted(group, key=lambda a: a.bound or 0.0) for group in groups.values()]


def decoyed(levels: Levels, decoys: Sequence[Atom], mode: str, other: Levels) -> dict[Labels, float | None]:
    """Return `levels` with those of the decoys; `other` are the levels of the phase that they take sides with."""
    found = dict(levels)
    for decoy in decoys:
        own = other.get(decoy.source) if decoy.source is not None else 0.0
        found[decoy.labels] = {"quiet": 0.0, "loud": _LOUD, "opposite": 0.0 if own is None else own}[mode]
    return found


@dataclass(frozen=True, slots=True)
class Layout:
    """The series of atoms: plain ones, and histograms with their bounds and the count and sum beside them."""

    plain: tuple[Labels, ...]
    histograms: tuple[tuple[tuple[tuple[Labels, float], ...], Labels, Labels], ...]

    @classmethod
    def of(cls, atoms: Sequence[Atom]) -> "Layout":
        """Return the layout of `atoms`."""
        histograms: list[tuple[tuple[tuple[Labels, float], ...], Labels, Labels]] = []
        for histogram in _histograms([a for a in atoms if a.bound is not None]):
            base = without(histogram[0].labels, "le")
            name = histogram[0].name.removesuffix("_bucket")
            buckets = tuple((atom.labels, atom.bound or 0.0) for atom in histogram)
            count, weight = (changed(base, "__name__", f"{name}_{end}") for end in ("count", "sum"))
            histograms.append((buckets, count, weight))
        return cls(tuple(a.labels for a in atoms if a.bound is None), tuple(histograms))

    def expanded(self, levels: Levels) -> dict[Labels, float]:
        """Return the level of every series that is there: buckets cumulated, with the count and sum beside them."""
        found = {key: level for key in self.plain if (level := levels.get(key, 0.0)) is not None}
        for buckets, count, weight in self.histograms:
            total = weighed = 0.0
            cumulated: dict[Labels, float] = {}
            for key, bound in buckets:
                share = levels.get(key, 0.0)
                if share is None:
                    break
                total += share
                weighed += share * bound if math.isfinite(bound) else 0.0
                cumulated[key] = total
            else:
                found |= cumulated
                found[count], found[weight] = total, weighed
        return found
