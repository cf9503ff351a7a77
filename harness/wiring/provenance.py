"""Which code and data decide: a digest of the installed files, and the commit where there is a checkout."""

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import harness
from harness.paths import share_root

_PACKAGE = Path(harness.__file__).resolve().parent
_SHARED = ("stack", "suites/conformance", "scenarios", "fixtures")
_JUDGING = ("judge", "model", "planning")
_GENERATED = frozenset({"__pycache__", "_share", "reports", ".git"})
_GIT_S = 10.0


def code_digest(system: Path) -> str:
    """Return the SHA-256 of the engine, what it runs on, and the system's folder: names and contents, in hex.

    The same files give the same digest wherever they lie. What Python generates and what runs leave counts for nothing.
    """
    share = share_root()
    roots = {"harness": _PACKAGE, **{name: share / name for name in _SHARED}, "system": system.resolve()}
    digest = hashlib.sha256()
    for name, root in roots.items():
        for path in _files(root):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{name}/{path.relative_to(root).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def judge_digest() -> str:
    """Return the SHA-256 of what judges: the sources of judge, planning and model, in hex."""
    digest = hashlib.sha256()
    for name in _JUDGING:
        for path in _files(_PACKAGE / name):
            digest.update(f"{name}/{path.name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _files(root: Path) -> Iterator[Path]:
    for path in sorted(root.iterdir() if root.is_dir() else ()):
        if path.name in _GENERATED:
            continue
        if path.is_dir():
            yield from _files(path)
        elif path.suffix != ".pyc" and path.is_file():
            yield path


def commit() -> str:
    """Return the checkout's commit, and whether tracked files differ from it; "" without git or a checkout."""
    root = _PACKAGE.parent
    if not (root / ".git").exists():
        return ""
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return f"{head} with changes" if head and changed else head


def _git(root: Path, *words: str) -> str:
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), *words],  # noqa: S607 - whichever git the user has
            capture_output=True,
            text=True,
            timeout=_GIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
