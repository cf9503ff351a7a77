"""Commands that ask the real promtool, run in this process."""

import pytest
from typer.testing import CliRunner

from harness.adapters.promtool import Promtool
from harness.cli.main import app
from harness.model.errors import EnvironmentProblem, RollgateError
from harness.paths import cache_root


def need_promtool() -> None:
    """Skip the test where promtool is not to be had."""
    try:
        Promtool.found(cache_root(), lambda _: None)
    except EnvironmentProblem as problem:
        pytest.skip(f"no promtool: {problem}")


def run(*arguments: str) -> tuple[int, str, str]:
    """Run the command; return its exit code, stdout and stderr."""
    result = CliRunner().invoke(app, arguments)
    if isinstance(result.exception, RollgateError):
        return result.exception.exit_code, result.stdout, str(result.exception)
    return result.exit_code, result.stdout, result.stderr
