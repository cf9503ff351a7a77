"""What a stack of containers finds on this machine, as facts: engine, images, ports. Nothing is judged or started."""

import errno
import os
import shutil
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from docker.errors import DockerException

from harness.adapters.docker_faults import engine_problem
from harness.adapters.docker_session import connect
from harness.adapters.free_ports import holder_of
from harness.adapters.machine import free_bytes, nearest
from harness.model.composition import Port, Unit
from harness.model.errors import EnvironmentProblem
from harness.model.image import ChosenImage
from harness.model.preflight import Engine, ImageFact, PortFact, Space

_SOCKET = "unix:///var/run/docker.sock"
_ROOT = "/var/lib/docker"
_HOOKS = ("nvidia-container-runtime-hook", "nvidia-container-runtime")
_HIGHEST_PORT = 65535


def engine_facts(
    units: Sequence[Unit], images: Mapping[str, ChosenImage], needed: Collection[str]
) -> tuple[Engine, tuple[ImageFact, ...] | None, dict[int, str]]:
    """Return the engine, its images of `units` (None where it does not answer), and who has which port by it.

    `needed` are the keys of the images without which there is no gate.
    """
    address = os.environ.get("DOCKER_HOST") or _SOCKET
    local = address.startswith("unix://")
    try:
        client = connect()
    except EnvironmentProblem as problem:
        return _silent(address, problem, local=local), None, {}
    try:
        info: dict[str, Any] = client.info()
        engine = Engine(
            address=address,
            version=str(info.get("ServerVersion", "")),
            cpus=int(info.get("NCPU", 0)),
            memory_bytes=int(info.get("MemTotal", 0)),
            space=_space(str(info.get("DockerRootDir") or _ROOT), local=local),
            gpu_driver=_gpu_driver(info, local=local),
        )
        return engine, tuple(_images(client, units, images, needed)), _published(client)
    except (DockerException, OSError) as error:  # it went away meanwhile
        return _silent(address, engine_problem(str(error)), local=local), None, {}
    finally:
        client.close()


def port_facts(
    units: Sequence[Unit], settings: Mapping[str, str], by_engine: Mapping[int, str]
) -> tuple[PortFact, ...]:
    """Return what `units` publish on this host, by the user's settings; `by_engine` names containers by their port."""
    host = settings.get("ROLLGATE_BIND") or "127.0.0.1"
    return tuple(_port(unit, port, settings, host, by_engine) for unit in units for port in unit.published)


def _silent(address: str, problem: EnvironmentProblem, *, local: bool) -> Engine:
    return Engine(address=address, problem=problem.message, mend=problem.mend, space=_space(_ROOT, local=local))


def _space(root: str, *, local: bool) -> Space:
    """Return the disk of the engine's folder, unseen where the engine is elsewhere or in a machine of its own."""
    path = Path(root)
    known = local and (path.exists() or path.parent.exists())
    return Space(path=root, free_bytes=free_bytes(nearest(path)) if known else None)


def _gpu_driver(info: Mapping[str, Any], *, local: bool) -> bool | None:
    """Tell whether containers get GPUs: by a runtime, by devices that the engine names, or by a hook that it finds."""
    if "nvidia" in (info.get("Runtimes") or {}) or any(
        "nvidia" in str(one.get("ID", "")) for one in info.get("DiscoveredDevices") or ()
    ):
        return True
    return any(shutil.which(hook) for hook in _HOOKS) if local else None


def _images(
    client: Any,  # noqa: ANN401 - docker has no types
    units: Sequence[Unit],
    images: Mapping[str, ChosenImage],
    needed: Collection[str],
) -> Iterator[ImageFact]:
    names: set[str] = set()
    for one in client.images.list():
        names |= {str(name) for name in one.attrs.get("RepoTags") or ()}
        names |= {str(name) for name in one.attrs.get("RepoDigests") or ()}
    for key in sorted({unit.service.image for unit in units}):
        chosen = images[key]
        image = chosen.image
        ours = chosen.by == "images.yaml" and bool(image.build)
        here = _named(chosen.reference, names) or (ours and image.local_name in names)
        state = "here" if here else "buildable" if ours else "elsewhere"
        yield ImageFact(
            key=key, reference=chosen.reference, state=state, needed=key in needed, mend=chosen.mend
        )  # fmt: skip


def _named(reference: str, names: set[str]) -> bool:
    """Tell whether an engine has the image: by its name and tag, or by its name and digest."""
    name, _, digest = reference.partition("@")
    bare = name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name
    return f"{bare}@{digest}" in names if digest else name in names


def _published(client: Any) -> dict[int, str]:  # noqa: ANN401 - docker has no types
    return {
        int(port["PublicPort"]): f"container {str((one.attrs.get('Names') or ['/?'])[0]).lstrip('/')}"
        for one in client.containers.list(sparse=True)
        for port in one.attrs.get("Ports") or ()
        if port.get("PublicPort")
    }


def _port(unit: Unit, port: Port, settings: Mapping[str, str], host: str, by_engine: Mapping[int, str]) -> PortFact:
    text = settings.get(port.variable) or str(port.host)
    number = int(text) if text.isascii() and text.isdecimal() and 0 < int(text) <= _HIGHEST_PORT else 0
    taken = number and _taken(host, number)
    return PortFact(
        service=unit.alias,
        name=port.name,
        number=number,
        variable=port.variable,
        found=text,
        holder=(by_engine.get(number) or holder_of(number)) if taken else "",
    )


def _taken(host: str, number: int) -> bool:
    """Tell whether somebody listens on the port. One that this user may not bind is the engine's to bind."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trying:
        trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trying.bind((host, number))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False
