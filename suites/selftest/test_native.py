"""The native provider: a stack comes up whole or not at all, tells what it is, and leaves nothing behind."""

import dataclasses
import fcntl
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from native_runs import ARMS, BASELINE, app_service, minimal, need, processes_in, run_of, system_of, until

from harness.adapters import native_instance, native_state
from harness.adapters.free_ports import HeldPort, hold_port
from harness.adapters.native import NativeProvider
from harness.adapters.native_state import RunState, sweep
from harness.adapters.stack_file import DescribedStack
from harness.model.errors import EnvironmentProblem, SpecError
from harness.model.event import Event, Noted, ServiceStarted
from harness.model.evidence import Arm
from harness.model.system import Health, Native, Release

pytestmark = pytest.mark.selftest

SERVE = "import runpy; runpy.run_path('${system}/app.py', run_name='__main__')"
HARNESS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from native_runs import minimal, run_of
provider = run_of(minimal(), Path(sys.argv[2]))
print("begin", flush=True)
provider.up()
print("up", flush=True)
import time
time.sleep(600)
"""


@pytest.fixture
def brought_up(tmp_path: Path) -> Iterator[list[NativeProvider]]:
    """Collect providers; take them down at the end."""
    providers: list[NativeProvider] = []
    yield providers
    for provider in providers:
        provider.down()
    assert processes_in(tmp_path) == []


def test_the_minimal_system_comes_up_and_goes_down_without_a_trace(tmp_path: Path) -> None:
    """Both arms answer through the router by header; afterwards no process, no state, no port is left."""
    need("haproxy")
    events: list[Event] = []
    provider = run_of(minimal(), tmp_path, events=events)
    stack = provider.up()
    entry = stack.address("router", "http")

    for arm, version in ((Arm.BASELINE, "1.0"), (Arm.CANDIDATE, "1.1")):
        answer = httpx.get(f"http://{entry}/answer?q=21", headers={"X-Rollgate-Arm": arm}, trust_env=False)
        assert answer.json()["answer"] == 42
        assert (answer.headers["X-Arm"], answer.headers["X-Version"]) == (arm, version)
    started = [event for event in events if isinstance(event, ServiceStarted)]
    assert {event.name for event in started} == {"router", "app[baseline]", "app[candidate]"}
    assert all(instance.running for instance in stack.instances())
    assert {record.name: record.version for record in stack.records()}["app"] == "1.0, 1.1"

    provider.down()
    provider.down()

    assert processes_in(tmp_path) == []
    assert list((tmp_path / "run").iterdir()) == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{entry}/", trust_env=False)


def test_the_stack_is_described_for_others(tmp_path: Path, brought_up: list[NativeProvider]) -> None:
    """stack.json has addresses, arms and secret files, never a secret."""
    service = app_service(per_arm=True, under_release=True)
    provider = run_of(with_entry(system_of(service, secrets=("key",))), tmp_path)
    brought_up.append(provider)
    stack = provider.up()

    described = DescribedStack(tmp_path / "out" / "stack.json")

    assert described.address("app", "http", Arm.CANDIDATE) == stack.address("app", "http", Arm.CANDIDATE)
    assert described.secret("key") == stack.secret("key")
    assert stack.secret("key") not in (tmp_path / "out" / "stack.json").read_text(encoding="utf-8")
    assert stat.S_IMODE(Path(described.description["secrets"]["key"]).stat().st_mode) == 0o600
    assert [one.running for one in described.instances()] == [True, True, True]
    assert described.records() == list(stack.records())
    with pytest.raises(KeyError):
        described.address("app", "http")
    with pytest.raises(EnvironmentProblem, match="another process"):
        described.kill("app")


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 2}', '{"schema": 1, "entry": "x"}'])
def test_a_description_that_is_none_is_one_clear_error(tmp_path: Path, text: str) -> None:
    """Half a file, another schema, missing keys."""
    (tmp_path / "stack.json").write_text(text, encoding="utf-8")

    with pytest.raises(EnvironmentProblem, match="description"):
        DescribedStack(tmp_path / "stack.json")


def test_a_service_that_stays_down_fails_with_its_log_and_takes_all_down(tmp_path: Path) -> None:
    """One of two services ends with a message."""
    broken = Native(command=("${python}", "-c", "raise SystemExit('no such key: colour')"))
    system = system_of(app_service("well"), app_service("broken", native=broken))

    with pytest.raises(
        EnvironmentProblem, match=r"broken does not come up: it exited with 1[\s\S]*no such key: colour"
    ):
        run_of(system, tmp_path).up()

    assert processes_in(tmp_path) == []
    assert not (tmp_path / "run" / "r1").exists()


def test_a_service_that_never_answers_fails_after_its_start_period(tmp_path: Path) -> None:
    """It runs, but nothing listens."""
    mute = Native(command=("${python}", "-c", "import time; time.sleep(600)"))
    health = Health(kind="tcp", port="http", start_period_s=0.4)

    with pytest.raises(EnvironmentProblem, match=r"mute does not come up: not well after 0\.4 s.*refused"):
        run_of(system_of(app_service("mute", native=mute, health=health)), tmp_path).up()


def test_a_candidate_that_does_not_start_is_the_releases_and_stops_nothing(
    tmp_path: Path, brought_up: list[NativeProvider]
) -> None:
    """The release brings a command that exits; the baseline's arm is well."""
    crash = ("app", ("${python}", "-c", "raise SystemExit('bad release: no support for port 80')"))
    events: list[Event] = []
    arms = {Arm.BASELINE: BASELINE, Arm.CANDIDATE: Release(name="crash", version="2", command=(crash,))}
    service = app_service(per_arm=True, under_release=True)
    provider = run_of(with_entry(system_of(service)), tmp_path, arms=arms, events=events)
    brought_up.append(provider)

    stack = provider.up()

    state = {one.arm: one for one in stack.instances()}
    assert state[Arm.BASELINE].running
    assert state[Arm.CANDIDATE].restarts >= 2
    assert "bad release" in stack.log_tail("app[candidate]")
    assert any(isinstance(event, Noted) and event.level == "warning" for event in events)


