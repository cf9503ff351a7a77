"""The load's own split: the ordered share, by session, within a second; all to the baseline without a holder."""

import json
import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop
from known_server import Seen, doubled, reply, serving

from harness.adapters.client_split import ClientSplitRouter
from harness.adapters.load import calibration
from harness.adapters.load.engine import Engine
from harness.adapters.load.options import LoadOptions
from harness.adapters.load.split import (
    BUCKETS,
    LOST_S,
    Follower,
    Order,
    bucket,
    read_order,
    read_taken,
    taken_file,
    write_order,
)
from harness.adapters.load.workload import load_workload
from harness.model.codec import decode
from harness.model.errors import EnvironmentProblem, SpecError
from harness.model.evidence import Arm, Kind
from harness.paths import share_root

pytestmark = pytest.mark.selftest

WORKLOAD = share_root() / "scenarios" / "workloads" / "answer.py"
SESSIONS = [f"session-{number}" for number in range(4000)]


class Hand:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def order(tmp_path: Path) -> Path:
    """Where the order is."""
    return tmp_path / "split.json"


def follower(order: Path, clock: Callable[[], float] = time.monotonic) -> Follower:
    """Return a generator's side of the split."""
    return Follower(order, taken_file(order.parent, 0), clock=clock)


@contextmanager
def following(one: Follower) -> Generator[None]:
    """Read the order again and again, as a generator does, from a thread."""
    ending = threading.Event()

    def read() -> None:
        while not ending.wait(0.02):
            one.follow()

    one.follow()
    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
        one.end()


def on_candidate(one: Follower) -> set[str]:
    """Return the sessions that go to the candidate."""
    return {session for session in SESSIONS if one.arm(session) is Arm.CANDIDATE}


def test_the_share_is_taken_within_a_second_and_nobody_moves_back(order: Path):
    """Each raise is confirmed by the generator, keeps everyone on the candidate there, and gives the asked share."""
    router, one = ClientSplitRouter(order), follower(order)
    router.hold_lease()
    before: set[str] = set()
    with following(one):
        for percent in (10, 25, 50, 100):
            began = time.monotonic()
            router.set_limit(percent * 100)
            assert time.monotonic() - began < 1
            assert router.read().limit == percent * 100
            now = on_candidate(one)
            assert now == {session for session in SESSIONS if bucket(session) < percent * BUCKETS / 100}
            assert before < now
            before = now
        router.set_limit(0)
        assert on_candidate(one) == set()
    router.drop_lease()


def test_without_a_holder_everything_is_the_baselines(order: Path):
    """An order that nobody holds, one left over from the dead, and one that falls silent all ask for nothing."""
    clock = Hand()
    one = follower(order, clock)
    write_order(order, Order(limit=BUCKETS, held=True, beat=7))
    one.follow()
    assert on_candidate(one) == set(), "an old word on disk is none"
    write_order(order, Order(limit=BUCKETS, held=True, beat=8))
    one.follow()
    assert on_candidate(one) == set(SESSIONS)
    clock.now += 0.99 * LOST_S
    one.follow()
    assert on_candidate(one) == set(SESSIONS)
    clock.now += 0.02 * LOST_S
    one.follow()
    assert on_candidate(one) == set(), "silent for too long"
    write_order(order, Order(limit=BUCKETS, held=False, beat=9))
    one.follow()
    assert on_candidate(one) == set(), "nobody holds it"


@pytest.mark.parametrize("text", ["", "[]", '{"limit": 20000, "beat": 2}', '{"limit": "all", "held": true, "beat": 2}'])
def test_an_order_that_cannot_be_read_asks_for_nothing(order: Path, text: str):
    """Malformed, out of bounds or away: all to the baseline."""
    order.write_text(text, encoding="utf-8")
    assert read_order(order) == Order()


def test_a_dropped_lease_is_seen_at_once(order: Path):
    """Traffic is back on the baseline well within a second, though the limit stays."""
    router, one = ClientSplitRouter(order), follower(order)
    router.hold_lease()
    with following(one):
        router.set_limit(5000)
        assert on_candidate(one)
        router.drop_lease()
        until = time.monotonic() + 0.5
        while router.read().lease_held and time.monotonic() < until:
            time.sleep(0.01)
        assert on_candidate(one) == set()
        assert router.read().limit == 5000


def test_an_order_that_is_not_taken_is_an_error(order: Path):
    """A generator that runs and does not follow keeps its share: the router says so instead of believing itself."""
    router = ClientSplitRouter(order)
    taken_file(order.parent, 0).write_text(json.dumps({"limit": 100, "leased": False, "pid": os.getpid()}))
    with pytest.raises(EnvironmentProblem, match="did not take it"):
        router.set_limit(200)
    assert router.read().limit == 100


def test_what_a_dead_generator_had_taken_counts_for_nothing(order: Path):
    """Its file stays behind, its process does not: the order alone says what the next one would do."""
    router = ClientSplitRouter(order)
    gone = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(gone, 0)
    taken_file(order.parent, 0).write_text(json.dumps({"limit": 100, "leased": True, "pid": gone}))
    assert read_taken(order.parent) == []
    router.set_limit(200)
    assert router.read().limit == 200


