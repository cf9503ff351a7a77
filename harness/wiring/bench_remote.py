"""`rollgate bench remote`: gates on two plain servers of a user's own, each case held to what it must end in."""

import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from harness.bench.remote.cells import CASES, DEPLOYMENTS, Case, Deployment
from harness.bench.remote.place import deployed
from harness.model.errors import SpecError
from harness.paths import share_root
from harness.wiring.bench import Cell, kept_or_run, rollgate, tabulate
from harness.wiring.provenance import code_digest

_HEAD = """\
# Gates on two plain servers

Made by `rollgate bench remote`: two servers of a user's own (`harness/bench/remote/servers.py`), described by an
unchanged copy of `stack/systems/minimal` and a target file; plan `full`, 60 requests a second.

- By turns of the seed: the load's own split, and servers of threads with kept connections (median 40 ms); HAProxy, and
  servers of an event loop with chunked answers (25 ms); a feature flag that an application in front reads, and servers
  that close each connection (60 ms). Times of answers are lognormal, sigma 0.35.
- Bad candidates: 3 % errors; all answers 60 % slower; 1 in 25 answers 8 times slower; nobody answers at all; ends for
  good after 350 answers.
- `judged` counts the candidate's requests in the stages, `to decision` the seconds from the first stage's start to the
  last one's end, `seconds` the whole gate.

"""


def bench_remote(*, seeds: int, only: Sequence[str], out: Path, table: Path | None, echo: Callable[[str], None]) -> int:
    """Run the cells that have no verdict of this code yet, print the table; return 0 when no verdict is wrong."""
    known = [case.name for case in CASES]
    if unknown := sorted(set(only) - set(known)):
        msg = f"there is no case {', '.join(unknown)}"
        raise SpecError(msg, key="--only", mend=f"choose of {', '.join(known)}")
    cells: list[Cell] = []
    plan: dict[str, tuple[Case, Deployment]] = {}
    for seed in range(1, seeds + 1):
        where = DEPLOYMENTS[(seed - 1) % len(DEPLOYMENTS)]
        for case in CASES:
            if not only or case.name in only:
                kind = f"{where.router}-{where.shape}"
                cells.append(Cell(kind=kind, name=case.name, seed=seed, expect=dict(case.expect)))
                plan[cells[-1].folder] = (case, where)
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    root = share_root() / "stack" / "systems" / "minimal"
    digest = code_digest(root)

    def verdict(cell: Cell, echo: Callable[[str], None]) -> dict[str, Any]:
        folder = out / cell.folder
        return kept_or_run(folder, digest, root, partial(_gate, folder, cell.seed, *plan[cell.folder]), echo)

    text, wrong = tabulate(cells, verdict, digest, echo)
    for path in filter(None, (out / "table.md", table)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_HEAD + text, encoding="utf-8")
    return 1 if wrong else 0


def _gate(folder: Path, seed: int, case: Case, where: Deployment) -> subprocess.CompletedProcess[str]:
    place = folder.with_name(f"{folder.name}.place")
    number = 0
    while place.exists():
        number += 1
        place = folder.with_name(f"{folder.name}.place-{number}")
    with deployed(place, case, where, seed) as found:
        words = ["gate", str(found.system), "--provider", "remote", "--target", str(found.target)]
        return rollgate([*words, "--seed", str(seed), "--out", str(folder)])
