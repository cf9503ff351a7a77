"""Every instance keeps to what the inventory says of it: its ports are its own, it was well in time, its memory."""

from collections.abc import Iterator

import psutil
import pytest

from harness.adapters.stack_file import DescribedInstance, Description
from harness.model.evidence import Arm
from harness.model.system import System

pytestmark = [pytest.mark.staging, pytest.mark.smoke, pytest.mark.conformance]

Whom = tuple[str, Arm | None]
GB = 1024**3


@pytest.mark.usefixtures("stack")
def test_an_instance_answers_on_every_port_that_it_declares(instance: Whom, description: Description, system: System):
    """Each port of the inventory is listened on by a process of the instance itself, not by whoever took it."""
    told = described(description, instance)
    declared = {name for name, _ in system.service(instance[0]).ports}
    given = {name: int(address.rpartition(":")[2]) for name, address in told["addresses"].items()}
    assert set(given) == declared
    if container := told.get("container"):
        from harness.adapters.docker_asked import ports_inside  # noqa: PLC0415 - docker's client, for containers alone

        inside = ports_inside(container)
        deaf = {port: number for port, number in system.service(instance[0]).ports if number not in inside}
        assert not deaf, f"{told['name']} does not listen on {deaf} inside its container"
        return
    listening = {port for process in processes(told) for port in listens_on(process)}
    deaf = {name: port for name, port in given.items() if port not in listening}
    assert not deaf, f"{told['name']} does not listen on {deaf}"


@pytest.mark.usefixtures("stack")
def test_an_instance_was_well_within_its_start_period(instance: Whom, description: Description, system: System):
    """Its health probe was answered no later after the start than the inventory allows."""
    told = described(description, instance)
    allowed = system.service(instance[0]).health.start_period_s
    assert told["ready_s"] is not None, f"{told['name']} has never been well"
    assert told["ready_s"] <= allowed


@pytest.mark.usefixtures("stack")
def test_an_instance_keeps_within_its_memory(limited_instance: Whom, description: Description, system: System):
    """The resident memory of its whole process tree is within the declared limit; shared pages count each time.

    Of a container it is what the engine counts, and the engine itself must hold it to the limit.
    """
    told = described(description, limited_instance)
    limit = system.service(limited_instance[0]).resources.memory_gb
    assert limit is not None
    if container := told.get("container"):
        from harness.adapters.docker_asked import memory_of  # noqa: PLC0415

        used, allowed = memory_of(container)
        assert 0 < used <= limit * GB, f"{told['name']} takes {used / GB:.3g} GB, its limit is {limit:g} GB"
        assert 0 < allowed <= limit * GB, f"the engine lets {told['name']} take {allowed / GB:.3g} GB, not {limit:g}"
        return
    resident = [memory for process in processes(told) if (memory := resident_bytes(process))]
    assert resident, f"{told['name']} does not run"
    taken = sum(resident) / GB
    assert taken <= limit, (
        f"{told['name']} takes {taken:.3g} GB in {len(resident)} processes, its limit is {limit:g} GB"
    )


def described(description: Description, whom: Whom) -> DescribedInstance:
    """Return what stack.json says of an instance."""
    service, arm = whom
    return next(one for one in description["instances"] if (one["service"], one["arm"]) == (service, arm))


def processes(told: DescribedInstance) -> Iterator[psutil.Process]:
    """Yield the instance's processes, descendants included; skips where another runtime keeps them."""
    if not told["keeper"]:
        pytest.skip("its processes are not this machine's: the container runtime holds it to its limits")
    yield from psutil.Process(told["keeper"]).children(recursive=True)


def listens_on(process: psutil.Process) -> set[int]:
    """Return the TCP ports that a process listens on; none where it is gone."""
    try:
        return {one.laddr.port for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN}
    except psutil.NoSuchProcess:
        return set()


def resident_bytes(process: psutil.Process) -> int:
    """Return the resident memory of a process; 0 where it is gone."""
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0
