"""Which tests fit what was named, over which parameters, and where their results come from."""

from collections.abc import Iterator

import pytest
from _pytest.mark import ParameterSet

from harness.adapters.native_instance import lacks_gpu
from harness.model.evidence import Arm
from harness.model.judgement import ServiceKind
from harness.model.system import Service
from harness.paths import share_root
from harness.pytest_plugin.marks import arm_of, services_of
from harness.pytest_plugin.recorded import RecordedCase
from harness.pytest_plugin.target import Target

_RUNS = ("stack", "gate_run")  # fixtures that need something running


def parametrize(metafunc: pytest.Metafunc, target: Target) -> None:
    """Give `arm`, `instance`, `flag`, `objective` and `stage` their values, the baseline first.

    `limited_instance` are the instances of services with a limit of memory. A case of a flag bears the flag's ids.
    """
    names = metafunc.fixturenames
    if "arm" in names and "stack" in names:
        metafunc.parametrize("arm", [arm.value for arm in Arm])
    for name, limited in (("instance", False), ("limited_instance", True)):
        if name in names:
            metafunc.parametrize(name, list(_instances(target, limited=limited)))
    if "flag" in names and "stack" in names:
        metafunc.parametrize("flag", list(_flags(target)))
    if "gate_run" not in names:
        return
    if "objective" in names:
        objectives = target.system.objectives if target.named else ()
        metafunc.parametrize(
            "objective",
            [pytest.param(item, id=item.id, marks=pytest.mark.covers(item.id)) for item in objectives],
        )
    if "stage" in names:
        stages = target.plan.stages if target.named and not target.unavailable() else ()
        metafunc.parametrize("stage", [pytest.param(item, id=item.id) for item in stages])


def _instances(target: Target, *, limited: bool) -> Iterator[ParameterSet]:
    """Yield (service, arm) of each instance, marked with both; arm None off the arms.

    One that this provider does not run is skipped with the reason: the ids of the cases are the same everywhere.
    """
    for service in target.system.services if target.named else ():
        if limited and service.resources.memory_gb is None:
            continue
        for arm in Arm if service.per_arm else (None,):
            marks = [pytest.mark.service(service.name), *([pytest.mark.arm(arm.value)] if arm else [])]
            name = f"{service.name}-{arm.value}" if arm else service.name
            yield pytest.param((service.name, arm), id=name, marks=marks)


def _flags(target: Target) -> Iterator[ParameterSet]:
    """Yield each flag's name, marked with the ids that conformance.yaml names for it."""
    if not target.named:
        return
    required = target.requirements.flags
    for flag in target.system.flags:
        ids = required[flag.name].covers if flag.name in required else ()
        yield pytest.param(flag.name, marks=[pytest.mark.covers(*ids)] if ids else [])


def select(config: pytest.Config, items: list[pytest.Item], target: Target) -> None:
    """Drop what the system does not declare, skip what this machine or call lacks, and sort the baseline first.

    Without `--stack-file`, a conformance case is the result that the session's one gate recorded of it.
    """
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        needs_run = any(name in _RUNS for name in getattr(item, "fixturenames", ()))
        if needs_run and target.named and not (_asked(item, target) and _declared(item, target)):
            dropped.append(item)
            continue
        if needs_run and target.named:
            level = "simulated" if _is_stand_in(item, target) else "live"
            for name in _proven(item, target):
                item.add_marker(pytest.mark.covers(name, level=level))
        reason = _lacking(item, target) if needs_run else ""
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))
        elif needs_run and "stack" in getattr(item, "fixturenames", ()) and target.stack_file is None:
            item = RecordedCase.of(item)  # noqa: PLW2901 - the same case, its result read instead of made
        if needs_run and target.stack_file is None and config.pluginmanager.hasplugin("timeout"):
            item.add_marker(pytest.mark.timeout(0))  # the first of them runs the gate, and the plan bounds that
        kept.append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
    order = {"": 0, Arm.BASELINE.value: 0, Arm.CANDIDATE.value: 1}
    if target.stack_file:
        kept.sort(key=lambda item: order.get(arm_of(item), 0))
    items[:] = kept


def _asked(item: pytest.Item, target: Target) -> bool:
    """Conformance cases run where system.yaml's `suites` names their folder; what needs the gate alone, everywhere."""
    if "stack" not in getattr(item, "fixturenames", ()):
        return True
    roots = (share_root() / "suites", target.system.root)
    return any(item.path.is_relative_to(root / suite) for root in roots for suite in target.system.suites)


def _proven(item: pytest.Item, target: Target) -> tuple[str, ...]:
    """Return the ids that conformance.yaml names for whom a case is about: its mark's first service, or the plan."""
    if item.get_closest_marker("plan"):
        found = None if target.unavailable() else target.requirements.plans.get(target.plan.name)
        return found.covers if found else ()
    services = services_of(item)
    return target.requirements.of(services[0]).covers if services else ()


def _is_stand_in(item: pytest.Item, target: Target) -> bool:
    """Whether the service that a case is about is a stand-in on the stack that is up."""
    kinds = {str(one.get("name")): one.get("kind") for one in target.described.get("services", ())}
    return any(kinds.get(name) == ServiceKind.STAND_IN for name in services_of(item)[:1])


def _declared(item: pytest.Item, target: Target) -> bool:
    declared = {service.name for service in target.system.services}
    if not declared.issuperset(services_of(item)):
        return False
    return bool(target.system.flags) or item.get_closest_marker("flags") is None


def _lacking(item: pytest.Item, target: Target) -> str:
    if not target.named:
        return "names no system: add --system NAME, or --stack-file FILE"
    if reason := target.unavailable():
        return reason
    if "gate_run" in getattr(item, "fixturenames", ()) and target.stack_file:
        return "a stack that is up already is not gated: leave --stack-file out"
    provider = target.provider_name
    left_out = target.described.get("absent", {})
    for name in services_of(item):
        if name in left_out:
            return f"{name} does not run here: {left_out[name]}"
        if reason := absence(target.system.service(name), provider):
            return f"{name} does not run on {provider}: {reason}"
    return ""


def absence(service: Service, provider: str) -> str:
    """Return why `provider` does not run a service here, "" where it does."""
    if provider in {"native", "docker"} and lacks_gpu(service):
        return "this machine shows no GPU"
    return dict(service.not_on).get(provider, "")
