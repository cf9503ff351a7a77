"""Rigs of the Kubernetes routers: an API server, real or stand-in, and a gateway that the test plays."""

import contextlib
import gc
import json
import random
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
import urllib3
from kubernetes import client, config, watch
from kubernetes_stand_in import StandIn, Store
from native_runs import until
from router_conformance import PATIENCE_S, limit_of
from router_places import Running, free_ports

from harness.adapters.routers.kubernetes_api import GATEWAY_API, ISTIO, Kind, connect
from harness.adapters.routers.kubernetes_routes import KubernetesRouter
from harness.model.evidence import Arm
from harness.paths import cache_root

KINDS = {"HTTPRoute": GATEWAY_API, "VirtualService": ISTIO}
NAMESPACE, ROUTE = "shop", "app"
CONFLICT = 409
# Servers are ended in the middle of answers here, and the client leaves some of those connections to the collector.
LEFT_OPEN = "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"
REAL_SERVER = cache_root() / "tools" / "kubernetes-api"  # `make kubernetes-api`
_FORCED = {"candidate": [{"name": "app-candidate", "port": 80}], "baseline": [{"name": "app-baseline", "port": 80}]}
HTTP_ROUTE: dict[str, Any] = {
    "parentRefs": [{"name": "edge"}],
    "rules": [
        {"matches": [{"headers": [{"name": "X-Rollgate-Arm", "value": arm}]}], "backendRefs": backends}
        for arm, backends in _FORCED.items()
    ]
    + [
        {
            "timeouts": {"request": "5s"},
            "backendRefs": [
                {"name": "app-baseline", "port": 80},
                {"name": "app-candidate", "port": 80, "weight": 0},
            ],
        }
    ],
}
VIRTUAL_SERVICE: dict[str, Any] = {
    "hosts": ["app"],
    "http": [
        {
            "match": [{"headers": {"x-rollgate-arm": {"exact": arm}}}],
            "route": [{"destination": {"host": "app", "subset": arm}}],
        }
        for arm in ("candidate", "baseline")
    ]
    + [
        {
            "route": [
                {"destination": {"host": "app", "subset": "baseline"}, "weight": 100},
                {"destination": {"host": "app", "subset": "candidate"}, "weight": 0},
            ]
        }
    ],
}


class Server(Protocol):
    """An API server that is up; its objects outlive `end` and `start`."""

    url: str

    def start(self) -> None: ...
    def end(self) -> None: ...


class StandInServer:
    """The stand-in, with its store."""

    def __init__(self, folder: Path) -> None:
        del folder
        (self._port,), self._store = free_ports(1), Store()
        self.url = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        self._server = StandIn(self._port, self._store)

    def end(self) -> None:
        self._server.end()


class RealServer:
    """Kubernetes' own API server code with etcd; it has routes once their definitions are posted."""

    def __init__(self, folder: Path) -> None:
        if not REAL_SERVER.is_file():
            pytest.skip("no API server here: `make kubernetes-api` builds it, with Go")
        (port,) = free_ports(1)
        self.url = f"https://127.0.0.1:{port}"
        (folder / "data").mkdir()
        self._running = Running([REAL_SERVER, folder / "data", str(port)], folder, {})
        try:
            self._define()
        except BaseException:
            self._running.end()
            raise

    def _define(self) -> None:
        self._wait()
        for name, kind in KINDS.items():
            self._ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition(name, kind))
        for kind in KINDS.values():
            place = f"/apis/{kind.group}/{kind.version}/namespaces/{NAMESPACE}/{kind.plural}"
            assert until(lambda path=place: self._ask("GET", path) == 200, within=60.0), self._running.said()

    def start(self) -> None:
        self._running.start()
        self._wait()

    def end(self) -> None:
        self._running.signal(signal.SIGKILL)  # as a machine ends: what was answered is in its store
        self._running.end()

    def _wait(self) -> None:
        assert until(lambda: self._ask("GET", "/readyz") == 200, within=60.0), self._running.said()

    def _ask(self, method: str, path: str, body: object = None) -> int:
        pool = urllib3.PoolManager(cert_reqs="CERT_NONE", assert_hostname=False)
        try:
            data = json.dumps(body).encode() if body else None
            headers = {"Content-Type": "application/json"}
            return pool.request(method, self.url + path, body=data, headers=headers, retries=False, timeout=5).status
        except urllib3.exceptions.HTTPError:
            return 0


