"""What this machine adds to a build: its proxies, its certificates, its package index, and the locked versions."""

import configparser
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.model.errors import SpecError

FOLDER = "images/host"  # below stack/: empty there, filled in the context that is sent
# The engine knows these arguments by itself: it gives them to every step and keeps them out of image and history.
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
_BUNDLES = ("ROLLGATE_CA_BUNDLE", "SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_TOOLS = ("gguf", "numpy", "onnxruntime", "tokenizers")  # what Dockerfiles install beside our own servers
_SYSTEM_BUNDLES = (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pki/tls/certs/ca-bundle.crt"))
_PIP = {
    "index-url": "PIP_INDEX_URL",
    "extra-index-url": "PIP_EXTRA_INDEX_URL",
    "trusted-host": "PIP_TRUSTED_HOST",
    "timeout": "PIP_DEFAULT_TIMEOUT",
}


@dataclass(frozen=True, slots=True)
class Host:
    """`arguments` of every build, and `files` of its context by their path below `stack/`."""

    arguments: dict[str, str]
    files: dict[str, str]


def host(environment: Mapping[str, str], *, ca_bundle: str, lock: Path) -> Host:
    """Return what this machine adds. `ca_bundle` is a file or ""; `lock` a uv.lock, which may be away.

    Raises SpecError for a bundle that was asked for and cannot be read.
    """
    return Host(
        arguments=_proxies(environment),
        files={
            f"{FOLDER}/ca.pem": _certificates(environment, ca_bundle),
            f"{FOLDER}/pip.conf": _pip(environment),
            f"{FOLDER}/constraints.txt": constraints(lock.read_text(encoding="utf-8")) if lock.is_file() else "",
        },
    )


def constraints(lock: str) -> str:
    """Return the versions of a uv.lock as pip's constraints, each with the Pythons that it is for.

    Only what our own servers and the tools of the builds need: another version of anything else leaves images cached.
    """
    packages: list[dict[str, Any]] = tomllib.loads(lock).get("package", [])
    needs: dict[str, set[str]] = {}
    for package in packages:
        needs.setdefault(package["name"], set()).update(one["name"] for one in package.get("dependencies", []))
    servers = {one["name"] for one in packages if one["source"].get("editable", ".") != "."}
    wanted, todo = set[str](), [*servers, *_TOOLS]
    while todo:
        if (name := todo.pop()) not in wanted:
            wanted.add(name)
            todo += needs.get(name, ())
    lines: list[str] = []
    for package in packages:
        if "registry" in package["source"] and package["name"] in wanted:
            markers = " or ".join(f"({marker})" for marker in package.get("resolution-markers", []))
            lines.append(f"{package['name']}=={package['version']}{f' ; {markers}' if markers else ''}\n")
    return "".join(lines)


def _proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the proxies in both spellings: apt reads the small one alone."""
    found: dict[str, str] = {}
    for name in _PROXIES:
        if value := environment.get(name.lower()) or environment.get(name):
            found |= {name: value, name.lower(): value}
    return found


def _certificates(environment: Mapping[str, str], asked: str) -> str:
    if asked:
        try:
            return Path(asked).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            msg = f"found {asked!r}, which cannot be read, expected a file of certificates: {error}"
            raise SpecError(msg, key="--ca-bundle", mend="name a PEM file") from error
    named = [Path(environment[name]) for name in _BUNDLES if environment.get(name)]
    for path in (*named, *_SYSTEM_BUNDLES):
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="ignore")
    return ""


def _pip(environment: Mapping[str, str]) -> str:
    """Return the index of pip's environment or configuration as a pip.conf; folders of this machine stay out of it."""
    home = Path(environment.get("HOME") or "/nonexistent")
    configuration = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    places = [Path("/etc/pip.conf"), home / ".pip" / "pip.conf", configuration / "pip" / "pip.conf"]
    if explicit := environment.get("PIP_CONFIG_FILE"):
        places.append(Path(explicit))
    parser = configparser.RawConfigParser()
    try:
        parser.read(places, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        parser = configparser.RawConfigParser()  # pip itself would say so: not of this command
    values: dict[str, str] = {}
    for key, variable in _PIP.items():
        filed = next((parser.get(part, key) for part in ("install", "global") if parser.has_option(part, key)), "")
        if value := environment.get(variable) or filed:
            values[key] = value.replace("\n", "\n  ")
    return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in values.items()) if values else ""
