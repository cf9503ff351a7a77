"""Building images: what the machine adds, what is sent to the engine, and what is told when it fails."""

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker.errors import ImageNotFound

from harness.adapters import docker_base, docker_build
from harness.adapters.docker_base import sources
from harness.adapters.docker_build import build_images
from harness.adapters.docker_host import Host, constraints, host
from harness.model.errors import EnvironmentProblem, SpecError
from harness.model.image import Image
from harness.paths import share_root
from harness.spec.images import load_images

pytestmark = pytest.mark.selftest

AWAY = Path("/nonexistent/uv.lock")
NOTHING = Host({}, {"images/host/ca.pem": "", "images/host/pip.conf": "", "images/host/constraints.txt": ""})
ONE = Image(key="one", name="one", tag="1", build="images/one")
TWO = Image(key="two", name="two", tag="1", build="images/two", stand_in="another thing")


def test_proxies_reach_every_step_and_nothing_else_is_an_argument():
    """Both spellings, for apt reads the small one alone; an index with a password is no argument."""
    asked = {"HTTPS_PROXY": "http://proxy.test:3128", "no_proxy": "here", "PIP_INDEX_URL": "https://me:pw@index.test"}
    found = host(asked, ca_bundle="", lock=AWAY).arguments
    assert found == {
        "HTTPS_PROXY": "http://proxy.test:3128",
        "https_proxy": "http://proxy.test:3128",
        "NO_PROXY": "here",
        "no_proxy": "here",
    }
    assert host({}, ca_bundle="", lock=AWAY).arguments == {}


def test_pips_index_is_the_environments_before_the_files(tmp_path: Path):
    """Index and certificates' exceptions go along; what names folders of this machine does not."""
    file = tmp_path / "pip.conf"
    file.write_text("[global]\nindex-url = https://file.test/simple\nfind-links = /opt/wheels\ncert = /etc/x.pem\n")
    asked = {"PIP_CONFIG_FILE": str(file), "HOME": str(tmp_path), "PIP_TRUSTED_HOST": "file.test"}
    found = host(asked, ca_bundle="", lock=AWAY).files["images/host/pip.conf"]
    assert found.startswith("[global]\nindex-url = https://file.test/simple\ntrusted-host = file.test\n")
    assert "/opt/wheels" not in found
    assert "/etc/x.pem" not in found
    over = host(asked | {"PIP_INDEX_URL": "https://env.test"}, ca_bundle="", lock=AWAY).files["images/host/pip.conf"]
    assert "index-url = https://env.test\n" in over


def test_certificates_are_those_asked_for_before_those_of_the_machine(tmp_path: Path):
    """The option, then the variables in their order; one that cannot be read is told, not replaced."""
    asked, ours, pips = (tmp_path / name for name in ("asked.pem", "ours.pem", "pip.pem"))
    for path in (asked, ours, pips):
        path.write_text(path.name)
    environment = {"ROLLGATE_CA_BUNDLE": str(ours), "PIP_CERT": str(pips)}

    def taken(environment: dict[str, str], bundle: str = "") -> str:
        return host(environment, ca_bundle=bundle, lock=AWAY).files["images/host/ca.pem"]

    assert taken(environment, str(asked)) == "asked.pem"
    assert taken(environment) == "ours.pem"
    assert taken({"PIP_CERT": str(pips)}) == "pip.pem"
    with pytest.raises(SpecError, match="--ca-bundle: found") as caught:
        taken(environment, str(tmp_path / "away.pem"))
    assert caught.value.exit_code == 2


