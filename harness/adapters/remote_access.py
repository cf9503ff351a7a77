"""What lets one in at a deployed address: headers and TLS, made from secrets that stay in memory."""

import base64
import os
import re
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from harness.model.errors import SpecError
from harness.model.target import Auth, Secret, Target, TlsFiles

_MASK = "•••"
_SHORTEST = 4  # a shorter one could not be told from ordinary text where files are kept clean of it
_UNSENDABLE = re.compile(r"[^\x20-\x7e]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """`headers` go with every request, `tls` is for https; `secrets` are the values that no file may show.

    `host` is the name to ask by, "" for the one in the address.
    """

    headers: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    tls: TlsFiles = field(default_factory=TlsFiles)
    host: str = ""

    def context(self) -> ssl.SSLContext:
        """Return what an https connection checks and shows. Raises SpecError for a file that is no such thing."""
        return context_of(self.tls)

    def hide(self, text: str) -> str:
        """Return `text` without the secrets: a server may send back what it was sent."""
        for secret in self.secrets:
            text = text.replace(secret, _MASK)
        return text


def resolve(auth: Auth, where: str) -> Access:
    """Read the secrets of `auth`, which stands at `where`. Raises SpecError, which never shows one."""
    headers: list[tuple[str, str]] = []
    secrets: list[str] = []
    if auth.header:
        value = read_secret(auth.header.value, where, "header.value")
        headers.append((auth.header.name, auth.header.prefix + value))
        secrets.append(value)
    if auth.basic:
        password = read_secret(auth.basic.password, where, "basic.password")
        both = base64.b64encode(f"{auth.basic.user}:{password}".encode()).decode()
        headers.append(("Authorization", f"Basic {both}"))
        secrets += [both, password]
    access = Access(headers=tuple(headers), secrets=tuple(sorted(secrets, key=len, reverse=True)), tls=auth.tls)
    if auth.tls != TlsFiles():
        access.context()  # a wrong file is told now
    return access


def read_secret(secret: Secret, where: str, key: str) -> str:
    """Return a secret from where it lies. Raises SpecError, which never shows it."""
    if secret.env:
        value = os.environ.get(secret.env, "")
        if not value:
            message = f"the environment variable {secret.env} is not set"
            raise SpecError(message, where=where, key=key, mend="export it where rollgate is started")
    else:
        try:
            value = Path(secret.file).read_text(encoding="utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            why = (error.strerror or "unreadable").lower() if isinstance(error, OSError) else "no UTF-8 text"
            message = f"the secret's file {secret.file} cannot be read: {why}"
            raise SpecError(
                message, where=where, key=key, mend="it must be a text file that this user may read"
            ) from None
    place = secret.env or secret.file
    if len(value) < _SHORTEST:
        message = f"found {len(value)} characters in {place}, expected at least {_SHORTEST}"
        raise SpecError(message, where=where, key=key, mend="is it the right one?")
    if _UNSENDABLE.search(value):
        message = f"found a line break or another character that no header takes in {place}"
        raise SpecError(message, where=where, key=key, mend="keep one line of plain ASCII there")
    return value


def readable(target: Target) -> tuple[str, ...]:
    """Return the secrets of a target that can be read, whatever becomes of the others: no file may show them."""
    found: list[str] = []
    for secret in _places(target):
        with suppress(SpecError):
            found.append(read_secret(secret, "", ""))
    return tuple(found)


def secret_variables(target: Target) -> tuple[str, ...]:
    """Return the environment variables that hold a target's secrets."""
    return tuple(secret.env for secret in _places(target) if secret.env)


def _places(target: Target) -> Iterator[Secret]:
    for auth in (target.auth, *((target.prometheus.auth,) if target.prometheus else ())):
        if auth.header:
            yield auth.header.value
        if auth.basic:
            yield auth.basic.password
    if target.hooks:
        yield target.hooks.secret
        yield from (hook.url_from for hook in target.hooks.named().values() if hook.url_from != Secret())


def context_of(files: TlsFiles) -> ssl.SSLContext:
    """Return what an https connection checks and shows. Raises SpecError for a file that is no such thing."""
    named = [name for name in (files.ca, files.cert, files.key) if name]
    try:
        context = ssl.create_default_context(cafile=files.ca or None)
        if files.cert:
            # Without a terminal nobody can be asked for a pass phrase.
            context.load_cert_chain(files.cert, files.key, password=lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        why = error.strerror or type(error).__name__ if isinstance(error, OSError) else "a pass phrase is wanted"
        message = f"TLS files {', '.join(named)}: {why}"
        raise SpecError(message, mend="name PEM files that this user may read; the key without pass phrase") from None
    return context
