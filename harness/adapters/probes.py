"""Asks services how they are: health endpoints, service-specific checks, and exits that nobody asked for."""

import re
import secrets
import socket
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from harness.adapters.http_question import Answer, NoAnswer, get
from harness.adapters.remote_access import Access
from harness.model.evidence import Arm, Evidence, Kind, Source, Unit
from harness.model.system import Check, Health, Service, System
from harness.ports import Clock, Stack

_TIMEOUT_S = 2.0
_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One thing to ask of one address. `secret` is the password of a redis service; `access` lets an HTTP one in.

    `tls` is set where the address is asked by https.
    """

    signal: str
    address: str
    how: Health | Check
    arm: Arm | None = None
    secret: str = ""
    access: Access = field(default_factory=Access)
    tls: ssl.SSLContext | None = None


class Asker:
    """Asks over HTTP, TCP or Redis; every question gets a connection of its own and a short timeout.

    The timeout bounds an HTTP question as a whole, and each of a Redis question's few commands.
    """

    def __init__(self, *, timeout_s: float = _TIMEOUT_S) -> None:
        """Bound each question by `timeout_s` seconds."""
        self._timeout = timeout_s

    def problem(self, question: Question) -> str:
        """Return "" when the answer is what was expected, else one line that says what was found."""
        try:
            match question.how.kind:
                case "http":
                    return self._http_problem(question)
                case "tcp":
                    with socket.create_connection(_host_port(question.address), timeout=self._timeout):
                        return ""
                case _:
                    return self._redis_problem(question)
        except (OSError, NoAnswer, redis.RedisError) as error:
            return f"{question.address}: {error or type(error).__name__}"

    def _http_problem(self, question: Question) -> str:
        how = question.how
        url = f"{'https' if question.tls else 'http'}://{question.address}{how.path}"
        found = self.answer(question)
        status, text = found.status, question.access.hide(found.text)
        if status not in how.statuses:
            wanted = "/".join(str(status) for status in how.statuses)
            return f"GET {url}: {status}, expected {wanted}: {text[:160]}"
        if how.body and not re.search(how.body, text):
            return f"GET {url}: the body does not match {how.body!r}: {text[:160]}"
        return ""

    def answer(self, question: Question) -> Answer:
        """Return the whole answer to an HTTP question. Raises OSError or NoAnswer."""
        return get(
            question.address,
            question.how.path,
            within_s=self._timeout,
            headers=question.access.headers,
            tls=question.tls,
            name=question.access.host,
        )

    def _redis_problem(self, question: Question) -> str:
        host, port = _host_port(question.address)
        client = redis.Redis(
            host=host,
            port=port,
            password=question.secret or None,
            socket_timeout=self._timeout,
            socket_connect_timeout=self._timeout,
            retry=Retry(NoBackoff(), 0),  # by default it tries for seconds: a probe tells how things are now
        )
        try:
            client.ping()  # pyright: ignore[reportUnknownMemberType] - redis-py types it by overloads
            if question.how.kind != "redis_write":
                return ""
            key, value = f"rollgate:probe:{secrets.token_hex(4)}", secrets.token_hex(8)
            client.set(key, value, ex=10)
            found = client.get(key)
            client.delete(key)
            return "" if found == value.encode() else f"{question.address}: wrote {value!r}, read back {found!r}"
        finally:
            client.close()


class StackProbes:
    """One record a service, arm and check, and one `restarts` record an arm, at each collection."""

    def __init__(self, system: System, stack: Stack, clock: Clock, *, asked: Sequence[Question] | None = None) -> None:
        """Probe every service of `system` that `stack` runs; with `asked` those alone, and count no exits."""
        self._stack = stack
        self._clock = clock
        self._asker = Asker()
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="probe")
        self._questions = questions(system, stack) if asked is None else tuple(asked)
        self._counts_exits = asked is None

    def collect(self) -> Sequence[Evidence]:
        """Probe everything once, in parallel; never raises for a dead service."""
        exits = self._exits() if self._counts_exits else []
        return [*self._pool.map(self._ask, self._questions), *exits]

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _ask(self, question: Question) -> Evidence:
        start = self._clock.now()
        problem = self._asker.problem(question)
        return _event(question.signal, question.arm, start, self._clock.now(), problem)

    def _exits(self) -> list[Evidence]:
        """Tell for each arm how often its processes ended unasked since the start."""
        now = self._clock.now()
        total: dict[Arm, int] = {}
        notes: dict[Arm, str] = {}
        for instance in self._stack.instances():
            if instance.arm is not None:
                total[instance.arm] = total.get(instance.arm, 0) + instance.restarts
                if instance.restarts:
                    notes[instance.arm] = f"{instance.name} {instance.exit_note}"
        return [
            Evidence(
                kind=Kind.GAUGE,
                source=Source.PROBE,
                signal="restarts",
                start_s=now,
                end_s=now,
                arm=arm,
                unit=Unit.PROBE,
                value=float(count),
                note=notes.get(arm, ""),
            )
            for arm, count in total.items()
        ]


def questions(system: System, stack: Stack) -> list[Question]:
    """Return every health and check question of the services that run in `stack`."""
    wanted: list[Question] = []
    running = {(instance.service, instance.arm) for instance in stack.instances()}
    for service in system.services:
        asked = [(f"health.{service.name}", service.health)]
        asked += [(f"check.{service.name}.{check.name}", check) for check in service.checks]
        for arm in (Arm.BASELINE, Arm.CANDIDATE) if service.per_arm else (None,):
            if (service.name, arm) in running:
                wanted += [
                    Question(
                        signal=signal,
                        address=stack.address(service.name, how.port, arm),
                        how=how,
                        arm=arm,
                        secret=_secret(stack, service, system) if how.kind.startswith("redis") else "",
                    )
                    for signal, how in asked
                ]
    return wanted


def password_name(service: str) -> str:
    """Return the name of the secret that a redis service is asked with."""
    return f"{service}_password"


def _secret(stack: Stack, service: Service, system: System) -> str:
    name = password_name(service.name)
    return stack.secret(name) if name in system.secrets else ""


def _event(signal: str, arm: Arm | None, start: float, end: float, problem: str) -> Evidence:
    return Evidence(
        kind=Kind.EVENTS,
        source=Source.PROBE,
        signal=signal,
        start_s=start,
        end_s=max(start, end),
        arm=arm,
        unit=Unit.PROBE,
        n=1,
        bad=1 if problem else 0,
        note=problem,
    )


def _host_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
