"""Redis: nobody without the password, the memory policy, the append-only file, and room for connections."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from harness.ports import Stack

pytestmark = [pytest.mark.staging, pytest.mark.smoke, pytest.mark.conformance, pytest.mark.service("redis")]

GIB = 1024**3
KEY = "rollgate:conformance"


def client(stack: Stack, password: str | None) -> redis.Redis:
    """Return a client that asks once: a refusal is an answer, and must not be asked for again."""
    host, _, port = stack.address("redis", "redis").rpartition(":")
    once = Retry(NoBackoff(), 0)
    return redis.Redis(
        host=host, port=int(port), password=password, socket_timeout=5, retry=once, decode_responses=True
    )


@pytest.fixture(scope="module")
def cache(stack: Stack) -> Iterator[redis.Redis]:
    """A client that knows the password."""
    with client(stack, stack.secret("redis_password").strip()) as known:
        yield known


def test_redis_refuses_who_knows_no_password(stack: Stack, required: Callable[[str], Any]):
    """Without the password, and with a wrong one, nothing is answered."""
    assert required("auth") == "password"
    for password in (None, "wrong"):
        with client(stack, password) as stranger, pytest.raises((redis.AuthenticationError, redis.ResponseError)):
            stranger.ping()


def test_redis_answers_and_keeps_a_value(cache: redis.Redis):
    """PING is answered, and what was written is read back; the key is removed again."""
    assert cache.ping()
    assert cache.set(KEY, "kept", ex=30)
    assert cache.get(KEY) == "kept"
    assert cache.delete(KEY) == 1


def test_redis_keeps_to_its_memory(cache: redis.Redis, required: Callable[[str], Any]):
    """The limit of memory and what is evicted at it are the required ones."""
    found = cache.config_get("maxmemory*")
    assert int(found["maxmemory"]) == int(required("maxmemory_gb")) * GIB
    assert found["maxmemory-policy"] == required("policy")


def test_redis_appends_to_its_file(cache: redis.Redis, required: Callable[[str], Any]):
    """The append-only file is on, and its last write succeeded."""
    assert required("append_only") is True
    state = cache.info("persistence")
    assert state["aof_enabled"] == 1
    assert state["aof_last_write_status"] == "ok"


def test_redis_has_room_for_connections(cache: redis.Redis, required: Callable[[str], Any]):
    """More connections are possible than the alert on connections waits for: else it could never fire."""
    assert int(cache.config_get("maxclients")["maxclients"]) > int(required("maxclients_above"))
