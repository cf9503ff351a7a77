"""A stack without a gate: brought up by a keeper in the background, that holds it until it is told to take it down.

The keeper is a process of its own session, so that the stack outlives the command; when it dies in whatever way, what
it started goes with it, as with a gate's. Its folder in the cache holds stack.json, logs and its lock.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import spec
from harness.adapters.probes import Asker, questions
from harness.adapters.stack_file import DescribedStack
from harness.model.errors import EnvironmentProblem, RollgateError, SpecError
from harness.model.event import Event, Noted, ServiceStarted
from harness.model.evidence import Arm
from harness.model.judgement import ServiceRecord
from harness.model.system import System
from harness.paths import cache_root
from harness.planning.summary import Credential, Endpoint, Summary
from harness.ports import InstanceState
from harness.run.gate import Request
from harness.spec.preflight import load_preflight
from harness.wiring.bring_up import bring_up_containers, check_composition
from harness.wiring.choices import choose_plan, choose_provider
from harness.wiring.gate import new_run_id
from harness.wiring.site import DockerSite, LocalSite, NativeSite

STACK, LOG, KEEPER = "stack.json", "keeper.log", "keeper.json"
_UP, _FAILED = "up", "failed"
_POLL_S = 0.1
_DOWN_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A stack that is up: its parts as they are now, where each answers, and where credentials lie."""

    provider: str
    folder: Path
    entry: str
    instances: Sequence[InstanceState]
    addresses: Mapping[str, Mapping[str, str]]
    services: Sequence[ServiceRecord]
    absent: Mapping[str, str]
    secrets: Mapping[str, str]


def folder_of(system: System) -> Path:
    """Return where the stack of a system is kept: one a system and user."""
    return cache_root() / "stacks" / system.name


def up(name: str, provider: str, *, plan: str | None, release: str | None, say: Callable[[str], None]) -> Status:
    """Bring the stack of a system up, and leave it with its keeper; `say` gets a line for every step and part.

    Raises SpecError for bad input or a stack that is up already, EnvironmentProblem where it does not come up.
    """
    system = spec.load_system(spec.find_system(name))
    chosen = choose_provider(provider, None, system)
    if chosen == "remote":
        raise SpecError("a deployed stack is up already", key="--provider", mend="use native or docker")
    choose_plan(system, chosen, plan)
    spec.load_release(spec.find_release(system, release or "good"), system)
    folder = folder_of(system)
    if _alive(folder):
        msg = f"the stack of {system.name} is up already"
        raise SpecError(msg, key=name, mend=f"`rollgate stack down {name}` takes it down")
    asked = {"system": str(system.root), "provider": chosen, "plan": plan, "release": release, "folder": str(folder)}
    try:
        bring_up_containers(
            system.root,
            folder / "logs",
            start=lambda _settings: _start(asked, folder, say),
            unwell=lambda: _unwell(system, folder),
            summary=lambda _settings: _summary(system, status(name)),
            say=say,
            check=check_composition if chosen == "docker" else lambda: None,
        )
    except BaseException:
        if pid := _alive(folder):
            _end(pid, folder)
        raise
    return status(name)


