"""Options of a scenario that runs by plain `locust -f`: from the environment instead of a gate."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from harness.adapters.load.options import LoadOptions, read_options
from harness.model.errors import SpecError
from harness.paths import share_root

OPTIONS_VARIABLE = "ROLLGATE_LOAD"  # options file of a gate: everything is in it
STACK_VARIABLE = "ROLLGATE_STACK"  # stack.json of a stack that is up: address and headers are in it
_RATE_VARIABLE = "ROLLGATE_LOAD_RATE"
_SEED_VARIABLE = "ROLLGATE_SEED"
_OUT_VARIABLE = "ROLLGATE_LOAD_OUT"
_SCENARIO_VARIABLE = "ROLLGATE_SCENARIO_OPTIONS"  # JSON object, over the scenario's own options

_RATE, _SECONDS = 20.0, 60.0


def scenario_options(
    *, prefix: str, workload: Path, system: str, defaults: Mapping[str, str], host: str, run_time_s: float
) -> LoadOptions:
    """Return the options of a gate's load, or of a load by hand.

    `prefix` names the signals, `system` the folder under stack/systems that a load by hand takes its data
    from, `host` is Locust's --host and `run_time_s` its --run-time (0: a minute). Raises SpecError when no
    address is given, or one that may not be loaded.
    """
    if path := os.environ.get(OPTIONS_VARIABLE):
        return read_options(Path(path))
    stack = _stack()
    url = entry_url(stack) if stack else host
    if not url:
        raise SpecError("no address to send load to", mend=f"give --host URL, or {STACK_VARIABLE}=OUT/stack.json")
    headers = cast("Mapping[str, str]", stack.get("headers") or {})
    chosen = {**defaults, **json.loads(os.environ.get(_SCENARIO_VARIABLE) or "{}")}
    out = os.environ.get(_OUT_VARIABLE) or tempfile.mkdtemp(prefix="rollgate-load-")
    options = LoadOptions(
        url=url,
        prefix=prefix,
        workload=str(workload),
        root=str(stack.get("system_root") or share_root() / "stack" / "systems" / system),
        evidence=out,
        rate=float(os.environ.get(_RATE_VARIABLE) or _RATE),
        seconds=run_time_s or _SECONDS,
        seed=int(os.environ.get(_SEED_VARIABLE) or 0),
        options=tuple(sorted((str(name), str(value)) for name, value in chosen.items())),
        session_header=headers.get("session", "X-Session-ID"),
        arm_header=headers.get("arm", "X-Arm"),
        remote=bool(stack.get("remote")),
    )
    options.check()
    return options


def entry_url(stack: Mapping[str, Any]) -> str:
    """Return the URL of the stack's public entry; SpecError when the description has none."""
    entry = str(stack.get("entry") or "")
    if not entry:
        raise SpecError("stack.json names no `entry`", mend="bring the stack up again with this version of rollgate")
    return entry if "://" in entry else f"http://{entry}"


def read_stack(path: Path) -> Mapping[str, Any]:
    """Return a stack's description; SpecError when the file is missing or no JSON object."""
    try:
        raw: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SpecError(f"cannot read the stack's description: {error}", where=str(path)) from error
    if not isinstance(raw, dict):
        raise SpecError("the stack's description is a JSON object", where=str(path))
    return cast("Mapping[str, Any]", raw)


def _stack() -> Mapping[str, Any]:
    path = os.environ.get(STACK_VARIABLE)
    return read_stack(Path(path)) if path else {}
