"""Markers and what they say of a test."""

from collections.abc import Iterator
from typing import Any, cast

import pytest

LEVELS = ("live", "simulated", "static")
MARKERS = (
    "staging: decides on promotion; runs against a stack",
    "smoke: a first look at a stack, seconds long",
    "conformance: a service does what its requirement says",
    "slo: an objective of the system",
    "alerts: an alert rule fires, and only when it should",
    "rollout: moves traffic",
    "security: what must be refused is refused",
    "load: sends load",
    "soak: runs for hours",
    "gpu: needs a GPU",
    "docker: needs a Docker engine",
    "selftest: proves the harness itself",
    "covers(id, ..., level='live'): the catalog ids that a test proves, at level live, simulated or static",
    "arm(name): the arm that a test is about",
    "service(name, ...): whom a test is about, and the other services that it needs; deselected where one is missing",
    "plan: about the stage plan as a whole",
    "flags: needs a system with feature flags; deselected where it has none",
)


def covers_of(item: pytest.Item) -> Iterator[tuple[str, str]]:
    """Yield (catalog id, level) of a test. Raises pytest.UsageError for a mark that says nothing or a wrong level."""
    seen: set[str] = set()
    for mark in item.iter_markers("covers"):
        level: Any = mark.kwargs.get("level", "live")
        extra = set(mark.kwargs) - {"level"}
        if not mark.args or extra or level not in LEVELS or not all(isinstance(name, str) for name in mark.args):
            raise pytest.UsageError(
                f"{item.nodeid}: found covers{mark.args}{mark.kwargs or ''}, expected ids and a level of "
                f'{", ".join(LEVELS)} — write @pytest.mark.covers("<id>", level="live")'
            )
        for name in cast("tuple[str, ...]", mark.args):
            if name not in seen:
                seen.add(name)
                yield name, str(level)


def arm_of(item: pytest.Item) -> str:
    """Return the arm that a test is about: of its mark, or of its parameter `arm`; "" for the stack."""
    mark = item.get_closest_marker("arm")
    if mark and mark.args:
        return str(mark.args[0])
    callspec: Any = getattr(item, "callspec", None)
    return str(callspec.params.get("arm", "")) if callspec else ""


def services_of(item: pytest.Item) -> tuple[str, ...]:
    """Return the services that a test needs."""
    return tuple(str(name) for mark in item.iter_markers("service") for name in mark.args)
