"""`rollgate rollout` from end to end: plain servers behind real routers, up by proof, back by a fault, and down."""

import itertools
import json
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from kubernetes_rigs import KINDS, LEFT_OPEN, KubernetesRig, kubernetes_rig
from native_runs import until
from router_places import Running, free_ports, program
from router_rigs import NginxRig
from typer.testing import CliRunner

from harness.adapters.clock import SystemClock
from harness.adapters.rollouts import RolloutFolder
from harness.bench.remote.place import User
from harness.cli.main import app
from harness.model.errors import RollgateError
from harness.model.evidence import Arm
from harness.paths import share_root
from harness.ports import Router

pytestmark = [
    pytest.mark.selftest,
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings(LEFT_OPEN),
    pytest.mark.filterwarnings("ignore:Unverified HTTPS request"),  # the real API server makes its own certificate
]

FEATURE = "new_shop"
PLAN = """\
schema: 1
plans:
  full:
    time_scale: 1
    load_rate: 60
    warmup_s: 0
    settle_s: 0.2
    deadline_s: 120
    patience_s: 20
    look_s: 0.25
    interval_s: 0.5
    holdout: 0
    on_inconclusive: rollback
    stages:
      - {share: 25, min_bake_s: 0.5, max_bake_s: 20}
      - {share: 50, min_bake_s: 0.5, max_bake_s: 60, until_proven: true}
      - {share: 100, min_bake_s: 0.5, max_bake_s: 40}
    margins: {minimal.vs_errors: 20, minimal.vs_wrong: 20, minimal.vs_latency_p95: 400, minimal.vs_quality: 30}
    informational: [minimal.vs_latency_p99]
"""


class Shop:
    """A user's two servers, a system that describes them, and what their rollouts leave."""

    def __init__(self, folder: Path, running: ExitStack, *, dies_after: int = 0) -> None:
        self.folder, self.user, self.broken = folder, User(folder, running), folder / "broken"
        shutil.copytree(share_root() / "stack" / "systems" / "minimal", folder / "shop")
        flags = {FEATURE: {"rollout": 0, "target": 100, "strategy": "canary", "depends": []}}
        (folder / "shop" / "flags.json").write_text(json.dumps({"schema": 1, "flags": flags}), encoding="utf-8")
        (folder / "shop" / "rollout.yaml").write_text(PLAN, encoding="utf-8")
        # Limits that some dozens of requests prove.
        self.change("objectives.yaml", "threshold: 5\n", "threshold: 30\n")
        self.change("objectives.yaml", "quantile: 0.95\n    threshold: 200", "quantile: 0.7\n    threshold: 200")
        self.change("system.yaml", "{native: quick, docker: quick, remote: full}", "{remote: full}")
        for arm in Arm:
            bad = ["--dies-after", str(dies_after), "--errors", "1", "--errors-while", str(self.broken)]
            self.user.serve(arm.value, ["--median-ms", "5", *(bad if arm is Arm.CANDIDATE else [])])
        self.arms = {arm: self.user.ports[arm.value] for arm in Arm}

    def change(self, name: str, old: str, new: str) -> None:
        """Change one of the system's files."""
        path = self.folder / "shop" / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    def target(self, router: Mapping[str, object], entry: int, **more: object) -> None:
        """Write the target file; JSON is YAML."""
        at = {arm.value: {"url": f"http://127.0.0.1:{port}"} for arm, port in self.arms.items()}
        whole = {"schema": 1, **at, "entry": f"http://127.0.0.1:{entry}", "router": router, **more}
        (self.folder / "target.yaml").write_text(json.dumps(whole), encoding="utf-8")

    def run(self, *more: str) -> tuple[int, str]:
        """Run the command in this process; return its exit code and what it said."""
        words = ["rollout", str(self.folder / "shop"), "--feature", FEATURE, "--out", str(self.folder / "rollouts")]
        done = CliRunner().invoke(app, [*words, "--target", str(self.folder / "target.yaml"), "--force", *more])
        if isinstance(done.exception, RollgateError):
            return done.exception.exit_code, str(done.exception)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    def shares(self) -> list[float]:
        """Return where traffic was really brought, move by move."""
        folder = RolloutFolder(self.folder / "rollouts", SystemClock())
        assert folder.broken_link() is None
        return [float(str(e.what["to"])) for e in folder.entries() if e.kind == "outcome" and e.what["ok"]]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    """Make shops, and end what they started."""
    with ExitStack() as running:
        yield lambda **how: Shop(tmp_path / f"shop{how.get('dies_after', 0)}", running, **how)


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path) -> None:
    for name in ("shop0", "shop3"):
        (tmp_path / name).mkdir()


@contextmanager
def nginx(shop: Shop) -> Iterator[NginxRig]:
    """Put a real nginx in front, with the configuration of the documentation."""
    rig = NginxRig(shop.folder, shop.arms, by_signal=False)
    try:
        rig.await_start()
        told = {"file": str(rig.file), "status_url": f"http://127.0.0.1:{rig.status}/rollgate/limit"}
        commands = {"check": [*rig.command, "-t"], "reload": [*rig.command, "-s", "reload"]}
        shop.target({"kind": "nginx", **told, **commands}, rig.port)
        yield rig
    finally:
        rig.close()


