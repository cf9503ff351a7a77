"""What the engine knows of a container by its id: who listens inside, how much memory it takes and may take."""

from contextlib import closing
from typing import Any

from docker.errors import DockerException

from harness.adapters.docker_session import connect
from harness.model.errors import EnvironmentProblem

_LISTENS = "0A"  # the state in the kernel's tables
_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


def listening(table: str) -> set[int]:
    """Return the ports that are listened on by the kernel's TCP tables, as `/proc/net/tcp` prints them."""
    rows = [line.split() for line in table.splitlines()]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if len(row) > 3 and row[3] == _LISTENS}  # noqa: PLR2004


def ports_inside(container: str) -> set[int]:
    """Return the TCP ports that are listened on inside a container. Raises EnvironmentProblem without an answer."""
    with closing(connect()) as client:
        try:
            _, said = client.containers.get(container).exec_run(["cat", *_TABLES])
        except DockerException as error:
            raise EnvironmentProblem(f"the engine does not tell of container {container[:12]}: {error}") from error
        return listening(bytes(said or b"").decode("ascii", "replace"))


def memory_of(container: str) -> tuple[int, int]:
    """Return what a container's processes take and what it may take, bytes. Raises EnvironmentProblem likewise.

    Pages of files that can be given back at once are not counted, as in `docker stats`.
    """
    with closing(connect()) as client:
        try:
            found: Any = client.containers.get(container)
            told: dict[str, Any] = found.stats(stream=False, one_shot=True)["memory_stats"]
        except (DockerException, KeyError) as error:
            raise EnvironmentProblem(f"the engine does not tell of container {container[:12]}: {error}") from error
        kept: dict[str, int] = told.get("stats", {})
        idle = kept.get("inactive_file", kept.get("total_inactive_file", 0))
        return int(told.get("usage", 0)) - idle, int(found.attrs["HostConfig"]["Memory"])
