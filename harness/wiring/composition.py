"""The composition that ships: loaded, written as a Compose file, and compared with it."""

from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from harness import spec
from harness.adapters.docker_compose import compose_text
from harness.model.composition import Composition
from harness.model.errors import EnvironmentProblem, SpecError
from harness.model.image import Image
from harness.model.system import System
from harness.paths import share_root
from harness.spec.composition import load_composition
from harness.spec.composition_inventory import inventory_problems
from harness.spec.images import load_images

COMPOSE_FILE = Path("stack") / "compose.yaml"


@dataclass(frozen=True, slots=True)
class Shipped:
    """Images by key, the composition of them, and the folder that its shipped files lie below."""

    images: dict[str, Image]
    composition: Composition
    stack: Path


def shipped() -> Shipped:
    """Return images and composition as they ship. Raises SpecError for what is wrong in their files."""
    images = load_images()
    return Shipped(images, load_composition(images), share_root() / "stack")


def composition_of(system: System) -> Shipped:
    """Return images and the composition of a system: its own composition.yaml, else what ships for its inventory.

    Raises SpecError where there is neither.
    """
    images = load_images()
    own = system.root / "composition.yaml"
    if own.exists():
        return Shipped(images, load_composition(images, own), system.root)
    found = load_composition(images)
    if found.inventory != system.name:
        msg = "the system has no containers: there is no composition.yaml beside its system.yaml"
        raise SpecError(
            msg, where=str(own), key="--provider", mend="write one like stack/composition.yaml, or use native"
        )
    return Shipped(images, found, share_root() / "stack")


def compose_file() -> tuple[Path, str]:
    """Return where the Compose file lies, and what must stand in it."""
    data = shipped()
    return share_root() / COMPOSE_FILE, compose_text(data.composition, data.images)


def write_compose() -> Path:
    """Write the Compose file. Raises EnvironmentProblem where that cannot be done."""
    path, text = compose_file()
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {path}: {error.strerror}", mend="run it in a checkout") from error
    return path


def compose_problems() -> list[SpecError]:
    """Return what is wrong with the composition: a stale Compose file, or another word than the system's inventory."""
    data = shipped()
    expected = compose_text(data.composition, data.images)
    system = spec.load_system(spec.find_system(data.composition.inventory))
    return drift(share_root() / COMPOSE_FILE, expected) + inventory_problems(data.composition, data.images, system)


def drift(path: Path, expected: str) -> list[SpecError]:
    """Return one error where the file at `path` is not `expected`, with the first line that differs."""
    try:
        found = path.read_text(encoding="utf-8")
    except OSError:
        found = ""
    if found == expected:
        return []
    pairs = zip_longest(found.splitlines(), expected.splitlines())
    line = next((number for number, (a, b) in enumerate(pairs, 1) if a != b), 1)
    message = "found another text than composition.yaml and images.yaml make, expected the same"
    return [SpecError(message, where=f"{path}:{line}", mend="run `rollgate stack compose`")]
