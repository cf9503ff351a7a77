"""The real router: exact nested shares, a lease that ends with its holder, no answer in another arm's stead."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import xxhash
from native_runs import ARMS, minimal, need, run_of, until

from harness.adapters.haproxy import AdminSocket, HAProxyRouter
from harness.adapters.native import NativeProvider
from harness.model.errors import EnvironmentProblem
from harness.model.evidence import Arm
from harness.ports import Stack

pytestmark = pytest.mark.selftest

SESSIONS = [f"user-{number}" for number in range(400)]
HOLDER = """
import sys, time
from harness.adapters.lease import Lease
Lease(("127.0.0.1", int(sys.argv[1])))
print("held", flush=True)
time.sleep(600)
"""


@dataclasses.dataclass(frozen=True)
class Up:
    """A minimal stack, and a client of its router."""

    provider: NativeProvider
    stack: Stack
    router: HAProxyRouter
    client: httpx.Client

    def arm(self, **headers: str) -> str:
        return self.client.get("/answer?q=1", headers={k.replace("_", "-"): v for k, v in headers.items()}).headers[
            "X-Arm"
        ]

    def on_candidate(self) -> set[str]:
        return {session for session in SESSIONS if self.arm(X_Session_ID=session) == Arm.CANDIDATE}


@contextmanager
def minimal_up(folder: Path, **settings: object) -> Iterator[Up]:
    """Bring the minimal system up in `folder`."""
    need("haproxy")
    provider = run_of(minimal(), folder, **settings)  # type: ignore[arg-type]
    try:
        stack = provider.up()
        with httpx.Client(base_url=f"http://{stack.address('router', 'http')}", trust_env=False) as client:
            router = provider.router()
            yield Up(provider, stack, router, client)
            router.drop_lease()
    finally:
        provider.down()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One stack for the tests that leave it as it was."""
    with minimal_up(tmp_path_factory.mktemp("haproxy")) as up:
        yield up


@pytest.fixture
def up(shared: Up) -> Iterator[Up]:
    """The shared stack, at limit 0 and with the lease held."""
    shared.router.set_limit(0)
    shared.router.hold_lease()
    yield shared
    shared.router.set_limit(0)


def bucket(session: str) -> int:
    """Return a session's bucket, as everybody who knows the contract computes it."""
    return xxhash.xxh32(session.encode()).intdigest() % 10_000


def test_every_limit_sends_exactly_the_buckets_below_it(up: Up) -> None:
    """0, 10, 25, 50, 75 and 100 %: the router's hash is the contract's, and each share holds the one before."""
    for limit in (0, 1000, 2500, 5000, 7500, 10_000):
        up.router.set_limit(limit)

        assert up.router.read().limit == limit
        assert up.on_candidate() == {session for session in SESSIONS if bucket(session) < limit}


def test_the_limit_is_on_disk_too_for_a_restart(up: Up, tmp_path: Path) -> None:
    """What HAProxy would read again is what it has; the map starts at 0."""
    del tmp_path
    folder = Path(up.provider.flags_path()).parent / "i" / "router"
    assert (folder / "limits.map").read_text(encoding="ascii") == "candidate 0\nsettled 0\n"

    up.router.set_limit(1000)

    assert (folder / "limits.map").read_text(encoding="ascii") == "candidate 1000\nsettled 0\n"


def test_a_header_forces_an_arm_whatever_the_limit(up: Up) -> None:
    """Smoke tests reach the candidate before any traffic does, and the baseline at full traffic."""
    assert up.arm(X_Rollgate_Arm="candidate", X_Session_ID="a") == Arm.CANDIDATE
    up.router.set_limit(10_000)
    assert up.arm(X_Rollgate_Arm="baseline", X_Session_ID="a") == Arm.BASELINE


def test_requests_without_a_session_are_split_too(up: Up) -> None:
    """At 50 % some of 60 requests land on each arm, by their own id."""
    up.router.set_limit(5000)

    assert {up.arm() for _ in range(60)} == {Arm.BASELINE, Arm.CANDIDATE}


@pytest.mark.parametrize("limit", [-1, 10_001])
def test_a_limit_outside_the_buckets_is_refused(up: Up, limit: int) -> None:
    """The map is left as it was."""
    with pytest.raises(ValueError, match=r"0\.\.10000"):
        up.router.set_limit(limit)

    assert up.router.read().limit == 0


def test_a_limit_that_the_router_does_not_take_is_an_error(up: Up) -> None:
    """HAProxy answers a change of an unknown map as it answers success; the reading back tells."""
    socket_path = Path(up.provider.flags_path()).parent / "i" / "router" / "admin.sock"
    other = HAProxyRouter(socket_path, socket_path.with_name("other.map"), "/no/such.map", 1)

    with pytest.raises(EnvironmentProblem):
        other.set_limit(10)


def test_a_map_without_its_key_is_an_error(up: Up) -> None:
    """Somebody cleared the map: reading and setting say so in place of a number."""
    folder = Path(up.provider.flags_path()).parent / "i" / "router"
    admin = AdminSocket(folder / "admin.sock")
    admin.command(f"clear map {folder}/limits.map")

    for act in (up.router.read, lambda: up.router.set_limit(10)):
        with pytest.raises(EnvironmentProblem, match="no usable key"):
            act()

    admin.command(f"add map {folder}/limits.map candidate 0")


