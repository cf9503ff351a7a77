"""Whose containers these are, and the removal of all that belongs to nobody any more.

Run as `python -m harness.adapters.docker_owner RUN STATE` it is the reaper of a run: it waits until its standard input
closes, which happens when the session that holds it ends in whatever way, and removes all that carries the run's label,
and the folder STATE with the run's secrets.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import psutil
from docker.errors import APIError, DockerException, NotFound

from harness.adapters.docker_compose import LABEL

_TRIES = 40
_SETTLED_S = 1.5
_PAUSE_S = 0.25
_AT_ONCE = 8
RUN_LABEL, OWNER_LABEL = f"{LABEL}.run", f"{LABEL}.owner"


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of runs, by name."""

    containers: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether anything is left."""
        return bool(self.containers or self.networks or self.volumes)


def here() -> str:
    """Return which machine and process space this is: an owner elsewhere is never taken for dead."""
    try:
        space = str(Path("/proc/self/ns/pid").readlink()).removeprefix("pid:").strip("[]")
    except OSError:
        space = "-"
    return f"{socket.gethostname()}/{space}"


def owner(pid: int | None = None) -> str:
    """Return the owner label of a process (this one by default): place, id and start, for ids are used again."""
    process = psutil.Process(pid)
    return f"{here()}/{process.pid}/{process.create_time():.2f}"


def is_dead(label: str) -> bool:
    """Tell whether the owner of `label` surely lives no more; one of another machine or process space may."""
    place, _, rest = label.rpartition("/")
    place, _, pid = place.rpartition("/")
    if place != here():
        return False
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(rest)) > 1
    except psutil.NoSuchProcess:
        return True
    except (ValueError, psutil.Error):
        return False


def sweep(client: Any, dead: Callable[[str], bool] = is_dead) -> list[str]:  # noqa: ANN401 - docker has no types
    """Remove what dead sessions left, and return their runs."""
    found = [
        *client.containers.list(all=True, filters={"label": RUN_LABEL}, ignore_removed=True),
        *client.networks.list(filters={"label": RUN_LABEL}),
        *client.volumes.list(filters={"label": RUN_LABEL}),
    ]
    runs = {_labels(one).get(RUN_LABEL, "") for one in found if dead(_labels(one).get(OWNER_LABEL, ""))}
    for run in runs:
        remove(client, run)
    return sorted(runs)


def remove(client: Any, run: str, *, settled_s: float = 0.0) -> Left:  # noqa: ANN401
    """Remove all that carries the run's label; what cannot be removed within seconds is returned.

    What a killed session had just asked for may show only later: nothing must have been found for `settled_s`.
    """
    until = time.monotonic() + settled_s
    for _ in range(_TRIES):
        containers, networks, volumes = _of(client, run)
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:  # the engine takes half a second for each
            list(pool.map(_end, containers))
        for one in [*networks, *volumes]:
            _gone(one.remove)
        if containers or networks or volumes:
            until = time.monotonic() + settled_s
            if not left(client, run) and not settled_s:
                break
        elif time.monotonic() >= until:
            break
        time.sleep(_PAUSE_S)
    return left(client, run)


def left(client: Any, run: str) -> Left:  # noqa: ANN401
    """Return what is there of a run."""
    return Left(*(tuple(one.name for one in kind) for kind in _of(client, run)))


def start_reaper(run: str, state: Path) -> subprocess.Popen[bytes]:
    """Start the reaper of a run; it acts when the returned process' standard input closes, or this process ends."""
    root = str(Path(__file__).resolve().parents[2])
    return subprocess.Popen(
        [sys.executable, "-m", "harness.adapters.docker_owner", run, str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # what interrupts the session must not interrupt its clean-up
        env={**os.environ, "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])},
    )


def _of(client: Any, run: str) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:  # noqa: ANN401
    filters = {"label": f"{RUN_LABEL}={run}"}
    return (
        client.containers.list(all=True, filters=filters, ignore_removed=True),
        client.networks.list(filters=filters),
        client.volumes.list(filters=filters),
    )


def _labels(one: Any) -> dict[str, str]:  # noqa: ANN401
    attributes: dict[str, Any] = one.attrs
    return attributes.get("Labels") or attributes.get("Config", {}).get("Labels") or {}


def _end(container: Any) -> None:  # noqa: ANN401
    _gone(lambda: container.remove(force=True, v=True))


def _gone(act: Callable[[], object]) -> None:
    """Remove one thing; what is gone already, or still in use, is looked at again."""
    with contextlib.suppress(NotFound, APIError):
        act()


def main(words: Iterable[str]) -> int:
    """Wait for the end of the session, then remove its run; 1 where something could not be removed."""
    run, state = words
    sys.stdin.buffer.read()
    shutil.rmtree(state, ignore_errors=True)
    try:
        client = docker.from_env()
        return 1 if remove(client, run, settled_s=_SETTLED_S) else 0
    except DockerException:
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
