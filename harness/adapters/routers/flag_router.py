"""A feature flag as the router: its percent is the traffic, and the application does the splitting.

| parameter | meaning |
|---|---|
| `flags` | the store of the flags, `FileFlags(path)` for a file |
| `flag` | the flag whose percent is the candidate's share |
| `sticky` | whether the application keeps a user on the side where he is (by a stable hash), which it must say |

There is no lease: a flag stays where it is when the driver dies.
"""

from harness.model.errors import EnvironmentProblem
from harness.ports import Flags, RouterState

BUCKETS = 10_000
_BASIS = 100  # basis points a percent


class FlagRouter:
    """Moves traffic by one flag."""

    name = "flags"
    returns_alone = False

    def __init__(self, flags: Flags, flag: str, *, sticky: bool = True) -> None:
        """Touch nothing yet."""
        self._flags, self._flag = flags, flag
        self.sticky = sticky

    def read(self) -> RouterState:
        """Read the flag; EnvironmentProblem when the store is away or lacks it."""
        percent = self._flags.read().get(self._flag)
        if percent is None:
            raise self._unknown()
        # Nothing says whether the arms live: probes do that.
        return RouterState(limit=round(percent * _BASIS), lease_held=False, candidate_up=True, baseline_up=True)

    def set_limit(self, limit: int) -> None:
        """Set the flag to `limit` / 100 percent and read it back.

        Raises ValueError outside 0..10000, EnvironmentProblem when the store does not take it.
        """
        if not 0 <= limit <= BUCKETS:
            msg = f"a limit lies in 0..{BUCKETS}, found {limit}"
            raise ValueError(msg)
        try:
            self._flags.set(self._flag, limit / _BASIS)
        except KeyError:
            raise self._unknown() from None
        if (found := self.read().limit) != limit:
            msg = f"flag {self._flag} was set to {limit / _BASIS:g} percent and {found / _BASIS:g} is read back"
            raise EnvironmentProblem(msg, mend="end the other writer of the flags")

    def hold_lease(self) -> None:
        """Do nothing: a flag knows no lease."""

    def drop_lease(self) -> None:
        """Do nothing: a flag knows no lease."""

    def settle(self, limit: int) -> None:
        """Do nothing: a flag stays where it is."""

    def _unknown(self) -> EnvironmentProblem:
        return EnvironmentProblem(f"there is no flag {self._flag}", mend="add it to the flags with 0 percent")
