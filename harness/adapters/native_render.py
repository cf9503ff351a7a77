"""References in commands, environments and files of the native provider: `${router.http}` and its like."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.model.errors import EnvironmentProblem, SpecError
from harness.planning.time_scale import scale_duration, scale_prometheus

_REFERENCE = re.compile(r"\$\{([^{}\s]+)\}")
_SERVICE = re.compile(
    r"(?P<service>[a-z][a-z0-9_-]*)(?:\[(?P<arm>baseline|candidate)\])?\.(?P<port>[a-z][a-z0-9_-]*)(?P<only>\.port)?"
)
_AS_SHIPPED = "prometheus"
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What references of one instance mean.

    `values` are the plain names (`dir`, `arm`, `bin.haproxy`, `secret.x`); `port_of` answers (service, arm, port
    name) with a number and raises KeyError where the inventory has none; `host_of` answers (service, arm) with the
    host in front of it; `where` names the file for errors.
    """

    values: Mapping[str, str]
    port_of: Callable[[str, str | None, str], int]
    scale: float
    where: str
    host_of: Callable[[str, str | None], str] = lambda _service, _arm: LOOPBACK
    used: set[str] = field(default_factory=set[str])  # services that were referred to

    def render(self, text: str, *, where: str = "") -> str:
        """Return `text` with every reference replaced; SpecError names the line of an unknown one."""

        def replace(match: re.Match[str]) -> str:
            value = self._value(match[1])
            if value is None:
                line = text.count("\n", 0, match.start()) + 1
                place = f"{where}:{line}" if where else self.where
                msg = f"unknown reference ${{{match[1]}}}"
                mend = "see harness/model/system.py, Native, for the references that exist"
                raise SpecError(msg, where=place, mend=mend)
            return value

        return _REFERENCE.sub(replace, text)

    def _value(self, name: str) -> str | None:
        if name in self.values:
            return self.values[name]
        if name.startswith("scaled."):
            try:
                return scale_duration(name.removeprefix("scaled."), self.scale)
            except ValueError:
                return None
        match = _SERVICE.fullmatch(name)
        if match is None:
            return None
        try:
            port = self.port_of(match["service"], match["arm"], match["port"])
        except KeyError:
            return None
        self.used.add(match["service"])
        return str(port) if match["only"] else f"{self.host_of(match['service'], match['arm'])}:{port}"


def render_files(files: Mapping[str, str], system: Path, folder: Path, scope: Scope) -> None:
    """Write every template of `files` (relative to `system`) under its name in `folder`.

    A template ending in "/" is a folder whose *.yml files are taken. What lies under the system's `prometheus/` is
    never rendered, only scaled in time. Raises SpecError for a template that is missing, EnvironmentProblem for a
    disk that is full.
    """
    for template, name in files.items():
        source, target = system / template, folder / name
        pairs = [(source, target)]
        if template.endswith("/"):
            pairs = [(one, target / one.name) for one in sorted(source.glob("*.yml"))]
            target.mkdir(parents=True, exist_ok=True)
        for origin, destination in pairs:
            try:
                text = origin.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                msg = f"cannot read the template {origin}: {error}"
                raise SpecError(msg, where=str(system / "system.yaml"), key="files") from error
            shipped = origin.relative_to(system).parts[0] == _AS_SHIPPED
            rendered = scale_prometheus(text, scope.scale) if shipped else scope.render(text, where=str(origin))
            write(destination, rendered)


def write(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Write a file of the run's state; EnvironmentProblem when the machine does not let us."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=mode)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}"
        raise EnvironmentProblem(msg, mend="free space on that disk, or choose another cache or --out") from error
