"""`rollgate bench gate`: one gate timed by phase, or the matrix of known releases and drills, resumable."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import yaml

from harness import spec
from harness.model.errors import EnvironmentProblem, SpecError
from harness.model.system import System
from harness.wiring.provenance import code_digest, commit

_GOOD_RUNS, _BAD_RUNS = 10, 3
_ORIGIN = "code.sha256"  # beside a cell's verdict: the digest of the code that made it
_SHORT = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run of the matrix and what it must end in."""

    kind: str  # "release" or "drill"
    name: str
    seed: int
    expect: dict[str, str]

    @property
    def folder(self) -> str:
        """Return the run's folder name."""
        return f"{self.kind}-{self.name}-{self.seed}"


def bench_gates(
    system: str,
    *,
    matrix: bool,
    quick: bool,
    only: Sequence[str],
    out: Path,
    table: Path | None,
    echo: Callable[[str], None],
) -> int:
    """Run the cells that have no verdict of this code yet, print the table; return 0 when no verdict is wrong.

    Raises EnvironmentProblem when the code changes meanwhile: a table is of one code.
    """
    loaded = spec.load_system(spec.find_system(system))
    cells = _cells(loaded, quick=quick) if matrix else [Cell(kind="release", name="good", seed=1, expect=_GOOD)]
    unknown = sorted(set(only) - {cell.name for cell in cells})
    if unknown:
        msg = f"there is no release or drill {', '.join(unknown)}"
        raise SpecError(msg, key="--only", mend=f"choose of {', '.join(sorted({cell.name for cell in cells}))}")
    cells = [cell for cell in cells if not only or cell.name in only]
    out.mkdir(parents=True, exist_ok=True)
    digest = code_digest(loaded.root)

    def verdict(cell: Cell, echo: Callable[[str], None]) -> dict[str, Any]:
        return _run(loaded, cell, out / cell.folder, digest, echo)

    text, wrong = tabulate(cells, verdict, digest, echo)
    (out / "table.md").write_text(text, encoding="utf-8")
    if table is not None:
        options = "".join(f" --{name}" for name, wanted in (("matrix", matrix), ("quick", quick)) if wanted)
        made = f"Made by `rollgate bench gate --system {loaded.name}{options}`."
        head = f"# Gates on known releases and drills: {loaded.name}\n\n{made}\n\n"
        table.write_text(head + text, encoding="utf-8")
    return 1 if wrong else 0


def tabulate(
    cells: Sequence[Cell],
    verdict: Callable[[Cell, Callable[[str], None]], dict[str, Any]],
    digest: str,
    echo: Callable[[str], None],
) -> tuple[str, int]:
    """Have every cell's verdict made, in order; return the table, and how many are wrong."""
    rows: list[str] = []
    wrong = 0
    for number, cell in enumerate(cells, 1):
        row, sound = judge_cell(cell, verdict(cell, lambda text, n=number: echo(f"[{n}/{len(cells)}] {text}")))
        wrong += not sound
        rows.append(row)
        echo(row)
    origin = ", ".join(part for part in (f"code {digest[:_SHORT]}", commit() and f"commit {commit()}") if part)
    lines = [f"Of {origin}.", "", *_HEAD, *rows, "", f"{len(rows)} runs, {wrong} wrong verdicts."]
    echo(lines[-1])
    return "\n".join(lines) + "\n", wrong


_GOOD = {"decision": "promote", "cause": "proof"}
_HEAD = [
    "| run | seed | expected | decision | cause | exit | named | judged | to decision | seconds | right |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
]


def _cells(system: System, *, quick: bool) -> list[Cell]:
    found: list[Cell] = []
    for kind in ("release", "drill"):
        for path in sorted((system.root / f"{kind}s").glob("*.yaml")):
            if path.stem == "baseline":
                continue
            raw = cast("dict[str, Any]", yaml.safe_load(path.read_text(encoding="utf-8")))
            expect = {str(k): str(v) for k, v in raw.get("expect", _GOOD).items()}
            runs = 1 if quick else _GOOD_RUNS if path.stem == "good" else _BAD_RUNS
            found += [Cell(kind=kind, name=path.stem, seed=seed, expect=expect) for seed in range(1, runs + 1)]
    # Seed by seed, so that a matrix cut short has seen everything as often as anything else.
    return sorted(found, key=lambda cell: cell.seed)


