"""The warm-up: a load that brings nothing to judge by ends the rollout before any traffic is moved."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import test_driver as rigs
from doubles import SimulatedClock
from test_rollout_command import Shop, shop  # noqa: F401 - a fixture

from harness import spec
from harness.adapters.load.options import deadline_s
from harness.model.event import Noted
from harness.model.evidence import Arm, Evidence, Kind, Source
from harness.model.status import Cause, Decision, Status
from harness.paths import share_root
from harness.planning.warmup import Brought, Expected, expected
from harness.ports import LoadHealth

pytestmark = pytest.mark.selftest

RATE = 10
EXPECTED = Expected(
    prefix="answer",
    awaited={"errors": "answer.error", "wrong": "answer.wrong"},
    declared=frozenset({"answer.error", "answer.latency", "answer.wrong"}),
    patience_s=8.0,
)


def events(signal: str, start_s: float, n: int, bad: int = 0, arm: Arm | None = Arm.BASELINE) -> Evidence:
    """Return one second's count, as the load writes it."""
    unrouted = "" if arm else ".unrouted"
    return Evidence(
        kind=Kind.EVENTS, source=Source.CLIENT, signal=f"answer.{signal}{unrouted}", arm=arm, start_s=start_s,
        end_s=start_s + 1, n=n, bad=bad,
    )  # fmt: skip


@dataclass
class ToldLoad:
    """A load that writes one record a second and signal; `slow_s` after its time, and none of what never ends."""

    clock: SimulatedClock
    checks: Sequence[str] = ("wrong",)
    failing: bool = False
    arm: Arm | None = Arm.BASELINE
    slow_s: float = 0.0
    ends: bool = True
    running: bool = True
    since: float = field(init=False, default=0.0)

    def start(self) -> None:
        self.since = self.clock.now()

    def collect(self) -> Sequence[Evidence]:
        found: list[Evidence] = []
        while self.ends and self.since + 1 + self.slow_s <= self.clock.now():
            found.append(events("error", self.since, RATE, RATE * self.failing, self.arm))
            if not self.failing:
                found += [events(name, self.since, RATE, 0, self.arm) for name in self.checks]
            self.since += 1
        return found

    def health(self) -> LoadHealth:
        return LoadHealth(running=self.running)

    def stop(self) -> None:
        self.running = False


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    """Close what the rigs of a test opened."""
    yield from rigs.closing.__wrapped__()


def drive(folder: Path, warmup_s: float = 4.0, **more: object) -> rigs.Rig:
    """Run a whole rollout of a release that nothing speaks against, with that load."""
    rig = rigs.make_rig(folder, [Status.PASS], plan=replace(rigs.PLAN, warmup_s=warmup_s))
    load = ToldLoad(rig.load.clock, **more)
    load.start()
    rig.driver = rigs.Driver(rig.driver.plan, replace(rig.driver.parts, load=load, expected=EXPECTED))
    rigs.run(rig)
    return rig


UNUSABLE = {
    "all fail": ({"failing": True}, "all 40 requests of the warm-up failed — try one"),
    "all fail before the router names an arm": ({"failing": True, "arm": None}, "named an arm: is the router up?"),
    "answers without an arm": ({"arm": None}, "none of the 40 requests of the warm-up named an arm"),
    "none ends": ({"ends": False}, "no request of the warm-up was answered"),
    "a dead generator": ({"ends": False, "running": False}, "no request of the warm-up was answered"),
    "a check that nobody declared": (
        {"checks": ("rong",)},
        "the load writes `answer.rong`, which system.yaml does not declare, and never wrote `answer.wrong` (wrong)",
    ),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_unusable_load_ends_the_rollout_before_any_traffic_is_moved(case: str, tmp_path: Path) -> None:
    """Planted: by the environment's fault, with the reason; no stage is entered, no share above 0 ever asked for."""
    more, said = UNUSABLE[case]
    rig = drive(tmp_path, **more)
    state = rig.driver.state
    assert (state.decision, state.cause) == (Decision.ROLLBACK, Cause.ENVIRONMENT)
    assert state.reason.startswith("before any traffic was moved: ")
    assert said in state.reason
    assert set(rig.router.history) == {0}
    assert rig.driver.records == []


USABLE = {
    "sound": {},
    "half of it is late": {"slow_s": 3.0},
    "all of it comes after the warm-up": {"slow_s": 9.0},
    "more checks than declared": {"checks": ("wrong", "rong")},
    "one that never came, and nothing strange": {"checks": ()},
}


@pytest.mark.parametrize("case", USABLE)
def test_a_usable_load_goes_on(case: str, tmp_path: Path) -> None:
    """The negative controls: slow answers are waited for, a rare check alone is a warning."""
    rig = drive(tmp_path, **USABLE[case])
    assert rig.driver.state.decision is Decision.PROMOTE
    told = [event.text for event in rig.sink.events if isinstance(event, Noted) and "not heard of" in event.text]
    assert told == (
        ["not heard of in the warm-up: `answer.wrong` (wrong); the load wrote `answer.error`"]
        if case.startswith("one")
        else []
    )


def test_without_a_warm_up_nothing_is_said_of_the_load(tmp_path: Path) -> None:
    """A plan that asks for none has none."""
    assert drive(tmp_path, warmup_s=0.0, ends=False).driver.state.decision is Decision.PROMOTE


def test_a_few_failures_say_nothing() -> None:
    """Four of four: a start's first refusals are no outage."""
    few, more = Brought(EXPECTED), Brought(EXPECTED)
    few.add([events("error", 0.0, 4, 4)])
    more.add([events("error", 0.0, 5, 5)])
    assert few.unusable() == ""
    assert more.unusable() != ""


AWAITED = {
    "minimal": {"answer.error", "answer.latency", "answer.wrong"},
    "researchflow": {"query.error", "query.latency", "query.wrong"},
}


@pytest.mark.parametrize("name", AWAITED)
def test_the_shipped_systems_wait_for_what_their_load_writes(name: str) -> None:
    """Their guardrails' client signals are all declared; the patience is a request's own deadline."""
    system = spec.load_system(share_root() / "stack" / "systems" / name)
    found = expected(system, deadline_s(system.traffic.bounds_s))
    assert AWAITED[name] <= set(found.awaited.values()) <= found.declared
    assert found.patience_s >= 5


@pytest.mark.timeout(120)
@pytest.mark.parametrize("case", ["answers without an arm", "a check that nobody declared"])
def test_the_commands_own_load_is_held_to_it_too(case: str, shop: Shop) -> None:  # noqa: F811 - a fixture
    """On two servers, by the real generator: exit code 4 with the reason, and the flag stays where it was."""
    plan, described = shop.folder / "shop" / "rollout.yaml", shop.folder / "shop" / "system.yaml"
    plan.write_text(plan.read_text(encoding="utf-8").replace("warmup_s: 0", "warmup_s: 2"), encoding="utf-8")
    words = "requests of the warm-up named an arm"
    if case == "a check that nobody declared":
        shop.baseline.arm = "baseline"
        for path in (described, shop.folder / "shop" / "objectives.yaml"):
            path.write_text(path.read_text(encoding="utf-8").replace("answer.wrong", "answer.amiss"), encoding="utf-8")
        words = "the load writes `answer.wrong`, which system.yaml does not declare, and never wrote `answer.amiss`"
    code, said = shop.run("--target-percentage", "50", "--force", "--load")
    assert (code, words in said) == (4, True), said
    assert set(shop.flags().values()) == {0.0}
