"""Secrets never reach a file of the report: known values, and what looks like one, are masked."""

import re
from collections.abc import Iterable

MASK = "•••"

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # user:password@host in an address
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/:@]*:)[^\s/@]+(@)", re.IGNORECASE), rf"\1{MASK}\2"),
    (re.compile(r"(\bauthorization\s*[:=]\s*(?:(?:basic|bearer|token)\s+)?)[^\s,;\"']+", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(r"(\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\1{MASK}"),
    # password=..., "api_key": "...", --requirepass ...; a *_file setting names a path and stays readable
    (
        re.compile(
            r"((?:password|passwd|requirepass|secret|token|api[_-]?key|access[_-]?key)[\"']?(?:\s*[:=]\s*|\s+(?=\S{12,}))[\"']?)"
            r"(?!/)[^\s\"',;&]{4,}",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), MASK),
)
_SHORTEST_SECRET = 4


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` without the values of `secrets` and without what looks like a password, token or key."""
    for secret in sorted((s for s in secrets if len(s) >= _SHORTEST_SECRET), key=len, reverse=True):
        text = text.replace(secret, MASK)
    for pattern, mask in _PATTERNS:
        text = pattern.sub(mask, text)
    return text
