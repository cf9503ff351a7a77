"""Reading YAML and JSON files into plain values that remember their lines; nothing in a file can run or explode."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from harness.model.errors import SpecError

MAX_BYTES = 512 * 1024
MAX_VALUES = 20_000
MAX_DEPTH = 40

Key = tuple[str | int, ...]
_PLAIN_TAGS = ("str", "int", "float", "bool", "null", "timestamp")


@dataclass(frozen=True, slots=True)
class Document:
    """One file: its values, and the line (from 1) of every key and list item by its path of keys."""

    path: Path
    data: object
    lines: Mapping[Key, int] = field(default_factory=dict[Key, int])

    def where(self, key: Key = ()) -> str:
        """Return "file:line" of `key`, or of its nearest parent that the file has."""
        while key and key not in self.lines:
            key = key[:-1]
        return f"{shown(self.path)}:{self.lines.get(key, 1)}"

    def problem(self, key: Key, message: str, *, mend: str = "") -> SpecError:
        """Return the one-line error about `key`."""
        return SpecError(message, where=self.where(key), key=dotted(key), mend=mend)


def shown(path: Path) -> str:
    """Return `path` as a reader would type it: relative where it lies under the working folder."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def dotted(key: Key) -> str:
    """Return a path of keys as "services.app.checks[0]"; a key that holds dots is quoted."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        name = f'"{part}"' if "." in part else part
        text += f".{name}" if text else name
    return text


def read_document(path: Path) -> Document:
    """Read one YAML or JSON file. Raises SpecError (exit 2) with file, line and mend for whatever is wrong."""
    text = _text(path)
    try:
        data, lines = _Builder(path).build(text.expandtabs(8) if path.suffix == ".json" else text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        found = " ".join(part for part in (error.context, error.problem) if part)
        kind = "JSON" if path.suffix == ".json" else "YAML"
        raise SpecError(
            f"no {kind}: {found}",
            where=f"{shown(path)}:{line}",
            mend="mend the syntax on this line or the one before it (indent, quotes, brackets)",
        ) from None
    except yaml.YAMLError as error:
        raise SpecError(
            f"no YAML: {' '.join(str(error).split())}", where=f"{shown(path)}:1", mend="save it as plain UTF-8 text"
        ) from None
    if path.suffix == ".json":
        data = _json(path, text)
    if not isinstance(data, dict):
        found = "nothing" if data is None else f"a {_kind(data)}"
        raise SpecError(
            f"found {found}, expected keys with values",
            where=f"{shown(path)}:1",
            mend="start the file with `schema: 1`",
        )
    return Document(path, cast("object", data), lines)


def _text(path: Path) -> str:
    where = shown(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SpecError(
                f"found {path.stat().st_size} bytes, expected at most {MAX_BYTES}",
                where=f"{where}:1",
                mend="is this the right file?",
            )
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SpecError(
            f"found bytes that are no UTF-8 (at byte {error.start}), expected UTF-8 text",
            where=f"{where}:{line}",
            mend="save the file as UTF-8",
        ) from None
    except FileNotFoundError:
        raise SpecError(
            "no such file", where=where, mend="create it, or correct the name where it is asked for"
        ) from None
    except OSError as error:
        raise SpecError(
            f"cannot be read: {(error.strerror or 'unknown error').lower()}",
            where=where,
            mend="it must be a file that this user may read",
        ) from None


def _json(path: Path, text: str) -> object:
    def refuse(constant: str) -> float:
        raise SpecError(f"found {constant}, expected a finite number", where=f"{shown(path)}:1", mend="write a number")

    try:
        return cast("object", json.loads(text, parse_constant=refuse))
    except json.JSONDecodeError as error:
        raise SpecError(
            f"no JSON: {error.msg.lower()}",
            where=f"{shown(path)}:{error.lineno}",
            mend="mend the syntax on this line or the one before it (commas, quotes, brackets)",
        ) from None
    except RecursionError:
        raise SpecError("nested too deep", where=f"{shown(path)}:1", mend="write fewer brackets") from None


def _kind(value: object) -> str:
    names: dict[type, str] = {
        dict: "mapping",
        list: "list",
        str: "text",
        bool: "yes/no value",
        int: "number",
        float: "number",
    }
    return names.get(type(value), type(value).__name__)


@dataclass(slots=True)
class _Open:
    """A mapping or list that is being read."""

    key: Key
    value: dict[str, Any] | list[Any]
    anchor: str | None
    size: int = 1
    pending: str | None = None


class _Builder:
    """Builds values from parser events on an explicit stack, so that depth and size stay bounded."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[Key, int] = {}
        self._anchors: dict[str, tuple[object, int]] = {}
        self._stack: list[_Open] = []
        self._root: object = None
        self._scalars: Any = yaml.SafeLoader("")
        self._documents = 0

    def build(self, text: str) -> tuple[object, dict[Key, int]]:
        """Return the value and the line of every path of keys."""
        for event in _events(text):
            line = event.start_mark.line + 1
            if isinstance(event, yaml.DocumentStartEvent):
                self._documents += 1
                if self._documents > 1:
                    raise self._error(line, "found a second document", mend="keep one document a file: drop `---`")
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self._open(event, line)
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                self._close(line)
            elif isinstance(event, yaml.ScalarEvent):
                self._scalar(event, line)
            elif isinstance(event, yaml.AliasEvent):
                self._alias(str(event.anchor), line)
        return self._root, self._lines

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent, line: int) -> None:
        value: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        if self._expects_key():
            raise self._error(line, "found a list or mapping as a key, expected a name", mend="write a plain key")
        if event.tag not in (None, "!"):
            raise self._error(line, f"found the tag {event.tag}, expected plain YAML", mend="drop the tag")
        if len(self._stack) >= MAX_DEPTH:
            raise self._error(line, f"nested deeper than {MAX_DEPTH} levels", mend="is this the right file?")
        self._stack.append(_Open(self._next_key(line), value, event.anchor))

    def _close(self, line: int) -> None:
        done = self._stack.pop()
        if done.anchor:
            self._anchors[done.anchor] = (done.value, done.size)
        self._attach(done.value, line, done.size)

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        if self._expects_key():
            self._begin_key(event, line)
            return
        value = self._construct(event, line)
        self._next_key(line)
        if event.anchor:
            self._anchors[str(event.anchor)] = (value, 1)
        self._attach(value, line, 1)

    def _begin_key(self, event: yaml.ScalarEvent, line: int) -> None:
        holder = self._stack[-1]
        name = event.value
        if name == "<<" and event.implicit[0]:
            raise self._error(line, "found a merge key `<<`, expected plain keys", mend="write the keys out")
        if name in holder.value:
            first = self._lines[(*holder.key, name)]
            raise SpecError(
                f"the key stands here twice, first on line {first}",
                where=f"{shown(self._path)}:{line}",
                key=dotted((*holder.key, name)),
                mend="keep one of the two",
            )
        holder.pending = name
        self._lines[(*holder.key, name)] = line

    def _construct(self, event: yaml.ScalarEvent, line: int) -> object:
        tag = event.tag
        if tag is None or tag == "!":
            tag = cast("str", self._scalars.resolve(yaml.ScalarNode, event.value, event.implicit))
        if tag.removeprefix("tag:yaml.org,2002:") not in _PLAIN_TAGS:
            raise self._error(line, f"found the tag {tag}, expected plain YAML", mend="drop the tag")
        node = yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark)
        try:
            return cast("object", self._scalars.construct_object(node))
        except ValueError as error:
            raise self._error(line, f"found a value that cannot be read: {error}", mend="put it in quotes") from None

    def _alias(self, anchor: str, line: int) -> None:
        if self._expects_key():
            raise self._error(line, f"found the alias *{anchor} as a key", mend="write the key out")
        if anchor not in self._anchors:
            raise self._error(line, f"the alias *{anchor} has no complete anchor before it", mend="write it out")
        value, size = self._anchors[anchor]
        self._next_key(line)
        self._attach(value, line, size)

    def _expects_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].value, dict) and self._stack[-1].pending is None

    def _next_key(self, line: int) -> Key:
        if not self._stack:
            self._lines[()] = line
            return ()
        holder = self._stack[-1]
        part = len(holder.value) if isinstance(holder.value, list) else cast("str", holder.pending)
        key = (*holder.key, part)
        self._lines.setdefault(key, line)
        return key

    def _attach(self, value: object, line: int, size: int) -> None:
        if not self._stack:
            self._root = value
            return
        holder = self._stack[-1]
        holder.size += size
        if holder.size > MAX_VALUES:
            raise self._error(
                line, f"holds more than {MAX_VALUES} values, aliases expanded", mend="write fewer aliases"
            )
        if isinstance(holder.value, list):
            holder.value.append(value)
        else:
            holder.value[cast("str", holder.pending)] = value
            holder.pending = None

    def _error(self, line: int, message: str, *, mend: str) -> SpecError:
        key = self._stack[-1].key if self._stack else ()
        return SpecError(message, where=f"{shown(self._path)}:{line}", key=dotted(key), mend=mend)


def _events(text: str) -> Iterator[Any]:
    untyped: Any = yaml
    yield from untyped.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
