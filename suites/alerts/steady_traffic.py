"""Queries to both arms through the router, evenly spaced: what the alerts on what users see look at."""

import asyncio
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import aiohttp

PER_ARM = 8.0  # requests a second
_PATIENCE_S = 20.0


class Traffic:
    """Sent as long as `on` is set."""

    def __init__(self, entry: str, force: str, queries: Path) -> None:
        """Send to the router at `entry`, "host:port"; `force` is the header that takes a request to an arm."""
        self.on = threading.Event()
        self.sent = 0
        self._url, self._force = f"http://{entry}/query", force
        self._queries = [json.loads(line)["query"] for line in queries.read_text(encoding="utf-8").splitlines()]
        self._ended = threading.Event()

    def run(self) -> None:
        """Send until `end` is called."""
        asyncio.run(self._run())

    def end(self) -> None:
        """Send no more."""
        self._ended.set()

    async def _run(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=20)
        timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as http:
            tasks: set[asyncio.Task[None]] = set()
            loop = asyncio.get_running_loop()
            due = loop.time()
            while not self._ended.is_set():
                due = max(due + 1 / PER_ARM, loop.time() - 1.0)
                await asyncio.sleep(max(0.0, due - loop.time()))
                for arm in ("baseline", "candidate") if self.on.is_set() else ():
                    task = asyncio.create_task(self._ask(http, arm))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, http: aiohttp.ClientSession, arm: str) -> None:
        self.sent += 1
        body = {"query": self._queries[self.sent % len(self._queries)], "k": 5}
        headers = {self._force: arm, "X-Session-ID": f"alerts-{self.sent}"}
        with suppress(aiohttp.ClientError, TimeoutError):  # failing is what some faults are for
            async with http.post(self._url, json=body, headers=headers) as answer:
                await answer.read()


@contextmanager
def sending(traffic: Traffic) -> Generator[Traffic]:
    """Run the traffic in a thread of its own."""
    thread = threading.Thread(target=traffic.run, daemon=True)
    thread.start()
    try:
        yield traffic
    finally:
        traffic.end()
        thread.join(10)
