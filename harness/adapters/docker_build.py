"""Building the images that have a Dockerfile of ours: cached, two at a time, each with its time."""

import io
import tarfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.errors import APIError, DockerException
from requests.exceptions import RequestException

from harness.adapters.docker_base import BASE, ensure_base
from harness.adapters.docker_host import FOLDER, Host
from harness.adapters.docker_session import connect
from harness.model.errors import EnvironmentProblem
from harness.model.image import Image

LABEL = "org.rollgate.image"
STAND_IN = "org.rollgate.stand-in"
_AT_ONCE = 2
_SILENCE_S = 1800.0  # a step that downloads says nothing for minutes
_LAST_LINES = 12


@dataclass(frozen=True, slots=True)
class Built:
    """An image that was built: how long it took, and whether all its steps were known to the engine."""

    image: Image
    seconds: float
    cached: bool


def build_images(images: Sequence[Image], stack: Path, host: Host, progress: Callable[[str], None]) -> list[Built]:
    """Build each image under its local name, with the engine's cache and what `host` adds.

    All are tried before the first error is told. Raises EnvironmentProblem with the last lines of each that failed.
    """
    client = connect()
    try:
        ensure_base(client, progress)
        context = _context(stack, host)
    finally:
        client.close()
    problems: list[EnvironmentProblem] = []

    def one(image: Image) -> Built | None:
        try:
            built = _build(image, context, host.arguments)
        except EnvironmentProblem as problem:
            problems.append(problem)
            progress(f"failed  {image.local_name}")
            return None
        progress(f"built   {image.local_name}  {built.seconds:.1f} s{' (cached)' if built.cached else ''}")
        return built

    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        found = list(pool.map(one, _order(images, stack)))
    if problems:
        raise EnvironmentProblem("\n".join(problem.message for problem in problems), mend=problems[0].mend)
    return [built for built in found if built]


def here(images: Sequence[Image]) -> list[Image]:
    """Return those of `images` that were built on the engine. Raises EnvironmentProblem where none answers."""
    client = connect()
    try:
        names = {name for one in client.images.list() for name in one.tags}
    finally:
        client.close()
    return [image for image in images if image.local_name in names]


def _order(images: Sequence[Image], stack: Path) -> list[Image]:
    """Put those that begin with the same steps, for Python's packages, apart: the first one leaves them cached."""
    slow = [image for image in images if FOLDER in (stack / image.build / "Dockerfile").read_text(encoding="utf-8")]
    return [*slow[:1], *(image for image in images if image not in slow), *slow[1:]]


def _context(stack: Path, host: Host) -> bytes:
    """Return the archive that every build gets: what ships in `stack`, with the machine's files over it."""
    files = [path for folder in ("images", "services") for path in sorted((stack / folder).rglob("*"))]
    with io.BytesIO() as packed:
        with tarfile.open(mode="w", fileobj=packed) as archive:
            for path in files:
                name = str(path.relative_to(stack))
                if path.is_file() and "__pycache__" not in path.parts and name not in host.files:
                    with path.open("rb") as opened:
                        archive.addfile(_entry(name, path.stat().st_size, path.stat().st_mode & 0o111), opened)
            for name, text in host.files.items():
                archive.addfile(_entry(name, len(text.encode())), io.BytesIO(text.encode()))
        return packed.getvalue()


def _entry(name: str, size: int, executable: int = 0) -> tarfile.TarInfo:
    """Return a file's head that is the same in every checkout: the engine's cache compares it."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o755 if executable else 0o644
    return entry


def _build(image: Image, context: bytes, arguments: dict[str, str]) -> Built:
    began = time.monotonic()
    said: list[str] = []
    labels = {LABEL: image.key} | ({STAND_IN: image.stand_in} if image.stand_in else {})
    client = connect()
    try:
        steps: Any = client.api.build(
            fileobj=io.BytesIO(context),
            custom_context=True,
            dockerfile=f"{image.build}/Dockerfile",
            tag=image.local_name,
            buildargs=dict(image.arguments) | arguments,
            labels=labels,
            rm=True,
            forcerm=True,
            timeout=_SILENCE_S,
            decode=True,
        )
        for step in steps:
            said.append(str(step.get("stream") or step.get("error") or ""))
            if "error" in step:
                raise _problem(image, "".join(said))
    except (APIError, DockerException, RequestException) as error:
        raise _problem(image, "".join([*said, str(error)])) from error
    finally:
        client.close()
    return Built(image, time.monotonic() - began, cached=not any("Running in" in line for line in said))


def _problem(image: Image, said: str) -> EnvironmentProblem:
    lines = [line for line in said.strip().splitlines() if line.strip()][-_LAST_LINES:]
    text = "\n".join(f"  {image.key} | {line}" for line in lines)
    return EnvironmentProblem(f"{image.local_name} cannot be built\n{text}\n", mend=_mend(said))


def _mend(said: str) -> str:
    if "certificate" in said.lower():
        return "a proxy that ends TLS? name its certificates: --ca-bundle FILE, or ROLLGATE_CA_BUNDLE"
    if any(word in said for word in ("Temporary failure resolving", "Could not resolve", "Connection timed out")):
        return "a build reaches neither archive nor index: set HTTP_PROXY and HTTPS_PROXY, or mend the engine's DNS"
    if BASE in said and ("pull access" in said or "manifest" in said):
        return f"make the base anew: `docker rmi {BASE}`, then build again"
    return "mend what its last lines say"
