"""What every router must do, as checks that take a rig: the adapter, and hands on what it steers.

The same checks judge the shipped routers and routers made to lie; `test_router_conformance.py` runs both.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import pytest
from native_runs import until

from harness.model.errors import EnvironmentProblem
from harness.model.evidence import Arm
from harness.ports import Router

SESSIONS = tuple(f"user-{number}" for number in range(200))
LIMITS = (0, 1, 1234, 2500, 5000, 9999, 10_000, 0)
PATIENCE_S = (
    20.0  # the longest wait for a real router: a busy machine takes its time, and may lose a lease for a moment
)


class Rig(Protocol):
    """A router at work.

    `forces`: a header reaches an arm. `keeps`: the share outlives every renewal. `patience_s`: the longest wait for
    what comes by itself.
    """

    router: Router
    forces: bool
    keeps: bool
    patience_s: float

    def another(self) -> Router:
        """Return the adapter that another process would make, on the same router."""
        ...

    def meddle(self, limit: int) -> None:
        """Set the limit by the router's own means, as somebody who knows nothing of rollgate would."""
        ...

    def renewals(self) -> Mapping[str, Callable[[], None]]:
        """Return the ways in which the router begins anew, by name: reload, restart."""
        ...

    def stop(self) -> None:
        """Take the router away."""
        ...

    def arms(self, sessions: Sequence[str], force: str = "") -> list[str]:
        """Send one request for each session and return who answered; `force` asks for an arm by header."""
        ...


def on_candidate(rig: Rig) -> set[str]:
    """Return the sessions whose request the candidate answers."""
    arms = rig.arms(SESSIONS)
    assert set(arms) <= {Arm.BASELINE, Arm.CANDIDATE}
    return {session for session, arm in zip(SESSIONS, arms, strict=True) if arm == Arm.CANDIDATE}


def limit_of(router: Router) -> int:
    """Return what the router says, -1 while it does not answer."""
    try:
        return router.read().limit
    except EnvironmentProblem:
        return -1


def says_what_it_is(rig: Rig) -> None:
    """It has a name, and says whether it is sticky and whether traffic returns alone."""
    assert rig.router.name
    assert isinstance(rig.router.sticky, bool)
    assert isinstance(rig.router.returns_alone, bool)
    assert rig.router.read().limit == 0


def takes_every_limit(rig: Rig) -> None:
    """Nothing, everything and odd shares are taken and read back, by whoever asks."""
    for limit in LIMITS:
        rig.router.set_limit(limit)

        assert rig.router.read().limit == limit
        assert rig.another().read().limit == limit


def is_idempotent(rig: Rig) -> None:
    """The same limit twice, also from another process, is the limit once."""
    rig.router.hold_lease()
    rig.router.set_limit(2500)
    assert until(lambda: on_candidate(rig), within=rig.patience_s)
    before = on_candidate(rig) if rig.router.sticky else set[str]()

    rig.router.set_limit(2500)
    rig.another().set_limit(2500)

    assert rig.router.read().limit == 2500
    assert not rig.router.sticky or until(lambda: on_candidate(rig) == before, within=rig.patience_s)


def refuses_what_is_no_share(rig: Rig) -> None:
    """Below nothing and above everything is a ValueError, and moves nobody."""
    rig.router.set_limit(2500)
    for limit in (-1, 10_001):
        with pytest.raises(ValueError, match=r"0\.\.10000"):
            rig.router.set_limit(limit)

        assert rig.router.read().limit == 2500


def sees_a_foreign_change(rig: Rig) -> None:
    """Somebody else moved traffic: reading says what the router does, not what it was told here."""
    rig.router.set_limit(2500)
    rig.meddle(777)

    assert until(lambda: limit_of(rig.router) == 777, within=rig.patience_s)
    rig.router.set_limit(2500)
    assert rig.router.read().limit == 2500


def says_when_it_is_away(rig: Rig) -> None:
    """No answer is the environment's problem, with a mend; only a router that is then at 0 by itself may say so."""
    rig.router.set_limit(2500)
    rig.stop()

    with pytest.raises(EnvironmentProblem) as caught:
        rig.router.set_limit(5000)
    assert caught.value.mend
    assert limit_of(rig.router) in (-1, 0)
    if limit_of(rig.router) == -1:
        with pytest.raises(EnvironmentProblem) as caught:
            rig.router.read()
        assert caught.value.mend
    else:
        assert not on_candidate(rig)


