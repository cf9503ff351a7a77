"""From the composition to its containers: which there are, and what the texts of each mean."""

import re
from collections.abc import Callable, Iterator

from harness.model.composition import ARMS, Composition, Container, Unit

SECRETS = "/run/secrets"  # where a container finds a secret's file
_PLACE = re.compile(r"\$\{([^{}]*)\}")
_SETTING = re.compile(r"(?P<name>[A-Z][A-Z0-9_]*):-(?P<default>.*)", re.DOTALL)
_ADDRESS = re.compile(
    r"(?P<service>[a-z][a-z0-9_]*)(?:\[(?P<arm>baseline|candidate)\])?\.(?P<port>[a-z][a-z0-9_]*)(?P<only>\.port)?"
)


def units(composition: Composition) -> tuple[Unit, ...]:
    """Return every container of the composition, in the order of its services."""
    return tuple(unit for service in composition.services for unit in units_of(service))


def units_of(service: Container) -> tuple[Unit, ...]:
    """Return the containers of one service: for each arm, and with GPUs and without where its profiles have both."""
    made: list[Unit] = []
    for arm in ARMS if service.per_arm else ("",):
        with_gpus = tuple(one for one in service.profiles if one != "cpu")
        if service.gpus is None:
            made.append(Unit(service=service, arm=arm, gpus=None, profiles=service.profiles))
        else:
            made.append(Unit(service=service, arm=arm, gpus=service.gpus, profiles=with_gpus))
            if "cpu" in service.profiles:
                made.append(Unit(service=service, arm=arm, gpus=None, profiles=("cpu",)))
    return tuple(made)


def chosen(composition: Composition, *, gpu: bool) -> tuple[Unit, ...]:
    """Return one container for each service and arm: with its GPUs where `gpu`, else the variant without them.

    A service that is nothing without a GPU is left out where there is none.
    """
    return tuple(one for one in units(composition) if one.service.gpus is None or (one.gpus is not None) == gpu)


def settings(text: str) -> Iterator[tuple[str, str]]:
    """Yield the user's settings that `text` names, with their defaults."""
    for place in _PLACE.finditer(text):
        if match := _SETTING.fullmatch(place[1]):
            yield match["name"], match["default"]


def render(
    text: str,
    unit: Unit,
    composition: Composition,
    *,
    setting: Callable[[str, str], str],
    literal: Callable[[str], str] = lambda part: part,
) -> str:
    """Return `text` with its references replaced; `setting(NAME, default)` says what the user's settings become.

    What stands between goes through `literal`. Raises KeyError with the reference that means nothing for `unit`.
    """
    parts: list[str] = []
    end = 0
    for place in _PLACE.finditer(text):
        parts.append(literal(text[end : place.start()]))
        match = _SETTING.fullmatch(place[1])
        parts.append(setting(match["name"], match["default"]) if match else _meaning(place[1], unit, composition))
        end = place.end()
    return "".join([*parts, literal(text[end:])])


def _meaning(name: str, unit: Unit, composition: Composition) -> str:
    head, _, tail = name.partition(".")
    own = {port.name: str(port.number) for port in unit.service.ports}
    if name == "arm" and unit.arm:
        return unit.arm
    if head == "port" and tail in own:
        return own[tail]
    if head == "secret_file" and tail in unit.service.secrets:
        return f"{SECRETS}/{tail}"
    match = _ADDRESS.fullmatch(name)
    if match is None:
        raise KeyError(name)
    try:
        service = composition.service(match["service"])
        number = service.port(match["port"]).number
    except KeyError:
        raise KeyError(name) from None
    arm = (match["arm"] or unit.arm) if service.per_arm else match["arm"]
    if service.per_arm != bool(arm):
        raise KeyError(name)
    alias = f"{service.name}-{arm}" if arm else service.name
    return str(number) if match["only"] else f"{alias}:{number}"


def scrape_targets(composition: Composition, only: Callable[[Unit], bool]) -> dict[str, list[dict[str, object]]]:
    """Return Prometheus' file_sd groups by job, of the containers that `only` lets through.

    A service's variants share one address, which is named once; one of an arm carries the arm as its label.
    """
    jobs: dict[str, list[dict[str, object]]] = {}
    seen: set[str] = set()
    for unit in units(composition):
        service = unit.service
        if service.metrics is None or unit.alias in seen or not only(unit):
            continue
        seen.add(unit.alias)
        address = f"{unit.alias}:{service.port(service.metrics[0]).number}"
        labels = {"arm": unit.arm} if unit.arm else {}
        jobs.setdefault(service.job, []).append({"targets": [address], "labels": labels})
    return jobs
