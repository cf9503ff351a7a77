"""HTTP to the services behind the gateway, over one pool of connections."""

import json
from collections.abc import Mapping
from typing import Any

import aiohttp

OK = 200


class UpstreamError(Exception):
    """A service behind the gateway failed. `status` is what the gateway answers: 502, or 504 for no answer in time."""

    def __init__(self, service: str, reason: str, status: int = 502) -> None:
        """Name the service and what it did."""
        super().__init__(f"{service}: {reason}")
        self.service = service
        self.status = status


class Http:
    """POST and GET with one retry where a pooled connection proved stale before any answer came."""

    def __init__(self, timeout_s: float) -> None:
        """Open a pool; to be called inside the event loop."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=timeout_s, connect=min(timeout_s, 2.0)),
            connector=aiohttp.TCPConnector(limit=256, limit_per_host=64, keepalive_timeout=20),
            trust_env=False,
        )

    async def post(
        self, service: str, url: str, body: bytes, headers: dict[str, str] | None = None
    ) -> tuple[bytes, Mapping[str, str]]:
        """Return body and headers of a 200; raise UpstreamError for all else."""
        try:
            try:
                return await self._post(service, url, body, headers)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                return await self._post(service, url, body, headers)
        except TimeoutError:
            raise UpstreamError(service, "no answer in time", 504) from None
        except aiohttp.ClientError as error:
            raise UpstreamError(service, f"cannot be reached ({type(error).__name__})") from None

    async def _post(self, service: str, url: str, body: bytes, headers: dict[str, str] | None) -> tuple[bytes, Any]:
        async with self._session.post(url, data=body, headers=headers) as answer:
            raw = await answer.read()
            if answer.status != OK:
                raise UpstreamError(service, f"answered {answer.status}: {_sentence(raw)}")
            return raw, answer.headers

    async def post_json(self, service: str, url: str, body: dict[str, Any]) -> dict[str, Any]:
        """Post and return JSON objects."""
        raw, _ = await self.post(service, url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            answer = json.loads(raw)
        except ValueError:
            raise UpstreamError(service, "answered with what is not JSON") from None
        if not isinstance(answer, dict):
            raise UpstreamError(service, "answered with what is not an object")
        return answer

    async def status(self, url: str, timeout_s: float) -> int:
        """Return the status of a GET, 0 for no answer."""
        try:
            async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=timeout_s)) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            return 0

    async def close(self) -> None:
        """Close the pool."""
        await self._session.close()


def _sentence(raw: bytes) -> str:
    try:
        return str(json.loads(raw)["error"])[:200]
    except (ValueError, KeyError, TypeError):
        return raw[:200].decode("utf-8", "replace")
