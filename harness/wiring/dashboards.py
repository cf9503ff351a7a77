"""`rollgate dashboards`: checks, writes and draws what a system's people look at."""

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from harness import spec
from harness.adapters.promtool import Promtool
from harness.model.dashboard import Dashboard
from harness.model.errors import EnvironmentProblem, SpecError
from harness.model.rule import Finding
from harness.paths import cache_root
from harness.planning.dashboards.build import asked, completed, text_of
from harness.planning.dashboards.coverage import Coverage, coverage
from harness.planning.dashboards.lint import lint
from harness.planning.rules.catalogue import Catalogue
from harness.spec.dashboard_source import load_source
from harness.spec.dashboards import (
    DashboardFiles,
    find_dashboards,
    load_dashboard,
    provisioned,
    systems_with_dashboards,
)
from harness.spec.document import read_document, shown
from harness.spec.monitoring import find_monitoring, load_monitoring, monitored
from harness.wiring.dashboards_ground import Surroundings, surroundings
from harness.wiring.dashboards_live import check_live, draw


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedDashboards:
    """What `check_dashboards` found. `spared` are (panel, why) that do not apply to the running stack."""

    system: str
    promtool: str
    dashboards: tuple[Dashboard, ...]
    findings: tuple[Finding, ...]
    covered: Coverage
    spared: tuple[tuple[str, str], ...] = ()

    @property
    def sound(self) -> bool:
        """Whether nothing is to be mended."""
        return not self.findings


def draw_dashboards(name_or_path: str, url: str, folder: Path, range_s: float) -> list[Path]:
    """Draw each dashboard of a system into `folder` as UID.png from the Prometheus at `url`."""
    return draw(surroundings(name_or_path), url, folder, range_s)


def systems() -> list[str]:
    """Return the shipped systems that have dashboards."""
    return systems_with_dashboards()


def check_dashboards(
    name_or_path: str, progress: Callable[[str], None], *, live: str = "", range_s: float = 600.0
) -> CheckedDashboards:
    """Check a system's dashboards: form, queries, units, limits, provisioning, coverage.

    `live` is the address of a Prometheus in which each query must have data within the last `range_s`. Raises SpecError
    for files that cannot be read, EnvironmentProblem where promtool cannot be had or `live` does not answer.
    """
    about = surroundings(name_or_path)
    dashboards = tuple(load_dashboard(path) for path in about.files.jsons)
    promtool = Promtool.found(cache_root(), progress)
    findings = list(lint(dashboards, about.ground))
    findings += _refused(dashboards, promtool)
    findings += _stale(about)
    findings += _provisioning(about.files)
    covered = coverage(about.system, about.ground.monitoring, dashboards, _service_places(about.files.root))
    findings += [f for f in covered.findings if f.check == "unscraped" or "panel" not in f.key]
    empty, spared = check_live(about, live, range_s) if live else ([], [])
    findings += empty
    return CheckedDashboards(
        system=about.files.name,
        promtool=promtool.version,
        dashboards=dashboards,
        findings=tuple(dict.fromkeys(findings)),
        covered=covered,
        spared=tuple(spared),
    )


def monitoring_coverage(name_or_path: str) -> tuple[str, Coverage]:
    """Return a system's name and what of it is monitored; it needs no dashboards. Raises SpecError."""
    files = find_monitoring(name_or_path)
    system = spec.load_system(files.root) if (files.root / "system.yaml").is_file() else None
    try:
        dashboards = [load_dashboard(path) for path in find_dashboards(str(files.root)).jsons]
    except SpecError as error:
        if "no dashboards" not in error.message:
            raise
        dashboards = []
    return files.name, coverage(system, load_monitoring(files), dashboards, _service_places(files.root))


def systems_with_monitoring() -> list[str]:
    """Return the shipped systems that have rules."""
    return monitored()


def generate_dashboards(name_or_path: str) -> list[Path]:
    """Write every dashboard of a system from its source. Raises SpecError."""
    about = surroundings(name_or_path)
    if not about.files.sources:
        raise SpecError("found no sources", where=shown(about.files.root), mend="put them into grafana/sources/*.yaml")
    written: list[Path] = []
    for source in about.files.sources:
        path, text = about.files.made_from(source), _text(about, source)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            msg = f"cannot write {path}: {error.strerror}"
            raise EnvironmentProblem(msg, mend="make the folder writable, or work on a copy of the system") from error
        written.append(path)
    return written


