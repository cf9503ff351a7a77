"""The webhooks of a target file: what they must say, and how they are told again."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from harness.model.errors import SpecError
from harness.model.hook import AFTER, BEFORE, NOTIFY
from harness.model.target import Hook, Hooks
from harness.spec.document import Document, Key
from harness.spec.places import secret_of, secret_problems, tls_of, tls_problems, told, told_secret, told_tls
from harness.spec.target_schema import HookSpec, HooksSpec

SECRET: Key = ("hooks", "secret")
ADDRESSES: tuple[Key, ...] = tuple(("hooks", name, "url_from") for name in (BEFORE, AFTER, NOTIFY))
_MEND = "write http(s)://HOST[:PORT]/PATH; an address that is a secret itself goes to url_from"


def hook_problems(document: Document, spec: HooksSpec) -> Iterator[SpecError]:
    """Yield what is wrong with the hooks. No message shows an address: a part of it may be a secret."""
    yield from secret_problems(document, SECRET, spec.secret)
    yield from tls_problems(document, ("hooks", "tls"), spec.tls)
    named = {name: hook for name, hook in _specs(spec).items() if hook is not None}
    if not named:
        message = "found no hook, expected at least one of before, after and notify"
        yield document.problem(("hooks",), message, mend="add one, or drop `hooks`")
    for name, hook in named.items():
        at = ("hooks", name)
        if bool(hook.url) == bool(hook.url_from):
            found = "both `url` and `url_from`" if hook.url else "neither `url` nor `url_from`"
            yield document.problem(at, f"found {found}, expected one of them", mend="keep or add one")
        if hook.url and not is_address(hook.url):
            yield document.problem((*at, "url"), "found no address that can be called", mend=_MEND)
        yield from secret_problems(document, (*at, "url_from"), hook.url_from)


def is_address(url: str) -> bool:
    """Tell whether `url` is http(s) with a host, without user, fragment, blank or control character."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # a port beyond 65535 shows only when asked for
    except ValueError:
        return False
    known = parts.scheme in {"http", "https"} and bool(host)
    return known and "@" not in parts.netloc and not parts.fragment and re.search(r"[^\x21-\x7e]", url) is None


def build_hooks(spec: HooksSpec, target: Path) -> Hooks:
    """Return the hooks of a target file."""
    found = {name: hook and _built(hook, target) for name, hook in _specs(spec).items()}
    return Hooks(secret=secret_of(spec.secret, target), tls=tls_of(spec.tls, target), **found)


def told_hooks(hooks: Hooks) -> dict[str, object]:
    """Return the hooks as a target file says them."""
    each = {name: _told(hook) for name, hook in hooks.named().items()}
    return told(secret=told_secret(hooks.secret), tls=told_tls(hooks.tls), **each)


def _specs(spec: HooksSpec) -> dict[str, HookSpec | None]:
    return {BEFORE: spec.before, AFTER: spec.after, NOTIFY: spec.notify}


def _built(spec: HookSpec, target: Path) -> Hook:
    return Hook(
        url=spec.url or "",
        url_from=secret_of(spec.url_from, target),
        timeout_s=spec.timeout_s,
        attempts=spec.attempts,
    )


def _told(hook: Hook) -> dict[str, object]:
    lies = told_secret(hook.url_from)
    return told(url=hook.url, url_from=lies, timeout_s=hook.timeout_s, attempts=hook.attempts)
