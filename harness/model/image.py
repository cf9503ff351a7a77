"""Container images: which one is meant, how firmly it is pinned, and who may put another in its place."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.model.errors import SpecError

_REFERENCE = re.compile(
    r"(?:(?P<registry>(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?::\d+)?|[A-Za-z0-9-]+:\d+|localhost))/)?"
    r"(?P<name>[a-z0-9]+(?:(?:[._/]|__|-+)[a-z0-9]+)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_REGISTRY = re.compile(r"(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*(?::\d+)?)(?:/[a-z0-9][a-z0-9._-]*)*")
_VERSION = re.compile(r"\d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """An image as an engine is asked for it; parts that it does not name are ""."""

    registry: str
    name: str
    tag: str
    digest: str

    @property
    def pinned(self) -> bool:
        """Tell whether it means one image: by digest, or by a tag that holds a version."""
        return bool(self.digest) or bool(_VERSION.search(self.tag))


def parse_reference(text: str) -> Reference | None:
    """Return the parts of an image's reference; None for a text that is none."""
    match = _REFERENCE.fullmatch(text)
    return Reference(**{name: value or "" for name, value in match.groupdict().items()}) if match else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image of the composition.

    `name` has no registry: which one serves it is the user's setting. `digest` is "sha256:..." as an engine told it
    after a pull, "" where none has. `registry_variable` names the environment variable with the registry of an image
    that its publisher does not keep in the engine's default one, "" for the others. `build` is the folder of its
    Dockerfile relative to `stack/`, "" for one that is only pulled, and `arguments` are what it is built with.
    `stand_in` says what is built where that is not the program itself in some version, "" where it is; `own` marks our
    own servers.
    """

    key: str
    name: str
    tag: str
    digest: str = ""
    registry_variable: str = ""
    build: str = ""
    arguments: tuple[tuple[str, str], ...] = ()
    stand_in: str = ""
    own: bool = False

    @property
    def variable(self) -> str:
        """The environment variable that puts another image in its place."""
        return "ROLLGATE_IMAGE_" + self.key.upper().replace("-", "_")

    @property
    def plain(self) -> str:
        """`name:tag`, as a system's inventory names it."""
        return f"{self.name}:{self.tag}"

    @property
    def local_name(self) -> str:
        """What the image is called that its Dockerfile makes; another name where it is not the pinned one itself."""
        if self.own:
            return self.plain
        return f"rollgate/{self.key}-{'stand-in' if self.stand_in else 'debian'}:12"

    @property
    def pinned_name(self) -> str:
        """`name:tag`, with the digest where it is known."""
        return f"{self.plain}@{self.digest}" if self.digest else self.plain


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenImage:
    """What the engine is asked for, and who said so: "images.yaml", "environment NAME" or "file PATH"."""

    image: Image
    reference: str
    by: str

    @property
    def mend(self) -> str:
        """What helps where the engine cannot find it."""
        image = self.image
        ways = [f"build it with `make images` (stack/{image.build})"] if image.build else []
        if image.registry_variable and self.by == "images.yaml":
            ways.append(f"set {image.registry_variable} to its publisher's registry")
        ways.append(f"set {image.variable} to an image that the engine has or can pull")
        return ", or ".join(ways)


def choose_image(
    image: Image, environment: Mapping[str, str], overrides: Mapping[str, str], *, overrides_file: str = ""
) -> ChosenImage:
    """Return the image to use: the environment's, else the file's, else the pinned one with its registry.

    Raises SpecError for a replacement that is no reference or means no one image (no version, no digest).
    """
    for text, by in (
        (environment.get(image.variable, ""), f"environment {image.variable}"),
        (overrides.get(image.key, ""), f"file {overrides_file}"),
    ):
        if text:
            parsed = parse_reference(text)
            if parsed is None or not parsed.pinned:
                found = "no image" if parsed is None else "an image without a version or digest"
                msg = f"found {found} in {text!r}, expected REGISTRY/NAME:VERSION, NAME@sha256:..., or their like"
                raise SpecError(msg, where=by, key=image.key, mend="write the version after a colon")
            return ChosenImage(image=image, reference=text, by=by)
    registry = environment.get(image.registry_variable, "").rstrip("/") if image.registry_variable else ""
    if registry and not _REGISTRY.fullmatch(registry):
        msg = f"found {registry!r}, expected a registry: host, host:port or host/path, without a scheme"
        raise SpecError(
            msg, where=f"environment {image.registry_variable}", mend="drop `https://` and the image's name"
        )
    name = f"{registry}/{image.pinned_name}" if registry else image.pinned_name
    return ChosenImage(image=image, reference=name, by="images.yaml")
