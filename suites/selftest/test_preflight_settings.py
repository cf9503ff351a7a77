"""The user's .env: read as Compose reads it, refused by line, and never shown."""

from pathlib import Path

import pytest

from harness.model.errors import SpecError
from harness.paths import share_root
from harness.spec.dotenv import read_settings, with_settings
from harness.wiring.bring_up import load_settings
from harness.wiring.preflight import settings_of

pytestmark = pytest.mark.selftest


def _env(folder: Path, text: str | bytes) -> Path:
    path = folder / ".env"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.covers("rf.pre.steps", level="simulated")
def test_settings_are_read_with_quotes_comments_and_export(tmp_path: Path):
    """As Compose reads them; an empty value is one."""
    text = "\ufeff# c\nA=1\nexport B='x # y' # z\nC=\"q r\"\nD=\nE=a b # c\nF='$HOME'\n  G=7\r\n"
    values, problems = read_settings(_env(tmp_path, text))
    assert problems == []
    assert values == {"A": "1", "B": "x # y", "C": "q r", "D": "", "E": "a b", "F": "$HOME", "G": "7"}


@pytest.mark.covers("rf.pre.steps", level="simulated")
@pytest.mark.parametrize(
    "line, told",
    [
        ("hunter2", "found no `=`"),
        ("1A=hunter2", "found no name"),
        ("=hunter2", "found no name"),
        ("A =hunter2", "a blank before `=`"),
        ('A="hunter2', "A: found a value that does not end"),
        ("A='hunter2' hunter2", "A: found a value that does not end"),
        ("A=${hunter2}", "A: found a reference"),
        ("A=$hunter2", "A: found a reference"),
        ("OK=hunter2", "found OK again, expected it once (line 1)"),
    ],
)
def test_a_bad_line_is_refused_by_its_number_and_its_value_is_not_told(tmp_path: Path, line: str, told: str):
    """Each with file, line and mend; the lines beside it are read."""
    path = _env(tmp_path, f"OK=1\n\n{line}\nLAST=2\n")
    values, problems = read_settings(path)
    assert values == {"OK": "1", "LAST": "2"}
    assert [problem.where for problem in problems] == [f"{path}:3"]
    assert told in str(problems[0])
    assert "—" in str(problems[0])
    assert "hunter2" not in str(problems[0])
    with pytest.raises(SpecError):
        load_settings(tmp_path)


@pytest.mark.parametrize("content", [b"A=\xff\xfe\n", b"A=\0\n", b"A=" + b"x" * 600_000])
def test_what_is_no_settings_file_is_refused(tmp_path: Path, content: bytes):
    """No text, or far too much of it."""
    values, problems = read_settings(_env(tmp_path, content))
    assert values == {}
    assert len(problems) == 1


def test_the_environment_goes_before_the_file_of_the_system(tmp_path: Path):
    """As in Compose; without any file it is the environment alone."""
    _env(tmp_path, "A=file\nB=file\n")
    settings = settings_of(tmp_path, {"A": "environment"})
    assert settings.values == with_settings({"A": "file", "B": "file"}, {"A": "environment"})
    assert (settings.values["A"], settings.values["B"]) == ("environment", "file")
    assert settings.file == str(tmp_path / ".env")


def test_the_template_that_ships_can_be_used_as_it_is():
    """Nobody is refused for copying it."""
    values, problems = read_settings(share_root() / "stack" / "systems" / "researchflow" / ".env.example")
    assert problems == []
    assert values["REDIS_MAXMEMORY_POLICY"] == "allkeys-lru"
