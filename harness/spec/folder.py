"""The door: a system's folder in, a checked System out; or one line for each thing to mend."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from harness import paths
from harness.model.errors import SpecError
from harness.model.system import System
from harness.spec import build
from harness.spec.calibration import CALIBRATION_FILE, calibration_problems
from harness.spec.candidates import candidate_problems
from harness.spec.crosscheck import check_defaults, check_services, check_traffic
from harness.spec.document import Document
from harness.spec.find import no_system
from harness.spec.flags import check_deployed, check_flags, flags_of
from harness.spec.objectives import check_objectives, check_plans, check_scenario, stage_id
from harness.spec.problems import Problems, first, read
from harness.spec.references import scope_of
from harness.spec.requirements import requirement_problems
from harness.spec.schema import FlagsFile, ObjectivesFile, PlanSpec, RolloutFile, ScenariosFile, SystemFile
from harness.spec.scores import check_scores

F = TypeVar("F", bound=BaseModel)


@dataclass(slots=True)
class _Folder:
    """The files of one system, each with its problems; None where a file could not be read at all."""

    root: Path
    errors: list[SpecError] = field(default_factory=list[SpecError])
    system: tuple[Document, SystemFile] | None = None
    objectives: tuple[Document, ObjectivesFile] | None = None
    rollout: tuple[Document, RolloutFile] | None = None
    scenarios: tuple[Document, ScenariosFile] | None = None
    flags: tuple[Document, FlagsFile] | None = None

    def read(self) -> None:
        """Read every file, then hold them against one another."""
        if not self.root.is_dir():
            self.errors.append(no_system(str(self.root)))
            return
        self.system = self._file("system.yaml", SystemFile)
        self.objectives = self._file("objectives.yaml", ObjectivesFile)
        self.rollout = self._file("rollout.yaml", RolloutFile)
        self.scenarios = self._file("scenarios.yaml", ScenariosFile)
        if (self.root / "flags.json").exists():
            self.flags = self._file("flags.json", FlagsFile)
        self.errors.extend(self._cross())

    def _file(self, name: str, model: type[F]) -> tuple[Document, F] | None:
        try:
            return read(self.root / name, model)
        except Problems as problems:
            self.errors.extend(problems.errors)
            return None

    def _cross(self) -> Iterator[SpecError]:
        share = paths.share_root()
        flags = self.flags[1] if self.flags else None
        rollout = self.rollout[1] if self.rollout else None
        objectives = self.objectives[1] if self.objectives else None
        scenarios = self.scenarios[1] if self.scenarios else None
        if self.flags:
            yield from check_flags(*self.flags)
        if self.system:
            document, system = self.system
            yield from check_services(document, system, self.root)
            yield from check_traffic(document, system)
            if flags or not (self.root / "flags.json").exists():
                yield from check_deployed(document, system, flags)
            if rollout:
                yield from check_defaults(document, system, list(rollout.plans), share)
            if self.objectives:
                yield from check_objectives(*self.objectives, system, rollout, scenarios)
            if self.scenarios:
                yield from check_scores(*self.scenarios, system, objectives)
        if self.scenarios:
            yield from check_scenario(*self.scenarios, share)
        if self.rollout:
            yield from check_plans(*self.rollout, objectives, self.system[1] if self.system else None)


def load_system(root: Path) -> System:
    """Read a system's folder. Raises SpecError, the first of all that is wrong; `validate` gives every one."""
    folder = _Folder(root)
    folder.read()
    if folder.errors:
        raise first(folder.errors)
    if not (folder.system and folder.objectives and folder.rollout and folder.scenarios):
        raise no_system(str(root))
    spec = folder.system[1]
    return System(
        name=spec.name,
        title=spec.title,
        root=root.resolve(),
        services=tuple(build.service(name, item) for name, item in spec.services.items()),
        traffic=build.traffic(spec.traffic),
        signals=tuple(build.signal(name, item) for name, item in spec.signals.items()),
        objectives=tuple(build.objective(name, item) for name, item in folder.objectives[1].objectives.items()),
        plans=tuple(build.plan(name, item) for name, item in folder.rollout[1].plans.items()),
        scenario=build.scenario(folder.scenarios[1].scenario),
        secrets=tuple(spec.secrets),
        flags=flags_of(folder.flags[1]) if folder.flags else (),
        default_plans=tuple(spec.default_plans.items()),
        prepare=tuple(spec.prepare),
        suites=tuple(spec.suites),
    )


def validate(root: Path) -> list[SpecError]:
    """Return everything that is wrong in a system's folder, releases and drills included; empty when it is sound."""
    folder = _Folder(root)
    folder.read()
    errors = list(folder.errors)
    if folder.system:
        stages, plans = None, dict[str, PlanSpec]()
        if folder.rollout:
            plans = folder.rollout[1].plans
            stages = {stage_id(stage.id, stage.share) for plan in plans.values() for stage in plan.stages}
        flags = flags_of(folder.flags[1]) if folder.flags else ()
        errors += requirement_problems(root, folder.system[1].services, plans, flags)
        if (root / CALIBRATION_FILE).exists():
            errors += calibration_problems(root / CALIBRATION_FILE, folder.system[1].name, root)
        errors += candidate_problems(root, scope_of(folder.system[1]), stages)
    return errors
