"""What series there are, by name: of recorded scrapes, or of a live Prometheus."""

import difflib
import math
from collections.abc import Iterable, Sequence

from harness.model.rule import Monitoring, Recorded, Scrape
from harness.planning.promql.steady import Labels, matches
from harness.planning.promql.syntax import Selector

COUNTERS = ("_total", "_count", "_sum", "_bucket")


class Catalogue:
    """Recorded series by name. Recording rules are known by name only: what they give is computed, not scraped."""

    def __init__(self, scrapes: Sequence[Scrape], records: Iterable[str] = ()) -> None:
        """Index `scrapes`; `records` are names that recording rules make."""
        self.records = frozenset(records)
        self._by_name: dict[str, list[Recorded]] = {}
        self._declared: dict[str, str] = {}
        for scrape in scrapes:
            for item in scrape.series:
                name = dict(item.labels)["__name__"]
                self._by_name.setdefault(name, []).append(item)
                if scrape.declared:
                    self._declared.setdefault(name, scrape.declared)
                else:
                    self._declared[name] = ""

    @classmethod
    def of(cls, monitoring: Monitoring) -> "Catalogue":
        """Return the catalogue of a system's own files."""
        return cls(monitoring.scrapes, (rule.name for rule in monitoring.rules if not rule.alert))

    @property
    def empty(self) -> bool:
        """Whether nothing was recorded: then no name can be held against it."""
        return not self._by_name

    def knows(self, name: str) -> bool:
        """Tell whether anything serves or records `name`."""
        return name in self._by_name or name in self.records

    def near(self, name: str) -> str:
        """Return the known name most like `name`, "" where none is near."""
        near = difflib.get_close_matches(name, [*self._by_name, *self.records], n=1, cutoff=0.75)
        return near[0] if near else ""

    def declared(self, name: str) -> str:
        """Return why the series of `name` are written by hand, "" where they were recorded."""
        return self._declared.get(name, "")

    def named(self, name: str) -> Sequence[Recorded]:
        """Return all series of a name."""
        return self._by_name.get(name, ())

    def find(self, selector: Selector) -> list[Recorded]:
        """Return the series that a selector takes."""
        pool = self.named(selector.name) if selector.name else [s for group in self._by_name.values() for s in group]
        return [item for item in pool if matches(selector, dict(item.labels))]

    def counter(self, name: str) -> bool | None:
        """Tell whether `name` only ever rises; None where nobody knows."""
        kinds = {item.kind for item in self.named(name)} - {"", "unknown", "untyped"}
        if kinds:
            return "gauge" not in kinds
        if name.endswith(COUNTERS):
            return True
        return None if not self.named(name) else False if name == "up" or name.startswith("scrape_") else None

    def jobs(self, selector: Selector) -> set[str]:
        """Return the jobs whose series a selector takes."""
        return {job for item in self.find(selector) if (job := dict(item.labels).get("job", ""))}

    def bounds(self, selector: Selector) -> list[float]:
        """Return the bucket bounds of the histograms that a selector takes, ascending, +Inf among them."""
        found: set[float] = set()
        for item in self.find(selector):
            try:
                found.add(float(dict(item.labels).get("le", "")))
            except ValueError:
                continue
        return sorted(found)


def finite(value: float) -> float:
    """Return a recorded value that can be a level: 1 for one that is none."""
    return value if math.isfinite(value) and value >= 0 else 1.0


def without(labels: Labels, *names: str) -> Labels:
    """Return labels without some of them."""
    return frozenset(pair for pair in labels if pair[0] not in names)


def changed(labels: Labels, name: str, value: str) -> Labels:
    """Return labels with one of them set."""
    return frozenset({**dict(labels), name: value}.items())