def definition(name: str, kind: Kind) -> dict[str, Any]:
    """Return the definition of a kind of route, as far as a router needs it: any content, and a status apart."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": kind.version, "served": True, "storage": True, "subresources": {"status": {}}, "schema": schema}
    names = {"plural": kind.plural, "singular": name.lower(), "kind": name, "listKind": f"{name}List"}
    approval = {"api-approved.kubernetes.io": "unapproved, for a test"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}", "annotations": approval},
        "spec": {"group": kind.group, "scope": "Namespaced", "names": names, "versions": [version]},
    }


class Gateway:
    """The controller and data plane that no test machine has: it watches the route, follows it, and says so."""

    def __init__(self, api: client.CustomObjectsApi, kind: Kind) -> None:
        self._api, self._kind = api, kind
        self._weights: list[tuple[str, int]] = []
        self._forced: dict[str, str] = {}
        self._chance = random.Random(7)
        self.seen = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def answer(self, force: str) -> str:
        """Return the arm that answers one request."""
        if force:
            return self._forced[force]
        names, weights = zip(*self._weights, strict=True)
        return self._chance.choices(names, weights)[0]

    def end(self) -> None:
        self._ending.set()
        self._thread.join(10)

    def _follow(self) -> None:
        kind = self._kind
        place = (kind.group, kind.version, NAMESPACE, kind.plural)
        while not self._ending.is_set():
            with contextlib.suppress(client.ApiException, urllib3.exceptions.HTTPError, ValueError):
                listed = self._api.list_namespaced_custom_object(*place)
                for route in listed["items"]:
                    self._take(route)
                events = watch.Watch().stream(
                    self._api.list_namespaced_custom_object, *place, timeout_seconds=1, _request_timeout=2,
                    resource_version=listed["metadata"]["resourceVersion"],
                )  # fmt: skip
                for event in events:
                    self._take(event["object"])
            self._ending.wait(0.02)

    def _take(self, route: Mapping[str, Any]) -> None:
        for rule in route["spec"][self._kind.rules]:
            backends = [(_arm(one), int(one.get("weight", 1))) for one in rule[self._kind.backends]]
            if len(backends) == 1:
                self._forced[backends[0][0]] = backends[0][0]
            else:
                self._weights = backends
        seen = self.seen = route["metadata"]["generation"]
        if not self._kind.reports or _observed(route) >= seen:
            return
        said = [
            {"type": one, "status": "True", "reason": one, "observedGeneration": seen}
            for one in ("Accepted", "ResolvedRefs")
        ]
        status = {"status": {"parents": [{"parentRef": {"name": "edge"}, "conditions": said}]}}
        kind = self._kind
        self._api.patch_namespaced_custom_object_status(kind.group, kind.version, NAMESPACE, kind.plural, ROUTE, status)


def _arm(backend: Mapping[str, Any]) -> str:
    to = backend.get("destination", backend)
    return Arm.CANDIDATE if "candidate" in str(to) else Arm.BASELINE


def _observed(route: Mapping[str, Any]) -> int:
    parents = route.get("status", {}).get("parents") or [{}]
    return min((one["observedGeneration"] for one in parents[0].get("conditions", [])), default=0)


class KubernetesRig:
    """One kind of route on one API server."""

    forces = keeps = True
    patience_s = PATIENCE_S

    def __init__(self, folder: Path, server: Server, kind: Kind) -> None:
        self._server, self.kind = server, kind
        self.kubeconfig = folder / "kubeconfig.json"
        self.kubeconfig.write_text(json.dumps(kubeconfig(server.url)), encoding="utf-8")
        self.api = client.CustomObjectsApi(config.new_client_from_config(str(self.kubeconfig)))
        self.place = (kind.group, kind.version, NAMESPACE, kind.plural)
        name = next(name for name, one in KINDS.items() if one is kind)
        spec = HTTP_ROUTE if kind is GATEWAY_API else VIRTUAL_SERVICE
        head = {"apiVersion": f"{kind.group}/{kind.version}", "kind": name, "metadata": {"name": ROUTE}}
        self.api.create_namespaced_custom_object(*self.place, {**head, "spec": spec})
        self.gateway = Gateway(self.api, kind)
        self.router = self.another()
        self.router.set_limit(0)

    def another(self) -> KubernetesRouter:
        names = ("app-baseline", "app-candidate") if self.kind is GATEWAY_API else ("app/baseline", "app/candidate")
        return KubernetesRouter(
            connect(str(self.kubeconfig)), self.kind, namespace=NAMESPACE, route=ROUTE, baseline=names[0],
            candidate=names[1], taken_s=30.0,
        )  # fmt: skip

    def meddle(self, limit: int) -> None:
        self.change(lambda route: _weigh(route, self.kind, limit))

    def change(self, how: Callable[[dict[str, Any]], None]) -> None:
        """Change the route as somebody else would: read, change, replace, again at a conflict."""

        def changed() -> bool:
            route = self.api.get_namespaced_custom_object(*self.place, ROUTE)
            how(route)
            try:
                self.api.replace_namespaced_custom_object(*self.place, ROUTE, route)
            except client.ApiException as refusal:
                if refusal.status != CONFLICT:
                    raise
                return False
            return True

        assert until(changed, within=30.0)

    def renewals(self) -> Mapping[str, Callable[[], None]]:
        return {"restart": self._restart}

    def stop(self) -> None:
        self._server.end()

    def arms(self, sessions: Sequence[str], force: str = "") -> list[str]:
        if not self.kind.reports:  # Istio does not say when it follows, so the test waits for its gateway
            now = self.api.get_namespaced_custom_object(*self.place, ROUTE)["metadata"]["generation"]
            assert until(lambda: self.gateway.seen == now, within=30.0)
        return [self.gateway.answer(force) for _ in sessions]

    def close(self) -> None:
        self.gateway.end()

    def _restart(self) -> None:
        self._server.end()
        assert limit_of(self.router) == -1
        self._server.start()


def _weigh(route: dict[str, Any], kind: Kind, limit: int) -> None:
    baseline, candidate = route["spec"][kind.rules][-1][kind.backends]
    baseline["weight"], candidate["weight"] = 10_000 - limit, limit


def kubeconfig(url: str) -> dict[str, Any]:
    """Return a configuration with one cluster and nobody to log in as."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": url, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }


@contextmanager
def kubernetes_rig(kind: Kind, server: str, folder: Path) -> Iterator[KubernetesRig]:
    """Bring up an API server, "stand-in" or "real", with one route and a gateway."""
    up = (RealServer if server == "real" else StandInServer)(folder)
    try:
        rig = KubernetesRig(folder, up, kind)
        try:
            yield rig
        finally:
            rig.close()
    finally:
        up.end()
        # What the client left open is collected now, and not in whichever test comes next.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
