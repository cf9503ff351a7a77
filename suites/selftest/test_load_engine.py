"""The load generator's engine against a server of known behaviour: the truth, and nothing lost."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from pathlib import Path

import pytest
import uvloop
from known_server import HANG_UP, Seen, doubled, reply, right, serving

from harness.adapters.load import calibration
from harness.adapters.load.engine import Engine
from harness.adapters.load.options import LoadOptions
from harness.adapters.load.status import LoadStatus, read_status
from harness.adapters.load.workload import Request, Response, load_workload
from harness.model.codec import decode
from harness.model.evidence import Arm, Evidence, Kind
from harness.paths import share_root

pytestmark = pytest.mark.selftest

WORKLOAD = share_root() / "scenarios" / "workloads" / "answer.py"


@dataclass
class Run:
    """What one load left behind: exit code, results of (name, ms, bytes, failure), records, last status."""

    code: int
    results: list[tuple[str, float, int, str | None]]
    records: list[Evidence]
    status: LoadStatus

    def total(self, signal: str, arm: Arm | None = None) -> tuple[int, int]:
        """Return (n, bad) of all records of a signal."""
        found = [r for r in self.records if r.signal == signal and r.arm is arm]
        return sum(r.n for r in found), sum(r.bad for r in found)


@pytest.fixture(autouse=True)
def _short_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the client's overhead by 20 requests instead of 100."""
    monkeypatch.setattr(calibration, "REQUESTS", 20)


@pytest.fixture
def options(tmp_path: Path) -> LoadOptions:
    """Return a second and a half of constant load, without an address."""
    return LoadOptions(
        url="", prefix="answer", workload=str(WORKLOAD), root="", evidence=str(tmp_path), rate=100, seconds=1.5,
        seed=3, process="constant", bounds_s=(0.01, 0.1, 0.5, 1.0), interval_s=0.5, late_s=0.05,
    )  # fmt: skip


def run(options: LoadOptions, seen: Seen, *, after: Callable[[Engine], None] | None = None, at_s: float = 0.0) -> Run:
    """Run the engine on uvloop to its end; call `after(engine)` `at_s` seconds after the start, where given."""
    options = replace(options, url=f"http://127.0.0.1:{seen.port}")
    lines: list[bytes] = []

    async def all_of_it() -> int:
        engine = Engine(options, load_workload(WORKLOAD, {}, Path()), lines.append)
        if after:
            asyncio.get_running_loop().call_later(at_s, after, engine)
        return await engine.run()

    code = uvloop.run(all_of_it())
    status = read_status(options.status_file)
    assert status is not None
    text = options.records_file.read_text(encoding="utf-8")
    results = [tuple(result) for line in lines if line for result in json.loads(line)]
    return Run(code, results, [decode(line) for line in text.splitlines()], status)


def quantile(values: list[float], p: float) -> float:
    """Return the nearest-rank quantile."""
    return sorted(values)[max(1, ceil(len(values) * p)) - 1]


def test_records_are_in_the_runs_own_time_whatever_the_wall_clock_says(options: LoadOptions) -> None:
    """Told by how much that is ahead of the monotonic clock: a wall clock set since then moves no record."""
    began = 1_000_000.0
    epoch_s = began - time.monotonic()
    with serving(right) as server:
        found = run(replace(options, seconds=0.6, epoch_s=epoch_s), server)
    ended = epoch_s + time.monotonic()
    assert found.records
    assert all(began <= record.start_s <= record.end_s <= ended for record in found.records)


def test_a_sound_server_is_counted_to_the_last_request(options: LoadOptions) -> None:
    """Schedule = sent = ended = the server's own count = the records' counts, by arm and by aligned interval."""
    with serving(right) as server:
        found = run(options, server)
    assert found.code == 0
    assert found.status.phase == "done"
    assert found.status.scheduled == found.status.sent == found.status.ended == server.requests == 150
    by_arm = {arm: found.total("answer.error", arm) for arm in Arm}
    assert sum(n for n, _ in by_arm.values()) == 150
    assert all(bad == 0 for _, bad in by_arm.values())
    assert {arm: found.total("answer.latency", arm)[0] for arm in Arm} == {arm: n for arm, (n, _) in by_arm.items()}
    assert found.total("load.late")[0] == 150
    assert found.status.overhead_ms["p50"] < 5
    assigned = [r for r in found.records if r.kind is Kind.ASSIGNMENT]
    assert sum(r.n for r in assigned) == len(server.sessions), "sessions, not requests, are assigned"
    assert sum(r.bad for r in assigned) == sum(hash(s) % 4 == 0 for s in server.sessions)
    lates = [r for r in found.records if r.signal == "load.late"]
    assert all((r.end_s / 0.5).is_integer() for r in lates[:-1])
    assert all(a.end_s == b.start_s for a, b in pairwise(lates))
    assert all(49 <= r.n <= 51 for r in lates[1:-1]), "at 100 req/s, half a second holds 50"


