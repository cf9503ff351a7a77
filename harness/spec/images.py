"""Images of the composition: `stack/images/images.yaml`, and what replaces them."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from harness import paths
from harness.model.errors import SpecError
from harness.model.image import ChosenImage, Image, choose_image, parse_reference
from harness.spec.document import Document
from harness.spec.problems import Problems, first, read, suggestion, unknown
from harness.spec.schema import Env, EnvName, File, Name, Strict, Text

FILE = Path("stack") / "images" / "images.yaml"
OVERRIDES_VARIABLE = "ROLLGATE_IMAGES_FILE"
_PREFIX = "ROLLGATE_IMAGE_"


def _name(text: str) -> str:
    parsed = parse_reference(text)
    if parsed is None or parsed.tag or parsed.digest:
        msg = "an image's name in small letters, without registry, tag or digest: prom/prometheus"
        raise ValueError(msg)
    if parsed.registry:
        msg = "a name without a registry: name the variable that holds it in `registry`"
        raise ValueError(msg)
    return text


def _tag(text: str) -> str:
    parsed = parse_reference(f"name:{text}")
    if parsed is None or parsed.digest or not parsed.pinned:
        msg = "a tag that holds a version: v3.5.0"
        raise ValueError(msg)
    return text


def _digest(text: str) -> str:
    if text and parse_reference(f"name@{text}") is None:
        msg = "sha256: and 64 hexadecimal digits as the engine told them, or nothing"
        raise ValueError(msg)
    return text


class ImageSpec(Strict):
    """One image: see `harness.model.image.Image`."""

    name: Annotated[str, AfterValidator(_name)]
    tag: Annotated[str, AfterValidator(_tag)]
    digest: Annotated[str, AfterValidator(_digest)]
    registry: EnvName | None = None
    build: Text | None = None
    arguments: Env = Field(default_factory=dict[str, str])
    stand_in: Text | None = None
    own: bool = False


class ImagesFile(File):
    """images.yaml."""

    images: dict[Name, ImageSpec]


class OverridesFile(File):
    """Images in the place of pinned ones, by key."""

    images: dict[Name, Text]


def load_images(path: Path | None = None) -> dict[str, Image]:
    """Return every image of the file (default: the one that ships), by key. Raises SpecError for what is wrong."""
    path = path or paths.share_root() / FILE
    try:
        document, spec = read(path, ImagesFile)
    except Problems as problems:
        raise first(problems.errors) from None
    if wrong := list(_problems(document, spec)):
        raise first(wrong)
    return {key: _image(key, item) for key, item in spec.images.items()}


def choose_images(images: Mapping[str, Image], environment: Mapping[str, str]) -> dict[str, ChosenImage]:
    """Return what to ask the engine for, by key: `images`, with what the environment and its file replace.

    Raises SpecError for a replacement of an image that there is not, or by something that is no image.
    """
    file = environment.get(OVERRIDES_VARIABLE, "")
    overrides = _overrides(Path(file), images) if file else {}
    known = {image.variable for image in images.values()}
    for variable in sorted(environment):
        if variable.startswith(_PREFIX) and variable not in known:
            msg = "found a variable of no image"
            raise SpecError(msg, where=f"environment {variable}", mend=suggestion(variable, known, "variables"))
    return {key: choose_image(image, environment, overrides, overrides_file=file) for key, image in images.items()}


def _overrides(path: Path, known: Iterable[str]) -> dict[str, str]:
    try:
        document, spec = read(path, OverridesFile)
    except Problems as problems:
        raise first(problems.errors) from None
    names = list(known)
    for key in spec.images:
        if key not in names:
            raise unknown(document, ("images", key), key, names, "images")
    return dict(spec.images)


def _image(key: str, spec: ImageSpec) -> Image:
    return Image(
        key=key,
        name=spec.name,
        tag=spec.tag,
        digest=spec.digest,
        registry_variable=spec.registry or "",
        build=spec.build or "",
        arguments=tuple(spec.arguments.items()),
        stand_in=spec.stand_in or "",
        own=spec.own,
    )


def _problems(document: Document, spec: ImagesFile) -> Iterator[SpecError]:
    for key, item in spec.images.items():
        at = ("images", key)
        if item.own and not item.build:
            yield document.problem(at, "found no `build`, expected one for our own server", mend="add `build: FOLDER`")
        if item.own and item.registry:
            yield document.problem(
                (*at, "registry"), "found a registry for our own server, expected none", mend="drop it"
            )
        if item.stand_in and (item.own or not item.build):
            msg = "found a stand-in where nothing is built in place of another image"
            yield document.problem((*at, "stand_in"), msg, mend="drop it, or add `build: FOLDER`")
        if item.build and not (document.path.parent.parent / item.build / "Dockerfile").is_file():
            msg = f"found {item.build!r}, expected a folder below stack/ with a Dockerfile"
            yield document.problem((*at, "build"), msg, mend="write the Dockerfile, or drop the key")
