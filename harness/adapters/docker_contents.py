"""What is installed in an image, read from the package databases in its file system; nothing of it is run."""

import io
import tarfile
from collections.abc import Iterable, Iterator
from email.parser import HeaderParser
from typing import Any

from docker.errors import APIError, ImageNotFound

from harness.adapters.docker_build import STAND_IN
from harness.adapters.docker_session import connect
from harness.model.errors import EnvironmentProblem
from harness.model.software import Contents, Package

_DPKG = "var/lib/dpkg/status"
_RELEASE = "usr/lib/os-release"
_METADATA = ".dist-info/METADATA"
_UNKNOWN = {"", "UNKNOWN"}
_LONGEST_LICENSE = 100  # some packages give the whole text


def contents(reference: str) -> Contents:
    """Return what is in the image called `reference`. Raises EnvironmentProblem where the engine has no such image."""
    client = connect()
    try:
        image = client.images.get(reference)
        container = client.containers.create(image.id, command=["true"], network_disabled=True)
        try:
            files = _files(container.export())
        finally:
            container.remove(v=True)
    except ImageNotFound as error:
        raise EnvironmentProblem(f"the engine has no image {reference}", mend="build it: `make images`") from error
    except APIError as error:
        raise EnvironmentProblem(f"{reference} cannot be read: {error.explanation or error}") from error
    finally:
        client.close()
    found = {
        *dpkg(files.get(_DPKG, "")),
        *(one for path, text in files.items() if path != _DPKG for one in wheel(text)),
    }
    labels: dict[str, str] = image.attrs["Config"].get("Labels") or {}
    return Contents(
        image=reference,
        identity=image.id,
        created=image.attrs["Created"],
        distribution=distribution(files.get(_RELEASE, "")),
        packages=tuple(sorted(found)),
        stand_in=labels.get(STAND_IN, ""),
    )


def dpkg(status: str) -> Iterator[Package]:
    """Yield the packages that dpkg's status file says are installed."""
    for paragraph in status.split("\n\n"):
        entry = HeaderParser().parsestr(paragraph)
        if entry.get("Status", "").endswith(" installed"):
            yield Package("deb", entry["Package"], entry["Version"], entry.get("Architecture", ""))


def wheel(metadata: str) -> Iterator[Package]:
    """Yield the package that a wheel's METADATA describes; nothing for another text."""
    entry = HeaderParser().parsestr(metadata)
    if entry.get("Metadata-Version") and entry.get("Name") and entry.get("Version"):
        stated = " ".join(str(entry.get("License-Expression") or entry.get("License") or "").split())
        kept = "" if stated in _UNKNOWN or len(stated) > _LONGEST_LICENSE else stated
        yield Package("pypi", entry["Name"], entry["Version"], license=kept)


def distribution(release: str) -> str:
    """Return the distribution that os-release names, like "debian-12"; "" where it names none."""
    pairs = {key: value for key, _, value in (line.partition("=") for line in release.splitlines())}
    name, version = (pairs.get(key, "").strip('"') for key in ("ID", "VERSION_ID"))
    return "-".join(part for part in (name, version) if part)


def _files(chunks: Iterable[bytes]) -> dict[str, str]:
    """Return the texts of the package databases in a file system's archive, by path."""
    found: dict[str, str] = {}
    with tarfile.open(fileobj=io.BufferedReader(_Stream(chunks)), mode="r|") as archive:
        for entry in archive:
            path = entry.name.removeprefix("./")
            if entry.isfile() and (path in {_DPKG, _RELEASE} or path.endswith(_METADATA)):
                opened: Any = archive.extractfile(entry)
                found[path] = opened.read().decode("utf-8", "replace")
    return found


class _Stream(io.RawIOBase):
    """The engine's chunks as a file: an image's archive is larger than what should be held."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self._rest = iter(chunks), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - a writable buffer
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size
