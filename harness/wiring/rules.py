"""`rollgate rules`: checks, generates and records what a system's alerts stand on."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from harness import spec
from harness.adapters.programs import ensure
from harness.adapters.promtool import Promtool, amtool_check
from harness.adapters.recording import record
from harness.model.errors import EnvironmentProblem, SpecError
from harness.model.rule import Finding, Monitoring, Rule
from harness.paths import cache_root
from harness.planning.rules.burnrate import burn_rates
from harness.planning.rules.lint import lint
from harness.planning.rules.routing import check_routing
from harness.planning.rules.verdicts import Proven
from harness.spec.alertmanager import load_routing
from harness.spec.document import shown
from harness.spec.monitoring import MonitoringFiles, find_monitoring, load_monitoring, monitored, recorded_home
from harness.spec.scrapes import scrape_text
from harness.wiring.rules_proof import prove

BURN_RATES = "burn-rate.yml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What `check_rules` found. `declared` are jobs whose series were written by hand, with the reason."""

    system: str
    promtool: str
    monitoring: Monitoring
    findings: tuple[Finding, ...]
    proven: tuple[Proven, ...]
    declared: tuple[tuple[str, str], ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is to be mended and every alert is proven."""
        return not self.findings and len(self.proven) == len(self.monitoring.alerts)


def check_rules(name_or_path: str, progress: Callable[[str], None], *, live: str = "") -> Checked:
    """Check one system's rules: promtool, lint, routes, cases and mutants.

    `live` is the address of a Prometheus whose series take the place of the recorded ones. Raises SpecError for files
    that cannot be read, EnvironmentProblem where promtool cannot be had or `live` does not answer.
    """
    files = find_monitoring(name_or_path)
    promtool = Promtool.found(cache_root(), progress)
    findings = list(_refused(files, promtool))
    monitoring = Monitoring(())
    proven: list[Proven] = []
    if not any(f.check == "promtool" for f in findings):
        monitoring = load_monitoring(files)
        if live:
            monitoring = replace(monitoring, scrapes=record(live)[0])
        findings += _empty(files, monitoring)
        findings += lint(monitoring)
        findings += _routing(files, monitoring)
        findings += _runbooks(files.root, monitoring.alerts)
        findings += _stale_burn_rates(files)
        proven, unproven = prove(monitoring, promtool, progress)
        findings += unproven
        findings += [finding for item in proven for finding in item.findings]
    return Checked(
        system=files.name,
        promtool=promtool.version,
        monitoring=monitoring,
        findings=tuple(dict.fromkeys(findings)),
        proven=tuple(proven),
        declared=tuple((scrape.job, scrape.declared) for scrape in monitoring.scrapes if scrape.declared),
    )


def systems_with_rules() -> list[str]:
    """Return the shipped systems that have rules."""
    return monitored()


def _refused(files: MonitoringFiles, promtool: Promtool) -> Iterator[Finding]:
    """Yield what Prometheus itself would refuse."""
    asked = [("rules", files.rules), ("config", (files.config,) if files.config else ())]
    for kind, paths in asked:
        for path, complaint in promtool.check(kind, paths):
            where = f"{shown(path)}:{_line(path, complaint.partition(path.name)[2] or complaint)}"
            name = "promtool" if kind == "rules" else "config"
            yield Finding(name, where, kind, complaint, "mend the file; Prometheus would refuse it")


def _empty(files: MonitoringFiles, monitoring: Monitoring) -> Iterator[Finding]:
    """Of nothing, everything is proven."""
    if not monitoring.rules:
        yield Finding(
            "empty", f"{shown(files.rules[0])}:1", "groups", "found no rule at all", "write one, or name others"
        )


def _line(path: Path, complaint: str) -> int:
    """Return the line that promtool names, else that of the rule or the text that it quotes, else 1."""
    told = re.search(r"line (\d+)|(?:^|\s)(\d+):\d+: ", complaint)
    line = int(told[1] or told[2]) if told else 0
    quoted = re.search(r'rule \d+, "([^"]+)"', complaint) or re.search(r'"([^"]+)"\s*$', complaint)
    if line or not quoted:
        return line or 1
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((number for number, text in enumerate(lines, 1) if re.search(rf":.*{re.escape(quoted[1])}", text)), 1)


def _routing(files: MonitoringFiles, monitoring: Monitoring) -> Iterator[Finding]:
    if files.alertmanager is None:
        return
    yield from check_routing(load_routing(files.alertmanager), monitoring.rules)
    try:
        amtool = ensure(["amtool"], cache_root(), lambda _: None)["amtool"]
    except EnvironmentProblem:
        return  # our own reading has spoken; the real Alertmanager will at its start
    complaint = amtool_check(amtool, files.alertmanager)
    if complaint:
        mend = "mend the file; Alertmanager would refuse it"
        yield Finding("amtool", f"{shown(files.alertmanager)}:1", "alertmanager", complaint, mend)


def _runbooks(root: Path, alerts: Sequence[Rule]) -> Iterator[Finding]:
    """A runbook named by a path lies in the system's folder and has the section."""
    sections: dict[Path, set[str]] = {}
    for rule in alerts:
        url = rule.annotation("runbook_url").strip()
        if not url or "://" in url:
            continue
        name, _, section = url.partition("#")
        path = root / name
        if path not in sections:
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
            headings = re.findall(r"^#+\s+(.*)$", text, re.MULTILINE)
            sections[path] = {re.sub(r"[^\w-]", "", h.strip().lower().replace(" ", "-")) for h in headings}
        if not path.is_file() or (section and section not in sections[path]):
            found = f"{shown(path)} has no section #{section}" if path.is_file() else f"{shown(path)} is not there"
            key = "annotations.runbook_url"
            yield Finding("runbook", rule.where(key), f"{rule.name}: {key}", found, "write it, or correct the link")


def _stale_burn_rates(files: MonitoringFiles) -> Iterator[Finding]:
    path = next((item for item in files.rules if item.name == BURN_RATES), None)
    if path is None or not (files.root / "objectives.yaml").is_file():
        return
    if path.read_text(encoding="utf-8") != _burn_rates(files):
        message = "it is not what objectives.yaml says now"
        yield Finding("generated", f"{shown(path)}:1", "groups", message, f"rollgate rules generate {files.name}")


def _burn_rates(files: MonitoringFiles) -> str:
    system = spec.load_system(files.root)
    return burn_rates(system.name, system.objectives, {signal.name: signal for signal in system.signals})


def generate_rules(name_or_path: str) -> Path | None:
    """Write the burn-rate rules of a system from its objectives; None where none of them can burn. Raises SpecError."""
    files = find_monitoring(name_or_path)
    if not (files.root / "objectives.yaml").is_file():
        raise SpecError("found no objectives", where=shown(files.root), mend="burn rates are made from objectives.yaml")
    text, path = _burn_rates(files), files.rules[0].parent / BURN_RATES
    if not text:
        return None
    _write(path, text)
    return path


def record_scrapes(name_or_path: str, url: str) -> list[Path]:
    """Write what the Prometheus at `url` scrapes as the system's recorded series, a file a job.

    Files that were declared by hand are replaced where the job is now really scraped, and stay where it is not.
    """
    files = find_monitoring(name_or_path)
    home = recorded_home(files)
    scrapes, version = record(url)
    if not scrapes:
        raise EnvironmentProblem(f"the Prometheus at {url} has scraped nothing", mend="let it run for a minute")
    head = f"recorded {datetime.now(UTC):%Y-%m-%d} from Prometheus {version}"
    written: list[Path] = []
    for scrape in scrapes:
        path = home / f"{scrape.job}.prom"
        _write(path, scrape_text(scrape.job, scrape.series, head))
        written.append(path)
    return written


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}"
        raise EnvironmentProblem(msg, mend="make the folder writable, or work on a copy of the system") from error
