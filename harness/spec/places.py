"""Where a target file's secrets and TLS files lie: never what they hold, and every path from the file's folder."""

from collections.abc import Iterator
from pathlib import Path

from harness.model.errors import SpecError
from harness.model.target import Secret, TlsFiles
from harness.spec.document import Document, Key
from harness.spec.target_schema import SecretSpec, TlsSpec

NAME_IT = "write {env: NAME} or {file: PATH}: a secret never stands in a target file"


def secret_problems(document: Document, at: Key, secret: SecretSpec | None) -> Iterator[SpecError]:
    """Yield what is wrong with where a secret lies."""
    if secret and bool(secret.env) == bool(secret.file):
        found = "both `env` and `file`" if secret.env else "neither `env` nor `file`"
        yield document.problem(at, f"found {found}, expected one of them", mend=NAME_IT)


def tls_problems(document: Document, at: Key, tls: TlsSpec | None) -> Iterator[SpecError]:
    """Yield what is wrong with TLS files."""
    if tls and bool(tls.cert) != bool(tls.key):
        lacking = "key" if tls.cert else "cert"
        yield document.problem(at, f"found no `{lacking}`, expected both", mend=f"add `{lacking}: FILE`")


def secret_of(spec: SecretSpec | None, target: Path) -> Secret:
    """Return where a secret lies."""
    return Secret(env=spec.env or "", file=path_of(target, spec.file)) if spec else Secret()


def tls_of(spec: TlsSpec | None, target: Path) -> TlsFiles:
    """Return the TLS files that a target file names."""
    if spec is None:
        return TlsFiles()
    return TlsFiles(ca=path_of(target, spec.ca), cert=path_of(target, spec.cert), key=path_of(target, spec.key))


def path_of(target: Path, name: str | None) -> str:
    """Return a path of the target file as an absolute one: it is relative to the file's folder."""
    return str((target.parent / Path(name).expanduser()).absolute()) if name else ""


def told(**values: object) -> dict[str, object]:
    """Return the values that say something."""
    return {name: value for name, value in values.items() if value}


def told_secret(secret: Secret) -> dict[str, object]:
    """Return where a secret lies, as a target file says it."""
    return told(env=secret.env, file=secret.file)


def told_tls(tls: TlsFiles) -> dict[str, object]:
    """Return TLS files as a target file says them."""
    return told(ca=tls.ca, cert=tls.cert, key=tls.key)
