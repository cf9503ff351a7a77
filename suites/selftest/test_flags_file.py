"""The live flags file: whole or not at all, read back, and never silently malformed."""

import json
from pathlib import Path

import pytest

from harness.adapters.flags_file import FileFlags, write_flags
from harness.model.errors import EnvironmentProblem

pytestmark = pytest.mark.selftest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a flags file with two flags."""
    write_flags(tmp_path / "flags.json", {"a": 0.0, "b": 100.0})
    return tmp_path / "flags.json"


def test_one_flag_is_set_and_the_others_stay(path: Path) -> None:
    """Raised to 25 %; no draft is left beside the file, and its inode is new, which readers watch."""
    before = path.stat().st_ino
    FileFlags(path).set("a", 25)

    assert FileFlags(path).read() == {"a": 25.0, "b": 100.0}
    assert [one.name for one in path.parent.iterdir()] == ["flags.json"]
    assert path.stat().st_ino != before


@pytest.mark.parametrize("percent", [-0.1, 100.1, float("nan")])
def test_a_percent_outside_the_range_is_refused(path: Path, percent: float) -> None:
    """Nothing is written."""
    with pytest.raises(ValueError, match=r"0\.\.100"):
        FileFlags(path).set("a", percent)

    assert FileFlags(path).read()["a"] == 0.0


def test_an_unknown_flag_is_refused(path: Path) -> None:
    """A misspelled flag must not come to life."""
    with pytest.raises(KeyError):
        FileFlags(path).set("c", 1)


@pytest.mark.parametrize("text", ["", "[]", '{"a": "10"}', '{"a": true}', '{"a": 101}', '{"a": NaN}'])
def test_a_malformed_file_is_an_environment_problem(path: Path, text: str) -> None:
    """Empty, no object, no number, out of range, not a number."""
    path.write_text(text, encoding="utf-8")

    with pytest.raises(EnvironmentProblem, match="flags file"):
        FileFlags(path).read()


def test_a_missing_file_is_an_environment_problem(tmp_path: Path) -> None:
    """Nobody wrote it."""
    with pytest.raises(EnvironmentProblem, match="cannot read"):
        FileFlags(tmp_path / "flags.json").read()


def test_another_writer_is_noticed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else overwrites the file right after us: the reading back tells."""

    def overwritten(target: Path, flags: dict[str, float]) -> None:
        target.write_text(json.dumps(dict.fromkeys(flags, 7)), encoding="utf-8")

    monkeypatch.setattr("harness.adapters.flags_file.write_flags", overwritten)

    with pytest.raises(EnvironmentProblem, match="read back"):
        FileFlags(path).set("a", 25)
