"""The remote provider: a deployed stack, which is looked at and never started, changed or ended."""

import json
import socket
import time
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from harness.adapters.http_question import NoAnswer
from harness.adapters.probes import Asker, Question
from harness.adapters.remote_access import Access
from harness.adapters.stack_file import SCHEMA
from harness.model.errors import EnvironmentProblem
from harness.model.event import Event, Noted, ServiceStarted
from harness.model.evidence import Arm
from harness.model.judgement import ServiceKind, ServiceRecord
from harness.model.system import Release, System
from harness.model.target import Target
from harness.planning.judgeable import deployed_checks
from harness.ports import Case, InstanceState, Stack

PROVIDER = "remote"
UNKNOWN = "unknown"
_TRIES, _BETWEEN_S = 3, 0.5  # one lost packet is no verdict
_CONNECT_S = 0.5
_PORTS = {"http": 80, "https": 443}
_NO_LOG = "the logs of a deployed stack are not here"


def address_of(url: str) -> str:
    """Return "host:port" of a URL, the scheme's own port where it names none."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or _PORTS[parts.scheme]}"


def unresolved(address: str) -> str:
    """Say why the name in "host:port" leads to no machine, "" where it does: that tells nothing of whoever serves."""
    host, _, port = address.rpartition(":")
    problem = ""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_BETWEEN_S)
        try:
            socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            problem = f"the name {host} does not resolve: {(error.strerror or 'no answer').lower()}"
        except UnicodeError:
            return f"the name {host} does not resolve: it is no host name"
        else:
            return ""
    return problem


def remote_questions(system: System, target: Target, access: Access) -> list[Question]:
    """Return what is asked of each arm at its own address: the gateway's health, and its checks."""
    gateway = system.service(system.traffic.gateway)
    context = access.context() if any(target.arm(arm).url.startswith("https:") for arm in Arm) else None
    return [
        Question(
            signal=signal,
            address=address_of(target.arm(arm).url),
            how=how,
            arm=arm,
            access=access,
            tls=context if target.arm(arm).url.startswith("https:") else None,
        )
        for arm in Arm
        for signal, how in (
            (f"health.{gateway.name}", gateway.health),
            *((f"check.{gateway.name}.{check.name}", check) for check in deployed_checks(gateway)),
        )
        if how.kind in {"http", "tcp"}
    ]


@dataclass(frozen=True, slots=True)
class _Found:
    """What an arm's own address answered: "" where it is well, and what it says of itself, "" for nothing."""

    problem: str
    arm: str = ""
    version: str = ""


class RemoteStack:
    """A deployed stack: the gateway of each arm at its own address. The rest of it is not seen."""

    def __init__(self, system: System, target: Target, versions: Sequence[str]) -> None:
        """Describe it; `versions` are what the arms say, the baseline first."""
        self._gateway, self._entry = system.traffic.gateway, system.traffic.entry.partition(".")[0]
        self._target, self._versions = target, tuple(versions)

    def address(self, service: str, port: str, arm: Arm | None = None) -> str:
        """Return "host:port" of an arm's gateway or of the users' entry; KeyError for anything else."""
        if service == self._gateway and arm is not None:
            return address_of(self._target.arm(arm).url)
        if service == self._entry and self._target.entry:
            return address_of(self._target.entry)
        raise KeyError(service, port, arm)

    def secret(self, name: str) -> str:
        """Raise KeyError: the secrets of a deployed stack are its own."""
        raise KeyError(name)

    def instances(self) -> Sequence[InstanceState]:
        """Return both gateways. Running means that the address accepts a connection; restarts are not seen."""
        return [
            InstanceState(
                name=f"{self._gateway}[{arm}]", service=self._gateway, arm=arm, running=self.accepts(arm), exit_note=""
            )
            for arm in Arm
        ]

    def accepts(self, arm: Arm) -> bool:
        """Tell whether an arm's address takes a connection right now."""
        host, _, port = address_of(self._target.arm(arm).url).rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S):
                return True
        except OSError:
            return False

    def records(self) -> Sequence[ServiceRecord]:
        """Return the gateway, and the router where there is one: real both."""
        target = self._target
        version = ", ".join(dict.fromkeys(self._versions))
        note = f"deployed at {target.baseline.url} and {target.candidate.url}"
        found = [ServiceRecord(name=self._gateway, kind=ServiceKind.REAL, version=version, note=note)]
        if target.entry:
            note = f"deployed at {target.entry}, steered as {target.router.kind}"
            found.append(ServiceRecord(name=self._entry, kind=ServiceKind.REAL, version=UNKNOWN, note=note))
        return found

    def log_tail(self, instance: str, lines: int = 40) -> str:
        """Say that there is none here."""
        del instance, lines
        return _NO_LOG

    def kill(self, service: str, arm: Arm | None = None) -> None:
        """Refuse: nothing deployed is ever ended."""
        msg = f"cannot kill {service} {arm or ''}: a deployed stack is only measured and steered"
        raise EnvironmentProblem(msg)


