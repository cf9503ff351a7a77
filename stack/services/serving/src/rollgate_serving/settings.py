"""Settings from the environment, read once and checked before a server binds its port."""

import math
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit


class SettingError(Exception):
    """A setting is missing or malformed; the message names it, what was found and what is expected."""


class Environment:
    """Typed access to environment variables. An empty value counts as unset."""

    def __init__(self, values: Mapping[str, str]) -> None:
        """Read from `values`, usually `os.environ`."""
        self._values = values

    def text(self, name: str, default: str | None = None) -> str:
        """Return the setting; without a default it is required."""
        value = self._values.get(name, "").strip()
        if value:
            return value
        if default is None:
            raise SettingError(f"{name} is not set; the server cannot start without it")
        return default

    def number(self, name: str, default: float, *, least: float = -math.inf, most: float = math.inf) -> float:
        """Return the setting as a finite number within [least, most]."""
        raw = self.text(name, str(default))
        try:
            value = float(raw)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or not least <= value <= most:
            raise SettingError(f"{name} is {raw!r}; expected a number from {least:g} to {most:g}")
        return value

    def whole(self, name: str, default: int, *, least: int = 0, most: int = 2**31) -> int:
        """Return the setting as a whole number within [least, most]."""
        value = self.number(name, default, least=least, most=most)
        if value != int(value):
            raise SettingError(f"{name} is {value:g}; expected a whole number")
        return int(value)

    def path(self, name: str) -> Path | None:
        """Return the setting as a path, None when it is unset."""
        value = self.text(name, "")
        return Path(value) if value else None

    def base_url(self, name: str, default: str | None = None) -> str:
        """Return an address: of "host:port" and "http://host:port/" alike; no path, query or user is in it."""
        address = self.text(name, default)
        url = (address if "://" in address else f"http://{address}").rstrip("/")
        try:
            parts = urlsplit(url)
            sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port out of range, a torn IPv6 address
            sound = False
        if not sound or parts.path or parts.query or parts.fragment or "@" in url or any(c.isspace() for c in url):
            raise SettingError(f"{name} is {address!r}; expected http://HOST[:PORT] or https://HOST[:PORT]")
        return url
