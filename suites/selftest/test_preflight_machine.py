"""Facts of a real machine, and the commands over them: a closed socket, a taken port, an old program."""

import contextlib
import json
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from jsonschema import validate as conforms
from typer.testing import CliRunner

from harness.adapters.docker_machine import engine_facts, port_facts
from harness.adapters.machine import machine_facts, tool_fact
from harness.adapters.programs.catalog import VersionCheck
from harness.cli.main import app
from harness.cli.preflight import status
from harness.model.errors import SpecError
from harness.model.image import ChosenImage
from harness.planning.composition import chosen
from harness.spec.images import choose_images
from harness.spec.preflight import load_preflight
from harness.wiring.composition import shipped

pytestmark = pytest.mark.selftest

DATA = shipped()
UNITS = chosen(DATA.composition, gpu=False)
IMAGES: dict[str, ChosenImage] = choose_images(DATA.images, {})
ANSWER = {  # what --json prints, and keeps on printing
    "type": "object",
    "required": ["schema", "system", "provider", "stack", "status", "exit_code", "checks", "summary"],
    "additionalProperties": False,
    "properties": {
        "schema": {"const": 1},
        "system": {"type": "string"},
        "provider": {"enum": ["native", "docker"]},
        "stack": {"enum": ["native", "containers", "gpu"]},
        "status": {"enum": ["ok", "warning", "error"]},
        "exit_code": {"enum": [0, 4]},
        "checks": {
            "type": "array",
            "minItems": 5,
            "items": {
                "type": "object",
                "required": ["name", "status", "found", "expected", "mend"],
                "additionalProperties": False,
                "properties": {
                    "name": {"type": "string"},
                    "status": {"enum": ["ok", "unknown", "warning", "error"]},
                    "found": {"type": "string"},
                    "expected": {"type": "string", "minLength": 1},
                    "mend": {"type": "string"},
                },
            },
        },
        "summary": {
            "type": "object",
            "required": ["endpoints", "credentials", "documents", "next_steps", "note"],
            "maxProperties": 5,
        },
    },
}


