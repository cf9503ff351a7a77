"""Probes: what is well passes, every kind of unwell is told, exits that nobody asked for are counted once."""

import dataclasses
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import redis
from native_runs import minimal, need, run_of, system_of, until

from harness.adapters.clock import SystemClock
from harness.adapters.probes import Asker, Question, StackProbes
from harness.model.evidence import Arm, Evidence, Kind, Source
from harness.model.judgement import ServiceRecord
from harness.model.system import Check, Health, Native, Release, Service, System
from harness.ports import InstanceState

pytestmark = pytest.mark.selftest


class Answers(BaseHTTPRequestHandler):
    """`/well`, `/ill` and `/slow`; all else is 404."""

    def do_GET(self) -> None:
        if self.path == "/slow":
            time.sleep(1.0)
        body = b'{"status": "ok"}'
        self.send_response({"/well": 200, "/slow": 200, "/ill": 503}.get(self.path, 404))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@contextmanager
def serving() -> Iterator[str]:
    """Serve Answers on loopback; yield the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Return the address of a server with known answers."""
    with serving() as found:
        yield found


@pytest.fixture
def asker() -> Asker:
    """Return an asker with a short patience."""
    return Asker(timeout_s=0.5)


def dead_address() -> str:
    """Return an address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def ask(asker: Asker, address: str, **how: object) -> str:
    """Ask one health question."""
    health = Health(port="http", **{"kind": "http", **how})  # type: ignore[arg-type]
    return asker.problem(Question(signal="health.x", address=address, how=health))


def test_what_is_well_is_no_problem(asker: Asker, address: str) -> None:
    """HTTP with its status and body, and a TCP port that accepts."""
    assert ask(asker, address, path="/well", body='"status":\\s*"ok"') == ""
    assert ask(asker, address, path="/ill", statuses=(200, 503)) == ""
    assert ask(asker, address, kind="tcp") == ""


@pytest.mark.parametrize(
    "how, said",
    [
        ({"path": "/ill"}, "503, expected 200"),
        ({"path": "/nowhere"}, "404, expected 200"),
        ({"path": "/well", "body": "corrupt"}, "does not match 'corrupt'"),
        ({"path": "/slow"}, "timed out"),
        ({"kind": "redis"}, ""),
    ],
)
def test_every_kind_of_unwell_is_told(asker: Asker, address: str, how: dict[str, object], said: str) -> None:
    """Wrong status, wrong body, too slow, wrong protocol."""
    problem = ask(asker, address, **how)

    assert problem
    assert said in problem


@pytest.mark.parametrize("kind", ["http", "tcp", "redis"])
def test_a_dead_service_is_told(asker: Asker, kind: str) -> None:
    """Nobody listens."""
    assert "refused" in ask(asker, dead_address(), kind=kind)


def test_loopback_is_asked_without_the_proxy(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """A proxy of the environment is not between us and the stack."""
    monkeypatch.setenv("HTTP_PROXY", f"http://{dead_address()}")
    monkeypatch.setenv("ALL_PROXY", f"http://{dead_address()}")
    asker = Asker()

    assert ask(asker, address, path="/well") == ""


@contextmanager
def saying(first: bytes, drop: bytes = b"", *, every_s: float = 0.1) -> Iterator[str]:
    """Answer each connection with `first`, then a `drop` every `every_s` seconds; hang up where there is none."""
    over = threading.Event()

    def speak(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(4096)
            connection.sendall(first)
            while drop and not over.wait(every_s):
                connection.sendall(drop)

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=speak, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX-Slow: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e7\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=["status", "headers", "body", "chunk", "endless"],
)
def test_an_answer_that_drips_ends_at_the_deadline(asker: Asker, first: bytes) -> None:
    """A byte every 0.1 s renews any timeout per read; the question still ends after its 0.5 s, and as a problem."""
    with saying(first, b"1") as dripping:
        began = time.monotonic()
        problem = ask(asker, dripping, path="/health")

        assert 0.4 < time.monotonic() - began < 1.5
    assert "timed out" in problem


def test_a_service_that_drips_does_not_hold_up_a_collection(address: str) -> None:
    """The candidate drips, the baseline is well: bad records of the candidate alone, within the deadline."""
    with saying(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b"o") as dripping:
        probes = StackProbes(per_arm_system(), Told({Arm.BASELINE: address, Arm.CANDIDATE: dripping}), SystemClock())
        began = time.monotonic()
        seen = by_signal(probes.collect())
        took_s = time.monotonic() - began
        probes.close()

    assert took_s < 4
    bad = {key for key, one in seen.items() if one.bad}
    assert bad == {("health.app", Arm.CANDIDATE), ("check.app.sound", Arm.CANDIDATE)}
    assert "timed out" in seen["health.app", Arm.CANDIDATE].note


@pytest.mark.parametrize(
    "answer, said",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "7 bytes short"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nok", "no whole HTTP answer"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + bytes((1 << 20) + 1), "longer than 1024 KiB"),
        (b"+PONG\r\n", "no whole HTTP answer"),
        (b"", "closed connection"),
    ],
    ids=["truncated", "truncated-chunk", "too-long", "no-http", "nothing"],
)
def test_an_answer_that_is_not_whole_is_told(asker: Asker, answer: bytes, said: str) -> None:
    """A 200 on its first line is no health when the rest is missing, or without end."""
    with saying(answer) as broken:
        assert said in ask(asker, broken, path="/health")


class Told:
    """A stack of one service per arm at known addresses; `states` are what its provider would see."""

    def __init__(self, addresses: dict[Arm, str]) -> None:
        self.addresses = addresses
        self.states = {
            arm: InstanceState(name=f"app[{arm}]", service="app", arm=arm, running=True) for arm in addresses
        }

    def address(self, service: str, port: str, arm: Arm | None = None) -> str:
        assert (service, port) == ("app", "http")
        assert arm is not None
        return self.addresses[arm]

    def secret(self, name: str) -> str:
        raise KeyError(name)

    def instances(self) -> Sequence[InstanceState]:
        return list(self.states.values())

    def records(self) -> Sequence[ServiceRecord]:
        return ()

    def log_tail(self, instance: str, lines: int = 40) -> str:
        del lines
        raise KeyError(instance)

    def kill(self, service: str, arm: Arm | None = None) -> None:
        del arm
        raise KeyError(service)


def per_arm_system() -> System:
    """Return a system of one service per arm with one check."""
    service = Service(
        name="app",
        ports=(("http", 8000),),
        health=Health(kind="http", port="http", path="/well"),
        per_arm=True,
        checks=(Check(name="sound", kind="http", port="http", path="/well", body="ok"),),
    )
    return system_of(service)


def by_signal(records: Sequence[Evidence]) -> dict[tuple[str, Arm | None], Evidence]:
    """Index records, each of which must be one probe event, or the gauge of restarts."""
    assert {one.source for one in records} == {Source.PROBE}
    for one in records:
        assert (one.kind, one.n) == ((Kind.GAUGE, 0) if one.signal == "restarts" else (Kind.EVENTS, 1))
    return {(one.signal, one.arm): one for one in records}


def test_one_record_for_each_service_check_and_arm(address: str) -> None:
    """The candidate is dead, the baseline well: only the candidate's records are bad, and say why."""
    stack = Told({Arm.BASELINE: address, Arm.CANDIDATE: dead_address()})
    probes = StackProbes(per_arm_system(), stack, SystemClock())

    seen = by_signal(probes.collect())
    probes.close()

    bad = {key for key, one in seen.items() if one.bad}
    signals = {"health.app", "check.app.sound", "restarts"}
    assert {signal for signal, _ in seen} == signals
    assert bad == {("health.app", Arm.CANDIDATE), ("check.app.sound", Arm.CANDIDATE)}
    assert all("refused" in seen[key].note for key in bad)


