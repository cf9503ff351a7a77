"""On a real engine: a service starts well, answers, and nothing is left, however its session ends.

Redis stands for all: its image can be built from the distribution where no registry is reached.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from harness.adapters.docker_container import ServiceContainer
from harness.adapters.docker_owner import left
from harness.adapters.docker_session import DockerSession, connect, forget
from harness.model.errors import EnvironmentProblem
from harness.spec.images import choose_images
from harness.wiring.composition import shipped

pytestmark = [pytest.mark.selftest, pytest.mark.docker]

_REMOVED_S = 30.0
_CHILD = """
import os, sys, json, time
from pathlib import Path
from harness.adapters.docker_session import DockerSession
from harness.paths import share_root
from harness.spec.images import choose_images
from harness.spec.images import choose_images
from harness.wiring.composition import shipped
data, run, folder = shipped(), sys.argv[1], Path(sys.argv[2])
session = DockerSession(data.composition, choose_images(data.images, os.environ), run=run, stack=share_root() / "stack",
    state=folder / run, logs=folder / "logs", settings={}, pull=False)
session.open()
print("open", session._reaper.pid, flush=True)
session.start(["redis"])
print("started", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def redis_image(docker_engine: None) -> None:
    """An image of Redis on this engine: nothing is pulled or built by a test."""
    del docker_engine
    image = shipped().images["redis"]
    client = connect()
    names = {name for one in client.images.list() for name in one.tags}
    client.close()
    if not names & {image.plain, image.local_name, os.environ.get(image.variable, image.plain)}:
        pytest.skip(f"not_applicable: the engine has neither {image.plain} nor {image.local_name} (`make images`)")


@pytest.fixture
def own_redis(redis_image: None, request: pytest.FixtureRequest) -> ServiceContainer:
    """A Redis of the test's own."""
    del redis_image
    return request.getfixturevalue("fresh_redis")


def _client(container: ServiceContainer, session: DockerSession) -> redis.Redis:
    host, _, port = container.address("redis").rpartition(":")
    password = (session.placement.secrets / "redis_password").read_text(encoding="utf-8")
    return redis.Redis(host=host, port=int(port), password=password, socket_timeout=5)


def test_redis_is_what_the_composition_says(own_redis: ServiceContainer, docker_session: DockerSession):
    """Password, memory, eviction and append-only file as configured; limits, user and log as the engine sees them."""
    with contextlib.closing(_client(own_redis, docker_session)) as client:
        asked: dict[str, Any] = client.config_get("*")
        assert client.ping()
    assert asked["maxmemory"] == str(8 * 2**30)
    assert (asked["maxmemory-policy"], asked["appendonly"]) == ("allkeys-lru", "yes")
    host = own_redis.get_wrapped_container().attrs["HostConfig"]
    assert host["Memory"] == 10 * 2**30
    assert host["ReadonlyRootfs"]
    assert host["LogConfig"]["Config"] == {"max-file": "10", "max-size": "100m"}
    refused = redis.Redis(*own_redis.address("redis").split(":"), password="wrong")  # noqa: S106 - meant to be refused
    with contextlib.closing(refused), pytest.raises(redis.AuthenticationError):
        refused.ping()


def test_the_password_is_in_no_process_and_no_description(own_redis: ServiceContainer, docker_session: DockerSession):
    """Neither `top` nor `inspect` nor the log shows it."""
    password = (docker_session.placement.secrets / "redis_password").read_text(encoding="utf-8")
    container = own_redis.get_wrapped_container()
    shown = json.dumps([container.top(), container.attrs]) + own_redis.tail(1000)
    assert "redis-server" in shown
    assert password not in shown


def test_a_container_of_a_test_is_found_by_no_other(own_redis: ServiceContainer):
    """It has no alias: the session's own is who is called redis."""
    networks = own_redis.get_wrapped_container().attrs["NetworkSettings"]["Networks"]
    assert len(networks) == 2
    assert all("redis" not in (one["Aliases"] or []) for one in networks.values())


def test_a_command_that_ends_at_once_is_told_with_its_last_lines(redis_image: None, docker_session: DockerSession):
    """A planted setting that Redis refuses: service, reason and what it said; exit 4."""
    del redis_image
    broken = docker_session.placement.settings
    docker_session.placement = _with(docker_session, {**broken, "REDIS_MAXMEMORY_POLICY": "planted-nonsense"})
    try:
        with pytest.raises(EnvironmentProblem, match=r"redis: ended with exit code 1") as caught:
            docker_session.start_fresh("redis")
    finally:
        docker_session.placement = _with(docker_session, broken)
    assert "planted-nonsense" in str(caught.value)
    assert caught.value.exit_code == 4


def _with(session: DockerSession, settings: Any) -> Any:  # noqa: ANN401 - a mapping in, a placement out
    from dataclasses import replace  # noqa: PLC0415

    return replace(session.placement, settings=settings)


def _child(run: str, folder: Path) -> tuple[subprocess.Popen[str], int]:
    child = subprocess.Popen([sys.executable, "-c", _CHILD, run, str(folder)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    word, _, reaper = child.stdout.readline().strip().partition(" ")
    assert word == "open"
    return child, int(reaper)


def _all_gone(run: str) -> bool:
    client = connect()
    try:
        until = time.monotonic() + _REMOVED_S
        while (found := left(client, run)) and time.monotonic() < until:
            time.sleep(0.1)
        return not found
    finally:
        client.close()


@pytest.mark.parametrize("after", ["open", "create", "started"])
def test_a_killed_session_leaves_nothing(redis_image: None, tmp_path: Path, after: str):
    """SIGKILL with networks alone, in the middle of a start, and with a service that is well."""
    del redis_image
    run = f"killed{after}{os.getpid()}"
    child, _ = _child(run, tmp_path)
    try:
        if after == "create":
            client = connect()
            while child.poll() is None and not left(client, run).containers:
                time.sleep(0.005)
            client.close()
        elif after == "started":
            assert child.stdout is not None
            assert child.stdout.readline().strip() == "started"
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()
    assert _all_gone(run)
    assert not (tmp_path / run).exists()  # the secrets


def test_what_a_killed_reaper_left_the_next_session_sweeps(redis_image: None, tmp_path: Path):
    """Session and reaper both killed: the containers stay, and are gone when another session opens."""
    del redis_image
    run = f"swept{os.getpid()}"
    child, reaper = _child(run, tmp_path)
    assert child.stdout is not None
    assert child.stdout.readline().strip() == "started"
    os.kill(reaper, signal.SIGKILL)
    child.kill()
    child.wait()
    child.stdout.close()
    client = connect()
    assert left(client, run).containers
    client.close()
    data = shipped()
    following = DockerSession(
        data.composition,
        {},
        run=f"next{os.getpid()}",
        stack=tmp_path,
        state=tmp_path / "next",
        logs=tmp_path,
        settings={},
    )
    try:
        assert run in following.open()
    finally:
        assert not following.close()
    assert _all_gone(run)
    assert not (tmp_path / run).exists()


def test_a_reused_container_is_taken_over_while_it_is_the_same(redis_image: None, tmp_path: Path):
    """The same container and password in the next session; another setting makes it anew; `forget` leaves nothing."""
    del redis_image
    run, data = f"reuse{os.getpid()}", shipped()

    def once(**settings: str) -> tuple[str, str]:
        session = DockerSession(
            data.composition,
            choose_images(data.images, os.environ),
            run=run,
            stack=tmp_path,
            state=tmp_path / run,
            logs=tmp_path,
            settings=settings,
            pull=False,
            reuse=True,
        )
        assert run not in session.open()
        try:
            container = session.start(["redis"])["redis"]
            with contextlib.closing(_client(container, session)) as client:
                assert client.ping()
            return str(container.get_wrapped_container().id), (tmp_path / run / "secrets/redis_password").read_text()
        finally:
            assert not session.close()

    try:
        first = once()
        assert once() == first
        other = once(REDIS_MAXMEMORY="64mb")
        assert (other[0] != first[0], other[1]) == (True, first[1])
    finally:
        assert not forget(run, tmp_path / run)
    assert _all_gone(run)
    assert not (tmp_path / run).exists()
