"""Reading a flagd definition file: what rollgate's flags can say is taken, everything else is one clear error."""

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import cast

from harness.adapters.flagd import KEY, OWN
from harness.model.errors import SpecError
from harness.model.system import Flag
from harness.planning.flags import BUCKETS, FULL, clashes, cycle, effective_shares

_LARGEST = 512 * 1024  # bytes
_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_FILE_KEYS = ("$schema", "flags", "$evaluators", "metadata")
_FLAG_KEYS = ("state", "variants", "defaultVariant", "targeting", "metadata")
_STRATEGIES = ("canary", "immediate")


def read(path: Path, *, needed: Collection[str] = ()) -> tuple[Flag, ...]:
    """Return the flags of a flagd definition file; a flag's `rollout` is its own share there.

    Raises SpecError, which names file, key, what was expected and the mend, for whatever rollgate's flags cannot say,
    and where a flag of `needed` is missing.
    """
    return _Reader(str(path)).flags(_json(path), needed)


def _json(path: Path) -> object:
    where = str(path)

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        twice = next((key for at, (key, _) in enumerate(pairs) if key in dict(pairs[:at])), None)
        if twice is not None:
            raise SpecError(f"the key `{twice}` stands there twice", where=where, mend="keep one of the two")
        return found

    def finite(constant: str) -> float:
        raise SpecError(f"found {constant}, expected a finite number", where=where, mend="write a number")

    try:
        if path.stat().st_size > _LARGEST:
            raise SpecError(f"expected at most {_LARGEST} bytes", where=where, mend="is this the right file?")
        text = path.read_text(encoding="utf-8-sig")
        return cast("object", json.loads(text, object_pairs_hook=once, parse_constant=finite))
    except json.JSONDecodeError as error:
        where = f"{where}:{error.lineno}"
        raise SpecError(f"no JSON: {error.msg.lower()}", where=where, mend="mend the syntax there") from None
    except RecursionError:
        raise SpecError("nested too deeply", where=where, mend="is this the right file?") from None
    except ValueError as error:  # no UTF-8, or a number of thousands of digits
        raise SpecError(f"cannot be read: {error}", where=where, mend="save it as JSON in UTF-8") from None
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise SpecError(f"cannot be read: {why}", where=where, mend="name a definition file of flagd") from None


