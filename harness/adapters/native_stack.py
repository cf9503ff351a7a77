"""The stack that the native provider brought up."""

from collections.abc import Mapping, Sequence

from harness.adapters.native_instance import Instance
from harness.model.evidence import Arm
from harness.model.judgement import ServiceRecord
from harness.ports import InstanceState


class NativeStack:
    """Local processes, each with its watchdog and its log."""

    def __init__(
        self, instances: Sequence[Instance], secrets: Mapping[str, str], records: Sequence[ServiceRecord]
    ) -> None:
        """Describe `instances`, which run; `secrets` by name."""
        self._instances = {(one.service.name, one.arm): one for one in instances}
        self._secrets = dict(secrets)
        self._records = tuple(records)

    def address(self, service: str, port: str, arm: Arm | None = None) -> str:
        """Return "127.0.0.1:PORT"; KeyError for a service, arm or port that does not run here."""
        return self._instances[service, arm].address(port)

    def secret(self, name: str) -> str:
        """Return a secret; KeyError for an unknown one."""
        return self._secrets[name]

    def instances(self) -> Sequence[InstanceState]:
        """Return the state of every process right now."""
        return [_state(one) for one in self._instances.values()]

    def records(self) -> Sequence[ServiceRecord]:
        """Return one record a service: real or stand-in, and its version."""
        return self._records

    def log_tail(self, instance: str, lines: int = 40) -> str:
        """Return the last lines of an instance's log; KeyError for an unknown one."""
        for one in self._instances.values():
            if one.name == instance:
                return one.tail(lines)
        raise KeyError(instance)

    def kill(self, service: str, arm: Arm | None = None) -> None:
        """End a service by SIGKILL and leave it dead; every arm of it when `arm` is None."""
        found = [one for one in self._instances.values() if one.service.name == service and arm in {None, one.arm}]
        if not found:
            raise KeyError(service)
        for one in found:
            if one.process is not None:
                one.process.kill()


def _state(instance: Instance) -> InstanceState:
    process = instance.process
    return InstanceState(
        name=instance.name,
        service=instance.service.name,
        arm=instance.arm,
        running=process is not None and process.running,
        restarts=process.restarts if process else 0,
        exit_note=(process.exit_note if process else "") or instance.failure,
    )