def test_unasked_exits_are_counted_on_their_own_arm(address: str) -> None:
    """The candidate's process exited between two collections."""
    stack = Told({Arm.BASELINE: address, Arm.CANDIDATE: address})
    probes = StackProbes(per_arm_system(), stack, SystemClock())
    before = by_signal(probes.collect())
    stack.states[Arm.CANDIDATE] = dataclasses.replace(
        stack.states[Arm.CANDIDATE], restarts=1, exit_note="exited with 1"
    )

    after = by_signal(probes.collect())
    probes.close()

    assert [records["restarts", Arm.CANDIDATE].value for records in (before, after)] == [0.0, 1.0]
    assert [records["restarts", Arm.BASELINE].value for records in (before, after)] == [0.0, 0.0]
    assert "exited with 1" in after["restarts", Arm.CANDIDATE].note


def test_a_real_crash_loop_shows_on_its_own_arm(tmp_path: Path) -> None:
    """A release that exits after 0.3 s: its arm restarts, the other's does not."""
    app = dataclasses.replace(minimal().service("app"), checks=())
    router = dataclasses.replace(app, name="router", per_arm=False, under_release=False)
    system = system_of(app, router)
    crash = Release(name="crash", version="9", env=(("app", (("CRASH_AFTER_S", "0.3"),)),))
    provider = run_of(system, tmp_path, arms={Arm.BASELINE: Release(name="b", version="1"), Arm.CANDIDATE: crash})
    try:
        probes = StackProbes(system, provider.up(), SystemClock())

        def restarts(arm: Arm) -> float:
            return by_signal(probes.collect())["restarts", arm].value or 0.0

        looped = until(lambda: restarts(Arm.CANDIDATE) >= 2, within=10.0)
        spared = restarts(Arm.BASELINE) == 0
        probes.close()
    finally:
        provider.down()

    assert looped
    assert spared


def test_redis_is_asked_with_its_password_and_written_to(tmp_path: Path, asker: Asker) -> None:
    """A real Redis: the right password passes PING and a write; the wrong one, and a read-only server, do not."""
    need("redis-server")
    (tmp_path / "redis.conf").write_text(
        "bind 127.0.0.1\nport ${port.redis}\nrequirepass ${secret.router_password}\nsave ''\n", encoding="utf-8"
    )
    native = Native(
        command=("${bin.redis-server}", "${dir}/redis.conf"),
        files=(("redis.conf", "redis.conf"),),
        programs=("redis-server",),
    )
    service = Service(
        name="router",
        ports=(("redis", 6379), ("http", 1)),
        health=Health(kind="redis", port="redis", start_period_s=10),
        checks=(Check(name="writable", kind="redis_write", port="redis"),),
        native=native,
    )
    system = dataclasses.replace(system_of(service, secrets=("router_password",)), root=tmp_path)
    provider = run_of(system, tmp_path / "run")
    try:
        stack = provider.up()
        probes = StackProbes(system, stack, SystemClock())
        well = by_signal(probes.collect())
        probes.close()
        where = stack.address("router", "redis")
        write, password = service.checks[0], stack.secret("router_password")
        wrong = asker.problem(Question(signal="x", address=where, how=write, secret=password[::-1]))
        host, port = where.split(":")
        with redis.Redis(host=host, port=int(port), password=password) as client:
            client.config_set("min-replicas-to-write", 1)
        refused = asker.problem(Question(signal="x", address=where, how=write, secret=password))
    finally:
        provider.down()

    assert all(one.bad == 0 for one in well.values()), well
    assert ("check.router.writable", None) in well
    assert "password" in wrong.lower() or "auth" in wrong.lower()
    assert "NOREPLICAS" in refused or "replicas" in refused
