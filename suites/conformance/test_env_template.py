"""The template of the environment: every setting is documented, safe, and read by somebody. Starts nothing."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.paths import share_root

pytestmark = [pytest.mark.conformance]

SYSTEM = share_root() / "stack" / "systems" / "researchflow"
SECTIONS = (  # as rf.env.template words them
    "Ollama: parallelism, threading, timeouts",
    "Triton: GPU growth, metrics port",
    "FAISS: index type, cache, workers",
    "Redis: password, memory policy",
    "Prometheus: retention, ports",
    "Grafana: admin credentials, plugins",
    "Feature flags: service URL, config file",
    "AWS deployment roles",
    "Logging: directory, level",
    "Resource limits of all services",
    "GPU: visible devices, capabilities",
)
_LINE = re.compile(r"^(?P<name>[A-Z][A-Z0-9_]*)=(?P<value>\S*)$")
_WHO = re.compile(r"\[(?P<how>read by|passed through): (?P<who>[a-z_-]+)\]$")
_SECRET = re.compile(r"PASSWORD|SECRET|TOKEN(?!S)|CREDENTIAL|PRIVATE|_KEY$")
_READS_A_SETTING = r"""env\.(?:text|whole|number|path|flag)\(\s*"{name}\""""


@dataclass(frozen=True)
class Setting:
    """One line of the template, and the comment right above it."""

    name: str
    value: str
    section: str
    comment: str


def settings(text: str) -> list[Setting]:
    """Return the settings of a template; AssertionError for a line that is neither setting, comment nor blank."""
    found: list[Setting] = []
    section, comment = "", list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("# ---- "):
            section, comment = line.removeprefix("# ---- "), []
        elif line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
        elif not line.strip():
            comment = []
        else:
            match = _LINE.match(line)
            assert match, f"line {number} is no NAME=value: {line!r}"
            found.append(Setting(match["name"], match["value"], section, " ".join(comment)))
            comment = []
    return found


def faults(text: str, services: Path) -> list[str]:
    """Return what is wrong with a template, in a line each; `services` holds the sources of our own servers."""
    wrong: list[str] = []
    found = settings(text)
    names = [setting.name for setting in found]
    wrong += [f"{name} stands there twice" for name in sorted(set(names)) if names.count(name) > 1]
    sections = {setting.section for setting in found}
    wrong += [
        f"no setting in the section `{name}`" for name in SECTIONS if not any(s.startswith(name) for s in sections)
    ]
    for setting in found:
        who = _WHO.search(setting.comment)
        if not who:
            wrong.append(f"{setting.name} is not documented: no comment above it that ends with who takes it")
        elif who["how"] == "read by" and not _reads(services, who["who"], setting.name):
            wrong.append(f"{setting.name} is not read by {who['who']}")
        if _SECRET.search(setting.name) and setting.value and not setting.name.endswith("_FILE"):
            wrong.append(f"{setting.name} holds a secret inline: name the file that holds it")
    return wrong


def _reads(services: Path, package: str, name: str) -> bool:
    sources = list(services.glob(f"*/src/{package}/*.py"))
    pattern = re.compile(_READS_A_SETTING.format(name=re.escape(name)))
    return any(pattern.search(path.read_text(encoding="utf-8")) for path in sources)


@pytest.mark.covers("rf.env.template", level="static")
def test_the_environments_template_is_whole():
    """Every section is there, every setting documented and taken by somebody, no secret stands in it."""
    text = (SYSTEM / ".env.example").read_text(encoding="utf-8")
    assert faults(text, share_root() / "stack" / "services") == []


def test_no_filled_in_template_is_tracked():
    """The file with a user's own values is ignored by git, where this is a checkout."""
    ignore = share_root() / ".gitignore"
    if not ignore.exists():
        pytest.skip("no checkout")
    assert ".env" in ignore.read_text(encoding="utf-8").split()
