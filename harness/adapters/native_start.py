"""Starts the instances of a stack: in parallel, in dependency order, each until it is well."""

import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from harness.adapters import processes
from harness.adapters.free_ports import hold_port, holder_of
from harness.adapters.native_instance import Instance, Surroundings
from harness.adapters.native_render import Scope, render_files
from harness.adapters.native_targets import write_targets
from harness.adapters.probes import Asker, Question, password_name
from harness.model.errors import EnvironmentProblem, RollgateError
from harness.model.evidence import Arm

_IN_USE = re.compile(r"address (is )?already in use|EADDRINUSE|\[Errno 98\]|\[Errno 48\]", re.IGNORECASE)
_DISK_FULL = re.compile(r"no space left on device|ENOSPC|file too large|disk quota exceeded", re.IGNORECASE)
_EXITS_BEFORE_GIVING_UP = 2
_NEW_PORTS = 3
_POLL_S = 0.04
_SETTLE_S = 3.0
_AFTER_START_S = 120.0
_TAIL_LINES = 12


class _AbortedError(RollgateError):
    """Another instance failed: this start is over."""


class _MachineProblem(EnvironmentProblem):
    """A service stays down for want of a port or of space: no release can be blamed for it."""


class Starter:
    """Brings all instances up; `ready` is called from several threads with (instance, seconds it took)."""

    def __init__(
        self,
        instances: Sequence[Instance],
        around: Surroundings,
        *,
        ready: Callable[[Instance, float], None],
        warn: Callable[[str], None],
    ) -> None:
        """Plan to start `instances`."""
        self._instances = instances
        self._around = around
        self._ready = ready
        self._warn = warn
        self._asker = Asker()
        self._well = {one.name: threading.Event() for one in instances}
        self._abort = threading.Event()
        self._first: BaseException | None = None
        self._lock = threading.Lock()

    def run(self) -> None:
        """Start everything and return when all is well; EnvironmentProblem with the log of what stayed down.

        A candidate that does not come up does not raise: its own arm is unhealthy, which the probes will tell and
        the judge will hold against the release.
        """
        pool = ThreadPoolExecutor(max_workers=max(1, len(self._instances)), thread_name_prefix="start")
        try:
            wait([pool.submit(self._bring_up, one) for one in self._instances], return_when=FIRST_EXCEPTION)
        finally:
            self._abort.set()
            pool.shutdown(wait=True)
        if self._first is not None:
            raise self._first

    def _bring_up(self, instance: Instance) -> None:
        try:
            self._await_dependencies(instance)
            started = time.monotonic()
            try:
                self._start(instance)
            except EnvironmentProblem as problem:
                if not _blames_release(instance, problem):
                    raise
                instance.failure = problem.message
                self._warn(f"{instance.name} does not come up: {problem.message.splitlines()[0]}")
            else:
                self._ready(instance, time.monotonic() - started)
            self._well[instance.name].set()
        except BaseException as error:
            with self._lock:
                if self._first is None and not isinstance(error, _AbortedError):
                    self._first = error
            self._abort.set()
            raise

    def _await_dependencies(self, instance: Instance) -> None:
        for other in self._instances:
            same_arm = other.arm in {None, instance.arm} or instance.arm is None
            while other.service.name in instance.service.depends and same_arm and not self._well[other.name].wait(0.05):
                self._check_abort()
        self._check_abort()

    def _check_abort(self) -> None:
        if self._abort.is_set():
            msg = "aborted"
            raise _AbortedError(msg)

    def _start(self, instance: Instance) -> None:
        for _ in range(_NEW_PORTS):
            scope = self._launch(instance)
            if self._await_health(instance):
                self._after_start(instance, scope)
                return
            self._take_new_ports(instance)
        raise _failed(instance, "its ports were taken again and again", machine=True)

    def _launch(self, instance: Instance) -> Scope:
        """Render and start; the instance's ports are let go at the last moment."""
        around = self._around
        scope = around.scope(instance)
        instance.refers_to = scope.used
        env = around.environment(instance, scope)
        native, service = instance.native, instance.service
        instance.folder.mkdir(exist_ok=True)
        files = around.file_scope(scope, env)
        render_files(dict(native.files), around.system.root, instance.folder, files)
        if around.system.traffic.metrics_service.partition(".")[0] == service.name:
            write_targets(instance.folder, (one.scraped for one in self._instances if one.scraped))
        command = [scope.render(word) for word in native.command]
        shm = [scope.render(prefix) for prefix in native.shm]
        for port in instance.ports.values():
            port.release()
        instance.process = processes.start(
            command,
            env=env,
            cwd=around.working_folder(instance),
            log=instance.log,
            shm_prefixes=shm,
            restart=True,
            folders=(instance.folder,),
            root=around.state.root,
        )
        return files

    def _await_health(self, instance: Instance) -> bool:
        """Wait until the instance is well; False when it found its port taken and may have another."""
        health, process = instance.service.health, instance.process
        assert process is not None  # noqa: S101 - _launch set it
        secret = self._around.secrets.get(password_name(instance.service.name), "")
        question = Question(signal="", address=instance.address(health.port), how=health, secret=secret)
        began = time.monotonic()
        deadline = began + health.start_period_s
        problem = "it did not answer"
        while time.monotonic() < deadline:
            self._check_abort()
            if process.restarts and _IN_USE.search(instance.tail(40)):
                return self._port_taken(instance)
            if process.restarts >= _EXITS_BEFORE_GIVING_UP:
                raise _failed(instance, f"it {process.exit_note}")
            if process.running and not (problem := self._asker.problem(question)):
                instance.ready_s = time.monotonic() - began
                self._settle(instance, min(deadline, time.monotonic() + _SETTLE_S), secret)
                return True
            time.sleep(_POLL_S)
        raise _failed(instance, f"not well after {health.start_period_s:g} s: {problem}")

    def _settle(self, instance: Instance, deadline: float, secret: str) -> None:
        """Give the service's own checks a moment to hold too (a cache that connects after the start).

        One that does not is no error here: the probes find it, and the judge says whose it is.
        """
        for check in instance.service.checks:
            question = Question(signal="", address=instance.address(check.port), how=check, secret=secret)
            while self._asker.problem(question) and time.monotonic() < deadline:
                self._check_abort()
                time.sleep(_POLL_S)

    def _port_taken(self, instance: Instance) -> bool:
        """Return False when nobody has been told the instance's ports yet; else name the port and its holder."""
        port, holder = next(
            ((one.number, holder_of(one.number)) for one in instance.ports.values() if not _can_bind(one.number)),
            (0, ""),
        )
        told = any(instance.service.name in other.refers_to for other in self._instances if other is not instance)
        if not told:
            self._warn(f"{instance.name}: port {port} was taken by {holder or 'another process'}, choosing another")
            return False
        what = f"port {port} is held by {holder}" if port else "one of its ports was taken for a moment"
        raise _failed(instance, what, mend="run again; the ports are chosen anew", machine=True)

    def _take_new_ports(self, instance: Instance) -> None:
        if instance.process is not None:
            instance.process.abandon()
        instance.log.unlink(missing_ok=True)
        instance.ports = {name: hold_port() for name in instance.ports}

    def _after_start(self, instance: Instance, scope: Scope) -> None:
        env = self._around.environment(instance, scope) if instance.native.after_start else {}
        for words in instance.native.after_start:
            command = [scope.render(word) for word in words]
            try:
                answer = subprocess.run(
                    command, env=env, cwd=instance.folder, capture_output=True, timeout=_AFTER_START_S, check=False
                )
                problem = answer.stderr.decode("utf-8", "replace")[-400:] if answer.returncode else ""
            except (OSError, subprocess.TimeoutExpired) as error:
                problem = str(error)
            if problem:
                raise _failed(instance, f"`{' '.join(command)}` failed: {problem}")


def _failed(instance: Instance, why: str, *, mend: str = "", machine: bool = False) -> EnvironmentProblem:
    """Return the error of an instance that stays down, with the end of its log."""
    tail = instance.tail(_TAIL_LINES)
    if _DISK_FULL.search(tail):
        why, mend = f"{why}; the disk is full or a file-size limit was met", "free space, or raise `ulimit -f`"
        machine = True
    log = f"\n--- {instance.log}\n{tail}" if tail else ""
    kind = _MachineProblem if machine else EnvironmentProblem
    return kind(f"{instance.name} does not come up: {why}{log}", mend=mend or f"see {instance.log}")


def _blames_release(instance: Instance, problem: EnvironmentProblem) -> bool:
    """Whether a start that failed is the candidate's own doing, not the machine's."""
    machine = isinstance(problem, _MachineProblem)
    return instance.arm is Arm.CANDIDATE and instance.service.under_release and not machine


def _can_bind(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
