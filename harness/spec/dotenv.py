"""A user's settings: a `.env` file of NAME=value lines, read as Compose reads it, and refused by line."""

import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from dotenv.parser import parse_stream

from harness.model.errors import SpecError
from harness.spec.document import MAX_BYTES, shown

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = re.compile(r"\$[A-Za-z_{(]")


def read_settings(path: Path) -> tuple[dict[str, str], list[SpecError]]:
    """Return the settings of the file, and one error a line that is none: no line with an error sets anything.

    Each setting is one line, `NAME=value`, with quotes where the value holds blanks or `#`. No error tells a value.
    """
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        return {}, [SpecError(f"cannot be read: {why}", where=f"{shown(path)}:1", mend="save it as UTF-8 text")]
    if len(raw) > MAX_BYTES or "\0" in text:
        return {}, [SpecError("is no settings file", where=f"{shown(path)}:1", mend="write NAME=value lines")]
    found: dict[str, str] = {}
    lines: dict[str, int] = {}
    wrong: list[SpecError] = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, value, problem, mend = _setting(line)
        if not problem and name in lines:
            problem, mend = f"found {name} again, expected it once (line {lines[name]})", "keep one of the two"
        if problem:
            wrong.append(SpecError(problem, where=f"{shown(path)}:{number}", mend=mend))
        else:
            found[name], lines[name] = value, number
    return found, wrong


def with_settings(file: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings in force: the environment goes before the file."""
    return {**file, **environment}


def _setting(line: str) -> tuple[str, str, str, str]:
    """Return name, value, problem and mend of one line."""
    text = line.strip().removeprefix("export ").lstrip()
    name, equals, raw = text.partition("=")
    if not equals:
        return "", "", "found no `=`, expected NAME=value", "write NAME=value, or # before a comment"
    if not _NAME.fullmatch(name):
        found = "a blank before `=`" if _NAME.fullmatch(name.rstrip()) else "no name"
        return "", "", f"found {found}, expected NAME=value", "names are letters, digits and _, without blanks"
    bindings = list(parse_stream(StringIO(text)))
    if len(bindings) != 1 or bindings[0].error:
        return name, "", f"{name}: found a value that does not end, expected one line", "close its quotes on the line"
    if not raw.lstrip().startswith("'") and _REFERENCE.search(raw):
        found = f"{name}: found a reference, expected the value itself"
        return name, "", found, "write it out, or put it in single quotes"
    return name, bindings[0].value or "", "", ""
