"""One container of a composition: testcontainers starts it, on two networks, and waits until it is well."""

import hashlib
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docker.errors import APIError, DockerException, NotFound
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer, Reaper

from harness.adapters.docker_compose import LABEL
from harness.adapters.docker_faults import Health, read_health, unwell
from harness.model.composition import Unit

_POLL_S = 0.1
MADE_AS = f"{LABEL}.made-as"  # the digest of what a container was made from
_SLACK_S = 30.0  # beyond the start period: the first check that counts, and its retries


class ServiceContainer(DockerContainer):
    """A service's container. `ready_s` is how long it took to be well, 0 before it is."""

    def __init__(
        self,
        unit: Unit,
        image: str,
        asked: dict[str, Any],
        *,
        outside: str,
        log: Path,
        patience_s: float,
        probe: Callable[[], str] | None = None,
    ) -> None:
        """Start `image` with the arguments `asked`; `outside` is the second network, `log` takes what it says.

        `probe` tells from here what keeps it from being well, "" for nothing; without one its own health check does.
        """
        super().__init__(image)
        self.unit = unit
        self.ready_s = 0.0
        self._asked = asked
        self._outside = outside
        self._log = log
        self._patience_s = patience_s
        self._probe = probe

    def start(self) -> "ServiceContainer":
        """Create it, join it to its second network, start it, wait until it is well.

        Raises EnvironmentProblem with its last lines where it does not become well, docker's APIError where the
        engine refuses.
        """
        began = time.monotonic()
        if not testcontainers_config.ryuk_disabled:
            Reaper.get_instance()
        client = self.get_docker_client()
        self._container = client.create(self.image, **self._asked)
        # Older engines take one network only when a container is created; joined before the start, it has both names.
        outside: Any = client.client.networks.get(self._outside)
        outside.connect(self._container)
        client.start(self._container)
        self._wait(began)
        self.ready_s = time.monotonic() - began
        return self

    def start_or_adopt(self, client: Any) -> "ServiceContainer":  # noqa: ANN401 - docker has no types
        """Take over the container of this name where it runs and was made in the very same way, else make it anew."""
        digest = self._digest(client)
        self._asked["labels"] = {**self._asked["labels"], MADE_AS: digest}
        try:
            found = client.containers.get(self._asked["name"])
        except NotFound:
            return self.start()
        if found.status == "running" and found.labels.get(MADE_AS) == digest:
            self._container = found
            self._wait(time.monotonic())
            return self
        found.remove(force=True)
        return self.start()

    def _digest(self, client: Any) -> str:  # noqa: ANN401
        try:
            image = str(client.images.get(self.image).id)
        except NotFound:
            image = ""
        told = json.dumps([image, self._asked], default=str, sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def address(self, port: str) -> str:
        """Return "host:port" of a port by its name; KeyError for one that the service lacks or that is not up."""
        number = self.unit.service.port(port).number
        container = self.get_wrapped_container()
        container.reload()
        published: list[dict[str, str]] | None = container.attrs["NetworkSettings"]["Ports"].get(f"{number}/tcp")
        if not published:
            raise KeyError(port)
        return f"{published[0]['HostIp']}:{published[0]['HostPort']}"

    def tail(self, lines: int = 40) -> str:
        """Return the last lines that it said; "" where there are none."""
        if self._container is None:
            return ""
        try:
            return self._container.logs(tail=lines).decode("utf-8", "replace")
        except (APIError, DockerException):
            return ""

    def keep_log(self) -> None:
        """Write all that it said to its log file."""
        if self._container is None:
            return
        try:
            said = self._container.logs()
            self._log.parent.mkdir(parents=True, exist_ok=True)
            self._log.write_bytes(said)
        except (APIError, DockerException, OSError):
            return

    def _wait(self, began: float) -> None:
        container = self.get_wrapped_container()
        while True:
            container.reload()
            health = read_health(
                container.attrs["State"],
                elapsed_s=time.monotonic() - began,
                patience_s=math.inf if self._probe else self._patience_s + _SLACK_S,
            )
            if self._probe is not None and health.answer != "failed":
                # Its own check may be satisfied where it is not reached from here, and is asked seldom.
                health = _probed(self._probe(), time.monotonic() - began, self._patience_s + _SLACK_S)
            if health.answer == "well":
                return
            if health.answer == "failed":
                self.keep_log()
                raise unwell(self.unit.alias, health, self.tail())
            time.sleep(_POLL_S)


def _probed(problem: str, elapsed_s: float, patience_s: float) -> Health:
    if not problem:
        return Health("well")
    if elapsed_s <= patience_s:
        return Health("waiting")
    return Health("failed", f"is not well after {patience_s:.0f} s: {problem}", "its last lines say why")
