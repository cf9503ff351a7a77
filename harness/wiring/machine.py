"""What this machine has and lacks."""

import os
import platform
import shutil
import sys
from collections.abc import Sequence

from harness import spec
from harness.adapters.gpu import visible_gpus
from harness.adapters.programs import ensure
from harness.model.errors import EnvironmentProblem
from harness.model.status import ExitCode
from harness.paths import cache_root
from harness.wiring.site import prepare

_FLOOR_DISK = 3 * 2**30  # bytes: programs, models and a few runs of the embedded default
_FLOOR_MEMORY = 2 * 2**30  # bytes: the embedded stack was seen at about 0.7 GiB, the tests beside it


def diagnose(system: str | None) -> tuple[list[str], int]:
    """Return one line a finding, and the exit code: 0 when a native gate can run here, else 4.

    Without `system` nothing is fetched; with it, the programs and models of that system are.
    """
    lines: list[str] = []
    sound = True
    for name, ok, detail in _machine():
        lines.append(f"{'ok     ' if ok else 'problem'} {name}: {detail}")
        sound = sound and ok
    gpus = visible_gpus()
    lines.append(f"ok      GPU: {'; '.join(gpus) if gpus else 'none, not needed by the embedded default'}")
    if system is not None:
        loaded = spec.load_system(spec.find_system(system))
        names = sorted({p for s in loaded.services if s.native for p in s.native.programs})
        more, fine = _programs(names)
        lines += more
        sound = sound and fine
        try:
            prepare(loaded, cache_root(), lambda text: lines.append(f"        {text}"))
        except EnvironmentProblem as error:
            lines.append(f"problem models: {error}")
            sound = False
    return lines, int(ExitCode.PROMOTED if sound else ExitCode.ENVIRONMENT)


def _machine() -> list[tuple[str, bool, str]]:
    cache = cache_root()
    home = next(p for p in (cache, *cache.parents) if p.exists())
    free = shutil.disk_usage(home).free
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [
        ("Python", sys.version_info >= (3, 11), platform.python_version()),
        ("cores", True, str(os.cpu_count())),
        ("memory", memory >= _FLOOR_MEMORY, f"{memory / 2**30:.1f} GiB, needs {_FLOOR_MEMORY / 2**30:.0f}"),
        ("disk", free >= _FLOOR_DISK, f"{free / 2**30:.1f} GiB free at {home}, needs {_FLOOR_DISK / 2**30:.0f}"),
        ("cache", os.access(home, os.W_OK), f"{cache}"),
    ]


def _programs(names: Sequence[str]) -> tuple[list[str], bool]:
    lines: list[str] = []
    sound = True

    def progress(text: str) -> None:
        lines.append(f"        {text}")

    for name in names:
        try:
            found = ensure([name], cache_root(), progress)
            lines += [f"ok      {p.name} {p.version} ({p.origin})" for p in found.values()]
        except EnvironmentProblem as error:
            lines.append(f"problem {name}: {error}")
            sound = False
    return lines, sound
