"""OpenFeature: a system's flags as a flagd definition file, and back.

flagd knows no dependencies between flags, so each flag is written with its effective share, and all of them hash the
session's key alone (`targetingKey`): a child is then on only for sessions that have its parents, and a raised share
takes nobody out. What flagd has no place for (own share, target, strategy, parents) stands in the flag's metadata under
`rollgate.`. flagd's hash is not the router's: its sessions are other ones, of the same share.
"""

import json
from collections.abc import Mapping, Sequence

from harness.model.system import Flag
from harness.planning.flags import BUCKETS, effective_shares, limit

SCHEMA = "https://flagd.dev/schema/v0/flags.json"
KEY = "targetingKey"
OWN = "rollgate."
_PERCENT = 100


def export(flags: Sequence[Flag], shares: Mapping[str, float], *, name: str) -> str:
    """Return the definition file of a system's flags at `shares` (own ones, percent); `name` is the flag set's id."""
    effective = effective_shares(flags, shares)
    body = {
        "$schema": SCHEMA,
        "metadata": {"flagSetId": name},
        "flags": {one.name: _definition(one, shares.get(one.name, one.rollout), effective[one.name]) for one in flags},
    }
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def _definition(flag: Flag, own: float, effective: float) -> dict[str, object]:
    on = limit(effective)
    made: dict[str, object] = {
        "state": "ENABLED",
        "variants": {"on": True, "off": False},
        "defaultVariant": "on" if on == BUCKETS else "off",
    }
    if 0 < on < BUCKETS:
        # Whole percents add up to 100, which the oldest flagd wants too; "on" comes first, so that it only grows.
        unit = BUCKETS // _PERCENT if on % (BUCKETS // _PERCENT) == 0 else 1
        weights = [["on", on // unit], ["off", (BUCKETS - on) // unit]]
        made["targeting"] = {"fractional": [{"var": KEY}, *weights]}
    kept = {"share": own, "target": flag.target, "strategy": flag.strategy}
    kept |= {"depends": " ".join(flag.depends)} if flag.depends else {}
    kept |= {"description": flag.description} if flag.description else {}
    made["metadata"] = {f"{OWN}{key}": value for key, value in kept.items()}
    return made
