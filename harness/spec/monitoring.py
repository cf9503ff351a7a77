"""Rule files and scrape configurations in, rules and jobs with their lines out.

Only what our own checks need is read here; whether Prometheus takes a file is for promtool to say.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from harness import paths
from harness.model.errors import SpecError
from harness.model.rule import Job, Monitoring, Rule
from harness.planning.time_scale import parse_duration
from harness.spec.document import Document, Key, shown
from harness.spec.problems import Problems, first, read, suggestion
from harness.spec.scrapes import read_scrapes

_DEFAULT_INTERVAL = "1m"  # what Prometheus takes where a file says nothing
_DEFAULT_TIMEOUT = "10s"


def _seconds(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) and value != "0" else 0.0 if value in {0, "0"} else value


def _text(value: object) -> object:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else value


Seconds = Annotated[float, BeforeValidator(_seconds)]
Text = Annotated[str, BeforeValidator(_text)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class _Loose(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class RuleSpec(_Strict):
    """One rule."""

    alert: str = ""
    record: str = ""
    expr: Text
    for_: Seconds = Field(default=0.0, alias="for")
    keep_firing_for: Seconds = 0.0
    labels: dict[str, Text] = Field(default_factory=dict[str, Text])
    annotations: dict[str, Text] = Field(default_factory=dict[str, Text])


class GroupSpec(_Strict):
    """One group."""

    name: str
    interval: Seconds | None = None
    limit: int = 0
    query_offset: Seconds | None = None
    labels: dict[str, Text] = Field(default_factory=dict[str, Text])
    rules: list[RuleSpec] = Field(default_factory=list[RuleSpec])


class RuleFile(_Strict):
    """A rule file."""

    groups: list[GroupSpec]


class _Relabel(_Loose):
    source_labels: list[str] = Field(default_factory=list[str])
    target_label: str = ""
    replacement: str = ""


class _JobSpec(_Loose):
    job_name: str
    scrape_interval: Seconds | None = None
    scrape_timeout: Seconds | None = None
    relabel_configs: list[_Relabel] = Field(default_factory=list[_Relabel])


class _Global(_Loose):
    scrape_interval: Seconds = parse_duration(_DEFAULT_INTERVAL)
    scrape_timeout: Seconds = parse_duration(_DEFAULT_TIMEOUT)
    evaluation_interval: Seconds = parse_duration(_DEFAULT_INTERVAL)


class _Config(_Loose):
    global_: _Global = Field(default=_Global(), alias="global")
    scrape_configs: list[_JobSpec] = Field(default_factory=list[_JobSpec])


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringFiles:
    """Where a system's files are; None for what it does not ship. `name` is how people call the system."""

    name: str
    root: Path
    rules: tuple[Path, ...]
    config: Path | None = None
    alertmanager: Path | None = None
    scrapes: Path | None = None


def find_monitoring(name_or_path: str) -> MonitoringFiles:
    """Return the files of a shipped system by name, of a folder, or one rule file. Raises SpecError.

    A folder holds `prometheus/rules/*.yml` as a system does, or rule files themselves.
    """
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return MonitoringFiles(
            name=path.stem, root=path.parent, rules=(path,), scrapes=_scrapes(path.parent, path.stem)
        )
    shipped = paths.share_root() / "stack" / "systems" / name_or_path
    root = next((folder for folder in (path, shipped) if name_or_path and folder.is_dir()), None)
    if root is None:
        raise SpecError(
            f"found no system `{name_or_path}`, expected a name, a folder or a rule file",
            mend=suggestion(name_or_path, monitored(), "systems with rules"),
        )
    home = root / "prometheus" if (root / "prometheus").is_dir() else root
    folder = home / "rules" if (home / "rules").is_dir() else home
    known = {home / "prometheus.yml", home / "alertmanager.yml"}
    rules = [item for item in sorted((*folder.glob("*.yml"), *folder.glob("*.yaml"))) if item not in known]
    if home == root and folder == root:
        rules = [item for item in rules if "\ngroups:" in f"\n{item.read_text(encoding='utf-8', errors='replace')}"]
    if not rules:
        raise SpecError("found no rule files", where=shown(root), mend="put them into prometheus/rules/*.yml")
    return MonitoringFiles(
        name=root.resolve().name,
        root=root,
        rules=tuple(rules),
        config=_there(home / "prometheus.yml"),
        alertmanager=_there(home / "alertmanager.yml"),
        scrapes=_scrapes(home, root.resolve().name),
    )


