"""What this machine has, as facts: nothing is judged here."""

import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from harness.adapters.gpu import visible_gpus
from harness.adapters.programs.catalog import VersionCheck
from harness.adapters.programs.on_path import UNKNOWN, tell_version
from harness.model.preflight import Machine, Space, Tool


def machine_facts(cache: Path) -> Machine:
    """Return what this machine has; `cache` is rollgate's cache folder, which need not be there."""
    home = nearest(cache)
    return Machine(
        python=tuple(sys.version_info[:3]),
        cores=os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        cache=Space(path=str(cache), free_bytes=free_bytes(home), writable=os.access(home, os.W_OK)),
        gpus=visible_gpus(),
    )


def nearest(path: Path) -> Path:
    """Return `path`, or the nearest folder above it that is there."""
    return next((one for one in (path, *path.parents) if one.exists()), Path("/"))


def free_bytes(path: Path) -> int | None:
    """Return the free bytes of the disk that holds `path`; None where the system does not tell."""
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None


def tool_fact(name: str, program: str, check: VersionCheck, module: str) -> Tool:
    """Return a tool as PATH has its `program`. One that is there but does not answer counts as not there."""
    path = shutil.which(program)
    told = tell_version(Path(path), check, {}) if path else None
    return Tool(
        name=name,
        version="" if told in {None, UNKNOWN} else str(told),
        path=path if path and told is not None else "",
        module_version=_module_version(module),
    )


def _module_version(module: str) -> str:
    """Return the version of a Python module; "" where it is not there, Python's own where it comes with Python."""
    try:
        if not module or find_spec(module) is None:
            return ""
        return version(module)
    except PackageNotFoundError:
        return ".".join(map(str, sys.version_info[:3]))
    except (ImportError, ValueError):
        return ""
