"""Brings up what a user has: two servers, a router, a copy of the smallest system and a target file."""

import json
import shutil
import socket
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from harness.adapters.free_ports import hold_port
from harness.adapters.processes import clean_environment, start
from harness.adapters.programs import ensure
from harness.bench.remote.cells import Case, Deployment
from harness.model.errors import EnvironmentProblem
from harness.paths import cache_root, share_root

_SERVERS = Path(__file__).with_name("servers.py")
_FLAG = "new_shop"
_START_S = 20.0
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a gate or a rollout needs of it: the system's folder, and the target file."""

    system: Path
    target: Path


@contextmanager
def deployed(folder: Path, case: Case, deployment: Deployment, seed: int) -> Generator[Place]:
    """Yield a user's stack in `folder`, which is made; everything is ended afterwards.

    Raises EnvironmentProblem for a part that does not start.
    """
    folder.mkdir(parents=True)
    system = folder / "shop"
    shutil.copytree(share_root() / "stack" / "systems" / "minimal", system)
    with ExitStack() as running:
        user = User(folder, running)
        for number, arm in enumerate(("baseline", "candidate")):
            if arm == "candidate" and not case.served:
                continue
            faults = case.faults if arm == "candidate" else ()
            words = ["--shape", deployment.shape, "--median-ms", str(deployment.median_ms), *faults]
            user.serve(arm, [*words, "--seed", str(2 * seed + number), "--version", f"1.{number}"])
        router = {"client": user.client, "flags": user.flags, "haproxy": user.haproxy}[deployment.router]()
        yield Place(system=system, target=user.target(router))


class User:
    """Starts one thing after the other in `folder`, each on a port of its own."""

    def __init__(self, folder: Path, running: ExitStack) -> None:
        """Hand what is started to `running`, which ends it."""
        self.folder, self._running = folder, running
        self.ports = {name: hold_port().release() for name in ("baseline", "candidate", "entry")}

    def serve(self, name: str, words: Sequence[str], port: int = 0) -> None:
        """Start a server of the user's own; `port` is the arm's by default."""
        command = [sys.executable, "-I", str(_SERVERS), "--port", str(port or self.ports[name]), *words]
        self.run(name, command, port or self.ports[name])

    def run(self, name: str, command: Sequence[str], port: int, env: Mapping[str, str] = NOTHING) -> None:
        """Start a program and wait until it takes connections. Raises EnvironmentProblem where it does not."""
        log = self.folder / f"{name}.log"
        process = start(command, env={**clean_environment(), **env}, cwd=self.folder, log=log)
        self._running.callback(process.terminate)
        until = time.monotonic() + _START_S
        while time.monotonic() < until and process.running:
            if _accepts(port):
                return
            time.sleep(0.05)
        tail = log.read_text(encoding="utf-8", errors="replace")[-400:] if log.exists() else ""
        msg = f"{name} takes no connections on 127.0.0.1:{port}: {tail or process.exit_note or 'it says nothing'}"
        raise EnvironmentProblem(msg)

    def target(self, router: Mapping[str, str]) -> Path:
        """Write the target file."""
        path = self.folder / "target.yaml"
        at = {name: f"'http://127.0.0.1:{port}'" for name, port in self.ports.items()}
        entry = "" if router["kind"] == "client" else f"entry: {at['entry']}\n"
        path.write_text(
            f"schema: 1\nbaseline: {{url: {at['baseline']}}}\ncandidate: {{url: {at['candidate']}}}\n"
            f"{entry}router: {json.dumps(router)}\n",
            encoding="utf-8",
        )
        return path

    def client(self) -> dict[str, str]:
        """Return the router of nobody but the load."""
        return {"kind": "client"}

    def flags(self) -> dict[str, str]:
        """Start the user's own application in front, which reads a flag live."""
        file = self.folder / "flags.json"
        file.write_text(json.dumps({_FLAG: 0}) + "\n", encoding="utf-8")
        arms = [word for name in ("baseline", "candidate") for word in (f"--{name}", str(self.ports[name]))]
        self.serve("front", ["--shape", "front", "--flags", str(file), "--flag", _FLAG, *arms], self.ports["entry"])
        return {"kind": "flags", "file": "flags.json", "flag": _FLAG}

    def haproxy(self) -> dict[str, str]:
        """Start HAProxy with the configuration that `rollgate init` gives, its addresses filled in by hand."""
        lease, admin, stats = (hold_port().release() for _ in range(3))
        text = (self.folder / "shop" / "router.cfg").read_text(encoding="utf-8")
        for name, value in {
            "port.http": self.ports["entry"],
            "port.stats": stats,
            "listen": "127.0.0.1",
            "lease": f"127.0.0.1:{lease}",
            "dir": self.folder,
            "env.LIMIT_FACTOR_PERCENT": 100,
            "app[baseline].http": f"127.0.0.1:{self.ports['baseline']}",
            "app[candidate].http": f"127.0.0.1:{self.ports['candidate']}",
        }.items():
            text = text.replace(f"${{{name}}}", str(value))
        config, limits = self.folder / "haproxy.cfg", self.folder / "limits.map"
        config.write_text(text.replace("unix@admin.sock mode 600", f"127.0.0.1:{admin}"), encoding="utf-8")
        shutil.copyfile(self.folder / "shop" / "limits.map", limits)
        found = ensure(["haproxy"], cache_root(), lambda _: None)["haproxy"]
        self.run("haproxy", [str(found.path), "-db", "-f", str(config)], self.ports["entry"], found.env)
        at = {"admin": f"127.0.0.1:{admin}", "lease": f"127.0.0.1:{lease}"}
        return {"kind": "haproxy", "map": str(limits), "map_file": str(limits), **at}


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.5).close()
    except OSError:
        return False
    return True
