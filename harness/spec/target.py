"""A target file: a deployed stack's addresses, who steers it, and where the secrets lie that let one in."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import yaml

from harness.model.errors import SpecError
from harness.model.target import (
    Auth,
    BasicAuth,
    DeployedArm,
    DeployedPrometheus,
    DeployedRouter,
    HeaderAuth,
    Target,
)
from harness.spec.document import Document, Key, read_document
from harness.spec.hooks import ADDRESSES, SECRET, build_hooks, hook_problems, told_hooks
from harness.spec.places import (
    NAME_IT,
    path_of,
    secret_of,
    secret_problems,
    tls_of,
    tls_problems,
    told,
    told_secret,
    told_tls,
)
from harness.spec.problems import Problems, first, parse
from harness.spec.target_schema import ArmSpec, AuthSpec, TargetFile

_SECRETS: tuple[Key, ...] = (
    *((*base, "auth", *key) for base in ((), ("prometheus",)) for key in (("header", "value"), ("basic", "password"))),
    SECRET,
    *ADDRESSES,
)
_INLINE = re.compile(r"://[^/?#]*@|-----BEGIN")  # a password in an address, a key in PEM


# By kind: the keys that it needs, and those that it may have.
_ROUTERS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "client": ((), ()),
    "flags": (("file",), ("flag",)),
    "haproxy": (("admin",), ("map", "map_file", "lease")),
    "nginx": (("file", "status_url", "check", "reload"), ()),
    "gateway_api": (("namespace", "route", "baseline", "candidate"), ("context", "kubeconfig")),
    "istio": (("namespace", "route", "baseline", "candidate"), ("context", "kubeconfig")),
}
_PATHS = ("file", "map_file", "kubeconfig")


def load_target(path: Path) -> Target:
    """Read a target file. Raises SpecError, the first of all that is wrong, which never shows what may be a secret."""
    document = read_document(path)
    inline = list(_inline(document, (), document.data))
    if inline:
        raise first(inline)
    try:
        spec = parse(document, TargetFile)
    except Problems as problems:
        raise first([_discreet(error) for error in problems.errors]) from None
    wrong = list(_problems(document, spec))
    if wrong:
        raise first(wrong)
    return _build(spec, path.resolve())


def target_text(target: Target) -> str:
    """Return a target as the text of a target file: what a run keeps of it, without a user's comments."""
    settings = {name: value if isinstance(value, str) else list(value) for name, value in target.router.settings}
    whole: dict[str, Any] = {
        "schema": 1,
        "baseline": told(url=target.baseline.url, version=target.baseline.version),
        "candidate": told(url=target.candidate.url, version=target.candidate.version),
        "entry": target.entry,
        "host": target.host,
        "router": {"kind": target.router.kind, **settings},
        "flags": told(file=target.flags),
        "auth": _told_auth(target.auth),
        "hooks": target.hooks and told_hooks(target.hooks),
        "prometheus": target.prometheus and told(url=target.prometheus.url, auth=_told_auth(target.prometheus.auth)),
    }
    return yaml.safe_dump({key: value for key, value in whole.items() if value}, sort_keys=False)


def _told_auth(auth: Auth) -> dict[str, object]:
    header, basic, tls = auth.header, auth.basic, auth.tls
    return told(
        header=header and told(name=header.name, prefix=header.prefix, value=told_secret(header.value)),
        basic=basic and told(user=basic.user, password=told_secret(basic.password)),
        tls=told_tls(tls),
    )


def _inline(document: Document, at: Key, value: object) -> Iterator[SpecError]:
    """Find what is, or looks like, a secret written out; the message must not repeat it."""
    if isinstance(value, dict):
        for name, inner in cast("dict[str, object]", value).items():
            yield from _inline(document, (*at, name), inner)
    elif isinstance(value, list):
        for index, inner in enumerate(cast("list[object]", value)):
            yield from _inline(document, (*at, index), inner)
    elif at in _SECRETS and value is not None:
        yield document.problem(at, "found a secret written out, expected where it lies", mend=NAME_IT)
    elif isinstance(value, str) and _INLINE.search(value):
        mend = "give user and password as auth.basic, a key as the name of its file"
        yield document.problem(at, "found a secret written out, expected none", mend=mend)


def _discreet(error: SpecError) -> SpecError:
    """Return the error without the value it found, where that could be a secret."""
    _, comma, expected = error.message.rpartition(", expected ")
    held = error.key.removeprefix("prometheus.").startswith(("auth", "hooks"))
    if not (comma and held and error.message.startswith("found ")):
        return error
    message = f"found something else (it is not shown here), expected {expected}"
    return SpecError(message, where=error.where, key=error.key, mend=error.mend)


