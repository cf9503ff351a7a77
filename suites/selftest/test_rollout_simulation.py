"""Hooks and parents in the simulated worlds: what is planted in the driver there is found by the rule it breaks."""

from collections.abc import Callable

import pytest

from harness.bench.driver.rules import Rule
from harness.bench.driver.world import World
from harness.model.hook import Delivery
from harness.planning import rollout
from harness.run.driver import Driver
from harness.run.hooks import HookCalls

pytestmark = pytest.mark.selftest


class AsksNobody(Driver):
    """Planted: the hooks before stages are not asked."""

    def _asks(self) -> bool:
        return False


class TakesSilenceForYes(Driver):
    """Planted: a hook that was told is a hook that allows."""

    def _ask(self, action: rollout.Ask) -> None:
        super()._ask(action)
        self._apply(rollout.Allowed(at=self._now(), index=action.index))


class TellsFirst(HookCalls):
    """Planted: what is told is journaled afterwards."""

    def _journal(self, one: Delivery) -> None:
        self.hooks.send(one)
        super()._journal(one)


class TellsUnderManyNames(HookCalls):
    """Planted: each telling of a fact has an id of its own."""

    def _delivery(self, hook: str, key: str, body: dict[str, object]) -> Delivery:
        return super()._delivery(hook, f"{key}-{len(self.journal.entries())}", body)


def calling(kind: type[HookCalls]) -> type[Driver]:
    """Return a driver that calls its hooks by `kind`."""

    class Calling(Driver):
        def __post_init__(self) -> None:
            super().__post_init__()
            assert self.parts.hooks is not None
            self._calls = kind(self.parts.hooks, self.parts.journal, self._note)

    return Calling


class LooksAtNoParent(Driver):
    """Planted: what the flags above are worth is not asked for again."""

    def _refused(self, share: float) -> str:  # noqa: ARG002
        return ""


PLANTED: dict[str, tuple[Callable[[], type[Driver]], Rule]] = {
    "hooks are not asked": (lambda: AsksNobody, Rule.ASKED),
    "a hook's answer is not waited for": (lambda: TakesSilenceForYes, Rule.ASKED),
    "told before it is journaled": (lambda: calling(TellsFirst), Rule.TOLD),
    "one fact under many ids": (lambda: calling(TellsUnderManyNames), Rule.TOLD),
    "parents are not looked at again": (lambda: LooksAtNoParent, Rule.PARENTS),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_of_hooks_or_parents_is_caught_within_a_hundred_worlds(bug: str) -> None:
    """Each by the rule that it breaks."""
    driver, wanted = PLANTED[bug]
    kind = driver()
    for seed in range(100):
        if wanted in {rule for rule, _ in World(seed, driver=kind).run().broken}:
            return
    pytest.fail(f"{bug}: not caught")
