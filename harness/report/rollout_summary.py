"""summary.md of a live rollout: what was asked, how it ended, its stages, and all that was said on the way."""

from collections.abc import Sequence

from harness.model.judgement import StageRecord
from harness.planning.rollout import State
from harness.planning.rollouts import Past
from harness.report.words import number

_LOOK = "looked ("


def lines_of(log: str, rollout: str) -> list[str]:
    """Return the lines of one rollout from the log of all, each with its moment; looks are left out."""
    found: list[str] = []
    for line in log.splitlines():
        at, _, rest = line.partition(" ")
        whose, _, text = rest.partition(" ")
        if whose == rollout and not text.startswith(_LOOK):
            found.append(f"{at} {text}")
    return found


def summary(past: Past, state: State, records: Sequence[StageRecord], lines: Sequence[str]) -> str:
    """Return the page as Markdown. `records` are the stages that this process left, `lines` what was said."""
    ended = f"{state.decision}, cause {state.cause}" if state.decision else f"not finished ({state.phase})"
    parts = [
        f"# {past.feature}: {past.base:g} to {past.goal:g} %, {ended}",
        f"The candidate is left at {state.share:g} %. {_text(state.reason)}".rstrip(),
        f"Rollout `{past.id}`, {past.way}, plan `{past.plan}`, asked for by {_text(past.who)}.",
        _stages(records),
        "\n".join(["What was done and said:", "", *(f"- {_text(line)}" for line in lines)]),
        "Every act is in the journal: `rollgate rollout ... --export FILE`.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _stages(records: Sequence[StageRecord]) -> str:
    if not records:
        return ""
    rows = ["| stage | share | baseline n | candidate n | p95 baseline | p95 candidate | status |", "|---" * 7 + "|"]
    rows += [
        f"| {one.id} | {one.share:g} % | {one.n_baseline} | {one.n_candidate} | {_ms(one.p95_baseline_ms)} "
        f"| {_ms(one.p95_candidate_ms)} | {one.status} |"
        for one in records
    ]
    return "\n".join(rows)


def _ms(value: float | None) -> str:
    return "" if value is None else f"{number(value)} ms"


def _text(text: str) -> str:
    return text.replace("<", "&lt;").replace("|", "\\|")