def outlives_a_renewal(rig: Rig) -> None:
    """After a reload and a restart everybody is where he was; where that cannot be, reading tells the truth."""
    rig.router.hold_lease()
    for renew in rig.renewals().values():
        rig.router.set_limit(2500)
        assert until(lambda: on_candidate(rig), within=rig.patience_s)
        before = on_candidate(rig)

        renew()

        expected = 2500 if rig.keeps else 0
        assert until(lambda wanted=expected: limit_of(rig.router) == wanted, within=rig.patience_s)
        rig.router.hold_lease()
        if rig.keeps and rig.router.sticky:
            assert until(lambda users=before: on_candidate(rig) == users, within=rig.patience_s)
        else:
            assert until(lambda: bool(on_candidate(rig)) == rig.keeps, within=rig.patience_s)


def sends_what_it_says(rig: Rig) -> None:
    """Nobody, about a quarter, everybody: requests arrive as the limit says."""
    rig.router.hold_lease()
    for limit, least, most in ((0, 0, 0), (2500, 30, 75), (10_000, 200, 200)):
        rig.router.set_limit(limit)

        assert until(lambda low=least, high=most: low <= len(on_candidate(rig)) <= high, within=rig.patience_s)


def never_moves_a_user_out(rig: Rig) -> None:
    """Whoever is on the candidate stays there while the share is raised: sticky routers alone promise it."""
    if not rig.router.sticky:
        pytest.skip("not sticky, and says so")
    rig.router.hold_lease()
    before: set[str] = set()
    for limit in (100, 1000, 2500, 5000, 7500, 10_000):
        rig.router.set_limit(limit)

        assert until(lambda stayed=before: stayed <= on_candidate(rig), within=rig.patience_s)
        before |= on_candidate(rig)


def lets_an_arm_be_forced(rig: Rig) -> None:
    """A header reaches the candidate at 0 and the baseline at everything."""
    if not rig.forces:
        pytest.skip("no header forces an arm here")
    assert set(rig.arms(SESSIONS[:20], force="candidate")) == {Arm.CANDIDATE}
    rig.router.hold_lease()
    rig.router.set_limit(10_000)
    assert set(rig.arms(SESSIONS[:20], force="baseline")) == {Arm.BASELINE}


def returns_alone_as_it_says(rig: Rig) -> None:
    """Without the lease nobody is left on the candidate, or everybody who was; as the router says beforehand."""
    rig.router.hold_lease()
    rig.router.set_limit(10_000)
    assert until(lambda: rig.router.read().lease_held is rig.router.returns_alone, within=rig.patience_s)

    rig.router.drop_lease()

    left = 0 if rig.router.returns_alone else len(SESSIONS)
    assert until(lambda: len(on_candidate(rig)) == left, within=rig.patience_s)
    assert rig.router.read().limit == 10_000
    assert until(lambda: not rig.router.read().lease_held, within=rig.patience_s)


def keeps_what_is_settled(rig: Rig) -> None:
    """Who is settled stays when the lease ends, and nobody else; a limit below takes everybody above it back."""
    if rig.router.returns_alone and rig.router.read().settled is None:
        pytest.skip("settles nothing, and says so")
    rig.router.hold_lease()
    rig.router.set_limit(2500)
    before = on_candidate(rig) if rig.router.sticky else set[str]()
    rig.router.settle(2500)
    rig.router.set_limit(7500)
    assert rig.router.read().settled == (2500 if rig.router.returns_alone else None)

    rig.router.drop_lease()

    if rig.router.returns_alone:
        assert until(lambda: on_candidate(rig) == before, within=rig.patience_s)
        rig.router.set_limit(100)
        assert rig.another().read().settled == 100
    rig.router.set_limit(0)
    assert until(lambda: not on_candidate(rig), within=rig.patience_s)


CHECKS: tuple[Callable[[Rig], None], ...] = (
    says_what_it_is,
    takes_every_limit,
    is_idempotent,
    refuses_what_is_no_share,
    sees_a_foreign_change,
    says_when_it_is_away,
    outlives_a_renewal,
    sends_what_it_says,
    never_moves_a_user_out,
    lets_an_arm_be_forced,
    returns_alone_as_it_says,
    keeps_what_is_settled,
)
