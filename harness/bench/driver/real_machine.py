"""Hypothesis chooses what is done to the deployed system of `real_model`, and shortens what breaks it."""

from collections.abc import Callable
from typing import ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from harness.bench.driver.real_model import Model
from harness.bench.driver.real_place import CHILD, FEATURE, NEVER

# How often each is chosen of a hundred or so. Few rules, so that no history is without most of what may happen.
_DRIVEN = {
    "look 1": 8, "look 5": 10, "look 30": 20, "kill": 6, "freeze 2": 3, "freeze 70": 3, "second --resume": 2,
    "second --target-percentage 0": 2, "order pause": 5, "order promote": 6, "order hold": 1, "order abort": 2,
    "hand 0": 1, "hand 2500": 1, "hand 10000": 2, "renew restart": 2, "renew reload": 2, "release bad": 4,
    "tear half": 1, "tear empty": 1, "tear noise": 1, "tear no object": 1,
}  # fmt: skip
_IDLE = {
    "go 100": 20, "go 60": 8, "go 50": 8, "go 25": 8, "go 10": 3, "go 0": 3, "child 100": 4, "child 25": 4,
    "child 0": 2, "back": 4, "back of child": 2, "order abort": 1, "hand 0": 1, "hand 10000": 2, "renew restart": 1,
    "renew reload": 1, "release bad": 5, "release good": 5, "tear half": 2, "tear noise": 1,
}  # fmt: skip
_LEFT = {
    "resume": 30, "back": 5, "order abort": 4, "order promote": 4, "hand 0": 2, "hand 10000": 2, "tear half": 2,
    "renew restart": 2, "renew reload": 2, "go 100": 2, "child 25": 2, "release bad": 2, "release good": 2,
}  # fmt: skip


def _drawn(chances: dict[str, int]) -> st.SearchStrategy[str]:
    return st.sampled_from([what for what, times in chances.items() for _ in range(times)])


class Machine(RuleBasedStateMachine):
    """What may be done to the system, in any order. `model` is set before it is run."""

    model: ClassVar[Model]

    @initialize(base=st.sampled_from([0.0, 0.0, 25.0]))
    def _begin(self, base: float) -> None:
        self.model.begin("model", base)

    @precondition(lambda self: self.model.driver is not None)
    @rule(what=_drawn(_DRIVEN))
    def driven(self, what: str) -> None:
        """Let the driver go on, or let something befall it."""
        self._do(what)

    @precondition(lambda self: self.model.driver is None and not self.model.unfinished)
    @rule(what=_drawn(_IDLE))
    def idle(self, what: str) -> None:
        """Begin something while nobody drives and nothing is open."""
        self._do(what)

    @precondition(lambda self: self.model.unfinished)
    @rule(what=_drawn(_LEFT))
    def left(self, what: str) -> None:
        """Go on with what a dead driver left, or do something else to it."""
        self._do(what)

    @precondition(lambda self: self.model.troubled and self.model.driver is None)
    @rule()
    def put_right(self) -> None:
        """Set right what was done by hand, as a user would."""
        if self.model.lost:
            self.model.write_flags()
        if self.model.unfinished:
            self.model.command("roll back", "--rollback")
        self.model.command("go to", "--target-percentage", "0")

    def _do(self, what: str) -> None:
        model, (verb, _, more) = self.model, what.partition(" ")
        acts: dict[str, Callable[[], object]] = {
            "look": lambda: model.tick(int(more)),
            "kill": model.kill,
            "freeze": lambda: model.tick(1, frozen_s=float(more)),
            "second": lambda: model.second(*more.split()),
            "order": lambda: model.order(more),
            "hand": lambda: model.hand(int(more)),
            "renew": lambda: model.renew(more),
            "tear": lambda: model.tear(more),
            "go": lambda: model.command("go to", "--target-percentage", more, driving=True),
            "child": lambda: model.command("child", "--target-percentage", more, feature=CHILD, driving=True),
            "back": lambda: model.command("roll back", "--rollback", feature=CHILD if more else FEATURE),
            "resume": lambda: model.command("resume", "--resume", driving=True),
            "release": lambda: model.release(NEVER if more == "good" else 50.0),
        }
        acts[verb]()

    @invariant()
    def holds(self) -> None:
        """Every invariant, after each step."""
        self.model.hold()

    def teardown(self) -> None:
        """End what still lives."""
        self.model.close()


def run(model: Model, *, histories: int, steps: int) -> None:
    """Do `histories` histories of up to `steps` steps, the same each time; BrokenError where one breaks."""
    Machine.model = model
    chosen = settings(
        max_examples=histories, stateful_step_count=steps, deadline=None, database=None, phases=[Phase.generate],
        derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=False,
    )  # fmt: skip
    run_state_machine_as_test(Machine, settings=chosen)
