"""Programs from the machine's own Debian or Ubuntu packages, unpacked into a folder without root.

Nothing is installed: `apt-get download` fetches the packages, `dpkg-deb -x` unpacks them, and the shared libraries
that `ldd` still misses come from the packages' own dependencies in the same way.
"""

import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from harness.adapters.tool import Answer, hear
from harness.model.errors import EnvironmentProblem

_MAX_LEVELS = 4
_GOT = re.compile(r"^Get:\d+ \S+ \S+ (?:\S+ )?(?P<package>\S+) \S+ \S+ \[(?P<size>[^\]]+)\]")
_MISSING = re.compile(r"^\s*(\S+) => not found", re.MULTILINE)


class Apt:
    """The distribution's package tools, with every file they write below `state`."""

    def __init__(self, state: Path, progress: Callable[[str], None]) -> None:
        """Keep apt's private lists and caches in `state`; tell each fetched package to `progress`."""
        self._state = state
        self._progress = progress
        self._updating = threading.Lock()
        self._update: Answer | None = None

    @staticmethod
    def present() -> bool:
        """Tell whether this machine has the package tools at all."""
        return all(shutil.which(tool) for tool in ("apt-get", "apt-cache", "dpkg-deb", "ldd"))

    def download(self, packages: Sequence[str], folder: Path) -> None:
        """Put the .deb files of `packages` into `folder`.

        The machine's own package lists are tried first, since they are mostly there; where they are empty or too old
        for the mirror, private ones are fetched, once.

        Raises:
            EnvironmentProblem: a package is unknown or cannot be fetched.
        """
        folder.mkdir(exist_ok=True)
        lists = self._update
        answer = self._download(packages, folder)
        if answer.code and lists is None:
            self._refresh()
            answer = self._download(packages, folder)
        if answer.code:
            blame = _complaint(answer) or (_complaint(self._update) if self._update else "") or answer.last_line()
            raise EnvironmentProblem(f"apt-get cannot download {' '.join(packages)}: {blame}")

    def library_dependencies(self, packages: Iterable[str]) -> list[str]:
        """Return the library packages that `packages` depend on directly, in apt's order, each once."""
        names = list(packages)
        answer = self._apt("apt-cache", "depends", "--important", *names)
        found = re.findall(r"^[ |]+(?:Pre)?Depends: (lib[^\s<>]+)", answer.text, re.MULTILINE)
        return [name for name in dict.fromkeys(found) if name not in names and name != "libc6"]

    def _refresh(self) -> None:
        """Fetch private package lists, unless another thread has meanwhile."""
        with self._updating:
            if self._update is None:
                self._progress("fetching the distribution's package lists")
                self._update = self._apt("apt-get", "update", private=True)

    def _download(self, packages: Sequence[str], folder: Path) -> Answer:
        names = self._real_names(packages)
        if not names:
            return Answer(1, "the distribution's package lists do not have it")
        return self._apt("apt-get", "download", *names, folder=folder, each_line=self._tell)

    def _real_names(self, packages: Sequence[str]) -> list[str]:
        """Return the names under which the lists hold `packages`, or an empty list when one is unknown.

        Ubuntu 24.04 and later, and Debian 13, call libraries rebuilt for 64-bit time `NAMEt64`.
        """
        both = [variant for name in packages for variant in (name, f"{name}t64")]
        answer = self._apt("apt-cache", "policy", *both)
        known = set(re.findall(r"^(\S+?)(?::\w+)?:\n(?:  .*\n)*?  Candidate: [^(\n]", answer.text, re.MULTILINE))
        real = [next((v for v in (name, f"{name}t64") if v in known), "") for name in packages]
        return real if all(real) else []

    def _apt(
        self,
        tool: str,
        *arguments: str,
        private: bool = False,
        folder: Path | None = None,
        each_line: Callable[[str], None] | None = None,
    ) -> Answer:
        """Run apt with its caches in `state`, so that an ordinary user may, and root leaves no trace elsewhere."""
        lists, cache = self._state / "lists", self._state / "cache"
        for path in (lists / "partial", cache / "archives" / "partial"):
            path.mkdir(parents=True, exist_ok=True)
        options = {"Dir::Cache": str(cache), "Debug::NoLocking": "true", "Acquire::Retries": "3"}
        if private or any(lists.glob("*_Packages*")):
            options["Dir::State::Lists"] = str(lists)
        if os.geteuid() == 0:
            # Apt as root downloads as the user _apt, who may not enter a private cache folder.
            options["APT::Sandbox::User"] = "root"
        flags = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        return hear([tool, *flags, *arguments], folder=folder, each_line=each_line)

    def _tell(self, line: str) -> None:
        if got := _GOT.match(line):
            self._progress(f"fetched package {got['package']} ({got['size']})")


