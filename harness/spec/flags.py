"""flags.json: parents that exist, fields that fit, what is deployed at the start, and what a system's flags must be."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

from harness.model.errors import SpecError
from harness.model.system import Flag
from harness.planning.flags import FULL, IMMEDIATE, clashes, cycle, refuse_raise, share_clash
from harness.spec import build
from harness.spec.document import Document, Key
from harness.spec.problems import unknown
from harness.spec.schema import ConformanceFile, FlagRequirementSpec, FlagsFile, SystemFile


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagRequirement:
    """What flags.json must say of a flag, None asks for nothing; and the catalog ids that its cases prove."""

    covers: tuple[str, ...] = ()
    rollout: float | None = None
    target: float | None = None
    strategy: str | None = None
    depends: tuple[str, ...] | None = None

    def differences(self, flag: Flag) -> Iterator[tuple[str, str]]:
        """Yield (key, "found ..., expected ...") for each field of `flag` that is not the required one."""
        for field in fields(self):
            wanted = getattr(self, field.name)
            if field.name == "covers" or wanted is None:
                continue
            found = getattr(flag, field.name)
            if (set(found) != set(wanted)) if field.name == "depends" else (found != wanted):
                yield field.name, f"found {_words(found)} in flags.json, expected {_words(wanted)}"


def required_flag(spec: FlagRequirementSpec) -> FlagRequirement:
    """Return one requirement of conformance.yaml."""
    return FlagRequirement(
        covers=tuple(spec.covers),
        rollout=spec.rollout,
        target=spec.target,
        strategy=spec.strategy,
        depends=None if spec.depends is None else tuple(spec.depends),
    )


def check_required(document: Document, file: ConformanceFile, flags: Sequence[Flag]) -> Iterator[SpecError]:
    """Whatever conformance.yaml asks of a flag, flags.json says."""
    named = {flag.name: flag for flag in flags}
    for name, item in file.flags.items():
        if name not in named:
            yield unknown(document, ("flags", name), name, named, "flags of flags.json")
            continue
        for key, message in required_flag(item).differences(named[name]):
            yield document.problem(("flags", name, key), message, mend="correct either")


def flags_of(file: FlagsFile) -> tuple[Flag, ...]:
    """Return the flags of a file that was read."""
    return tuple(build.flag(name, item) for name, item in file.flags.items())


def check_flags(document: Document, file: FlagsFile) -> Iterator[SpecError]:
    """Parents exist, no flag depends on itself by any way, and no field is at odds with another."""
    for name, flag in file.flags.items():
        for index, parent in enumerate(flag.depends):
            if parent not in file.flags:
                yield unknown(document, ("flags", name, "depends", index), parent, file.flags, "flags")
    turn = cycle({name: flag.depends for name, flag in file.flags.items()})
    if turn:
        yield document.problem(
            ("flags", turn[0], "depends"),
            f"found the cycle {' -> '.join(turn)}, expected parents before children",
            mend="drop one of these dependencies",
        )
    for clash in clashes(flags_of(file)):
        at: Key = ("flags", clash.flag, clash.field)
        yield document.problem(at if clash.at < 0 else (*at, clash.at), clash.message, mend=clash.mend)


def check_deployed(document: Document, system: SystemFile, file: FlagsFile | None) -> Iterator[SpecError]:
    """What system.yaml says of flags: they exist, stand where they may, and the one under rollout can rise to 100 %."""
    traffic = system.traffic
    flags = flags_of(file) if file else ()
    named = {flag.name: flag for flag in flags}
    for name, share in traffic.flags.items():
        at: Key = ("traffic", "flags", name)
        if name not in named:
            yield unknown(document, at, name, named, "flags of flags.json")
        elif why := share_clash(named[name], share):
            yield document.problem(at, f"found {share:g}, {why}", mend="correct it, or the flag in flags.json")
    if not traffic.feature:
        return
    at = ("traffic", "feature")
    if traffic.feature not in named:
        yield unknown(document, at, traffic.feature, named, "flags of flags.json")
    elif named[traffic.feature].strategy == IMMEDIATE:
        yield document.problem(
            at,
            f"found `{traffic.feature}`, which is switched at once, expected a flag that rises with the stages",
            mend="give it the strategy canary in flags.json",
        )
    elif cycle({flag.name: flag.depends for flag in flags}) or any(set(one.depends) - set(named) for one in flags):
        return  # told where flags.json is checked
    elif why := refuse_raise(flags, traffic.flags, traffic.feature, FULL):
        yield document.problem(at, why, mend="correct traffic.flags: a promotion ends at 100 %")


def flags_text(flags: Sequence[Flag]) -> str:
    """Return the flags.json that `load_system` reads back as the same flags."""
    return json.dumps({"schema": 1, "flags": {flag.name: _plain(flag) for flag in flags}}, indent=2) + "\n"


def _plain(flag: Flag) -> Mapping[str, object]:
    return {
        "rollout": flag.rollout,
        "target": flag.target,
        "strategy": flag.strategy,
        "depends": list(flag.depends),
        "description": flag.description,
    }


def _words(value: tuple[str, ...] | float | str) -> str:
    if isinstance(value, tuple):
        return ", ".join(value) or "nothing"
    return value if isinstance(value, str) else f"{value:g}"
