"""The composition: what the catalog requires stands in it, the inventory says the same, and faults are told."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import spec
from harness.model.composition import Composition
from harness.model.errors import SpecError
from harness.paths import share_root
from harness.planning.composition import chosen, render, scrape_targets, units
from harness.spec.composition import FILE, load_composition
from harness.spec.composition_inventory import inventory_problems
from harness.spec.images import load_images

pytestmark = pytest.mark.selftest

IMAGES = load_images()
SHIPPED = load_composition(IMAGES)
BASE: dict[str, Any] = {
    "schema": 1,
    "name": "planted",
    "inventory": "researchflow",
    "log": {"megabytes": 100, "files": 10},
    "volumes": ["redis"],
    "secrets": ["redis_password"],
    "services": {
        "redis": {
            "image": "redis",
            "component": "cache",
            "profiles": ["gpu", "cpu"],
            "ports": {"redis": {"number": 6379, "host": 6379, "variable": "REDIS_PORT"}},
            "health": {"kind": "command", "line": "redis-cli ping", "start_period_s": 15},
            "limits": {"memory_gb": 10, "cpus": 2},
            "reservations": {"memory_gb": 0.5, "cpus": 0.25},
            "secrets": ["redis_password"],
            "command": ["redis-server", "--maxmemory", "${REDIS_MAXMEMORY:-8gb}"],
            "mounts": [{"kind": "volume", "source": "redis", "target": "/data"}],
        },
        "exporter": {
            "image": "redis_exporter",
            "component": "cache",
            "profiles": ["monitoring"],
            "ports": {"http": {"number": 9121}},
            "health": {"kind": "http", "port": "http", "path": "/health", "tool": "wget", "start_period_s": 15},
            "limits": {"memory_gb": 1, "cpus": 1},
            "reservations": {"memory_gb": 1, "cpus": 1},
            "depends": ["redis"],
            "env": {"REDIS_ADDR": "redis://${redis.redis}"},
        },
    },
}


def _load(folder: Path, change: Callable[[dict[str, Any]], object]) -> Composition:
    data: dict[str, Any] = copy.deepcopy(BASE)
    change(data)
    path = folder / "composition.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return load_composition(IMAGES, path)


def _set(*keys: str | int, value: object) -> Callable[[dict[str, Any]], object]:
    def change(data: Any) -> None:  # noqa: ANN401 - YAML, as it comes
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = value

    return change


def test_the_base_of_the_planted_faults_is_sound(tmp_path: Path):
    """Else a fault would be refused for another reason."""
    assert _load(tmp_path, lambda data: data).name == "planted"


R, E = ("services", "redis"), ("services", "exporter")
FAULTS = {
    "an unknown image": (_set(*R, "image", value="reddis"), "did you mean `redis`"),
    "an unknown profile": (_set(*R, "profiles", value=["gpus"]), "services.redis.profiles"),
    "no profile": (_set(*R, "profiles", value=[]), "services.redis.profiles"),
    "a profile twice": (_set(*R, "profiles", value=["cpu", "cpu"]), "found a profile twice"),
    "no limits": (lambda data: data["services"]["redis"].pop("limits"), "services.redis.limits: missing"),
    "no reservations": (lambda data: data["services"]["redis"].pop("reservations"), "reservations: missing"),
    "no health check": (lambda data: data["services"]["redis"].pop("health"), "services.redis.health: missing"),
    "no start period": (
        lambda data: data["services"]["redis"]["health"].pop("start_period_s"),
        "services.redis.health.start_period_s: missing",
    ),
    "more kept than allowed": (_set(*R, "reservations", "memory_gb", value=11), "expected at most the limit of 10"),
    "no memory": (_set(*R, "limits", "memory_gb", value=0), "services.redis.limits.memory_gb"),
    "a health check without a tool": (lambda d: d["services"]["exporter"]["health"].pop("tool"), "found no `tool`"),
    "a health check at no port": (_set(*E, "health", "port", value="web"), "found `web`, expected one of the ports"),
    "a command without a line": (lambda d: d["services"]["redis"]["health"].pop("line"), "found no `line`"),
    "an unknown volume": (
        _set(*E, "mounts", value=[{"kind": "volume", "source": "data", "target": "/a"}]),
        "expected one of the volumes",
    ),
    "a volume of nobody": (_set("volumes", value=["redis", "old"]), "expected a name that a service uses"),
    "a secret of nobody": (_set("secrets", value=["redis_password", "old"]), "expected a name that a service uses"),
    "an unknown secret": (_set(*R, "secrets", value=["redis_password", "password"]), "expected one of the secrets"),
    "a file that is away": (
        _set(*E, "mounts", value=[{"kind": "shipped", "source": "none.cfg", "target": "/a"}]),
        "expected a file or folder below",
    ),
    "one target twice": (
        _set(*R, "mounts", value=[{"kind": "volume", "source": "redis", "target": "/data"}] * 2),
        "found /data twice",
    ),
    "a mount without a source": (
        _set(*E, "mounts", value=[{"kind": "host", "target": "/a"}]),
        "found no source, expected one for host",
    ),
    "a dependency on nobody": (_set(*E, "depends", value=["reddis"]), "did you mean `redis`"),
    "a circle": (_set(*R, "depends", value=["exporter"]), "found a circle"),
    "GPUs outside their profile": (_set(*E, "gpus", value={"count": "all"}), "found GPUs outside the profile gpu"),
    "GPUs by number and by id": (_set(*R, "gpus", value={"count": 1, "ids": ["0"]}), "found `count` and `ids`"),
    "no GPUs": (_set(*R, "gpus", value={"count": 0}), "services.redis.gpus.count"),
    "one port of the host twice": (
        _set(*E, "ports", "http", value={"number": 9121, "host": 6379, "variable": "EXPORTER_PORT"}),
        "which redis.redis has on the host too",
    ),
    "one variable for two ports": (
        _set(*E, "ports", "http", value={"number": 9121, "host": 9121, "variable": "REDIS_PORT"}),
        "which moves redis.redis too",
    ),
    "a published port that cannot be moved": (
        _set(*E, "ports", "http", value={"number": 9121, "host": 9121}),
        "found one of `host` and `variable`",
    ),
    "metrics without a job": (_set(*E, "metrics", value={"port": "http"}), "found no `job`"),
    "a reference to nobody": (_set(*E, "env", "REDIS_ADDR", value="${cache.redis}"), "found ${cache.redis}"),
    "a reference to another port": (_set(*E, "env", "REDIS_ADDR", value="${redis.http}"), "found ${redis.http}"),
    "an arm that there is not": (_set(*E, "env", "REDIS_ADDR", value="${redis[candidate].redis}"), "found ${redis["),
    "a secret of another": (_set(*E, "env", "A", value="${secret_file.redis_password}"), "found ${secret_file."),
    "a setting without a default": (_set(*E, "env", "A", value="${REDIS_MAXMEMORY}"), "found ${REDIS_MAXMEMORY}"),
    "two defaults of one setting": (
        _set(*E, "env", "A", value="${REDIS_MAXMEMORY:-1gb}"),
        "elsewhere it is '8gb'",
    ),
    "an unknown key": (_set(*R, "memory", value="8g"), "services.redis.memory: unknown key"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_told_with_file_line_and_mend(tmp_path: Path, fault: str):
    """One fault each; the error is one line that says where, what and how to mend it."""
    change, expected = FAULTS[fault]
    with pytest.raises(SpecError) as caught:
        _load(tmp_path, change)
    text = str(caught.value)
    assert expected in text
    assert "composition.yaml:" in text
    assert " — " in text


def test_every_service_has_limits_logs_a_health_check_and_a_component():
    """Limits and reservations on every service; the log is 10 files of 100 MB."""
    assert (SHIPPED.log.megabytes, SHIPPED.log.files) == (100, 10)
    for service in SHIPPED.services:
        assert service.limits.memory_gb >= service.reservations.memory_gb > 0
        assert service.limits.cpus >= service.reservations.cpus > 0
        assert service.health.start_period_s > 0
        assert service.component


def test_the_catalogs_services_are_there():
    """Each service that a test may ask for, by its name in the inventory."""
    wanted = {"ollama", "triton", "faiss", "redis", "prometheus", "alertmanager", "grafana", "gateway"}
    wanted |= {"node_exporter", "cadvisor", "redis_exporter", "dcgm_exporter", "nginx", "router"}
    wanted |= {"chromadb", "mlflow", "postgres", "minio", "tensorflow_serving"}
    assert wanted <= {service.name for service in SHIPPED.services}


def test_composition_and_inventory_say_the_same():
    """Ports, health, limits, GPUs, image, dependencies and jobs of every service that both have."""
    system = spec.load_system(spec.find_system(SHIPPED.inventory))
    assert [str(error) for error in inventory_problems(SHIPPED, IMAGES, system)] == []
    both = {one.name for one in system.services} & {one.name for one in SHIPPED.services}
    assert {one.name for one in system.services} - both == {"docker"}  # the engine itself, not a container


INVENTORY_FAULTS = {
    "services.redis.limits.memory_gb": _set(*R, "limits", "memory_gb", value=8),
    "services.redis.ports": _set(*R, "ports", "redis", "number", value=6380),
    "services.redis.image": _set(*R, "image", value="nginx"),
    "services.redis.health.start_period_s": _set(*R, "health", "start_period_s", value=60),
    "services.redis.gpus": _set(*R, "gpus", value={"count": "all"}),
    "services.redis.component": _set(*R, "component", value="store"),
}


@pytest.mark.parametrize("key", INVENTORY_FAULTS)
def test_another_word_than_the_inventorys_is_told(tmp_path: Path, key: str):
    """One planted contradiction each."""
    composition = _load(tmp_path, INVENTORY_FAULTS[key])
    system = spec.load_system(spec.find_system("researchflow"))
    errors = inventory_problems(composition, IMAGES, system, tmp_path / "composition.yaml")
    assert [error.key for error in errors] == [key]
    assert "but system.yaml says" in str(errors[0])


def test_every_setting_of_the_template_that_a_container_takes_has_the_same_default():
    """What .env.example shows as a default is what runs without it."""
    text = (share_root() / "stack" / "systems" / "researchflow" / ".env.example").read_text(encoding="utf-8")
    shown = dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))
    composition = (share_root() / FILE).read_text(encoding="utf-8")
    for name in ("OLLAMA_NUM_PARALLEL", "REDIS_MAXMEMORY", "PROMETHEUS_RETENTION", "FAISS_INDEX_TYPE"):
        assert f"${{{name}:-{shown[name]}}}" in composition
    for service in SHIPPED.services:
        limit = shown.get(f"{service.name.upper()}_MEMORY_LIMIT")
        assert limit is None or limit == f"{service.limits.memory_gb:g}g"
        for port in service.ports:
            assert shown.get(port.variable) in {None, str(port.host)}


def test_with_and_without_gpus_one_of_each_is_chosen():
    """The same names on the network either way, but for what is nothing without a GPU."""
    with_gpus, without = chosen(SHIPPED, gpu=True), chosen(SHIPPED, gpu=False)
    assert len({unit.alias for unit in with_gpus}) == len(with_gpus)
    assert len({unit.alias for unit in without}) == len(without)
    assert {u.alias for u in with_gpus} - {u.alias for u in without} == {"gpu_exporter", "dcgm_exporter"}
    assert {unit.name for unit in without if unit.service.gpus} == {"ollama-cpu", "triton-cpu"}


def test_references_mean_the_arms_own_service():
    """A gateway asks the index of its own arm, and the one Redis."""
    for unit in units(SHIPPED):
        if unit.service.name == "gateway":
            told = render(
                "${faiss.http} ${redis.redis} ${A:-b}", unit, SHIPPED, setting=lambda name, value: name + value
            )
            assert told == f"faiss-{unit.arm}:5000 redis:6379 Ab"


def test_what_is_scraped_is_what_the_inventory_scrapes():
    """A job for each that Prometheus' configuration names and the composition has, two targets where there are arms."""
    jobs = scrape_targets(SHIPPED, lambda _: True)
    system = spec.load_system(spec.find_system("researchflow"))
    assert set(jobs) == {service.job for service in system.services if service.job} - {"docker"}
    assert [group["labels"] for group in jobs["gateway"]] == [{"arm": "baseline"}, {"arm": "candidate"}]
    assert jobs["triton"] == [{"targets": ["triton:8002"], "labels": {}}]
