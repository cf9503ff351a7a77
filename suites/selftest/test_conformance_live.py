"""Conformance cases on real programs: each rejects the one violation that is planted for it, and nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import native_runs
import pytest

from harness import spec
from harness.adapters.suites import PytestSuites
from harness.model.evidence import Arm
from harness.paths import share_root

pytestmark = pytest.mark.selftest

SYSTEMS = Path(spec.find_system("minimal")).parent
SERVICES = """
  redis:
    ports: {redis: 6379}
    resources: {memory_gb: 10}
    health: {kind: redis, port: redis}
    native:
      programs: [redis-server]
      files: {redis/redis.conf: redis.conf}
      command: ["${bin.redis-server}", "${dir}/redis.conf"]
  prometheus:
    ports: {http: 9090}
    health: {kind: http, port: http, path: /-/ready}
    metrics: {port: http, path: /metrics}
    job: prometheus
    native:
      programs: [prometheus]
      files: {prometheus/prometheus.yml: prometheus.yml, prometheus/rules/: rules}
      command:
        - "${bin.prometheus}"
        - --config.file=${dir}/prometheus.yml
        - --storage.tsdb.path=${dir}/data
        - --storage.tsdb.retention.time=RETENTION
        - --web.listen-address=127.0.0.1:${port.http}
"""
OLLAMA = """
  ollama:
    ports: {http: 11434}
    health: {kind: http, port: http, path: /api/tags}
    native:
      stand_in: the llama.cpp engine with a generated model
      programs: [libgomp]
      command: ["${python}", "-m", "rollgate_ollama_facade"]
      env:
        PYTHONPATH: "${share}/stack/services/ollama_facade/src:${share}/stack/services/serving/src"
        OLLAMA_HOST: "${ollama.http}"
        OLLAMA_MODEL_FILE: "${system}/tiny.gguf"
        OLLAMA_NUM_PARALLEL: "SLOTS"
"""
PROMETHEUS = """
global:
  scrape_interval: 15s
  evaluation_interval: 15s
