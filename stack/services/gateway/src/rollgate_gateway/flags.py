"""Feature flags: a share in percent for each, read live from a file, sticky by session."""

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash

log = logging.getLogger("rollgate.gateway.flags")
FEATURES = (
    "ai_inference",
    "vector_search",
    "semantic_cache",
    "triton_gpu_acceleration",
    "batch_inference",
    "advanced_monitoring",
    "cost_optimization",
)
BUCKETS = 10_000
PER_PERCENT = BUCKETS // 100


def bucket(session: str) -> int:
    """Return the session's bucket, 0 to 9999: the router's own hash, so that flags and traffic move together."""
    return xxhash.xxh32(session.encode("utf-8", "surrogateescape")).intdigest() % BUCKETS


class Definitions:
    """What the system says of its flags: the share each starts with, and its parents."""

    def __init__(self, rollout: Mapping[str, float], parents: Mapping[str, tuple[str, ...]]) -> None:
        """Take shares in percent and each flag's parents."""
        self.rollout = dict(rollout)
        self.parents = dict(parents)

    @classmethod
    def read(cls, path: Path | None) -> "Definitions":
        """Read the system's flags.json, or a plain {"flag": ["parent", ...]}. None gives no parents.

        Raises OSError or ValueError where the file cannot be read.
        """
        if path is None:
            return cls({}, {})
        body = json.loads(path.read_text(encoding="utf-8"))
        flags = body.get("flags", body) if isinstance(body, dict) else {}
        entries = {name: value for name, value in flags.items() if name in FEATURES}
        return cls(
            {name: _percent(value.get("rollout", 0)) for name, value in entries.items() if isinstance(value, dict)},
            {name: _parents(value) for name, value in entries.items()},
        )

    def effective(self, shares: Mapping[str, float]) -> dict[str, float]:
        """Return each flag's effective share: the least of its own and its parents' effective shares."""
        result: dict[str, float] = {}
        for name in FEATURES:
            self._resolve(name, shares, result, ())
        return result

    def _resolve(self, name: str, shares: Mapping[str, float], done: dict[str, float], above: tuple[str, ...]) -> float:
        if name in above:
            return 0.0  # a cycle of parents never switches anything on
        if name not in done:
            own = shares.get(name, self.rollout.get(name, 0.0))
            parents = [self._resolve(parent, shares, done, (*above, name)) for parent in self.parents.get(name, ())]
            done[name] = min([own, *parents])
        return done[name]


def _parents(value: Any) -> tuple[str, ...]:  # noqa: ANN401 (parsed JSON)
    listed = value.get("depends", value.get("parents", ())) if isinstance(value, dict) else value
    return tuple(str(parent) for parent in listed) if isinstance(listed, list | tuple) else ()


def _percent(value: Any) -> float:  # noqa: ANN401 (parsed JSON)
    """Return a share within [0, 100]; what is no number is off."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return 0.0
    return min(max(float(value), 0.0), 100.0)


class LiveFlags:
    """The deployed shares. The file is read again when its modification time, size or inode changes."""

    def __init__(self, path: Path | None, definitions: Definitions, overrides: Mapping[str, float]) -> None:
        """Watch `path` ({"flag": percent}); `overrides` stand above the file."""
        self._path = path
        self._definitions = definitions
        self._overrides = dict(overrides)
        self._stamp: tuple[int, int, int] | None = None
        self._shares: dict[str, float] = {}
        self._effective = definitions.effective(self._overrides)

    def features(self, session: str) -> tuple[str, ...]:
        """Return the features that are on for a session, in the order of FEATURES."""
        self._refresh()
        place = bucket(session)
        return tuple(name for name in FEATURES if place < round(self._effective[name] * PER_PERCENT))

    def shares(self) -> dict[str, float]:
        """Return each flag's effective share in percent."""
        self._refresh()
        return dict(self._effective)

    def _refresh(self) -> None:
        if self._path is None:
            return
        try:
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if stamp == self._stamp:
                return
            body = json.loads(self._path.read_text(encoding="utf-8"))
            if not isinstance(body, dict):
                raise ValueError("it must hold a JSON object")  # noqa: TRY301, TRY004 (handled like any other unreadable content)
        except (OSError, ValueError) as error:
            # The last good state stays in force: a half-written or missing file must not move traffic.
            if self._stamp != (0, 0, 0):
                log.warning("flags file %s cannot be used, the last good state stays: %s", self._path, error)
            self._stamp = (0, 0, 0)
            return
        self._stamp = stamp
        self._shares = {name: _percent(value) for name, value in body.items()}
        self._effective = self._definitions.effective({**self._shares, **self._overrides})
