"""A deployed target: where its arms answer, who moves its traffic, and what lets one in."""

from dataclasses import dataclass
from pathlib import Path

from harness.model.evidence import Arm
from harness.model.hook import AFTER, BEFORE, NOTIFY


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """Where a secret lies: an environment variable, or a file. Never the secret itself."""

    env: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderAuth:
    """A header with a secret: `name: <prefix><value>`."""

    name: str
    value: Secret
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicAuth:
    """A user's name and password, by HTTP's Basic scheme."""

    user: str
    password: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files: whom to trust (`ca`, "" for the system's), and who we are (`cert` and `key`, "" for nobody)."""

    ca: str = ""
    cert: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """All that is shown and checked when an address is asked; empty for an open door."""

    header: HeaderAuth | None = None
    basic: BasicAuth | None = None
    tls: TlsFiles = TlsFiles()

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that hold its secrets."""
        held = (self.header and self.header.value, self.basic and self.basic.password)
        return tuple(secret.env for secret in held if secret and secret.env)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that hold its secrets, our key among them."""
        held = (self.header and self.header.value, self.basic and self.basic.password)
        named = (*(secret.file for secret in held if secret), self.tls.key)
        return tuple(file for file in named if file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """One address: `url`, or where it lies when it is a secret itself. Each attempt has `timeout_s` seconds."""

    url: str = ""
    url_from: Secret = Secret()
    timeout_s: float = 5.0
    attempts: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Who is asked `before` a stage, told `after` one, and notified of the whole; `secret` signs what they get."""

    secret: Secret
    before: Hook | None = None
    after: Hook | None = None
    notify: Hook | None = None
    tls: TlsFiles = TlsFiles()

    @property
    def files(self) -> tuple[str, ...]:
        """The files that hold its secrets, our key among them."""
        named = (self.secret.file, *(hook.url_from.file for hook in self.named().values()), self.tls.key)
        return tuple(file for file in named if file)

    def named(self) -> dict[str, Hook]:
        """Return those that are there, by name."""
        all_of_them = {BEFORE: self.before, AFTER: self.after, NOTIFY: self.notify}
        return {name: hook for name, hook in all_of_them.items() if hook is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedArm:
    """Where an arm answers by itself: scheme://host[:port]. `version` is what must be deployed there, "" for any."""

    url: str
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedPrometheus:
    """Where the target's metrics are asked for."""

    url: str
    auth: Auth = Auth()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedRouter:
    """Who moves the target's traffic; `settings` are its kind's own, by name. Paths among them are absolute."""

    kind: str
    settings: tuple[tuple[str, str | tuple[str, ...]], ...] = ()

    def text(self, name: str) -> str:
        """Return one setting, "" where the file does not say it."""
        found = dict(self.settings).get(name, "")
        return found if isinstance(found, str) else " ".join(found)

    def words(self, name: str) -> tuple[str, ...]:
        """Return the words of a command, empty where the file does not say it."""
        found = dict(self.settings).get(name, ())
        return (found,) if isinstance(found, str) else found


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A deployed stack. Load goes to `entry`, or to the arms where the load splits itself; to nothing else.

    `flags` is the file of the live feature flags that are raised in step with the traffic, "" where none are. `host` is
    the name that all of them are asked by, "" for the one in each address.
    """

    path: Path
    baseline: DeployedArm
    candidate: DeployedArm
    router: DeployedRouter
    entry: str = ""
    host: str = ""
    flags: str = ""
    prometheus: DeployedPrometheus | None = None
    auth: Auth = Auth()
    hooks: Hooks | None = None

    def arm(self, arm: Arm) -> DeployedArm:
        """Return where `arm` answers."""
        return self.candidate if arm is Arm.CANDIDATE else self.baseline

    @property
    def split_by_load(self) -> bool:
        """Whether the load itself goes to one arm or the other: no router stands before them."""
        return self.router.kind == "client"
