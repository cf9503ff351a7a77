"""Which images an engine has, or could pull."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import docker
from docker.errors import DockerException, NotFound

from harness.adapters.docker_session import connect
from harness.model.image import ChosenImage

_PATIENCE_S = 4  # of each question to a registry: without one, native is chosen after this at most


def every_image(images: Sequence[ChosenImage]) -> bool:
    """Tell whether the engine has, or a registry serves, each of `images`. Raises EnvironmentProblem without engine."""
    connect().close()
    client: Any = docker.from_env(timeout=_PATIENCE_S)
    try:
        with ThreadPoolExecutor(max_workers=max(1, len(images))) as pool:
            return all(pool.map(partial(_is_there, client), [one.reference for one in images]))
    finally:
        client.close()


def _is_there(client: Any, reference: str) -> bool:  # noqa: ANN401 - docker has no types
    try:
        client.images.get(reference)
    except NotFound:
        pass
    except (DockerException, OSError):
        return False
    else:
        return True
    try:
        client.images.get_registry_data(reference)
    except (DockerException, OSError):
        return False
    return True
