"""The whole stack on a real engine: what every container is held to, who conforms, who is started again, what is kept.

Images that were built here stand for those that no registry serves; the stack's own records say which.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from harness import spec
from harness.adapters.docker_compose import LABEL
from harness.adapters.docker_owner import left
from harness.adapters.docker_session import connect
from harness.adapters.stack_file import read_description
from harness.adapters.suites import PytestSuites
from harness.model.errors import EnvironmentProblem
from harness.model.event import Event
from harness.model.evidence import Arm
from harness.model.system import System
from harness.paths import cache_root
from harness.ports import Stack
from harness.run.gate import Request
from harness.wiring import choose_plan
from harness.wiring.composition import shipped
from harness.wiring.site import DockerSite

pytestmark = [pytest.mark.selftest, pytest.mark.docker, pytest.mark.alone, pytest.mark.timeout(600)]

GB = 1024**3
_PATIENCE_S = 60.0
_NEEDED = ("haproxy", "gateway", "ollama", "exporters", "triton", "faiss", "redis", "redis_exporter", "prometheus")
_OF_MONITORING = ("alertmanager", "node_exporter")


@dataclass(frozen=True)
class Up:
    """A stack that is up for the tests of this module."""

    system: System
    site: DockerSite
    stack: Stack
    out: Path

    def container(self, name: str) -> Any:  # noqa: ANN401 - docker has no types
        told = next(one for one in read_description(self.out / "stack.json")["instances"] if one["name"] == name)
        return self.client.containers.get(told["container"])

    @property
    def client(self) -> Any:  # noqa: ANN401
        return self.site.provider._session._client  # type: ignore[attr-defined]  # noqa: SLF001


@pytest.fixture(scope="module")
def up(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """The stack of the system that ships, with its good release; nothing is pulled or built by a test."""
    del docker_engine
    images, client = shipped().images, connect()
    names = {name for one in client.images.list() for name in one.tags}
    client.close()
    for key in (*_NEEDED, *_OF_MONITORING):
        if not names & {images[key].plain, images[key].local_name, os.environ.get(images[key].variable, "-")}:
            pytest.skip(f"not_applicable: the engine has no image of {key} (`make images`)")
    system = spec.load_system(spec.find_system("researchflow"))
    out, said = tmp_path_factory.mktemp("docker"), list[Event]()
    request = Request(
        run_id=f"live{os.getpid()}",
        system=system,
        plan=choose_plan(system, "docker", None),
        arms={
            arm: spec.load_release(spec.find_release(system, name), system)
            for arm, name in ((Arm.BASELINE, "baseline"), (Arm.CANDIDATE, "good"))
        },
        out=out,
        seed=1,
    )
    site = DockerSite(request, said.append)
    site.preflight()
    stack = site.provider.up()
    try:
        yield Up(system, site, stack, out)
    finally:
        site.provider.down()
    client = connect()
    assert not left(client, request.run_id)
    client.close()


@pytest.mark.covers("rf.svc.all")
def test_every_container_is_held_to_what_all_services_are(up: Up):
    """Rotated logs, limits and reservations, labels, an internal network, restart, and no more rights than it needs."""
    found = up.client.containers.list(filters={"label": f"{LABEL}.run=live{os.getpid()}"})
    assert len(found) == len(up.stack.instances())
    for one in found:
        asked = one.attrs["HostConfig"]
        assert asked["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "100m", "max-file": "10"}}, one.name
        assert 0 < asked["MemoryReservation"] <= asked["Memory"], one.name
        assert asked["NanoCpus"] > 0, one.name
        assert asked["RestartPolicy"]["Name"] == "unless-stopped", one.name
        assert "no-new-privileges:true" in asked["SecurityOpt"], one.name
        assert {f"{LABEL}.service", f"{LABEL}.component", f"{LABEL}.owner"} <= set(one.labels), one.name
        networks = one.attrs["NetworkSettings"]["Networks"]
        inside = [name for name in networks if up.client.networks.get(name).attrs["Internal"]]
        assert len(inside) == 1, one.name
        published = [port for ports in asked["PortBindings"].values() for port in ports]
        assert {port["HostIp"] for port in published} == {"127.0.0.1"}, one.name


def test_the_conformance_suites_hold_on_containers(up: Up):
    """Every case passes, but for services that this machine has no image of: those are skipped with the reason."""
    cases = PytestSuites(up.system, out=up.out).run(up.stack, "smoke")
    assert len(cases) > 60
    assert [f"{case.name}: {case.message[:200]}" for case in cases if case.outcome in {"failed", "error"}] == []
    absent = set(read_description(up.out / "stack.json").get("absent", {}))
    skipped = {case.name.partition("[")[2].rstrip("]") for case in cases if case.outcome == "skipped"}
    assert skipped <= absent | {"docker"}


def test_the_lease_is_held_by_a_file_and_ends_with_it(up: Up):
    """The router in its container sees the driver's socket, and all traffic returns when that is gone."""
    router = up.site.provider.router()
    router.set_limit(2500)
    assert not router.read().lease_held
    router.hold_lease()
    try:
        assert (router.read().limit, router.read().lease_held) == (2500, True)
    finally:
        router.drop_lease()
    until = time.monotonic() + 5
    while router.read().lease_held and time.monotonic() < until:
        time.sleep(0.05)
    assert not router.read().lease_held
    router.set_limit(0)


