"""stack/compose.yaml: made from the data, valid by the specification, and the same as what fixtures start."""

import importlib.resources
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from harness.adapters.docker_arguments import Placement, arguments, plain
from harness.adapters.docker_compose import compose
from harness.model.composition import PROFILES, Amount, Gpus, Unit
from harness.paths import share_root
from harness.planning.composition import units
from harness.wiring.composition import COMPOSE_FILE, compose_file, compose_problems, drift, shipped

pytestmark = pytest.mark.selftest

DATA = shipped()
EXPECTED = compose_file()[1]
FILE: dict[str, Any] = yaml.load((share_root() / COMPOSE_FILE).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>\w+)(?::(?P<how>[-+])(?P<text>(?:[^{}]|\{[^{}]*\})*))?\}")


def _interpolated(value: Any) -> Any:  # noqa: ANN401 - YAML, as it comes
    """Return what Compose reads with no variable set: defaults in, `$$` to `$`."""
    if isinstance(value, dict):
        return {key: _interpolated(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_interpolated(item) for item in value]
    if not isinstance(value, str):
        return value

    def put(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return _interpolated(match["text"]) if match["how"] == "-" else ""

    return _VARIABLE.sub(put, value)


PLAIN: dict[str, Any] = _interpolated(FILE)


def test_the_file_is_what_the_data_make():
    """Nobody edited it, nobody forgot to write it; `--check` says the same."""
    assert compose_problems() == []


def test_planted_drift_is_told_with_its_line(tmp_path: Path):
    """A limit raised by hand, and a file that is away."""
    lines = EXPECTED.splitlines()
    number = next(i for i, line in enumerate(lines, 1) if "REDIS_MEMORY_LIMIT" in line)
    lines[number - 1] = lines[number - 1].replace("10g", "12g")
    path = tmp_path / "compose.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    [problem] = drift(path, EXPECTED)
    assert problem.where == f"{path}:{number}"
    assert "rollgate stack compose" in str(problem)
    assert drift(tmp_path / "none.yaml", EXPECTED)[0].where.endswith("none.yaml:1")


@pytest.mark.parametrize(
    "change",
    [
        {"image": "mlflow"},
        {"limits": Amount(memory_gb=3, cpus=1)},
        {"gpus": Gpus(count=1)},
        {"stop_s": 11.0},
        {"read_only": True},
        {"job": "other"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_change_of_the_data_changes_the_file(change: dict[str, Any]):
    """Nothing of these is written past the data."""
    before = DATA.composition
    services = tuple(replace(one, **change) if one.name == "triton" else one for one in before.services)
    assert compose(replace(before, services=services), DATA.images) != compose(before, DATA.images)


def _schema() -> dict[str, Any]:
    path = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    return json.loads(path.read_text(encoding="utf-8"))


VALIDATOR = jsonschema.Draft202012Validator(_schema())


def test_the_file_fits_the_specifications_schema():
    """Before interpolation and after it."""
    assert [error.message for error in VALIDATOR.iter_errors(FILE)] == []
    assert [error.message for error in VALIDATOR.iter_errors(PLAIN)] == []


@pytest.mark.parametrize(
    "keys, value",
    [
        (("services", "redis", "imagee"), "redis:8"),
        (("services", "redis", "healthcheck", "start"), "5s"),
        (("services", "redis", "ports"), {"6379": "6379"}),
        (("services", "redis", "deploy", "resources", "limits", "ram"), "8g"),
        (("services", "triton", "deploy", "resources", "reservations", "devices", 0, "capabilities"), "gpu"),
        (("services", "redis", "depends_on"), {"router": {"condition": "service_well"}}),
        (("networks", "stack", "internal"), ["yes"]),
        (("containers",), {}),
    ],
    ids=lambda item: str(item[-1]) if isinstance(item, tuple) else "",
)
def test_the_schema_refuses_planted_faults(keys: tuple[str | int, ...], value: object):
    """Else a file that fits it proves nothing."""
    data: Any = json.loads(json.dumps(FILE))
    at = data
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = value
    assert list(VALIDATOR.iter_errors(data))


def profile_faults(file: dict[str, Any], profiles: set[str]) -> list[str]:
    """Return what is wrong with the file (interpolated) when `profiles` are started together."""
    active = {name: one for name, one in file["services"].items() if profiles & set(one["profiles"])}
    wrong = [] if active else ["nothing starts"]
    ports: dict[str, str] = {}
    aliases: dict[str, str] = {}
    for name, one in active.items():
        needed = [other for other, how in one.get("depends_on", {}).items() if how["required"]]
        wrong += [f"{name} needs {other}, which is not started" for other in needed if other not in active]
        unknown = [other for other in one.get("depends_on", {}) if other not in file["services"]]
        wrong += [f"{name} waits for {other}, which does not exist" for other in unknown]
        for port in one.get("ports", []):
            host = port.rpartition(":")[0]
            wrong += [f"{name} and {ports[host]} publish {host}"] if host in ports else []
            ports[host] = name
        for alias in [name, *((one["networks"]["stack"] or {}).get("aliases", []))]:
            wrong += [f"{name} and {aliases[alias]} are both called {alias}"] if alias in aliases else []
            aliases[alias] = name
        wrong += [f"{name} is in no network {net}" for net in one["networks"] if net not in file["networks"]]
        for kind in ("configs", "secrets"):
            sources = [item["source"] for item in one.get(kind, [])]
            wrong += [f"{name} has no {kind} {source}" for source in sources if source not in file[kind]]
        sources = [item["source"] for item in one.get("volumes", []) if item["type"] == "volume"]
        wrong += [f"{name} has no volume {source}" for source in sources if source not in file["volumes"]]
    return wrong


def _together() -> Iterator[set[str]]:
    for size in range(1, len(PROFILES) + 1):
        for several in itertools.combinations(PROFILES, size):
            if not {"gpu", "cpu"} <= set(several):
                yield set(several)


@pytest.mark.parametrize("profiles", list(_together()), ids=lambda some: "+".join(sorted(some)))
def test_every_profile_is_whole(profiles: set[str]):
    """All that is needed starts, no port is published twice, no name is given twice: alone and together."""
    assert profile_faults(PLAIN, profiles) == []


def test_planted_faults_of_a_profile_are_told():
    """With GPUs and without at once; a requirement that is not started; a volume, a network and a secret of nobody."""
    assert any("publish 127.0.0.1:8000" in one for one in profile_faults(PLAIN, {"gpu", "cpu"}))
    assert profile_faults(PLAIN, {"none"}) == ["nothing starts"]
    data: Any = json.loads(json.dumps(PLAIN))
    data["services"]["redis"]["depends_on"] = {"mlflow": {"required": True}, "none": {"required": False}}
    data["services"]["redis"]["volumes"] = [{"type": "volume", "source": "none"}]
    data["services"]["redis"]["secrets"] = [{"source": "none"}]
    data["services"]["redis"]["networks"] = {"stack": None, "none": None}
    assert len(profile_faults(data, {"cpu"})) == 5


def test_every_service_is_limited_logged_labelled_isolated_and_started_again():
    """What the source asks of all services, in the file itself."""
    assert FILE["networks"]["stack"]["internal"] is True
    for name, one in FILE["services"].items():
        assert one["logging"] == {"driver": "json-file", "options": {"max-size": "100m", "max-file": "10"}}, name
        for kind in ("limits", "reservations"):
            assert {"memory", "cpus"} <= set(one["deploy"]["resources"][kind]), name
        assert one["restart"] == "unless-stopped"
        assert one["labels"]["rollgate.service"]
        assert one["healthcheck"]["start_period"]
        assert ("edge" in one["networks"]) == ("ports" in one)
        assert all(port.startswith("${ROLLGATE_BIND:-127.0.0.1}:") for port in one.get("ports", []))


def test_gpus_are_asked_for_in_the_profile_gpu_alone():
    """All of them, a number, as the data say; the variants without share the name on the network."""
    asked = {
        name: one["deploy"]["resources"]["reservations"]["devices"]
        for name, one in FILE["services"].items()
        if "devices" in one["deploy"]["resources"]["reservations"]
    }
    assert {name: devices[0]["count"] for name, devices in asked.items()} == {
        "ollama": "all",
        "triton": 2,
        "gpu_exporter": "all",
        "dcgm_exporter": "all",
    }
    assert all(FILE["services"][name]["profiles"] == ["gpu"] for name in asked)
    assert FILE["services"]["triton-cpu"]["networks"]["stack"] == {"aliases": ["triton"]}


def test_gpus_by_id_are_rendered_as_ids():
    """Device ids take the place of a number, in both views."""
    services = tuple(
        replace(one, gpus=Gpus(ids=("0", "GPU-1"))) if one.name == "triton" else one
        for one in DATA.composition.services
    )
    composition = replace(DATA.composition, services=services)
    [device] = compose(composition, DATA.images)["services"]["triton"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "device_ids": ["0", "GPU-1"], "capabilities": ["gpu"]}


def test_no_secret_stands_in_the_file():
    """Passwords are files; nothing in the environment of a service is one."""
    for name, one in FILE["services"].items():
        for variable, value in one.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN$", variable):
                assert value.startswith("/run/secrets/"), f"{name}: {variable}"
    assert all(set(secret) == {"file"} for secret in FILE["secrets"].values())


PLACEMENT = Placement(
    run="r1",
    owner="me",
    inside="net",
    stack=Path("/s"),
    secrets=Path("/secrets"),
    targets=Path("/targets"),
    cpus=64,
    quick_health=False,
    restarts=True,
)


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e9:g}s"


def differences(compose_view: dict[str, Any], made: dict[str, Any]) -> list[str]:
    """Return in which respects a service of the file is not what the fixtures start; both as plain values."""
    resources, health = compose_view["deploy"]["resources"], made["healthcheck"]
    devices = [
        {
            "driver": one["Driver"],
            **({"device_ids": one["DeviceIDs"]} if one["DeviceIDs"] else {"count": one["Count"]}),
            "capabilities": one["Capabilities"][0],
        }
        for one in made.get("device_requests", [])
    ]
    asked = [
        {**one, **({"count": -1} if one.get("count") == "all" else {})}
        for one in resources["reservations"].get("devices", [])
    ]
    pairs = {
        "command": (compose_view.get("command"), made.get("command")),
        "entrypoint": (compose_view.get("entrypoint"), made.get("entrypoint")),
        "environment": (compose_view.get("environment"), made.get("environment")),
        "user": (compose_view.get("user"), made.get("user")),
        "pid": (compose_view.get("pid"), made.get("pid_mode")),
        "read_only": (compose_view.get("read_only"), made.get("read_only")),
        "tmpfs": (compose_view.get("tmpfs", []), list(made.get("tmpfs", {}))),
        "shm": (compose_view.get("shm_size"), made.get("shm_size")),
        "security": (compose_view["security_opt"], made["security_opt"]),
        "capabilities": (compose_view.get("cap_drop"), made.get("cap_drop")),
        "memory": (resources["limits"]["memory"], made["mem_limit"]),
        "kept memory": (resources["reservations"]["memory"], made["mem_reservation"]),
        "cpus": (float(resources["limits"]["cpus"]), made["nano_cpus"] / 1e9),
        "gpus": (asked, devices),
        "health": (compose_view["healthcheck"]["test"], health["test"]),
        "start period": (compose_view["healthcheck"]["start_period"], _seconds(health["start_period"])),
        "interval": (compose_view["healthcheck"]["interval"], _seconds(health["interval"])),
        "timeout": (compose_view["healthcheck"]["timeout"], _seconds(health["timeout"])),
        "retries": (compose_view["healthcheck"]["retries"], health["retries"]),
        "log": (compose_view["logging"]["options"], made["log_config"]["Config"]),
        "restart": (compose_view["restart"], made["restart_policy"]["Name"]),
        "mounts": (
            sorted(
                {one["target"] for one in [*compose_view.get("volumes", []), *compose_view.get("secrets", [])]}
                | {Path(one["target"]).parent.as_posix() for one in compose_view.get("configs", [])}
            ),
            sorted(one["Target"] for one in made.get("mounts", [])),
        ),
    }
    found = [f"{what}: {a!r} and {b!r}" for what, (a, b) in pairs.items() if a != b]
    lost = {name: value for name, value in compose_view["labels"].items() if made["labels"].get(name) != value}
    return [*found, *(f"label {name}: {value!r}" for name, value in lost.items())]


@pytest.mark.parametrize("unit", units(DATA.composition), ids=lambda unit: unit.name)
def test_fixtures_start_what_the_file_says(unit: Unit):
    """Command, environment, limits, GPUs, health, mounts, log and labels of each container, seen by both readers."""
    made = plain(arguments(unit, DATA.composition, PLACEMENT))
    assert differences(PLAIN["services"][unit.name], made) == []


@pytest.mark.parametrize(
    "key, value",
    [
        ("mem_limit", "1g"),
        ("nano_cpus", 1),
        ("command", ["tritonserver"]),
        ("device_requests", []),
        ("labels", {}),
        ("mounts", []),
        ("shm_size", "64m"),
    ],
)
def test_a_planted_difference_of_the_two_views_is_found(key: str, value: object):
    """Else their agreement proves nothing."""
    unit = next(one for one in units(DATA.composition) if one.name == "triton")
    made = plain(arguments(unit, DATA.composition, PLACEMENT)) | {key: value}
    assert differences(PLAIN["services"]["triton"], made)


def test_compose_itself_reads_every_profile(tmp_path: Path):
    """`docker compose config`, where the plugin is on the machine."""
    docker = shutil.which("docker")
    plugin = docker and subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0
    if not plugin:
        pytest.skip("not_applicable: no docker compose plugin on this machine; the schema alone was asked")
    for name in FILE["secrets"]:
        (tmp_path / name).write_text("planted", encoding="utf-8")
    for profile in PROFILES:
        command = [docker, "compose", "-f", str(share_root() / COMPOSE_FILE), "--profile", profile, "config", "-q"]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={"ROLLGATE_SECRETS": str(tmp_path)}
        )
        assert done.returncode == 0, done.stderr
