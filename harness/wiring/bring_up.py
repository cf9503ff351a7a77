"""The steps before and after the start of a stack of containers: log directories, composition, settings, summary."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.adapters.clock import SystemClock
from harness.model.errors import EnvironmentProblem
from harness.planning.summary import Summary, summary_lines
from harness.run.bring_up import Hands, bring_up
from harness.spec.preflight import load_preflight
from harness.spec.problems import first
from harness.wiring.composition import compose_problems
from harness.wiring.settings import settings_of


def make_log_folders(*folders: Path) -> None:
    """Make the folders. Raises EnvironmentProblem where one cannot be made or written."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"the log directory {folder} cannot be made: {error.strerror}"
            raise EnvironmentProblem(msg, mend="set LOG_DIR to a folder that you can write") from error
        if not os.access(folder, os.W_OK):
            msg = f"the log directory {folder} cannot be written"
            raise EnvironmentProblem(msg, mend="set LOG_DIR to a folder that you can write")


def check_composition() -> None:
    """Raise the first SpecError of the composition, its Compose file and the inventory beside it."""
    if problems := compose_problems():
        raise first(problems)


def load_settings(folder: Path | None) -> Mapping[str, str]:
    """Return the user's settings in force. Raises SpecError for the first bad line of the .env."""
    settings = settings_of(folder, os.environ)
    if settings.problems:
        raise first(settings.problems)
    return settings.values


def bring_up_containers(
    folder: Path | None,
    logs: Path,
    *,
    start: Callable[[Mapping[str, str]], None],
    unwell: Callable[[], Mapping[str, str]],
    summary: Callable[[Mapping[str, str]], Summary],
    say: Callable[[str], None],
    check: Callable[[], None] = check_composition,
) -> None:
    """Bring a stack of containers up for people, by the steps of `harness.planning.bring_up`.

    `check` looks at what describes the stack, `start` starts the services by the user's settings, `unwell` says which
    are not well yet and why, `summary` makes what is shown in the end. Raises RollgateError where a step fails; what
    was started is the caller's to end.
    """
    values: dict[str, str] = {}
    requirements, _ = load_preflight()

    def ending(which: str) -> list[str]:
        lines = summary_lines(summary(values))
        cut = lines.index("Next steps") if "Next steps" in lines else len(lines)
        return lines[:cut] if which == "summary" else lines[cut + 1 :]

    hands = Hands(
        logs=lambda: make_log_folders(logs),
        composition=check,
        settings=lambda: values.update(load_settings(folder)),
        start=lambda: start(values),
        unwell=unwell,
        summary=lambda: ending("summary"),
        next_steps=lambda: ending("next"),
    )
    bring_up(hands, requirements.poll, SystemClock(), say)
