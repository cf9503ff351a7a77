"""What a requirement says that the inventory of a service must be, and where system.yaml says otherwise. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

from harness.model.system import Service

Value = tuple[int, ...] | str | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Required values; None asks for nothing.

    `ports` are the well-known numbers, in the order of system.yaml; `health` reads "GET /path", "PING" or "connect".
    """

    ports: tuple[int, ...] | None = None
    health: str | None = None
    start_period_s: float | None = None
    memory_gb: float | None = None
    cpus: float | None = None
    gpus_max: int | None = None
    gpu: bool | None = None

    def differences(self, service: Service) -> Iterator[tuple[str, str]]:
        """Yield (key, "found ..., expected ...") for each value of `service` that is not the required one."""
        declared = declared_by(service)
        for field in fields(self):
            wanted, found = getattr(self, field.name), declared[field.name]
            if wanted is not None and found != wanted:
                yield field.name, f"found {_words(found)} in system.yaml, expected {_words(wanted)}"


def declared_by(service: Service) -> dict[str, Value]:
    """Return what system.yaml says of a service, by the keys of `Inventory`."""
    health, resources = service.health, service.resources
    asked = {"http": f"GET {health.path}", "redis": "PING", "tcp": "connect"}
    return {
        "ports": tuple(number for _, number in service.ports),
        "health": asked[health.kind],
        "start_period_s": health.start_period_s,
        "memory_gb": resources.memory_gb,
        "cpus": resources.cpus,
        "gpus_max": resources.gpus_max,
        "gpu": service.gpu,
    }


def _words(value: Value) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, tuple):
        return ", ".join(str(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
