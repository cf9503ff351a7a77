"""The judge of one run, with the calibration that it may use."""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import cast

from harness import spec
from harness.adapters.gpu import visible_gpus
from harness.judge import Judge
from harness.model.calibration import Calibration, Uncalibrated, check
from harness.model.codec import parse_json
from harness.model.errors import EnvironmentProblem
from harness.model.plan import StagePlan
from harness.model.system import System
from harness.paths import cache_root
from harness.wiring.provenance import judge_digest

_DAY_S = 86400.0
_JUDGE_FILE = "judge.json"
_NONE_USED = "the run had no calibration that it could use; the claims of its verdict say why"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a system's noise under a plan: a calibration that may be used, or why there is none.

    `kept` are all the calibrations found, by the plan of their A/A run.
    """

    calibration: Calibration | None
    why: str = ""
    kept: Mapping[str, Calibration] = field(default_factory=dict[str, Calibration])

    def judge(self, system: System, plan: StagePlan) -> Judge:
        """Return the judge of a run of `system` by `plan`."""
        return Judge(system.objectives, plan, self.calibration, uncalibrated=self.why)


def own_folder(system: System) -> Path:
    """Return where calibrations of `system` are kept when its own folder cannot be written."""
    path = sha256(str(system.root).encode()).hexdigest()[:8]
    return cache_root() / "calibrations" / f"{system.name}-{path}"


def home_of(system: System) -> Path:
    """Return the file that a new calibration goes to: the system's folder, or the user's own where that is closed."""
    folder = system.root if os.access(system.root, os.W_OK) else own_folder(system)
    return folder / spec.CALIBRATION_FILE


def kept_calibrations(system: System) -> dict[str, Calibration]:
    """Return the newest calibration of each plan, from the system's folder and the user's own.

    Raises SpecError for a file that cannot be trusted.
    """
    found: dict[str, Calibration] = {}
    for folder in (system.root, own_folder(system)):
        kept = spec.load_calibrations(folder / spec.CALIBRATION_FILE, system.name, system.root)
        for name, one in kept.items():
            if name not in found or found[name].made_at < one.made_at:
                found[name] = one
    return found


def stored_calibrations(run_dir: Path, system: System) -> dict[str, Calibration]:
    """Return the calibrations that a stored run had; `system` is its copy there. Raises SpecError for a bad file."""
    return spec.load_calibrations(run_dir / "system" / spec.CALIBRATION_FILE, system.name, system.root)


def known_then(run_dir: Path, system: System, plan: StagePlan, started_at: str) -> Known:
    """Return what a stored run, started at `started_at`, is judged again by: what it kept, on any machine.

    `system` is the run's copy of it. Raises SpecError for a bad file.
    """
    kept = stored_calibrations(run_dir, system)
    return known(plan, kept, started_at) if kept else Known(calibration=None, why=_NONE_USED)


def this_judge() -> str:
    """Return in words which judge this is: rollgate's version, and a digest of what judges."""
    return f"rollgate {version('rollgate')}, judge {judge_digest()[:12]}"


def judge_then(run_dir: Path) -> str:
    """Return which judge a stored run had, in the same words; "" where it did not keep that."""
    try:
        kept = parse_json((run_dir / _JUDGE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(cast("dict[str, object]", kept).get("judge", ""))[:200] if isinstance(kept, dict) else ""


def keep_calibrations(noise: Known, folder: Path) -> None:
    """Leave what the run knows with the run's copy of the system, so that it is judged again by the same.

    Beside that folder it is kept which judge that was. Raises EnvironmentProblem when it cannot be written.
    """
    path = folder / spec.CALIBRATION_FILE
    try:
        path.unlink(missing_ok=True)  # the copy may be read only, or hold what this run must not use
        if noise.kept:
            path.write_text(spec.calibration_text(noise.kept), encoding="utf-8")
        (folder.parent / _JUDGE_FILE).write_text(json.dumps({"judge": this_judge()}) + "\n", encoding="utf-8")
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}"
        raise EnvironmentProblem(msg, mend="free space, or choose another --out") from error


def how_it_gates(system: System, plan: StagePlan) -> tuple[str, ...]:
    """Return how a gate that started now would compare the arms, in plain words."""
    noise = known(plan, kept_calibrations(system), datetime.now(UTC).isoformat(), machine=this_machine())
    return noise.judge(system, plan).claims


def this_machine() -> str:
    """Return in words what this machine is, as far as its noise goes."""
    model = platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return "; ".join([f"{os.cpu_count()} cores, {model}", *visible_gpus()])


def known(plan: StagePlan, kept: Mapping[str, Calibration], started_at: str, *, machine: str = "") -> Known:
    """Return what `plan` may use of `kept` in a run that started at `started_at` (RFC 3339).

    The plan's own A/A run comes first; one by another plan serves where it was made under the same conditions.
    What was made on another machine than `machine` ("" for any) is left aside, and not kept with the run.
    """
    foreign = [one for one in kept.values() if machine and one.machine != machine]
    kept = {name: one for name, one in kept.items() if one not in foreign}
    if foreign and not kept:
        where = foreign[0].machine or "a machine that it does not name"
        return Known(calibration=None, why=f"its A/A run was made on {where}, not on {machine}")
    own = kept.get(plan.name)
    others = [one for name, one in sorted(kept.items()) if name != plan.name]
    reasons: list[str] = []
    for one in others if own is None and others else (own, *others):
        try:
            age = 0.0 if one is None else _age_days(one.made_at, started_at)
            usable = check(one, interval_s=plan.interval_s, load_rate=plan.load_rate, age_days=age)
        except Uncalibrated as reason:
            reasons.append(str(reason))
            continue
        return Known(calibration=usable, kept=kept)
    return Known(calibration=None, why=reasons[0], kept=kept)


def _age_days(made_at: str, at: str) -> float:
    return (datetime.fromisoformat(at) - datetime.fromisoformat(made_at)).total_seconds() / _DAY_S
