"""A machine on which a stack of containers, with GPUs, finds all it wants; tests take one thing away."""

from dataclasses import replace

from harness.model.preflight import (
    GB,
    Containers,
    Engine,
    Got,
    ImageFact,
    Machine,
    PortFact,
    Prerequisite,
    Requirements,
    Space,
    Tool,
)
from harness.planning.preflight import judge
from harness.spec.preflight import load_preflight

REQUIREMENTS: Requirements = load_preflight()[0]
MACHINE = Machine(
    python=(3, 11, 7),
    cores=16,
    memory_bytes=64 * GB,
    cache=Space(path="/home/me/.cache/rollgate", free_bytes=200 * GB),
    gpus=("NVIDIA A, 40960 MiB, driver 580.1", "NVIDIA B, 40960 MiB, driver 580.1"),
)
ENGINE = Engine(
    address="unix:///var/run/docker.sock",
    version="27.5.1",
    cpus=16,
    memory_bytes=64 * GB,
    space=Space(path="/var/lib/docker", free_bytes=200 * GB),
    gpu_driver=True,
)
TOOLS = (
    Tool(name="docker", version="27.5.1", path="/usr/bin/docker"),
    Tool(name="compose", version="2.30.0", path="/usr/bin/docker"),
    Tool(name="curl", version="8.5.0", path="/usr/bin/curl", module_version="0.28"),
    Tool(name="jq", version="1.7", path="/usr/bin/jq", module_version="3.11.7"),
    Tool(name="redis-cli", version="7.2", path="/usr/bin/redis-cli", module_version="7.0"),
)
CONTAINERS = Containers(
    engine=ENGINE,
    tools=TOOLS,
    images=(ImageFact(key="redis", reference="redis:8.2-alpine", state="here"),),
    ports=(
        PortFact(service="redis", name="redis", number=6379, variable="REDIS_PORT", found="6379"),
        PortFact(service="router", name="http", number=8080, variable="ROUTER_PORT", found="8080"),
    ),
    gpus_wanted=(("ollama", 1), ("triton", 2)),
    settings_file="/stack/.env",
)


def judged(
    machine: Machine = MACHINE,
    containers: Containers | None = CONTAINERS,
    *,
    gpu: bool = True,
    **more: bool | tuple[Got, ...],
) -> dict[str, Prerequisite]:
    """Return what is judged of the facts, by name."""
    return {item.name: item for item in judge(machine, REQUIREMENTS, containers=containers, gpu=gpu, **more)}


def with_engine(**changes: object) -> Containers:
    """Return the containers' facts with another engine."""
    return replace(CONTAINERS, engine=replace(ENGINE, **changes))


def with_tool(name: str, **changes: object) -> Containers:
    """Return the containers' facts with one tool changed."""
    return replace(CONTAINERS, tools=tuple(replace(t, **changes) if t.name == name else t for t in TOOLS))


def with_port(**changes: object) -> Containers:
    """Return the containers' facts with the first port changed."""
    first, *others = CONTAINERS.ports
    return replace(CONTAINERS, ports=(replace(first, **changes), *others))