rule_files: [rules/*.yml]
scrape_configs:
  - job_name: prometheus
    file_sd_configs: [{files: [targets/prometheus.json]}]
    relabel_configs:
      - {target_label: service, replacement: prometheus}
      - {target_label: LABEL, replacement: monitoring}
"""
RULES = """
groups:
  - name: first
    rules: [{record: a, expr: vector(1)}]
"""
SHORT = "health: {kind: http, port: http, path: /health, start_period_s: 3}"
FACTS = """
schema: 1
services:
  redis:
    covers: [aa.svc.redis]
    facts: {auth: password, maxmemory_gb: 8, policy: allkeys-lru, append_only: true, maxclients_above: 10000}
  prometheus: {facts: {retention: 30d}}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The minimal system with the Redis of researchflow and a small Prometheus beside it."""
    native_runs.need("haproxy", "redis-server", "prometheus")
    folder = Path(shutil.copytree(SYSTEMS / "minimal", tmp_path / "system"))
    shutil.copytree(SYSTEMS / "researchflow" / "redis", folder / "redis")
    text = (folder / "system.yaml").read_text()
    text = text.replace("\nservices:\n", "\nsecrets: [redis_password]\n\nservices:\n")
    text = text.replace("  unit: session", "  metrics_service: prometheus.http\n  unit: session")
    text = text.replace("\nsignals:\n", SERVICES.replace("RETENTION", "30d") + "\nsignals:\n")
    (folder / "system.yaml").write_text(text)
    (folder / "prometheus" / "rules").mkdir(parents=True)
    (folder / "prometheus" / "prometheus.yml").write_text(PROMETHEUS.replace("LABEL", "component"))
    (folder / "prometheus" / "rules" / "rules.yml").write_text(RULES)
    (folder / "conformance.yaml").write_text(FACTS)
    return folder


def edit(path: Path, *changes: tuple[str, str]) -> None:
    """Replace texts in a file, each of which must be there."""
    text = path.read_text()
    for old, new in changes:
        assert old in text, f"{path.name} has no {old!r}: mend this test"
        text = text.replace(old, new)
    path.write_text(text)


def failing(root: Path, folder: Path, release: str = "good") -> dict[str, str]:
    """Bring the system up with `release`, run its suites, and return the failing cases with their messages."""
    system = spec.load_system(root)
    arms = {
        Arm.BASELINE: spec.load_release(spec.find_release(system, "baseline"), system),
        Arm.CANDIDATE: spec.load_release(spec.find_release(system, release), system),
    }
    provider = native_runs.run_of(system, folder, arms=arms, time_scale=30)
    try:
        stack = provider.up()
        cases = PytestSuites(system, out=folder / "out").run(stack, "smoke")
    finally:
        provider.down()
    assert len(cases) > 12
    return {case.name.rpartition("::")[2]: case.message for case in cases if case.outcome != "passed"}


def test_a_sound_stack_passes_every_case(root: Path, tmp_path: Path):
    """The negative control: nothing planted, nothing rejected."""
    assert failing(root, tmp_path / "run") == {}


def test_each_wrong_setting_is_rejected_by_its_own_case(root: Path, tmp_path: Path):
    """Redis without LRU, append-only file, room or memory; Prometheus with a short memory and unlabelled series."""
    edit(
        root / "redis" / "redis.conf",
        ("maxmemory 8gb", "maxmemory 1gb"),
        ("maxmemory-policy allkeys-lru", "maxmemory-policy noeviction"),
        ("appendonly yes", "appendonly no"),
        ("maxclients 20000", "maxclients 500"),
    )
    edit(root / "system.yaml", ("retention.time=30d", "retention.time=7d"))
    edit(root / "prometheus" / "prometheus.yml", ("target_label: component", "target_label: komponent"))
    assert set(failing(root, tmp_path / "run")) == {
        "test_redis_keeps_to_its_memory",
        "test_redis_appends_to_its_file",
        "test_redis_has_room_for_connections",
        "test_prometheus_keeps_what_it_must",
        "test_every_series_bears_its_service_and_component",
    }


def test_open_doors_and_dead_targets_are_rejected(root: Path, tmp_path: Path):
    """Redis without its password, a target that speaks no HTTP, and rules that were not loaded."""
    edit(root / "redis" / "redis.conf", ("requirepass ${secret.redis_password}\n", ""))
    edit(root / "redis" / "redis.conf", ("protected-mode yes", "protected-mode no"))
    edit(
        root / "system.yaml",
        (
            "health: {kind: redis, port: redis}",
            "health: {kind: tcp, port: redis}\n    metrics: {port: redis}\n    job: prometheus",
        ),
    )
    edit(root / "prometheus" / "prometheus.yml", ("rules/*.yml", "rules/none-*.yml"))
    found = set(failing(root, tmp_path / "run"))
    assert found >= {
        "test_redis_refuses_who_knows_no_password",
        "test_prometheus_scrapes_what_both_arms_share",
        "test_the_alert_rules_are_loaded",
    }
    assert not {name for name in found if name.startswith(("test_a_forced", "test_the_router"))}


def test_a_release_that_breaks_the_contract_fails_its_case_on_its_arm_alone(root: Path, tmp_path: Path):
    """A candidate that says it is the baseline is caught by name, and the baseline's cases stay clean."""
    found = failing(root, tmp_path / "run", "wrong-arm")
    assert set(found) == {
        "test_a_forced_request_reaches_its_arm[candidate]",
        "test_an_instance_says_itself_which_arm_it_is[candidate]",
    }


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """The minimal system with a language model of one slot fewer than the four that are required."""
    native_runs.need("haproxy", "libgomp")
    folder = Path(shutil.copytree(SYSTEMS / "minimal", tmp_path / "system"))
    edit(folder / "system.yaml", ("\nsignals:\n", OLLAMA.replace("SLOTS", "3") + "\nsignals:\n"))
    (folder / "conformance.yaml").write_text("schema: 1\nservices:\n  ollama: {facts: {parallel: 4}}\n")
    made = "import pathlib, sys, tiny_llama; tiny_llama.build(pathlib.Path(sys.argv[1]))"
    models = share_root() / "stack" / "services" / "models"
    subprocess.run([sys.executable, "-c", made, folder / "tiny.gguf"], cwd=models, check=True, capture_output=True)
    return folder


def test_a_slot_too_few_is_rejected_and_as_many_as_required_pass(engine: Path, tmp_path: Path):
    """Three slots answer four requests one after the other, which status codes alone would not show; four do not."""
    assert set(failing(engine, tmp_path / "three")) == {"test_requests_run_side_by_side"}
    edit(engine / "system.yaml", ('OLLAMA_NUM_PARALLEL: "3"', 'OLLAMA_NUM_PARALLEL: "4"'))
    assert failing(engine, tmp_path / "four") == {}


def test_an_instance_that_outgrows_its_limit_or_its_inventory_is_rejected(root: Path, tmp_path: Path):
    """Redis takes more than a limit of 1 MB, and declares a port that it does not serve; its neighbours stay clean."""
    edit(root / "system.yaml", ("memory_gb: 10", "memory_gb: 0.001"))
    edit(root / "system.yaml", ("ports: {redis: 6379}", "ports: {redis: 6379, tls: 6380}"))
    assert set(failing(root, tmp_path / "run")) == {
        "test_an_instance_answers_on_every_port_that_it_declares[redis]",
        "test_an_instance_keeps_within_its_memory[redis]",
    }


def test_a_candidate_that_is_not_well_in_time_is_rejected_on_its_arm_alone(root: Path, tmp_path: Path):
    """Its port opens only after the start period; the baseline's cases of the inventory stay clean."""
    edit(root / "system.yaml", ("health: {kind: http, port: http, path: /health, start_period_s: 10}", SHORT))
    late = "schema: 1\nname: late\nversion: '1'\ncommand: {app: [sh, -c, 'sleep 9; exec \"$0\" \"$1\"', PYTHON, APP]}\n"
    late = late.replace("PYTHON", '"${python}"').replace("APP", '"${system}/app.py"')
    (root / "releases" / "late.yaml").write_text(late)
    found = set(failing(root, tmp_path / "run", "late"))
    assert "test_an_instance_was_well_within_its_start_period[app-candidate]" in found
    assert not {name for name in found if name.startswith("test_an_instance_") and "candidate" not in name}
