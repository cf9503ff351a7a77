"""Proves alert rules by promtool: cases and mutants of all rules, in a few processes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.adapters.promtool import Promtool
from harness.model.errors import EnvironmentProblem
from harness.model.rule import Finding, Monitoring, Rule
from harness.planning.promql import PromqlError
from harness.planning.promql.steady import NotSteadyError
from harness.planning.rules.cases import Proof, keep, pace_of, proof_of
from harness.planning.rules.catalogue import Catalogue
from harness.planning.rules.mutate import mutants
from harness.planning.rules.promtest import (
    ORIGINAL,
    PROBE,
    Seen,
    mutant_name,
    read_answers,
    read_errors,
    rule_file,
    rules_of,
    test_file,
)
from harness.planning.rules.sense import sense
from harness.planning.rules.subject import subject_of
from harness.planning.rules.verdicts import Proven, fate, judge_runs

_SILENT = Seen(None, mid=False, late=False, end=False)
_ROUNDS = 4  # of leaving out mutants whose evaluation fails

Questions = list[tuple[Mapping[str, Any], Mapping[str, Any]]]


@dataclass(slots=True)
class _Case:
    """A rule's proof under way: what its runs showed, and which mutants failed to evaluate."""

    proof: Proof
    shown: dict[int, dict[str, Seen]] = field(default_factory=dict[int, dict[str, Seen]])
    failed: set[int] = field(default_factory=set[int])
    again: bool = False

    def questions(self, number: int, records: Sequence[Rule], runs: Sequence[int]) -> Questions:
        tick, dropped = self.proof.pace.tick_s, frozenset(self.failed)
        return [
            (
                rule_file(rules_of(self.proof, run, f"{number}x{run}", records, dropped), tick),
                test_file(self.proof, self.proof.runs[run]),
            )
            for run in runs
        ]

    def wanted(self) -> list[int]:
        """Return the runs to ask for: all, or for mutants that are tried once more, those that may tell."""
        return [run for run in range(len(self.proof.runs)) if not self.again or run in self.proof.chosen[0]]

    def seen(self) -> list[dict[str, Seen]]:
        """Return what each run's alerts did; those that never fired as well."""
        found: list[dict[str, Seen]] = []
        for run in range(len(self.proof.runs)):
            present = [i for i, runs in enumerate(self.proof.chosen) if run in runs and i not in self.failed]
            names = [ORIGINAL, PROBE, *(mutant_name(i) for i in present)]
            shown = self.shown.get(run)
            found.append({} if shown is None else {name: shown.get(name, _SILENT) for name in names})
        return found


def prove(
    monitoring: Monitoring, promtool: Promtool, progress: Callable[[str], None]
) -> tuple[list[Proven], list[Finding]]:
    """Return each alert's proof, and a finding for each that cannot be proven at all."""
    catalogue = Catalogue.of(monitoring)
    records = [rule for rule in monitoring.rules if not rule.alert]
    cases: list[_Case] = []
    findings: list[Finding] = []
    for rule in monitoring.alerts:
        made = _prepared(rule, records, monitoring, catalogue)
        if isinstance(made, Finding):
            findings.append(made)
        else:
            cases.append(_Case(made))
            findings += sense(rule, made.subject, made.decided)
    progress(f"{sum(len(c.proof.runs) for c in cases)} runs of {len(cases)} rules")
    _asked(cases, records, promtool)
    fates = [fate(case.proof, case.seen(), case.failed) for case in cases]
    again = _again(cases, fates)
    if again:
        progress(f"{sum(len(c.proof.mutants) for c in again.values())} mutants once more, in every run")
        _asked(list(again.values()), records, promtool)
    results: list[Proven] = []
    for number, case in enumerate(cases):
        killed, unreachable = fates[number]
        if number in again:
            killed, unreachable = _merged(case, again[number], killed, unreachable)
        results.append(judge_runs(case.proof, case.seen(), killed, unreachable))
    return results, findings


def _prepared(rule: Rule, records: Sequence[Rule], monitoring: Monitoring, catalogue: Catalogue) -> Proof | Finding:
    try:
        by_name: dict[str, list[Rule]] = {}
        for record in records:
            by_name.setdefault(record.name, []).append(record)
        subject = subject_of(rule, by_name, catalogue)
        pace = pace_of(rule, subject, monitoring.jobs, catalogue)
        return proof_of(rule, subject, pace, mutants(rule.expr, rule.for_s, pace.tick_s))
    except PromqlError as error:
        where, why = rule.where("expr", error.offset), str(error)
    except NotSteadyError as error:
        where, why = rule.where("expr"), str(error)
    mend = "write it with functions that steady series decide (rate, increase, quantiles, *_over_time, absent)"
    return Finding("unproven", where, f"{rule.name}: expr", f"no cases can be made for it: {why}", mend)


def _asked(cases: Sequence[_Case], records: Sequence[Rule], promtool: Promtool) -> None:
    """Run all runs; those that a mutant's failing evaluation spoiled again, without it.

    Raises EnvironmentProblem where promtool's answers are not understood.
    """
    waiting = {number: case.wanted() for number, case in enumerate(cases)}
    for _ in range(_ROUNDS):
        text = promtool.test(
            [q for number, runs in waiting.items() for q in cases[number].questions(number, records, runs)]
        )
        answers, errors = read_answers(text), read_errors(text)
        spoiled: dict[int, list[int]] = {}
        for number, runs in waiting.items():
            for run in runs:
                key = f"{number}x{run}"
                if key in answers:
                    cases[number].shown[run] = answers[key]
                    continue
                failed = {int(name[1:]) for name in errors.get(key, ()) if name.startswith("M")}
                if not failed:
                    raise _unanswered(cases[number].proof, text, promtool)
                cases[number].failed |= failed
                spoiled.setdefault(number, []).append(run)
        if not spoiled:
            return
        waiting = spoiled
    msg = f"promtool fails again and again on mutants of {cases[next(iter(waiting))].proof.rule.name}"
    raise EnvironmentProblem(msg, mend="report this rule")


def _unanswered(proof: Proof, text: str, promtool: Promtool) -> EnvironmentProblem:
    said = next((line.strip() for line in text.splitlines() if "err" in line.lower()), text.strip()[-200:])
    msg = f"promtool {promtool.version} gave no answer on {proof.rule.name}: {said or 'nothing was said'}"
    return EnvironmentProblem(msg, mend="try another promtool, 2.33 or newer, on PATH")


def _again(cases: Sequence[_Case], fates: Sequence[tuple[set[int], set[int]]]) -> dict[int, _Case]:
    """Return the rules with mutants that the run chosen for them did not notice: each is given every run."""
    again: dict[int, _Case] = {}
    for number, (case, (killed, unreachable)) in enumerate(zip(cases, fates, strict=True)):
        alive = [i for i in range(len(case.proof.mutants)) if i not in killed | unreachable]
        if alive:
            again[number] = _Case(keep(case.proof, alive), again=True)
    return again


def _merged(case: _Case, again: _Case, killed: set[int], unreachable: set[int]) -> tuple[set[int], set[int]]:
    alive = [i for i in range(len(case.proof.mutants)) if i not in killed | unreachable]
    later, beyond = fate(again.proof, again.seen(), again.failed)
    return killed | {alive[i] for i in later}, unreachable | {alive[i] for i in beyond}
