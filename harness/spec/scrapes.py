"""Recorded scrapes: one file a job with the series as Prometheus stored them, in its text format.

The first line says where they come from: `# recorded ...`, or `# declared: REASON` where no machine of ours can run the
job and a person wrote down what its documentation promises.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from harness.model.errors import SpecError
from harness.model.rule import Recorded, Scrape
from harness.spec.document import shown

_SERIES = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)\{(?P<labels>.*)\}\s+(?P<value>\S+)$")
_LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:\\.|[^"\\])*)",?')
_DECLARED = "# declared:"


def read_scrapes(folder: Path) -> tuple[Scrape, ...]:
    """Return the scrape of every `JOB.prom` in `folder`, none where there is no such folder. Raises SpecError."""
    return tuple(_scrape(path) for path in sorted(folder.glob("*.prom")))


def scrape_text(job: str, series: Iterable[Recorded], head: str) -> str:
    """Return the file of one job, sorted, beginning with the comment `head`."""
    lines = [f"# {head}", f"# job {job}"]
    typed: set[str] = set()
    for item in sorted(series, key=_order):
        labels = dict(item.labels)
        name = labels.pop("__name__")
        if item.kind and name not in typed:
            lines.append(f"# TYPE {name} {item.kind}")
            typed.add(name)
        inner = ",".join(f'{key}="{_escaped(labels[key])}"' for key in sorted(labels))
        lines.append(f"{name}{{{inner}}} {item.value:g}")
    return "\n".join(lines) + "\n"


def _order(item: Recorded) -> tuple[str, float, list[tuple[str, str]]]:
    labels = dict(item.labels)
    bound = labels.pop("le", "0")
    rest = sorted((k, v) for k, v in labels.items() if k != "__name__")
    try:
        return labels["__name__"], 0.0, [*rest, ("le", f"{float(bound):030.6f}")]
    except ValueError:
        return labels["__name__"], 0.0, rest


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], text)


def _scrape(path: Path) -> Scrape:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot be read: {error}", where=f"{shown(path)}:1", mend="record it again") from error
    declared = lines[0].removeprefix(_DECLARED).strip() if lines and lines[0].startswith(_DECLARED) else ""
    kinds: dict[str, str] = {}
    series: list[Recorded] = []
    for number, line in enumerate(lines, 1):
        if line.startswith("# TYPE "):
            name, _, kind = line.removeprefix("# TYPE ").partition(" ")
            kinds[name] = kind
        elif line and not line.startswith("#"):
            series.append(_series(line, kinds, path, number))
    return Scrape(path.stem, tuple(series), declared)


def _series(line: str, kinds: dict[str, str], path: Path, number: int) -> Recorded:
    match = _SERIES.match(line)
    value = _number(match["value"]) if match else None
    mend = "record it again: rollgate rules record"
    if match is None or value is None:
        raise SpecError("found no series, expected name{labels} value", where=f"{shown(path)}:{number}", mend=mend)
    labels = {key: _unescaped(text) for key, text in _LABEL.findall(match["labels"])}
    if match["name"].endswith("_bucket") and _number(labels.get("le", "+Inf")) is None:
        raise SpecError(f"found le={labels['le']!r}, expected a number", where=f"{shown(path)}:{number}", mend=mend)
    return Recorded(frozenset({**labels, "__name__": match["name"]}.items()), value, kinds.get(match["name"], ""))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
