"""CI's engine: one that runs is used and left, else one is started and ended; commands on PATH are played."""

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.selftest

CI = Path(__file__).parents[2] / ".ci"
if not CI.is_dir():
    pytest.skip("no checkout", allow_module_level=True)

# The script itself, as root, on a machine where no other engine runs: what this one has must not decide.
_SCRIPT = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("engine", sys.argv.pop(1))
engine = importlib.util.module_from_spec(spec); sys.modules["engine"] = engine; spec.loader.exec_module(engine)
engine._other_engine = lambda: int(os.environ.get("PLAYED_OTHER", "0"))
engine.os.geteuid = lambda: int(os.environ.get("PLAYED_USER", "0"))
sys.exit(engine.main())
"""
# Answers as an engine does to a first question; says in a file when it is asked to end.
_DOCKERD = """#!{python}
import http.server, json, os, signal, socketserver, sys
options = dict(word.lstrip("-").split("=", 1) for word in sys.argv[1:])
path = options["host"].removeprefix("unix://")
open("{marks}/dockerd.pid", "w").write(str(os.getpid()))
class Engine(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"OK" if self.path.endswith("_ping") else json.dumps(dict(ApiVersion="1.41", Version="27.0")).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    do_HEAD = do_GET
    def address_string(self): return "test"
    def log_message(self, *_): pass
def ended(*_):
    open("{marks}/dockerd.ended", "w").write(options.get("data-root", "")); os._exit(0)
signal.signal(signal.SIGTERM, ended)
socketserver.UnixStreamServer(path, Engine).serve_forever()
"""


class Played:
    """A folder of played commands, first on PATH, and what they leave behind."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.marks = folder / "bin", folder / "marks"
        self.socket = folder / "none.sock"
        for one in (self.bin, self.marks):
            one.mkdir()
        for tool in ("sh", "sleep", "cat", "touch", "cp", "chmod", "true"):
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        self.add("systemctl", f"touch '{self.marks}/systemctl'")

    def add(self, name: str, script: str, *, shell: bool = True) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n" if shell else script, encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)

    def add_dockerd(self, name: str = "dockerd") -> None:
        self.add(name, _DOCKERD.format(python=sys.executable, marks=self.marks), shell=False)

    def start(self, *command: str, **variables: str) -> "subprocess.Popen[str]":
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("DOCKER_", "TESTCONTAINERS_"))}
        environment |= {"PATH": str(self.bin), "PYTHONPATH": str(CI.parent), **variables}
        ours = ["--socket", str(self.socket), "--data", "/data", "--wait", variables.get("PLAYED_WAIT", "30")]
        words = [sys.executable, "-c", _SCRIPT, str(CI / "engine.py"), *ours, *command]
        return subprocess.Popen(
            words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def run(self, *command: str, **variables: str) -> tuple[int, str]:
        with self.start(*command, **variables) as process:
            said, _ = process.communicate(timeout=120)
        return process.returncode, said

    def mark(self, name: str) -> str:
        """Return what a played command wrote, once it has."""
        until = time.monotonic() + 60
        while not (self.marks / name).exists() or not (self.marks / name).read_text():
            assert time.monotonic() < until, f"nobody wrote {name}"
            time.sleep(0.01)
        return (self.marks / name).read_text()


@pytest.fixture
def played(tmp_path: Path) -> Played:
    """A machine without an engine and without a way to get one."""
    return Played(tmp_path)


def _gone(pid: int) -> bool:
    until = time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def _removed(folder: Path) -> bool:
    until = time.monotonic() + 30
    while folder.exists() and time.monotonic() < until:
        time.sleep(0.01)
    return not folder.exists()


@contextlib.contextmanager
def _engine(played: Played) -> Iterator["subprocess.Popen[bytes]"]:
    played.add_dockerd("engine")
    with subprocess.Popen([played.bin / "engine", f"--host=unix://{played.socket}"]) as process:
        try:
            while not played.socket.exists():
                time.sleep(0.01)
            yield process
        finally:
            process.kill()


def test_an_engine_that_runs_is_used_and_left_running(played: Played):
    """The command's own code is the answer; no other engine is started, though it could be."""
    with _engine(played) as engine:
        played.add_dockerd()
        code, said = played.run("sh", "-c", "echo at $DOCKER_HOST; exit 3")
        assert (code, engine.poll()) == (3, None)
    assert f"at unix://{played.socket}" in said
    assert "that runs already" in said
    assert not (played.marks / "dockerd.ended").exists()


def test_where_none_runs_one_is_started_on_a_socket_of_its_own_and_ended(played: Played):
    """Its images stay in the data folder; its own folder does not."""
    played.add_dockerd()
    code, said = played.run("sh", "-c", "echo at $DOCKER_HOST; exit 3")
    assert code == 3
    at = said.partition("at unix://")[2].split()[0]
    assert at != str(played.socket)
    assert not Path(at).parent.exists()
    assert played.mark("dockerd.ended") == "/data"
    assert _gone(int(played.mark("dockerd.pid")))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupt_or_a_kill_ends_the_engine_too(played: Played, number: signal.Signals):
    """The command first, then the engine; a killed script's watchdog ends it."""
    played.add_dockerd()
    with played.start(
        "sh", "-c", f"echo $DOCKER_HOST > {played.marks}/at; echo $$ > {played.marks}/command; exec sleep 300"
    ) as process:
        command = int(played.mark("command"))
        process.send_signal(number)
        if number == signal.SIGKILL:
            os.kill(command, number)  # nobody is left to end it
        said, _ = process.communicate(timeout=100)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130)
    assert _gone(command)
    assert _gone(int(played.mark("dockerd.pid")))
    assert _removed(Path(played.mark("at").strip().removeprefix("unix://")).parent)
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "dockerd, told",
    [
        ('echo "level=info msg=x" >&2; echo "failed to start daemon: no iptables" >&2; exit 1', "no iptables"),
        ("exec sleep 60", "does not answer within 1 s"),
    ],
)
def test_an_engine_that_does_not_come_up_is_not_applicable_with_the_reason(played: Played, dockerd: str, told: str):
    """The command does not run, CI stays green."""
    played.add("dockerd", dockerd)
    code, said = played.run("touch", str(played.marks / "ran"), PLAYED_WAIT="1")
    assert code == 0
    assert "\nnot_applicable: dockerd does" in f"\n{said}"
    assert told in said
    assert not (played.marks / "ran").exists()