def _start(asked: Mapping[str, str | None], folder: Path, say: Callable[[str], None]) -> None:
    """Start the keeper and follow it until its stack is up. Raises EnvironmentProblem with its last word."""
    for old in (STACK, LOG, KEEPER):
        (folder / old).unlink(missing_ok=True)
    with (folder / LOG).open("wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "harness.wiring.stack", json.dumps(asked)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
    try:
        _follow(keeper, folder, say)
    except BaseException:
        _end(keeper.pid, folder)
        keeper.wait()
        raise
    keeper.returncode = 0  # it goes on by itself: nobody waits for it here


def _unwell(system: System, folder: Path) -> dict[str, str]:
    """Return why each service that is not well is not, by its health probe, asked now."""
    stack, asker = DescribedStack(folder / STACK), Asker()
    found = {one.signal.removeprefix("health."): asker.problem(one) for one in questions(system, stack)}
    return {name: problem for name, problem in found.items() if problem}


def _summary(system: System, found: Status) -> Summary:
    requirements, _ = load_preflight()
    return Summary(
        endpoints=tuple(
            Endpoint(service=name, port=port, address=address, variable="")
            for name, ports in found.addresses.items()
            for port, address in ports.items()
        ),
        credentials=tuple(Credential(name=name, file=file, variable="") for name, file in found.secrets.items()),
        documents=requirements.documents,
        next_steps=tuple(f"rollgate stack {word} {system.name}" for word in ("status", "logs", "down")),
    )


def down(name: str) -> bool:
    """Take a stack down and return when it is gone; False where none was up."""
    folder = folder_of(spec.load_system(spec.find_system(name)))
    pid = _alive(folder)
    if not pid:
        return False
    _end(pid, folder)
    shutil.rmtree(folder, ignore_errors=True)
    return True


def status(name: str) -> Status:
    """Return how the stack of a system is. Raises EnvironmentProblem where none is up."""
    system = spec.load_system(spec.find_system(name))
    folder = folder_of(system)
    if not _alive(folder) or not (folder / STACK).exists():
        raise EnvironmentProblem(f"no stack of {system.name} is up", mend=f"`rollgate stack up {name}` brings one up")
    stack = DescribedStack(folder / STACK)
    told = stack.description
    return Status(
        provider=told["provider"],
        folder=folder,
        entry=told["entry"],
        instances=stack.instances(),
        addresses={one["name"]: one["addresses"] for one in told["instances"]},
        services=stack.records(),
        absent=told.get("absent", {}),
        secrets=told["secrets"],
    )


def logs(name: str, instance: str, lines: int) -> Iterator[tuple[str, str]]:
    """Yield (instance, its last lines) of one instance, of all where `instance` is "".

    Raises SpecError for an instance that does not run, EnvironmentProblem where no stack is up.
    """
    found = status(name)
    known = sorted(found.addresses)
    if instance and instance not in known:
        raise SpecError(f"there is no instance {instance!r}", key=instance, mend=f"known ones: {', '.join(known)}")
    stack = DescribedStack(found.folder / STACK)
    for one in [instance] if instance else known:
        yield one, stack.log_tail(one, lines)


def _alive(folder: Path) -> int:
    """Return the keeper's process id, 0 where none lives: it holds its lock as long as it does."""
    try:
        with (folder / KEEPER).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(json.loads(file.read())["pid"])
    except (OSError, ValueError, KeyError):
        return 0
    return 0


def _follow(keeper: subprocess.Popen[bytes], folder: Path, say: Callable[[str], None]) -> None:
    """Repeat what the keeper says until its stack is up. Raises EnvironmentProblem with its last word."""
    seen = 0
    while True:
        ended = keeper.poll() is not None
        lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        for line in [one for one in lines if one.endswith("\n")][seen:]:
            seen += 1
            kind, _, text = line.rstrip("\n").partition(" ")
            if kind == _UP:
                return
            if kind == _FAILED:
                message, mend = json.loads(text)
                raise EnvironmentProblem(message, mend=mend)
            say(line.rstrip("\n"))
        if ended:
            raise EnvironmentProblem("the stack's keeper ended", mend=f"read {folder / LOG}")
        time.sleep(_POLL_S)


def _end(pid: int, folder: Path) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    deadline = time.monotonic() + _DOWN_S
    while _alive(folder):
        if time.monotonic() > deadline:
            raise EnvironmentProblem(f"the stack's keeper does not end (process {pid})", mend=f"read {folder / LOG}")
        time.sleep(_POLL_S)


def keep(asked: Mapping[str, str]) -> int:
    """Bring the stack up and hold it until SIGTERM: the keeper's whole life."""
    folder = Path(asked["folder"])
    held = os.open(folder / KEEPER, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(held, json.dumps({"pid": os.getpid()}).encode())
    signal.signal(signal.SIGTERM, _stop)
    site: LocalSite | None = None
    try:
        site = _site(asked, folder)
        site.preflight()
        site.provider.up()
        _tell(_UP)
        while True:
            signal.pause()
    except _StoppedError:
        return 0
    except RollgateError as error:
        _tell(f"{_FAILED} {json.dumps([error.message, error.mend])}")
        return error.exit_code
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if site is not None:
            site.provider.down()
        os.close(held)


def _site(asked: Mapping[str, str], folder: Path) -> LocalSite:
    system = spec.load_system(Path(asked["system"]))
    request = Request(
        run_id=new_run_id(system.name),
        system=system,
        plan=choose_plan(system, asked["provider"], asked["plan"]),
        arms={
            Arm.BASELINE: spec.load_release(spec.find_release(system, "baseline"), system),
            Arm.CANDIDATE: spec.load_release(spec.find_release(system, asked["release"] or "good"), system),
        },
        out=folder,
        seed=1,
    )
    return (DockerSite if asked["provider"] == "docker" else NativeSite)(request, _told)


def _told(event: Event) -> None:
    if isinstance(event, ServiceStarted):
        real = "" if event.kind == "real" else f", {event.kind}"
        _tell(f"  {event.name}: well after {event.seconds:.1f} s ({event.version or 'no version'}{real})")
    elif isinstance(event, Noted):
        _tell(f"  {event.text}")


def _tell(line: str) -> None:
    """One line on stderr, which is the keeper's log: what several lines long becomes one."""
    sys.stderr.write(" | ".join(line.splitlines()) + "\n")
    sys.stderr.flush()


class _StoppedError(Exception):
    """The keeper was told to end."""


def _stop(_signal: int, _frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: what takes the stack down must not be cut short
    raise _StoppedError


if __name__ == "__main__":
    sys.exit(keep(json.loads(sys.argv[1])))
