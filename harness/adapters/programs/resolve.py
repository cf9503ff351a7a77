"""Find each program, or get it: PATH, the cache, the distribution's packages, a wheel."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.adapters.debian import Apt
from harness.adapters.programs.catalog import Recipe, load_catalog
from harness.adapters.programs.on_path import VersionNotes, search
from harness.adapters.programs.parcel import Parcel, parcels_of, path_of
from harness.adapters.programs.program import Program
from harness.adapters.programs.store import STORAGE_ERRORS, Store, unwritable
from harness.adapters.programs.wheel import python_library, stub_path
from harness.model.errors import EnvironmentProblem, SpecError
from harness.paths import share_root

_AT_ONCE = 4


def ensure(
    names: Sequence[str], cache: Path, progress: Callable[[str], None], *, catalog: Path | None = None
) -> dict[str, Program]:
    """Return a runnable program for every name, getting what is missing into `cache`.

    Idempotent, and safe against a second set-up at the same time. Optional programs that are nowhere are left out of
    the answer. `progress` hears one line per step, from several threads.

    Raises:
        SpecError: the catalog does not know a name.
        EnvironmentProblem: programs are missing, with where each was looked for and how to install it.
    """
    file = catalog or share_root() / "stack" / "programs.yaml"
    recipes = load_catalog(file)
    if unknown := [name for name in names if name not in recipes]:
        known = ", ".join(sorted(recipes))
        raise SpecError(f"no such program: {', '.join(unknown)}", where=str(file), mend=f"known are {known}")
    return _Search(recipes, cache.absolute(), progress).find(dict.fromkeys(names))


class _Search:
    def __init__(self, recipes: Mapping[str, Recipe], cache: Path, progress: Callable[[str], None]) -> None:
        self._recipes = recipes
        self._progress = progress
        self._store = Store(cache / "programs")
        self._apt = Apt(cache / "programs" / ".apt", progress)
        self._notes = VersionNotes(cache / "programs" / ".versions.json")
        self._problems: dict[str, EnvironmentProblem] = {}

    def find(self, names: Iterable[str]) -> dict[str, Program]:
        wanted = list(names)
        found = self._at_hand(wanted)
        lacking = [name for name in wanted if name not in found]
        if any(parcels_of(name, self._recipes) for name in lacking):
            self._fetch(lacking)
            found |= self._at_hand(lacking)
        self._notes.save()
        missing = [name for name in wanted if name not in found and not self._recipes[name].optional]
        if missing:
            raise self._nowhere(missing)
        return {name: found[name] for name in wanted if name in found}

    def _at_hand(self, names: Iterable[str]) -> dict[str, Program]:
        programs: dict[str, Program] = {}
        for name in names:
            program = search(name, self._recipes[name], self._notes, self._progress) or self._cached(name)
            if program:
                programs[name] = program
        return programs

    def _cached(self, name: str) -> Program | None:
        """Return the program from the cache when all that it needs is whole there."""
        recipe = self._recipes[name]
        parcels = parcels_of(name, self._recipes)
        whole = [(self._store.root / one.key, found) for one in parcels if (found := self._store.read(one.key))]
        if not parcels or len(whole) < len(parcels):
            return None
        folder, contents = whole[0]
        file = contents.files[path_of(recipe)]
        libraries = [str(root / part) for root, found in whole for part in found.libraries]
        env: dict[str, str] = {}
        if recipe.wheel and recipe.wheel.python_stub:
            libraries += [str(own)] if (own := python_library()[1]) else []
            env["PATH"] = stub_path()
        if libraries:
            env["LD_LIBRARY_PATH"] = ":".join(libraries)
        extras = {key: str(folder / part) for key, part in (recipe.wheel.extras if recipe.wheel else {}).items()}
        origin = "wheel" if recipe.wheel else "debian"
        version = "" if recipe.library else file.version
        compiled_in = recipe.debian.compiled_in if recipe.debian else ""
        cwd = folder / compiled_in.lstrip("/") if compiled_in else None
        return Program(name, folder / file.path, env, version, origin, extras, cwd)

    def _fetch(self, names: Iterable[str]) -> None:
        """Get what `names` need and the cache lacks, several at once; failures are kept for the final error."""
        with self._store.locked(self._progress), ThreadPoolExecutor(_AT_ONCE) as pool:
            parcels = {parcel.key: parcel for name in names for parcel in parcels_of(name, self._recipes)}
            lacking = [parcel for parcel in parcels.values() if self._store.read(parcel.key) is None]
            list(pool.map(self._fetch_one, lacking))

    def _fetch_one(self, parcel: Parcel) -> None:
        try:
            with self._store.scratch() as scratch:
                root, contents = parcel.fetch(scratch, self._apt, self._progress)
                self._store.commit(parcel.key, root, contents)
            self._progress(f"{parcel.title} is ready")
        except EnvironmentProblem as problem:
            self._problems[parcel.key] = problem
        except OSError as problem:
            if problem.errno not in STORAGE_ERRORS:
                raise
            self._problems[parcel.key] = unwritable(self._store.root, problem)

    def _nowhere(self, names: Sequence[str]) -> EnvironmentProblem:
        """Return one error for all missing programs: where each was looked for, and how to install them."""
        lines: list[str] = []
        for name in names:
            recipe = self._recipes[name]
            looked = [f"PATH has no {' or '.join(recipe.names)} that will do"] if recipe.names else []
            parcels = parcels_of(name, self._recipes)
            looked += [str(self._problems[parcel.key]) for parcel in parcels if parcel.key in self._problems]
            if not parcels:
                looked.append("no package of it is known for this machine")
            lines.append(f"{name} is missing: {'; '.join(looked)}")
        packages = [word for name in names if (source := self._recipes[name].debian) for word in source.packages]
        formulas = [self._recipes[name].brew for name in names if self._recipes[name].brew]
        mends = [f"apt-get install {' '.join(dict.fromkeys(packages))}"] if packages else []
        mends += [f"brew install {' '.join(dict.fromkeys(formulas))}"] if formulas else []
        lines.append(f"(and not in the cache {self._store.root})")
        return EnvironmentProblem("\n".join(lines), mend=" or ".join(f"`{mend}`" for mend in mends))
