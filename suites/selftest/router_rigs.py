"""Rigs of the real routers: HAProxy, nginx, the flag file as the gateway reads it, the load's own split."""

import contextlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from native_runs import until
from router_conformance import PATIENCE_S, limit_of
from router_places import Running, accepts, ask, free_ports, program, two_arms

from harness.adapters.client_split import ClientSplitRouter
from harness.adapters.flags_file import FileFlags
from harness.adapters.haproxy import AdminSocket, HAProxyRouter
from harness.adapters.load.split import BEAT_S, Follower, read_order, taken_file, write_order
from harness.adapters.routers.flag_router import FlagRouter
from harness.adapters.routers.nginx import NginxRouter, split_file
from harness.model.evidence import Arm
from harness.paths import share_root
from harness.ports import Router
from rollgate_gateway.flags import Definitions, LiveFlags

ROOT = Path(__file__).resolve().parents[2]
START_S = 30.0  # a busy machine starts a program in seconds


class HAProxyRig:
    """HAProxy with the shipped configuration.

    `remote`: by TCP alone, without its map file. `by_file`: the lease is a socket file, as for one in a container.
    """

    forces = True
    patience_s = PATIENCE_S

    def __init__(self, folder: Path, arms: Mapping[Arm, int], *, remote: bool, by_file: bool = False) -> None:
        self.keeps = not remote
        self._lease_file = folder / "lease.sock" if by_file else None
        self.folder = folder
        self._port, stats, self._lease, admin = free_ports(4)
        self._admin = f"127.0.0.1:{admin}" if remote else str(folder / "admin.sock")
        (folder / "limits.map").write_text("candidate 0\nsettled 0\n", encoding="ascii")
        text = (share_root() / "stack/systems/minimal/router.cfg").read_text(encoding="utf-8")
        lease = f"unix@{self._lease_file}" if by_file else f"127.0.0.1:{self._lease}"
        for name, value in {
            "port.http": self._port, "port.stats": stats, "lease": lease, "dir": folder, "listen": "127.0.0.1",
            "env.LIMIT_FACTOR_PERCENT": 100, "app[baseline].http": f"127.0.0.1:{arms[Arm.BASELINE]}",
            "app[candidate].http": f"127.0.0.1:{arms[Arm.CANDIDATE]}",
        }.items():  # fmt: skip
            text = text.replace(f"${{{name}}}", str(value))
        if remote:
            text = text.replace("unix@admin.sock mode 600", self._admin)
        (folder / "haproxy.cfg").write_text(text, encoding="utf-8")
        haproxy = program("haproxy")
        self._running = Running([haproxy.path, "-W", "-db", "-f", folder / "haproxy.cfg"], folder, haproxy.env)
        self.router = self.another()

    def await_start(self) -> None:
        assert until(lambda: limit_of(self.router) == 0, within=START_S), self._running.said()

    def another(self) -> HAProxyRouter:
        if not self.keeps:
            return HAProxyRouter(self._admin, lease_port=self._lease)
        map_file = self.folder / "limits.map"
        if self._lease_file:
            return HAProxyRouter(Path(self._admin), map_file, str(map_file), lease_file=self._lease_file)
        return HAProxyRouter(Path(self._admin), map_file, str(map_file), self._lease)

    def meddle(self, limit: int) -> None:
        AdminSocket(self._admin).command(f"set map {self.folder}/limits.map candidate {limit}")

    def renewals(self) -> Mapping[str, Callable[[], None]]:
        return {"reload": self._reload, "restart": self._restart}

    def stop(self) -> None:
        self._running.end()

    def arms(self, sessions: Sequence[str], force: str = "") -> list[str]:
        return ask(self._port, sessions, force)

    def close(self) -> None:
        self.router.drop_lease()
        self._running.end()

    def _reload(self) -> None:
        before = self._pid()
        self._running.signal(signal.SIGUSR2)
        assert until(lambda: self._pid() not in ("", before), within=START_S), self._running.said()

    def _pid(self) -> str:
        """Return the id of the worker that answers, "" while none does."""
        with contextlib.suppress(Exception):
            told = AdminSocket(self._admin).command("show info").splitlines()
            return next(line for line in told if line.startswith("Pid:"))
        return ""

    def _restart(self) -> None:
        self._running.end()
        self._running.start()


