"""A deployed stack as the place of a run: its addresses, its router, and what can be judged of it."""

import logging
import os
import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from harness import spec
from harness.adapters.client_split import ClientSplitRouter
from harness.adapters.clock import SystemClock
from harness.adapters.flags_file import FileFlags
from harness.adapters.haproxy import HAProxyRouter
from harness.adapters.hooks import HookAccess, Webhooks, resolve_hooks
from harness.adapters.probes import StackProbes
from harness.adapters.prometheus import PrometheusMetrics
from harness.adapters.remote import UNKNOWN, RemoteProvider, RemoteSmoke, RemoteStack, remote_questions
from harness.adapters.remote_access import Access, readable, resolve, secret_variables
from harness.adapters.routers.flag_router import FlagRouter
from harness.adapters.routers.kubernetes_api import GATEWAY_API, ISTIO, connect
from harness.adapters.routers.kubernetes_routes import KubernetesRouter
from harness.adapters.routers.nginx import NginxRouter
from harness.model.errors import EnvironmentProblem, SpecError
from harness.model.event import Event, Noted
from harness.model.evidence import Arm, Evidence
from harness.model.judgement import Judgement
from harness.model.plan import StagePlan
from harness.model.system import Release, System
from harness.model.target import Target
from harness.planning.judgeable import judgeable
from harness.ports import Router, Stack
from harness.report.atomic import write_text
from harness.report.redact import redact
from harness.run.driver import Judging
from harness.run.gate import Request
from harness.wiring.judging import Known
from harness.wiring.site import Reached, load_of, refusal

T = TypeVar("T")
_LOG = logging.getLogger("rollgate")
TARGET_FILE = "target.yaml"
SPLIT_FILE = "split.json"
_JUDGED_BY = {
    True: "name the target's Prometheus, or let objectives have source client",
    False: "name the target's Prometheus, or add --load to send load of rollgate's own",
}
_FOREIGN = "an A/A run is made on a stack of rollgate's own, and says nothing about this target"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What a target file says of a system, with its secrets read; `absent` is what it leaves unjudged.

    `lacking` says of "auth", "prometheus" and "hooks" why their secrets cannot be read, empty where all can: a way back
    does not wait for that to be mended. `read` are those that could be read beside them.
    """

    system: System
    target: Target
    access: Access
    prometheus: Access
    absent: tuple[Judgement, ...] = ()
    hooks: HookAccess = field(default_factory=HookAccess)
    lacking: Mapping[str, SpecError] = field(default_factory=dict[str, SpecError])
    read: tuple[str, ...] = ()

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values that no file may show."""
        return (*self.access.secrets, *self.prometheus.secrets, *self.hooks.secrets, *self.read)

    def plan(self, plan: StagePlan) -> StagePlan:
        """Return `plan` with what a run on this target may and may not claim."""
        return replace(plan, claims=(*plan.claims, *self._claims()))

    def _claims(self) -> list[str]:
        target, feature = self.target, self.system.traffic.feature
        claims = [f"deployed at {target.baseline.url} and {target.candidate.url}; rollgate started and ended nothing"]
        if target.split_by_load:
            claims.append("the load split itself: no traffic but rollgate's own was moved, and no router was tried")
        if feature and not (target.flags or target.router.kind == "flags"):
            claims.append(f"the flag {feature} did not follow the traffic: the target names no flags")
        if self.absent:
            told = ", ".join(f"{one.id} ({one.source})" for one in self.absent)
            claims.append(f"not judged, because the target lacks what it takes: {told}")
        return claims

    def arms(self) -> dict[Arm, Release]:
        """Return what is deployed, as far as the target file says; the target's answers tell the versions."""
        return {arm: Release(name=arm.value, version=self.target.arm(arm).version or UNKNOWN) for arm in Arm}

    def holds_secret(self, path: Path) -> bool:
        """Tell whether a file is a secret's, or repeats one: a run's copy of the system's folder leaves it out."""
        prometheus = self.target.prometheus
        hooks = self.target.hooks
        named = (
            *self.target.auth.files,
            *(prometheus.auth.files if prometheus else ()),
            *(hooks.files if hooks else ()),
        )
        if not path.is_file():
            return False
        if path.resolve() in {Path(name).resolve() for name in named}:
            return True
        content = path.read_bytes()
        unread = (name for name in secret_variables(self.target) if not os.environ.get(name))
        if any(re.search(rf"(?m)^\s*(export\s+)?{re.escape(name)}\s*=".encode(), content) for name in unread):
            return True  # its value cannot be looked for
        return any(secret.encode() in content for secret in self.secrets)

    def keep(self, out: Path) -> None:
        """Leave what a replay needs of the target in the run's folder. Raises EnvironmentProblem."""
        try:
            write_text(out / TARGET_FILE, spec.target_text(self.target))
        except OSError as error:
            msg = f"cannot write {out / TARGET_FILE}: {error.strerror}"
            raise EnvironmentProblem(msg, mend="free space, or choose another --out") from error