def test_a_stalled_server_shows_the_truth(options: LoadOptions) -> None:
    """The server answers nothing for 1 s of 3: open loop, the waits are uniform up to a second (no omission).

    Analytic truth at a constant rate: a third of the requests wait, evenly, between 0 and 1 s; so the p95 of all
    is the 85th percentile of that third. A closed loop would see one slow request and report milliseconds.
    """
    stall: list[float] = []

    async def stalls(path: str, _session: str) -> bytes | None:
        now = time.monotonic()
        stall[:] = stall or [now + 1.0, now + 2.0]
        if stall[0] <= now < stall[1]:
            await asyncio.sleep(stall[1] - now)
        return reply(doubled(path))

    with serving(stalls) as server:
        found = run(replace(options, seconds=3), server)
    response_ms = [ms for _, ms, _, _ in found.results]
    assert len(response_ms) == 300
    # Omission understates; a busy machine, which holds client and server up, only adds.
    assert 810 < quantile(response_ms, 0.95) < 1150
    assert 930 < quantile(response_ms, 0.99) < 1250
    slower = sum(r.slower_than(0.5) for r in found.records if r.signal == "answer.latency")
    assert 46 <= slower <= 70


def test_failures_are_counted_to_the_arm_that_is_named(options: LoadOptions) -> None:
    """500 of the candidate, 503 of the router for the candidate, and 503 of the router that names nobody."""

    async def failing(path: str, _session: str) -> bytes | None:
        number = int(doubled(path).split(": ")[1].strip("}")) % 3
        return (
            reply("{}", status="500 Internal Server Error", arm="candidate"),
            reply("", status="503 Service Unavailable", arm="candidate", header="X-Routed-Arm"),
            reply("", status="503 Service Unavailable", arm=""),
        )[number]

    with serving(failing) as server:
        found = run(options, server)
    (named, named_bad), (nobody, nobody_bad) = (
        found.total("answer.error", Arm.CANDIDATE),
        found.total("answer.error.unrouted"),
    )
    assert named == named_bad > 60
    assert nobody == nobody_bad > 20
    assert named + nobody == found.status.errors == 150
    assert found.status.unrouted == nobody
    assert not any(r.kind is Kind.HISTOGRAM for r in found.records), "a quick refusal is no quick answer"


def test_a_request_that_never_returns_is_an_error_slower_than_every_bound(options: LoadOptions) -> None:
    """Half the sessions hang: each of their requests ends at the deadline, none vanishes at the stop."""

    async def hangs(path: str, session: str) -> bytes | None:
        if hash(session) % 2:
            await asyncio.sleep(30)
        return reply(doubled(path))

    with serving(hangs) as server:
        found = run(replace(options, seconds=0.6, timeout_s=0.5), server)
    assert found.status.sent == found.status.ended == 60
    hung = found.total("answer.error.unrouted")
    assert hung == (found.status.timeouts, found.status.timeouts)
    assert found.status.timeouts > 10
    overflow = [r.counts[-1] for r in found.records if r.signal == "answer.latency.unrouted"]
    assert sum(overflow) == found.status.timeouts


def test_a_connection_that_is_cut_is_a_failure_without_an_arm(options: LoadOptions) -> None:
    """Reset is not retried: a retry would hide what a user saw."""

    async def cuts(_path: str, _session: str) -> bytes | None:
        return None

    with serving(cuts) as server:
        found = run(replace(options, seconds=0.3), server)
    assert server.requests == found.status.sent == 30
    assert {failure for *_, failure in found.results} == {"reset"}
    assert found.total("answer.error.unrouted") == (30, 30)
    assert found.status.unrouted == 30


def cut(path: str, header: str) -> bytes:
    """Return the head of an answer of the candidate and half of its body."""
    return reply(doubled(path), arm="candidate", header=header)[:-8]