@pytest.mark.parametrize(
    "variables, told",
    [
        ({"PLAYED_USER": "1000"}, "only root on Linux can start one"),
        ({"PLAYED_OTHER": "77"}, "dockerd runs (pid 77): it is left alone"),
        ({"DOCKER_HOST": "unix:///nowhere"}, "DOCKER_HOST is set, and no Docker engine answers"),
    ],
)
def test_where_none_may_be_started_it_is_not_applicable(played: Played, variables: dict[str, str], told: str):
    """An ordinary user, an engine that hangs, an address that the user gave: none is started over it."""
    played.add_dockerd()
    code, said = played.run("touch", str(played.marks / "ran"), **variables)
    assert (code, said.strip()) == (0, f"not_applicable: {said.strip().partition(': ')[2]}")
    assert told in said
    assert not list(played.marks.iterdir())


def test_without_dockerd_the_package_is_installed(played: Played):
    """After a first try with the lists as they are: here they are stale."""
    played.add_dockerd("hidden")
    played.add(
        "apt-get",
        f'case "$1" in update) touch {played.marks}/updated;; install) [ -e {played.marks}/updated ] || exit 100;'
        f' echo "$*" > {played.marks}/installed; cp {played.bin}/hidden {played.bin}/dockerd;; esac',
    )
    code, said = played.run("true")
    assert code == 0
    assert "a Docker Engine of its own answers" in said
    assert "docker.io" in played.mark("installed")
    assert not (played.marks / "systemctl").exists()  # no engine came with it
    assert _gone(int(played.mark("dockerd.pid")))


