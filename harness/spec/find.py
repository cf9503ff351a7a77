"""Finding systems, releases and drills by name or by path."""

from pathlib import Path

from harness import paths
from harness.model.errors import SpecError
from harness.model.system import System
from harness.spec.problems import suggestion


def find_system(name_or_dir: str) -> Path:
    """Return the folder of a system: a path to one, or the name of one that rollgate ships. Raises SpecError."""
    as_path = Path(name_or_dir).expanduser()
    shipped = paths.share_root() / "stack" / "systems" / name_or_dir
    for folder in (as_path, shipped):
        if name_or_dir and (folder / "system.yaml").is_file():
            return folder.resolve()
    raise no_system(name_or_dir)


def find_release(system: System, name_or_path: str) -> Path:
    """Return the file of a release: by the name of one of the system's own, or by its path. Raises SpecError."""
    return _find(system.root / "releases", name_or_path, "release")


def find_drill(system: System, name_or_path: str) -> Path:
    """Return the file of a drill: by the name of one of the system's own, or by its path. Raises SpecError."""
    return _find(system.root / "drills", name_or_path, "drill")


def _find(folder: Path, name_or_path: str, what: str) -> Path:
    path = Path(name_or_path).expanduser()
    for candidate in (folder / f"{name_or_path}.yaml", path):
        if candidate.is_file():
            return candidate
    known = [item.stem for item in folder.glob("*.yaml")]
    raise SpecError(f"found no {what} `{name_or_path}`", mend=suggestion(name_or_path, known, f"{what}s"))


def no_system(name: str) -> SpecError:
    """Return the error about a system that is not there."""
    known = [item.parent.name for item in (paths.share_root() / "stack" / "systems").glob("*/system.yaml")]
    return SpecError(
        f"found no system `{name}`, expected a name or a folder that holds system.yaml",
        mend=suggestion(name, known, "systems"),
    )
