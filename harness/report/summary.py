"""summary.md: what a CI step shows of a run, on one screen."""

from collections.abc import Sequence

from harness.model.judgement import Judgement, Verdict
from harness.model.status import Cause, Status
from harness.ports import Case
from harness.report import words

_MOST_ROWS = 12
_MARKS = {
    Status.PASS: "✅",
    Status.FAIL: "❌",
    Status.INCONCLUSIVE: "❔",
    Status.ERROR: "⚠️",
    Status.NOT_APPLICABLE: "·",
}


def summary(verdict: Verdict, cases: Sequence[Case] = (), *, command: str = "") -> str:
    """Return the Markdown of summary.md: the verdict, what is wrong or unproven, the stages, what may be claimed."""
    parts = [_top(verdict), _findings(verdict), _stages(verdict), _suites(cases), _claims(verdict)]
    parts.append(
        f"Run `{verdict.run_id}` · full report: `report.html` · again: `{command or words.reproduce(verdict)}`"
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _top(verdict: Verdict) -> str:
    promoted = verdict.cause is Cause.PROOF
    mark = _MARKS[Status.PASS if promoted else verdict.status if verdict.status is not Status.PASS else Status.ERROR]
    if verdict.cause is Cause.OPERATOR:
        mark = "✋"
    lines = [
        f"## {mark} {words.DECISION_WORDS[verdict.decision]}: {_cell(verdict.system)}",
        "",
        f"**{_text(words.headline(verdict))}**",
    ]
    if verdict.reason:
        lines += ["", _text(verdict.reason)]
    facts = [
        f"exit code {int(verdict.exit_code)}",
        f"plan `{verdict.plan}`",
        f"provider `{verdict.provider}`" if verdict.provider else "",
        f"took {words.duration(words.took(verdict))}",
        ", ".join(f"{n} {words.STATUS_WORDS[s]}" for s, n in words.counts([j.status for j in verdict.judgements])),
    ]
    lines += ["", " · ".join(fact for fact in facts if fact)]
    if verdict.rehearsal:
        lines += ["", f"> **Rehearsal**: {_text('; '.join(words.rehearsal_reasons(verdict)))}."]
    return "\n".join(lines)


def _findings(verdict: Verdict) -> str:
    open_ones = [
        j for j in words.worst_first(verdict.judgements) if j.status in {Status.FAIL, Status.ERROR, Status.INCONCLUSIVE}
    ]
    if not open_ones:
        return ""
    rows = ["| | objective | measured | threshold | why, and what to do |", "|---|---|---|---|---|"]
    rows += [_finding(j) for j in open_ones[:_MOST_ROWS]]
    if len(open_ones) > _MOST_ROWS:
        rows.append(f"\n… and {len(open_ones) - _MOST_ROWS} more, in report.html")
    return "\n".join(rows)


def _finding(j: Judgement) -> str:
    measured = words.measured(j.estimate, j.unit)
    if span := words.interval(j):
        measured += f" ({span})"
    advice = " → ".join(part.rstrip(".") for part in (j.reason, j.remedy) if part)
    note = "" if j.severity == "critical" else f" ({j.severity})"
    name = f"`{_cell(j.id)}`{note}<br>{_cell(j.requirement)}"
    return f"| {_MARKS[j.status]} | {name} | {_cell(measured)}, n {j.n:,} | {_limit(j)} | {_cell(advice)} |"


def _limit(j: Judgement) -> str:
    return _cell(words.measured(j.threshold, j.unit))


def _stages(verdict: Verdict) -> str:
    if not verdict.stages:
        return ""
    rows = ["| stage | candidate | requests b / c | p95 b / c | |", "|---|---:|---:|---:|---|"]
    for s in verdict.stages:
        p95 = " / ".join("—" if v is None else f"{words.number(v)} ms" for v in (s.p95_baseline_ms, s.p95_candidate_ms))
        n = f"{s.n_baseline:,} / {s.n_candidate:,}"
        status = f"{_MARKS[s.status]} {_cell(s.reason)}".strip()
        rows.append(f"| {_cell(s.id)} | {words.number(s.share)} % | {n} | {p95} | {status} |")
    return "\n".join(rows)


def _suites(cases: Sequence[Case]) -> str:
    if not cases:
        return ""
    outcomes = [case.outcome for case in cases]
    said = [f"{outcomes.count(o)} {o}" for o in ("failed", "error", "passed", "skipped") if o in outcomes]
    lines = [f"Suites against the stack: {', '.join(said)}."]
    broken = [case for case in cases if case.outcome in {"failed", "error"}]
    lines += [f"- ❌ `{_cell(c.name)}`: {_cell(c.message.splitlines()[0] if c.message else '')}" for c in broken[:5]]
    return "\n".join(lines)


def _claims(verdict: Verdict) -> str:
    if not verdict.claims or verdict.cause is not Cause.PROOF:
        return ""
    return "What may be claimed:\n" + "\n".join(f"- {_text(claim)}" for claim in verdict.claims)


def _text(text: str) -> str:
    return text.replace("<", "&lt;")


def _cell(text: str) -> str:
    return _text(text).replace("|", "\\|").replace("\n", " ")
