"""What a stored result rests on: the code that made it, as one digest."""

import ast
import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


@cache
def digest(modules: tuple[str, ...]) -> str:
    """Return the digest of the named modules of this project and of all of it that they import."""
    seen: dict[str, bytes] = {}
    _collect(modules, seen)
    whole = hashlib.sha256()
    for name in sorted(seen):
        whole.update(name.encode() + b"\0" + seen[name] + b"\0")
    return whole.hexdigest()[:16]


def _collect(modules: Sequence[str], seen: dict[str, bytes]) -> None:
    for name in modules:
        path = _file(name)
        if path is None or name in seen:
            continue
        seen[name] = path.read_bytes()
        _collect(tuple(_imported(seen[name])), seen)


def _imported(source: bytes) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _file(name: str) -> Path | None:
    parts = name.split(".")
    if parts[0] != _PACKAGE.name:
        return None
    stem = _PACKAGE.joinpath(*parts[1:])
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)
