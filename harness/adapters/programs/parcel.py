"""What is fetched and unpacked in one piece: a set of packages, or a wheel."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harness.adapters import debian
from harness.adapters.programs import wheel
from harness.adapters.programs.catalog import Recipe, VersionCheck, WheelSource
from harness.adapters.programs.on_path import tell_version
from harness.adapters.programs.store import Contents, File, digest, machine_digest
from harness.model.errors import EnvironmentProblem

Progress = Callable[[str], None]


class Parcel(Protocol):
    """One thing to unpack into the cache."""

    @property
    def key(self) -> str:
        """Name of its folder in the store: changes with all that its contents depend on."""
        ...

    @property
    def title(self) -> str:
        """What to call it in a progress line."""
        ...

    def fetch(self, scratch: Path, apt: debian.Apt, progress: Progress) -> tuple[Path, Contents]:
        """Unpack into a folder below `scratch`; return that folder and what it offers."""
        ...


@dataclass(frozen=True, slots=True)
class Packages:
    """Packages of the distribution; `checks` has the version check of every program that they bring, by its path.

    `compiled_in` has, by the same path, the folder that a program opens by its absolute path; `mend` is what to do
    where the distribution does not have the packages.
    """

    names: tuple[str, ...]
    checks: Mapping[str, VersionCheck | None]
    compiled_in: Mapping[str, str] = field(default_factory=dict[str, str])
    mend: str = ""

    @property
    def key(self) -> str:
        """Depends on the packages, the programs looked for, and the machine's distribution."""
        moved = [sorted(self.compiled_in.items())] if self.compiled_in else []
        return f"{self.names[0]}-{digest('debian', self.names, sorted(self.checks), machine_digest(), *moved)}"

    @property
    def title(self) -> str:
        """The packages' names."""
        return " and ".join(self.names)

    def fetch(self, scratch: Path, apt: debian.Apt, progress: Progress) -> tuple[Path, Contents]:
        """Unpack the packages and the libraries that they and this machine lack together."""
        if not apt.present():
            raise EnvironmentProblem(f"this machine has no apt-get and dpkg-deb to unpack {self.title}", mend=self.mend)
        progress(f"fetching {self.title} from the distribution")
        root = scratch / "root"
        try:
            found = debian.unpack(self.names, list(self.checks), root, apt, scratch / "packages")
        except EnvironmentProblem as problem:
            raise EnvironmentProblem(problem.message, mend=self.mend) from problem
        libraries = debian.library_folders(root)
        env = library_path(root, libraries)
        files: dict[str, File] = {}
        for (path, check), file in zip(self.checks.items(), found, strict=True):
            if folder := self.compiled_in.get(path):
                relocate(file, folder)
            version = tell_version(file, check, env)
            if version is None:
                raise EnvironmentProblem(f"{file.name} from package {self.title} does not run here")
            files[path] = File(path=str(file.relative_to(root)), size=file.stat().st_size, version=version)
        return root, Contents(files=files, libraries=libraries)


@dataclass(frozen=True, slots=True)
class Wheel:
    """One wheel, pinned by digest."""

    source: WheelSource

    @property
    def key(self) -> str:
        """Depends on the wheel, and on the Python whose stub is put in place."""
        python = wheel.PYTHON if self.source.python_stub else ""
        return f"{self.source.distribution}-{digest('wheel', self.source.model_dump_json(), python, machine_digest())}"

    @property
    def title(self) -> str:
        """The distribution's name and version."""
        return f"{self.source.distribution} {self.source.version}"

    def fetch(self, scratch: Path, apt: debian.Apt, progress: Progress) -> tuple[Path, Contents]:
        """Unpack the wheel."""
        del apt
        root = scratch / "root"
        wheel.unpack(self.source, root, scratch, progress)
        file = root / self.source.path
        entry = File(path=self.source.path, size=file.stat().st_size, version=self.source.program_version)
        return root, Contents(files={self.source.path: entry}, libraries=list(self.source.libraries))


def parcels_of(name: str, recipes: Mapping[str, Recipe]) -> list[Parcel]:
    """Return what program `name` is unpacked from: its own parcel first, then what that one needs; empty: PATH only."""
    recipe = recipes[name]
    if source := recipe.debian:
        siblings = [other for other in recipes.values() if other.debian and other.debian.packages == source.packages]
        checks = {one.debian.path: one.version for one in siblings if one.debian}
        moved = {one.debian.path: one.debian.compiled_in for one in siblings if one.debian and one.debian.compiled_in}
        return [Packages(source.packages, checks, moved)]
    if recipe.wheel is None:
        return []
    parcels: list[Parcel] = [Wheel(recipe.wheel)]
    if (stub := recipe.wheel.python_stub) and wheel.PYTHON not in stub.bundled:
        library, folder = wheel.python_library()
        if folder is None:
            mend = "use a Python that has its shared library, such as the distribution's own"
            parcels.append(Packages((f"libpython{wheel.PYTHON}",), {f"usr/lib/*/{library}": None}, mend=mend))
    return parcels


def path_of(recipe: Recipe) -> str:
    """Return the catalog path under which a parcel's contents list the program."""
    source = recipe.debian or recipe.wheel
    return source.path if source else ""


def library_path(root: Path, libraries: list[str]) -> dict[str, str]:
    """Return the environment in which the loader finds the libraries below `root`."""
    return {"LD_LIBRARY_PATH": ":".join(str(root / name) for name in libraries)} if libraries else {}


def relocate(program: Path, folder: str) -> None:
    """Let an unpacked `program` look for `folder` in the folder that it is started in.

    The compiled-in path is replaced by one of the same length that leads to the working folder, so that nothing in
    the file moves. Raises EnvironmentProblem when the path is not in there or is too short for that.
    """
    here = b"/proc/self/cwd"
    old = folder.encode()
    text = program.read_bytes()
    if len(old) < len(here) or old not in text:
        raise EnvironmentProblem(f"{program.name} was expected to open {folder}, and does not name it")
    draft = program.with_name(f"{program.name}.relocated")
    draft.write_bytes(text.replace(old, here.ljust(len(old), b"/")))
    draft.chmod(program.stat().st_mode)
    draft.replace(program)
