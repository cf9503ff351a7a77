"""The composition as a Compose file: pure text, the same for the same data."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from harness.adapters.docker_health import health_test
from harness.model.composition import Composition, Gpus, Mount, Unit
from harness.model.image import Image
from harness.planning.composition import SECRETS, render, scrape_targets, units

LABEL = "rollgate"
INSIDE, OUTSIDE = "stack", "edge"  # the isolated network, and the one of those that publish ports
_HEADER = """\
# Written by `rollgate stack compose` from composition.yaml and images/images.yaml: change those, then run it again.
#
#   docker compose --profile cpu up --wait            the stack without GPUs; --profile gpu: with them; not both
#   docker compose --profile cpu --profile monitoring up --wait
#   docker compose --profile mlops up --wait
#
# Settings: .env beside this file (systems/researchflow/.env.example names them all). Secrets: one file each in
# ${ROLLGATE_SECRETS:-./secrets}, in a folder that its owner alone can enter; the files themselves must be readable to
# the containers' users. Models: ${ROLLGATE_MODELS:-./models}. On a machine with fewer cores than a limit says, lower
# that NAME_CPU_LIMIT. Needs Docker Compose 2.23.1 or newer.
"""


def compose_text(composition: Composition, images: Mapping[str, Image]) -> str:
    """Return `stack/compose.yaml`."""
    body = yaml.dump(compose(composition, images), Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
    return f"{_HEADER}\n{body}"


def compose(composition: Composition, images: Mapping[str, Image]) -> dict[str, Any]:
    """Return the Compose file's content."""
    all_units = units(composition)
    return {
        "name": composition.name,
        "services": {unit.name: _service(unit, composition, images, all_units) for unit in all_units},
        "networks": {
            INSIDE: {"internal": True, "labels": _labels(composition)},
            OUTSIDE: {"labels": _labels(composition)},
        },
        "volumes": {name: {"labels": _labels(composition)} for name in composition.volumes},
        "secrets": {name: {"file": f"${{ROLLGATE_SECRETS:-./secrets}}/{name}"} for name in composition.secrets},
        "configs": {
            f"targets-{job}": {"content": _literal(json.dumps(groups))} for job, groups in _targets(composition).items()
        },
    }


def gigabytes(amount: float) -> str:
    """Return an amount of memory as engines read it: "24g", or "512m" for what is no whole number of GB."""
    return f"{amount:.0f}g" if amount == int(amount) else f"{amount * 1024:.0f}m"


def _service(
    unit: Unit, composition: Composition, images: Mapping[str, Image], all_units: tuple[Unit, ...]
) -> dict[str, Any]:
    service, health = unit.service, unit.service.health

    def told(text: str) -> str:
        return render(text, unit, composition, setting=_setting, literal=_literal)

    made: dict[str, Any] = {"image": image_text(images[service.image]), "profiles": list(unit.profiles)}
    if images[service.image].own:
        made["build"] = _build(images[service.image])
    made |= {
        "entrypoint": [told(word) for word in service.entrypoint],
        "command": [told(word) for word in service.command],
        "environment": {name: told(value) for name, value in service.env},
        "user": service.user,
        "pid": "host" if service.host_pids else "",
        "read_only": service.read_only,
        "tmpfs": list(service.tmpfs),
        "shm_size": f"{service.shm_mb}m" if service.shm_mb else "",
        "security_opt": ["no-new-privileges:true"],
        "cap_drop": ["ALL"] if unprivileged(service.user) else [],
        "ports": [_port(port.variable, port.host, port.number) for port in unit.published],
        "networks": _networks(unit),
        "volumes": [_mount(mount, told) for mount in service.mounts if mount.kind != "targets"],
        "configs": _configs(unit, composition),
        "secrets": [{"source": name, "target": f"{SECRETS}/{name}"} for name in service.secrets],
        "depends_on": _depends(unit, all_units),
        "healthcheck": {
            "test": health_test(unit, composition, setting=_setting, literal=_literal),
            "interval": seconds(health.interval_s),
            "timeout": seconds(health.timeout_s),
            "retries": health.retries,
            "start_period": seconds(health.start_period_s),
        },
        "deploy": {"resources": _resources(unit)},
        "restart": "unless-stopped",
        "stop_grace_period": seconds(service.stop_s),
        "logging": {
            "driver": "json-file",
            "options": {"max-size": f"{composition.log.megabytes}m", "max-file": str(composition.log.files)},
        },
        "labels": _labels(composition)
        | {f"{LABEL}.service": service.name, f"{LABEL}.component": service.component}
        | ({f"{LABEL}.arm": unit.arm} if unit.arm else {}),
    }
    return {key: value for key, value in made.items() if value}


