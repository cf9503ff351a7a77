"""The stack that the docker provider brought up."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from docker.errors import APIError, DockerException, NotFound

from harness.adapters.docker_container import ServiceContainer
from harness.adapters.native_instance import instance_name
from harness.adapters.stack_file import DescribedInstance
from harness.model.composition import Unit
from harness.model.errors import EnvironmentProblem
from harness.model.evidence import Arm
from harness.model.judgement import ServiceRecord
from harness.ports import InstanceState

_SAID = 400


def name_of(unit: Unit) -> str:
    """Return what events and errors call a container: `redis`, or `gateway[candidate]`."""
    return instance_name(unit.service.name, arm_of(unit))


def arm_of(unit: Unit) -> Arm | None:
    """Return the arm of a container, None off the arms."""
    return Arm(unit.arm) if unit.arm else None


def described(container: ServiceContainer, ports: Mapping[str, int], logs: Path) -> DescribedInstance:
    """Return what stack.json says of a container that is published at `ports` of loopback, its log below `logs`."""
    unit = container.unit
    return {
        "name": name_of(unit),
        "service": unit.service.name,
        "arm": unit.arm or None,
        "addresses": {name: f"127.0.0.1:{number}" for name, number in ports.items()},
        "log": str(logs / f"{name_of(unit)}.log"),
        "keeper": 0,
        "ready_s": container.ready_s or None,
        "container": str(inspected(container).get("Id", "")),
    }


class DockerStack:
    """Containers, asked of the engine itself."""

    def __init__(
        self,
        containers: Sequence[ServiceContainer],
        ports: Mapping[str, Mapping[str, int]],
        failures: Mapping[str, str],
        secrets: Mapping[str, Path],
        records: Sequence[ServiceRecord],
    ) -> None:
        """Describe `containers`; `ports` and `failures` (of those that did not come up) by alias."""
        self._containers = {(one.unit.service.name, arm_of(one.unit)): one for one in containers}
        self._ports, self._failures = ports, failures
        self._secrets, self._records = dict(secrets), tuple(records)

    def address(self, service: str, port: str, arm: Arm | None = None) -> str:
        """Return "127.0.0.1:PORT"; KeyError for a service, arm or port that does not run here."""
        return f"127.0.0.1:{self._ports[self._containers[service, arm].unit.alias][port]}"

    def secret(self, name: str) -> str:
        """Return a secret; KeyError for an unknown one."""
        return self._secrets[name].read_text(encoding="utf-8")

    def instances(self) -> Sequence[InstanceState]:
        """Return the state of every container right now. Raises EnvironmentProblem where the engine is away."""
        return [self._state(one) for one in self._containers.values()]

    def records(self) -> Sequence[ServiceRecord]:
        """Return one record a service: real or stand-in, and its image or version."""
        return self._records

    def log_tail(self, instance: str, lines: int = 40) -> str:
        """Return the last lines of a container's log; KeyError for an unknown one."""
        for one in self._containers.values():
            if name_of(one.unit) == instance:
                return one.tail(lines)
        raise KeyError(instance)

    def kill(self, service: str, arm: Arm | None = None) -> None:
        """End a service by SIGKILL and leave it dead; every arm of it when `arm` is None."""
        found = [one for (name, its), one in self._containers.items() if name == service and arm in {None, its}]
        if not found:
            raise KeyError(service)
        for one in found:
            container: Any = one.get_wrapped_container()
            try:
                container.update(restart_policy={"Name": "no"})
                container.kill()
            except (APIError, DockerException) as error:
                raise EnvironmentProblem(f"cannot kill {name_of(one.unit)}: {error}") from error

    def _state(self, container: ServiceContainer) -> InstanceState:
        unit = container.unit
        told = inspected(container)
        state: dict[str, Any] = told.get("State") or {}
        restarts = int(told.get("RestartCount", 0))
        note = "was killed for want of memory" if state.get("OOMKilled") else ""
        if not note and restarts:
            note = f"ended {restarts} times, and the engine started it again"
        if not note and not state.get("Running"):
            note = f"ended with exit code {state.get('ExitCode', '?')}"
        return InstanceState(
            name=name_of(unit),
            service=unit.service.name,
            arm=arm_of(unit),
            running=bool(state.get("Running")) and not state.get("Restarting"),
            restarts=restarts,
            exit_note=note if restarts or not state.get("Running") else self._failures.get(unit.alias, ""),
        )


def inspected(container: ServiceContainer) -> dict[str, Any]:
    """Return what the engine says of a container, empty where it has none. Raises EnvironmentProblem without engine."""
    try:
        wrapped: Any = container.get_wrapped_container()
        return wrapped.client.api.inspect_container(wrapped.id) if wrapped else {}
    except NotFound:
        return {}
    except (APIError, DockerException, OSError) as error:
        msg = f"the Docker engine does not answer: {error}"
        raise EnvironmentProblem(msg, mend="check `docker info`; what runs is gone with the session") from error


def run_inside(container: ServiceContainer, words: Sequence[str]) -> tuple[int, str]:
    """Run a command inside a container; return its exit code and the end of what it said."""
    wrapped: Any = container.get_wrapped_container()
    try:
        code, said = wrapped.exec_run(list(words))
    except (APIError, DockerException) as error:
        return -1, str(error)
    return int(code), bytes(said or b"").decode("utf-8", "replace")[-_SAID:]