def test_constraints_are_the_locks_versions_without_our_own_members():
    """Two versions of one package each keep the Pythons that they are for; what no image needs is not there."""
    lock = """
[[package]]
name = "rollgate"
version = "0.1"
source = { editable = "." }
dependencies = [{ name = "pytest" }]
[[package]]
name = "pytest"
version = "9"
source = { registry = "https://index.test" }
[[package]]
name = "deep"
version = "1"
source = { registry = "https://index.test" }
[[package]]
name = "direct"
version = "1"
source = { registry = "https://index.test" }
dependencies = [{ name = "deep" }]
[[package]]
name = "numpy"
version = "2.4"
source = { registry = "https://index.test" }
resolution-markers = ["python_full_version < '3.12'"]
[[package]]
name = "numpy"
version = "2.5"
source = { registry = "https://index.test" }
resolution-markers = ["python_full_version >= '3.13'", "python_full_version == '3.12.*'"]
[[package]]
name = "ours"
version = "0.1"
source = { editable = "stack/services/ours" }
dependencies = [{ name = "direct" }]
"""
    assert constraints(lock).splitlines() == [
        "deep==1",
        "direct==1",
        "numpy==2.4 ; (python_full_version < '3.12')",
        "numpy==2.5 ; (python_full_version >= '3.13') or (python_full_version == '3.12.*')",
    ]


def test_the_lock_that_ships_pins_what_the_images_install():
    """Every dependency of our own servers, and Triton's, has its version there."""
    lock = share_root() / "uv.lock"
    if not lock.is_file():
        pytest.skip("not_applicable: the wheel carries no lock")
    names = {line.partition("==")[0] for line in constraints(lock.read_text(encoding="utf-8")).splitlines()}
    assert {"aiohttp", "faiss-cpu", "gguf", "numpy", "onnxruntime", "tokenizers", "xllamacpp"} <= names


def test_the_base_takes_this_machines_archives_of_its_own_suite_alone():
    """Not another suite's, not a third party's, none with a password; each once."""
    said = """http://debian.test/debian/ bookworm main
http://debian.test/debian/ bookworm main
http://debian.test/security/ bookworm-security main
http://debian.test/debian/ trixie main
http://vendor.test/apt nodistro main
https://me:secret@mirror.test/debian bookworm main
http://debian.test/debian/ bookworm non-free

"""
    assert sources(said).splitlines() == [
        "deb http://debian.test/debian/ bookworm main",
        "deb http://debian.test/security/ bookworm-security main",
    ]


class Engine:
    """An engine that has the base or not, and builds what `says` it builds."""

    def __init__(self, says: dict[str, list[dict[str, str]]], *, base: bool = True) -> None:
        self.says, self.base, self.asked = says, base, list[dict[str, Any]]()
        self.images = self.api = self

    def get(self, name: str) -> None:
        if not self.base:
            raise ImageNotFound(name)

    def pull(self, name: str) -> None:
        raise ImageNotFound(f"no registry answers for {name}")

    def build(self, **asked: Any) -> Iterator[dict[str, str]]:  # noqa: ANN401 - docker's own arguments
        self.asked.append(asked)
        return iter(self.says[asked["tag"]])

    def close(self) -> None:
        return


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """A stack/ with two Dockerfiles, and what a build must not see."""
    for name in ("one", "two"):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        (folder / "Dockerfile").write_text("FROM debian:bookworm-slim\n")
    (tmp_path / "images" / "host").mkdir()
    (tmp_path / "images" / "host" / "ca.pem").write_text("placeholder")
    (tmp_path / "services" / "__pycache__").mkdir(parents=True)
    (tmp_path / "services" / "__pycache__" / "a.pyc").write_text("")
    (tmp_path / "services" / "start.sh").write_text("#!/bin/sh\n")
    (tmp_path / "services" / "start.sh").chmod(0o700)
    (tmp_path / "systems").mkdir()
    (tmp_path / "systems" / "large.bin").write_text("")
    return tmp_path