def monitored() -> list[str]:
    """Return the names of the shipped systems that have rules."""
    found = (paths.share_root() / "stack" / "systems").glob("*/prometheus/rules/*.yml")
    return sorted({item.parent.parent.parent.name for item in found})


def recorded_home(files: MonitoringFiles) -> Path:
    """Return the folder where a system's recorded scrapes belong."""
    if files.root.parent == paths.share_root() / "stack" / "systems":
        return paths.share_root() / "fixtures" / "scrapes" / files.name
    return files.root / "prometheus" / "scrapes" if (files.root / "prometheus").is_dir() else files.root / "scrapes"


def load_monitoring(files: MonitoringFiles) -> Monitoring:
    """Read all files. Raises SpecError, the first of what is wrong with their form."""
    try:
        interval, jobs = _jobs(files.config) if files.config else (parse_duration(_DEFAULT_INTERVAL), ())
        rules = tuple(rule for path in files.rules for rule in _rules(path, interval))
    except Problems as problems:
        raise first(problems.errors) from None
    return Monitoring(rules=rules, jobs=jobs, scrapes=read_scrapes(files.scrapes) if files.scrapes else ())


def _there(path: Path) -> Path | None:
    return path if path.is_file() else None


def _scrapes(home: Path, name: str) -> Path | None:
    fixtures = paths.share_root() / "fixtures" / "scrapes" / name
    return next((folder for folder in (home / "scrapes", fixtures) if folder.is_dir()), None)


def _jobs(path: Path) -> tuple[float, tuple[Job, ...]]:
    document, config = read(path, _Config)
    common = config.global_
    jobs: list[Job] = []
    for index, spec in enumerate(config.scrape_configs):
        interval = common.scrape_interval if spec.scrape_interval is None else spec.scrape_interval
        timeout = min(common.scrape_timeout, interval) if spec.scrape_timeout is None else spec.scrape_timeout
        fixed = [
            (r.target_label, r.replacement) for r in spec.relabel_configs if r.target_label and not r.source_labels
        ]
        line = document.lines.get(("scrape_configs", index), 1)
        jobs.append(Job(name=spec.job_name, interval_s=interval, timeout_s=timeout, labels=tuple(fixed), line=line))
    return common.evaluation_interval, tuple(jobs)


def _rules(path: Path, interval_s: float) -> Iterator[Rule]:
    document, spec = read(path, RuleFile)
    raw = path.read_text(encoding="utf-8-sig").splitlines()
    for number, group in enumerate(spec.groups):
        for index, item in enumerate(group.rules):
            at: Key = ("groups", number, "rules", index)
            if bool(item.alert) == bool(item.record):
                raise document.problem(at, "expected one of `alert` and `record`", mend="name the rule once")
            line, folded = _expression(document, (*at, "expr"), raw)
            yield Rule(
                name=item.alert or item.record,
                alert=bool(item.alert),
                expr=item.expr,
                group=group.name,
                file=shown(path),
                for_s=item.for_,
                interval_s=group.interval or interval_s,
                labels=tuple({**group.labels, **item.labels}.items()),
                annotations=tuple(item.annotations.items()),
                lines=_lines(document, at),
                expr_line=line,
                folded=folded,
                keep_firing_s=item.keep_firing_for,
            )


def _lines(document: Document, at: Key) -> dict[str, int]:
    size = len(at)
    return {".".join(str(k) for k in key[size:]): line for key, line in document.lines.items() if key[:size] == at}


def _expression(document: Document, key: Key, raw: list[str]) -> tuple[int, bool]:
    """Return the line where an expression's text begins, and whether its line breaks are folded away."""
    line = document.lines.get(key, 1)
    written = raw[line - 1].partition(":")[2].strip() if line <= len(raw) else ""
    if written.startswith("|"):
        return line + 1, False
    return line + written.startswith(">"), True
