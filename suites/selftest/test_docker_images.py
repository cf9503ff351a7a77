"""The file of images: every image is pinned and replaceable, no registry is named, and what is wrong is told."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.errors import SpecError
from harness.model.image import Image, choose_image, parse_reference
from harness.paths import share_root
from harness.spec import load_system
from harness.spec.images import FILE, choose_images, load_images

pytestmark = pytest.mark.selftest

SHIPPED = share_root() / FILE
DIGEST = "sha256:" + "0123456789abcdef" * 4
REDIS = Image(key="redis", name="redis", tag="8.2-alpine")
TRITON = Image(key="triton", name="nvidia/tritonserver", tag="25.06-py3", registry_variable="ROLLGATE_REGISTRY_NVIDIA")


def _planted(folder: Path, text: str) -> Path:
    path = folder / "images" / "images.yaml"
    path.parent.mkdir()
    path.write_text(f"schema: 1\nimages:\n{text}\n", encoding="utf-8")
    return path


def test_every_image_that_ships_is_pinned_and_has_a_variable_of_its_own():
    """A version in each tag, one variable each, a Dockerfile behind each of our own."""
    images = load_images()
    assert len({image.variable for image in images.values()}) == len(images)
    for image in images.values():
        parsed = parse_reference(image.pinned_name)
        assert parsed is not None
        assert parsed.pinned
        assert parsed.registry == ""


def test_the_file_names_no_registry_and_invents_no_digest():
    """A digest stands there only as an engine told it; none has been told so far, and the file says so."""
    text = SHIPPED.read_text(encoding="utf-8")
    assert not re.search(r"\b[a-z0-9-]+\.(io|com|org|dev)\b", text)
    assert "None is known so far" in text
    assert {image.digest for image in load_images().values()} == {""}


@pytest.mark.parametrize(
    "line, key, expected",
    [
        ("redis: {name: redis, tag: latest, digest: ''}", "images.redis.tag", "a tag that holds a version"),
        ("redis: {name: redis, tag: '', digest: ''}", "images.redis.tag", "a tag that holds a version"),
        ("redis: {name: 'redis:8', tag: '8', digest: ''}", "images.redis.name", "without registry, tag or digest"),
        ("redis: {name: Redis, tag: '8', digest: ''}", "images.redis.name", "an image's name in small letters"),
        ("redis: {name: example.test/redis, tag: '8', digest: ''}", "images.redis.name", "without a registry"),
        ("redis: {name: 'here:5000/redis', tag: '8', digest: ''}", "images.redis.name", "without a registry"),
        ("redis: {name: redis, tag: '8', digest: sha256:1234}", "images.redis.digest", "64 hexadecimal digits"),
        ("redis: {name: redis, tag: '8'}", "images.redis.digest", "missing, expected a value"),
        ("redis: {name: redis, tag: 8.2, digest: ''}", "images.redis.tag", "put it in quotes"),
        ("redis: {name: redis, tag: '8', digest: '', pull: true}", "images.redis.pull", "unknown key"),
        ("redis: {name: redis, tag: '8', digest: '', build: images/none}", "images.redis.build", "with a Dockerfile"),
        ("ours: {name: ours, tag: '1', digest: '', own: true}", "images.ours", "expected one for our own server"),
        ("triton: {name: t, tag: '1', digest: '', registry: a-b}", "images.triton.registry", "environment variable"),
    ],
)
def test_a_fault_in_the_file_is_told_with_line_key_and_mend(tmp_path: Path, line: str, key: str, expected: str):
    """One planted fault each; the error names the file, the line, the key and what was expected."""
    with pytest.raises(SpecError) as caught:
        load_images(_planted(tmp_path, f"  {line}"))
    assert caught.value.key == key
    assert caught.value.where.endswith("images.yaml:3")
    assert expected in str(caught.value)
    assert " — " in str(caught.value)


def test_a_key_that_stands_twice_and_a_file_that_is_away_are_told(tmp_path: Path):
    """The second of two equal keys would silently win."""
    line = "  redis: {name: redis, tag: '8', digest: ''}"
    with pytest.raises(SpecError, match="twice"):
        load_images(_planted(tmp_path, f"{line}\n{line}"))
    with pytest.raises(SpecError, match="no such file"):
        load_images(tmp_path / "images.yaml")


def test_the_environment_goes_before_the_file_and_the_file_before_what_ships(tmp_path: Path):
    """Three sources for one image, each taken only where those before it say nothing."""
    images = {"redis": REDIS}
    file = tmp_path / "mine.yaml"
    file.write_text("schema: 1\nimages: {redis: 'mirror.test:5000/redis:8.0'}\n", encoding="utf-8")
    environment = {"ROLLGATE_IMAGE_REDIS": f"redis@{DIGEST}", "ROLLGATE_IMAGES_FILE": str(file)}
    assert choose_images(images, {})["redis"].reference == "redis:8.2-alpine"
    by_file = choose_images(images, {"ROLLGATE_IMAGES_FILE": str(file)})["redis"]
    assert (by_file.reference, by_file.by) == ("mirror.test:5000/redis:8.0", f"file {file}")
    by_environment = choose_images(images, environment)["redis"]
    assert (by_environment.reference, by_environment.by) == (f"redis@{DIGEST}", "environment ROLLGATE_IMAGE_REDIS")


def test_a_known_digest_is_asked_for_and_a_replacement_goes_without_it():
    """The digest is of the pinned image: another image has another."""
    pinned = Image(key="redis", name="redis", tag="8.2-alpine", digest=DIGEST)
    assert choose_image(pinned, {}, {}).reference == f"redis:8.2-alpine@{DIGEST}"
    assert choose_image(pinned, {"ROLLGATE_IMAGE_REDIS": "mine:1"}, {}).reference == "mine:1"


@pytest.mark.parametrize("replacement", ["redis", "redis:latest", "https://mirror.test/redis:8", "Redis:8", "redis:8 "])
def test_a_replacement_that_means_no_one_image_is_refused(replacement: str):
    """Neither what is no reference nor what changes its meaning by itself."""
    with pytest.raises(SpecError, match="environment ROLLGATE_IMAGE_REDIS: redis: found") as caught:
        choose_image(REDIS, {"ROLLGATE_IMAGE_REDIS": replacement}, {})
    assert caught.value.exit_code == 2


def test_a_mistyped_variable_and_a_mistyped_key_are_told(tmp_path: Path):
    """A replacement that would silently replace nothing."""
    images = {"redis": REDIS}
    with pytest.raises(SpecError, match="did you mean `ROLLGATE_IMAGE_REDIS`"):
        choose_images(images, {"ROLLGATE_IMAGE_REDDIS": "redis:8"})
    file = tmp_path / "mine.yaml"
    file.write_text("schema: 1\nimages:\n  reddis: redis:8\n", encoding="utf-8")
    with pytest.raises(SpecError, match="did you mean `redis`") as caught:
        choose_images(images, {"ROLLGATE_IMAGES_FILE": str(file)})
    assert caught.value.where.endswith("mine.yaml:3")


def test_a_publishers_registry_is_the_users_setting():
    """In front of the name where the variable is set; told as the mend where it is not; refused where it is none."""
    assert choose_image(TRITON, {}, {}).reference == "nvidia/tritonserver:25.06-py3"
    assert "ROLLGATE_REGISTRY_NVIDIA" in choose_image(TRITON, {}, {}).mend
    there = choose_image(TRITON, {"ROLLGATE_REGISTRY_NVIDIA": "mirror.test:5000/hub/"}, {})
    assert there.reference == "mirror.test:5000/hub/nvidia/tritonserver:25.06-py3"
    with pytest.raises(SpecError, match="expected a registry"):
        choose_image(TRITON, {"ROLLGATE_REGISTRY_NVIDIA": "https://mirror.test"}, {})


def test_dockerfiles_start_from_the_one_base_and_end_without_root():
    """Only `debian:bookworm-slim`, which can be made without a registry; the last user is not root."""
    dockerfiles = sorted(SHIPPED.parent.glob("*/Dockerfile"))
    assert dockerfiles
    for path in dockerfiles:
        lines = path.read_text(encoding="utf-8").splitlines()
        bases = {line.split()[1] for line in lines if line.startswith("FROM ")}
        users = [line.split()[1] for line in lines if line.startswith("USER ")]
        assert bases == {"debian:bookworm-slim"}, path
        assert users, path
        assert users[-1] not in {"root", "0"}, path


def test_every_dockerfile_is_named_by_an_image():
    """None is left that nothing builds."""
    named = {image.build for image in load_images().values()}
    assert {f"images/{path.parent.name}" for path in SHIPPED.parent.glob("*/Dockerfile")} == named - {""}


@given(st.text(max_size=40))
def test_any_text_is_a_reference_or_none(text: str):
    """Parsing never raises, and what it accepts it tells back whole."""
    parsed = parse_reference(text)
    if parsed is not None:
        registry = f"{parsed.registry}/" if parsed.registry else ""
        tag = f":{parsed.tag}" if parsed.tag else ""
        digest = f"@{parsed.digest}" if parsed.digest else ""
        assert f"{registry}{parsed.name}{tag}{digest}" == text


def test_images_of_the_inventories_are_those_of_the_file():
    """A system's inventory names no image that the composition does not pin."""
    pinned = {image.plain for image in load_images().values()}
    for path in sorted((share_root() / "stack" / "systems").glob("*/system.yaml")):
        named = {service.image for service in load_system(path.parent).services} - {""}
        assert named <= pinned, path
