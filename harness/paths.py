"""Where rollgate keeps its data and its cache."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def share_root() -> Path:
    """Return the folder that holds stack/, scenarios/, suites/ and fixtures/.

    A checkout has them beside `harness/`; the wheel carries them in `harness/_share/`.
    """
    packed = _PACKAGE / "_share"
    return packed if packed.is_dir() else _PACKAGE.parent


def cache_root() -> Path:
    """Return rollgate's cache folder: $ROLLGATE_CACHE, else $XDG_CACHE_HOME/rollgate, else ~/.cache/rollgate.

    Where the home folder cannot be written (a service account), the working folder's `.cache` serves.
    """
    if explicit := os.environ.get("ROLLGATE_CACHE"):
        return Path(explicit)
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "rollgate"
    home = Path(os.environ.get("HOME") or "/nonexistent")
    if home.is_dir() and os.access(home, os.W_OK):
        return home / ".cache" / "rollgate"
    return Path.cwd() / ".cache" / "rollgate"