def _problems(document: Document, spec: TargetFile) -> Iterator[SpecError]:
    """What one key says of another."""
    for name, url in (("baseline", spec.baseline.url), ("candidate", spec.candidate.url)):
        yield from _url(document, (name, "url"), url)
    if spec.entry:
        yield from _url(document, ("entry",), spec.entry)
    if spec.prometheus:
        yield from _url(document, ("prometheus", "url"), spec.prometheus.url, path=True)
        yield from _auth(document, ("prometheus", "auth"), spec.prometheus.auth)
    yield from _auth(document, ("auth",), spec.auth)
    yield from _router(document, spec)
    if spec.hooks:
        yield from hook_problems(document, spec.hooks)


def _url(document: Document, at: Key, url: str, *, path: bool = False) -> Iterator[SpecError]:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # a port beyond 65535 shows only when asked for
    except ValueError:
        host, parts = None, urlsplit("")
    if not host or re.search(r"[\s\x00-\x20]", url):
        yield document.problem(at, f"found `{url}`, expected http(s)://HOST[:PORT]", mend="correct the address")
    elif parts.query or parts.fragment or (parts.path.strip("/") and not path):
        mend = "drop what follows the host; paths stand in the scenario and in system.yaml"
        yield document.problem(at, f"found `{url}`, expected http(s)://HOST[:PORT]", mend=mend)


def _auth(document: Document, at: Key, auth: AuthSpec | None) -> Iterator[SpecError]:
    if auth is None:
        return
    held = (
        (("header", "value"), auth.header and auth.header.value),
        (("basic", "password"), auth.basic and auth.basic.password),
    )
    for key, secret in held:
        yield from secret_problems(document, (*at, *key), secret)
    if auth.header and auth.basic and auth.header.name.lower() == "authorization":
        message = "found Authorization beside `basic`, which writes that header too"
        yield document.problem((*at, "header", "name"), message, mend="keep one of the two")
    yield from tls_problems(document, (*at, "tls"), auth.tls)


def _router(document: Document, spec: TargetFile) -> Iterator[SpecError]:
    router = spec.router
    needed, allowed = _ROUTERS[router.kind]
    given = router.model_dump(exclude_none=True, exclude={"kind"})
    for name in needed:
        if name not in given:
            mend = f"add `{name}: ...` here: kind {router.kind} needs it"
            yield document.problem(("router", name), "missing, expected a value", mend=mend)
    for name in given:
        if name not in (*needed, *allowed):
            takes = ", ".join((*needed, *allowed)) or "no other key"
            message = f"unknown key for kind {router.kind}"
            yield document.problem(("router", name), message, mend=f"it takes {takes}")
    if router.kind == "client" and spec.entry:
        message = "found an address, expected none: kind client sends its load to the arms' own addresses"
        yield document.problem(("entry",), message, mend="drop `entry`, or name the router that stands there")
    if router.kind != "client" and not spec.entry:
        mend = f"add `entry: http://HOST:PORT`, where users reach the {router.kind} router"
        yield document.problem(("entry",), "missing, expected an address", mend=mend)
    if router.kind == "flags" and spec.flags:
        message = "found a file, expected none: with kind flags the flag itself is the router"
        yield document.problem(("flags",), message, mend="drop `flags`")
    same = spec.baseline.url.rstrip("/") == spec.candidate.url.rstrip("/")
    if same and router.kind != "flags":
        message = "found the baseline's address again, expected another one"
        yield document.problem(("candidate", "url"), message, mend="each arm must answer by itself")


def _build(spec: TargetFile, path: Path) -> Target:
    router = spec.router.model_dump(exclude_none=True, exclude={"kind"})
    settings = {name: _setting(path, name, value) for name, value in router.items()}
    return Target(
        path=path,
        baseline=_arm(spec.baseline),
        candidate=_arm(spec.candidate),
        entry=(spec.entry or "").rstrip("/"),
        host=spec.host or "",
        flags=path_of(path, spec.flags and spec.flags.file),
        router=DeployedRouter(kind=spec.router.kind, settings=tuple(settings.items())),
        prometheus=DeployedPrometheus(url=spec.prometheus.url.rstrip("/"), auth=_built_auth(spec.prometheus.auth, path))
        if spec.prometheus
        else None,
        auth=_built_auth(spec.auth, path),
        hooks=build_hooks(spec.hooks, path) if spec.hooks else None,
    )


def _setting(path: Path, name: str, value: str | list[str]) -> str | tuple[str, ...]:
    if isinstance(value, list):
        return tuple(value)
    return path_of(path, value) if name in _PATHS else value


def _arm(spec: ArmSpec) -> DeployedArm:
    return DeployedArm(url=spec.url.rstrip("/"), version=spec.version or "")


def _built_auth(spec: AuthSpec | None, path: Path) -> Auth:
    if spec is None:
        return Auth()
    header, basic = spec.header, spec.basic
    return Auth(
        header=HeaderAuth(name=header.name, value=secret_of(header.value, path), prefix=header.prefix)
        if header
        else None,
        basic=BasicAuth(user=basic.user, password=secret_of(basic.password, path)) if basic else None,
        tls=tls_of(spec.tls, path),
    )
