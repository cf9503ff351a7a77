"""The load's own split as a router: it steers the load alone, so it needs nothing of the target."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from harness.adapters.load.split import BEAT_S, BUCKETS, read_order, read_taken, write_order
from harness.model.errors import EnvironmentProblem
from harness.model.evidence import Arm
from harness.ports import RouterState

_TAKEN_S = 1.0  # a generator reads its order ten times a second
_POLL_S = 0.02


class ClientSplitRouter:
    """Moves the load by an order on disk, which the generators follow and confirm.

    While the lease is held, a thread counts up in the order; a process that dies or freezes falls silent, and the
    generators then send everything to the baseline within a second.
    """

    name = "client"
    returns_alone = True

    def __init__(self, order_file: Path, *, sticky: bool = True, answers: Callable[[Arm], bool] | None = None) -> None:
        """Write orders to `order_file`; generators confirm beside it.

        `answers` tells whether an arm is there; without it both are held for up.
        """
        self.sticky = sticky
        self._file, self._answers = order_file, answers
        self._order = replace(read_order(order_file), held=False)
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._beating: threading.Thread | None = None

    def read(self) -> RouterState:
        """Return what the running generators have taken; without one, what the next would take."""
        taken = read_taken(self._file.parent)
        order = read_order(self._file)
        return RouterState(
            limit=max((one.limit for one in taken), default=order.limit),
            lease_held=all(one.leased for one in taken) if taken else order.held,
            candidate_up=self._up(Arm.CANDIDATE),
            baseline_up=self._up(Arm.BASELINE),
        )

    def set_limit(self, limit: int) -> None:
        """Order `limit` and wait until every running generator has taken it.

        Raises ValueError outside 0..10000, EnvironmentProblem when it is not taken within a second.
        """
        if not 0 <= limit <= BUCKETS:
            msg = f"a limit lies in 0..{BUCKETS}, found {limit}"
            raise ValueError(msg)
        self._write(limit=limit)
        until = time.monotonic() + _TAKEN_S
        while any((one.limit, one.leased) != (limit, self._order.held) for one in read_taken(self._file.parent)):
            if time.monotonic() > until:
                msg = f"the load was told limit {limit} and did not take it within {_TAKEN_S:g} s"
                raise EnvironmentProblem(msg, mend="see logs/load.log; does the machine lack processor time?")
            time.sleep(_POLL_S)
        if (found := read_order(self._file).limit) != limit:
            msg = f"the load was told limit {limit}, and {found} is read back"
            raise EnvironmentProblem(msg, mend=f"end whatever else writes to {self._file}")

    def hold_lease(self) -> None:
        """Begin to hold the lease."""
        if self._beating is not None:
            return
        self._write(held=True)
        self._ending.clear()
        self._beating = threading.Thread(target=self._beat, name="split-lease", daemon=True)
        self._beating.start()

    def drop_lease(self) -> None:
        """Stop holding it: within a second all load is on the baseline."""
        if self._beating is None:
            return
        self._ending.set()
        self._beating.join()
        self._beating = None
        self._write(held=False)

    def settle(self, limit: int) -> None:
        """Do nothing: the load ends with its driver, and nobody else is split by this."""

    def _up(self, arm: Arm) -> bool:
        return self._answers is None or self._answers(arm)

    def _beat(self) -> None:
        while not self._ending.wait(BEAT_S):
            with suppress(EnvironmentProblem):  # a disk that refuses ends the lease by itself
                self._write()

    def _write(self, *, limit: int | None = None, held: bool | None = None) -> None:
        with self._lock:
            order = replace(
                self._order,
                limit=self._order.limit if limit is None else limit,
                held=self._order.held if held is None else held,
                beat=self._order.beat + 1,
            )
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                write_order(self._file, order)
            except OSError as error:
                msg = f"cannot write the load's order {self._file}: {error.strerror}"
                raise EnvironmentProblem(msg, mend="free space, or make the folder writable") from error
            self._order = order
