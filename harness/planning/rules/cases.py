"""The runs that prove a rule: what its series do, and when the rule must fire and be silent."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from harness.model.rule import Job, Rule
from harness.planning.promql.parse import parse
from harness.planning.promql.steady import NotSteadyError
from harness.planning.promql.syntax import Call, Node, Selector, Subquery, comparisons, walk
from harness.planning.rules.catalogue import Catalogue
from harness.planning.rules.levels import MODES, Decided, Levels, Solver
from harness.planning.rules.mutate import Mutant
from harness.planning.rules.subject import Atom, Subject

CASES = ("under", "over", "for less a tick", "for", "resolved", "absent", "reset")
_LONG_S = 1800.0  # from a window of this length on, a test's steps are longer than the real ones
_STEPS = 3  # of a long rule, in its shortest window
_FEW = 4


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between evaluations and samples, until series have settled, the rule's `for`, its least window."""

    tick_s: int
    sample_s: int
    settle_s: int
    for_s: float
    shortest_s: float = 0.0

    def aligned(self, seconds: float) -> int:
        """Return `seconds`, rounded up to both evaluations and samples."""
        step = math.lcm(self.tick_s, self.sample_s)
        return math.ceil(seconds / step) * step

    @property
    def calm_s(self) -> int:
        """How long a phase is that must show that nothing more happens."""
        return self.aligned(self.settle_s + self.for_s + _FEW * self.tick_s)

    @property
    def burst_s(self) -> int:
        """How long a fault is that fills the shortest window and outlasts `for`."""
        return self.aligned(self.shortest_s + self.for_s + (_FEW + 2) * self.tick_s)

    @property
    def late_s(self) -> int:
        """How long after a fault the shortest window has forgotten it."""
        return self.aligned(self.shortest_s + _FEW * self.tick_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One test: three phases of levels, each `pace.calm_s` long, after a calm beginning of the first.

    `name` says which part of the rule it turns and how. `fires` tells whether the rule must fire in the second phase.
    `timed` runs are whole proofs of firing, waiting and resolving. The fault of a `burst` fills the rule's shortest
    window and not its longest.
    """

    name: str
    phases: tuple[Levels, Levels, Levels]
    fires: bool | None
    timed: bool = False
    decoys: str = "quiet"
    burst: bool = False
    ends: bool = False  # what comes after the fault is looked at as well
    reset: bool = False
    place: int = -1


@dataclass(frozen=True, slots=True)
class Proof:
    """All runs of a rule, and in which of them each mutant is expected to give itself away."""

    rule: Rule
    subject: Subject
    pace: Pace
    decoys: tuple[Atom, ...]
    runs: tuple[Run, ...]
    mutants: tuple[Mutant, ...]
    chosen: tuple[tuple[int, ...], ...]  # per mutant, indices of runs
    decided: tuple[Decided, ...]
    undecided: tuple[int, ...]  # offsets of comparisons that nothing decides alone


def pace_of(rule: Rule, subject: Subject, jobs: Sequence[Job], catalogue: Catalogue) -> Pace:
    """Return how fast a rule's tests go: at its own pace, a long window's in fewer steps."""
    trees = [subject.tree, *(node for made in subject.recorded.values() for node, _ in made)]
    windows = sorted({w for tree in trees for w in _windows(tree)})
    tick = max(1, round(rule.interval_s))
    known = {job.name: job.interval_s for job in jobs}
    scraped = {known[name] for s in subject.looked_at for name in catalogue.jobs(s) if name in known}
    sample = max(1, round(max(scraped, default=float(tick))))
    longest = windows[-1] if windows else 0.0
    ranges = [w for tree in trees for w in _ranges(tree)]
    if longest >= _LONG_S:
        tick = sample = max(tick, int(min(ranges, default=longest) / _STEPS) // 5 * 5 or 1)
    return Pace(tick, sample, math.ceil(longest) + 2 * tick, rule.for_s, min(ranges, default=0.0))


def _windows(tree: Node) -> Iterator[float]:
    for node in walk(tree):
        if isinstance(node, Selector | Subquery):
            yield (node.range_s or 0.0) + abs(node.offset_s)


def _ranges(tree: Node) -> Iterator[float]:
    return (node.range_s for node in walk(tree) if isinstance(node, Selector | Subquery) and node.range_s)


def detects_absence(tree: Node) -> bool:
    """Tell whether a rule is about series that are gone."""
    calls = {node.func for node in walk(tree) if isinstance(node, Call)}
    return bool(calls & {"absent", "absent_over_time"}) or (
        "present_over_time" in calls and any(getattr(node, "op", "") == "unless" for node in walk(tree))
    )


def proof_of(rule: Rule, subject: Subject, pace: Pace, mutants: Sequence[Mutant]) -> Proof:
    """Return the runs that prove `rule`. Raises NotSteadyError where no series can be found that decide it."""
    solver = Solver(subject)
    decided, undecided = solver.solve()
    if not decided:
        solver.complain()
        raise NotSteadyError("no series were found that make it fire")
    solver.fit_decoys(decided)
    runs = list(_runs(decided, subject))
    bursts = any(run.burst for run in runs)
    fitting = [
        replace(run, name=f"{run.name}, decoys {mode}", timed=False, ends=run.ends and bursts, decoys=mode)
        for mode in MODES[1:]
        for run in runs
        if (run.timed or run.burst) and solver.decoys
    ]
    every = [*runs, *fitting]
    chosen = [_choose(mutant, every, solver, _part(mutant, decided, subject)) for mutant in mutants]
    used = {index for indices in chosen for index in indices if index >= len(runs)}
    if bursts:
        used |= {
            i for i in range(len(runs), len(every)) if every[i].decoys == "loud" and every[i].place == runs[0].place
        }
    if fitting:
        used |= {i for i in range(len(runs), len(every)) if every[i].place == runs[0].place and not every[i].burst}
    kept = [*range(len(runs)), *sorted(used)]
    place = {old: new for new, old in enumerate(kept)}
    return Proof(
        rule,
        subject,
        pace,
        solver.decoys,
        tuple(every[i] for i in kept),
        tuple(mutants),
        tuple(tuple(place[i] for i in indices) for indices in chosen),
        tuple(decided),
        tuple(undecided),
    )


def _runs(decided: Sequence[Decided], subject: Subject) -> Iterator[Run]:
    first = decided[0]
    for part in decided:
        phases = (part.under, part.over, part.under)
        yield Run(
            name=f"{part.text} at {part.place}", phases=phases, fires=True, timed=True, ends=True, place=part.place
        )
        if len(part.twins) > 1:
            yield Run(
                name=f"burst, {part.text} at {part.place}", phases=phases, fires=False, burst=True, place=part.place
            )
    gone: Levels = dict.fromkeys(first.under)
    absent = detects_absence(subject.tree)
    yield Run(name="absent", phases=(first.under, gone, gone), fires=absent)
    yield Run(name="reset", phases=(first.under, first.under, first.under), fires=False, reset=True)
    for part in decided:
        if part.edge is not None and len(part.twins) == 1:
            phases = (part.under, part.edge, part.under)
            yield Run(
                name=f"{part.text} at {part.place}, at the threshold", phases=phases, fires=None, place=part.place
            )


def _part(mutant: Mutant, decided: Sequence[Decided], subject: Subject) -> int:
    """Return the place of the part that a mutant is in, -1 where it is in none."""
    inside = [n for n in comparisons(subject.tree) if n.start <= mutant.offset < n.end]
    places = {n.op_start for n in inside}
    return next((part.place for part in decided if places & {part.place, *part.twins}), -1)


def _choose(mutant: Mutant, runs: Sequence[Run], solver: Solver, part: int) -> tuple[int, ...]:
    """Return the runs in which a mutant should differ: the first that steady series say so of, else what may.

    What a window changes steady series do not tell: a burst does, or that the rule ends when it is over.
    """
    timed = [i for i, run in enumerate(runs) if run.timed]
    if mutant.kind == "for":
        return tuple(timed[:1])
    edges = [i for i, run in enumerate(runs) if mutant.edge and run.fires is None and run.place == mutant.offset]
    if edges:
        return tuple(edges)
    try:
        tree = parse(mutant.expr)
    except ValueError:
        return tuple(timed[:1])
    for index, run in enumerate(runs):
        if run.fires is None or run.reset or run.burst:
            continue
        try:
            under, over, _ = run.phases
            if solver.world(under, mode=run.decoys, other=over).fires(tree):
                return (index,)
            if solver.world(over, mode=run.decoys, other=under).fires(tree) != run.fires:
                return (index,)
        except NotSteadyError:
            return (index,)
    if any(run.burst for run in runs):
        mode = "loud" if mutant.kind == "matcher" and any(run.decoys == "loud" for run in runs) else "quiet"
        return tuple(i for i, r in enumerate(runs) if (r.burst or r.fires) and r.decoys == mode and r.place == part)
    return tuple(i for i, run in enumerate(runs) if not run.reset)


def keep(proof: Proof, mutants: Sequence[int]) -> Proof:
    """Return the proof with these mutants alone, each in every run where it may still differ."""
    bursts = any(run.burst for run in proof.runs)
    left = tuple(
        i
        for i, run in enumerate(proof.runs)
        if not run.reset and (not bursts or ((run.burst or run.fires) and run.decoys != "opposite"))
    )
    return replace(proof, mutants=tuple(proof.mutants[i] for i in mutants), chosen=tuple(left for _ in mutants))
