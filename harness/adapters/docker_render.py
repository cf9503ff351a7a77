"""What a gate adds to the containers of a composition: references rendered, files written, paths that both see."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.adapters.docker_arguments import Overlay
from harness.adapters.native_render import Scope, render_files
from harness.adapters.native_state import RunState
from harness.adapters.native_targets import Scraped, write_targets
from harness.model.composition import Composition, Unit
from harness.model.errors import EnvironmentProblem
from harness.model.evidence import Arm
from harness.model.system import Release, Service, System
from harness.planning.composition import SECRETS

LEASE_FILE = "lease.sock"
# Where a container finds what is this machine's; the same path as here may lie below a folder of root's own.
DIR, _SYSTEM, _LIVE, _CACHE = "/rollgate/dir", "/rollgate/system", "/rollgate/live", "/rollgate/cache"
_MODELS = f"{_CACHE}/models"
_NOBODY = 65534
_READ, _OPEN = 0o444, 0o555
_ANY = "0.0.0.0"  # noqa: S104 - inside a container; the engine publishes on loopback alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """A system on a composition, with one release an arm. `ports` are the loopback ports by alias and name."""

    system: System
    composition: Composition
    arms: Mapping[Arm, Release]
    state: RunState
    run_id: str
    cache: Path
    scale: float
    extra_env: Mapping[str, Sequence[tuple[str, str]]]
    ports: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    scraped: list[Unit] = field(default_factory=list[Unit])

    @property
    def flags_path(self) -> Path:
        """Where the live feature flags are: in a folder of their own, for a file that is replaced is mounted by it."""
        return self.state.root / "live" / "flags.json"

    def folder(self, unit: Unit) -> Path:
        """Return a container's own folder."""
        return self.state.instances / unit.alias

    def release(self, unit: Unit) -> Release | None:
        """Return the release that a container serves, None where no release changes it."""
        service = self.system.service(unit.service.name)
        return self.arms[Arm(unit.arm)] if unit.arm and service.under_release else None

    def overlay(self, unit: Unit) -> Overlay:
        """Write a container's files and return what it has over the composition's word.

        Raises SpecError for a reference that means nothing in a container, EnvironmentProblem for a full disk.
        """
        if all(one.name != unit.service.name for one in self.system.services):
            return Overlay(ports=self.ports.get(unit.alias, {}))
        service, release = self.system.service(unit.service.name), self.release(unit)
        scope = self._scope(unit, release)
        layers = [service.docker.env, self.extra_env.get(service.name, ())]
        command = service.docker.command
        if release:
            layers.insert(1, dict(release.env).get(service.name, ()))
            command = dict(release.command).get(service.name, command)
        env = {name: scope.render(value) for layer in layers for name, value in layer}
        words = tuple(scope.render(word) for word in command)
        user = self._files(unit, service, scope, env)
        texts = [*words, *env.values()]
        folder = self.folder(unit)
        binds = {at: (path, False) for at, path in self._shared().items() if any(at in text for text in texts)}
        if folder.exists():
            binds[DIR] = (folder, service.docker.as_caller)
        return Overlay(
            command=words,
            env=env,
            binds=binds,
            ports=self.ports.get(unit.alias, {}),
            user=user,
            working_dir=DIR if service.docker.as_caller else "",
        )

    def after_start(self, unit: Unit) -> list[list[str]]:
        """Return the commands that run inside a container once it is well."""
        service = self.system.service(unit.service.name)
        scope = self._scope(unit, self.release(unit))
        return [[scope.render(word) for word in words] for words in service.docker.after_start]

    def _shared(self) -> dict[str, Path]:
        return {_MODELS: self.cache / "models", _SYSTEM: self.system.root, _LIVE: self.flags_path.parent}

    def _files(self, unit: Unit, service: Service, scope: Scope, env: Mapping[str, str]) -> str:
        """Write a container's files for its user to read; return the user who must share them, "" for the image's."""
        if not service.docker.files:
            return ""
        folder = self.folder(unit)
        told = dict(unit.service.env) | dict(env)
        values = dict(scope.values) | {f"env.{name}": value for name, value in told.items()}
        try:
            folder.mkdir(exist_ok=True)
            render_files(dict(service.docker.files), self.system.root, folder, replace(scope, values=values))
            if self.system.traffic.metrics_service.partition(".")[0] == service.name:
                write_targets(folder, self._targets())
            readable(folder)
            return _given(folder, os.getuid(), os.getgid()) if service.docker.as_caller else ""
        except OSError as error:
            msg = f"cannot write the files of {unit.alias} to {folder}: {error.strerror}"
            raise EnvironmentProblem(msg, mend="free space on that disk, or choose another cache") from error

    def _targets(self) -> list[Scraped]:
        found: list[Scraped] = []
        for unit in self.scraped:
            service = unit.service
            if service.metrics is not None and service.job:
                release = self.release(unit)
                found.append(
                    Scraped(
                        job=service.job,
                        address=f"{unit.alias}:{service.port(service.metrics[0]).number}",
                        arm=Arm(unit.arm) if unit.arm else None,
                        version=release.version if release else "",
                    )
                )
        return found

    def _scope(self, unit: Unit, release: Release | None) -> Scope:
        values = {
            "dir": DIR,
            "cache": _CACHE,
            "system": _SYSTEM,
            "python": "python3",
            "run_id": self.run_id,
            "arm": unit.arm,
            "version": release.version if release else "",
            "flags_file": f"{_LIVE}/{self.flags_path.name}",
            "listen": _ANY,
            "lease": f"unix@{LEASE_FILE}",
        }
        values |= {f"port.{port.name}": str(port.number) for port in unit.service.ports}
        values |= {f"secret_file.{name}": f"{SECRETS}/{name}" for name in unit.service.secrets}

        def port_of(service: str, arm: str | None, port: str) -> int:
            del arm
            return self.composition.service(service).port(port).number

        def host_of(service: str, arm: str | None) -> str:
            if not self.composition.service(service).per_arm:
                return service
            return f"{service}-{arm or unit.arm}"

        where = f"{self.system.root / 'system.yaml'}: {unit.service.name}"
        return Scope(values=values, port_of=port_of, host_of=host_of, scale=self.scale, where=where)


def readable(folder: Path) -> None:
    """Let every user read what lies in `folder`: a container's own user is none of this machine's."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            wanted = mode | (_OPEN if path.is_dir() else _READ)
            if mode != wanted:
                path.chmod(wanted)


def _given(folder: Path, uid: int, gid: int) -> str:
    """Let the caller and a container both write `folder`; root's containers are nobody's, and root may write anyway."""
    if uid:
        return f"{uid}:{gid}"
    for path in (folder, *folder.rglob("*")):
        shutil.chown(path, _NOBODY, _NOBODY)
    return f"{_NOBODY}:{_NOBODY}"
