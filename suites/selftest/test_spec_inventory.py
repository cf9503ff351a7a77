"""The required inventory: every number that conformance.yaml names is held, and a wrong one is refused by its key."""

import shutil
from dataclasses import fields
from pathlib import Path

import pytest

from harness import spec
from harness.paths import share_root
from harness.spec.inventory import Inventory, declared_by

pytestmark = pytest.mark.selftest

SYSTEM = share_root() / "stack" / "systems" / "researchflow"
ASKED = [
    (name, field.name)
    for name, required in spec.load_requirements(SYSTEM).services.items()
    for field in fields(Inventory)
    if getattr(required.inventory, field.name) is not None
]
# What stands in system.yaml, and the wrong number that is planted in its place.
PLANTED = {
    ("ollama", "ports"): ("ports: {http: 11434}", "ports: {http: 11435}"),
    ("ollama", "health"): ("path: /api/tags, start_period_s", "path: /api/version, start_period_s"),
    ("ollama", "start_period_s"): ("path: /api/tags, start_period_s: 60", "path: /api/tags, start_period_s: 90"),
    ("ollama", "memory_gb"): ("memory_gb: 24", "memory_gb: 32"),
    ("ollama", "gpu"): ("gpu: true\n    image: ollama", "gpu: false\n    image: ollama"),
    ("triton", "ports"): ("grpc: 8001, metrics: 8002", "grpc: 8002, metrics: 8001"),
    ("triton", "health"): ("path: /v2/health/ready, start", "path: /v2/health/live, start"),
    ("triton", "memory_gb"): ("memory_gb: 32, cpus: 16", "memory_gb: 16, cpus: 16"),
    ("triton", "cpus"): ("cpus: 16", "cpus: 8"),
    ("triton", "gpus_max"): (", gpus_max: 2", ""),
    ("faiss", "ports"): ("ports: {http: 5000}", "ports: {http: 5001}"),
    ("faiss", "health"): ("/health, start_period_s: 30}\n    checks:\n      index", "/}\n    checks:\n      index"),
    ("faiss", "memory_gb"): ("memory_gb: 32, cpus: 8", "memory_gb: 64, cpus: 8"),
    ("redis", "ports"): ("ports: {redis: 6379}", "ports: {redis: 6380}"),
    ("redis", "health"): ("kind: redis, port: redis, start", "kind: tcp, port: redis, start"),
    ("prometheus", "ports"): ("ports: {http: 9090}", "ports: {http: 9091}"),
}  # fmt: skip


def test_nothing_is_planted_in_the_system_that_ships():
    """The negative control: all that is asked stands there."""
    assert spec.validate(SYSTEM) == []


@pytest.mark.parametrize("service, key", ASKED)
def test_a_wrong_number_is_refused_by_its_key(service: str, key: str, tmp_path: Path):
    """One wrong value in a copy of the system: validation names service, key, both values, and nothing else."""
    copy = Path(shutil.copytree(SYSTEM, tmp_path / "system"))
    old, new = PLANTED[service, key]
    text = (copy / "system.yaml").read_text()
    assert text.count(old) == 1, f"system.yaml has {old!r} {text.count(old)} times: mend this test"
    (copy / "system.yaml").write_text(text.replace(old, new))
    (error,) = spec.validate(copy)
    assert (error.key, error.where.rpartition("/")[2].partition(":")[0]) == (
        f"services.{service}.inventory.{key}",
        "conformance.yaml",
    )
    assert "in system.yaml, expected " in error.message


def test_every_key_of_a_requirement_is_compared():
    """No key can be asked for that nothing is compared with."""
    service = spec.load_system(SYSTEM).service("triton")
    assert set(declared_by(service)) == {field.name for field in fields(Inventory)}