def unpack(packages: Sequence[str], paths: Sequence[str], root: Path, apt: Apt, downloads: Path) -> list[Path]:
    """Unpack `packages` below `root` with the libraries they miss; return the file that each glob of `paths` names.

    Raises:
        EnvironmentProblem: the packages cannot be had, lack a file, or a library is found nowhere.
    """
    apt.download(packages, downloads)
    _extract(downloads, root)
    files = [_find(root, path, packages) for path in paths]
    level: Sequence[str] = packages
    for _ in range(_MAX_LEVELS):
        missing = missing_libraries(files, root)
        if not missing:
            return files
        level = apt.library_dependencies(level)
        if not level:
            break
        apt.download(_providers(missing, level), downloads)
        _extract(downloads, root)
    if missing := missing_libraries(files, root):
        raise EnvironmentProblem(f"{packages[0]} needs {', '.join(sorted(missing))}, which no dependency provides")
    return files


def missing_libraries(files: Iterable[Path], root: Path) -> set[str]:
    """Return the shared libraries that the loader finds for `files` neither on the machine nor below `root`."""
    folders = ":".join(str(root / name) for name in library_folders(root))
    env = {"LD_LIBRARY_PATH": folders} if folders else {}
    return {name for file in files for name in _MISSING.findall(hear(["ldd", file], env=env).text)}


def library_folders(root: Path) -> list[str]:
    """Return the folders below `root` that hold shared libraries, relative to it."""
    folders = {path.parent for base in ("lib", "usr/lib") for path in (root / base).rglob("lib*.so*")}
    return sorted(str(folder.relative_to(root)) for folder in folders)


def _find(root: Path, pattern: str, packages: Sequence[str]) -> Path:
    """Return the first file below `root` that the glob `pattern` names."""
    if file := next(iter(sorted(root.glob(pattern))), None):
        return file
    raise EnvironmentProblem(f"the packages {' '.join(packages)} hold no {pattern}")


def _extract(downloads: Path, root: Path) -> None:
    root.mkdir(exist_ok=True)
    for deb in sorted(downloads.glob("*.deb")):
        answer = hear(["dpkg-deb", "-x", deb, root])
        if answer.code:
            raise EnvironmentProblem(f"dpkg-deb cannot unpack {deb.name}: {answer.last_line()}")
        deb.unlink()


def _providers(missing: set[str], packages: Sequence[str]) -> list[str]:
    """Return which of `packages` to fetch for `missing`: those named after the libraries, else all of them.

    A library package is named after its soname (liblua5.3.so.0 -> liblua5.3-0, libssl.so.3 -> libssl3 or libssl3t64);
    where a name tells nothing, fetching a few packages too many is harmless.
    """
    stems = {re.sub(r"\.so.*", "", name).lower().replace("_", "-") for name in missing}
    named = [name for name in packages if any(name.startswith(stem) for stem in stems)]
    unnamed = {stem for stem in stems if not any(name.startswith(stem) for name in packages)}
    return list(packages) if unnamed else named


def _complaint(answer: Answer) -> str:
    """Return apt's own first error, else its first warning, without its mark."""
    lines = answer.text.splitlines()
    return next((line[2:].strip() for mark in ("E:", "W:") for line in lines if line.startswith(mark)), "")
