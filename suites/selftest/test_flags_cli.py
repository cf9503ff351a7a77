"""`rollgate flags`: what it prints and writes, and one clear line for every wrong call."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness import spec
from harness.adapters.flags_file import FileFlags, write_flags
from harness.cli.main import app
from harness.paths import share_root

pytestmark = pytest.mark.selftest

SYSTEM = share_root() / "stack" / "systems" / "researchflow"


def said(*arguments: object) -> str:
    """Return what a call that must succeed prints on stdout."""
    done = CliRunner().invoke(app, ["flags", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """A live flags file of researchflow, half-way through."""
    system = spec.load_system(SYSTEM)
    path = tmp_path / "live.json"
    write_flags(path, {flag.name: flag.rollout for flag in system.flags} | {"ai_inference": 40.0})
    return path


def test_show_tells_shares_and_what_they_are_worth(live: Path):
    """Own share and effective share side by side: 50 under 40 is worth 40."""
    rows = {line.split()[0]: line.split()[1:] for line in said("show", "researchflow", "--live", live).splitlines()}
    assert rows["cost_optimization"] == ["50", "40", "100", "canary", "ai_inference"]
    assert rows["advanced_monitoring"] == ["100", "100", "100", "immediate", "-"]
    told = json.loads(said("show", "researchflow", "--live", live, "--json"))
    assert (told["cost_optimization"]["share"], told["cost_optimization"]["effective"]) == (50, 40)


def test_show_without_a_live_file_tells_what_is_deployed_before_a_rollout():
    """system.yaml's state over flags.json's."""
    told = json.loads(said("show", "researchflow", "--json"))
    assert (told["ai_inference"]["share"], told["cost_optimization"]["share"]) == (100, 0)


def test_a_system_without_flags_says_so():
    """The smallest one has none."""
    assert said("show", "minimal") == "minimal has no flags\n"


def test_export_and_import_give_the_same_flags_again(tmp_path: Path, live: Path):
    """Through flagd's format and back: the written flags.json is sound in the system, shares as they were live."""
    there, back = tmp_path / "x.flagd.json", tmp_path / "system" / "flags.json"
    shutil.copytree(SYSTEM, back.parent)
    (back.parent / "conformance.yaml").unlink()
    said("export", "researchflow", "--live", live, "--out", there)
    assert json.loads(there.read_text())["flags"]["cost_optimization"]["targeting"]["fractional"][1] == ["on", 40]
    said("import", "researchflow", there, "--out", back)
    assert spec.validate(back.parent) == []
    before, after = spec.load_system(SYSTEM), spec.load_system(back.parent)
    assert [(f.name, f.target, f.strategy, f.depends, f.description) for f in before.flags] == [
        (f.name, f.target, f.strategy, f.depends, f.description) for f in after.flags
    ]
    assert {flag.name: flag.rollout for flag in after.flags} == FileFlags(live).read()


def test_export_on_stdout_is_the_file_itself():
    """Nothing else is printed there."""
    assert set(json.loads(said("export", "researchflow"))["flags"]) == {f.name for f in spec.load_system(SYSTEM).flags}


def test_recover_puts_a_torn_file_back(live: Path):
    """And leaves a sound one alone."""
    assert "sound" in said("recover", live)
    FileFlags(live).set("vector_search", 10)
    live.write_text('{"ai_inf')
    assert "put back the backup" in said("recover", live)
    assert FileFlags(live).read()["vector_search"] == 10


WRONG: dict[str, tuple[list[str], int, str]] = {
    "an unknown system": (["show", "nosuch"], 2, "found no system `nosuch`"),
    "no live file": (["show", "researchflow", "--live", "none.json"], 4, "there is no such file"),
    "a torn live file": (["export", "researchflow", "--live", "torn.json"], 4, "rollgate flags recover"),
    "a live file that is a folder": (["show", "researchflow", "--live", "folder"], 4, "is a folder, expected a file"),
    "no definition file": (["import", "researchflow", "none.json"], 2, "cannot be read"),
    "a torn definition file": (["import", "researchflow", "torn.json"], 2, "torn.json:1: no JSON"),
    "a definition without the system's flags": (
        ["import", "researchflow", "empty.json"],
        2,
        "found no flag `batch_inf",
    ),
    "nowhere to write": (["export", "researchflow", "--out", "torn.json/x"], 4, "cannot write"),
    "a torn file without backup": (["recover", "torn.json"], 4, "no sound backup"),
    "a folder to recover": (["recover", "folder"], 4, "is a folder"),
    "an unknown command": (["raise", "researchflow"], 2, "No such command"),
    "nothing": (["import", "researchflow"], 2, "Missing argument"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_call_is_one_line_and_its_exit_code(mistake: str, tmp_path: Path):
    """2 for the user's input, 4 for the machine's; file and mend are named, no traceback."""
    arguments, code, says = WRONG[mistake]
    (tmp_path / "torn.json").write_text('{"a": ')
    (tmp_path / "empty.json").write_text('{"flags": {}}')
    (tmp_path / "folder").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "NO_COLOR": "1", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli.main", "flags", *arguments],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, says in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
