"""calibration.yaml: what A/A runs found out about a system's noise, by plan."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from harness.model.calibration import Calibration, Dispersion
from harness.model.errors import SpecError
from harness.spec.document import Document, Key
from harness.spec.problems import Problems, first, read, unknown
from harness.spec.schema import CalibrationFile, CalibrationSpec, ObjectivesFile, RolloutFile

CALIBRATION_FILE = "calibration.yaml"
_HEAD = """\
# What `rollgate calibrate` measured: the noise of two equal arms, by plan. Do not edit; measure again.
# contest and level are long-run variances per judging interval, in log odds; made_at dates the oldest evidence.
"""
_AGAIN = "measure again with `rollgate calibrate`"


def load_calibrations(path: Path, system: str, root: Path) -> dict[str, Calibration]:
    """Return the calibrations of a file by plan; empty where there is no such file.

    `system` is the name of the system at `root`. Raises SpecError, the first of all that is wrong.
    """
    if not path.exists():
        return {}
    errors = calibration_problems(path, system, root)
    if errors:
        raise first(errors)
    return {name: _built(system, name, one) for name, one in read(path, CalibrationFile)[1].plans.items()}


def calibration_problems(path: Path, system: str, root: Path) -> list[SpecError]:
    """Return everything that is wrong with a calibration file, held against the system's other files."""
    try:
        document, file = read(path, CalibrationFile)
    except Problems as problems:
        return list(problems.errors)
    try:
        plans = list(read(root / "rollout.yaml", RolloutFile)[1].plans)
        objectives = list(read(root / "objectives.yaml", ObjectivesFile)[1].objectives)
    except Problems:
        return []  # told where those files are read
    return list(_cross(document, file, system, plans, objectives))


def _cross(
    document: Document, file: CalibrationFile, system: str, plans: list[str], objectives: list[str]
) -> Iterator[SpecError]:
    if file.system != system:
        yield document.problem(
            ("system",),
            f"found `{file.system}`, expected `{system}`: this was measured on another system",
            mend=f"drop this file and {_AGAIN}",
        )
    for name, one in file.plans.items():
        at: Key = ("plans", name)
        if name not in plans:
            yield unknown(document, at, name, plans, "plans of rollout.yaml")
        if not _is_moment(one.made_at):
            yield document.problem((*at, "made_at"), f"found {one.made_at}: no such moment", mend=_AGAIN)
        if one.false_alarms > one.windows:
            yield document.problem(
                (*at, "false_alarms"),
                f"found {one.false_alarms}, expected at most windows = {one.windows}",
                mend=_AGAIN,
            )
        for objective in one.dispersions:
            if objective not in objectives:
                yield unknown(document, (*at, "dispersions", objective), objective, objectives, "objectives")


def _is_moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _built(system: str, plan: str, spec: CalibrationSpec) -> Calibration:
    return Calibration(
        system=system,
        plan=plan,
        made_at=spec.made_at,
        interval_s=spec.interval_s,
        load_rate=spec.load_rate,
        intervals=spec.intervals,
        windows=spec.windows,
        false_alarms=spec.false_alarms,
        machine=spec.machine,
        dispersions=tuple(
            Dispersion(
                objective=objective,
                source=source,
                contest=found.contest,
                level=found.level,
                intervals=found.intervals,
                informative=found.informative,
            )
            for objective, sources in spec.dispersions.items()
            for source, found in sources.items()
        ),
    )


def calibration_text(calibrations: Mapping[str, Calibration]) -> str:
    """Return the file that `load_calibrations` reads back as the same; the calibrations are of one system."""
    system = next(iter(calibrations.values())).system
    plans = {name: _plain(one) for name, one in sorted(calibrations.items())}
    data = {"schema": 1, "system": system, "plans": plans}
    return _HEAD + yaml.safe_dump(data, sort_keys=False, width=110, allow_unicode=True)


def _plain(one: Calibration) -> dict[str, Any]:
    dispersions: dict[str, dict[str, Any]] = {}
    for found in one.dispersions:
        values = {"contest": found.contest, "level": found.level}
        values |= {"intervals": found.intervals, "informative": found.informative}
        dispersions.setdefault(found.objective, {})[found.source] = values
    return {
        "made_at": one.made_at,
        "machine": one.machine,
        "interval_s": one.interval_s,
        "load_rate": one.load_rate,
        "intervals": one.intervals,
        "windows": one.windows,
        "false_alarms": one.false_alarms,
        "dispersions": dispersions,
    }
