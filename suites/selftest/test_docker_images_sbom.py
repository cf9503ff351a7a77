"""What is in an image as CycloneDX: read from package databases, held against the standard's own schema."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from docker.errors import ImageNotFound

from harness.adapters import docker_contents
from harness.adapters.docker_contents import contents, distribution, dpkg, wheel
from harness.model.errors import EnvironmentProblem
from harness.model.software import Contents, Package
from harness.report.sbom import sbom

pytestmark = pytest.mark.selftest

STATUS = """Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u10
Description: GNU C Library
 with a second line

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1:2.0

Package: tzdata
Status: install ok installed
Architecture: all
Version: 2025b-0+deb12u1
"""
METADATA = "Metadata-Version: 2.4\nName: numpy\nVersion: 2.4.6\nLicense-Expression: BSD-3-Clause AND MIT\n\nText\n"
PLANTED = Contents(
    image="rollgate/redis-debian:12",
    identity="sha256:" + "ab" * 32,
    created="2026-01-02T03:04:05.123456789Z",
    distribution="debian-12",
    packages=(
        Package("deb", "libc6", "2.36-9+deb12u10", "amd64"),
        Package("pypi", "numpy", "2.4.6", license="BSD-3-Clause AND MIT"),
        Package("pypi", "odd", "1.0", license="as you like"),
    ),
    stand_in="another thing",
)


def test_what_dpkg_removed_is_not_there():
    """Installed packages with version and architecture; one of which only the configuration is left is none."""
    assert list(dpkg(STATUS)) == [
        Package("deb", "libc6", "2.36-9+deb12u10", "amd64"),
        Package("deb", "tzdata", "2025b-0+deb12u1", "all"),
    ]
    assert list(dpkg("")) == []


def test_a_wheel_is_told_with_its_license_where_it_states_one_in_short():
    """A whole license text is none; what is no METADATA is no package."""
    assert list(wheel(METADATA)) == [Package("pypi", "numpy", "2.4.6", license="BSD-3-Clause AND MIT")]
    long = METADATA.replace("License-Expression: BSD-3-Clause AND MIT", f"License: {'word ' * 60}")
    assert next(wheel(long)).license == ""
    assert list(wheel("nothing of the kind")) == []


def test_the_distribution_is_what_os_release_says():
    """With or without quotes; nothing where it says nothing."""
    assert distribution('ID=debian\nVERSION_ID="12"\n') == "debian-12"
    assert distribution("") == ""


def test_the_document_holds_against_the_schema_and_is_the_same_for_the_same_image():
    """CycloneDX 1.6, strictly; the stand-in is told in it."""
    text = sbom(PLANTED)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert sbom(PLANTED) == text
    document = json.loads(text)
    urls = [component["purl"] for component in document["components"]]
    assert urls == [
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64&distro=debian-12",
        "pkg:pypi/numpy@2.4.6",
        "pkg:pypi/odd@1.0",
    ]
    assert document["metadata"]["component"]["properties"] == [{"name": "rollgate:stand_in", "value": "another thing"}]


@pytest.mark.parametrize(
    "planted", [('"type": "library"', '"type": "planted"'), ('"bomFormat": "CycloneDX"', '"bomFormat": "planted"')]
)
def test_the_schema_refuses_a_planted_fault(planted: tuple[str, str]):
    """The check above is one: a word that the standard does not know fails it."""
    text = sbom(PLANTED)
    assert planted[0] in text
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text.replace(*planted)) is not None


class Engine:
    """An engine with one image, whose file system is `archive`."""

    def __init__(self, archive: bytes) -> None:
        self.archive, self.removed = archive, 0
        self.images = self.containers = self
        self.id, self.attrs = PLANTED.identity, {"Created": PLANTED.created, "Config": {"Labels": None}}

    def get(self, name: str) -> "Engine":
        if name != PLANTED.image:
            raise ImageNotFound(name)
        return self

    def create(self, *_: object, **__: object) -> "Engine":
        return self

    def export(self) -> Iterator[bytes]:
        return (self.archive[at : at + 1000] for at in range(0, len(self.archive), 1000))

    def remove(self, **_: object) -> None:
        self.removed += 1

    def close(self) -> None:
        return


def _archive(files: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


def test_an_image_is_read_without_starting_it(monkeypatch: pytest.MonkeyPatch):
    """Its archive comes in pieces; databases are found wherever wheels lie; the container that was made is removed."""
    engine = Engine(
        _archive(
            {
                "var/lib/dpkg/status": STATUS,
                "usr/lib/os-release": "ID=debian\nVERSION_ID=12\n",
                "opt/tool/lib/numpy-2.4.6.dist-info/METADATA": METADATA,
                "usr/bin/large": "x" * 50_000,
                "etc/METADATA": "Metadata-Version: 2\nName: planted\nVersion: 1\n",
            }
        )
    )
    monkeypatch.setattr(docker_contents, "connect", lambda: engine)
    found = contents(PLANTED.image)
    assert [package.name for package in found.packages] == ["libc6", "tzdata", "numpy"]
    assert (found.distribution, found.identity, found.stand_in) == ("debian-12", PLANTED.identity, "")
    assert engine.removed == 1
    with pytest.raises(EnvironmentProblem, match="the engine has no image planted:1") as caught:
        contents("planted:1")
    assert "make images" in caught.value.mend


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A file where the folder should be: exit 4 and the option that names another."""
    from harness.adapters import docker_build  # noqa: PLC0415
    from harness.wiring.images import write_sboms  # noqa: PLC0415

    (tmp_path / "file").write_text("")
    monkeypatch.setattr(docker_build, "here", lambda images: images)
    monkeypatch.setattr(docker_contents, "contents", lambda _: PLANTED)
    with pytest.raises(EnvironmentProblem, match="cannot write") as caught:
        write_sboms(["redis"], tmp_path / "file", lambda _: None)
    assert "--out" in caught.value.mend
    assert write_sboms(["redis"], tmp_path / "new", lambda _: None) == [tmp_path / "new" / "redis.cdx.json"]