class NginxRig:
    """nginx with the configuration that docs/routers.md shows; `by_signal`: reloaded by its process id."""

    forces = keeps = True
    patience_s = PATIENCE_S

    def __init__(self, folder: Path, arms: Mapping[Arm, int], *, by_signal: bool) -> None:
        self.folder, self._by_signal = folder, by_signal
        self.port, self.status = free_ports(2)
        self.file = folder / "rollgate-split.conf"
        self.file.write_text(split_file(0), encoding="ascii")
        shown = (ROOT / "docs/routers.md").read_text(encoding="utf-8").split("```nginx\n")[1].split("```")[0]
        for old, new in {
            "/etc/nginx/rollgate-split.conf": self.file, "listen 8080": f"listen 127.0.0.1:{self.port}",
            "127.0.0.1:8081": f"127.0.0.1:{self.status}", "127.0.0.1:8001": f"127.0.0.1:{arms[Arm.BASELINE]}",
            "127.0.0.1:8002": f"127.0.0.1:{arms[Arm.CANDIDATE]}",
        }.items():  # fmt: skip
            assert old in shown
            shown = shown.replace(old, str(new))
        places = "".join(f"{name}_temp_path {folder}/{name};\n" for name in NEEDED_FOLDERS)
        user = "user root;\n" if os.geteuid() == 0 else ""
        self.conf = folder / "nginx.conf"
        self.conf.write_text(
            f"{user}daemon off;\nworker_processes 2;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n"
            f"events {{ worker_connections 128; }}\nhttp {{\naccess_log off;\n{places}{shown}}}\n",
            encoding="utf-8",
        )
        nginx = program("nginx")
        self.command = [str(nginx.path), "-e", str(folder / "error.log"), "-c", str(self.conf)]
        self._running = Running(self.command, folder, nginx.env)
        self.router = self.another()

    def await_start(self) -> None:
        assert until(lambda: limit_of(self.router) == 0, within=START_S), self._running.said()

    def another(self) -> NginxRouter:
        reload = self.folder / "nginx.pid" if self._by_signal else [*self.command, "-s", "reload"]
        url = f"http://127.0.0.1:{self.status}/rollgate/limit"
        return NginxRouter(self.file, url, check=[*self.command, "-t"], reload=reload)

    def meddle(self, limit: int) -> None:
        self.file.write_text(split_file(limit), encoding="ascii")
        self._running.signal(signal.SIGHUP)

    def renewals(self) -> Mapping[str, Callable[[], None]]:
        return {"reload": lambda: self._running.signal(signal.SIGHUP), "restart": self._restart}

    def stop(self) -> None:
        self._running.end()

    def arms(self, sessions: Sequence[str], force: str = "") -> list[str]:
        return ask(self.port, sessions, force)

    def close(self) -> None:
        self._running.end()

    def _restart(self) -> None:
        self._running.end()
        assert until(lambda: not accepts(self.port), within=START_S)
        self._running.start()


NEEDED_FOLDERS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class FlagsRig:
    """A flag file, and the gateway's own reading of it as the application."""

    forces, keeps = False, True
    patience_s = PATIENCE_S

    def __init__(self, folder: Path) -> None:
        self._file = folder / "flags.json"
        self._file.write_text('{"vector_search": 0, "semantic_cache": 100}\n', encoding="utf-8")
        self.router = self.another()

    def await_start(self) -> None:
        self._start()

    def another(self) -> FlagRouter:
        return FlagRouter(FileFlags(self._file), "vector_search")

    def meddle(self, limit: int) -> None:
        self._file.write_text(json.dumps({"vector_search": limit / 100, "semantic_cache": 100}), encoding="utf-8")

    def renewals(self) -> Mapping[str, Callable[[], None]]:
        return {"restart": self._start}

    def stop(self) -> None:
        self._file.unlink()
        self._file.mkdir()

    def arms(self, sessions: Sequence[str], force: str = "") -> list[str]:
        assert not force
        on = ["vector_search" in self._application.features(session) for session in sessions]
        return [Arm.CANDIDATE if one else Arm.BASELINE for one in on]

    def close(self) -> None:
        pass

    def _start(self) -> None:
        self._application = LiveFlags(self._file, Definitions({}, {}), {})


class ClientRig:
    """The load's own split: an order on disk, and the side that a generator has of it."""

    forces, keeps = False, True
    patience_s = PATIENCE_S

    def __init__(self, folder: Path) -> None:
        self._file = folder / "split" / "order.json"
        self._file.parent.mkdir()
        self.router: Router = self.another()
        self._start()

    def await_start(self) -> None:
        pass

    def another(self) -> ClientSplitRouter:
        return ClientSplitRouter(self._file)

    def meddle(self, limit: int) -> None:
        now = read_order(self._file)
        write_order(self._file, replace(now, limit=limit, beat=now.beat + 1))

    def renewals(self) -> Mapping[str, Callable[[], None]]:
        return {"restart": self._restart}

    def stop(self) -> None:
        self._end()
        shutil.rmtree(self._file.parent)
        self._file.parent.write_text("in the way", encoding="utf-8")

    def arms(self, sessions: Sequence[str], force: str = "") -> list[str]:
        assert not force
        return [self._load.arm(session) for session in sessions]

    def close(self) -> None:
        self.router.drop_lease()
        self._end()

    def _start(self) -> None:
        self._load, self._ending = Follower(self._file, taken_file(self._file.parent, 0)), threading.Event()
        self._load.follow()
        self._thread = threading.Thread(target=self._follow, args=(self._load, self._ending), daemon=True)
        self._thread.start()

    @staticmethod
    def _follow(load: Follower, ending: threading.Event) -> None:
        while not ending.wait(BEAT_S / 10):
            load.follow()

    def _end(self) -> None:
        self._ending.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._load.end()

    def _restart(self) -> None:
        self._end()
        self._start()


@contextmanager
def real_rig(kind: str, folder: Path) -> Iterator[HAProxyRig | NginxRig | FlagsRig | ClientRig]:
    """Bring up one of the real routers by name."""
    with two_arms() as arms:
        rig = {
            "haproxy": lambda: HAProxyRig(folder, arms, remote=False),
            "haproxy by file": lambda: HAProxyRig(folder, arms, remote=False, by_file=True),
            "haproxy by TCP": lambda: HAProxyRig(folder, arms, remote=True),
            "nginx": lambda: NginxRig(folder, arms, by_signal=False),
            "nginx by signal": lambda: NginxRig(folder, arms, by_signal=True),
            "flags": lambda: FlagsRig(folder),
            "client": lambda: ClientRig(folder),
        }[kind]()
        try:
            rig.await_start()
            yield rig
        finally:
            rig.close()