@pytest.mark.parametrize("limit", [-1, BUCKETS + 1])
def test_a_limit_beyond_the_buckets_is_refused(order: Path, limit: int):
    """A limit lies in 0..10000."""
    with pytest.raises(ValueError, match=r"0\.\.10000"):
        ClientSplitRouter(order).set_limit(limit)


@contextmanager
def two_arms(*, refused: bool = False) -> Generator[tuple[Seen, Seen]]:
    """Serve two plain servers that know nothing of arms; with `refused` the second one fails every request."""

    async def plain(path: str, session: str) -> bytes:
        del session
        return reply(doubled(path), arm="")

    async def failing(path: str, session: str) -> bytes:
        del path, session
        return reply("no", status="500 Internal Server Error", arm="")

    with serving(plain) as baseline, serving(failing if refused else plain) as candidate:
        yield baseline, candidate


def options(order: Path, baseline: Seen, candidate: Seen, *, seconds: float = 2.0) -> LoadOptions:
    """Return a short load on two servers."""
    return LoadOptions(
        url=f"http://127.0.0.1:{baseline.port}", candidate_url=f"http://127.0.0.1:{candidate.port}", split=str(order),
        prefix="answer", workload=str(WORKLOAD), root="", evidence=str(order.parent), rate=100, seconds=seconds,
        seed=3, process="constant", bounds_s=(0.01, 0.1, 0.5, 1.0), interval_s=0.5, late_s=0.05,
    )  # fmt: skip


def run(chosen: LoadOptions, steer: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the engine to its end while `steer` runs in a thread."""
    monkeypatch.setattr(calibration, "REQUESTS", 20)
    thread = threading.Thread(target=steer)
    thread.start()

    async def all_of_it() -> int:
        return await Engine(chosen, load_workload(WORKLOAD, {}, Path()), lambda _: None).run()

    assert uvloop.run(all_of_it()) == 0
    thread.join()


def test_the_load_goes_to_the_arms_as_ordered(order: Path, monkeypatch: pytest.MonkeyPatch):
    """Plain servers that tell no arm: each request is counted on the arm it went to, each session keeps to its own."""
    router = ClientSplitRouter(order)

    def steer() -> None:
        router.hold_lease()
        router.set_limit(5000)
        while not read_taken(order.parent):
            time.sleep(0.01)
        router.set_limit(5000)

    with two_arms(refused=True) as (baseline, candidate):
        chosen = options(order, baseline, candidate)
        run(chosen, steer, monkeypatch)
    router.drop_lease()
    records = [decode(line) for line in chosen.records_file.read_text(encoding="utf-8").splitlines()]
    errors = {arm: [r for r in records if r.signal == "answer.error" and r.arm is arm] for arm in Arm}
    assert sum(r.n for r in errors[Arm.BASELINE]) == baseline.requests
    assert sum(r.n for r in errors[Arm.CANDIDATE]) == sum(r.bad for r in errors[Arm.CANDIDATE]) == candidate.requests
    assert baseline.requests + candidate.requests == 200
    assert candidate.requests > 50
    assert all(bucket(session) < 5000 for session in candidate.sessions)
    assert not [r for r in records if r.signal.endswith(".unrouted")]
    assigned = [r for r in records if r.kind is Kind.ASSIGNMENT]
    assert sum(r.bad for r in assigned) > 0
    assert read_taken(order.parent) == [], "who has ended follows nothing"


def test_a_dead_candidate_is_the_candidates_failure(order: Path, monkeypatch: pytest.MonkeyPatch):
    """Nobody listens at its address: no header could name the arm, yet its requests are its errors."""
    router = ClientSplitRouter(order)

    def steer() -> None:
        router.hold_lease()
        router.set_limit(BUCKETS)

    with two_arms() as (baseline, candidate):
        chosen = options(order, baseline, candidate, seconds=1.0)
    with two_arms() as (baseline, _):
        run(replace(chosen, url=f"http://127.0.0.1:{baseline.port}"), steer, monkeypatch)
    router.drop_lease()
    records = [decode(line) for line in chosen.records_file.read_text(encoding="utf-8").splitlines()]
    dead = [r for r in records if r.signal == "answer.error" and r.arm is Arm.CANDIDATE]
    assert sum(r.n for r in dead) == sum(r.bad for r in dead) > 50


def test_load_goes_to_no_address_that_was_not_named(order: Path):
    """The candidate's address is held to the same rule as the other: loopback, unless a target file names it."""
    chosen = LoadOptions(
        url="http://127.0.0.1:1", candidate_url="http://192.0.2.1:80", split=str(order), prefix="a", workload="",
        root="", evidence="", rate=1, seconds=1, seed=1,
    )  # fmt: skip
    with pytest.raises(SpecError, match=r"loopback addresses only, found 192\.0\.2\.1"):
        chosen.check()
