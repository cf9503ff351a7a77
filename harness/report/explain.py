"""One judgement in plain words, from the written verdict alone."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from harness.model.errors import SpecError
from harness.model.judgement import Judgement, Verdict
from harness.model.status import Status
from harness.report import verdict_json, words

_MEANING = {
    Status.PASS: "It holds, with proof.",
    Status.FAIL: "It does not hold, and that is the release's doing.",
    Status.INCONCLUSIVE: "Nobody knows yet: what was measured fits both answers. It counts as unproven.",
    Status.ERROR: "It could not be judged: the harness or the machine failed, which says nothing about the release.",
    Status.NOT_APPLICABLE: "It does not apply here, and is counted neither for nor against the release.",
}
_EFFECT = {
    Status.FAIL: "A critical failure rolls back at once.",
    Status.ERROR: "A critical error holds the rollout until the plan's deadline.",
    Status.INCONCLUSIVE: "The rollout waits for more evidence until the plan's deadline.",
}
_FILES = {
    "client": ("evidence/  the load generator's interval records of both arms", "logs/  what both arms said meanwhile"),
    "prometheus": ("evidence/  what was read from Prometheus", "logs/  Prometheus and the scraped services"),
    "probe": ("evidence/  each probe and its note", "logs/  the probed service"),
    "suite": ("junit.xml  the case with its message", "logs/  the services that it asked"),
}


def explain(verdict: Mapping[str, Any], id: str) -> str:  # noqa: A002 - the command's own word for it
    """Return what the run found on `id`, why, and what to do; one paragraph for each source that judged it.

    `verdict` is verdict.json's content. Raises SpecError where the run has no such judgement (it names the
    nearest ones), EnvironmentProblem where `verdict` is no verdict.
    """
    read = verdict_json.decode(verdict)
    found = [judgement for judgement in read.judgements if judgement.id == id]
    if not found:
        raise _unknown(read, id)
    parts = [f"{id}: {found[0].requirement}", *(_one(read, judgement) for judgement in words.worst_first(found))]
    waiver = next((w for w in read.waivers if w["id"] == id), None)
    if waiver:
        parts.append(f"Waived by {waiver['who']} until {waiver['until']}: {waiver['reason']}")
    parts += [_files(found), f"The run: {words.headline(read)} (exit code {int(read.exit_code)})"]
    return "\n\n".join(parts) + "\n"


def _one(verdict: Verdict, j: Judgement) -> str:
    where = f", judged at stage {j.stage}" if j.stage else ""
    lines = [f"{words.STATUS_WORDS[j.status].upper()} by {j.source or 'the harness'}{where}. {_MEANING[j.status]}"]
    if j.status is Status.NOT_APPLICABLE:
        return "\n".join([*lines, f"  because   {j.reason or 'no reason given'}"])
    if j.estimate is not None:
        lines.append(f"  measured  {words.measured(j.estimate, j.unit)}{_span(j)}")
    if j.threshold is not None:
        lines.append(f"  threshold {words.measured(j.threshold, j.unit)}")
    lines.append(f"  evidence  {j.n:,} units judged{_arms(verdict, j)}")
    if j.needed:
        lines.append(f"  needed    about {j.needed:,} more requests would settle it")
    if j.reason:
        lines.append(f"  because   {j.reason}")
    if j.status in _EFFECT:
        effect = _EFFECT[j.status] if j.severity == "critical" else f"It is a {j.severity}: shown, it decides nothing."
        lines.append(f"  effect    {effect}")
    if j.remedy and j.status is not Status.PASS:
        lines.append(f"  to do     {j.remedy}")
    return "\n".join(lines)


def _span(j: Judgement) -> str:
    return f", with confidence {words.interval(j)}" if j.interval else ""


def _arms(verdict: Verdict, j: Judgement) -> str:
    stage = next((s for s in verdict.stages if s.id == j.stage), None)
    if stage is None:
        return ""
    return f"; stage {stage.id} served {stage.n_baseline:,} baseline and {stage.n_candidate:,} candidate requests"


def _files(found: list[Judgement]) -> str:
    notes: dict[str, list[str]] = {}
    for line in dict.fromkeys(
        line for j in found for line in _FILES.get(j.source, ("evidence/  everything measured",))
    ):
        path, _, note = line.partition("  ")
        notes.setdefault(path, []).append(note)
    notes["report.html"] = ["the plots of both arms over time"]
    return "\n".join(["Look at:", *(f"  {path}  {'; '.join(said)}" for path, said in notes.items())])


def _unknown(verdict: Verdict, id_: str) -> SpecError:
    known = sorted({judgement.id for judgement in verdict.judgements})
    near = get_close_matches(id_, known, n=3, cutoff=0.4) or [k for k in known if id_.lower() in k.lower()][:3]
    mend = f"did you mean {', '.join(near)}?" if near else f"it judged {', '.join(known) or 'nothing'}"
    return SpecError(f"run {verdict.run_id} judged no {id_!r}", mend=mend)
