"""The hot path: sends the schedule at its times, whatever the server does."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.adapters.load.calibration import overhead
from harness.adapters.load.http_client import Client, Exchange, ExchangeError, render
from harness.adapters.load.ledger import Ledger
from harness.adapters.load.options import LoadOptions
from harness.adapters.load.scores import ScoreReader
from harness.adapters.load.split import READ_S, Follower, taken_file
from harness.adapters.load.status import quantiles_ms
from harness.adapters.load.workload import Request, Response, Workload
from harness.adapters.remote_access import Access, resolve
from harness.model.evidence import Arm, Unit
from harness.planning.arrivals import Arrival, arrivals, partition

BEAT_S = 0.5

_SUCCESS = range(200, 300)
_SPARE_CONNECTIONS = 16
_MAX_CONNECTIONS = 8192


class Engine:
    """One worker's load, from its first request to its last answer."""

    def __init__(self, options: LoadOptions, workload: Workload, report: Callable[[bytes], None]) -> None:
        """Lay out the schedule; `report` takes a line of results twice a second."""
        self._options, self._workload, self._report = options, workload, report
        self._scores = ScoreReader(options.scores)
        self._ledger = Ledger(options, [arrival.at_s for arrival in self._schedule()])
        access = resolve(options.auth, "the load's options")
        self._headers = access.headers
        self._doors = {arm: _door(url, access, options) for arm, url in options.urls.items()}
        self._follower = _follower(options)
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._abandoned = False
        self._start_s = 0.0
        self._overhead_ms: dict[str, float] = {}
        self._phase, self._fault = "calibrating", ""

    def stop(self, *, abandon: bool = False) -> None:
        """Send nothing more; wait for what is outstanding unless `abandon`."""
        self._abandoned = self._abandoned or abandon
        self._stopping.set()
        if abandon:
            for task in self._running:
                task.cancel()

    async def run(self) -> int:
        """Send everything, drain, and return the exit code: 0, or 4 when the instrument broke."""
        self._write_status()
        self._overhead_ms = quantiles_ms(await overhead())
        following = asyncio.create_task(self._follow())
        self._phase, self._start_s = "running", self._ledger.start()
        beating = asyncio.create_task(self._beat())
        sending = asyncio.create_task(self._send_all())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((sending, stopping, beating, following), return_when=asyncio.FIRST_COMPLETED)
        await _end(sending, stopping)
        self._ledger.stop()
        await self._drain()
        await _end(beating, following)
        self._phase = "done"
        self._ledger.write_rest()
        self._report(self._ledger.take_batch())
        for _, client in self._doors.values():
            client.close()
        if self._follower:
            self._follower.end()
        self._write_status()
        return 4 if self._fault or self._abandoned else 0

    def _schedule(self) -> Iterator[Arrival]:
        options = self._options
        whole = arrivals(process=options.process, rate=options.rate, seconds=options.seconds, seed=options.seed)
        return partition(whole, options.worker, options.workers)

    async def _follow(self) -> None:
        """Take the order of the split in, many times a second; without one, wait for the end."""
        if self._follower is None:
            await self._stopping.wait()
            return
        while True:
            self._follower.follow()
            await asyncio.sleep(READ_S)

    async def _send_all(self) -> None:
        for arrival in self._schedule():
            # The loop's timers count whole milliseconds of a clock read a little ago: no request goes out early.
            while (wait_s := self._start_s + arrival.at_s - time.monotonic()) > 0:  # noqa: ASYNC110 - a time is awaited
                await asyncio.sleep(math.ceil(wait_s * 1e3) / 1e3)
            self._ledger.sent(arrival)
            task = asyncio.create_task(self._request(arrival))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _request(self, arrival: Arrival) -> None:
        exchange, failure, checks = Exchange(), "abandoned", dict[str, bool]()
        scores: Mapping[str, float | str] = {}
        sent_to: Arm | None = None
        try:
            request = self._workload.request(arrival.draw)
            chosen = self._choose(arrival)
            host, client = self._doors[chosen]
            payload = render(request, host, ((self._options.session_header, arrival.session), *self._headers))
            left_s = self._start_s + arrival.at_s + self._options.deadline_s - time.monotonic()
            sent_to = chosen
            exchange = await client.exchange(payload, timeout_s=left_s)
            failure, checks = self._judge(request, exchange)
            scores = {} if failure else self._scores.read(request.path, bytes(exchange.body))
        except ExchangeError as error:
            exchange, failure = error.exchange, error.kind  # headers that came name the arm that cut its answer short
        except Exception as error:  # noqa: BLE001 - a broken scenario says nothing about the release
            exchange, failure, sent_to = Exchange(), "workload", None  # no arm is to blame
            self._break(f"the scenario's workload raised {type(error).__name__}: {error}")
        finally:
            blamed = None if failure == "abandoned" else sent_to
            self._ledger.ended(arrival, exchange, failure, checks, scores, sent_to=blamed)

    def _choose(self, arrival: Arrival) -> Arm | None:
        """Return the arm that the split gives to a session, or to a request by itself; None without a split."""
        if self._follower is None:
            return None
        return self._follower.arm(arrival.session if self._options.unit == Unit.SESSION else str(arrival.number))

    def _judge(self, request: Request, exchange: Exchange) -> tuple[str, dict[str, bool]]:
        if exchange.status not in _SUCCESS:
            return f"status {exchange.status}", {}
        response = Response(exchange.status, exchange.headers, bytes(exchange.body))
        return "", dict(self._workload.check(request, response))

    def _break(self, fault: str) -> None:
        self._fault = self._fault or fault
        self._stopping.set()

    async def _drain(self) -> None:
        """Wait for every answer; each has a deadline, so this ends."""
        self._phase = "draining"
        limit_s = self._options.deadline_s + 1
        ending = time.monotonic() + limit_s
        while self._running and time.monotonic() < ending:
            await asyncio.wait(self._running, timeout=ending - time.monotonic())
        if self._running:
            self._break(f"{len(self._running)} requests did not end within {limit_s:g} s of the stop")

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            self._ledger.write_closed()
            self._write_status()
            if batch := self._ledger.take_batch():
                self._report(batch)

    def _write_status(self) -> None:
        self._ledger.write_status(self._phase, self._overhead_ms, self._fault)


def _door(url: str, access: Access, options: LoadOptions) -> tuple[str, Client]:
    """Return the host of `url` and a client of it, whose requests time out before they run out of connections."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    wanted = min(math.ceil(1.5 * options.rate * options.deadline_s) + _SPARE_CONNECTIONS, _MAX_CONNECTIONS)
    port = parts.port or (443 if secure else 80)
    tls = access.context() if secure else None
    name = options.host.partition(":")[0]
    client = Client(parts.hostname or "", port, tls=tls, tls_name=name, max_connections=wanted)
    return options.host or parts.netloc, client


def _follower(options: LoadOptions) -> Follower | None:
    if not options.candidate_url:
        return None
    return Follower(Path(options.split), taken_file(Path(options.split).parent, options.worker))


async def _end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what still runs, and raise what a task died of."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
