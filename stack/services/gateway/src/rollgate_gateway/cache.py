"""The cache in Redis. It is soft: away or slow, the gateway goes on without it, quickly, and comes back to it."""

import asyncio
import json
import logging
import time
from typing import Any

log = logging.getLogger("rollgate.gateway.cache")
CONNECT_S = 0.2
ANSWER_S = 0.25
OPEN_S = 1.0
CONNECTIONS = 16


class Breaker:
    """Lets nothing through for `open_s` seconds after a failure, then one probe at a time."""

    def __init__(self, open_s: float = OPEN_S) -> None:
        """Start closed, everything passes."""
        self._open_s = open_s
        self._until = 0.0
        self.closed = True

    def passes(self, now: float) -> bool:
        """Tell whether a call may be tried at `now` (monotonic seconds)."""
        if self.closed:
            return True
        if now < self._until:
            return False
        self._until = now + self._open_s  # this caller is the probe
        return True

    def succeeded(self) -> None:
        """Close."""
        self.closed = True

    def failed(self, now: float) -> None:
        """Open from `now` on."""
        self.closed = False
        self._until = now + self._open_s


class Cache:
    """Values as JSON under a prefix of the arm's own. Without a URL, every look-up is a miss."""

    def __init__(self, url: str, password: str, prefix: str) -> None:
        """Connect lazily to `url`; keys begin with `prefix`."""
        self._url, self._password, self._prefix = url, password, prefix
        self._breaker = Breaker()
        self._client: Any = None

    @property
    def state(self) -> str:
        """Say "ok", "away" or "off" (no URL is configured)."""
        if not self._url:
            return "off"
        return "ok" if self._client is not None and self._breaker.closed else "away"

    async def open(self) -> None:
        """Import the client and connect. In a thread, since the import takes longer than the gateway's own start."""
        if self._url:
            self._client = await asyncio.to_thread(_new_client, self._url, self._password)
            await self.probe()

    async def probe(self) -> bool:
        """Ask Redis whether it is there; tell whether it answered."""
        return bool(await self._call("ping"))

    async def get(self, key: str) -> Any:  # noqa: ANN401 (whatever JSON was stored)
        """Return what is stored under `key`, None for nothing or for Redis being away."""
        raw = await self._call("get", self._prefix + key)
        try:
            return json.loads(raw) if raw else None
        except ValueError:
            return None

    async def put(self, key: str, value: Any, ttl_s: int) -> None:  # noqa: ANN401 (any JSON)
        """Store a value for `ttl_s` seconds, if Redis is there."""
        await self._call("set", self._prefix + key, json.dumps(value, separators=(",", ":")), ex=ttl_s)

    async def count(self, key: str) -> int:
        """Increase a counter and return it, 0 if Redis is away."""
        return int(await self._call("incr", self._prefix + key) or 0)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            await self._client.connection_pool.disconnect()  # a pool that was handed in is ours to close

    async def _call(self, command: str, *args: Any, **options: Any) -> Any:  # noqa: ANN401 (Redis' own types)
        if self._client is None or not self._breaker.passes(time.monotonic()):
            return None
        try:
            answer = await getattr(self._client, command)(*args, **options)
        except Exception as error:  # noqa: BLE001 (whatever the client raises, the cache is soft)
            if self._breaker.closed:
                log.warning("the cache is away, going on without it: %r", error)
            self._breaker.failed(time.monotonic())
            return None
        if not self._breaker.closed:
            log.info("the cache is back")
        self._breaker.succeeded()
        return answer


def _new_client(url: str, password: str) -> Any:  # noqa: ANN401 (imported late, see Cache.open)
    from redis.asyncio import BlockingConnectionPool, Redis  # noqa: PLC0415
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415

    pool = BlockingConnectionPool.from_url(
        url,
        password=password or None,
        max_connections=CONNECTIONS,
        timeout=ANSWER_S,
        socket_timeout=ANSWER_S,
        socket_connect_timeout=CONNECT_S,
        retry=Retry(NoBackoff(), 0),
        protocol=2,  # nothing of the third protocol is needed, and its greeting costs a round trip
    )
    return Redis(connection_pool=pool)