def test_what_exits_is_started_again_and_counted(up: Up):
    """Redis told to end comes back at the same address, and the stack says how often it ended."""
    before = {one.name: one.restarts for one in up.stack.instances()}
    with contextlib.closing(_redis(up)) as client:
        client.set("kept", "yes")
        with contextlib.suppress(redis.ConnectionError):
            client.shutdown()
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            with contextlib.suppress(redis.RedisError):
                if client.get("kept") == b"yes":
                    break
            time.sleep(0.1)
        assert client.get("kept") == b"yes"
    state = {one.name: one for one in up.stack.instances()}["redis"]
    assert state.restarts == before["redis"] + 1
    assert state.running
    assert "1 times" in state.exit_note


@pytest.mark.covers("rf.svc.all")
def test_a_volume_is_saved_and_brought_back_as_documented(up: Up, tmp_path: Path):
    """docs/containers.md's two commands: what Redis kept is in a new volume, byte for byte, and Redis reads it."""
    source = up.container("redis")
    volume = next(one["Name"] for one in source.attrs["Mounts"] if one["Destination"] == "/data")
    with contextlib.closing(_redis(up)) as client:
        client.set("saved", "before the backup")
        client.execute_command("WAITAOF", 1, 0, 5000) if _version(client) >= (7, 2) else time.sleep(1.5)
    image, made = source.image.id, f"rollgate-restored-{os.getpid()}"
    labels = dict(up.site.provider._session.placement.labels)  # type: ignore[attr-defined]  # noqa: SLF001
    save, bring = re.findall(r"^docker run .*$", _documented(), re.MULTILINE)
    assert ("tar -C /volume -cf" in save, "tar -C /volume -xf" in bring) == (True, True)
    up.client.volumes.create(made, labels=labels)
    backup = {str(tmp_path): {"bind": "/backup", "mode": "rw"}}
    for name, mode, words in ((volume, "ro", "-cf /backup/redis.tar ."), (made, "rw", "-xf /backup/redis.tar")):
        volumes = backup | {name: {"bind": "/volume", "mode": mode}}
        command = f"tar -C /volume {words}".split()
        up.client.containers.run(image, command, entrypoint="", user="0", volumes=volumes, remove=True, labels=labels)
    restored = up.client.containers.run(
        image, ["redis-server", "--dir", "/data", "--appendonly", "yes"], entrypoint="", user="999:1000", detach=True,
        volumes={made: {"bind": "/data", "mode": "rw"}}, labels=labels,
    )  # fmt: skip
    try:
        until, said = time.monotonic() + _PATIENCE_S, b""
        while b"before the backup" not in said and time.monotonic() < until:
            said = restored.exec_run(["redis-cli", "get", "saved"]).output
            time.sleep(0.1)
        assert b"before the backup" in said
    finally:
        restored.remove(force=True)