class RemoteProvider:
    """Takes a deployed stack as it is: implements `harness.ports.Provider`."""

    name = PROVIDER

    def __init__(
        self,
        system: System,
        target: Target,
        access: Access,
        arms: MutableMapping[Arm, Release],
        *,
        out: Path,
        run_id: str,
        time_scale: float,
        on_event: Callable[[Event], None],
    ) -> None:
        """Ask nobody yet. `arms` learn their versions when the target answers."""
        self._system, self._target, self._access, self._arms = system, target, access, arms
        self._out, self._run_id, self._scale, self._on_event = out, run_id, time_scale, on_event

    def up(self) -> Stack:
        """Ask both arms who they are, and describe them in out/stack.json; nothing is started.

        Raises EnvironmentProblem where a name leads nowhere, the baseline is not well, or something else is deployed
        than the target file says. A candidate that does not answer is the smoke's to judge.
        """
        for arm in Arm:
            if problem := unresolved(address_of(self._target.arm(arm).url)):
                msg = f"the {arm}'s address {self._target.arm(arm).url}: {problem}"
                raise EnvironmentProblem(msg, mend="correct it in the target file, or mend this machine's name service")
        found = {arm: self._ask(arm) for arm in Arm}
        if found[Arm.BASELINE].problem and found[Arm.CANDIDATE].problem:
            msg = f"neither arm is well: {found[Arm.BASELINE].problem}; {found[Arm.CANDIDATE].problem}"
            raise EnvironmentProblem(msg, mend="are these the right addresses in the target file? is the stack up?")
        if found[Arm.BASELINE].problem:
            msg = f"the baseline is not well: {found[Arm.BASELINE].problem}"
            raise EnvironmentProblem(
                msg, mend="a rollout starts from a baseline that serves: mend it, or the target file"
            )
        for arm, answer in found.items():
            self._check(arm, answer)
            self._arms[arm] = replace(self._arms[arm], version=answer.version or UNKNOWN)
        if found[Arm.CANDIDATE].problem:
            text = f"the candidate is not well: {found[Arm.CANDIDATE].problem}"
            self._on_event(Noted(text=text, at=time.time(), level="warning"))
        self._describe()
        return RemoteStack(self._system, self._target, [self._arms[arm].version for arm in Arm])

    def down(self) -> None:
        """Leave everything as it is: nothing was started."""

    def _ask(self, arm: Arm) -> _Found:
        """Ask an arm's own address, a few times where it does not answer well."""
        asker, began = Asker(), time.monotonic()
        asked = [one for one in remote_questions(self._system, self._target, self._access) if one.arm is arm][:1]
        problem = ""
        for attempt in range(_TRIES if asked else 0):
            if attempt:
                time.sleep(_BETWEEN_S)
            problem = self._access.hide(asker.problem(asked[0]))
            if not problem:
                break
        found = self._said(asker, asked, problem)
        if not problem:
            name, seconds = f"{self._system.traffic.gateway}[{arm}]", time.monotonic() - began
            version = found.version or UNKNOWN
            self._on_event(
                ServiceStarted(name=name, at=time.time(), seconds=seconds, kind=ServiceKind.REAL, version=version)
            )
        return found

    def _said(self, asker: Asker, asked: Sequence[Question], problem: str) -> _Found:
        """Return what the answer's headers say of arm and version."""
        if problem or not asked or asked[0].how.kind != "http":
            return _Found(problem)
        traffic = self._system.traffic
        try:
            headers = asker.answer(asked[0]).headers
        except (OSError, NoAnswer) as error:
            return _Found(self._access.hide(f"{asked[0].address}: {error or type(error).__name__}"))
        arm, version = headers.get(traffic.arm_header.lower(), ""), headers.get(traffic.version_header.lower(), "")
        return _Found("", arm, self._access.hide(version)[:80])

    def _check(self, arm: Arm, answer: _Found) -> None:
        """Raise EnvironmentProblem where the address serves something else than the target file says."""
        told, traffic = self._target.arm(arm), self._system.traffic
        if answer.problem:
            return
        if answer.arm in set(Arm) - {arm} and self._target.baseline.url != self._target.candidate.url:
            msg = f"the {arm}'s address {told.url} answers with {traffic.arm_header}: {answer.arm}"
            raise EnvironmentProblem(msg, mend="are the two addresses in the target file swapped?")
        if told.version and answer.version != told.version:
            said = f"says version {answer.version}" if answer.version else f"says no {traffic.version_header}"
            msg = f"the {arm} at {told.url} {said}, the target file expects {told.version}"
            raise EnvironmentProblem(msg, mend="deploy it, or correct `version` in the target file")

    def _describe(self) -> None:
        traffic, target = self._system.traffic, self._target
        description = {
            "schema": SCHEMA,
            "run_id": self._run_id,
            "system": self._system.name,
            "system_root": str(self._system.root),
            "provider": PROVIDER,
            "remote": True,
            "time_scale": self._scale,
            "entry": target.entry or target.baseline.url,
            "gateway": traffic.gateway,
            "headers": {
                "session": traffic.session_header,
                "arm": traffic.arm_header,
                "version": traffic.version_header,
            },
            "arms": {
                str(arm): {"release": one.name, "version": one.version, "url": target.arm(arm).url}
                for arm, one in self._arms.items()
            },
        }
        path = self._out / "stack.json"
        try:
            path.write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            msg = f"cannot write {path}: {error.strerror}"
            raise EnvironmentProblem(msg, mend="free space on that disk") from error


class RemoteSmoke:
    """A first look at both arms before any traffic moves: implements `harness.ports.Suites`."""

    def __init__(self, questions: Sequence[Question]) -> None:
        """Ask nothing yet."""
        self._questions = tuple(questions)

    def run(self, stack: Stack, expression: str, *, stop: Callable[[], bool] = lambda: False) -> Sequence[Case]:
        """Return one case for each question and arm; the same question of both arms is one pair of twins."""
        del stack, expression
        asker = Asker()
        cases: list[Case] = []
        for question in self._questions:
            if stop():
                break
            cases.append(_case(asker, question))
        return cases


def _case(asker: Asker, question: Question) -> Case:
    began, problem = time.monotonic(), ""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_BETWEEN_S)
        problem = question.access.hide(asker.problem(question))
        if not problem:
            break
    lost = unresolved(question.address) if problem else ""
    return Case(
        name=f"remote/{question.signal}[{question.arm}]",
        outcome="error" if lost else "failed" if problem else "passed",
        covers=(),
        message=lost or problem,
        seconds=time.monotonic() - began,
        arm=str(question.arm or ""),
    )
