"""What goes wrong with containers, told so that a user can mend it: pure functions of what the engine says."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.model.errors import EnvironmentProblem

_PORT = re.compile(r"port is already allocated|address already in use", re.IGNORECASE)
_AT = re.compile(
    r"(?P<at>\d+\.\d+\.\d+\.\d+:\d+)[^\n]*?(?:port is already allocated|address already in use)", re.IGNORECASE
)
_DRIVER = re.compile(
    r"could not select device driver|nvidia-container-cli|unknown or invalid runtime name: nvidia", re.IGNORECASE
)
_NO_IMAGE = re.compile(
    r"no such image|not found|pull access denied|manifest unknown|repository does not exist", re.IGNORECASE
)
_NO_NETWORK = re.compile(
    r"no such host|i/o timeout|connection refused|dial tcp|tls|certificate|network is unreachable", re.IGNORECASE
)
_CPUS = re.compile(r"range of cpus", re.IGNORECASE)
_TAIL_LINES = 12


@dataclass(frozen=True, slots=True)
class Health:
    """What a container's state says: "waiting", "well" or "failed" with the reason and its mend."""

    answer: str
    reason: str = ""
    mend: str = ""


def read_health(state: Mapping[str, Any], *, elapsed_s: float, patience_s: float) -> Health:
    """Return how the container is, from the engine's `State`; it is failed when it has ended, is unhealthy or late."""
    if not state.get("Running", False) and state.get("Status") != "created":
        if state.get("OOMKilled"):
            return Health("failed", "was killed for want of memory", "raise its NAME_MEMORY_LIMIT or free memory")
        code = state.get("ExitCode", 0)
        said = str(state.get("Error", "")).strip()
        return Health("failed", f"ended with exit code {code}{f': {said}' if said else ''}", "its last lines say why")
    health: Mapping[str, Any] = state.get("Health") or {}
    if health.get("Status") == "healthy":
        return Health("well")
    checks = list(health.get("Log") or [])
    last = str(checks[-1].get("Output", "")).strip() if checks else ""
    said = f"; its check says: {last[-200:]}" if last else ""
    if health.get("Status") == "unhealthy":
        return Health("failed", f"is unhealthy after its start period{said}", "its last lines say why")
    if elapsed_s > patience_s:
        return Health(
            "failed", f"is not well after {patience_s:.0f} s{said}", "give the machine more, or look at its log"
        )
    return Health("waiting")


def engine_problem(text: str) -> EnvironmentProblem:
    """Return the error about an engine that does not answer, from what its client says."""
    if "permission denied" in text.lower():
        return EnvironmentProblem(
            "the Docker socket does not let this user in",
            mend="add the user to the group docker and log in again, or set DOCKER_HOST to an engine of your own",
        )
    if "no such file" in text.lower() or "connection refused" in text.lower():
        return EnvironmentProblem(
            "no Docker engine answers",
            mend="start it (systemctl start docker), set DOCKER_HOST, or use --provider native",
        )
    return EnvironmentProblem(
        f"no Docker engine answers: {_line(text)}", mend="check `docker info`, or use --provider native"
    )


def start_problem(service: str, reference: str, text: str, mend: str, tail: str = "") -> EnvironmentProblem:
    """Return the error about a container that cannot be made or started.

    `text` is what the engine says, `mend` what helps where it has no such image, `tail` the container's last lines.
    """
    if _PORT.search(text):
        # The engine names the container's own address first, where it names two.
        at = f" {named[-1]}" if (named := _AT.findall(text)) else ""
        return _told(service, f"the port{at} is taken", "end who has it, or move the port by its variable", tail)
    if _DRIVER.search(text):
        return _told(
            service, "asks for a GPU, and the engine has none", "install NVIDIA's toolkit, or go without", tail
        )
    if _CPUS.search(text):
        return _told(service, f"asks for more CPUs than there are: {_line(text)}", "lower its NAME_CPU_LIMIT", tail)
    if _NO_IMAGE.search(text) or _NO_NETWORK.search(text):
        return _told(service, f"the image {reference} is not here and cannot be pulled: {_line(text)}", mend, tail)
    return _told(service, _line(text), "its last lines say why", tail)


class UnwellError(EnvironmentProblem):
    """A container started and did not become well: its own doing, not the engine's."""


def unwell(service: str, health: Health, tail: str) -> UnwellError:
    """Return the error about a container that started and did not become well."""
    told = _told(service, health.reason, health.mend, tail)
    return UnwellError(told.message, mend=told.mend)


def _told(service: str, what: str, mend: str, tail: str) -> EnvironmentProblem:
    lines = tail.strip().splitlines()[-_TAIL_LINES:]
    log = "\n" + "\n".join(f"  {service} | {line}" for line in lines) + "\n" if lines else ""
    return EnvironmentProblem(f"{service}: {what}{log}", mend=mend)


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
