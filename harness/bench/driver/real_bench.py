"""`rollgate bench driver --real`: what is shown of the driver with HAProxy, SQLite, live flags and processes."""

import json
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from harness.bench.driver.real_crash import CASES, RESUMED_WITHIN_S, Case, crashes
from harness.bench.driver.real_harm import harms
from harness.bench.driver.real_model import BrokenError, Model
from harness.bench.driver.real_place import Place, place
from harness.bench.driver.real_race import Races, races, takeover
from harness.bench.sources import digest
from harness.model.errors import EnvironmentProblem

RACES, TAKEOVERS = 200, 10
HISTORIES, STEPS = 100, 40
FREEZE_S = 60.0
_RESTS_ON = ("harness.bench.driver.real_bench", "harness.cli.main", "harness.wiring.rollout")
Echo = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Shown:
    """What one part came to: its lines of the table, and what did not hold."""

    lines: list[str]
    broken: list[str]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the bench, with the file of its result."""

    name: str
    run: Callable[[Place, Echo], Shown]
    path: Path
    stamp: str

    def stored(self) -> Shown | None:
        """Return the stored result; None where there is none, it is broken, or other code made it."""
        try:
            raw = cast("dict[str, Any]", json.loads(self.path.read_text(encoding="utf-8")))
            return Shown(**raw["shown"]) if raw["stamp"] == self.stamp else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def done(self, echo: Echo) -> Shown:
        """Return the stored result, or run the part in a place of its own and store what comes of it."""
        if (found := self.stored()) is not None:
            return found
        with TemporaryDirectory(prefix="rollgate-real-") as folder, place(Path(folder)) as where:
            shown = self.run(where, lambda text: echo(f"{self.name}: {text}"))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        half = self.path.with_suffix(".part")
        half.write_text(json.dumps({"stamp": self.stamp, "shown": asdict(shown)}), encoding="utf-8")
        half.replace(self.path)
        echo(f"{self.name}: done, {len(shown.broken)} broken")
        return shown


def bench_real(out: Path, *, tables: Path | None, echo: Echo) -> int:
    """Run what is not stored in `out` yet; return 1 where anything does not hold. The table goes to `out`, `tables`."""
    work = parts(out)

    found = [part.done(echo) for part in work]  # one after another: seconds are measured
    text = markdown(found)
    for folder in [out] if tables is None else [out, tables]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "real.md").write_text(text, encoding="utf-8")
    broken = [text for shown in found for text in shown.broken]
    for text in broken:
        echo(f"BROKEN: {text}")
    echo(f"{len(work)} parts, {len(broken)} broken; {out / 'real.md'}")
    return 1 if broken else 0


def parts(out: Path) -> list[Part]:
    """Return the parts, in the order of the table."""
    code = digest(_RESTS_ON)
    runs: dict[str, Callable[[Place, Echo], Shown]] = {
        **{f"crash-{number}": _crash(case) for number, case in enumerate(CASES, 1)},
        "races": _races,
        "harm": _harm,
        "model": _model,
    }
    return [Part(name, run, out / f"real-{name}.json", code) for name, run in runs.items()]


def markdown(found: Sequence[Shown]) -> str:
    """Return the table."""
    lines = ["# The driver, with real parts", "", "Made by `rollgate bench driver --real`.", ""]
    lines += [
        "The command itself, HAProxy with the shipped configuration, the SQLite journal, the flags' file and real",
        "processes. The stages are short, and bake 0.2 s; what is judged are real probes of two small servers.",
    ]
    for shown in found:
        lines += ["", *shown.lines]
    broken = [text for shown in found for text in shown.broken]
    lines += ["", f"{len(broken)} of all this did not hold.", *(f"- {text}" for text in broken)]
    return "\n".join(lines) + "\n"


def _crash(case: Case) -> Callable[[Place, Echo], Shown]:
    def run(where: Place, echo: Echo) -> Shown:
        found = crashes(where, case, echo=echo)
        seconds = f"median {statistics.median(found.resumed_s):.2f} s, most {max(found.resumed_s):.2f} s"
        lines = [
            f"## Crash matrix: {case.name}",
            "",
            "Kill -9 at every point that an undisturbed run passes: before and after each journal entry, before each",
            "commit, before and after each change of the router, its map on disk, the flag, its backup, the lease; and",
            "in the middle of each evidence write. Then `rollgate rollout --resume` as a new, unchanged process.",
            "",
            "| what | found |",
            "|---|---|",
            f"| points, each killed at once | {found.points}, {found.killed} |",
            f"| evidence writes torn | {found.torn} |",
            f"| checks of what the dead left, of the end, its steps and its exit code | {found.checks:,} |",
            f"| resumed, from the process's start to a confirmed share, {RESUMED_WITHIN_S:g} s at most | {seconds} |",
            f"| users back where they had been, after the kill | {max(found.back_s):.2f} s most |",
            f"| the machine's load meanwhile | {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores |",
            f"| broken | {len(found.broken)} |",
        ]
        return Shown(lines, found.broken)

    return run


def _races(where: Place, echo: Echo) -> Shown:
    found: Races = races(where, RACES, echo)
    for number in range(TAKEOVERS):
        takeover(where, number, found)
    lines = [
        "## Two drivers at once",
        "",
        "Two processes of one feature, let go together. Where both moved, they took turns: the second found the first",
        "ended, and its entries follow the other's. A takeover: one is frozen until its lease has lapsed, another goes",
        "on, the first is thawed (without the lock that refuses the second on one machine: what is shown are the",
        "fencing token and the evidence).",
        "",
        "| race | times |",
        "|---|---|",
        *(f"| {kind} | {times} |" for kind, times in found.kinds.items()),
        "",
        "| end | times |",
        "|---|---|",
        *(f"| {end} | {times} |" for end, times in sorted(found.ends.items())),
        "",
        f"Moved at the same time, or disagreed at the end: {len(found.broken)}.",
    ]
    return Shown(lines, found.broken)


def _harm(where: Place, echo: Echo) -> Shown:
    found = harms(where, freeze_s=FREEZE_S, echo=echo)
    rows = [f"| {one.name} | {one.means} | {one.seen} | {'**NO**' if one.broken else 'yes'} |" for one in found]
    lines = ["## Harm", "", "| what | by | seen | held |", "|---|---|---|---|", *rows]
    return Shown(lines, [f"{one.name}: {text}" for one in found for text in one.broken])


def _model(where: Place, echo: Echo) -> Shown:
    try:
        from harness.bench.driver.real_machine import run  # noqa: PLC0415 - hypothesis is no dependency of the product
    except ImportError as error:
        raise EnvironmentProblem(f"the model is driven by hypothesis: {error}", mend="install hypothesis") from error
    model, broken = Model(where, echo), list[str]()
    try:
        run(model, histories=HISTORIES, steps=STEPS)
    except (BrokenError, EnvironmentProblem) as error:
        broken.append(f"model: {error}")
    lines = [
        "## Model-based test",
        "",
        f"{sum(model.done.values()):,} steps in up to {HISTORIES} histories, chosen by hypothesis; after each the",
        f"invariants were held, {model.checks:,} times: one driver at most, and one open rollout; the router's share",
        "is the journal's last outcome, its open intent or the baseline, unless moved by hand since; nothing is above",
        "the goal; the flag is as the journal says; no child is raised above its parent; the chain is whole. The",
        "driver's clock is stepped; the rest is real.",
        "",
        "| step | times |",
        "|---|---|",
        *(f"| {what} | {times:,} |" for what, times in model.done.most_common()),
        "",
        "| end | times |",
        "|---|---|",
        *(f"| {what} | {times:,} |" for what, times in sorted(model.ends.items())),
    ]
    return Shown(lines, broken)