@pytest.mark.parametrize("header", ["X-Arm", "X-Routed-Arm"])
def test_a_cut_answer_is_the_failure_of_the_arm_that_its_headers_name(options: LoadOptions, header: str) -> None:
    """Every request of the candidate is cut within its body: its errors to the last one, and nobody else's."""

    async def truncates(path: str, session: str) -> bytes | None:
        return cut(path, header) + HANG_UP if hash(session) % 4 == 0 else reply(doubled(path))

    with serving(truncates) as server:
        found = run(replace(options, seconds=0.6), server)
    (n, bad), (others, others_bad) = (found.total("answer.error", arm) for arm in (Arm.CANDIDATE, Arm.BASELINE))
    assert n == bad == found.status.errors > 0
    assert (n + others, others_bad) == (60, 0)
    assert {failure for *_, failure in found.results} == {None, "reset"}
    assert found.status.unrouted == 0
    assert not any(r.signal.endswith(".unrouted") for r in found.records)


def test_an_answer_that_stalls_is_a_timeout_of_the_arm_that_its_headers_name(options: LoadOptions) -> None:
    """The candidate's bodies stop half way: errors and latencies beyond every bound, both its own."""

    async def stalls(path: str, session: str) -> bytes | None:
        return cut(path, "X-Arm") if hash(session) % 4 == 0 else reply(doubled(path))

    with serving(stalls) as server:
        found = run(replace(options, seconds=0.6, timeout_s=0.5), server)
    n, bad = found.total("answer.error", Arm.CANDIDATE)
    assert n == bad == found.status.timeouts > 0
    for signal in ("answer.latency", "answer.service", "answer.latency.fine"):
        assert sum(r.counts[-1] for r in found.records if r.signal == signal and r.arm is Arm.CANDIDATE) == n
    assert found.total("answer.error", Arm.BASELINE) == (60 - n, 0)
    assert found.status.unrouted == 0


def test_a_server_that_is_not_there_refuses_every_request(options: LoadOptions) -> None:
    """Nobody listens: all requests are accounted for, at once."""
    with serving(right) as server:
        pass
    found = run(replace(options, seconds=0.3), server)
    assert {failure for *_, failure in found.results} == {"refused"}
    assert found.status.sent == found.status.ended == found.status.unrouted == 30


def test_wrong_answers_are_wrong_and_not_errors(options: LoadOptions) -> None:
    """A 200 with another number, or with no JSON at all."""

    async def wrong(_path: str, session: str) -> bytes | None:
        return reply('{"answer": -1}' if hash(session) % 2 else "no json")

    with serving(wrong) as server:
        found = run(replace(options, seconds=0.5), server)
    assert found.total("answer.wrong", Arm.BASELINE) == (50, 50)
    assert found.total("answer.error", Arm.BASELINE) == (50, 0)


def test_a_stop_drains_what_is_outstanding(options: LoadOptions) -> None:
    """Stopped half way, with answers taking 0.3 s: what was sent is answered and counted."""

    async def slow(path: str, _session: str) -> bytes | None:
        await asyncio.sleep(0.3)
        return reply(doubled(path))

    with serving(slow) as server:
        found = run(replace(options, seconds=20), server, after=Engine.stop, at_s=1.5)
        assert found.status.sent == found.status.ended == server.requests < 200
    assert found.status.errors == found.status.unrouted == 0
    assert found.code == 0
    assert found.status.sent == pytest.approx(found.status.scheduled, abs=2)


def test_a_workload_that_crashes_stops_the_load_and_says_so(
    options: LoadOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect of the scenario is the instrument's, never the release's: exit 4, the fault named."""

    class Broken:
        def request(self, _draw: float) -> Request:
            return Request("GET", "/answer?q=1")

        def check(self, _request: Request, _response: Response) -> dict[str, bool]:
            raise ZeroDivisionError

    monkeypatch.setattr("test_load_engine.load_workload", lambda *_: Broken())
    with serving(right) as server:
        found = run(options, server)
    assert found.code == 4
    assert "ZeroDivisionError" in found.status.fault
    assert found.status.sent == found.status.ended < 100
    assert not any(r.arm for r in found.records if r.signal.startswith("answer.error"))


def test_lateness_of_the_generator_itself_is_seen(options: LoadOptions) -> None:
    """The loop is blocked for 0.4 s, as a starved machine would: 40 requests are late, and said to be."""
    with serving(right) as server:
        found = run(options, server, after=lambda _: time.sleep(0.4), at_s=1.2)
    assert found.status.sent == 150
    late, bad = found.total("load.late")
    assert (late, bad) == (150, found.status.late)
    assert 30 <= bad < 120  # a busy machine adds to the 40, yet most are on time
    assert found.status.lag_total_ms["p99"] > 300
