"""Which catalog ids ran and passed, at which level, and which are missing.

An id counts at the best level of the cases that bear it (`covers` properties of junit.xml), ran and passed; a failure
or an error of any case takes it away, a skip counts for nothing. `static` < `simulated` < `live`.
"""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.model.errors import SpecError

LEVELS = ("static", "simulated", "live")
MISSING = "missing"
_ID = re.compile(r"^\s+([a-z]+(?:\.[a-z0-9_]+)+):", re.MULTILINE)
_SECTION = re.compile(r"^([a-z_]+):", re.MULTILINE)
_NO_SYSTEMS = ("systems", "out_of_scope")


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The level of each catalog id, by system: live, simulated, static or missing."""

    systems: Mapping[str, Mapping[str, str]]

    def whole(self) -> bool:
        """Whether no id is missing."""
        return all(level != MISSING for ids in self.systems.values() for level in ids.values())


def read_catalog(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the ids of a catalog by system, in its order. Raises SpecError for a file that holds none."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}", key="--catalog", mend="name the catalog's file") from None
    heads = [(match.start(), match.group(1)) for match in _SECTION.finditer(text)]
    ends = [*(start for start, _ in heads[1:]), len(text)][: len(heads)]
    found = {
        name: tuple(dict.fromkeys(_ID.findall(text[start:end])))
        for (start, name), end in zip(heads, ends, strict=True)
        if name not in _NO_SYSTEMS
    }
    found = {name: ids for name, ids in found.items() if ids}
    if not found:
        raise SpecError(
            f"{path}: found no ids, expected sections like `name:` with `  xx.group.id:` in them",
            key="--catalog",
            mend="name the catalog's file",
        )
    return found


def read_levels(files: Iterable[Path]) -> dict[str, str]:
    """Return the best level at which each id passed, in any of the junit.xml files. Raises SpecError."""
    passed: dict[str, str] = {}
    spoiled: set[str] = set()
    for path in files:
        try:
            cases = ET.parse(path).iter("testcase")  # noqa: S314 - files of our own runs
        except (OSError, ET.ParseError) as error:
            raise SpecError(f"{path}: no junit.xml: {error}", key="--junit", mend="run the tests first") from None
        for case in cases:
            borne = _borne(case)
            if case.find("failure") is not None or case.find("error") is not None:
                spoiled |= borne.keys()
            elif case.find("skipped") is None:
                passed |= {name: _better(passed.get(name), level) for name, level in borne.items()}
    return {name: level for name, level in passed.items() if name not in spoiled}


def _borne(case: ET.Element) -> dict[str, str]:
    """Return the ids that a case bears, each with the level that follows it; live where none does."""
    borne: dict[str, str] = {}
    last = ""
    for item in case.iter("property"):
        name, value = item.get("name"), str(item.get("value"))
        if name == "covers":
            last = value
            borne[last] = LEVELS[-1]
        elif name == "covers_level" and last and value in LEVELS:
            borne[last] = value
    return borne


def _better(old: str | None, new: str) -> str:
    return new if old is None else max(old, new, key=LEVELS.index)


def coverage(catalog: Path, junit: Sequence[Path], *, systems: Sequence[str] = ()) -> Coverage:
    """Return the level of each id of the asked systems (all where none is asked). Raises SpecError."""
    known = read_catalog(catalog)
    for name in systems:
        if name not in known:
            raise SpecError(f"no system `{name}` in {catalog}", key="--system", mend=f"known: {', '.join(known)}")
    levels = read_levels(junit)
    return Coverage(
        systems={name: {item: levels.get(item, MISSING) for item in known[name]} for name in systems or known}
    )


def print_coverage(
    catalog: Path,
    junit: Sequence[Path],
    *,
    systems: Sequence[str],
    as_json: bool,
    echo: Callable[[str], None],
) -> int:
    """Print the table (or JSON) through `echo`; return 0 when nothing that was asked for is missing, else 1."""
    found = coverage(catalog, junit, systems=systems)
    if as_json:
        echo(json.dumps({"systems": found.systems, "whole": found.whole()}, indent=1))
    else:
        for line in table(found, listed=bool(systems)):
            echo(line)
    return 0 if found.whole() else 1


def table(found: Coverage, *, listed: bool) -> list[str]:
    """Return one line a system: ids at each level; with `listed`, every id with its level below it."""
    width = max(len(name) for name in found.systems)
    heads = [*reversed(LEVELS), MISSING]
    lines = ["  ".join(["system".ljust(width), *(head.rjust(9) for head in heads), "    ids"])]
    for name, ids in found.systems.items():
        counts = [sum(level == head for level in ids.values()) for head in heads]
        lines.append("  ".join([name.ljust(width), *(str(count).rjust(9) for count in counts), str(len(ids)).rjust(7)]))
        if listed:
            lines += [f"    {level.ljust(9)}  {item}" for item, level in ids.items()]
    return lines