def image_text(image: Image) -> str:
    """Return the image with its variables: the user's replacement, else the pinned one with its registry."""
    registry = f"${{{image.registry_variable}:+${{{image.registry_variable}}}/}}" if image.registry_variable else ""
    return f"${{{image.variable}:-{registry}{image.pinned_name}}}"


def unprivileged(user: str) -> bool:
    """Tell whether `user` of a container is surely not root; "" is what the image says."""
    return bool(user) and user.partition(":")[0] not in {"0", "root"}


def seconds(amount: float) -> str:
    """Return a duration as Compose reads it."""
    return f"{amount:g}s"


def _build(image: Image) -> dict[str, Any]:
    return {"context": ".", "dockerfile": f"{image.build}/Dockerfile", "args": dict(image.arguments)}


def _port(variable: str, host: int | None, number: int) -> str:
    return f"${{ROLLGATE_BIND:-127.0.0.1}}:${{{variable}:-{host}}}:{number}"


def _networks(unit: Unit) -> dict[str, Any]:
    inside = {INSIDE: {"aliases": [unit.alias]} if unit.alias != unit.name else None}
    return {**inside, OUTSIDE: None} if unit.published else inside


def _mount(mount: Mount, told: Any) -> dict[str, Any]:  # noqa: ANN401 - a function
    if mount.kind == "volume":
        made: dict[str, Any] = {"type": "volume", "source": mount.source, "target": mount.target}
    else:
        source = f"./{mount.source}" if mount.kind == "shipped" else told(mount.source)
        made = {"type": "bind", "source": source, "target": mount.target, "bind": {"create_host_path": False}}
    if mount.read_only or mount.kind == "shipped":
        made["read_only"] = True
    return made


def _configs(unit: Unit, composition: Composition) -> list[dict[str, str]]:
    folders = [mount.target for mount in unit.service.mounts if mount.kind == "targets"]
    return [
        {"source": f"targets-{job}", "target": f"{folder}/{job}.json"}
        for folder in folders
        for job in _targets(composition)
    ]


def _targets(composition: Composition) -> dict[str, list[dict[str, object]]]:
    return scrape_targets(composition, lambda _: True)


def _depends(unit: Unit, all_units: tuple[Unit, ...]) -> dict[str, Any]:
    """Return what must be healthy before, of the same arm; required where each of the unit's profiles has it."""
    return {
        other.name: {"condition": "service_healthy", "required": set(unit.profiles) <= set(other.profiles)}
        for other in all_units
        if other.service.name in unit.service.depends and (not unit.arm or other.arm in {"", unit.arm})
    }


def _resources(unit: Unit) -> dict[str, Any]:
    service = unit.service
    name = service.name.upper()
    limits = {
        "memory": f"${{{name}_MEMORY_LIMIT:-{gigabytes(service.limits.memory_gb)}}}",
        "cpus": f"${{{name}_CPU_LIMIT:-{service.limits.cpus:g}}}",
    }
    kept: dict[str, Any] = {
        "memory": gigabytes(service.reservations.memory_gb),
        "cpus": f"{service.reservations.cpus:g}",
    }
    if unit.gpus:
        kept["devices"] = [_device(unit.gpus)]
    return {"limits": limits, "reservations": kept}


def _device(gpus: Gpus) -> dict[str, Any]:
    which: dict[str, Any] = {"device_ids": list(gpus.ids)} if gpus.ids else {"count": gpus.count or "all"}
    return {"driver": "nvidia", **which, "capabilities": list(gpus.capabilities)}


def _labels(composition: Composition) -> dict[str, str]:
    return {f"{LABEL}.composition": composition.name}


def _setting(name: str, default: str) -> str:
    return f"${{{name}:-{default}}}"


def _literal(text: str) -> str:
    """Return `text` so that Compose reads it as it is: a lone $ would begin a variable."""
    return text.replace("$", "$$")


class _Dumper(yaml.SafeDumper):
    """Writes no aliases, and indents lists under their keys."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401 - what PyYAML asks about
        """Return True: the same labels in two places are written twice."""
        del data
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: FBT001, FBT002 - PyYAML's signature
        """Indent lists too."""
        del indentless
        super().increase_indent(flow, indentless=False)
