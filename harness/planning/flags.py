"""Feature flags: who has one, what each is worth under its parents, and in which order they may move. Pure.

A flag's share is sticky: a session's key falls into one of 10,000 buckets by xxh32 (seed 0), and the flag is on for the
buckets below its share. Routers and applications use the same function, so that traffic and flags move together, and
raising a share never takes a flag away from a session.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import xxhash

from harness.model.system import Flag

BUCKETS = 10_000
FULL = 100.0  # percent
_PER_PERCENT = BUCKETS // 100
IMMEDIATE = "immediate"


def bucket(session: str) -> int:
    """Return the bucket of a session's key, 0 to 9999."""
    return xxhash.xxh32(session.encode("utf-8", "surrogateescape")).intdigest() % BUCKETS


def limit(percent: float) -> int:
    """Return how many buckets `percent` is, from the lowest up; the nearest whole number."""
    return round(percent * _PER_PERCENT)


def is_on(session: str, percent: float) -> bool:
    """Return whether a flag whose effective share is `percent` is on for a session."""
    return bucket(session) < limit(percent)


def cycle(graph: Mapping[str, Sequence[str]]) -> list[str]:
    """Return one cycle of `graph` as its names in order, the first repeated at the end; empty where none is."""
    done: set[str] = set()
    for start in graph:
        trail: dict[str, Iterator[str]] = {start: iter(graph[start])} if start not in done else {}
        while trail:
            name = next(reversed(trail))
            parent = next((one for one in trail[name] if one not in done), None)
            if parent is None:
                done.add(name)
                del trail[name]
            elif parent in trail:
                names = list(trail)
                return [*names[names.index(parent) :], parent]
            else:
                trail[parent] = iter(graph.get(parent, ()))
    return []


def effective_shares(flags: Iterable[Flag], shares: Mapping[str, float]) -> dict[str, float]:
    """Return each flag's effective share in percent: the least of its own and its parents' effective ones.

    A flag that `shares` lacks has its own `rollout`. What hangs on an unknown parent or on a cycle is off.
    """
    own = {flag.name: shares.get(flag.name, flag.rollout) for flag in flags}
    parents = {flag.name: flag.depends for flag in flags}
    found: dict[str, float] = {}
    for name in _parents_first(parents):
        found[name] = min([own[name], *(found.get(parent, 0.0) for parent in parents[name])])
    return {name: found.get(name, 0.0) for name in own}


def _parents_first(parents: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the names in an order of parents before children; what a cycle holds or holds back is left out."""
    waiting = {name: {parent for parent in above if parent in parents} for name, above in parents.items()}
    children: dict[str, list[str]] = {}
    for name, above in waiting.items():
        for parent in above:
            children.setdefault(parent, []).append(name)
    order = [name for name, above in waiting.items() if not above]
    for name in order:  # grows while it is walked
        for child in children.get(name, ()):
            waiting[child].discard(name)
            if not waiting[child]:
                order.append(child)
    return order


def ancestors(flags: Iterable[Flag], name: str) -> frozenset[str]:
    """Return every flag that `name` depends on, by any way, itself not among them unless in a cycle."""
    return _reach({flag.name: flag.depends for flag in flags}, name)


def descendants(flags: Iterable[Flag], name: str) -> frozenset[str]:
    """Return every flag that depends on `name`, by any way."""
    children: dict[str, list[str]] = {}
    for flag in flags:
        for parent in flag.depends:
            children.setdefault(parent, []).append(flag.name)
    return _reach(children, name)


def _reach(graph: Mapping[str, Sequence[str]], start: str) -> frozenset[str]:
    found: set[str] = set()
    waiting = list(graph.get(start, ()))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += graph.get(name, ())
    return frozenset(found)


def related(flags: Sequence[Flag], a: str, b: str) -> bool:
    """Return whether rollouts of two features exclude each other: the same one, or one depends on the other."""
    return a == b or a in ancestors(flags, b) or b in ancestors(flags, a)


def rollback_order(flags: Sequence[Flag], name: str) -> tuple[str, ...]:
    """Return the flags to take back for `name` to be off, children before their parents, `name` last."""
    below = descendants(flags, name) | {name}
    inner = {f.name: [parent for parent in f.depends if parent in below] for f in flags if f.name in below}
    order = [one for one in reversed(_parents_first(inner)) if one != name]
    return (*order, *sorted(below - {name, *order}), name)


def refuse_raise(flags: Sequence[Flag], shares: Mapping[str, float], name: str, to: float) -> str:
    """Return why the flag `name` must not be set to `to` percent, in words; "" where it may.

    `shares` are the deployed ones (percent). Taking back, or staying, is never refused; a raise ends at the flag's
    target and at its parents' effective share, and an immediate flag goes to its target at once.
    """
    flag = next((one for one in flags if one.name == name), None)
    if flag is None:
        return f"there is no flag `{name}`"
    if not 0 <= to <= FULL:
        return f"`{name}` cannot be set to {to:g} %: a share lies between 0 and 100"
    own = shares.get(name, flag.rollout)
    if to <= own:
        return ""
    raised = f"`{name}` cannot be raised from {own:g} to {to:g} %"
    if to > flag.target:
        return f"{raised}: its target is {flag.target:g} %"
    if flag.strategy == IMMEDIATE and to != flag.target:
        return f"{raised}: it is switched at once, to its target of {flag.target:g} %"
    effective = effective_shares(flags, shares)
    for parent in sorted(flag.depends, key=lambda one: effective.get(one, 0.0)):
        if to > effective.get(parent, 0.0):
            worth = f"effective at {effective[parent]:g} %" if parent in effective else "no flag of this system"
            return f"{raised}: its parent `{parent}` is {worth}; raise that one first"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clash:
    """Two fields of a flag, or of two flags, that cannot both hold. `at` is the place in `depends`, -1 for none."""

    flag: str
    field: str
    message: str
    mend: str
    at: int = -1


def clashes(flags: Sequence[Flag]) -> Iterator[Clash]:
    """Yield every field that is at odds with another: shares with targets and strategies, targets with parents'."""
    targets = {flag.name: flag.target for flag in flags}
    for flag in flags:
        why = share_clash(flag, flag.rollout)
        if why:
            yield Clash(flag=flag.name, field="rollout", message=f"found {flag.rollout:g}, {why}", mend="correct one")
        for at, parent in enumerate(flag.depends):
            if parent in flag.depends[:at]:
                message = f"found `{parent}` twice, expected each parent once"
                yield Clash(flag=flag.name, field="depends", at=at, message=message, mend="drop one of the two")
            elif flag.target > targets.get(parent, FULL):
                message = f"found {flag.target:g}, expected at most {targets[parent]:g}, the target of its parent"
                mend = f"lower it, or raise the target of `{parent}`: above it this flag is never effective"
                yield Clash(flag=flag.name, field="target", message=message, mend=mend)


def share_clash(flag: Flag, share: float) -> str:
    """Return "expected ..." where a flag must not stand at `share` percent; "" where it may."""
    if share > flag.target:
        return f"expected at most its target, {flag.target:g}"
    if flag.strategy == IMMEDIATE and share not in (0.0, flag.target):
        return f"expected 0 or its target, {flag.target:g}: it is switched at once"
    return ""
