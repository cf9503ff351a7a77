"""`rollgate rollout` on a real pseudo-terminal: it asks, it is coloured where that is wanted, a no moves nothing."""

import errno
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import test_rollout_command as command
from native_runs import until
from test_rollout_command import Shop
from test_rollout_operator import pause, say

pytestmark = [pytest.mark.selftest, pytest.mark.timeout(120)]
shop = command.shop
ESCAPE = "\x1b["
ASKED = "Go on? [y/N]: "


@dataclass
class Terminal:
    """A command with a terminal of its own: what it shows, and a keyboard."""

    process: subprocess.Popen[bytes]
    keyboard: int
    shown: str = ""
    _half: bytes = field(default=b"")

    def shows(self, text: str, *, within: float = 60.0) -> bool:
        """Read until `text` is on the screen."""
        end = time.monotonic() + within
        while text not in self.shown and time.monotonic() < end and self._read(0.2):
            pass
        return text in self.shown

    def type(self, keys: str) -> None:
        os.write(self.keyboard, keys.encode())

    def interrupt(self) -> int:
        """Press Ctrl-C, again where nothing comes of it, and return the exit code.

        A signal that comes between the prompt and Python's wait for a key is seen at the next one.
        """
        for _ in range(5):
            self.type("\x03")
            with suppress(subprocess.TimeoutExpired):
                return self.ends(within=5)
        pytest.fail("it does not end")

    def ends(self, *, within: float = 60.0) -> int:
        """Read to the end, and return the exit code."""
        end = time.monotonic() + within
        while time.monotonic() < end and self._read(0.2):
            pass
        return self.process.wait(timeout=1)

    def _read(self, seconds: float) -> bool:
        """Take in what comes; False once the other side has closed."""
        if not select.select([self.keyboard], [], [], seconds)[0]:
            return True
        try:
            found = os.read(self.keyboard, 4096)
        except OSError as error:
            if error.errno != errno.EIO:  # Linux says so where others say end of file
                raise
            return False
        self.shown += found.decode(errors="replace")
        return bool(found)


@contextmanager
def terminal(shop: Shop, *more: str, **environment: str) -> Iterator[Terminal]:
    """Run the command with a pseudo-terminal as its own, from which Ctrl-C comes as from a keyboard."""
    ours, its = pty.openpty()
    known = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    known |= {"PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm-256color", "COLUMNS": "200", **environment}
    arguments = [sys.executable, "-c", _AS_SESSION, *shop.arguments(*more)]
    process = subprocess.Popen(arguments, env=known, stdin=its, stdout=its, stderr=its, start_new_session=True)
    os.close(its)
    try:
        yield Terminal(process, ours)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait()
        os.close(ours)


_AS_SESSION = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from harness.cli.main import main
sys.argv[0] = "rollgate"
main()
"""


@pytest.mark.covers("rf.rollout.behaviour", "rf.rollout.options", level="simulated")
def test_it_asks_before_traffic_moves_and_shows_its_way_in_colour(shop: Shop) -> None:
    """The plan, the question, a yes; then a raise in green and the end in green."""
    with terminal(shop, "--target-percentage", "25") as screen:
        assert screen.shows(ASKED), screen.shown
        assert "stage 25: search to 25 %" in screen.shown
        assert shop.flags()["search"] == 0
        screen.type("y\n")
        assert screen.ends() == 0, screen.shown
    assert shop.flags()["search"] == 25
    assert re.search(r"\x1b\[32mmoved from 0 to 25 %", screen.shown), screen.shown
    assert re.search(r"\x1b\[32msearch is at 25 %", screen.shown)
    log = (shop.out / "rollout.log").read_text(encoding="utf-8")
    assert ESCAPE not in log


@pytest.mark.covers("rf.rollout.behaviour", level="simulated")
@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04"])
def test_whatever_is_no_yes_moves_nothing(shop: Shop, answer: str) -> None:
    """No, Enter alone, the end of input: nothing is begun, no journal is there."""
    with terminal(shop, "--target-percentage", "25") as screen:
        assert screen.shows(ASKED), screen.shown
        screen.type(answer)
        code = screen.ends()
    assert code == (130 if answer == "\x04" else 3), screen.shown
    assert set(shop.flags().values()) == {0.0}
    assert not (shop.out / "journal.sqlite").exists()


def test_ctrl_c_at_the_question_moves_nothing(shop: Shop) -> None:
    """Exit code 130, and no journal."""
    with terminal(shop, "--target-percentage", "25") as screen:
        assert screen.shows(ASKED), screen.shown
        assert screen.interrupt() == 130, screen.shown
    assert "interrupted: nothing was moved" in screen.shown
    assert set(shop.flags().values()) == {0.0}
    assert not (shop.out / "journal.sqlite").exists()


def test_force_asks_nothing_and_no_color_shows_none_and_a_way_down_is_asked_like_any_other(shop: Shop) -> None:
    """On a terminal with NO_COLOR not one escape sequence; lowering asks; --force does not."""
    with terminal(shop, "--target-percentage", "25", "--force", NO_COLOR="1") as screen:
        assert screen.ends() == 0, screen.shown
    assert (ASKED in screen.shown, ESCAPE in screen.shown) == (False, False)
    assert "moved from 0 to 25 %" in screen.shown
    with terminal(shop, "--target-percentage", "0") as screen:
        assert screen.shows(ASKED), screen.shown
        assert "search to 0 % at once" in screen.shown
        assert shop.flags()["search"] == 25
        screen.type("y\n")
        assert screen.ends() == 0, screen.shown
    assert shop.flags()["search"] == 0
    assert re.search(r"\x1b\[33mmoved from 25 to 0 %", screen.shown), screen.shown


def test_ctrl_c_on_the_way_goes_back_to_the_base(shop: Shop) -> None:
    """From the keyboard, at 25 %: exit code 130 at 0."""
    with terminal(shop, "--target-percentage", "100", "--force") as screen:
        assert screen.shows("stage 25 began"), screen.shown
        assert screen.interrupt() == 130, screen.shown
    assert shop.flags()["search"] == 0


def test_a_rollout_begun_with_load_is_resumed_with_it(shop: Shop) -> None:
    """Kill -9 at 25 %, then --resume: its load goes on, and the evidence of both processes is in one place."""
    path = shop.folder / "shop" / "rollout.yaml"
    path.write_text(command.PLAN.replace("max_bake_s: 10", "max_bake_s: 2"), encoding="utf-8")
    process = shop.start("--target-percentage", "50", "--force", "--load")
    assert until(lambda: shop.flags()["search"] == 25, within=60)
    pause(shop)
    evidence = shop.newest() / "evidence" / "judged.jsonl"
    assert until(lambda: '"client"' in evidence.read_text(encoding="utf-8"), within=30)
    process.kill()
    process.communicate()
    say(shop, "promote")
    before = shop.baseline.answered
    clients = evidence.read_text(encoding="utf-8").count('"client"')
    code, said = shop.run("--resume", "--force", target=False)
    # All of the load goes to the entry, which is the baseline: nothing is proven of the candidate, and it goes back.
    assert (code, shop.flags()["search"]) == (3, 0.0), said
    assert shop.baseline.answered > before + 10
    assert evidence.read_text(encoding="utf-8").count('"client"') > clients
