"""The user's settings for containers: the environment, and a .env file beside the system or the stack."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.model.errors import SpecError
from harness.paths import cache_root, share_root
from harness.spec.dotenv import read_settings, with_settings
from harness.spec.problems import first


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The user's settings in force, the file that some of them come from ("" for none), and what is wrong with it."""

    values: Mapping[str, str]
    file: str = ""
    problems: tuple[SpecError, ...] = ()


def settings_of(folder: Path | None, environment: Mapping[str, str]) -> Settings:
    """Return the settings in force for the system in `folder`: the environment, then its .env, else the stack's."""
    for path in (*((folder / ".env",) if folder else ()), share_root() / "stack" / ".env"):
        if path.exists():
            file, problems = read_settings(path)
            return Settings(values=with_settings(file, environment), file=str(path), problems=tuple(problems))
    return Settings(values=dict(environment))


def container_settings(folder: Path | None, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of containers on this machine: the user's, else models from the cache.

    Raises SpecError for the first bad line of the .env.
    """
    found = settings_of(folder, environment)
    if found.problems:
        raise first(found.problems)
    return {"ROLLGATE_MODELS": str(cache_root() / "models")} | dict(found.values)
