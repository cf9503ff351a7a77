"""Asks an Ollama over HTTP. Every question is timed and counted, and bounded in time and size."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any, TypeVar

import aiohttp

PS, TAGS, VERSION = "/api/ps", "/api/tags", "/api/version"
PATHS = (PS, TAGS, VERSION)
_MOST_BYTES = 8 * 2**20
_OK = 200
_Found = TypeVar("_Found")


class NoAnswer(Exception):
    """Ollama did not answer as Ollama does. `refused`: nothing listens at its address."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        """Carry one sentence."""
        super().__init__(message)
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory: all of its bytes, those of them on GPUs, and when it is unloaded (Unix time; None: never)."""

    model: str
    digest: str
    size: int
    vram: int
    expires: float | None


@dataclass(frozen=True, slots=True)
class Stored:
    """A model on disk, bytes."""

    model: str
    size: int


class OllamaApi:
    """One Ollama. `told` is called with path, outcome ("ok" or "error") and seconds after every question."""

    def __init__(
        self, http: aiohttp.ClientSession, url: str, timeout_s: float, told: Callable[[str, str, float], None]
    ) -> None:
        """Ask at `url`, each question for at most `timeout_s`."""
        self._http = http
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._told = told

    async def loaded(self) -> list[Loaded]:
        """Return the models in memory. Raises NoAnswer, as the others do."""
        return await self._asked(PS, lambda body: [_loaded(one) for one in body["models"] or ()])

    async def stored(self) -> list[Stored]:
        """Return the models on disk."""
        return await self._asked(
            TAGS, lambda body: [Stored(_name(one), int(one["size"])) for one in body["models"] or ()]
        )

    async def version(self) -> str:
        """Return Ollama's version."""
        return await self._asked(VERSION, lambda body: str(body["version"]))

    async def _asked(self, path: str, read: Callable[[Any], _Found]) -> _Found:
        began, outcome = monotonic(), "error"
        try:
            body = await self._body(path)
            found = read(json.loads(body))
            outcome = "ok"
        except aiohttp.ClientConnectorError as error:
            refused = isinstance(error.os_error, ConnectionRefusedError)
            raise NoAnswer(f"{path}: {error.os_error.strerror or error.os_error}", refused=refused) from None
        except TimeoutError:
            raise NoAnswer(f"{path}: no answer within {self._timeout.total:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise NoAnswer(f"{path}: {type(error).__name__}") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise NoAnswer(f"{path}: the answer is not what Ollama gives: {type(error).__name__} {error}") from None
        else:
            return found
        finally:
            self._told(path, outcome, monotonic() - began)

    async def _body(self, path: str) -> bytes:
        async with self._http.get(self._url + path, timeout=self._timeout, allow_redirects=False) as answer:
            if answer.status != _OK:
                raise NoAnswer(f"{path}: status {answer.status}")
            body = b""
            async for chunk in answer.content.iter_any():
                body += chunk
                if len(body) > _MOST_BYTES:
                    raise NoAnswer(f"{path}: more than {_MOST_BYTES} bytes")
            return body


def _loaded(one: Any) -> Loaded:  # noqa: ANN401 - parsed JSON
    vram = int(one.get("size_vram") or 0)
    return Loaded(
        _name(one), str(one.get("digest", "")), int(one["size"]), vram, _expires(str(one.get("expires_at", "")))
    )


def _name(one: Any) -> str:  # noqa: ANN401 - parsed JSON
    return str(one.get("model") or one["name"])


def _expires(text: str) -> float | None:
    """Return the Unix time, None where a model stays: no time, one before 1970 (Go's zero) or one centuries away."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at.timestamp() if 1970 < at.year < 2200 and at.tzinfo else None  # noqa: PLR2004 - told above
