"""Each image that was built here starts as the composition says, is well, and is what it has to be inside."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.adapters.docker_container import ServiceContainer
from harness.adapters.docker_session import DockerSession, connect, new_run
from harness.model.image import Image, choose_image
from harness.paths import share_root
from harness.planning.composition import chosen
from harness.wiring.composition import shipped

pytestmark = [pytest.mark.selftest, pytest.mark.docker]

DATA = shipped()
UNITS = {unit.alias: unit for unit in chosen(DATA.composition, gpu=False) if DATA.images[unit.service.image].build}
PLACES = ("/", "/usr/bin", "/etc")
# What a model of Triton's Python backend needs of the image: a Python that has these packages.
_MODEL = """
import numpy, onnxruntime, tokenizers
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        asked = [pb_utils.get_input_tensor_by_name(one, "IN") for one in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", one.as_numpy() * 2)]) for one in asked]
"""
_CONFIG = """
name: "@name@"
backend: "python"
input [{ name: "IN" data_type: TYPE_FP32 dims: [ 2 ] }]
output [{ name: "OUT" data_type: TYPE_FP32 dims: [ 2 ] }]
instance_group [{ kind: KIND_CPU count: 1 }]
"""


def _image(alias: str) -> Image:
    return DATA.images[UNITS[alias].service.image]


@pytest.fixture(scope="module")
def built(docker_engine: None) -> frozenset[str]:
    """The images that the engine has."""
    del docker_engine
    client = connect()
    try:
        return frozenset(name for one in client.images.list() for name in one.tags)
    finally:
        client.close()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with the two names that the gateway asks for."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("embedder", "reranker"):
        version = folder / "triton" / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(_MODEL, encoding="utf-8")
        (version.parent / "config.pbtxt").write_text(_CONFIG.replace("@name@", name), encoding="utf-8")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)  # any container's user reads them
    return folder


@pytest.fixture(scope="module")
def session(built: frozenset[str], models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerSession]:
    """A session of the local images alone."""
    del built
    folder, run = tmp_path_factory.mktemp("containers"), new_run()
    session = DockerSession(
        DATA.composition,
        {key: choose_image(one, {one.variable: one.local_name}, {}) for key, one in DATA.images.items()},
        run=run,
        stack=share_root() / "stack",
        state=folder / run,
        logs=folder / "logs",
        settings={"ROLLGATE_MODELS": str(models)},
        pull=False,
    )
    try:
        session.open()
        yield session
    finally:
        left = session.close()
    assert not left


@pytest.fixture
def container(request: pytest.FixtureRequest, session: DockerSession, built: frozenset[str]) -> ServiceContainer:
    """The service of the parameter, and what it needs, healthy."""
    alias = request.param
    needed, todo = set[str](), [alias]
    while todo:
        needed.add(name := todo.pop())
        todo += [one.alias for one in UNITS.values() if one.service.name in UNITS[name].service.depends]
    away = sorted({_image(name).local_name for name in needed} - built)
    if away:
        pytest.skip(f"not_applicable: the engine lacks {', '.join(away)} (`make images`)")
    return session.start([alias])[alias]


def _writes(container: ServiceContainer, place: str, user: str = "") -> bool:
    """Tell whether a user (default: the image's own) can leave a file there."""
    words = ["sh", "-c", f"touch {place}/planted && rm {place}/planted"]
    return container.get_wrapped_container().exec_run(words, user=user).exit_code == 0


def _owners(container: ServiceContainer) -> set[int]:
    """Return the user ids of every process of the container, as the machine sees them."""
    asked = container.get_wrapped_container().top(ps_args="-eo pid,uid")
    return {int(row[asked["Titles"].index("UID")]) for row in asked["Processes"]}


@pytest.mark.parametrize("container", sorted(UNITS), indirect=True)
def test_it_is_well_without_root_and_writes_nowhere_it_should_not(container: ServiceContainer):
    """The composition's own health check, every process's user, and the root file system."""
    wrapped = container.get_wrapped_container()
    assert wrapped.attrs["State"]["Health"]["Status"] == "healthy"
    assert 0 not in _owners(container)
    read_only = container.unit.service.read_only
    # Root could write wherever the file system lets anybody write.
    assert not [place for place in PLACES if _writes(container, place, user="0" if read_only else "")]
    assert wrapped.attrs["HostConfig"]["ReadonlyRootfs"] == read_only


@pytest.mark.parametrize("container", ["ollama", "postgres"], indirect=True)
def test_a_process_of_root_and_a_file_system_that_can_be_written_are_seen(container: ServiceContainer):
    """Planted: root enters a container whose root file system is not read only, and writes. Both are seen."""
    container.get_wrapped_container().exec_run(["sleep", "3"], user="0", detach=True)
    assert 0 in _owners(container)
    assert [place for place in PLACES if _writes(container, place, user="0")] == list(PLACES)
