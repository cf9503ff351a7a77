"""What a rollout leaves when its driver has ended: settled where it is promoted or held, and told, whatever happens."""

from dataclasses import replace
from pathlib import Path

import pytest
import test_driver_resume as rigs
from doubles import PlainRouter
from test_driver_resume import Fuse, Mortal, World, ends, fresh, live

from harness.adapters.journal import SqliteJournal
from harness.model.errors import EnvironmentProblem
from harness.model.status import Cause, Decision
from harness.planning.resume import left_by
from harness.planning.rollout import Phase, State

pytestmark = pytest.mark.selftest


class Settling(Mortal):
    """A process whose driver settles; it can die on either side of that."""

    def __init__(self, world: World, fuse: Fuse) -> None:
        super().__init__(world, fuse)
        router = self.driver.parts.router

        def settle(limit: int) -> None:
            fuse.point()
            world.router.settle(limit)
            fuse.point()

        router.settle = settle  # type: ignore[method-assign]
        self.driver.parts = replace(self.driver.parts, settles=True)


def settling(world: World, fuse: Fuse) -> Settling:
    """Return a new process's driver, which settles."""
    return Settling(world, fuse)


class Deaf(PlainRouter):
    """A router that settles nothing."""

    def settle(self, limit: int) -> None:
        msg = f"no {limit}"
        raise EnvironmentProblem(msg)


def finished(world: World) -> bool:
    """Tell whether the journal tells the rollout's end."""
    journal = SqliteJournal(world.folder / "journal.sqlite", who="t", clock=world.clock, rollout="r1")
    left = left_by((entry.kind, entry.what) for entry in journal.entries())
    journal.close()
    return left is not None and left.finished


@pytest.mark.parametrize("case, settled", [("good", 10_000), ("from 25 to 60", 6000), ("bad from 25", 0)])
def test_killed_at_every_point_its_share_is_settled_once_it_is_told(
    case: str, settled: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enumerated, also on both sides of settling and of the last entry: settled, told, and at its share."""
    monkeypatch.setattr(World, "driver", settling)
    calm = fresh(case, tmp_path / "calm")
    state, fuse = live(calm, Mortal.begin)
    assert (calm.router.settled, finished(calm)) == (settled, True)
    for at in range(1, fuse.passed + 1):
        world = fresh(case, tmp_path / f"{at}")
        live(world, Mortal.begin, at)
        again, _ = live(world, Mortal.go_on)
        assert (at, ends(again)) == (at, ends(state))
        assert (at, world.router.settled, world.router.limit) == (at, settled, calm.router.limit)
        assert (at, finished(world)) == (at, True)


def test_a_share_that_cannot_be_settled_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be gone with the driver: the rollout ends at its base, by the environment's fault."""
    monkeypatch.setattr(World, "driver", settling)
    world = replace(fresh("good", tmp_path / "w"), router=Deaf())
    state, _ = live(world, Mortal.begin)
    assert ends(state) == (Phase.DONE, Decision.ROLLBACK, Cause.ENVIRONMENT)
    assert state is not None
    assert "made to stay" in state.reason
    assert (world.router.limit, world.flags["batch"]) == (0, 0)


def test_a_promotion_that_somebody_undid_before_it_was_told_is_not_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dead just before settling, and the share taken away by hand: the next process leaves nobody on the candidate."""
    monkeypatch.setattr(World, "driver", settling)
    calm = fresh("good", tmp_path / "calm")
    _, fuse = live(calm, Mortal.begin)
    world = fresh("good", tmp_path / "w")
    live(world, Mortal.begin, fuse.passed - 3)
    assert world.router.limit == 10_000
    assert world.router.settled == 0
    world.router.limit = 0
    state: State | None
    state, _ = live(world, Mortal.go_on)
    assert ends(state) == (Phase.DONE, Decision.ROLLBACK, Cause.ENVIRONMENT)
    assert (world.router.limit, world.router.settled, world.flags["batch"]) == (0, 0, 0)
    assert rigs.steps(world)[-1] == 0