class _Reader:
    """Reads one file; every error names it."""

    def __init__(self, where: str) -> None:
        self._where = where

    def flags(self, raw: object, needed: Collection[str]) -> tuple[Flag, ...]:
        body = self._mapping(raw, "")
        self._known(body, _FILE_KEYS, "")
        if "flags" not in body:
            raise self._error("flags", "missing, expected the flags by name", "is this a definition file of flagd?")
        found = self._by_name(body["flags"])
        flags: list[Flag] = []
        worth: dict[str, float] = {}
        for name, definition in found.items():
            flag, share = self._flag(name, definition)
            flags.append(flag)
            worth[name] = share
        self._graph(flags)
        self._agree(flags, worth)
        for name in needed:
            if name not in found:
                message = f"found no flag `{name}`, expected it: the system's traffic names it"
                raise self._error("flags", message, "add it, or drop it from system.yaml")
        return tuple(flags)

    def _by_name(self, raw: object) -> dict[str, dict[str, object]]:
        """Return the definitions by name, from either form that flagd reads: a mapping, or a list with keys."""
        if not isinstance(raw, list):
            listed = [(f"flags.{name}", name, value) for name, value in self._mapping(raw, "flags").items()]
        else:
            listed = [self._listed(at, one) for at, one in enumerate(cast("list[object]", raw))]
        found: dict[str, dict[str, object]] = {}
        for key, name, value in listed:
            if not _NAME.fullmatch(name):
                raise self._error(key, f"found the name `{name[:60]}`, expected {_NAME.pattern}", "rename the flag")
            if name in found:
                raise self._error(key, f"found `{name}` twice, expected each flag once", "keep one of the two")
            found[name] = self._mapping(value, key)
        return found

    def _listed(self, at: int, raw: object) -> tuple[str, str, object]:
        key = f"flags[{at}]"
        value = self._mapping(raw, key)
        name = value.get("key")
        if not isinstance(name, str):
            raise self._error(f"{key}.key", f"found {_show(name)}, expected the flag's name", "add it")
        return key, name, {part: one for part, one in value.items() if part != "key"}

    def _flag(self, name: str, raw: Mapping[str, object]) -> tuple[Flag, float]:
        """Return a flag and its effective share."""
        key = f"flags.{name}"
        self._known(raw, _FLAG_KEYS, key)
        if raw.get("state") != "ENABLED":
            message = f"found {_show(raw.get('state'))}, expected `ENABLED`: a flag that is not there has no share"
            raise self._error(f"{key}.state", message, "enable it with a defaultVariant that is false, or drop it")
        on = self._switch(raw.get("variants"), f"{key}.variants")
        default = raw.get("defaultVariant")
        if not isinstance(default, str) or default not in on:
            message = f"found {_show(default)}, expected one of the variants: {', '.join(on)}"
            raise self._error(f"{key}.defaultVariant", message, "name a variant")
        targeting = raw.get("targeting")
        share = FULL if on[default] else 0.0
        if targeting not in (None, {}):
            share = self._fractional(targeting, on, f"{key}.targeting")
        return self._described(name, raw.get("metadata", {}), share), share

    def _switch(self, raw: object, key: str) -> dict[str, bool]:
        variants = self._mapping(raw, key)
        if sorted(variants.values(), key=repr) != [False, True] or not all(
            isinstance(v, bool) for v in variants.values()
        ):
            shown = ", ".join(f"{name}: {_show(value)}" for name, value in variants.items())
            message = f"found {shown[:80] or 'nothing'}, expected two variants, one true and one false"
            raise self._error(key, message, 'write {"on": true, "off": false}: a flag here is on or off')
        return cast("dict[str, bool]", variants)

    def _fractional(self, raw: object, on: Mapping[str, bool], key: str) -> float:
        """Return the share of the true variant in percent."""
        rule = self._mapping(raw, key)
        if list(rule) != ["fractional"] or not isinstance(rule["fractional"], list):
            message = f"found `{', '.join(rule)[:60]}`, expected `fractional` alone: a flag here is on for a share"
            raise self._error(key, message, "keep that rule in flagd, or write a fractional one")
        parts = cast("list[object]", rule["fractional"])
        key = f"{key}.fractional"
        first = 0
        if parts and not isinstance(parts[0], list):
            first = 1
            if parts[0] not in ({"var": KEY}, {"var": [KEY]}):
                message = f"found {_show(parts[0])}, expected the session's key"
                raise self._error(f"{key}[0]", message, f'write {{"var": "{KEY}"}}')
        weights = {True: 0.0, False: 0.0}
        for at, part in enumerate(parts[first:], first):
            variant, weight = self._weight(part, on, f"{key}[{at}]")
            weights[on[variant]] += weight
        whole = weights[True] + weights[False]
        if whole <= 0:
            raise self._error(key, "found no weight above 0, expected one", "give a variant a weight")
        return weights[True] * FULL / whole

    def _weight(self, raw: object, on: Mapping[str, bool], key: str) -> tuple[str, float]:
        part: list[object] = cast("list[object]", raw) if isinstance(raw, list) else []
        variant, weight = part[0] if part else None, part[1] if len(part) > 1 else 1
        if len(part) not in (1, 2) or not isinstance(variant, str) or variant not in on:
            raise self._error(
                key,
                f"found {_show(cast('object', raw))}, expected a variant and its weight",
                f'write ["{next(iter(on))}", 50]',
            )
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < 2**31:
            message = f"found {_show(weight)}, expected a number from 0 to 2147483647"
            raise self._error(f"{key}[1]", message, "write the weight as a number")
        return variant, float(weight)

    def _described(self, name: str, raw: object, share: float) -> Flag:
        """Return the flag with what rollgate keeps in the metadata; without it, the share is the flag's own."""
        key = f"flags.{name}.metadata"
        own = {part.removeprefix(OWN): v for part, v in self._mapping(raw, key).items() if part.startswith(OWN)}
        known = ("share", "target", "strategy", "depends", "description")
        for part in own:
            if part not in known:
                expected = ", ".join(OWN + one for one in known)
                raise self._error(
                    f'{key}."{OWN}{part}"', f"unknown key, expected one of {expected}", "correct the name"
                )
        strategy = self._text(own, "strategy", key, "canary")
        if strategy not in _STRATEGIES:
            message = f"found `{strategy[:60]}`, expected {' or '.join(_STRATEGIES)}"
            raise self._error(f'{key}."{OWN}strategy"', message, "correct it")
        return Flag(
            name=name,
            rollout=self._percent(own, "share", key, share),
            target=self._percent(own, "target", key, FULL),
            strategy=strategy,
            depends=tuple(self._text(own, "depends", key, "").split()),
            description=self._text(own, "description", key, ""),
        )

    def _percent(self, own: Mapping[str, object], part: str, key: str, default: float) -> float:
        value = own.get(part, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= FULL:
            message = f"found {_show(value)}, expected a number from 0 to 100"
            raise self._error(f'{key}."{OWN}{part}"', message, "write percent")
        return float(value)

    def _text(self, own: Mapping[str, object], part: str, key: str, default: str) -> str:
        value = own.get(part, default)
        if not isinstance(value, str):
            raise self._error(f'{key}."{OWN}{part}"', f"found {_show(value)}, expected a text", "put it in quotes")
        return value

    def _graph(self, flags: Sequence[Flag]) -> None:
        names = {flag.name for flag in flags}
        for flag in flags:
            key = f'flags.{flag.name}.metadata."{OWN}depends"'
            for parent in flag.depends:
                if parent not in names:
                    known = ", ".join(sorted(names))[:200]
                    raise self._error(
                        key, f"found `{parent[:60]}`, expected a flag of this file", f"known flags: {known}"
                    )
        if turn := cycle({flag.name: flag.depends for flag in flags}):
            key = f'flags.{turn[0]}.metadata."{OWN}depends"'
            message = f"found the cycle {' -> '.join(turn)}, expected parents before children"
            raise self._error(key, message, "drop one of these dependencies")
        for clash in clashes(flags):
            field = {"rollout": "share"}.get(clash.field, clash.field)
            raise self._error(f'flags.{clash.flag}.metadata."{OWN}{field}"', clash.message, clash.mend)

    def _agree(self, flags: Sequence[Flag], worth: Mapping[str, float]) -> None:
        """What flagd serves is what the shares in the metadata come to."""
        effective = effective_shares(flags, {flag.name: flag.rollout for flag in flags})
        for flag in flags:
            name = flag.name
            if not math.isclose(effective[name], worth[name], abs_tol=FULL / BUCKETS):
                message = f"found {worth[name]:g} %, expected {effective[name]:g} %, which its metadata come to"
                mend = f"set `{OWN}share` to the share you mean, or drop it where the flag has no parents"
                raise self._error(f"flags.{name}.targeting", message, mend)

    def _mapping(self, raw: object, key: str) -> dict[str, object]:
        if not isinstance(raw, dict):
            raise self._error(key, f"found {_show(raw)}, expected keys with values", "write a JSON object")
        return cast("dict[str, object]", raw)

    def _known(self, raw: Mapping[str, object], known: Collection[str], key: str) -> None:
        for part in raw:
            if part not in known:
                at = f"{key}.{part}" if key else part
                raise self._error(
                    at, f"unknown key, expected one of {', '.join(known)}", "correct the name, or drop it"
                )

    def _error(self, key: str, message: str, mend: str) -> SpecError:
        return SpecError(message, where=self._where, key=key, mend=mend)


def _show(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return json.dumps(value)[:60]
    return repr(value)[:60]