def test_without_the_lease_all_traffic_is_the_baselines(up: Up) -> None:
    """The limit stays at 100 %; dropping the lease brings everybody back, taking it sends them again."""
    up.router.set_limit(10_000)
    assert len(up.on_candidate()) == len(SESSIONS)

    up.router.drop_lease()

    assert until(lambda: up.arm(X_Session_ID="a") == Arm.BASELINE, within=3.0)
    assert up.router.read().limit == 10_000
    assert not up.router.read().lease_held
    up.router.hold_lease()
    assert until(lambda: up.arm(X_Session_ID="a") == Arm.CANDIDATE, within=3.0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "freezes"])
def test_a_driver_that_dies_or_freezes_loses_the_lease(up: Up, number: signal.Signals) -> None:
    """Traffic is back on the baseline within 3 s, though nobody told the router."""
    up.router.drop_lease()
    up.router.set_limit(10_000)
    port = up.provider._lease_port  # noqa: SLF001 - the driver gets it inside the router
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(port)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert until(lambda: up.arm(X_Session_ID="a") == Arm.CANDIDATE)

        os.kill(holder.pid, number)

        assert until(lambda: up.arm(X_Session_ID="a") == Arm.BASELINE, within=3.0)
        holder.kill()


def test_another_program_on_the_lease_port_does_not_hold_the_lease(up: Up) -> None:
    """It answers 200, but not with the token."""
    up.router.drop_lease()
    up.router.set_limit(10_000)
    assert until(lambda: not up.router.read().lease_held)
    with socket.create_server(("127.0.0.1", up.provider._lease_port)) as listener:  # noqa: SLF001
        listener.settimeout(2.0)
        answered = threading.Event()

        def serve() -> None:
            for _ in range(4):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1024)
                    connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
            answered.set()

        thread = threading.Thread(target=serve)
        thread.start()
        thread.join()

        assert answered.is_set()
        assert not up.router.read().lease_held
        assert up.arm(X_Session_ID="a") == Arm.BASELINE
        with pytest.raises(EnvironmentProblem, match="cannot hold the lease"):
            up.router.hold_lease()


def test_a_failing_candidate_is_never_answered_by_the_baseline(tmp_path: Path) -> None:
    """The candidate dies at full traffic: its users get errors that carry its name, not the baseline's answers."""
    with minimal_up(tmp_path) as up:
        up.router.hold_lease()
        up.router.set_limit(10_000)
        up.stack.kill("app", Arm.CANDIDATE)

        answers = [up.client.get("/answer?q=1", headers={"X-Session-ID": session}) for session in SESSIONS[:50]]

        assert {answer.status_code for answer in answers} <= {502, 503}
        assert {answer.headers["X-Arm"] for answer in answers} == {Arm.CANDIDATE}
        assert until(lambda: not up.router.read().candidate_up)
        assert up.router.read().baseline_up


def test_a_misrouting_router_keeps_reporting_the_asked_limit(tmp_path: Path) -> None:
    """The planted fault of the drill: twice the share is sent, and only counting answers shows it."""
    with minimal_up(tmp_path, extra_env={"router": [("LIMIT_FACTOR_PERCENT", "200")]}) as up:
        up.router.hold_lease()

        up.router.set_limit(1000)

        assert up.router.read().limit == 1000
        assert up.on_candidate() == {session for session in SESSIONS if bucket(session) < 2000}


def test_a_dead_router_is_an_environment_problem(tmp_path: Path) -> None:
    """Reading and setting both say where it should have answered."""
    with minimal_up(tmp_path) as up:
        up.stack.kill("router")

        with pytest.raises(EnvironmentProblem, match="does not answer"):
            up.router.read()
        with pytest.raises(EnvironmentProblem, match="does not answer"):
            up.router.set_limit(10)


def test_a_restarted_router_is_safe_and_counted(tmp_path: Path) -> None:
    """It dies by itself: it is started again with the limit that was set, and without a lease nobody moves."""
    with minimal_up(tmp_path) as up:
        up.router.set_limit(10_000)
        state = {one.name: one for one in up.provider._instances}  # noqa: SLF001 - to hit the process itself
        process = state["router"].process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)

        assert until(lambda: process.restarts == 1 and process.running)

        def limit() -> int:
            try:
                return up.router.read().limit
            except EnvironmentProblem:
                return -1

        assert until(lambda: limit() == 10_000)
        assert until(lambda: not up.router.read().lease_held)
        assert up.arm(X_Session_ID="a") == Arm.BASELINE


def test_the_arms_are_those_that_the_releases_say(up: Up) -> None:
    """The answer's version header is the release's of the arm that served."""
    answer = up.client.get("/answer?q=1", headers={"X-Rollgate-Arm": "candidate"})

    assert answer.headers["X-Version"] == ARMS[Arm.CANDIDATE].version


def test_a_state_folder_longer_than_a_socket_address_works(tmp_path: Path) -> None:
    """A deep home folder: the path of the admin socket is above 108 bytes."""
    folder = tmp_path / ("deep" * 25)
    folder.mkdir()
    with minimal_up(folder) as up:
        up.router.set_limit(1000)

        assert up.router.read().limit == 1000
