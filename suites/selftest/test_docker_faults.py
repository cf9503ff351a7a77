"""What goes wrong with containers is told by service, with its last lines and the mend; no engine is needed."""

import json
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.adapters import docker_owner
from harness.adapters.docker_arguments import Placement, arguments, plain
from harness.adapters.docker_faults import engine_problem, read_health, start_problem, unwell
from harness.adapters.docker_owner import is_dead, owner, remove, sweep
from harness.model.errors import EnvironmentProblem, SpecError
from harness.planning.composition import chosen, units
from harness.wiring.composition import shipped

pytestmark = pytest.mark.selftest

DATA = shipped()
PLACEMENT = Placement(
    run="r1", owner="me", inside="net", stack=Path("/s"), secrets=Path("/secrets"), targets=Path("/t"), cpus=2.0
)


def _asked(name: str, placement: Placement = PLACEMENT) -> dict[str, Any]:
    unit = next(unit for unit in units(DATA.composition) if unit.name == name)
    return plain(arguments(unit, DATA.composition, placement))


def test_a_limit_never_asks_for_more_cpus_than_the_engine_has():
    """Engines refuse a container outright that asks for more; the data's 16 become the machine's 2."""
    assert _asked("triton")["nano_cpus"] == 2_000_000_000


def test_settings_of_the_user_move_limits_and_commands():
    """As they do in the Compose file."""
    settings = {"REDIS_MEMORY_LIMIT": "1g", "REDIS_CPU_LIMIT": "0.5", "REDIS_MAXMEMORY": "512mb"}
    asked = _asked("redis", Placement(**{**_fields(), "settings": settings}))
    assert (asked["mem_limit"], asked["nano_cpus"]) == ("1g", 500_000_000)
    assert "--maxmemory 512mb" in asked["command"][-1]


def test_a_lowered_limit_lowers_what_is_kept():
    """An engine refuses a container that keeps more than it may take."""
    asked = _asked("redis", Placement(**{**_fields(), "settings": {"REDIS_MEMORY_LIMIT": "100m"}}))
    assert (asked["mem_limit"], asked["mem_reservation"]) == ("100m", "100m")
    assert _asked("redis")["mem_reservation"] == "512m"


@pytest.mark.parametrize(
    "variable, value",
    [("REDIS_MEMORY_LIMIT", "much"), ("REDIS_CPU_LIMIT", "two"), ("REDIS_CPU_LIMIT", "0"), ("REDIS_CPU_LIMIT", "nan")],
)
def test_a_limit_that_is_none_is_told_by_its_variable(variable: str, value: str):
    """A usage error with the mend, not the engine's."""
    with pytest.raises(SpecError, match=f"environment {variable}: found '{value}'"):
        _asked("redis", Placement(**{**_fields(), "settings": {variable: value}}))


def _fields() -> dict[str, Any]:
    names = ("run", "owner", "inside", "stack", "secrets", "targets", "cpus")
    return {name: getattr(PLACEMENT, name) for name in names}


def test_ports_are_published_on_loopback_alone_and_at_free_numbers():
    """Tests side by side do not meet, and nobody else on the network reaches them."""
    for unit in units(DATA.composition):
        asked = arguments(unit, DATA.composition, PLACEMENT)
        assert set(asked["ports"].values()) == {("127.0.0.1",)}
        assert len(asked["ports"]) == len(unit.service.ports)


def test_all_that_is_made_carries_run_and_owner():
    """Containers and their volumes: else the sweep would miss them."""
    for unit in units(DATA.composition):
        asked = _asked(unit.name)
        volumes = [one for one in asked.get("mounts", []) if one["Type"] == "volume"]
        assert asked["labels"].items() >= {"rollgate.run": "r1", "rollgate.owner": "me"}.items()
        assert asked["name"] == f"rollgate-r1-{unit.name}"
        for volume in volumes:
            assert volume["Source"].startswith("rollgate-r1-")
            assert volume["VolumeOptions"]["Labels"] == {"rollgate.run": "r1", "rollgate.owner": "me"}


