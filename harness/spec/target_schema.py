"""What a target file may say: strict pydantic models, the source of the published JSON Schema too."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from harness.spec.schema import EnvName, File, HeaderName, Strict, Text

Url = Annotated[str, StringConstraints(pattern=r"^https?://")]
HostName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+(:\d{1,5})?$")]
HostPort = Annotated[str, StringConstraints(pattern=r"^[^\s/:]+:\d{1,5}$")]
Command = Annotated[list[Text], Field(min_length=1)]
Prefix = Annotated[str, StringConstraints(pattern=r"^[A-Za-z-]{0,20} ?$")]
User = Annotated[str, StringConstraints(pattern=r"^[^:\x00-\x1f\x7f]+$")]


class FlagsSpec(Strict):
    """Where the live feature flags are that are raised in step with the traffic."""

    file: Text


class SecretSpec(Strict):
    """Where a secret lies: {env: NAME} or {file: PATH}, never the secret itself."""

    env: EnvName | None = None
    file: Text | None = None


class HeaderAuthSpec(Strict):
    """A header that holds a secret, after `prefix` ("Bearer ")."""

    name: HeaderName
    value: SecretSpec
    prefix: Prefix = ""


class BasicAuthSpec(Strict):
    """User and password by HTTP's Basic scheme."""

    user: User
    password: SecretSpec


class TlsSpec(Strict):
    """PEM files: whom to trust (`ca`), and for mTLS who we are (`cert` and `key`)."""

    ca: Text | None = None
    cert: Text | None = None
    key: Text | None = None


class AuthSpec(Strict):
    """What lets one in: a header, Basic, TLS files, or several of them."""

    header: HeaderAuthSpec | None = None
    basic: BasicAuthSpec | None = None
    tls: TlsSpec | None = None


class ArmSpec(Strict):
    """Where an arm answers by itself, and which version must be deployed there."""

    url: Url
    version: Text | None = None


class PrometheusSpec(Strict):
    """The target's Prometheus, with its own auth."""

    url: Url
    auth: AuthSpec | None = None


class RouterSpec(Strict):
    """Who moves the traffic. Which keys a kind takes: docs/remote.md."""

    kind: Literal["client", "flags", "haproxy", "nginx", "gateway_api", "istio"]
    file: Text | None = None
    flag: Text | None = None
    admin: Text | None = None
    map: Text | None = None
    map_file: Text | None = None
    lease: HostPort | None = None
    status_url: Url | None = None
    check: Command | None = None
    reload: Command | None = None
    namespace: Text | None = None
    route: Text | None = None
    baseline: Text | None = None
    candidate: Text | None = None
    context: Text | None = None
    kubeconfig: Text | None = None


class HookSpec(Strict):
    """A webhook: its `url`, or in `url_from` where an address lies that is a secret itself."""

    url: Url | None = None
    url_from: SecretSpec | None = None
    timeout_s: Annotated[float, Field(ge=0.1, le=60)] = 5.0
    attempts: Annotated[int, Field(ge=1, le=5)] = 3


class HooksSpec(Strict):
    """Who must allow each stage before, who is told after it, and who is notified; `secret` signs what they get."""

    secret: SecretSpec
    before: HookSpec | None = None
    after: HookSpec | None = None
    notify: HookSpec | None = None
    tls: TlsSpec | None = None


class TargetFile(File):
    """A deployed target, for `rollgate gate SYSTEM --provider remote --target FILE`."""

    baseline: ArmSpec
    candidate: ArmSpec
    router: RouterSpec
    entry: Url | None = None
    host: HostName | None = Field(default=None, description="Host that baseline, candidate and entry are asked by")
    flags: FlagsSpec | None = None
    prometheus: PrometheusSpec | None = None
    hooks: HooksSpec | None = None
    auth: AuthSpec | None = Field(default=None, description="shown to baseline, candidate and entry")
