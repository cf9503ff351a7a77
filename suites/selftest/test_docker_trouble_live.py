"""On a real engine: what goes wrong with containers is told by service, reason, last lines and mend; nothing stays.

Redis stands for all: its image can be built from the distribution where no registry is reached.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from harness.adapters import docker_container
from harness.adapters.docker_arguments import Overlay
from harness.adapters.docker_owner import left
from harness.adapters.docker_session import DockerSession, Manner, connect
from harness.model.composition import Composition
from harness.model.errors import EnvironmentProblem, RollgateError
from harness.paths import share_root
from harness.spec.images import choose_images
from harness.wiring.composition import shipped

pytestmark = [pytest.mark.selftest, pytest.mark.docker, pytest.mark.alone, pytest.mark.timeout(300)]

Open = Callable[..., DockerSession]


@pytest.fixture
def session(docker_engine: None, tmp_path: Path) -> Iterator[Open]:
    """`session(settings, manner)`: an open session of the test's own; nothing of it may be left in the end."""
    del docker_engine
    data, made = shipped(), list[tuple[DockerSession, str]]()
    client = connect()
    names = {name for one in client.images.list() for name in one.tags}
    client.close()
    if not names & {data.images["redis"].plain, data.images["redis"].local_name}:
        pytest.skip("not_applicable: the engine has no image of redis (`make images`)")

    def one(
        settings: Mapping[str, str] | None = None,
        manner: Manner | None = None,
        *,
        composition: Composition = data.composition,
        gpu: bool = False,
        images: Mapping[str, str] | None = None,
    ) -> DockerSession:
        run = f"trouble{os.getpid()}x{len(made)}"
        opened = DockerSession(
            composition,
            choose_images(data.images, images or {}),
            run=run,
            stack=share_root() / "stack",
            state=tmp_path / run,
            logs=tmp_path / "logs",
            settings=settings or {},
            gpu=gpu,
            pull=False,
            manner=manner,
        )
        made.append((opened, run))
        opened.open()
        return opened

    yield one
    for opened, run in made:
        assert not opened.close()
        client = connect()
        assert not left(client, run)
        client.close()


def refused(opened: DockerSession, name: str = "redis") -> RollgateError:
    """Return the error of a service that cannot start."""
    with pytest.raises(RollgateError) as caught:
        opened.start([name])
    assert name in str(caught.value).lower()
    return caught.value


def test_a_container_killed_for_want_of_memory_says_so(session: Open):
    """It takes more than its limit of 16 MB: the kernel kills it, and the mend names the limit."""
    greedy = Overlay(command=("sh", "-c", "tail /dev/zero"))
    problem = refused(session({"REDIS_MEMORY_LIMIT": "16m"}, Manner(over=lambda _unit: greedy)))
    assert isinstance(problem, EnvironmentProblem)
    assert "was killed for want of memory" in problem.message
    assert "MEMORY_LIMIT" in problem.mend
    assert problem.exit_code == 4


def test_a_taken_port_is_named(session: Open):
    """Another program has the port that the container is to be published at."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        problem = refused(session(manner=Manner(over=lambda _unit: Overlay(ports={"redis": number}))))
    assert "is taken" in problem.message
    assert str(number) in problem.message
    assert problem.mend


def test_a_gpu_that_is_not_there_is_named(session: Open):
    """The engine is asked for all GPUs and has none; a machine that has one is not asked this."""
    from harness.adapters.gpu import visible_gpus  # noqa: PLC0415

    client = connect()
    runtimes = client.info().get("Runtimes", {})
    has_image = client.images.list(name=shipped().images["ollama"].local_name)
    client.close()
    if visible_gpus() or "nvidia" in runtimes or not has_image:
        pytest.skip("not_applicable: the engine has GPUs, or no image that asks for them")
    problem = refused(session(gpu=True), "ollama")
    assert "asks for a GPU, and the engine has none" in problem.message


def test_an_image_that_is_nowhere_is_named_with_its_mend(session: Open):
    """Neither here nor pulled: the reference, the variable and the Dockerfile are told."""
    problem = refused(session(images={"ROLLGATE_IMAGE_REDIS": "nowhere/redis:9.9.9"}))
    assert "nowhere/redis:9.9.9 is not here" in problem.message
    assert "ROLLGATE_IMAGE_REDIS" in problem.mend


def test_one_that_never_answers_is_given_up_after_its_start_period(session: Open, monkeypatch: pytest.MonkeyPatch):
    """It runs, and what asks it is never content: the reason of the last answer is told."""
    monkeypatch.setattr(docker_container, "_SLACK_S", 0.0)
    composition = shipped().composition
    redis = composition.service("redis")
    hasty = replace(redis, health=replace(redis.health, start_period_s=1.0))
    services = tuple(hasty if one.name == "redis" else one for one in composition.services)
    manner = Manner(probe=lambda _unit: lambda: "planted: it answers nobody")
    problem = refused(session(manner=manner, composition=replace(composition, services=services)))
    assert "is not well after 1 s: planted: it answers nobody" in problem.message
    assert "Ready to accept connections" in problem.message  # its last lines


def test_a_wrong_limit_is_the_users_mistake(session: Open):
    """A setting that is no amount: exit code 2, by the variable's name."""
    problem = refused(session({"REDIS_MEMORY_LIMIT": "much"}))
    assert problem.exit_code == 2
    assert "REDIS_MEMORY_LIMIT" in str(problem)


@pytest.mark.parametrize("host, said", [("unix:///nowhere/docker.sock", "no Docker engine answers")])
def test_a_gate_without_an_engine_ends_with_4(tmp_path: Path, host: str, said: str):
    """The verdict says environment, and names the mend; it leaves no state."""
    command = [sys.executable, "-m", "harness.cli.main", "gate", "researchflow", "--provider", "docker"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "run")],
        env={**os.environ, "DOCKER_HOST": host},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert said in done.stdout + done.stderr
    assert "--provider native" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert (tmp_path / "run/verdict.json").exists()
