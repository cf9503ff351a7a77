"""Where the real bench takes place: HAProxy with the shipped configuration, two arms, live flags and a journal."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from harness.adapters import processes
from harness.adapters.clock import SystemClock
from harness.adapters.flags_file import FileFlags, write_flags
from harness.adapters.free_ports import hold_port
from harness.adapters.haproxy import AdminSocket, HAProxyRouter
from harness.adapters.load.split import bucket
from harness.adapters.programs import ensure
from harness.adapters.rollouts import RolloutFolder
from harness.bench.driver.real_arms import two_arms
from harness.model.errors import EnvironmentProblem
from harness.model.evidence import Arm
from harness.paths import cache_root, share_root

FEATURE, CHILD = "search", "rank"
NEVER = 101.0
SHARES = (25.0, 50.0, 100.0)
_SESSIONS = tuple(f"user-{number}" for number in range(40))
_PLAN = """\
schema: 1
plans:
  full:
    time_scale: 1
    load_rate: 20
    warmup_s: 0
    settle_s: 0.05
    deadline_s: {deadline:g}
    patience_s: 2
    look_s: {look:g}
    interval_s: {look:g}
    holdout: 0
    on_inconclusive: rollback
    stages:
"""
_DEPENDS: Mapping[str, list[str]] = {FEATURE: [], CHILD: [FEATURE]}
_PATIENCE_S = 20.0
_AGAIN_S = 2.0


@dataclass(slots=True)
class Place:
    """One deployed system with its router. Shares are percent.

    `bad` is the share of the feature from which on the candidate errs, NEVER for a good release. Rollouts are kept in
    `elsewhere`, where that is set.
    """

    root: Path
    http: int
    lease: int
    bad: float = NEVER
    name: str = "w"
    elsewhere: Path | None = None
    process: processes.Process | None = None
    ports: Mapping[Arm, int] | None = None

    @property
    def folder(self) -> Path:
        """The folder of the world that is going on: target, flags, rollouts."""
        return self.root / self.name

    @property
    def out(self) -> Path:
        """The folder of the rollouts."""
        return self.elsewhere or self.folder / "rollouts"

    @property
    def flags(self) -> FileFlags:
        """The live flags."""
        return FileFlags(self.folder / "live.json", note=lambda _: None)

    @property
    def journal(self) -> RolloutFolder:
        """The rollouts' journal."""
        return RolloutFolder(self.out, SystemClock())

    @property
    def map_file(self) -> Path:
        """HAProxy's map."""
        return self.root / "haproxy" / "limits.map"

    def router(self) -> HAProxyRouter:
        """Return an adapter of one's own, which does not hold the lease."""
        return HAProxyRouter(self.map_file.with_name("admin.sock"), self.map_file, str(self.map_file), self.lease)

    def admin(self, line: str) -> str:
        """Say something to HAProxy behind everybody's back."""
        return AdminSocket(self.map_file.with_name("admin.sock")).command(line)

    def meddle(self, limit: int) -> None:
        """Move traffic by hand."""
        self.admin(f"set map {self.map_file} candidate {limit}")

    def moved_to(self, share: float) -> bool:
        """Tell whether the newest confirmed move of the journal went to `share`."""
        done = [e.what["to"] for e in self.journal.entries() if e.kind == "outcome" and e.what["ok"]]
        return done[-1:] == [share]

    def arguments(self, *more: str, feature: str = FEATURE) -> list[str]:
        """Return the words of `rollgate rollout` here."""
        target = str(self.folder / ("target.yaml" if feature == FEATURE else f"{feature}.yaml"))
        named = ["--feature", feature, "--out", str(self.out), "--target", target, "--force"]
        return ["rollout", str(self.root / "shop"), *named, *more]

    def fails(self) -> bool:
        """Tell whether the candidate errs now."""
        with suppress(EnvironmentProblem):
            return self.bad < NEVER and self.flags.read().get(FEATURE, 0.0) >= self.bad
        return False

    def describe(self, *, bake_s: float = 0.2, look_s: float = 0.05, deadline_s: float = 60.0) -> None:
        """Write the system's folder: the minimal one, with two flags, quick stages, and no suites."""
        shop = self.root / "shop"
        shutil.copytree(share_root() / "stack/systems/minimal", shop, dirs_exist_ok=True)
        stages = (f"      - {{share: {share:g}, min_bake_s: {bake_s:g}, max_bake_s: 20}}\n" for share in SHARES)
        plan = _PLAN.format(look=look_s, deadline=deadline_s) + "".join(stages)
        (shop / "rollout.yaml").write_text(plan, encoding="utf-8")
        flags = {
            name: {"rollout": 0, "target": 100, "strategy": "canary", "depends": depends}
            for name, depends in _DEPENDS.items()
        }
        (shop / "flags.json").write_text(json.dumps({"schema": 1, "flags": flags}), encoding="utf-8")
        text = (shop / "system.yaml").read_text(encoding="utf-8")
        head = text.partition("\ndefault_plans:")[0]
        head = head.replace("suites: [conformance]", "suites: []")
        (shop / "system.yaml").write_text(f"{head}\ndefault_plans: {{remote: full}}\n", encoding="utf-8")

    def fresh(self, world: str, base: float = 0.0) -> None:
        """Begin a new world in which `base` percent are settled: no journal yet, and nobody holds the lease."""
        self.name = world
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        write_flags(self.folder / "live.json", {**dict.fromkeys(_DEPENDS, 0.0), FEATURE: base})
        ports, beside = self.ports or {}, self.map_file.parent
        arms = "".join(f"{arm}: {{url: 'http://127.0.0.1:{ports[arm]}'}}\n" for arm in Arm)
        head = f"schema: 1\n{arms}entry: 'http://127.0.0.1:{self.http}'\nrouter: "
        haproxy = f"admin: {beside}/admin.sock, map_file: {self.map_file}, lease: '127.0.0.1:{self.lease}'"
        routers = {
            "target": f"{{kind: haproxy, {haproxy}}}\nflags: {{file: live.json}}\n",
            CHILD: "{kind: flags, file: live.json}\n",
        }
        for name, router in routers.items():
            (self.folder / f"{name}.yaml").write_text(head + router, encoding="utf-8")
        ours = self.router()
        ours.set_limit(round(base * 100))
        ours.settle(round(base * 100))
        wait(lambda: not ours.read().lease_held, "the lease to be gone")

    def users_see(self, percent: float) -> bool:
        """Tell whether exactly those users are on the candidate who belong there at `percent`."""
        with suppress(OSError, HTTPException):
            return self._on_candidate() == {one for one in _SESSIONS if bucket(one) < percent * 100}
        return False

    def _on_candidate(self) -> set[str]:
        connection = HTTPConnection("127.0.0.1", self.http, timeout=10)
        found: set[str] = set()
        try:
            for session in _SESSIONS:
                connection.request("GET", "/", headers={"X-Session-ID": session})
                answer = connection.getresponse()
                answer.read()
                if answer.getheader("X-Arm") == Arm.CANDIDATE:
                    found.add(session)
        finally:
            connection.close()
        return found

    def start(self) -> None:
        """Start HAProxy; it begins with what its map on disk says."""
        haproxy = ensure(["haproxy"], cache_root(), lambda _: None)["haproxy"]
        folder = self.map_file.parent
        env = processes.clean_environment() | haproxy.env
        command: Sequence[str | Path] = [haproxy.path, "-W", "-db", "-f", folder / "haproxy.cfg"]
        self.process = processes.start(command, env=env, cwd=folder, log=folder / "haproxy.log")
        wait(lambda: self._worker() != "", "HAProxy to start")

    def stop(self) -> None:
        """End HAProxy, as a machine that dies does."""
        if self.process is not None:
            self.process.terminate(0.0)
            self.process = None

    def reload(self) -> None:
        """Have HAProxy read its configuration again: a new worker, with what its map on disk says."""
        before, asked = self._worker(), -_AGAIN_S

        def another() -> bool:
            nonlocal asked
            if self.process is not None and time.monotonic() - asked > _AGAIN_S:  # one may be lost while it starts
                os.kill(self.process.pid, signal.SIGUSR2)
                asked = time.monotonic()
            return self._worker() not in {"", before}

        wait(another, "HAProxy to reload")

    def _worker(self) -> str:
        """Return the id of the worker that answers, "" while none does."""
        with suppress(EnvironmentProblem, StopIteration):
            return next(line for line in self.admin("show info").splitlines() if line.startswith("Pid:"))
        return ""

    def configure(self) -> None:
        """Write HAProxy's configuration: the shipped one."""
        ports = self.ports or {}
        stats = hold_port().release()
        text = (share_root() / "stack/systems/minimal/router.cfg").read_text(encoding="utf-8")
        for name, value in {
            "listen": "127.0.0.1", "port.http": self.http, "port.stats": stats, "lease": f"127.0.0.1:{self.lease}",
            "dir": self.map_file.parent, "env.LIMIT_FACTOR_PERCENT": 100,
            "app[baseline].http": f"127.0.0.1:{ports[Arm.BASELINE]}",
            "app[candidate].http": f"127.0.0.1:{ports[Arm.CANDIDATE]}",
        }.items():  # fmt: skip
            text = text.replace(f"${{{name}}}", str(value))
        self.map_file.parent.mkdir(parents=True, exist_ok=True)
        self.map_file.write_text("candidate 0\nsettled 0\n", encoding="ascii")
        self.map_file.with_name("haproxy.cfg").write_text(text, encoding="utf-8")


@contextmanager
def place(root: Path) -> Generator[Place]:
    """Yield a deployed system below `root`, which is up; nothing of it is left running."""
    made = Place(root=root, http=hold_port().release(), lease=hold_port().release())
    with two_arms(made.fails) as ports:
        made.ports = ports
        made.configure()
        made.describe()
        made.start()
        try:
            made.fresh("w")
            yield made
        finally:
            made.stop()


def wait(condition: Callable[[], object], what: str, *, within: float = _PATIENCE_S) -> float:
    """Wait until a condition is true; return the seconds that took. EnvironmentProblem where it stays false."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > within:
            raise EnvironmentProblem(f"waited {within:g} s for {what}", mend="is this machine very busy?")
        time.sleep(0.01)
    return time.monotonic() - began
