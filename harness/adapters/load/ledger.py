"""The generator's accounts: every request that was begun is ended here once, whatever became of it."""

import json
import math
import os
import time
from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.adapters.load.http_client import Exchange
from harness.adapters.load.intervals import TIMEOUT, IntervalBook, Sample
from harness.adapters.load.options import LoadOptions
from harness.adapters.load.status import LoadStatus, Pace, Punctuality, write_status
from harness.model.codec import encode
from harness.model.evidence import Arm, Evidence, Unit
from harness.planning.arrivals import Arrival

_ROUTED_ARM = "x-routed-arm"  # the router's word on the arm, on answers that it makes itself
_ARMS = {arm.value: arm for arm in Arm}


@dataclass(slots=True)
class _Counts:
    sent: int = 0
    ended: int = 0
    timeouts: int = 0
    errors: int = 0
    late: int = 0
    unrouted: int = 0


class Ledger:
    """Counts, punctuality, open intervals and the batch for Locust. `times` are the arrivals' offsets, seconds."""

    def __init__(self, options: LoadOptions, times: Sequence[float]) -> None:
        """Start with nothing sent, the clocks standing."""
        self._options = options
        self._times = array("d", times)
        self._arm_header = options.arm_header.lower()
        self._counts, self._pace, self._lags = _Counts(), Pace(), Punctuality()
        self._batch: list[tuple[str, float, int, str | None]] = []
        self._book: IntervalBook | None = None
        self._start_s = self._start_wall_s = 0.0
        self._stopped_s = math.inf

    def start(self) -> float:
        """Start the clocks; return the monotonic seconds from which arrivals count."""
        self._start_s = time.monotonic()
        self._start_wall_s = self._options.epoch_s + self._start_s if self._options.epoch_s else time.time()
        self._book = IntervalBook(
            prefix=self._options.prefix, bounds_s=self._options.bounds_s, interval_s=self._options.interval_s,
            unit=Unit(self._options.unit), late_s=self._options.late_s, start_s=self._start_wall_s,
        )  # fmt: skip
        return self._start_s

    def sent(self, arrival: Arrival) -> None:
        """Begin a request's account, at the moment when it is picked up for sending."""
        now_s = time.monotonic()
        lag_s = now_s - self._start_s - arrival.at_s
        self._counts.sent += 1
        self._counts.late += lag_s > self._options.late_s
        self._lags.add(now_s, lag_s)
        if self._book:
            self._book.begin(self._start_wall_s + arrival.at_s, lag_s)

    def ended(
        self,
        arrival: Arrival,
        exchange: Exchange,
        failure: str,
        checks: Mapping[str, bool],
        scores: Mapping[str, float | str],
        *,
        sent_to: Arm | None = None,
    ) -> None:
        """End it. `failure` is "" for a 2xx answer; an exchange without an end never came back whole.

        Its arm is `sent_to`, where the load chose one, else the one that its headers name, whole or not. `checks`
        and `scores` are as in `Sample`.
        """
        end_s = exchange.end_ns / 1e9 if exchange.end_ns else time.monotonic()
        response_s = end_s - self._start_s - arrival.at_s
        named = exchange.headers.get(self._arm_header) or exchange.headers.get(_ROUTED_ARM, "")
        arm = sent_to or _ARMS.get(named)
        self._counts.ended += 1
        self._counts.timeouts += failure == TIMEOUT
        self._counts.errors += bool(failure)
        self._counts.unrouted += arm is None
        self._batch.append((self._options.prefix, round(response_s * 1e3, 3), len(exchange.body), failure or None))
        if self._book:
            self._book.end(
                Sample(
                    intended_s=self._start_wall_s + arrival.at_s, response_s=response_s,
                    service_s=(exchange.end_ns - exchange.sent_ns) / 1e9 if exchange.end_ns else None,
                    failure=failure, arm=arm, first=arrival.first, checks=checks,
                    scores=scores,
                )
            )  # fmt: skip

    def stop(self) -> None:
        """Nothing more is sent from now on."""
        self._stopped_s = time.monotonic() - self._start_s

    def write_closed(self) -> None:
        """Append the records of every interval that is whole by now."""
        if not self._book:
            return
        elapsed_s = time.monotonic() - self._start_s
        if self._counts.sent < len(self._times) and self._stopped_s == math.inf:
            elapsed_s = min(elapsed_s, self._times[self._counts.sent])  # what is still to be sent keeps its interval
        self._append(self._book.closed(self._start_wall_s + elapsed_s))

    def write_rest(self) -> None:
        """Append the records of what is left after the drain."""
        if self._book:
            stopped_s = min(self._stopped_s, self._options.seconds)
            self._append(self._book.rest(self._start_wall_s + stopped_s))

    def write_status(self, phase: str, overhead_ms: Mapping[str, float], fault: str) -> None:
        """Replace the status file."""
        now_s, counts, options = time.monotonic(), self._counts, self._options
        elapsed_s = min(now_s - self._start_s, self._stopped_s) if self._book else -1.0
        scheduled = bisect_right(self._times, elapsed_s)
        window_s, window_scheduled, window_sent, cpu_share = self._pace.mark(now_s, scheduled, counts.sent)
        status = LoadStatus(
            at=time.time(), pid=os.getpid(), phase=phase, worker=options.worker, workers=options.workers,
            scheduled=scheduled, sent=counts.sent, ended=counts.ended, outstanding=counts.sent - counts.ended,
            timeouts=counts.timeouts, errors=counts.errors, late=counts.late, unrouted=counts.unrouted,
            window_s=round(window_s, 3), window_scheduled=window_scheduled, window_sent=window_sent,
            lag_window_ms=self._lags.window_ms(), lag_total_ms=self._lags.total_ms(),
            cpu_share=round(cpu_share, 4), overhead_ms=overhead_ms, fault=fault,
        )  # fmt: skip
        write_status(options.status_file, status)

    def take_batch(self) -> bytes:
        """Return the results since the last call as one JSON line, empty when there are none."""
        batch, self._batch = self._batch, []
        return json.dumps(batch).encode() + b"\n" if batch else b""

    def _append(self, records: Sequence[Evidence]) -> None:
        if records:
            with self._options.records_file.open("a", encoding="utf-8") as file:
                file.write("".join(encode(record) + "\n" for record in records))
