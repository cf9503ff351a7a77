"""A rollout on a stack that is deployed: what is done before the driver begins, and how it ends, whatever happens."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from harness.judge.suites import judge_suites
from harness.model.errors import LostLeaseError, RollgateError
from harness.model.event import Noted
from harness.model.status import Cause, Decision, ExitCode, Status, exit_code
from harness.planning.resume import Left
from harness.planning.rollout import Phase, State
from harness.planning.rollouts import Past, opening
from harness.ports import Case, Stack, Suites
from harness.run.driver import Driver
from harness.run.gate import case_evidence

_LOG = logging.getLogger("rollgate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a rollout ended: the exit code, and why. `share` is where the candidate is left, percent."""

    code: int
    decision: Decision
    reason: str
    share: float


@dataclass(slots=True, kw_only=True)
class Rollout:
    """One rollout of one feature. `shielded` keeps signals off what must be finished."""

    past: Past
    driver: Driver
    shielded: Callable[[], AbstractContextManager[None]] = nullcontext

    def begin(self) -> None:
        """Take the fencing token and tell the journal; nothing is moved."""
        journal, past = self.driver.parts.journal, self.past
        journal.fence()
        journal.append("rollout", opening(past), why="asked for")
        self.driver.state = State(base=min(past.base, past.goal), share=past.base, goal=past.goal)

    def up(self, stack: Stack, suites: Suites) -> Ending:
        """Look at both arms, and go up stage by stage. Ends at the goal, held, or back at the base."""

        def ramp() -> None:
            refused = self._first_look(stack, suites)
            if refused is not None:
                self.driver.stop(*refused)
                return
            parts = self.driver.parts
            self._say_what_stays()
            parts.router.hold_lease()
            if parts.load is not None:
                parts.load.start()
            self.driver.warm_up()
            self.driver.ramp()

        return self._to_the_end(ramp)

    def down(self, why: str) -> Ending:
        """Go from the base to the goal, which is not above it, at once."""
        with self.shielded():
            return self._taken_down(why)

    def resume(self, left: Left) -> Ending:
        """Go on where another process left it. A move that was to be made at once is made again."""
        driver = self.driver
        if self.past.base >= self.past.goal:
            with self.shielded():
                driver.parts.journal.fence()
                found = driver.parts.router.read().limit / 100
                driver.parts.journal.append("resume", {"phase": left.state.phase, "router": found}, why="once more")
                driver.state = State(base=self.past.goal, share=found, goal=self.past.goal)
                return self._taken_down("a later process makes the move again")

        def ramp() -> None:
            self._say_what_stays()
            driver.resume(left)
            if driver.state.phase is Phase.DONE:
                return
            if driver.parts.load is not None:
                driver.parts.load.start()
            driver.ramp()

        return self._to_the_end(ramp)

    def _say_what_stays(self) -> None:
        """Say what nobody does when this process dies, where the router does not do it."""
        parts = self.driver.parts
        if not parts.router.returns_alone:
            text = f"router {parts.router.name}: traffic does not go back by itself if this process dies or freezes"
            parts.sink.emit(Noted(text=f"{text}; --resume or --rollback then", at=parts.clock.now(), level="warning"))

    def _taken_down(self, why: str) -> Ending:
        """Move to the base at once. Whatever decision that is: the asked move is done, or it is not."""
        try:
            self.driver.stop(why, Cause.OPERATOR)
        finally:
            self._let_go()
        state = self.driver.state
        done = state.share == self.past.goal and state.cause is Cause.OPERATOR
        code = ExitCode.PROMOTED if done else ExitCode.ENVIRONMENT
        return Ending(code=int(code), decision=Decision.ROLLBACK, reason=state.reason, share=state.share)

    def _to_the_end(self, act: Callable[[], None]) -> Ending:
        driver = self.driver
        try:
            act()
        except LostLeaseError:
            raise
        except KeyboardInterrupt:
            with self.shielded():
                driver.stop("interrupted", Cause.OPERATOR)
            raise
        except RollgateError as error:
            with self.shielded():
                driver.stop(str(error), Cause.ENVIRONMENT)
        except Exception as error:  # noqa: BLE001 - whatever fails, traffic goes back first
            _LOG.exception("a defect of the harness ended the rollout")
            with self.shielded():
                driver.stop(f"internal error: {type(error).__name__}: {str(error)[:200]}", Cause.ENVIRONMENT)
        finally:
            with self.shielded():
                self._let_go()
        return self._ending()

    def _let_go(self) -> None:
        """End the load and the lease; what is settled stays."""
        parts = self.driver.parts
        try:
            if parts.load is not None:
                parts.load.stop()
        finally:
            parts.router.drop_lease()
        self.driver.end_hooks(*self._how())

    def _how(self) -> tuple[Decision, Cause, str]:
        state = self.driver.state
        return state.decision or Decision.HOLD, state.cause or Cause.ENVIRONMENT, state.reason

    def _first_look(self, stack: Stack, suites: Suites) -> tuple[str, Cause] | None:
        """Ask both arms before any traffic moves; return why it must not, and whose fault that is."""
        cases: Sequence[Case] = suites.run(stack, "smoke")
        parts = self.driver.parts
        records = [record for case in cases for record in case_evidence(case, parts.clock.now())]
        parts.store.append(records)
        parts.judge.observe(records)
        judged = judge_suites(records)
        for status, cause in ((Status.FAIL, Cause.RELEASE), (Status.ERROR, Cause.ENVIRONMENT)):
            told = [f"{j.id}: {j.reason}" for j in judged if j.status is status]
            if told:
                return "before any traffic: " + "; ".join(told), cause
        return None

    def _ending(self) -> Ending:
        decision, cause, reason = self._how()
        share = self.driver.state.share
        return Ending(code=int(exit_code(decision, cause)), decision=decision, reason=reason, share=share)
