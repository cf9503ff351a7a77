"""The shipped inventory is the required one: ports, health, start period and limits of each service. Starts nothing."""

import re
from collections.abc import Iterator

import pytest

from harness import spec
from harness.model.system import System
from harness.paths import share_root
from harness.spec.inventory import Inventory

pytestmark = [pytest.mark.conformance]

ROOT = share_root() / "stack" / "systems" / "researchflow"
REQUIRED = spec.load_requirements(ROOT).services
_LIMIT = re.compile(r"^(?P<service>[A-Z]+)_(?P<what>MEMORY|CPU)_LIMIT=(?P<value>[0-9.]+)g?$", re.MULTILINE)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.covers(*required.covers, level="static"))
        for name, required in REQUIRED.items()
        if required.inventory != Inventory()
    ],
)
def test_a_service_is_declared_as_required(name: str):
    """Whatever conformance.yaml asks of a service's inventory, system.yaml says."""
    service = spec.load_system(ROOT).service(name)
    assert list(REQUIRED[name].inventory.differences(service)) == []


def test_every_service_has_its_limits():
    """What is meant to run in a container of its own has a limit of memory and CPUs."""
    services = spec.load_system(ROOT).services
    watchers = {"cadvisor", "docker"}  # the machine's own
    unlimited = [s.name for s in services if s.resources.memory_gb is None or s.resources.cpus is None]
    assert set(unlimited) <= watchers


def test_the_environments_template_gives_the_same_limits():
    """The limits in .env.example are the inventory's: no number stands there twice and differs."""
    system = spec.load_system(ROOT)
    wrong = [
        f"{name}: {given:g}, and {declared} in system.yaml"
        for name, given, declared in _limits(system)
        if given != declared
    ]
    assert wrong == []


def _limits(system: System) -> Iterator[tuple[str, float, float | None]]:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    found = list(_LIMIT.finditer(text))
    assert found, "the template has no limits"
    for line in found:
        resources = system.service(line["service"].lower()).resources
        declared = resources.memory_gb if line["what"] == "MEMORY" else resources.cpus
        yield line[0].partition("=")[0], float(line["value"]), declared
