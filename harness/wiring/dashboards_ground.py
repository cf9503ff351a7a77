"""What a system's dashboards stand on: its rules, scrapes, objectives, inventory and data source."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from harness import spec
from harness.model.errors import SpecError
from harness.model.rule import Monitoring
from harness.model.system import System
from harness.planning.dashboards.limits import limits_of
from harness.planning.dashboards.lint import Ground
from harness.planning.time_scale import parse_duration
from harness.spec.dashboards import DashboardFiles, find_dashboards, provisioned
from harness.spec.monitoring import find_monitoring, load_monitoring

_INTERVAL_S = 15.0  # Grafana's own where a data source says none


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a system's dashboards stand on; `system` is None where the folder is none."""

    files: DashboardFiles
    ground: Ground
    system: System | None


def surroundings(name_or_path: str) -> Surroundings:
    """Read a system's rules, scrapes, inventory and provisioning. Raises SpecError."""
    files = find_dashboards(name_or_path)
    system = spec.load_system(files.root) if (files.root / "system.yaml").is_file() else None
    try:
        monitoring = load_monitoring(find_monitoring(str(files.root)))
    except SpecError as error:
        if "no rule files" not in error.message:
            raise
        monitoring = Monitoring(())
    signals = {signal.name: signal for signal in system.signals} if system else {}
    limits = limits_of(monitoring.rules, system.objectives if system else (), signals)
    return Surroundings(files=files, ground=Ground(monitoring, tuple(limits), _scrape_s(files)), system=system)


def _scrape_s(files: DashboardFiles) -> float:
    """Return the scrape interval that the default data source is provisioned with."""
    found = provisioned(files.home).get("datasources") if files.home else None
    for entry in found[1] if found else ():
        told = cast("Mapping[str, object]", entry.get("jsonData") or {})
        if entry.get("isDefault") and "timeInterval" in told:
            return parse_duration(str(told["timeInterval"]))
    return _INTERVAL_S
