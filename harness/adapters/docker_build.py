"""Building the images that have a Dockerfile of ours."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from docker.errors import APIError, BuildError

from harness.adapters.docker_session import connect
from harness.model.errors import EnvironmentProblem, SpecError
from harness.model.image import Image

BASE = "debian:bookworm-slim"
_MAKE_BASE = (
    f"where no registry is reached, make the base once: `debootstrap --variant=minbase bookworm DIR` and "
    f"`tar -C DIR -c . | docker import - {BASE}`"
)
_LAST_LINES = 12


def build_images(images: list[Image], stack: Path, ca_bundle: str, progress: Callable[[str], None]) -> None:
    """Build each image under its local name, with the engine's cache; `ca_bundle` is a file below `stack`.

    Raises SpecError for a bundle that is not there, EnvironmentProblem with the build's last lines.
    """
    if ca_bundle and not (stack / ca_bundle).is_file():
        raise SpecError(f"found no file {ca_bundle!r} below {stack}", key="--ca-bundle", mend="copy the bundle there")
    extra = {"CA_BUNDLE": ca_bundle} if ca_bundle else {}
    client = connect()
    try:
        for image in images:
            progress(f"building {image.local_name} from stack/{image.build}")
            _build(client, image, stack, extra)
    finally:
        client.close()


def _build(client: Any, image: Image, stack: Path, extra: dict[str, str]) -> None:  # noqa: ANN401 - docker has no types
    arguments = dict(image.arguments) | (
        extra if "CA_BUNDLE" in (stack / image.build / "Dockerfile").read_text() else {}
    )
    try:
        client.images.build(
            path=str(stack), dockerfile=f"{image.build}/Dockerfile", tag=image.local_name, buildargs=arguments, rm=True
        )
    except BuildError as error:
        said = "".join(str(line.get("stream", "")) for line in error.build_log)
        raise _problem(image, f"{error}\n{said}") from error
    except APIError as error:
        raise _problem(image, str(error)) from error


def _problem(image: Image, said: str) -> EnvironmentProblem:
    lines = [f"  {image.key} | {line}" for line in said.strip().splitlines()[-_LAST_LINES:]]
    mend = _MAKE_BASE if BASE in said else "mend what its last lines say; behind a proxy that ends TLS add --ca-bundle"
    return EnvironmentProblem(f"{image.local_name} cannot be built\n" + "\n".join(lines) + "\n", mend=mend)
