"""References `${...}` in commands, env and templates: every one must name something that the system declares."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from harness.model.system import Native
from harness.spec.problems import suggestion
from harness.spec.schema import NativeSpec, ServiceSpec, SystemFile

_REFERENCE = re.compile(r"\$\{([^}\n]*)\}")
_DOTTED = re.compile(r"^[a-z][a-z0-9_-]*(\[[^\]]*\])?(\.[A-Za-z0-9_-]+)+$")
_PLAIN = (
    "dir",
    "arm",
    "version",
    "python",
    "share",
    "cache",
    "system",
    "run_id",
    "state",
    "out",
    "flags_file",
    "listen",
    "lease",
)
_DURATION = re.compile(r"^\d+(\.\d+)?(ms|s|m|h|d)$")
_ARMS = ("baseline", "candidate")


@dataclass(frozen=True, slots=True)
class Declared:
    """What a reference may ask of a service."""

    ports: tuple[str, ...]
    programs: tuple[str, ...]
    per_arm: bool
    under_release: bool


def programs_of(native: NativeSpec | Native | None) -> tuple[str, ...]:
    """Return the programs of a native block and of those that are preferred to it."""
    if native is None:
        return ()
    return (*native.programs, *programs_of(native.prefer))


def declared(name: str, spec: ServiceSpec) -> tuple[str, Declared]:
    """Return what a service of system.yaml declares, by its name."""
    return name, Declared(tuple(spec.ports), programs_of(spec.native), spec.per_arm, spec.under_release)


def scope_of(system: SystemFile) -> "Scope":
    """Return the scope of system.yaml, outside any service."""
    return Scope("", dict(declared(name, spec) for name, spec in system.services.items()), tuple(system.secrets))


@dataclass(frozen=True, slots=True)
class Scope:
    """What a reference may name, seen from `service` ("" for a file that belongs to none)."""

    service: str
    services: Mapping[str, Declared]
    secrets: tuple[str, ...]

    def within(self, service: str) -> "Scope":
        """Return the same scope, seen from `service`."""
        return Scope(service, self.services, self.secrets)

    def faults(self, text: str, *, template: bool = False) -> Iterator[tuple[int, str, str]]:
        """Yield (line offset, message, mend) for every reference in `text` that names nothing.

        A template is a file in a language of its own, which may use `${1}` or `${HOME}` for itself: there,
        only dotted references are ours.
        """
        for match in _REFERENCE.finditer(text):
            name = match.group(1)
            if template and not _DOTTED.match(name):
                continue
            fault = self._fault(name, template=template)
            if fault:
                yield (text.count("\n", 0, match.start()), f"found ${{{name}}}: {fault[0]}", fault[1])

    def _fault(self, name: str, *, template: bool) -> tuple[str, str] | None:
        if name in _PLAIN or name == "lease.port":
            return None
        head, _, rest = name.partition(".")
        if not rest:
            return "no such reference", suggestion(name, [*_PLAIN, "lease.port"], "references")
        if head == "port":
            return self._own_port(rest)
        if head in ("secret", "secret_file"):
            return None if rest in self.secrets else _no("secret", rest, self.secrets, "secrets")
        if head == "bin":
            own = self.services.get(self.service)
            programs = own.programs if own else ()
            program = rest.partition(".")[0]
            return None if program in programs else _no("program of this service", program, programs, "programs")
        if head == "env":
            return None if template else ("only a template of `files` may ask for env", "write the value itself")
        if head == "scaled":
            fault = f"`{rest}` is no duration", "write a number and ms, s, m, h or d: ${scaled.5m}"
            return None if _DURATION.match(rest) else fault
        return self._other_port(head, rest)

    def _own_port(self, port: str) -> tuple[str, str] | None:
        own = self.services.get(self.service)
        ports = own.ports if own else ()
        return None if port in ports else _no("port of this service", port, ports, "ports")

    def _other_port(self, head: str, rest: str) -> tuple[str, str] | None:
        name, bracket, arm = head.partition("[")
        service = self.services.get(name)
        if service is None:
            return _no("service", name, self.services, "services")
        if bracket and arm.rstrip("]") not in _ARMS:
            return _no("arm", arm.rstrip("]"), _ARMS, "arms")
        if bracket and not service.per_arm:
            return f"`{name}` runs once, not per arm", "drop the arm"
        if not bracket and service.per_arm and not self._per_arm():
            return (f"`{name}` runs once for each arm", f"say which: ${{{name}[baseline].{rest}}}")
        port, _, tail = rest.partition(".")
        if port not in service.ports:
            return _no(f"port of {name}", port, service.ports, "ports")
        if tail not in ("", "port", "host"):
            return (f"`{tail}` is no part of an address", "write SERVICE.PORT or SERVICE.PORT.port")
        return None

    def _per_arm(self) -> bool:
        own = self.services.get(self.service)
        return own is None or own.per_arm


def _no(kind: str, name: str, known: Iterable[str], what: str) -> tuple[str, str]:
    return f"there is no {kind} called `{name}`", suggestion(name, known, what)