def deployed(system: System, file: Path, *, load: bool = True, needs_secrets: bool = True) -> Deployed:
    """Read a target file for `system`; without `load` no client's evidence is to come.

    What lacks its secrets is left out where they are not needed. Raises SpecError before anything is asked of the
    target.
    """
    target = spec.load_target(file)
    judged = judgeable(system, target, load=load)
    if not judged.decides:
        msg = f"no critical objective of {system.name} can be judged there"
        raise SpecError(msg, where=str(file), mend=_JUDGED_BY[load])
    router_of(target, judged.system, split=Path(SPLIT_FILE))  # what its settings lack is told now
    lacking = dict[str, SpecError]()

    def read(what: str, resolved: Callable[[], T], without: T) -> T:
        try:
            return resolved()
        except SpecError as error:
            lacking[what] = error
            return without

    found = Deployed(
        system=judged.system,
        target=target,
        access=replace(read("auth", lambda: resolve(target.auth, f"{file}: auth"), Access()), host=target.host),
        prometheus=read("prometheus", lambda: _prometheus(target, file), Access()),
        absent=judged.absent,
        hooks=read("hooks", lambda: _hooks(target, file), HookAccess()),
        lacking=lacking,
        read=readable(target) if lacking else (),
    )
    if needs_secrets:
        refuse_lacking(found)
    return found


def refuse_lacking(found: Deployed) -> None:
    """Raise the first SpecError about secrets that cannot be read: without them nothing is judged, nobody told."""
    for error in found.lacking.values():
        raise error


def _prometheus(target: Target, file: Path) -> Access:
    return resolve(target.prometheus.auth, f"{file}: prometheus.auth") if target.prometheus else Access()


def _hooks(target: Target, file: Path) -> HookAccess:
    return resolve_hooks(target.hooks, f"{file}: hooks", spec.is_address) if target.hooks else HookAccess()


def refuse_changes(asked: Mapping[str, str | None]) -> None:
    """Raise SpecError for an option, by name, that wants something of a deployed stack that is not done to it."""
    reasons = {
        "--release": "a deployed target serves what is deployed; `candidate.version` in the target file checks it",
        "--baseline": "a deployed target serves what is deployed; `baseline.version` in the target file checks it",
        "--drill": "drills break things on purpose, and never a deployed stack",
    }
    for name, value in asked.items():
        if value is not None:
            raise SpecError(f"not with --provider remote: {reasons[name]}", key=name, mend=f"drop {name}")


def no_calibration() -> Known:
    """Return what is known of a deployed stack's noise: nothing."""
    return Known(calibration=None, why=_FOREIGN)


@dataclass(slots=True)
class PartJudge:
    """A judge of what can be judged, which names the rest at every look."""

    judge: Judging
    absent: tuple[Judgement, ...]

    def observe(self, records: Sequence[Evidence]) -> None:
        """Hand the records on."""
        self.judge.observe(records)

    def look(self, *, at: float, stage: str, final: bool) -> tuple[Judgement, ...]:
        """Return what the judge says, then what is not applicable."""
        said = self.judge.look(at=at, stage=stage, final=final)
        return (*said, *(replace(one, stage=stage) for one in self.absent))


def as_judged(run_dir: Path, system: System) -> tuple[System, tuple[Judgement, ...]]:
    """Return a stored run's system as it was judged, and what was not applicable."""
    path = run_dir / TARGET_FILE
    if not path.exists():
        return system, ()
    judged = judgeable(system, spec.load_target(path))
    return judged.system, judged.absent