def test_secrets_are_files_and_never_words():
    """What an engine shows of a container holds no password."""
    asked = _asked("redis")
    mounts = {one["Target"]: (one["Source"], one["ReadOnly"]) for one in asked["mounts"] if one["Type"] == "bind"}
    assert mounts == {"/run/secrets/redis_password": ("/secrets/redis_password", True)}
    assert "$(cat /run/secrets/redis_password)" in asked["command"][-1]


def test_gpus_are_asked_for_as_devices():
    """All, a number, and none in the variant without."""
    assert _asked("ollama")["device_requests"][0]["Count"] == -1
    assert _asked("triton")["device_requests"][0]["Count"] == 2
    assert "device_requests" not in _asked("triton-cpu")
    assert all(not unit.gpus for unit in chosen(DATA.composition, gpu=False))


@pytest.mark.parametrize(
    "state, elapsed, answer, word",
    [
        ({"Status": "created", "Running": False}, 0, "waiting", ""),
        ({"Running": True, "Health": {"Status": "starting"}}, 5, "waiting", ""),
        ({"Running": True, "Health": {"Status": "healthy"}}, 500, "well", ""),
        ({"Running": False, "OOMKilled": True, "ExitCode": 137}, 5, "failed", "want of memory"),
        ({"Running": False, "ExitCode": 3, "Error": "no such file"}, 5, "failed", "exit code 3: no such file"),
        ({"Running": False, "ExitCode": 0}, 5, "failed", "exit code 0"),
        (
            {"Running": True, "Health": {"Status": "unhealthy", "Log": [{"Output": "refused"}]}},
            5,
            "failed",
            "unhealthy after its start period; its check says: refused",
        ),
        ({"Running": True, "Health": {"Status": "starting"}}, 61, "failed", "not well after 60 s"),
        ({"Running": True}, 61, "failed", "not well after 60 s"),
    ],
)
def test_a_containers_state_is_read(state: dict[str, Any], elapsed: float, answer: str, word: str):
    """Only a health check that passed makes it well: running alone never does."""
    health = read_health(state, elapsed_s=elapsed, patience_s=60)
    assert health.answer == answer
    assert word in health.reason


@pytest.mark.parametrize(
    "said, expected, mend",
    [
        ("driver failed: Bind for 127.0.0.1:6379 failed: port is already allocated", "is taken", "by its variable"),
        ('could not select device driver "nvidia" with capabilities: [[gpu]]', "asks for a GPU", "NVIDIA's toolkit"),
        ("pull access denied for x, repository does not exist", "cannot be pulled", "build it"),
        ("Get https://x/v2/: dial tcp: lookup x: no such host", "cannot be pulled", "build it"),
        ("range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available", "more CPUs", "CPU_LIMIT"),
        ("something new", "something new", "its last lines"),
    ],
)
def test_what_an_engine_refuses_is_told_with_service_lines_and_mend(said: str, expected: str, mend: str):
    """Exit 4; the service, the reason, its last lines, what to do."""
    problem = start_problem("redis", "redis:8", said, "build it", tail="one\ntwo")
    assert problem.exit_code == 4
    assert str(problem).startswith("redis: ")
    assert expected in str(problem)
    assert "  redis | two" in str(problem)
    assert mend in problem.mend


@pytest.mark.parametrize(
    "said, expected",
    [
        ("('Connection aborted.', PermissionError(13, 'Permission denied'))", "does not let this user in"),
        ("('Connection aborted.', FileNotFoundError(2, 'No such file or directory'))", "no Docker engine answers"),
        ("Connection refused", "no Docker engine answers"),
        ("strange", "no Docker engine answers: strange"),
    ],
)
def test_an_engine_that_is_not_there_is_told(said: str, expected: str):
    """No daemon, no permission: each with its own mend."""
    problem = engine_problem(said)
    assert expected in str(problem)
    assert problem.mend


def test_of_a_containers_log_only_the_end_is_told():
    """Twelve lines; the whole is in the run's folder."""
    health = read_health({"Running": False, "ExitCode": 1}, elapsed_s=1, patience_s=1)
    text = str(unwell("redis", health, "\n".join(str(number) for number in range(100))))
    assert "redis | 99" in text
    assert "redis | 87" not in text


