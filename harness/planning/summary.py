"""What a person needs once a stack is up: where it answers, which variable names a credential, what to read and do."""

from collections.abc import Mapping
from dataclasses import dataclass

from harness.model.composition import Composition
from harness.model.preflight import Requirements
from harness.model.system import System
from harness.planning.composition import chosen

_HTTP = ("http", "metrics", "stats", "s3", "console")  # names of ports that speak HTTP
_ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - what a user may have set, not what is bound here


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a port of a service answers; `variable` of the settings moves it."""

    service: str
    port: str
    address: str
    variable: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A secret by name: the file that holds it, the variable that says where, and which variables name the file.

    There is no field for its value.
    """

    name: str
    file: str
    variable: str
    read_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a summary shows. `documents` are (title, path); `next_steps` commands."""

    endpoints: tuple[Endpoint, ...]
    credentials: tuple[Credential, ...]
    documents: tuple[tuple[str, str], ...]
    next_steps: tuple[str, ...]
    note: str = ""


def containers_summary(
    composition: Composition,
    requirements: Requirements,
    system: str,
    settings: Mapping[str, str],
    *,
    gpu: bool,
    only: frozenset[str] | None = None,
) -> Summary:
    """Return the summary of a composition that publishes its own ports; `only` are the aliases that are started."""
    units = [unit for unit in chosen(composition, gpu=gpu) if only is None or unit.alias in only]
    host = settings.get("ROLLGATE_BIND") or "127.0.0.1"
    host = "127.0.0.1" if host in _ANY_ADDRESS else f"[{host}]" if ":" in host else host
    folder = settings.get("ROLLGATE_SECRETS") or "./secrets"
    used = [name for name in composition.secrets if any(name in unit.service.secrets for unit in units)]
    return Summary(
        endpoints=tuple(
            Endpoint(
                service=unit.alias,
                port=port.name,
                address=_address(port.name, host, settings.get(port.variable) or str(port.host)),
                variable=port.variable,
            )
            for unit in units
            for port in unit.published
        ),
        credentials=tuple(
            Credential(
                name=name,
                file=f"{folder}/{name}",
                variable="ROLLGATE_SECRETS",
                read_by=tuple(
                    dict.fromkeys(
                        variable
                        for unit in units
                        for variable, text in unit.service.env
                        if f"${{secret_file.{name}}}" in text
                    )
                ),
            )
            for name in used
        ),
        documents=requirements.documents,
        next_steps=_steps(requirements, system, "docker"),
    )


def native_summary(system: System | None, requirements: Requirements) -> Summary:
    """Return the summary of a native stack, which takes free ports and makes its secrets anew for each run."""
    secrets = ", ".join(system.secrets) if system else ""
    made = f"; each makes its own {secrets}, which nobody is shown" if secrets else ""
    return Summary(
        endpoints=(),
        credentials=(),
        documents=requirements.documents,
        next_steps=_steps(requirements, system.name if system else "SYSTEM", "native"),
        note=f"a run takes free ports on 127.0.0.1, named in its stack.json{made}",
    )


def summary_lines(summary: Summary) -> list[str]:
    """Return the summary as a person reads it; credentials by the names of their variables and files alone."""
    lines: list[str] = []
    if summary.endpoints:
        lines.append("Endpoints")
        wide = max(len(f"{one.service} {one.port}") for one in summary.endpoints)
        lines += [
            f"  {f'{one.service} {one.port}':{wide}}  {one.address}" + _moved(one.variable)
            for one in summary.endpoints
        ]  # fmt: skip
    if summary.credentials:
        lines.append("Credentials: never shown, each in a file of its own")
        for one in summary.credentials:
            named = f"; {', '.join(one.read_by)} names it to its reader" if one.read_by else ""
            held = f" ({one.variable} holds the folder)" if one.variable else ""
            lines.append(f"  {one.name}: {one.file}{held}{named}")
    if summary.note:
        lines.append(f"Endpoints: {summary.note}")
    if summary.documents:
        lines += ["Documentation", *(f"  {path}: {title}" for title, path in summary.documents)]
    if summary.next_steps:
        lines += ["Next steps", *(f"  {step}" for step in summary.next_steps)]
    return lines


def summary_data(summary: Summary) -> dict[str, object]:
    """Return the summary as plain JSON values with stable keys."""
    return {
        "endpoints": [
            {"service": one.service, "port": one.port, "address": one.address, "variable": one.variable}
            for one in summary.endpoints
        ],
        "credentials": [
            {"name": one.name, "file": one.file, "variable": one.variable, "read_by": list(one.read_by)}
            for one in summary.credentials
        ],
        "documents": [{"title": title, "path": path} for title, path in summary.documents],
        "next_steps": list(summary.next_steps),
        "note": summary.note,
    }


def _address(port: str, host: str, number: str) -> str:
    return f"http://{host}:{number}" if port in _HTTP else f"{host}:{number}"


def _moved(variable: str) -> str:
    return f"  ({variable})" if variable else ""


def _steps(requirements: Requirements, system: str, provider: str) -> tuple[str, ...]:
    return tuple(
        step.replace("{system}", system).replace("{provider}", provider) for step in requirements.next_steps
    )  # fmt: skip
