"""The command's options and manners, one by one, as the requirement lists them; what is missing is refused by name."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import test_rollout_command as command
from doubles import PlainRouter
from test_driver import PLAN, closing, make_rig
from test_rollout_command import Shop
from typer.testing import CliRunner

from harness.adapters.flags_backup import Backups
from harness.cli.main import app
from harness.model.errors import EnvironmentProblem
from harness.model.status import Status

pytestmark = [pytest.mark.selftest, pytest.mark.timeout(120)]

_ = closing  # the fixture closes what the rig has opened
shop = command.shop
OPTIONS = ("--feature", "--target-percentage", "--dry-run", "--force", "--rollback", "--verbose", "--help")


@pytest.mark.covers("rf.rollout.options", level="simulated")
def test_help_tells_every_required_option_and_touches_nothing(shop: Shop) -> None:
    """All seven stand in the text; no folder is made."""
    done = CliRunner().invoke(app, ["rollout", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert done.exit_code == 0
    assert [option for option in OPTIONS if option not in done.output] == []
    assert "0 to 100" in done.output
    assert not shop.out.exists()


@pytest.mark.covers("rf.rollout.options", level="simulated")
@pytest.mark.parametrize("without", ["--feature", "SYSTEM"])
def test_a_rollout_of_nothing_is_refused_by_name(shop: Shop, without: str) -> None:
    """Neither the feature nor the system may be left out: exit code 2, nothing moved."""
    arguments = shop.arguments("--target-percentage", "25", "--force")
    at = arguments.index("--feature") if without == "--feature" else 1
    del arguments[at : at + (2 if without == "--feature" else 1)]
    done = CliRunner().invoke(app, arguments, env={"NO_COLOR": "1", "COLUMNS": "200"})
    assert (done.exit_code, without in done.output) == (2, True), done.output
    assert set(shop.flags().values()) == {0.0}


@pytest.mark.covers("rf.rollout.options", level="simulated")
def test_verbose_tells_every_look_and_without_it_only_the_log_does(shop: Shop) -> None:
    """Up without it, down and up with it: looks are lines only where they are asked for."""
    code, quiet = shop.run("--target-percentage", "25", "--force")
    assert (code, "looked (" in quiet) == (0, False), quiet
    assert "looked (25)" in (shop.out / "rollout.log").read_text(encoding="utf-8")
    code, told = shop.run("--target-percentage", "50", "--force", "--verbose")
    assert (code, "looked (50)" in told) == (0, True), told


@pytest.mark.covers("rf.rollout.behaviour", level="simulated")
def test_what_is_said_stands_in_the_log_too_with_its_moment_and_its_rollout(shop: Shop) -> None:
    """Every line of the terminal but the last, which the verdict is; none has a colour."""
    code, said = shop.run("--target-percentage", "25", "--force")
    assert code == 0, said
    log = (shop.out / "rollout.log").read_text(encoding="utf-8")
    lines = said.splitlines()
    assert len(lines) >= 5
    for line in lines[:-1]:
        dated = rf"^\d{{4}}-\d\d-\d\dT[\d:.]+\+00:00 {shop.newest().name} {re.escape(line)}$"
        assert re.search(dated, log, re.MULTILINE), line
    assert lines[-1].startswith("search is at 25 %")
    assert "\x1b" not in log


@pytest.mark.covers("rf.rollout.behaviour", level="simulated")
def test_the_flags_are_kept_before_every_change_and_can_be_put_back(shop: Shop) -> None:
    """A copy of 0, of 25 and of 50; a torn file comes back as it was."""
    assert shop.run("--target-percentage", "50", "--force")[0] == 0
    live = shop.folder / "live.json"
    kept = [path.read_text(encoding="utf-8") for path in sorted(Backups(live).folder.glob("*.json"))]
    assert ['"search": 0.0' in kept[0], '"search": 25.0' in kept[1], '"search": 50.0' in kept[2]] == [True] * 3
    live.write_text("{", encoding="utf-8")
    assert CliRunner().invoke(app, ["flags", "recover", str(live)]).exit_code == 0
    assert shop.flags()["search"] == 50


@pytest.mark.covers("rf.rollout.behaviour", level="simulated")
def test_a_refused_move_is_tried_again_after_growing_waits_and_no_more_than_thrice(tmp_path: Path) -> None:
    """Planted: the router refuses twice, then for ever; the waits grow, and a dead router is told as such."""
    rig = make_rig(tmp_path, [Status.PASS], plan=replace(PLAN, warmup_s=0))
    rig.driver.reconcile()
    slept: list[float] = []
    sleep = rig.driver.parts.clock.sleep

    def noted(seconds: float) -> None:
        slept.append(seconds)
        sleep(seconds)

    rig.driver.parts.clock.sleep = noted  # type: ignore[method-assign]
    rig.router.refusals = 2
    rig.driver.ramp()
    first, second = slept[:2]
    assert 0.1 <= first <= 1.1
    assert 0.2 <= second <= 2.1
    assert slept[2:] == [PLAN.look_s] * len(slept[2:])

    class Dead(PlainRouter):
        asked = 0

        def set_limit(self, limit: int) -> None:
            self.asked += 1
            msg = f"no {limit}"
            raise EnvironmentProblem(msg)

    (tmp_path / "b").mkdir()
    router = Dead()
    dead = make_rig(tmp_path / "b", [Status.PASS], router)
    dead.driver.ramp()
    assert "traffic could not be moved" in dead.driver.state.reason
    # Three tries up; three, and three times more, down.
    assert router.asked == 3 + 3 * 4