def test_an_owner_is_dead_only_when_that_is_sure():
    """Its process is gone, or the id is another's now; elsewhere and unreadable labels are left alone."""
    mine = owner()
    place, _, started = mine.rpartition("/")
    assert not is_dead(mine)
    assert is_dead(f"{place}/{float(started) - 100}")
    assert is_dead(f"{docker_owner.here()}/{_free_pid()}/1.0")
    assert not is_dead(f"elsewhere/1/{_free_pid()}/1.0")
    assert not is_dead("")
    assert not is_dead(f"{docker_owner.here()}/x/y")


def _free_pid() -> int:
    return next(pid for pid in range(4_000_000, 1, -1) if not psutil.pid_exists(pid))


class _Thing:
    """A container, network or volume of an engine that is only played."""

    def __init__(self, engine: "_Engine", kind: str, name: str, labels: dict[str, str]) -> None:
        self.engine, self.kind, self.name = engine, kind, name
        self.attrs = {"Config": {"Labels": labels}} if kind == "container" else {"Labels": labels}
        self.labels = labels

    def remove(self, **_: object) -> None:
        if self.kind != "container" and any(
            t.kind == "container" and t.labels == self.labels for t in self.engine.things
        ):
            raise docker_owner.APIError("in use")
        self.engine.things.remove(self)


class _Engine:
    """Lists by label, as docker does; removes a network or volume only when no container of the run is left."""

    def __init__(self) -> None:
        self.things: list[_Thing] = []
        self.containers, self.networks, self.volumes = (_List(self, k) for k in ("container", "network", "volume"))

    def add(self, run: str, whose: str) -> None:
        labels = {"rollgate.run": run, "rollgate.owner": whose}
        self.things += [_Thing(self, kind, f"{run}-{kind}", labels) for kind in ("network", "volume", "container")]


class _List:
    def __init__(self, engine: _Engine, kind: str) -> None:
        self.engine, self.kind = engine, kind

    def list(self, *, filters: dict[str, str], **_: object) -> list[_Thing]:
        name, _, value = filters["label"].partition("=")
        return [
            one
            for one in self.engine.things
            if one.kind == self.kind and name in one.labels and value in {"", one.labels[name]}
        ]


def test_the_sweep_removes_what_the_dead_left_and_nothing_else():
    """Containers before their networks and volumes; a live session's things, and those of others, stay."""
    engine = _Engine()
    engine.add("old", "dead")
    engine.add("now", "alive")
    engine.things.append(_Thing(engine, "container", "somebody's", {}))
    assert sweep(engine, lambda label: label == "dead") == ["old"]
    assert {one.name for one in engine.things} == {"now-container", "now-network", "now-volume", "somebody's"}


def test_what_cannot_be_removed_is_told(monkeypatch: pytest.MonkeyPatch):
    """A volume that stays in use: the answer names it, so that no session calls itself clean."""
    monkeypatch.setattr(docker_owner, "_PAUSE_S", 0.0)
    engine = _Engine()
    engine.add("run", "me")
    held = next(one for one in engine.things if one.kind == "volume")

    def refuse(**_: object) -> None:
        raise docker_owner.APIError("in use")

    held.remove = refuse  # type: ignore[method-assign]
    assert remove(engine, "run").volumes == ("run-volume",)
    assert json.dumps([one.name for one in engine.things]) == '["run-volume"]'


def test_there_are_two_fixtures_for_every_container():
    """One of the session and one of the test, named after it; none for what there is not."""
    from fixtures import containers  # noqa: PLC0415 - a plugin, not a package of the engine

    made = [one for one in vars(containers).values() if type(one).__name__ == "FixtureFunctionDefinition"]
    named = {one.name for one in made}
    aliases = {unit.alias.replace("-", "_") for unit in units(DATA.composition)}
    wanted = {f"{alias}_container" for alias in aliases} | {f"fresh_{alias}" for alias in aliases}
    assert {name for name in named if name and (name.endswith("_container") or name.startswith("fresh_"))} == wanted


def test_a_service_that_there_is_not_is_told_with_the_known_ones():
    """Before anything is asked of an engine."""
    from harness.adapters.docker_session import DockerSession  # noqa: PLC0415

    session = DockerSession(
        DATA.composition, {}, run="r", stack=Path(), state=Path("s"), logs=Path("l"), settings={}, gpu=False
    )
    with pytest.raises(EnvironmentProblem, match=r"known ones: .*redis"):
        session.start(["reddis"])