def test_a_baseline_that_does_not_start_is_the_machines(tmp_path: Path) -> None:
    """The same crash on the baseline's arm is an environment problem."""
    crash = ("app", ("${python}", "-c", "raise SystemExit('bad')"))
    arms = {Arm.BASELINE: Release(name="b", version="1", command=(crash,)), Arm.CANDIDATE: ARMS[Arm.CANDIDATE]}

    with pytest.raises(EnvironmentProblem, match=r"app\[baseline\] does not come up"):
        run_of(with_entry(system_of(app_service(per_arm=True, under_release=True))), tmp_path, arms=arms).up()


def with_entry(system: native_instance.System) -> native_instance.System:
    """Return `system` with a stateless entry, for systems whose only service runs per arm."""
    router = app_service("router")
    return dataclasses.replace(system, services=(*system.services, router))


def taken_first(monkeypatch: pytest.MonkeyPatch, listener: socket.socket) -> None:
    """Let the first port that a run draws be one on which somebody already listens."""
    drawn: list[HeldPort] = []

    class Taken(HeldPort):
        def __init__(self) -> None:
            self.number = listener.getsockname()[1]

        def release(self) -> int:
            return self.number

    def draw() -> HeldPort:
        drawn.append(hold_port() if drawn else Taken())
        return drawn[-1]

    monkeypatch.setattr(native_instance, "hold_port", draw)


def test_a_taken_port_that_nobody_was_told_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brought_up: list[NativeProvider]
) -> None:
    """Another process slipped in between choosing and binding."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken_first(monkeypatch, listener)
        provider = run_of(with_entry(system_of()), tmp_path)
        brought_up.append(provider)

        stack = provider.up()

        assert stack.address("router", "http") != f"127.0.0.1:{listener.getsockname()[1]}"
        assert httpx.get(f"http://{stack.address('router', 'http')}/health", trust_env=False).status_code == 200


def test_a_taken_port_that_others_were_told_names_port_and_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A neighbour was started with the address already."""
    native = Native(command=("${python}", "${system}/app.py"), env=(("PORT", "${port.http}"), ("TOLD", "${app.http}")))
    code = f"import time; time.sleep(0.5); {SERVE}"
    late = Native(command=("${python}", "-c", code), env=(("PORT", "${port.http}"),))
    system = system_of(app_service(native=late), app_service("neighbour", native=native))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken_first(monkeypatch, listener)
        port = listener.getsockname()[1]

        with pytest.raises(EnvironmentProblem, match=rf"port {port} is held by .*pid {os.getpid()}"):
            run_of(system, tmp_path).up()

    assert processes_in(tmp_path) == []


