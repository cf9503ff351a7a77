"""A deployed system with the real HAProxy to which anything is done in any order; invariants after every step."""

from collections.abc import Iterator

import pytest
from native_runs import need

from harness.bench.driver.real_machine import run
from harness.bench.driver.real_model import BrokenError, Model
from harness.bench.driver.real_place import Place, place

pytestmark = [pytest.mark.selftest, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A deployed system behind HAProxy."""
    need("haproxy")
    with place(tmp_path_factory.mktemp("real")) as made:
        yield made


@pytest.fixture
def model(where: Place) -> Iterator[Model]:
    """A model that says nothing."""
    made = Model(where, lambda _: None)
    yield made
    made.close()


@pytest.mark.covers("rf.flag.validation", "rf.rollout.behaviour", level="simulated")
def test_what_hypothesis_does_to_it_breaks_no_invariant(model: Model) -> None:
    """Up, down, orders, kill -9, resume, hands on the router, restarts, torn flags; the bench does thousands."""
    run(model, histories=5, steps=20)
    assert model.checks > 20


def test_a_rollout_goes_up_dies_is_resumed_and_arrives(model: Model) -> None:
    """The steps themselves do what they say: the model is not idle."""
    model.begin("told", 0.0)
    model.command("go to", "--target-percentage", "50", driving=True)
    model.tick(3)
    model.hold()
    model.kill()
    model.hold()
    model.command("resume", "--resume", driving=True)
    model.tick(40)
    model.hold()
    assert model.driver is None
    assert (model.place.router().read().settled, model.place.flags.read()["search"]) == (5000, 50.0)


PLANTED = {
    "a hand on the router": (lambda place: place.meddle(9000), "the router is at 90 %"),
    "a hand on the flag": (lambda place: place.flags.set("search", 75), "the flag is at 75 %"),
    "a child above its parent": (lambda place: place.flags.set("rank", 75), "the child was raised above its parent"),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_a_change_that_nobody_owns_up_to_is_found(model: Model, bug: str) -> None:
    """Planted: what is done behind the model's back breaks an invariant, by name."""
    act, words = PLANTED[bug]
    model.begin("planted", 25.0)
    model.hold()
    act(model.place)
    with pytest.raises(BrokenError, match=words):
        model.hold()
