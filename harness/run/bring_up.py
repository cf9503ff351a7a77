"""Brings a stack up for people: the steps in their order, each told; the first that fails ends it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.model.errors import EnvironmentProblem
from harness.model.preflight import Poll
from harness.planning.bring_up import STEPS, after
from harness.ports import Clock

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """What each step does; each raises a RollgateError where it cannot. `unwell` says who is not well, and why."""

    logs: Callable[[], None]
    composition: Callable[[], None]
    settings: Callable[[], None]
    start: Callable[[], None]
    unwell: Callable[[], Mapping[str, str]]
    summary: Callable[[], Sequence[str]]
    next_steps: Callable[[], Sequence[str]]


def bring_up(hands: Hands, poll: Poll, clock: Clock, say: Say) -> None:
    """Take every step. Raises what a step raises, and EnvironmentProblem where a service does not become well."""

    def tell(lines: Sequence[str]) -> None:
        for line in lines:
            say(line)

    takes: dict[str, Callable[[], None]] = {
        "logs": hands.logs,
        "composition": hands.composition,
        "settings": hands.settings,
        "start": hands.start,
        "health": lambda: await_health(hands.unwell, poll, clock, say),
        "summary": lambda: tell(hands.summary()),
        "next": lambda: tell(hands.next_steps()),
    }
    for number, (name, title) in enumerate(STEPS, 1):
        say(f"[{number}/{len(STEPS)}] {title}")
        takes[name]()


def await_health(unwell: Callable[[], Mapping[str, str]], poll: Poll, clock: Clock, say: Say) -> None:
    """Ask until every service is well. Raises EnvironmentProblem after the last attempt, naming who is not and why."""
    for attempt in range(1, poll.attempts + 1):
        asked = after(poll, attempt, unwell())
        say(asked.text)
        if asked.well:
            return
        if asked.wait_s is None:
            msg = f"not every service became well: {asked.text}"
            raise EnvironmentProblem(msg, mend="`rollgate stack logs` shows their last lines, `stack down` ends them")
        clock.sleep(asked.wait_s)
