"""What a machine lacks for a stack is told with found, expected and mend; every check has a violation it rejects."""

from dataclasses import replace
from pathlib import Path

import pytest
from preflight_facts import CONTAINERS, MACHINE, REQUIREMENTS, judged, with_engine, with_port, with_tool

from harness.model.errors import SpecError
from harness.model.preflight import GB, Containers, Got, ImageFact, Level, Machine, Space, worst
from harness.model.version import older
from harness.planning.preflight import judge
from harness.spec.preflight import FILE, load_preflight

pytestmark = pytest.mark.selftest


@pytest.mark.covers("rf.pre.checks", level="simulated")
def test_a_machine_that_has_everything_has_nothing_amiss():
    """The planted violations below differ from this machine in one thing each."""
    found = judged()
    assert {item.level for item in found.values()} == {Level.OK}
    wanted = {"engine", "docker", "compose", "curl", "jq", "redis-cli", "GPU", "engine disk", "memory"}
    assert wanted <= set(found)
    assert worst(tuple(found.values())) is Level.OK


@pytest.mark.covers("rf.pre.checks", level="static")
def test_the_floors_of_the_gpu_stack_are_the_required_ones():
    """100 GB of disk, a warning below 16 GB of memory; the embedded default declares smaller ones of its own."""
    gpu, native = REQUIREMENTS.floor("gpu"), REQUIREMENTS.floor("native")
    assert (gpu.disk_gb, gpu.memory_advised_gb) == (100, 16)
    assert native.disk_gb < gpu.disk_gb
    assert native.memory_gb + native.memory_advised_gb < gpu.memory_advised_gb
    assert {tool.name for tool in REQUIREMENTS.tools} == {"docker", "compose", "curl", "jq", "redis-cli"}


PLANTED: dict[str, tuple[Machine, Containers, str, Level, str, str]] = {
    "no daemon": (MACHINE, with_engine(problem="no Docker engine answers", mend="start it"), "engine", Level.ERROR,
                  "no Docker engine answers at unix:", "start it"),
    "no permission": (MACHINE, with_engine(problem="the Docker socket does not let this user in", mend="add the user"),
                      "engine", Level.ERROR, "does not let this user in", "add the user"),
    "an old engine": (MACHINE, with_engine(version="19.03.15"), "engine", Level.ERROR, "19.03.15", "newer Docker"),
    "an engine without a version": (MACHINE, with_engine(version=""), "engine", Level.ERROR, "no version", "newer"),
    "no docker": (MACHINE, with_tool("docker", version="", path=""), "docker", Level.WARNING, "not here", "install"),
    "an old docker": (MACHINE, with_tool("docker", version="18.09"), "docker", Level.WARNING, "18.09", "20.10"),
    "no compose": (MACHINE, with_tool("compose", version="", path=""), "compose", Level.WARNING, "not here", "2.23.1"),
    "compose 1": (MACHINE, with_tool("compose", version="1.29.2"), "compose", Level.WARNING, "1.29.2", "2.23.1"),
    "no curl, no httpx": (MACHINE, with_tool("curl", version="", path="", module_version=""), "curl", Level.ERROR,
                          "neither curl nor rollgate's own httpx", "make setup"),
    "no jq, no json": (MACHINE, with_tool("jq", version="", path="", module_version=""), "jq", Level.ERROR,
                       "neither jq", "make setup"),
    "no redis module": (MACHINE, with_tool("redis-cli", module_version=""), "redis-cli", Level.ERROR, "no redis",
                        "make setup"),
    "99 GB of disk": (MACHINE, with_engine(space=Space(path="/d", free_bytes=99 * GB)), "engine disk", Level.ERROR,
                      "99.0 GiB free at /d", "free space"),
    "no disk for programs": (replace(MACHINE, cache=Space(path="/c", free_bytes=2 * GB)), CONTAINERS, "disk",
                             Level.ERROR, "2.0 GiB free at /c", "free space"),
    "a cache that is not ours": (replace(MACHINE, cache=Space(path="/c", free_bytes=200 * GB, writable=False)),
                                 CONTAINERS, "cache", Level.ERROR, "cannot write", "ROLLGATE_CACHE"),
    "15 GB of memory": (MACHINE, with_engine(memory_bytes=15 * GB), "memory", Level.WARNING, "15.0 GiB",
                        "MEMORY_LIMIT"),
    "1 GB of memory": (MACHINE, with_engine(memory_bytes=GB), "memory", Level.ERROR, "1.0 GiB", "more memory"),
    "no GPU": (replace(MACHINE, gpus=()), CONTAINERS, "GPU", Level.ERROR, "none that NVML sees", "--no-gpu"),
    "a GPU too few": (replace(MACHINE, gpus=MACHINE.gpus[:1]), CONTAINERS, "GPU", Level.ERROR, "NVIDIA A",
                      "composition.yaml"),
    "a broken driver": (replace(MACHINE, gpus=("NVML answered Driver/library version mismatch",)), CONTAINERS, "GPU",
                        Level.ERROR, "version mismatch", "mend the driver"),
    "no GPU runtime": (MACHINE, with_engine(gpu_driver=False), "GPU in containers", Level.ERROR, "no runtime",
                       "nvidia-container-toolkit"),
    "an image to build": (MACHINE, replace(CONTAINERS, images=(ImageFact(key="faiss", reference="r/faiss:1",
                          state="buildable", mend="build it"),)), "image faiss", Level.WARNING, "to be built",
                          "build it"),
    "an image to pull": (MACHINE, replace(CONTAINERS, images=(ImageFact(key="grafana", reference="g:1",
                         state="elsewhere", mend="set it"),)), "image grafana", Level.WARNING, "to be pulled",
                         "set it"),
    "a taken port": (MACHINE, with_port(holder="redis-server (pid 7)"), "port 6379 (redis redis)", Level.WARNING,
                     "redis-server (pid 7)", "REDIS_PORT"),
    "a port that is none": (MACHINE, with_port(number=0, found="many"), "port 'many' (redis redis)", Level.ERROR,
                            "REDIS_PORT is 'many'", "REDIS_PORT"),
    "one port for two": (MACHINE, with_port(number=8080), "port 8080 (router http)", Level.ERROR, "wanted by redis",
                         "ROUTER_PORT"),
    "a composition that is wrong": (MACHINE, replace(CONTAINERS, composition=("compose.yaml:3: stale",)),
                                    "composition", Level.ERROR, "compose.yaml:3", ""),
    "a bad line of settings": (MACHINE, replace(CONTAINERS, settings=(".env:3: found no `=`",)), "settings",
                               Level.ERROR, ".env:3", ""),
    "an old Python": (replace(MACHINE, python=(3, 10, 12)), CONTAINERS, "Python", Level.ERROR, "3.10.12", "3.11"),
}  # fmt: skip