@pytest.mark.parametrize(
    "apt, told",
    [
        ("echo 'E: Unable to locate package docker.io' >&2; exit 100", "E: Unable to locate package docker.io"),
        ("exit 0", "brought no dockerd"),
        ("", "no apt-get"),
    ],
)
def test_without_a_way_to_get_dockerd_it_is_not_applicable(played: Played, apt: str, told: str):
    """The package manager's own words."""
    if apt:
        played.add("apt-get", apt)
    code, said = played.run("true")
    assert code == 0
    assert said.splitlines()[-1].startswith("not_applicable: ")
    assert told in said


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of CI's scripts alone, whose tools are played."""
    folder = tmp_path / "checkout"
    shutil.copytree(CI, folder / ".ci", ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".venv/bin", "bin", "reports", "suites/selftest"):
        (folder / name).mkdir(parents=True)
    for name, text in (("test_a.py", "@pytest.mark.docker\n"), ("test_b.py", "@pytest.mark.alone\n")):
        (folder / "suites" / "selftest" / name).write_text(text, encoding="utf-8")
    return folder


def _play(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def _ci(checkout: Path, script: str, **variables: str) -> tuple[int, str]:
    path = f"{checkout / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        [checkout / ".ci" / script],
        env={**os.environ, "PATH": path, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    "make, left, engine, code, told",
    [
        ("echo '7 passed'; echo '2 passed'", "840", "exit 0", 0, "ci: 9 tests passed"),
        ("echo '7 passed'", "840", "echo 1 failed; exit 1", 1, "1 failed"),
        ("echo '1 failed, 7 passed'; exit 2", "840", "exit 0", 2, "1 failed"),
        ("echo 'no tests ran'", "840", "exit 0", 1, "ci: no test ran"),
        ("echo '7 passed'", "100", "echo started", 0, "not_applicable: containers: 100 s are left of 100"),
    ],
)
def test_ci_fails_with_its_tests_and_tells_what_it_left_out(  # noqa: PLR0917 - a table
    checkout: Path, make: str, left: str, engine: str, code: int, told: str
):
    """The tests' code, the containers' code, none at all; without time the containers are left out by name."""
    _play(checkout / "bin" / "make", make)
    _play(checkout / ".venv" / "bin" / "python", f'echo "$* $ROLLGATE_CI_IMAGES_S"; {engine}')
    done, said = _ci(checkout, "run", ROLLGATE_CI_S=left)
    assert done == code, said
    assert told in said
    assert ("engine.py .ci/docker-suites 300" in said) == (left == "840" and make.startswith("echo '7") and code != 2)


@pytest.mark.parametrize(
    "make, pytest_code, code, told, suites",
    [
        ("echo built", 0, 0, "ci: images:", True),
        ("echo built", 1, 1, "ci: images:", True),
        ("echo 'COPY failed: no such file'; exit 2", 0, 2, "the images can't be built", False),
        ("echo 'Temporary failure resolving x'; exit 2", 0, 0, "not_applicable: images can't be built here", True),
        ("exec sleep 30", 0, 0, "not_applicable: images that are not built after 1 s", True),
    ],
)
def test_images_that_cannot_be_built_here_are_not_applicable_and_a_broken_dockerfile_fails(
    checkout: Path, make: str, pytest_code: int, code: int, told: str, *, suites: bool
):
    """A machine without an archive, or too slow, skips by name; what is ours fails; the suites' code counts."""
    _play(checkout / "bin" / "make", make)
    _play(checkout / ".venv" / "bin" / "pytest", f'echo "pytest $*"; exit {pytest_code}')
    seconds = "1" if "sleep" in make else "60"
    done, said = _ci(checkout, "docker-suites", ROLLGATE_CI_IMAGES_S=seconds)
    assert done == code, said
    assert told in said
    assert ("pytest suites/selftest/test_a.py -m docker" in said) is suites