def router_of(
    target: Target,
    system: System,
    *,
    split: Path,
    sticky: bool = True,
    answers: Callable[[Arm], bool] | None = None,
    note: Callable[[str], None] = _LOG.warning,
) -> Router:
    """Return who moves the target's traffic; nobody is asked yet.

    `split` is where the load's own order goes, `answers` tells whether an arm is there; `note` takes what the flags
    have to say.

    Raises SpecError where a setting is missing that no target file alone can tell.
    """
    router = target.router
    text = router.text
    match router.kind:
        case "client":
            return ClientSplitRouter(split, sticky=sticky, answers=answers)
        case "flags":
            flag = text("flag") or system.traffic.feature
            if not flag:
                msg = "missing, and system.yaml names no traffic.feature"
                raise SpecError(msg, where=str(target.path), key="router.flag", mend="add `flag: NAME` here")
            return FlagRouter(FileFlags(Path(text("file")), note=note), flag, sticky=system.traffic.sticky)
        case "haproxy":
            host, _, port = text("lease").rpartition(":")
            return HAProxyRouter(
                text("admin"),
                Path(text("map_file")) if text("map_file") else None,
                text("map"),
                int(port) if port else None,
                lease_host=host or "127.0.0.1",
            )
        case "nginx":
            return NginxRouter(
                Path(text("file")),
                text("status_url"),
                check=router.words("check"),
                reload=router.words("reload"),
                session_header=system.traffic.session_header,
                force_header=system.traffic.force_header,
            )
        case _:
            return _kubernetes(target)


def _kubernetes(target: Target) -> Router:
    text = target.router.text
    return KubernetesRouter(
        connect(text("kubeconfig"), text("context")),
        GATEWAY_API if target.router.kind == "gateway_api" else ISTIO,
        namespace=text("namespace"),
        route=text("route"),
        baseline=text("baseline"),
        candidate=text("candidate"),
    )


class RemoteSite:
    """A deployed stack: implements `harness.wiring.site.Site`."""

    def __init__(self, found: Deployed, request: Request, emit: Callable[[Event], None]) -> None:
        """Ask nobody yet. `request.arms` are a dictionary, which learns the deployed versions."""
        self._found, self._request = found, request
        arms = request.arms
        if not isinstance(arms, MutableMapping):
            msg = "the arms of a remote run must be able to learn their versions"
            raise TypeError(msg)
        self.secrets = list(found.secrets)
        self._note: Callable[[str], None] = lambda text: emit(Noted(text=text, at=SystemClock().now()))
        self.provider = RemoteProvider(
            found.system,
            found.target,
            found.access,
            arms,
            out=request.out,
            run_id=request.run_id,
            time_scale=request.plan.time_scale,
            on_event=emit,
        )

    def preflight(self) -> None:
        """Nothing is made here."""

    def suites(self) -> RemoteSmoke:
        """Return the first look at both arms."""
        found = self._found
        return RemoteSmoke(remote_questions(found.system, found.target, found.access))

    def reach(self, stack: Stack) -> Reached:
        """Connect by the addresses of the target file, and to no other."""
        found, request, clock = self._found, self._request, SystemClock()
        target, system = found.target, found.system
        split = request.out / "evidence" / SPLIT_FILE
        metrics = None
        if target.prometheus:
            metrics = PrometheusMetrics(target.prometheus.url, system, clock, found.prometheus)
        more = {"candidate_url": target.candidate.url, "split": split} if target.split_by_load else {}
        return Reached(
            router=router_of(
                target,
                system,
                split=split,
                sticky=system.traffic.unit == "session",
                answers=stack.accepts if isinstance(stack, RemoteStack) else None,
                note=self._note,
            ),
            load=load_of(request, auth=target.auth, host=target.host, **more),
            probes=StackProbes(system, stack, clock, asked=remote_questions(system, target, found.access)),
            metrics=metrics,
            flags=self._flags(),
            hooks=self.hooks(),
            refuses=self._refusal(),
        )

    def gpus(self) -> tuple[str, ...]:
        """Return none: the target's are not seen, and this machine's do not serve."""
        return ()

    def _flags(self) -> FileFlags | None:
        feature, file = self._found.system.traffic.feature, self._found.target.flags
        return FileFlags(Path(file), note=self._note) if feature and file else None

    def _refusal(self) -> Callable[[float], str]:
        """Return what refuses a raise by the live flags of that moment, wherever they are."""
        system, router = self._found.system, self._found.target.router
        file, feature = self._found.target.flags, system.traffic.feature
        if router.kind == "flags":
            file, feature = router.text("file"), router.text("flag") or feature
        return refusal(system, feature, FileFlags(Path(file)).read) if file else lambda _share: ""

    def hooks(self) -> Webhooks | None:
        """Return those of the target file that can be called."""
        found, request = self._found, self._request
        if found.target.hooks is None or "hooks" in found.lacking:
            return None
        about = {"rollout": request.run_id, "system": found.system.name, "feature": found.system.traffic.feature}
        return Webhooks(found.hooks, rollout=request.run_id, about=about, hide=lambda text: redact(text, self.secrets))
