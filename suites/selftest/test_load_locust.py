"""LocustLoad as a run uses it: real processes, killed, stalled, stopped; and a scenario run by hand."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from known_server import Seen, right, serving

from harness.adapters.load import LocustLoad
from harness.adapters.load.status import read_status
from harness.model.errors import EnvironmentProblem
from harness.model.evidence import Arm
from harness.model.plan import Stage, StagePlan
from harness.model.system import Scenario, System, Traffic
from harness.paths import share_root

pytestmark = pytest.mark.selftest

SYSTEM = System(
    name="known",
    title="a server of known behaviour",
    root=share_root() / "stack" / "systems" / "minimal",
    services=(),
    traffic=Traffic(
        entry="server.http", gateway="server", session_header="X-Session-ID", force_header="X-Rollgate-Arm",
        arm_header="X-Arm", version_header="X-Version", bounds_s=(0.01, 0.1, 1.0),
    ),
    signals=(),
    objectives=(),
    plans=(),
    scenario=Scenario(name="answer", locustfile="scenarios/answer.py"),
)  # fmt: skip
PLAN = StagePlan(
    name="short", stages=(Stage(id="10", share=10, min_bake_s=1, max_bake_s=2),), warmup_s=1, settle_s=0, deadline_s=9,
    look_s=0.5,
)  # fmt: skip


def load_on(server: Seen, out: Path, *, max_seconds: float = 60, system: System = SYSTEM) -> LocustLoad:
    """Return a load of 60 req/s on `server`, not started."""
    (out / "stack.json").write_text(json.dumps({"entry": f"127.0.0.1:{server.port}"}), encoding="utf-8")
    return LocustLoad(system, out / "stack.json", PLAN, out=out, seed=1, rate=60, max_seconds=max_seconds)


def wait_until(holds: Callable[[], object], seconds: float) -> float:
    """Wait until `holds()`; return how long it took, or fail."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, "it did not come about in time"
        time.sleep(0.02)
    return time.monotonic() - began


def sent(load: LocustLoad) -> int:
    """Return how many requests were sent so far."""
    status = load.status()
    return status.sent if status else 0


def test_a_load_hands_over_its_evidence_and_reconciles_at_the_stop(tmp_path: Path) -> None:
    """Sound while it runs, sound after the stop, and the server saw exactly what the evidence counts."""
    with serving(right) as server:
        load = load_on(server, tmp_path)
        assert not load.health().running
        load.start()
        assert load.health().running
        wait_until(lambda: sent(load) > 120, 20)
        early = list(load.collect())
        assert early
        assert load.health().problems == ()
        load.stop()
        load.stop()
        records = [*early, *load.collect()]
        assert load.health().problems == ()
        assert not load.health().running
    errors = [r for r in records if r.signal == "answer.error"]
    assert sum(r.n for r in errors) == server.requests == sent(load)
    assert {r.arm for r in errors} == set(Arm)
    assert sum(r.bad for r in errors) == 0
    assert load.collect() == []


def test_a_killed_generator_is_noticed_within_three_seconds(tmp_path: Path) -> None:
    """SIGKILL, as the kernel's would be: the load is INVALID at once, and stays so."""
    with serving(right) as server:
        load = load_on(server, tmp_path)
        load.start()
        assert load.health().problems == ()
        load.kill()
        assert wait_until(lambda: load.health().problems, 5) <= 3
        load.stop()
    assert not load.health().running
    assert any("gone" in problem or "lost" in problem for problem in load.health().problems)


def test_a_stalled_generator_is_noticed_while_it_stalls_and_after(tmp_path: Path) -> None:
    """Frozen for 4 s: no heartbeat while it lasts, send lag ever after; its requests are all accounted for."""
    with serving(right) as server:
        load = load_on(server, tmp_path)
        load.start()
        wait_until(lambda: sent(load) > 60, 20)
        load.stall(4)
        wait_until(lambda: any("stalled" in problem for problem in load.health().problems), 4)
        wait_until(lambda: any("send lag" in problem for problem in load.health().problems), 5)
        load.stop()
        assert any("send lag" in problem for problem in load.health().problems)
        assert sum(r.n for r in load.collect() if r.signal == "answer.error") == server.requests == sent(load)


def test_a_router_that_is_gone_makes_the_load_invalid(tmp_path: Path) -> None:
    """Refusals name no arm and so no judgement of an arm sees them: the load says so, and still after the stop."""
    with serving(right) as server:
        load = load_on(server, tmp_path)
        load.start()
        wait_until(lambda: sent(load) > 270, 20)
        assert load.health().problems == ()
    wait_until(lambda: load.health().problems, 10)
    load.stop()
    told = [problem for problem in load.health().problems if "named no arm" in problem]
    assert len(told) == 1
    assert "is the router up? see its log" in told[0]


def test_a_schedule_that_ends_before_the_run_is_a_problem(tmp_path: Path) -> None:
    """A second of load in a run that goes on: silence must not look like health."""
    with serving(right) as server:
        load = load_on(server, tmp_path, max_seconds=1)
        load.start()
        wait_until(lambda: load.health().problems, 10)
    assert "before the run did" in " ".join(load.health().problems)
    load.stop()


def test_a_load_that_cannot_start_says_why(tmp_path: Path) -> None:
    """A workload that refuses its options: exit 4 with a mend, not a traceback, and nothing left behind."""
    (tmp_path / "workloads").mkdir()
    (tmp_path / "workloads" / "broken.py").write_text("def workload(options, root):\n    raise ValueError('no')\n")
    (tmp_path / "broken.py").write_text((share_root() / "scenarios" / "answer.py").read_text())
    broken = System(
        name="known", title="", root=tmp_path, services=(), traffic=SYSTEM.traffic, signals=(), objectives=(), plans=(),
        scenario=Scenario(name="answer", locustfile="broken.py"),
    )  # fmt: skip
    with serving(right) as server:
        load = load_on(server, tmp_path, system=broken)
        with pytest.raises(EnvironmentProblem, match="the load did not start"):
            load.start()
    assert not load.health().running


@pytest.mark.parametrize("workers", [1, 2])
def test_a_scenario_runs_by_hand(tmp_path: Path, workers: int) -> None:
    """Plain `locust -f`, alone and with worker processes: the slices make up the schedule, Locust counts them all."""
    environment = {**os.environ, "ROLLGATE_LOAD_OUT": str(tmp_path), "ROLLGATE_LOAD_RATE": "50"}
    with serving(right) as server:
        command = [
            sys.executable, "-m", "locust", "-f", str(share_root() / "scenarios" / "answer.py"), "--headless",
            "--host", f"http://127.0.0.1:{server.port}", "--run-time", "9s", "--users", str(workers),
            "--spawn-rate", "9", "--stop-timeout", "10", "--json",
            *(["--processes", str(workers)] if workers > 1 else []),
        ]  # fmt: skip
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    statuses = [read_status(path) for path in tmp_path.glob("load-status*.json")]
    assert len(statuses) == workers
    total = sum(status.sent for status in statuses if status)
    assert total == server.requests > 20
    assert sum(int(n) for n in re.findall(r'"num_requests": (\d+)', done.stdout)) == total
