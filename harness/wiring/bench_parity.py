"""`rollgate bench parity`: every known release gated on local processes and on containers, and what differs."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from harness import spec
from harness.adapters.suites import read_cases
from harness.model.errors import EnvironmentProblem, SpecError
from harness.wiring.bench import Cell, judge_cell, kept_or_run, known_releases, rollgate
from harness.wiring.provenance import code_digest, commit

PROVIDERS = ("native", "docker")
_SHORT = 12
_HEAD = [
    "| release | expected | native | docker | named | named | cases | objectives | s native | s docker | same |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One gate: its verdict, the ids of its suites' cases with what became of them, and seconds to be well by part."""

    verdict: Mapping[str, Any]
    cases: Mapping[str, str]
    ready_s: Mapping[str, float]


def bench_parity(
    system: str, *, only: Sequence[str], out: Path, table: Path | None, echo: Callable[[str], None]
) -> int:
    """Gate what has no verdict of this code yet, print the tables; return 0 when both providers say the same.

    Raises SpecError for a release that there is not, EnvironmentProblem when the code changes meanwhile.
    """
    loaded = spec.load_system(spec.find_system(system))
    cells = known_releases(loaded)
    if unknown := sorted(set(only) - {cell.name for cell in cells}):
        msg = f"there is no release {', '.join(unknown)}"
        raise SpecError(msg, key="--only", mend=f"choose of {', '.join(cell.name for cell in cells)}")
    digest = code_digest(loaded.root)
    rows: list[str] = []
    starts: dict[str, Mapping[str, float]] = {}
    differ = 0
    for cell in [cell for cell in cells if not only or cell.name in only]:
        both: dict[str, Seen] = {}
        for provider in PROVIDERS:
            folder = out / provider / cell.folder
            folder.parent.mkdir(parents=True, exist_ok=True)
            command = ["gate", str(loaded.root), "--provider", provider, "--release", cell.name, "--out", str(folder)]
            verdict = kept_or_run(folder, digest, loaded.root, partial(rollgate, command), echo)
            both[provider] = Seen(verdict=verdict, cases=_cases(folder), ready_s=_ready(folder))
            starts.setdefault(provider, both[provider].ready_s)
        row, same = compared(cell, both["native"], both["docker"])
        differ += not same
        rows.append(row)
        echo(row)
    origin = ", ".join(part for part in (f"code {digest[:_SHORT]}", commit() and f"commit {commit()}") if part)
    last = f"{len(rows)} releases on two providers, {differ} differ."
    text = "\n".join([f"Of {origin}.", "", *_HEAD, *rows, "", last, "", *start_rows(starts)]) + "\n"
    echo(last)
    (out / "table.md").write_text(text, encoding="utf-8")
    if table is not None:
        head = f"# Native and docker: {loaded.name}\n\nMade by `rollgate bench parity --system {loaded.name}`.\n\n"
        table.write_text(head + text, encoding="utf-8")
    return 1 if differ else 0


def compared(cell: Cell, native: Seen, docker: Seen) -> tuple[str, bool]:
    """Return the table's row, and whether both are right and say the same.

    The same are decision, cause and exit code, the ids of the cases and of the judgements. Which of several failing
    objectives was first is chance; both must name an expected one. A case may be skipped on one provider and not on
    the other: the column says how many are.
    """
    told = {name: judge_cell(cell, dict(one.verdict)) for name, one in (("native", native), ("docker", docker))}
    answers = [
        tuple(str(one.verdict.get(key)) for key in ("decision", "cause", "exit_code")) for one in (native, docker)
    ]
    only_one = sorted(set(native.cases) ^ set(docker.cases))
    judged = [{str(one["id"]) for one in seen.verdict.get("judgements", ())} for seen in (native, docker)]
    apart = sorted(judged[0] ^ judged[1])
    same = answers[0] == answers[1] and not only_one and not apart and all(sound for _, sound in told.values())
    ran = [sum(1 for outcome in seen.cases.values() if outcome != "skipped") for seen in (native, docker)]
    cells = [
        cell.name,
        ", ".join(f"{key} {value}" for key, value in cell.expect.items()),
        *(f"{decision}, {cause} ({code})" for decision, cause, code in answers),
        *(told[name][0].split(" | ")[6] for name in PROVIDERS),
        f"{len(native.cases)}, run {ran[0]} and {ran[1]}" if not only_one else f"**differ**: {', '.join(only_one[:3])}",
        str(len(judged[0])) if not apart else f"**differ**: {', '.join(apart[:3])}",
        *(told[name][0].split(" | ")[9] for name in PROVIDERS),
        "yes" if same else "**NO**",
    ]
    return "| " + " | ".join(one.replace("|", "/") for one in cells) + " |", same


def start_rows(starts: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return a table of the seconds until each part was well, on each provider."""
    names = list(dict.fromkeys(name for one in starts.values() for name in one))
    if not names:
        return []
    head = ["Seconds from a part's start until it was well, in the first gate on each:", ""]
    head += [f"| part | {' | '.join(starts)} |", f"|---|{'---|' * len(starts)}"]
    shown = [" | ".join(f"{one[name]:.1f}" if name in one else "-" for one in starts.values()) for name in names]
    return head + [f"| {name} | {row} |" for name, row in zip(names, shown, strict=True)]


def _cases(folder: Path) -> dict[str, str]:
    found, ended = read_cases(folder / "suites" / "cases.jsonl")
    if not ended:
        return {}
    return {case.name: case.outcome for case in found}


def _ready(folder: Path) -> dict[str, float]:
    try:
        told = cast("dict[str, Any]", json.loads((folder / "stack.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        if (folder / "verdict.json").exists():  # it ended before its stack was up
            return {}
        raise EnvironmentProblem(f"{folder.name} has no stack.json: {error}") from error
    return {str(one["name"]): float(one["ready_s"]) for one in told["instances"] if one["ready_s"] is not None}