@contextmanager
def kubernetes(shop: Shop, kind: str, server: str) -> Iterator[KubernetesRig]:
    """Have a route on an API server, and a gateway that the test plays."""
    with kubernetes_rig(KINDS[kind], server, shop.folder) as rig:
        names = ("app-baseline", "app-candidate") if kind == "HTTPRoute" else ("app/baseline", "app/candidate")
        told = {"namespace": "shop", "route": "app", "baseline": names[0], "candidate": names[1]}
        kind_of = "gateway_api" if kind == "HTTPRoute" else "istio"
        shop.target({"kind": kind_of, "kubeconfig": str(rig.kubeconfig), **told}, shop.arms[Arm.BASELINE])
        yield rig


def up_down_and_back(shop: Shop, router: Router, *half_way: str) -> None:
    """Up to 50 and on to 100 by proof, --rollback to the 50 where that began, and down to 10, where it stays."""
    for words, share in {
        ("--target-percentage", "50", *half_way): 50,
        ("--target-percentage", "100"): 100,
        ("--rollback",): 50,
        ("--target-percentage", "10"): 10,
    }.items():
        code, said = shop.run(*words)
        assert (code, router.read().limit) == (0, 100 * share), said
    assert shop.shares() == [25, 50, 100, 50, 10]


def only_load_decides(shop: Shop, router: Router) -> None:
    """Where no probe decides, up is refused without load; down, --rollback and --status need none."""
    path = shop.folder / "shop" / "objectives.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("sources: [probe]", "sources: [probe]\n    severity: warning"), encoding="utf-8")
    code, said = shop.run("--target-percentage", "50")
    assert (code, "--load" in said) == (2, True), said
    for words, share in {("--status",): 10, ("--rollback",): 10, ("--target-percentage", "5"): 5}.items():
        code, said = shop.run(*words)
        assert (code, router.read().limit) == (0, 100 * share), said


def taken_back(shop: Shop, router: Router) -> None:
    """The candidate ends for good after some answers: exit code 1 by name, at 0, after traffic had moved."""
    code, said = shop.run("--target-percentage", "100")
    assert (code, router.read().limit) == (1, 0), said
    assert "candidate" in said
    assert shop.shares()[-1] == 0
    assert len(shop.shares()) > 1, "it was bad before any traffic"


def test_behind_nginx_plain_servers_go_up_by_load_down_and_back(made: Callable[..., Shop]) -> None:
    """Neither server says its arm: the documented configuration does, and the load's evidence proves each stage."""
    shop = made()
    with nginx(shop) as rig:
        up_down_and_back(shop, rig.router, "--load")
        told = Counter(rig.arms([f"user{n}" for n in range(400)]))
        assert 10 < told[Arm.CANDIDATE] < 90, "about 40 of 400"
        only_load_decides(shop, rig.router)
    found = (shop.folder / "rollouts").rglob("load-0.jsonl")
    records = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in found)
    assert records > 20


def test_behind_nginx_a_candidate_that_dies_is_taken_back(made: Callable[..., Shop]) -> None:
    """By probes alone, on the way."""
    shop = made(dies_after=3)
    shop.change("rollout.yaml", "max_bake_s: 20", "max_bake_s: 60")
    shop.change("rollout.yaml", "{share: 25, min_bake_s: 0.5", "{share: 25, min_bake_s: 50")
    with nginx(shop) as rig:
        taken_back(shop, rig.router)


@pytest.mark.parametrize("kind, server", [*((kind, "stand-in") for kind in KINDS), ("HTTPRoute", "real")])
def test_on_kubernetes_a_feature_goes_up_down_and_back(made: Callable[..., Shop], kind: str, server: str) -> None:
    """Weights of the route, against a stand-in of the API server, and against Kubernetes' own where it is built."""
    shop = made()
    with kubernetes(shop, kind, server) as rig:
        up_down_and_back(shop, rig.router)
        told = Counter(rig.arms([""] * 400))
        assert 10 < told[Arm.CANDIDATE] < 90, "about 40 of 400"


def test_on_kubernetes_a_candidate_that_dies_is_taken_back(made: Callable[..., Shop]) -> None:
    """By probes alone, on the way."""
    shop = made(dies_after=3)
    shop.change(
        "rollout.yaml", "{share: 25, min_bake_s: 0.5, max_bake_s: 20}", "{share: 25, min_bake_s: 50, max_bake_s: 60}"
    )
    with kubernetes(shop, "HTTPRoute", "stand-in") as rig:
        taken_back(shop, rig.router)