def test_a_killed_service_stays_dead(up: Up):
    """A drill's SIGKILL is not undone by the engine, and is told; this test is the last of the stack's."""
    up.stack.kill("node_exporter")
    time.sleep(1.0)
    state = {one.name: one for one in up.stack.instances()}["node_exporter"]
    assert not state.running
    assert "137" in state.exit_note
    with pytest.raises(KeyError):
        up.stack.kill("nobody")


def test_a_killed_gate_leaves_nothing(up: Up, tmp_path: Path):
    """SIGKILL while its stack comes up: containers, networks, volumes and secrets are gone within seconds."""
    del up
    words = ["gate", "researchflow", "--provider", "docker", "--out", str(tmp_path / "run")]
    with subprocess.Popen(
        [sys.executable, "-m", "harness.cli.main", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as gate:
        client = connect()
        until = time.monotonic() + _PATIENCE_S
        run = ""
        while not run and time.monotonic() < until:
            found = client.containers.list(all=True, filters={"label": f"{LABEL}.run"}, ignore_removed=True)
            mine = [one.labels[f"{LABEL}.run"] for one in found if f"/{gate.pid}/" in one.labels[f"{LABEL}.owner"]]
            run = mine[0] if mine else ""
        gate.send_signal(signal.SIGKILL)
    assert run
    until = time.monotonic() + _PATIENCE_S
    while (stays := left(client, run)) and time.monotonic() < until:
        time.sleep(0.2)
    client.close()
    assert not stays
    assert not list((cache_root() / "run").glob(f"{run}*"))


def test_an_engine_that_goes_away_is_no_fault_of_the_release(up: Up, monkeypatch: pytest.MonkeyPatch):
    """What cannot be asked is an environment problem, never a service that is down."""

    def away(*_: object) -> object:
        raise docker.errors.APIError("planted: the engine is gone")

    monkeypatch.setattr("docker.api.container.ContainerApiMixin.inspect_container", away)
    with pytest.raises(EnvironmentProblem, match="engine does not answer"):
        up.stack.instances()


def _redis(up: Up) -> "redis.Redis":
    host, _, port = up.stack.address("redis", "redis").partition(":")
    password, once = up.stack.secret("redis_password"), Retry(NoBackoff(), 0)  # it repeats a SHUTDOWN too
    return redis.Redis(host=host, port=int(port), password=password, socket_timeout=5, retry=once)


def _version(client: "redis.Redis") -> tuple[int, ...]:
    told: dict[str, Any] = client.info("server")
    return tuple(int(part) for part in str(told["redis_version"]).split(".")[:2])


def _documented() -> str:
    return (Path(__file__).resolve().parents[2] / "docs" / "containers.md").read_text(encoding="utf-8")


@pytest.mark.covers("rf.pre.steps", "rf.pre.health_poll", "rf.pre.summary")
def test_a_stack_of_containers_comes_up_in_the_required_steps(up: Up, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Seven steps, health polled until all are well, endpoints, credentials by file; and `down` leaves nothing."""
    del up
    monkeypatch.setenv("ROLLGATE_CACHE", str(_cache_of_its_own(tmp_path)))

    def stack(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "harness.cli.main", "stack", *words]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)

    try:
        done = stack("up", "researchflow", "--provider", "docker")
        assert done.returncode == 0, done.stdout
        steps = [line[:5] for line in done.stdout.splitlines() if line.startswith("[")]
        assert steps == [f"[{number}/7]" for number in range(1, 8)]
        assert re.search(r"attempt \d+ of 30: every service is well", done.stdout)
        assert "redis_password: " in done.stdout
        password = Path(re.findall(r"redis_password: (\S+)", done.stdout)[0]).read_text(encoding="utf-8")
        assert password not in done.stdout
        told = stack("status", "researchflow")
        assert told.returncode == 0, told.stdout
        run = json.loads(next((tmp_path / "cache/stacks").rglob("stack.json")).read_text(encoding="utf-8"))["run_id"]
    finally:
        stack("down", "researchflow")
    client = connect()
    assert not left(client, run)
    client.close()


def _cache_of_its_own(folder: Path) -> Path:
    """A stack of the user's, by the same name, is not this one's; programs and models are."""
    own = folder / "cache"
    own.mkdir()
    for name in ("programs", "models", "tools"):
        if (cache_root() / name).exists():
            (own / name).symlink_to(cache_root() / name)
    return own
