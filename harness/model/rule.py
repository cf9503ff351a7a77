"""Alert and recording rules, scrape jobs and recorded series as the files state them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of a rule file. `alert` is False for a recording rule; seconds throughout.

    `lines` maps a key ("expr", "for", "labels.severity", "annotations.summary") to its line in `file`;
    `expr_line` is the line where the expression's text begins, `folded` whether its own line breaks are lost.
    """

    name: str
    alert: bool
    expr: str
    group: str
    file: str
    for_s: float = 0.0
    interval_s: float = 15.0
    labels: Labels = ()
    annotations: Labels = ()
    lines: Mapping[str, int] = field(default_factory=dict[str, int])
    expr_line: int = 1
    folded: bool = False
    keep_firing_s: float = 0.0

    def label(self, name: str) -> str:
        """Return a label's value, "" for none."""
        return dict(self.labels).get(name, "")

    def annotation(self, name: str) -> str:
        """Return an annotation's text, "" for none."""
        return dict(self.annotations).get(name, "")

    def where(self, key: str = "expr", offset: int = 0) -> str:
        """Return "file:line" of `key`, within the expression of the character at `offset`."""
        if key == "expr":
            extra = 0 if self.folded else self.expr.count("\n", 0, offset)
            return f"{self.file}:{self.expr_line + extra}"
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
        return f"{self.file}:{self.lines.get(key, self.lines.get('', 1))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One scrape job; `labels` are those that relabelling always gives its targets."""

    name: str
    interval_s: float
    timeout_s: float
    labels: Labels = ()
    line: int = 1


@dataclass(frozen=True, slots=True)
class Recorded:
    """One series as a Prometheus stored it. `labels` include `__name__`; `kind` is its type, "" where unknown."""

    labels: frozenset[tuple[str, str]]
    value: float
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Scrape:
    """The recorded series of one job. `declared` is why they were written by hand, "" where they were recorded."""

    job: str
    series: tuple[Recorded, ...]
    declared: str = ""


@dataclass(frozen=True, slots=True)
class Monitoring:
    """All rule files of a system with what they stand on. `jobs` is empty where it ships no prometheus.yml."""

    rules: tuple[Rule, ...]
    jobs: tuple[Job, ...] = ()
    scrapes: tuple[Scrape, ...] = ()

    @property
    def alerts(self) -> tuple[Rule, ...]:
        """The alerting rules alone."""
        return tuple(rule for rule in self.rules if rule.alert)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to mend: which check, where ("file:line"), the rule and key, what was found and expected."""

    check: str
    where: str
    key: str
    message: str
    mend: str

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.where}: {self.key}: {self.message} [{self.check}] — {self.mend}"
