"""The check of the environment's template rejects each fault that is planted in it."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from harness.paths import share_root

pytestmark = pytest.mark.selftest

SUITE = share_root() / "suites" / "conformance" / "test_env_template.py"
SERVICES = share_root() / "stack" / "services"


@pytest.fixture(scope="module")
def suite() -> ModuleType:
    """The suite's module."""
    found = importlib.util.spec_from_file_location("env_template_suite", SUITE)
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # a dataclass looks its module up
    found.loader.exec_module(module)
    return module


THREADS = "OLLAMA_THREADS=1\n"
PORT = "# Published port. [passed through: deployment]\nGRAFANA_PORT"
TOKENS = "an answer may have. [read by: rollgate_gateway]"
ADMIN = "GF_SECURITY_ADMIN_PASSWORD"
FAULTS = {
    "a setting twice": (THREADS, f"{THREADS}# x [passed through: y]\n{THREADS}", "twice"),
    "no comment": (PORT, "\nGRAFANA_PORT", "GRAFANA_PORT is not documented"),
    "nobody takes it": (TOKENS, "an answer may have.", "GATEWAY_MAX_TOKENS is not documented"),
    "the reader does not read it": (THREADS, "OLLAMA_THREAD=1\n", "OLLAMA_THREAD is not read by"),
    "a secret inline": (f"{ADMIN}__FILE=/run/secrets/x", f"{ADMIN}=hunter2", "inline"),
    "a section is missing": ("# ---- GPU: visible", "# ---- Devices: visible", "no setting in the section `GPU"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_rejected(fault: str, suite: ModuleType):
    """Each fault yields its own line."""
    old, new, says = FAULTS[fault]
    path = Path(suite.SYSTEM) / ".env.example"
    text = path.read_text().replace("/run/secrets/grafana_admin_password", "/run/secrets/x")
    assert old in text, "mend this test"
    assert any(says in line for line in suite.faults(text.replace(old, new, 1), SERVICES))


@pytest.mark.parametrize("line", ["export A=1", "a=1", "A = 1", "A=two words", "A"])
def test_a_line_that_no_shell_and_compose_read_alike_is_rejected(line: str, suite: ModuleType):
    """Only NAME=value without blanks is read the same by every reader of such files."""
    with pytest.raises(AssertionError, match="is no NAME=value"):
        suite.settings(line)


def test_an_index_type_that_is_not_served_is_refused(tmp_path: Path):
    """FAISS_INDEX_TYPE is read: another type than flat stops the server with a sentence."""
    from rollgate_faiss.app import build  # noqa: PLC0415 - this case alone
    from rollgate_serving.settings import Environment, SettingError  # noqa: PLC0415

    with pytest.raises(SettingError, match="FAISS_INDEX_TYPE is 'ivf'; expected 'flat'"):
        build(Environment({"FAISS_DIR": str(tmp_path), "FAISS_INDEX_TYPE": "ivf"}))