@pytest.fixture
def rollgate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command in this process, with a cache of the test's own."""
    monkeypatch.setenv("ROLLGATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, arguments)


@contextlib.contextmanager
def _as_nobody() -> Iterator[None]:
    """Root may open every socket: for this test it is an ordinary user."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.covers("rf.pre.checks", level="simulated")
def test_a_socket_that_lets_nobody_in_is_told_with_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A real socket with nobody's permissions."""
    path = tmp_path / "s"
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as closed:
        closed.bind(str(path))
        closed.listen()
        path.chmod(0)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        with _as_nobody():
            engine, images, _ = engine_facts(UNITS, IMAGES, ())
    assert engine.problem == "the Docker socket does not let this user in"
    assert "group docker" in engine.mend
    assert images is None


@pytest.mark.covers("rf.pre.checks", level="simulated")
@pytest.mark.parametrize("address", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:9", "nonsense"])
def test_an_address_where_no_engine_is_is_told_with_the_mend(address: str, monkeypatch: pytest.MonkeyPatch):
    """No socket, nobody at the port, no address at all."""
    monkeypatch.setenv("DOCKER_HOST", address)
    engine, images, ports = engine_facts(UNITS, IMAGES, ())
    assert engine.problem.startswith("no Docker engine answers")
    assert engine.mend
    assert (images, ports) == (None, {})


@pytest.mark.covers("rf.pre.checks", level="simulated")
def test_a_taken_port_is_told_with_its_holder_and_a_free_one_is_not():
    """This test's own process holds it; the container's name goes before the process's where the engine knows it."""
    with contextlib.closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        number = held.getsockname()[1]
        settings = {"REDIS_PORT": str(number)}
        (redis,) = [one for one in port_facts(UNITS, settings, {}) if one.variable == "REDIS_PORT"]
        assert redis.number == number
        assert f"(pid {os.getpid()})" in redis.holder
        (named,) = [one for one in port_facts(UNITS, settings, {number: "container x"}) if one.holder == "container x"]
        assert named.service == "redis"
    (free,) = [one for one in port_facts(UNITS, settings, {}) if one.variable == "REDIS_PORT"]
    assert free.holder == ""


@pytest.mark.parametrize("text", ["many", "0", "70000", "-1", "6379x"])
def test_a_setting_that_is_no_port_is_a_fact_and_no_crash(text: str):
    """Judged like everything else."""
    (redis,) = [one for one in port_facts(UNITS, {"REDIS_PORT": text}, {}) if one.variable == "REDIS_PORT"]
    assert (redis.number, redis.found) == (0, text)


def _program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return path


@pytest.mark.covers("rf.pre.checks", level="simulated")
def test_programs_on_path_tell_their_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """docker, its compose plugin, and the standalone compose of old: none does not count as one."""
    _program(tmp_path, "docker", 'case $1 in compose) exit 1;; *) echo "Docker version 18.09.1, build 4c52b90";; esac')
    monkeypatch.setenv("PATH", str(tmp_path))
    _, tools = load_preflight()

    def found(name: str) -> tuple[str, bool]:
        tool = tools[name]
        program, *words = tool.command or [name]
        check = VersionCheck(arguments=(*words, *tool.version.arguments), pattern=tool.version.pattern)
        fact = tool_fact(name, program, check, tool.module)
        return fact.version, bool(fact.path)

    assert found("docker") == ("18.09.1", True)
    assert found("compose") == ("", False)
    assert found("curl") == ("", False)
    _program(tmp_path, "docker", "echo 'Docker Compose version v2.30.3'")
    assert found("compose") == ("2.30.3", True)


def test_a_module_that_is_not_there_has_no_version():
    """Nor has one without a name; what comes with Python has Python's."""
    check = VersionCheck(arguments=("--version",), pattern="(x)")
    assert tool_fact("x", "no-such-program", check, "no_such_module").module_version == ""
    assert tool_fact("x", "no-such-program", check, "").module_version == ""
    assert tool_fact("x", "no-such-program", check, "json").module_version.startswith("3.")


def test_this_machines_facts_are_plausible(tmp_path: Path):
    """A cache folder that is not there yet is measured by the folder above it."""
    facts = machine_facts(tmp_path / "not" / "yet")
    assert facts.cores >= 1
    assert facts.memory_bytes > 2**28
    assert facts.cache.free_bytes
    assert facts.cache.writable
    assert facts.python == tuple(sys.version_info[:3])


@pytest.mark.covers("rf.pre.checks", level="simulated")
def test_without_an_engine_preflight_ends_in_4_with_one_line_a_finding(
    tmp_path: Path, rollgate: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
):
    """A dead address and an old docker on PATH, as the whole command sees them; no colour where no terminal is."""
    (tmp_path / "bin").mkdir()
    _program(tmp_path / "bin", "docker", 'echo "Docker version 18.09.1, build 4c52b90"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    done = rollgate("preflight", "researchflow", "--provider", "docker")
    assert done.exit_code == 4, done.output
    lines = {line[9:].partition(":")[0]: line for line in done.stdout.splitlines() if line[:8].strip()}
    assert lines["engine"].startswith("error    engine: no Docker engine answers at unix:///nowhere; expected")
    assert "— start it" in lines["engine"]
    assert lines["docker"].startswith("warning  docker: 18.09.1")
    assert lines["images"].startswith("unknown")
    assert "Mend the errors" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.covers("rf.pre.summary", level="simulated")
@pytest.mark.parametrize("provider", ["native", "docker"])
def test_json_has_its_stable_keys_and_no_secret(
    rollgate: Callable[..., Result], provider: str, monkeypatch: pytest.MonkeyPatch
):
    """On stdout alone, with the command's own exit code."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    monkeypatch.setenv("REDIS_PASSWORD", "hunter2")
    done = rollgate("doctor", "--provider", provider, "--json")
    answer = json.loads(done.stdout)
    conforms(answer, ANSWER)
    assert answer["exit_code"] == done.exit_code
    assert answer["provider"] == provider
    assert "hunter2" not in done.output
    if provider == "docker":
        assert answer["status"] == "error"
        assert {"service", "port", "address", "variable"} == set(answer["summary"]["endpoints"][0])
        assert {"name", "file", "variable", "read_by"} == set(answer["summary"]["credentials"][0])


@pytest.mark.parametrize(
    "arguments, told",
    [
        (("preflight", "researchflow", "--provider", "podman"), "expected native or docker"),
        (("preflight", "minimal", "--provider", "docker"), "no other system has containers yet"),
        (("preflight", "nosuchsystem", "--provider", "docker"), "nosuchsystem"),
        (("doctor", "--gpu"), "a native stack has no GPUs"),
    ],
)
def test_wrong_usage_is_an_error_of_usage(rollgate: Callable[..., Result], arguments: tuple[str, ...], told: str):
    """Exit code 2 and a mend; nothing is looked at."""
    problem = rollgate(*arguments).exception
    assert isinstance(problem, SpecError)
    assert told in str(problem)
    assert problem.mend


@pytest.mark.covers("rf.pre.summary", level="simulated")
def test_on_a_terminal_the_status_is_coloured_and_not_with_no_color(monkeypatch: pytest.MonkeyPatch):
    """Green, yellow and red; none where the output goes elsewhere."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert [status(level)[:5] for level in ("ok", "warning", "error")] == ["\x1b[32m", "\x1b[33m", "\x1b[31m"]
    assert status("unknown") == "unknown "
    monkeypatch.setenv("NO_COLOR", "1")
    assert status("error") == "error   "
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    assert status("error") == "error   "


@pytest.mark.docker
@pytest.mark.covers("rf.pre.checks", "rf.pre.summary", level="live")
def test_a_real_engine_is_seen_with_version_memory_disk_and_images(
    docker_engine: None, rollgate: Callable[..., Result]
):
    """What the engine itself says, through the whole command; nothing is started."""
    del docker_engine
    engine, images, _ = engine_facts(UNITS, IMAGES, {"redis"})
    assert engine.problem == ""
    assert engine.version
    assert engine.memory_bytes > 2**28
    assert images is not None
    assert {one.key for one in images} == {unit.service.image for unit in UNITS}
    assert [one.key for one in images if one.needed] == ["redis"]
    answer = json.loads(rollgate("doctor", "--provider", "docker", "--no-gpu", "--json").stdout)
    found = {check["name"]: check for check in answer["checks"]}
    assert found["engine"]["status"] == "ok"
    assert engine.version in found["engine"]["found"]
    assert found["images"]["status"] == "ok"
    assert answer["summary"]["endpoints"]
