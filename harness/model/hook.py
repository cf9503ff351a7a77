"""What is told to the webhooks of a rollout, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass

BEFORE, AFTER, NOTIFY = "before", "after", "notify"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What one hook is told. The same `id` is the same fact, however often it arrives; `body` is plain JSON."""

    id: str
    hook: str
    body: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What came of a delivery: `ok` for an answer of 2xx; `said` is the answer's status or the trouble, in words."""

    id: str
    hook: str
    ok: bool
    said: str
