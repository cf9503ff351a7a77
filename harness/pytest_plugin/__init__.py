"""The second front door: the same suites and objectives as the gate, as pytest tests.

Options name what to test; nothing starts while tests are collected. A test that proves a catalog id says so by
`@pytest.mark.covers("<id>", level="live")`, and junit.xml carries it as a `covers` property.
"""

from collections.abc import Iterable
from pathlib import Path

import pytest

from harness.pytest_plugin.cases import CaseWriter
from harness.pytest_plugin.marks import MARKERS, covers_of
from harness.pytest_plugin.selection import parametrize, select
from harness.pytest_plugin.target import TARGET, Target


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add rollgate's options."""
    group = parser.getgroup("rollgate", "release gate of inference stacks")
    group.addoption("--system", metavar="NAME|DIR", default=None, help="system to test")
    group.addoption("--provider", default="auto", choices=("auto", "native", "docker", "remote"), help="what runs it")
    group.addoption("--stack-file", metavar="FILE", default=None, help="stack.json of a stack that is up")
    group.addoption("--plan", metavar="NAME", default=None, help="stage plan (default: the provider's)")
    group.addoption("--release", metavar="NAME|FILE", default=None, help="candidate (default: good)")
    reused = "keep the containers of fixtures, and take over those kept; `rollgate stack prune` removes them"
    group.addoption("--reuse-containers", action="store_true", help=reused)
    group.addoption("--rollgate-cases", metavar="FILE", default=None, help="write finished cases as JSON lines")


def pytest_configure(config: pytest.Config) -> None:
    """Register markers, and keep what the options name."""
    for line in MARKERS:
        config.addinivalue_line("markers", line)
    config.stash[TARGET] = Target(
        system_name=config.getoption("--system"),
        provider=str(config.getoption("--provider")),
        stack_file=_path(config.getoption("--stack-file")),
        plan_name=config.getoption("--plan"),
        release=config.getoption("--release"),
    )
    cases = _path(config.getoption("--rollgate-cases"))
    if cases:
        config.pluginmanager.register(CaseWriter(cases), "rollgate-cases")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize over arms, objectives, stages and alike: `harness.pytest_plugin.selection`."""
    parametrize(metafunc, metafunc.config.stash[TARGET])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what fits the system, put the baseline first, and let every test bear the ids it covers."""
    select(config, items, config.stash[TARGET])
    for item in items:
        _bear(item, covers_of(item))


def _bear(item: pytest.Item, covers: Iterable[tuple[str, str]]) -> None:
    for name, level in covers:
        item.user_properties.append(("covers", name))
        item.user_properties.append(("covers_level", level))


def _path(given: str | None) -> Path | None:
    return Path(given) if given else None


@pytest.fixture(scope="session")
def target(pytestconfig: pytest.Config) -> Target:
    """What the options name: system, plan, the stack that is up, or the one gate of this session."""
    return pytestconfig.stash[TARGET]
