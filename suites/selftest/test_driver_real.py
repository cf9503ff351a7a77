"""The command, HAProxy, SQLite, flags and processes, all real: killed, frozen, raced; some of the whole bench."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from native_runs import need

from harness.bench.driver import real_crash
from harness.bench.driver.real_crash import CASES, Case, Matrix, crashes
from harness.bench.driver.real_harm import Harm, frozen, full
from harness.bench.driver.real_place import Place, place
from harness.bench.driver.real_race import KINDS, Races, killed_at, races, takeover
from harness.model.errors import EnvironmentProblem

pytestmark = [pytest.mark.selftest, pytest.mark.timeout(240)]

# Point of death -> which of its occurrences: at the second step up, in its act, its flag, its outcome, and at the end.
POINTS = {
    "after journal entry intent": 2, "before a commit": 9, "after `set candidate 10000`": 1, "before flag 100.0 %": 1,
    "before journal entry outcome": 2, "after settle": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A deployed system behind HAProxy."""
    need("haproxy")
    with place(tmp_path_factory.mktemp("real")) as made:
        yield made


def some() -> Callable[[int, str], bool]:
    """Choose the points above."""
    seen: Counter[str] = Counter()

    def chosen(_: int, name: str) -> bool:
        seen[name] += 1
        return POINTS.get(name) == seen[name]

    return chosen


def held(found: Matrix) -> list[str]:
    """Return what did not hold, but for seconds: those are the bench's to measure."""
    return [text for text in found.broken if "resumed after" not in text]


@pytest.mark.covers("rf.rollout.behaviour", level="simulated")
def test_killed_at_six_points_a_rollout_is_resumed_to_the_same_end(where: Place) -> None:
    """25 to 100 %, kill -9, --resume: no step twice or lost; router, flag, journal and users agree."""
    found = crashes(where, CASES[2], only=some(), torn=False, warm=True)
    assert held(found) == []
    assert found.killed == len(POINTS)
    assert found.points > 60


def test_the_matrix_finds_what_a_hand_does_between_the_kill_and_the_resume(
    where: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: the router is at 77 % when the next process comes; every kind of check breaks."""
    ended = real_crash.ended

    def meddling(*args: object) -> int:
        code = ended(*args)  # type: ignore[arg-type]
        if code == -9:
            where.meddle(7700)
        return code

    monkeypatch.setattr(real_crash, "ended", meddling)
    found = crashes(where, Case(name="meddled"), only=lambda number, _: number == 30, torn=False, warm=True)
    words = " ".join(held(found))
    assert all(word in words for word in ("the router is at 77", "resumed, it ended with 4", "the steps were"))


def shown(harm: Harm) -> str:
    """Return what was seen, for the test's output; nothing may be broken."""
    assert harm.broken == []
    return harm.seen


def test_a_frozen_driver_bakes_anew_and_pushes_nothing_up_that_somebody_else_moved(where: Place) -> None:
    """SIGSTOP, SIGCONT: users are back meanwhile; untouched it goes on, after a hand on the router it goes back."""
    assert "then the moves 100 %, exit code 0" in shown(frozen(where, 2.0, None))
    assert "then the moves 25 %, exit code 4" in shown(frozen(where, 2.0, 10_000))


def test_a_disk_that_is_full_brings_users_back_and_can_be_resumed_from(where: Place) -> None:
    """The journal's and the evidence's disk, as root on a tmpfs, else by RLIMIT_FSIZE."""
    assert "back at 25 %, exit code 4" in shown(full(where))


def test_of_two_drivers_one_moves_and_an_overtaken_one_leaves_no_trace(where: Place) -> None:
    """One race of each kind; then a frozen driver thaws after another has gone on: no move, no entry, no evidence."""
    found = races(where, len(KINDS))
    takeover(where, 1, found)
    assert found.broken == []
    assert found.kinds.total() == len(KINDS) + 1


def test_a_race_whose_first_driver_ends_too_soon_is_told_with_its_words(where: Place) -> None:
    """Planted: no flags at all; nobody waits for a driver that is gone."""
    where.fresh("gone")
    (where.folder / "live.json").unlink()
    with pytest.raises(EnvironmentProblem, match=r"(?s)ended with \d before it was at 25 %: .*live\.json"):
        killed_at(where, 25)


def test_a_race_in_which_both_move_would_be_told(where: Place) -> None:
    """Planted: entries of two processes that take turns more than once, and one that follows the other."""
    del where
    found = Races()
    assert not found.turns(["driver:1", "driver:2", "driver:1"])
    assert found.turns(["driver:1", "driver:1", "driver:2"])
    found.hold(False, "planted")  # noqa: FBT003
    assert found.broken == ["planted"]


def test_the_place_leaves_nothing_behind(tmp_path: Path) -> None:
    """HAProxy ends with it."""
    need("haproxy")
    with place(tmp_path) as made:
        process = made.process
        assert process is not None
        assert process.running
    assert not process.running