def _text(about: Surroundings, source: Path) -> str:
    ground = about.ground
    catalogue = Catalogue.of(ground.with_alerts)
    return text_of(completed(load_source(source), ground.limits, catalogue, ground.monitoring.jobs, ground.scrape_s))


def _stale(about: Surroundings) -> Iterator[Finding]:
    mend = f"rollgate dashboards generate {about.files.name}"
    made = {about.files.made_from(source): source for source in about.files.sources}
    for path, source in made.items():
        if not path.is_file():
            yield Finding("generated", f"{shown(source)}:1", path.name, "it has not been made yet", mend)
        elif path.read_text(encoding="utf-8") != _text(about, source):
            message = f"it is not what {source.name}, the rules and the objectives say now"
            yield Finding("generated", f"{shown(path)}:1", path.name, message, mend)
    for path in about.files.jsons:
        if made and path not in made:
            mend_ = "write its source, or drop it"
            yield Finding("generated", f"{shown(path)}:1", path.name, "it has no source beside the others", mend_)


def _refused(dashboards: Sequence[Dashboard], promtool: Promtool) -> Iterator[Finding]:
    """Yield the queries that the real promtool refuses, all asked at once as recording rules."""
    queries = [(d, p, q) for d in dashboards for p in d.shown for q in p.queries if q.expr.strip()]
    rules = [{"record": f"query_{n}", "expr": asked(q, d.variables)} for n, (d, _, q) in enumerate(queries)]
    with tempfile.TemporaryDirectory(prefix="rollgate-dashboards-") as folder:
        path = Path(folder) / "queries.yml"
        path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}), encoding="utf-8")
        complaints = [text for _, text in promtool.check("rules", [path])]
    for complaint in complaints:
        for part in re.split(r"(?=\bgroup \")", complaint):
            number = re.search(r"query_(\d+)", part)
            if number is None:
                continue
            dashboard, panel, query = queries[int(number[1])]
            where, key = f"{dashboard.file}:{query.line}", f"{panel.title or panel.id}: {query.ref}"
            message = part.partition("could not parse expression:")[2].strip(" ;") or part.strip(" ;")
            yield Finding("promtool", where, key, message, "mend the query; Prometheus would refuse it")


def _provisioning(files: DashboardFiles) -> Iterator[Finding]:
    """Both data sources and a provider that reads the dashboards from files; nothing is asked of a lone folder."""
    if files.home is None or not (files.home / "provisioning").is_dir():
        return
    found, home = provisioned(files.home), shown(files.home / "provisioning")
    sources = found["datasources"][1] if "datasources" in found else ()
    where = found["datasources"][0].where() if "datasources" in found else f"{home}:1"
    if [entry.get("type") for entry in sources if entry.get("isDefault")] != ["prometheus"]:
        message = "expected exactly one default data source, of type prometheus"
        yield Finding("provisioning", where, "datasources", message, "set isDefault on Prometheus alone")
    uids = [entry.get("uid") for entry in sources]
    if not all(uids) or len(set(uids)) != len(uids):
        yield Finding("provisioning", where, "uid", "data sources without a uid of their own", "give each one")
    for entry in sources:
        if not str(entry.get("url", "")).startswith(("http://", "https://", "$")):
            name = str(entry.get("name", "?"))
            yield Finding("provisioning", where, name, f"found url `{entry.get('url', '')}`", "http://HOST:PORT")
    providers = found["providers"][1] if "providers" in found else ()
    if not any(entry.get("type") == "file" and "path" in str(entry.get("options")) for entry in providers):
        where = found["providers"][0].where() if "providers" in found else f"{home}:1"
        message = "no provider reads dashboards from files"
        yield Finding("provisioning", where, "providers", message, "add one of type file with options.path")


def _service_places(root: Path) -> Callable[[str], str]:
    path = root / "system.yaml"
    document = read_document(path) if path.is_file() else None
    return lambda name: document.where(("services", name)) if document else f"{shown(path)}:1"