def known_releases(system: System) -> list[Cell]:
    """Return one run of each release that says what it must end in, the good one first."""
    found = [cell for cell in _cells(system, quick=True) if cell.kind == "release"]
    return sorted(found, key=lambda cell: cell.name != "good")


def _run(system: System, cell: Cell, folder: Path, digest: str, echo: Callable[[str], None]) -> dict[str, Any]:
    """Run one cell in a process of its own, unless its verdict is there already and this code made it."""

    def gate() -> subprocess.CompletedProcess[str]:
        command = ["gate", str(system.root), "--seed", str(cell.seed), f"--{cell.kind}", cell.name]
        return rollgate([*command, "--out", str(folder)])

    return kept_or_run(folder, digest, system.root, gate, echo)


def rollgate(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "harness.cli.main", *arguments]
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)


def kept_or_run(
    folder: Path,
    digest: str,
    root: Path,
    gate: Callable[[], subprocess.CompletedProcess[str]],
    echo: Callable[[str], None],
) -> dict[str, Any]:
    """Return the verdict in `folder`; it is made by `gate`, unless it is there already and this code made it.

    `digest` is of the code and of the system in `root`. Raises EnvironmentProblem when that changes meanwhile.
    """
    stored, origin = folder / "verdict.json", folder / _ORIGIN
    if stored.is_file() and _read_origin(origin) != digest:
        echo(f"{folder.name}: its verdict is of other code, running it again")
        folder.rename(folder.with_name(f"{folder.name}.other-{folder.stat().st_mtime_ns}"))
    if not stored.is_file():
        if folder.exists():
            folder.rename(folder.with_name(f"{folder.name}.broken-{folder.stat().st_mtime_ns}"))
        echo(f"{folder.name} ...")
        done = gate()
        if code_digest(root) != digest:
            msg = f"the code changed while {folder.name} ran"
            raise EnvironmentProblem(msg, mend="bench a checkout that nobody edits; what this code finished is kept")
        if not stored.is_file():
            return {"decision": "-", "cause": "-", "exit_code": done.returncode, "reason": done.stderr[-400:]}
        origin.write_text(digest + "\n", encoding="utf-8")
    return cast("dict[str, Any]", json.loads(stored.read_text(encoding="utf-8")))


def _read_origin(path: Path) -> str:
    """Return the digest of the code that made a run; "" where none is kept."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def judge_cell(cell: Cell, verdict: dict[str, Any]) -> tuple[str, bool]:
    """Return the table's row, and whether the verdict is the expected one, by the expected judgement.

    `judged` counts the candidate's requests in the stages, `to decision` the seconds from the first stage's start to
    the end of the last; a run that ended before its first stage has none.
    """
    bad = [j for j in verdict.get("judgements", ()) if j["severity"] == "critical" and j["status"] in {"fail", "error"}]
    named = sorted({str(j["id"]) for j in bad if j["status"] == ("fail" if verdict["cause"] == "release" else "error")})
    wanted = cell.expect.get("judgement")
    allowed = {part.strip() for part in cell.expect.get("exit_code", "").split("|") if part.strip()}
    sound = (
        all(str(verdict.get(key)) == cell.expect[key] for key in ("decision", "cause") if key in cell.expect)
        and (not allowed or str(verdict.get("exit_code")) in allowed)
        and (wanted is None or bool({part.strip() for part in wanted.split("|")} & set(named)))
    )
    expected = ", ".join(f"{k} {v}" for k, v in cell.expect.items())
    stages = cast("list[dict[str, Any]]", verdict.get("stages") or [])
    judged = sum(int(stage["n_candidate"]) for stage in stages)
    decided = f"{stages[-1]['ended_at'] - stages[0]['started_at']:.0f}" if stages else "-"
    cells = [
        f"{cell.kind} {cell.name}",
        str(cell.seed),
        expected,
        str(verdict["decision"]),
        str(verdict["cause"]),
        str(verdict["exit_code"]),
        ", ".join(named) or "-",
        str(judged),
        decided,
        f"{_seconds(verdict):.0f}",
        "yes" if sound else "**NO**",
    ]
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |", sound


def _seconds(verdict: dict[str, Any]) -> float:
    try:
        began, ended = (datetime.fromisoformat(str(verdict[k])) for k in ("started_at", "finished_at"))
    except (KeyError, ValueError):
        return 0.0
    return (ended - began).total_seconds()
