"""What the runs of a rule came to: seven cases, and which mutants nothing noticed. Pure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.model.rule import Finding, Rule
from harness.planning.rules.cases import CASES, Proof, Run
from harness.planning.rules.promtest import ORIGINAL, PROBE, Seen, label, mutant_name, times_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """One rule's proof. `cases` are the seven, by name, of its first part; `delay_s` from a lasting fault to firing.

    `unreachable` mutants differ only at a threshold that no series can hit exactly.
    """

    rule: Rule
    cases: Mapping[str, bool]
    mutants: int
    killed: int
    unreachable: int
    delay_s: float | None
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether every case holds and no mutant lives."""
        return not self.findings and all(self.cases.get(name) for name in CASES)


def judge_runs(proof: Proof, seen: Sequence[Mapping[str, Seen]], killed: set[int], unreachable: set[int]) -> Proven:
    """Return what was proven. `seen` is what each run's alerts did; `killed` and `unreachable` are mutants' indices."""
    findings: list[Finding] = []
    cases: dict[str, bool] = {}
    delay: float | None = None
    for run, answers in zip(proof.runs, seen, strict=True):
        found = _case_findings(proof, run, answers)
        findings += found
        wrong = {f.key for f in found}
        if run.timed and not cases:
            cases = {name: name not in wrong for name in CASES[:5]}
            first = answers[ORIGINAL].first_s
            delay = None if first is None else first - times_of(proof.pace, run).over_s
        elif run.name in {"absent", "reset"}:
            cases[run.name] = not found
    for offset in proof.undecided:
        findings.append(_undecided(proof.rule, offset))
    for index, mutant in enumerate(proof.mutants):
        if index not in killed and index not in unreachable:
            findings.append(_survivor(proof.rule, mutant.offset, label(mutant), mutant.kind))
    named = [_about(proof.rule, f) for f in findings]
    return Proven(
        rule=proof.rule,
        cases=cases,
        mutants=len(proof.mutants),
        killed=len(killed),
        unreachable=len(unreachable),
        delay_s=delay,
        findings=tuple(named),
    )


def _about(rule: Rule, finding: Finding) -> Finding:
    return Finding(finding.check, finding.where, f"{rule.name}: {finding.key}", finding.message, finding.mend)


def _case_findings(proof: Proof, run: Run, answers: Mapping[str, Seen]) -> list[Finding]:
    """Return what a run shows against the rule; the key of a finding is the case that it breaks."""
    if run.fires is None:
        return []
    times = times_of(proof.pace, run)
    first = _time(answers[ORIGINAL])
    silent = first == math.inf
    where = proof.rule.where("expr", max(0, run.place))

    def wrong(case: str, message: str, mend: str) -> Finding:
        return Finding("case", where, case, f"{message} ({run.name})", mend)

    if run.name == "absent" and not run.fires:
        mend = "missing data is for a rule with absent()"
        return [] if silent else [wrong("absent", "it fires when its series are gone", mend)]
    if run.burst:
        message = "it fires on a burst that its long window should have kept out"
        return [] if silent else [wrong("under", message, "look at its windows")]
    found: list[Finding] = []
    if min(first, _time(answers[PROBE])) < times.over_s:
        case = "reset" if run.reset else "under"
        found.append(wrong(case, "it is active below its threshold", "look at what it compares"))
    if run.fires:
        case = "absent" if run.name == "absent" else ""
        found += [wrong(case or name, *said) for name, *said in _firing(proof, run, answers)]
    elif times.over_s <= first < math.inf:
        found.append(wrong("reset", "a counter's reset makes it fire", "use rate() or increase() on counters"))
    return found


def _firing(proof: Proof, run: Run, answers: Mapping[str, Seen]) -> Iterator[tuple[str, str, str]]:
    """Yield (case, message, mend) of a run in which the rule must fire, after `for`, and end."""
    alert, first = answers[ORIGINAL], _time(answers[ORIGINAL])
    if first == math.inf:
        yield "over", "it never fires above its threshold", "look at what it compares, and at `for`"
        return
    tick = proof.pace.tick_s
    due = _time(answers[PROBE]) + math.ceil(proof.rule.for_s / tick) * tick
    if first < due:
        yield "for less a tick", f"it fires {due - first:g} s before `for` is over", "look at keep_firing_for"
    if first > due:
        yield "for", f"it fires {first - due:g} s late", "what it watches changes while it waits"
    if not alert.mid:
        yield "over", "it stops firing while the fault lasts", "look at its windows"
    if proof.rule.keep_firing_s > 0 or not run.ends:
        return
    if alert.late and any(part.place == run.place and len(part.twins) > 1 for part in proof.decided):
        yield "resolved", "it still fires when its short window has forgotten the fault", "look at its windows"
    if alert.end:
        yield "resolved", "it still fires when the fault is over", "look at its windows"


def _time(seen: Seen) -> float:
    return math.inf if seen.first_s is None else seen.first_s


def _undecided(rule: Rule, offset: int) -> Finding:
    return Finding(
        "undecided",
        rule.where("expr", offset),
        "expr",
        "nothing was found that this comparison decides alone: it may never matter",
        "drop it, or write the rule so that it does",
    )


def _survivor(rule: Rule, offset: int, change: str, kind: str) -> Finding:
    key = "for" if kind == "for" else "expr"
    where = rule.where("for") if kind == "for" else rule.where("expr", offset)
    return Finding(
        "mutant",
        where,
        key,
        f"a rule changed so behaves the same in every case: {change}",
        "drop what does not matter, or write the rule so that it does",
    )


def fate(proof: Proof, seen: Sequence[Mapping[str, Seen]], failed: set[int]) -> tuple[set[int], set[int]]:
    """Return the mutants that were noticed, and those whose threshold no run hits exactly.

    `failed` are mutants whose evaluation ended in an error: noticed as well.
    """
    killed = set(failed)
    exact: set[int] = set()  # comparisons whose very threshold was reached
    for answers in seen:
        for index in range(len(proof.mutants)):
            mutant = answers.get(mutant_name(index))
            if mutant is not None and mutant != answers[ORIGINAL]:
                killed.add(index)
    for index, mutant in enumerate(proof.mutants):
        if index in killed and mutant.edge:
            exact.add(mutant.offset)
    unreachable = {i for i, m in enumerate(proof.mutants) if m.edge and i not in killed and m.offset not in exact}
    return killed, unreachable
