"""What the native provider's selftests share: systems that a few lines make, and a look at what a run left behind."""

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import pytest

from harness import spec
from harness.adapters.native import NativeProvider
from harness.adapters.programs import ensure
from harness.model.errors import EnvironmentProblem
from harness.model.event import Event
from harness.model.evidence import Arm
from harness.model.system import Health, Native, Release, Service, System
from harness.paths import cache_root

APP = "${system}/app.py"
BASELINE, GOOD = Release(name="baseline", version="1.0"), Release(name="good", version="1.1")
ARMS = {Arm.BASELINE: BASELINE, Arm.CANDIDATE: GOOD}


def minimal() -> System:
    """Return the minimal system as it ships."""
    return spec.load_system(spec.find_system("minimal"))


def system_of(*services: Service, secrets: tuple[str, ...] = ()) -> System:
    """Return the minimal system with other services."""
    return dataclasses.replace(minimal(), services=services, secrets=secrets)


def app_service(name: str = "app", **changes: object) -> Service:
    """Return one instance of minimal's application as a service."""
    native = Native(command=("${python}", APP), env=(("PORT", "${port.http}"),))
    service = Service(
        name=name,
        ports=(("http", 8000),),
        health=Health(kind="http", port="http", path="/health", start_period_s=10),
        native=native,
    )
    return dataclasses.replace(service, **changes)


def run_of(
    system: System,
    folder: Path,
    *,
    arms: Mapping[Arm, Release] = ARMS,
    events: list[Event] | None = None,
    time_scale: float = 1.0,
    extra_env: Mapping[str, list[tuple[str, str]]] | None = None,
) -> NativeProvider:
    """Return a provider whose run lives in `folder`."""
    return NativeProvider(
        system,
        arms,
        out=folder / "out",
        state=folder / "run" / "r1",
        run_id=f"selftest{os.getpid()}",
        time_scale=time_scale,
        cache=cache_root(),
        on_event=(events if events is not None else []).append,
        extra_env=extra_env,
    )


def need(*programs: str) -> None:
    """Skip the test where a real program is not to be had."""
    try:
        ensure(programs, cache_root(), lambda _: None)
    except EnvironmentProblem as problem:
        pytest.skip(f"no {', '.join(programs)} on this machine: {problem.message}")


def processes_in(folder: Path) -> list[str]:
    """Return the command line of every process that works in `folder` or names it."""
    found: list[str] = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        inside = str(process.info["cwd"] or "").startswith(str(folder)) or str(folder) in line
        if inside and process.info["pid"] != os.getpid() and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(line)
    return found


def until(condition: Callable[[], object], *, within: float = 5.0) -> bool:
    """Wait for a condition with a bound; tell whether it came true."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