def test_a_full_disk_is_named_as_such(tmp_path: Path) -> None:
    """A service dies of ENOSPC; /dev/full plays the disk."""
    full = Native(command=("${python}", "-c", "open('/dev/full', 'w').write('x' * 100000)"))

    with pytest.raises(EnvironmentProblem, match="the disk is full") as caught:
        run_of(system_of(app_service(native=full)), tmp_path).up()

    assert "free space" in caught.value.mend


def test_secrets_reach_no_log_no_argument_and_no_event(tmp_path: Path, brought_up: list[NativeProvider]) -> None:
    """A service reads its secret from the file that it is told."""
    code = f"import os; assert open(os.environ['KEY']).read(); {SERVE}"
    native = Native(command=("${python}", "-c", code), env=(("PORT", "${port.http}"), ("KEY", "${secret_file.key}")))
    events: list[Event] = []
    provider = run_of(system_of(app_service("router", native=native), secrets=("key",)), tmp_path, events=events)
    brought_up.append(provider)
    secret = provider.up().secret("key")

    seen = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "out").rglob("*") if path.is_file())

    assert len(secret) >= 24
    assert secret not in seen + repr(events) + "".join(processes_in(tmp_path))


@pytest.mark.parametrize(
    "native, message",
    [
        (Native(command=("${bin.nonsense}",)), r"router: unknown reference \$\{bin\.nonsense\}"),
        (Native(command=("x",), env=(("A", "${other.http}"),)), r"unknown reference \$\{other\.http\}"),
        (Native(command=("x",), files=(("away.cfg", "a"),)), r"system\.yaml: files: cannot read the template"),
    ],
)
def test_a_wrong_reference_is_a_spec_error_with_its_place(tmp_path: Path, native: Native, message: str) -> None:
    """Unknown program, unknown service, template that is away."""
    with pytest.raises(SpecError, match=message):
        run_of(system_of(app_service("router", native=native)), tmp_path).up()


def test_what_ships_under_prometheus_is_copied_byte_for_byte_at_scale_1(
    tmp_path: Path, brought_up: list[NativeProvider]
) -> None:
    """`${...}` in shipped files is left alone; elsewhere it is filled in; targets lie beside."""
    root = tmp_path / "system"
    (root / "prometheus" / "rules").mkdir(parents=True)
    shipped = "scrape_configs:\n  - job_name: app\n    # ${not.ours} [5m]\n"
    shipped += "    file_sd_configs: [{files: [targets/gone.json]}]\n"
    (root / "prometheus" / "prometheus.yml").write_text(shipped, encoding="utf-8")
    (root / "prometheus" / "rules" / "a.yml").write_text("groups: []\n", encoding="utf-8")
    (root / "own.cfg").write_text("port ${port.http} factor ${env.FACTOR}\n", encoding="utf-8")
    native = Native(
        command=("${python}", str(minimal().root / "app.py")),
        env=(("PORT", "${port.http}"), ("FACTOR", "1")),
        files=(("prometheus/prometheus.yml", "prometheus.yml"), ("prometheus/rules/", "rules"), ("own.cfg", "own.cfg")),
    )
    service = app_service("router", native=native, metrics=("http", "/metrics"), job="app")
    system = dataclasses.replace(system_of(service), root=root)
    traffic = dataclasses.replace(system.traffic, metrics_service="router.http")
    provider = run_of(dataclasses.replace(system, traffic=traffic), tmp_path, extra_env={"router": [("FACTOR", "2")]})
    brought_up.append(provider)
    port = provider.up().address("router", "http").rpartition(":")[2]
    folder = tmp_path / "run" / "r1" / "i" / "router"

    assert (folder / "prometheus.yml").read_text(encoding="utf-8") == shipped
    assert (folder / "rules" / "a.yml").is_file()
    assert (folder / "own.cfg").read_text(encoding="utf-8") == f"port {port} factor 2\n"
    assert json.loads((folder / "targets" / "app.json").read_text(encoding="utf-8")) == [
        {"targets": [f"127.0.0.1:{port}"], "labels": {}}
    ]
    assert json.loads((folder / "targets" / "gone.json").read_text(encoding="utf-8")) == []