@pytest.mark.covers("rf.pre.checks", level="simulated")
@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_violation_is_told_by_name_level_and_mend(case: str):
    """Everything else stays well: a machine that lacks one thing hears of one thing."""
    machine, containers, name, level, said, mend = PLANTED[case]
    found = judged(machine, containers)
    assert found[name].level is level
    assert said in found[name].found
    assert mend in found[name].mend
    assert found[name].expected
    amiss = {item.name for item in found.values() if item.level not in {Level.OK, Level.UNKNOWN}}
    assert amiss == {name} or case == "one port for two"
    assert worst(tuple(found.values())) is level


@pytest.mark.covers("rf.pre.checks", level="simulated")
def test_curl_jq_and_redis_cli_may_be_away_where_rollgate_brings_its_own():
    """The Python module that does their work is named with its version."""
    for name in ("curl", "jq", "redis-cli"):
        found = judged(containers=with_tool(name, version="", path=""))[name]
        assert found.level is Level.OK
        assert "in its place" in found.found


@pytest.mark.covers("rf.pre.checks", level="simulated")
@pytest.mark.parametrize(
    "memory, disk, level",
    [(16 * GB, 100 * GB, Level.OK), (16 * GB - 1, 100 * GB, Level.WARNING), (16 * GB, 100 * GB - 1, Level.ERROR)],
)
def test_a_floor_may_be_reached_and_no_less(memory: int, disk: int, level: Level):
    """A byte below is told."""
    found = judged(containers=with_engine(memory_bytes=memory, space=Space(path="/d", free_bytes=disk)))
    assert worst(tuple(found.values())) is level


