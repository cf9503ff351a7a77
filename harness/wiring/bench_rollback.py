"""`rollgate bench rollback`: weights moved under load, and a live rollout whose candidate goes bad on the way."""

import json
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness import spec
from harness.adapters.clock import SystemClock
from harness.adapters.native import NativeProvider
from harness.adapters.processes import clean_environment, start
from harness.adapters.rollouts import RolloutFolder
from harness.bench.rollback.answers import Block, Got, read_answers, returned, served
from harness.bench.rollback.table import Moved, RolledBack, Setting, back_line, markdown, moved_line
from harness.bench.rollback.users import Options, write_options
from harness.model.errors import EnvironmentProblem, SpecError
from harness.model.evidence import Arm
from harness.model.system import Release, System
from harness.paths import cache_root, share_root
from harness.ports import Stack
from harness.wiring.choices import choose_plan
from harness.wiring.provenance import code_digest, commit
from harness.wiring.site import prepare

_LIMITS = (0, 1000, 2500, 5000, 7500, 10_000)
_HALF = 5000
_EVERY_S, _WARM_S, _SOON_S, _AFTER_S = 0.2, 5.0, 3.0, 8.0
_ROLLOUT_S = 300.0
_SWITCH = "SWITCH"
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What to bench: `pairs` of blocks of `block_s`, one still and one moving, then one rollback for each release."""

    system: System
    plan: str
    rate: float
    pairs: int
    block_s: float
    out: Path


def bench_rollback(asked: Asked, *, table: Path | None, echo: Callable[[str], None]) -> int:
    """Run it on stacks of this machine; return 1 where moved weights cost a request, or a rollback went wrong.

    Raises SpecError where the system has no releases for it.
    """
    system = asked.system
    paths = sorted((system.root / "rollback").glob("*.yaml"))
    if not paths or not system.traffic.feature:
        msg = f"{system.name} has no releases for this bench"
        raise SpecError(msg, where=str(system.root / "rollback"), mend="add one whose fault waits for the file SWITCH")
    prepare(system, cache_root(), echo)
    moved: Moved | None = None
    backs: list[RolledBack] = []
    for path in paths:
        with _up(asked, spec.load_release(path, system)) as bench:
            if moved is None:
                moved = bench.move(echo)
                echo(moved_line("still", moved.still))
                echo(moved_line("moving", moved.moving))
            backs.append(bench.roll_back(echo))
            echo(back_line(backs[-1]))
    assert moved is not None  # noqa: S101 - there is a release
    origin = ", ".join(filter(None, (f"code {code_digest(system.root)[:12]}", commit() and f"commit {commit()}")))
    setting = Setting(
        system=system.name,
        feature=system.traffic.feature,
        plan=asked.plan,
        rate=asked.rate,
        pairs=asked.pairs,
        block_s=asked.block_s,
        origin=origin,
    )
    text = markdown(setting, moved, backs)
    for place in filter(None, (asked.out / "table.md", table)):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    lost = moved.moving.failed
    echo(f"{lost} requests failed while weights moved; {sum(not one.sound for one in backs)} rollbacks went wrong")
    return 1 if lost or not all(one.sound for one in backs) else 0


@contextmanager
def _up(asked: Asked, release: Release) -> "Generator[_Bench]":
    """Bring a stack up with `release`, whose switch is not there yet."""
    run_id = f"rollback-{secrets.token_hex(3)}"
    out = asked.out / f"{release.name}-{run_id[-6:]}"
    out.mkdir(parents=True)
    switch = out / "switch"
    env = tuple(
        (name, tuple((key, str(switch) if value == _SWITCH else value) for key, value in pairs))
        for name, pairs in release.env
    )
    baseline = spec.load_release(spec.find_release(asked.system, "baseline"), asked.system)
    provider = NativeProvider(
        asked.system,
        {Arm.BASELINE: baseline, Arm.CANDIDATE: replace(release, env=env)},
        out=out,
        state=cache_root() / "run" / run_id,
        run_id=run_id,
        time_scale=choose_plan(asked.system, "native", asked.plan, 1.0).time_scale,
        cache=cache_root(),
        on_event=lambda _: None,
    )
    stack = provider.up()
    try:
        yield _Bench(asked=asked, release=release, provider=provider, stack=stack, out=out, switch=switch)
    finally:
        provider.down()


@dataclass(slots=True, kw_only=True)
class _Bench:
    """One stack that is up."""

    asked: Asked
    release: Release
    provider: NativeProvider
    stack: Stack
    out: Path
    switch: Path
    _files: list[Path] = field(default_factory=list[Path])

    def move(self, echo: Callable[[str], None]) -> Moved:
        """Move weights up and down under load, in blocks by turns with blocks in which nothing moves."""
        router, asked = self.provider.router(), self.asked
        draw, blocks = random.Random(7), list[Block]()
        router.hold_lease()
        try:
            router.set_limit(_HALF)
            with self._users() as answers:
                time.sleep(_WARM_S)
                for number in range(2 * asked.pairs):
                    echo(f"block {number + 1} of {2 * asked.pairs}: weights {'move' if number % 2 else 'stand still'}")
                    begin, moves, limit = time.time(), 0, _HALF
                    while time.time() < begin + asked.block_s:
                        if number % 2:
                            limit = draw.choice([one for one in _LIMITS if one != limit])
                            router.set_limit(limit)
                            moves += 1
                        time.sleep(_EVERY_S)
                    blocks.append(Block(begin=begin, end=time.time(), moves=moves))
                    router.set_limit(_HALF)
                time.sleep(_SOON_S)
            got = answers()
        finally:
            router.set_limit(0)
            router.drop_lease()
        return Moved(still=served(blocks[::2], got), moving=served(blocks[1::2], got))

    def roll_back(self, echo: Callable[[str], None]) -> RolledBack:
        """Have `rollgate rollout` raise the feature under load, make the candidate bad at 50 %, await its end."""
        system, router = self.asked.system, self.provider.router()
        target, folder = self._target(), self.out / "rollouts"
        words = ["rollout", str(system.root), "--feature", system.traffic.feature, "--target-percentage", "50"]
        words += ["--target", str(target), "--plan", self.asked.plan, "--force", "--out", str(folder)]
        with self._users() as answers, (self.out / "rollout.txt").open("w", encoding="utf-8") as said:
            time.sleep(_WARM_S)
            command = [sys.executable, "-m", "harness.cli.main", *words]
            process = subprocess.Popen(command, stdout=said, stderr=said, stdin=subprocess.DEVNULL)
            try:
                _await(lambda: router.read().limit == _HALF or process.poll() is not None)
                time.sleep(_SOON_S)
                planted = time.time()
                self.switch.touch()
                echo(f"{self.release.name}: the fault is planted")
                _await(lambda: process.poll() is not None)
            finally:
                process.terminate()
                code = process.wait()
            until = time.time() + _AFTER_S
            time.sleep(_AFTER_S)
        entries = RolloutFolder(folder, SystemClock()).entries()
        reason = next((entry.why for entry in reversed(entries) if entry.kind == "finish"), "")
        told = returned(answers(), entries, planted, until)
        return RolledBack(release=self.release, code=code, reason=reason, told=told, limit=router.read().limit)

    def _target(self) -> Path:
        """Write the target file of a stack that is, for the rollout, somebody's deployed one."""
        described = json.loads((self.out / "stack.json").read_text(encoding="utf-8"))
        gateway, told = described["gateway"], described["router"]
        port = self.asked.system.service(gateway).health.port
        target = {
            "schema": 1,
            **{arm.value: {"url": f"http://{self.stack.address(gateway, port, arm)}"} for arm in Arm},
            "entry": f"http://{described['entry']}",
            "router": {
                "kind": "haproxy",
                "admin": told["socket"],
                "map": told["map_name"],
                "map_file": told["map_file"],
                "lease": f"127.0.0.1:{told['lease_port']}",
            },
            "flags": {"file": described["flags_file"]},
        }
        if metrics := self.asked.system.traffic.metrics_service:
            service, _, name = metrics.partition(".")
            target["prometheus"] = {"url": f"http://{self.stack.address(service, name)}"}
        path = self.out / "target.yaml"
        path.write_text(json.dumps(target, indent=1) + "\n", encoding="utf-8")
        return path

    @contextmanager
    def _users(self) -> Generator[Callable[[], list[Got]]]:
        """Let users ask as long as the block lasts; what is yielded returns their answers afterwards."""
        system, number = self.asked.system, len(self._files)
        self._files.append(self.out / f"answers-{number}.jsonl")
        scenario, traffic = system.scenario, system.traffic
        locustfile = share_root() / scenario.locustfile
        entry = json.loads((self.out / "stack.json").read_text(encoding="utf-8"))["entry"]
        options = Options(
            port=int(entry.rpartition(":")[2]),
            workload=str(locustfile.parent / "workloads" / locustfile.name),
            root=str(system.root),
            options=dict(scenario.options),
            session_header=traffic.session_header,
            arm_header=traffic.arm_header,
            rate=self.asked.rate,
            seconds=3600.0,
            seed=number + 1,
            answers=str(self._files[-1]),
        )
        path = self.out / f"users-{number}.json"
        write_options(options, path)
        process = start(
            [sys.executable, "-m", "harness.bench.rollback.users", str(path)],
            env={**clean_environment(), "PYTHONPATH": str(_ROOT)},
            cwd=self.out,
            log=self.out / "users.log",
        )
        try:
            yield lambda: read_answers(self._files[number])
            if not process.running:
                msg = f"the users' process is gone ({process.exit_note}): {self.out / 'users.log'}"
                raise EnvironmentProblem(msg)
        finally:
            process.terminate()


def _await(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + _ROLLOUT_S
    while not condition():
        if time.monotonic() > until:
            msg = f"the rollout did not come on within {_ROLLOUT_S:g} s"
            raise EnvironmentProblem(msg, mend="see rollout.txt in the bench's folder; is the machine busy?")
        time.sleep(0.05)