def test_a_preferred_program_on_path_replaces_the_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brought_up: list[NativeProvider]
) -> None:
    """With a real `ollama` on PATH it runs, after_start is called, and the record says real; else the stand-in."""
    tools = tmp_path / "tools"
    tools.mkdir()
    real = tools / "ollama"
    app = minimal().root / "app.py"
    body = '[ "$1" = --version ] && echo ollama version is 9.9.9 && exit; [ "$1" = create ] && touch made && exit'
    body += f"; exec {sys.executable} {app}"
    real.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    real.chmod(0o755)
    preferred = Native(
        command=("${bin.ollama}", "serve"),
        env=(("PORT", "${port.http}"),),
        programs=("ollama",),
        after_start=(("${bin.ollama}", "create"),),
    )
    stand_in = Native(
        command=("${python}", "${system}/app.py"),
        env=(("PORT", "${port.http}"),),
        stand_in="plays it",
        prefer=preferred,
    )
    kinds: list[str] = []
    for path in (os.environ["PATH"], f"{tools}:{os.environ['PATH']}"):
        monkeypatch.setenv("PATH", path)
        provider = run_of(system_of(app_service("router", native=stand_in)), tmp_path)
        brought_up.append(provider)
        kinds += [f"{record.kind} {record.note}".strip() for record in provider.up().records()]
        made = (tmp_path / "run" / "r1" / "i" / "router" / "made").exists()
        provider.down()

    assert kinds == ["stand_in plays it", "real"]
    assert made


def test_the_state_of_dead_runs_is_swept_and_of_live_ones_kept(tmp_path: Path) -> None:
    """One run's lock is held, one's is not, one folder is none of ours."""
    live = RunState(tmp_path / "live", run_id="live", shm_prefixes=())
    dead = tmp_path / "dead"
    (dead / "i").mkdir(parents=True)
    (dead / "owner.lock").write_text(json.dumps({"shm_prefixes": []}), encoding="utf-8")
    (tmp_path / "other").mkdir()

    assert sweep(tmp_path) == [dead]
    assert {path.name for path in tmp_path.iterdir()} == {"live", "other"}
    live.remove()


def test_a_sweep_beside_a_start_takes_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another gate sweeps just when a run has its folder and not yet its lock: it must wait, and then spare it."""
    real, sweeps = fcntl.flock, list[threading.Thread]()

    def flock(handle: int, operation: int) -> None:
        """Let the other gate sweep, as far as it gets, before the first lock that does not wait."""
        if operation & fcntl.LOCK_NB and not sweeps:
            sweeps.append(threading.Thread(target=sweep, args=(tmp_path,)))
            sweeps[0].start()
            sweeps[0].join(0.3)
        real(handle, operation)

    monkeypatch.setattr(native_state.fcntl, "flock", flock)
    state = RunState(tmp_path / "young", run_id="r", shm_prefixes=())
    (other,) = sweeps
    other.join(5)
    assert not other.is_alive()
    assert state.instances.is_dir()
    state.remove()


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.15, None])
def test_a_provider_killed_at_any_moment_leaves_nothing(tmp_path: Path, delay_s: float | None) -> None:
    """Kill -9 while starting, at several moments, and once all is up: clean within 5 s."""
    need("haproxy")
    command = [sys.executable, "-c", HARNESS, str(Path(__file__).parent), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as harness:
        assert harness.stdout is not None
        assert harness.stdout.readline() == b"begin\n"
        if delay_s is None:
            assert harness.stdout.readline() == b"up\n"
            assert len(processes_in(tmp_path / "run")) >= 3
        else:
            until(lambda: False, within=delay_s)
        os.kill(harness.pid, signal.SIGKILL)

    assert until(lambda: not processes_in(tmp_path), within=5.0)
    sweep(tmp_path / "run")  # what was killed before its first process had a watchdog is the next run's to sweep
    assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == []
