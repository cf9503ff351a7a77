"""Write `uv.lock` without any package index in it, and tell which hosts a lock names.

The lock pins versions and digests, not places: set-up installs from whatever index the user has configured, and the
digests hold wherever the files come from. Run as `make lock`.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).resolve().parent.parent
PLACEHOLDER = "index.invalid"  # RFC 2606: resolves nowhere, for ever
_URL = re.compile(r"https?://(?P<host>[^/\s\"']+)(?P<path>[^\s\"']*)")
_PROBE = '[project]\nname = "probe"\nversion = "0"\nrequires-python = ">=3.11"\ndependencies = ["uv"]\n'


def neutral(text: str) -> str:
    """Return the lock with every registry and file address moved to the placeholder host."""

    def move(url: re.Match[str]) -> str:
        name = url["path"].rsplit("/", 1)[-1]
        is_file = name.endswith((".whl", ".tar.gz", ".zip", ".tar.bz2"))
        return f"https://{PLACEHOLDER}/files/{name}" if is_file else f"https://{PLACEHOLDER}/simple"

    return _URL.sub(move, text)


def foreign_hosts(text: str) -> set[str]:
    """Return the hosts that the lock names besides the placeholder."""
    return {url["host"] for url in _URL.finditer(text)} - {PLACEHOLDER}


def _configured_index(uv: str) -> str:
    """Return the index address that uv uses here, as it writes it into a lock."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pyproject.toml").write_text(_PROBE, encoding="utf-8")
        subprocess.run([uv, "lock", "--quiet", "--project", folder], check=True)
        lock = cast("dict[str, Any]", tomllib.loads((Path(folder) / "uv.lock").read_text(encoding="utf-8")))
        return next(package["source"]["registry"] for package in lock["package"] if "registry" in package["source"])


def main() -> int:
    """Bring `uv.lock` up to date with the pyproject files, keeping the pinned versions that still fit."""
    uv = shutil.which("uv", path=str(ROOT / ".venv" / "bin")) or shutil.which("uv")
    if not uv:
        print("lock: uv is neither in .venv nor on PATH: run `make setup` first", file=sys.stderr)
        return 4
    lock = ROOT / "uv.lock"
    before = lock.read_text(encoding="utf-8") if lock.exists() else ""
    # uv forgets the pins of an index it does not know, so the placeholder becomes the real one while it works.
    lock.write_text(before.replace(f"https://{PLACEHOLDER}/simple", _configured_index(uv)), encoding="utf-8")
    try:
        done = subprocess.run([uv, "lock", "--project", str(ROOT), *sys.argv[1:]], check=False)
        if done.returncode == 0:
            before = neutral(lock.read_text(encoding="utf-8"))
    finally:
        lock.write_text(before, encoding="utf-8")
    return done.returncode


if __name__ == "__main__":
    raise SystemExit(main())