def test_without_gpus_the_smaller_floors_hold_and_gpus_are_optional():
    """This stack is not the GPU stack: 20 GB of disk are enough, no driver and no runtime is asked for."""
    small = with_engine(space=Space(path="/d", free_bytes=20 * GB), memory_bytes=9 * GB, gpu_driver=False)
    found = judged(replace(MACHINE, gpus=()), small, gpu=False)
    assert {item.level for item in found.values()} == {Level.OK}
    assert found["GPU"].expected == "optional"
    assert "GPU in containers" not in found


def test_gpus_that_were_asked_for_by_name_say_how_to_go_without():
    """The mend is the option that the user typed."""
    assert "drop --gpu" in judged(replace(MACHINE, gpus=()), asked_gpu=True)["GPU"].mend


def test_what_cannot_be_asked_is_unknown_and_neither_well_nor_amiss():
    """Images without an engine, the disk and the GPU runtime of an engine elsewhere."""
    silent = replace(with_engine(problem="no Docker engine answers"), images=None)
    assert judged(containers=silent)["images"].level is Level.UNKNOWN
    elsewhere = judged(containers=with_engine(space=Space(path="/d", free_bytes=None), gpu_driver=None))
    assert elsewhere["engine disk"].level is Level.UNKNOWN
    assert elsewhere["GPU in containers"].level is Level.UNKNOWN
    assert worst(tuple(elsewhere.values())) is Level.OK


def test_a_taken_port_is_an_error_where_the_stack_is_to_take_it():
    """A gate takes free ports; a stack for people publishes its own numbers."""
    taken = with_port(holder="redis-server (pid 7)")
    assert judged(containers=taken, publishes=True)["port 6379 (redis redis)"].level is Level.ERROR
    assert judged(containers=taken)["ports"].found == "1 of 2 free"


def test_an_image_that_no_gate_starts_is_named_and_not_warned_of():
    """Of the MLOps services, for instance."""
    spare = ImageFact(key="minio", reference="m:1", state="elsewhere", needed=False)
    found = judged(containers=replace(CONTAINERS, images=(*(CONTAINERS.images or ()), spare)))
    assert found["images"].found == "1 of 2 at hand; not here, and no gate needs them: minio"
    assert found["images"].level is Level.OK


def test_a_native_stack_is_held_to_its_own_floors_and_to_what_it_got():
    """No engine is asked for; a program that cannot be had is an error with its own words."""
    small = replace(MACHINE, memory_bytes=3 * GB, cache=Space(path="/c", free_bytes=4 * GB), gpus=())
    assert {item.level for item in judge(small, REQUIREMENTS)} == {Level.OK}
    assert "engine" not in judged(small, None)
    got = (Got(name="haproxy", detail="2.6.12 (path)"), Got(name="redis-server", problem="nowhere — install it"))
    found = judged(small, None, got=got)
    assert (found["haproxy"].level, found["redis-server"].level) == (Level.OK, Level.ERROR)
    assert found["redis-server"].found == "nowhere — install it"
    for machine in (
        replace(small, memory_bytes=GB),
        replace(small, cache=Space(path="/c", free_bytes=2 * GB)),
    ):
        assert worst(judge(machine, REQUIREMENTS)) is Level.ERROR


@pytest.mark.parametrize(
    "version, at_least, old",
    [
        ("20.10.24+dfsg1", "20.10", False),
        ("2.9", "2.23.1", True),
        ("28", "20.10", False),
        ("", "1", True),
        ("", "", False),
    ],
)
def test_versions_are_compared_by_their_numbers(version: str, at_least: str, old: bool):  # noqa: FBT001
    """Not by their letters, and an unknown one is older than anything that is asked for."""
    assert older(version, at_least) is old


@pytest.mark.parametrize(
    "old, new, told",
    [
        ("disk_gb: 100", "disk_gb: plenty", "floors.gpu.disk_gb"),
        ("disk_gb: 100", "disc_gb: 100", "disc_gb"),
        ("attempts: 30", "attempts: 0", "poll.attempts"),
        ("  gpu: {disk", "  gpus: {disk", "floors"),
    ],
)
def test_a_mistake_in_the_file_of_floors_is_refused_by_line(tmp_path: Path, old: str, new: str, told: str):
    """Floors are data, and checked as all data is."""
    from harness.paths import share_root  # noqa: PLC0415

    text = (share_root() / FILE).read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "preflight.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(SpecError, match=r"preflight\.yaml:\d+: .*" + told):
        load_preflight(path)