def _use(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    monkeypatch.setattr(docker_build, "connect", lambda: engine)


def test_every_image_is_tried_and_each_failure_told_with_its_last_lines(shipped: Path, monkeypatch: pytest.MonkeyPatch):
    """One that fails, one that is known to the cache: progress, last lines, and the mend for certificates."""
    failing = [{"stream": f"line {number}\n"} for number in range(40)] + [{"error": "certificate verify failed"}]
    engine = Engine({ONE.local_name: failing, TWO.local_name: [{"stream": "Using cache\n"}]})
    _use(monkeypatch, engine)
    told: list[str] = []
    with pytest.raises(EnvironmentProblem, match=r"rollgate/one-debian:12 cannot be built") as caught:
        build_images([ONE, TWO], shipped, NOTHING, told.append)
    assert "line 39" in str(caught.value)
    assert "line 20" not in str(caught.value)
    assert "--ca-bundle" in caught.value.mend
    assert any(line.startswith("failed") for line in told)
    assert any(line.startswith("built") and line.endswith("(cached)") for line in told)


def test_a_stand_in_is_called_one_and_labelled(shipped: Path, monkeypatch: pytest.MonkeyPatch):
    """By its name and by a label, so that nobody takes it for the program itself; a real package has neither."""
    engine = Engine({ONE.local_name: [{"stream": "Running in 1\n"}], TWO.local_name: [{"stream": "Running in 1\n"}]})
    _use(monkeypatch, engine)
    built = build_images([ONE, TWO], shipped, NOTHING, lambda _: None)
    assert [one.cached for one in built] == [False, False]
    labels = {asked["tag"]: asked["labels"] for asked in engine.asked}
    assert labels == {
        "rollgate/one-debian:12": {"org.rollgate.image": "one"},
        "rollgate/two-stand-in:12": {"org.rollgate.image": "two", "org.rollgate.stand-in": "another thing"},
    }
    assert load_images()["ollama"].local_name == "rollgate/ollama-stand-in:12"


def test_what_is_sent_is_the_same_in_every_checkout(shipped: Path, monkeypatch: pytest.MonkeyPatch):
    """Without times, owners and byte code, or the engine's cache would never hold; the machine's files go over ours."""
    engine = Engine({ONE.local_name: []})
    _use(monkeypatch, engine)
    added = Host({}, {"images/host/ca.pem": "certificates"})
    build_images([ONE], shipped, added, lambda _: None)
    for path in shipped.rglob("*"):
        os.utime(path, (1, 1))
    build_images([ONE], shipped, added, lambda _: None)
    first, second = (asked["fileobj"].getvalue() for asked in engine.asked)
    assert first == second
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        sent = {entry.name: entry for entry in archive.getmembers()}
        bundle = archive.extractfile("images/host/ca.pem")
        assert bundle is not None
        assert bundle.read() == b"certificates"
    assert set(sent) == {
        "images/one/Dockerfile",
        "images/two/Dockerfile",
        "images/host/ca.pem",
        "services/start.sh",
    }
    assert sent["services/start.sh"].mode == 0o755


def test_a_base_that_is_nowhere_is_told_with_the_commands_that_make_it(shipped: Path, monkeypatch: pytest.MonkeyPatch):
    """No registry and no debootstrap: exit 4, and both commands."""
    _use(monkeypatch, Engine({}, base=False))
    monkeypatch.setattr(docker_base.shutil, "which", lambda _: None)
    with pytest.raises(EnvironmentProblem, match="not here and cannot be pulled") as caught:
        build_images([ONE], shipped, NOTHING, lambda _: None)
    assert "debootstrap --variant=minbase bookworm DIR" in caught.value.mend
    assert "docker import - debian:bookworm-slim" in caught.value.mend


def test_no_dockerfile_takes_what_the_machine_adds_into_its_image():
    """Certificates and index settings are read in stages that are thrown away, never in the last one."""
    for path in sorted((share_root() / "stack" / "images").glob("*/Dockerfile")):
        last = path.read_text(encoding="utf-8").split("\nFROM ")[-1]
        assert "/host" not in last, path
        assert "ARG" not in last.split(), path
