"""The images of the composition that have a Dockerfile of ours: built on this machine's engine, and what is in them."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.model.errors import EnvironmentProblem, SpecError
from harness.model.image import Image
from harness.paths import cache_root, share_root
from harness.spec.images import load_images


def buildable(names: Sequence[str]) -> list[Image]:
    """Return the images called `names`, all that have a Dockerfile where there are none.

    Raises SpecError for one that has none.
    """
    built = {key: image for key, image in load_images().items() if image.build}
    for name in names:
        if name not in built:
            raise SpecError(f"found {name!r}, expected an image with a Dockerfile", mend=f"known: {', '.join(built)}")
    return [built[name] for name in dict.fromkeys(names or built)]


def build(names: Sequence[str], ca_bundle: str, progress: Callable[[str], None]) -> None:
    """Build images by their keys (see `buildable`), and the base they start from where no registry has it.

    Raises SpecError for an image without a Dockerfile or a bundle that cannot be read, EnvironmentProblem where an
    engine or a build fails.
    """
    from harness.adapters.docker_build import build_images  # noqa: PLC0415 - docker's client, for this command alone
    from harness.adapters.docker_host import host  # noqa: PLC0415

    began = time.monotonic()
    images = buildable(names)
    added = host(os.environ, ca_bundle=ca_bundle, lock=share_root() / "uv.lock")
    done = build_images(images, share_root() / "stack", added, progress)
    cached = sum(built.cached for built in done)
    progress(f"{len(done)} images in {time.monotonic() - began:.1f} s, {cached} of them cached")


def write_sboms(names: Sequence[str], folder: Path, progress: Callable[[str], None]) -> list[Path]:
    """Write NAME.cdx.json into `folder` for each image (see `buildable`), and return the files.

    What the engine lacks is left out where no name was given. Raises EnvironmentProblem where a named image is not
    there, or there is none at all, or the folder cannot be written.
    """
    from harness.adapters.docker_build import here  # noqa: PLC0415
    from harness.adapters.docker_contents import contents  # noqa: PLC0415 - docker's client
    from harness.report.sbom import sbom  # noqa: PLC0415

    images = buildable(names)
    present = here(images)
    chosen = images if names else [image for image in images if image in present]
    if not chosen:
        raise EnvironmentProblem("the engine has no image of ours", mend="build them: `make images`")
    written: list[Path] = []
    for image in chosen:
        found = contents(image.local_name)
        path = folder / f"{image.key}.cdx.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(sbom(found), encoding="utf-8")
        except OSError as error:
            raise EnvironmentProblem(f"cannot write {path}: {error.strerror}", mend="name a folder by --out") from error
        progress(f"{image.local_name}: {len(found.packages)} packages")
        written.append(path)
    return written


def forget_reused() -> str:
    """Remove the containers that tests kept for later sessions; return what the engine keeps, "" for nothing."""
    from harness.adapters.docker_session import REUSED, forget  # noqa: PLC0415 - docker's client is slow to load

    left = forget(REUSED, cache_root() / "containers" / REUSED)
    return str(left) if left else ""
