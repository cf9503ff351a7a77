"""Steady users in a process of their own: `python -m harness.bench.rollback.users OPTIONS.json`.

Every request is one JSON line of [sent (wall clock, s), ended, arm, failure]: `failure` is "" for a 2xx answer. Load is
open loop; the process ends with SIGTERM, or after `seconds`. Nothing is retried.
"""

import asyncio
import json
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from harness.adapters.load.http_client import Client, ExchangeError, render
from harness.adapters.load.workload import Workload, load_workload
from harness.planning.arrivals import Arrival, arrivals

_PATIENCE_S = 12.0  # more than the router's own: what hangs ends as its answer, not as ours
_CONNECTIONS = 512
_SUCCESS = range(200, 300)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Whom to ask and how; `answers` is the file of lines."""

    port: int
    workload: str
    root: str
    options: dict[str, str]
    session_header: str
    arm_header: str
    rate: float
    seconds: float
    seed: int
    answers: str


def write_options(options: Options, path: Path) -> None:
    """Write what `main` reads."""
    path.write_text(json.dumps(asdict(options)), encoding="utf-8")


class Users:
    """Sends the schedule at its times."""

    def __init__(self, options: Options, workload: Workload, file: TextIO) -> None:
        """Send nothing yet."""
        self._options, self._workload, self._file = options, workload, file
        self._client = Client("127.0.0.1", options.port, tls=None, max_connections=_CONNECTIONS)

    async def run(self) -> None:
        """Send all of it, and wait for what is outstanding."""
        told, start = self._options, time.monotonic()
        schedule = arrivals(process="poisson", rate=told.rate, seconds=told.seconds, seed=told.seed)
        async with asyncio.TaskGroup() as running:
            for arrival in schedule:
                await asyncio.sleep(max(0.0, start + arrival.at_s - time.monotonic()))
                running.create_task(self._ask(arrival))

    async def _ask(self, arrival: Arrival) -> None:
        told, request = self._options, self._workload.request(arrival.draw)
        payload = render(request, f"127.0.0.1:{told.port}", ((told.session_header, arrival.session),))
        sent, failure = time.time(), ""
        try:
            exchange = await self._client.exchange(payload, timeout_s=_PATIENCE_S)
            failure = "" if exchange.status in _SUCCESS else f"status {exchange.status}"
        except ExchangeError as error:
            exchange, failure = error.exchange, error.kind
        arm = exchange.headers.get(told.arm_header.lower(), "")
        self._file.write(json.dumps([round(sent, 6), round(time.time(), 6), arm, failure]) + "\n")


async def _serve(users: Users) -> None:
    asked = asyncio.create_task(users.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.cancel)
    await asyncio.wait([asked])


def main(arguments: list[str]) -> None:
    """Be the users that the file of options describes."""
    options = Options(**json.loads(Path(arguments[0]).read_text(encoding="utf-8")))
    workload = load_workload(Path(options.workload), options.options, Path(options.root))
    with Path(options.answers).open("w", encoding="utf-8", buffering=1) as file:
        asyncio.run(_serve(Users(options, workload, file)))


if __name__ == "__main__":
    main(sys.argv[1:])