def test_the_loads_own_split_is_no_router_of_users(made: Callable[..., Shop]) -> None:
    """A rollout by kind client would move nobody: exit code 2 with the way out; nothing is begun."""
    shop = made()
    shop.target({"kind": "client"}, 1)
    path = shop.folder / "target.yaml"
    told = json.loads(path.read_text(encoding="utf-8"))
    told.pop("entry")
    path.write_text(json.dumps(told), encoding="utf-8")
    code, said = shop.run("--target-percentage", "100")
    assert (code, "run a gate" in said) == (2, True), said
    assert not (shop.folder / "rollouts").exists()


SIGNALS = """\
signals:
  answer.latency: {client: true, histogram: shop_seconds}
  answer.error: {client: true, bad: 'shop_requests_total{outcome="error"}', total: shop_requests_total}
  answer.wrong: {client: true}
  answer.quality: {client: true}

"""


def prometheus(shop: Shop, running: ExitStack) -> dict[str, str]:
    """Start a real Prometheus that scrapes both servers four times a second; describe it to the system."""
    (port,), found = free_ports(1), program("prometheus")
    arms = [{"targets": [f"127.0.0.1:{at}"], "labels": {"arm": arm.value}} for arm, at in shop.arms.items()]
    config: dict[str, Any] = {
        "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms"},
        "scrape_configs": [{"job_name": "app", "static_configs": arms}],
    }
    (shop.folder / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")
    words = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address=127.0.0.1:{port}"]
    one = Running([found.path, *words], shop.folder, found.env)
    running.callback(one.end)
    text = (shop.folder / "shop" / "system.yaml").read_text(encoding="utf-8")
    began, ended = text.index("signals:\n"), text.index("suites:")
    described = text[:began] + SIGNALS + text[ended:]
    (shop.folder / "shop" / "system.yaml").write_text(described, encoding="utf-8")
    shop.change(
        "system.yaml", "    checks:\n", "    metrics: {port: http, path: /metrics}\n    job: app\n    checks:\n"
    )
    shop.change("objectives.yaml", "sources: [client]  ", "sources: [client, prometheus]  ")
    told = "signal: answer.error\n    measure: ratio\n"
    shop.change("objectives.yaml", f"{told}    against: b", f"{told}    sources: [prometheus]\n    against: b")
    url = f"http://127.0.0.1:{port}"
    assert until(lambda: scraped(url) == 2, within=60), one.said()
    return {"url": url}


def scraped(url: str) -> int:
    """Return how many servers Prometheus has samples of."""
    try:
        told = httpx.get(f"{url}/api/v1/query", params={"query": 'shop_requests_total{outcome="ok"}'}, trust_env=False)
        return len(told.json()["data"]["result"])
    except (httpx.HTTPError, ValueError):
        return 0


@contextmanager
def users(entry: int) -> Iterator[None]:
    """Ask the application steadily, as people do."""
    ending = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{entry}", trust_env=False) as client:
            for number in itertools.count():
                if ending.wait(0.02):
                    return
                with suppress(httpx.HTTPError):
                    client.get("/answer", params={"q": number}, headers={"X-Session-ID": f"u{number}"})

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        ending.set()
        asking.join()


@contextmanager
def breaking(shop: Shop, *, at: float) -> Iterator[None]:
    """Let all of the candidate's answers fail once the flag is at `at` percent."""
    ending = threading.Event()

    def wait() -> None:
        file = shop.folder / "flags.json"
        while json.loads(file.read_text(encoding="utf-8"))[FEATURE] < at and not ending.wait(0.05):
            pass
        shop.broken.touch()

    waiting = threading.Thread(target=wait)
    waiting.start()
    try:
        yield
    finally:
        ending.set()
        waiting.join()


def test_by_prometheus_of_the_target_users_own_traffic_proves_and_a_bad_candidate_goes_back(
    made: Callable[..., Shop],
) -> None:
    """A flag read by the application in front; a real Prometheus scrapes both servers, rollgate sends no load."""
    shop = made()
    with ExitStack() as running:
        shop.user.flags()
        entry = shop.user.ports["entry"]
        shop.target({"kind": "flags", "file": "flags.json"}, entry, prometheus=prometheus(shop, running))
        with users(entry):
            code, said = shop.run("--target-percentage", "100", "--verbose")
        assert (code, json.loads((shop.folder / "flags.json").read_text())) == (0, {FEATURE: 100.0}), said
        kept = (shop.folder / "rollouts").rglob("judged.jsonl")
        seen = [json.loads(line) for path in kept for line in path.read_text(encoding="utf-8").splitlines()]
        assert any(one.get("source") == "prometheus" and one.get("signal") == "answer.error" for one in seen)
        assert shop.run("--target-percentage", "0")[0] == 0
        shop.change("objectives.yaml", "signal: check\n", "signal: check\n    severity: warning\n")
        with users(entry), breaking(shop, at=25):
            code, said = shop.run("--target-percentage", "100")
        assert (code, json.loads((shop.folder / "flags.json").read_text())) == (1, {FEATURE: 0.0}), said
        assert "minimal.error_rate" in said or "minimal.vs_errors" in said
