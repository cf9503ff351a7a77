"""What single routers do beyond their common promises: conflicts, refused configurations, what is left on disk."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes_rigs import KINDS, LEFT_OPEN, NAMESPACE, ROUTE, KubernetesRig, kubernetes_rig
from native_runs import until
from router_places import accepts
from router_rigs import HAProxyRig, NginxRig, real_rig

from harness.adapters.flags_file import FileFlags
from harness.adapters.haproxy import HAProxyRouter
from harness.adapters.routers.flag_router import FlagRouter
from harness.adapters.routers.kubernetes_api import GATEWAY_API, ConflictError, Kind, connect
from harness.adapters.routers.kubernetes_routes import KubernetesRouter
from harness.adapters.routers.nginx import NginxRouter, split_file
from harness.model.errors import EnvironmentProblem

pytestmark = [pytest.mark.selftest, pytest.mark.filterwarnings(LEFT_OPEN)]


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[NginxRig]:
    """Give a running nginx, at 25 %."""
    with real_rig("nginx", tmp_path) as rig:
        assert isinstance(rig, NginxRig)
        rig.router.set_limit(2500)
        yield rig


def test_a_split_that_nginx_refuses_is_taken_back(nginx: NginxRig) -> None:
    """The configuration is broken elsewhere: nginx's word is passed on, the old file is there again, and runs."""
    before = nginx.file.read_bytes()
    whole = nginx.conf.read_text(encoding="utf-8")
    nginx.conf.write_text(whole.replace("access_log off;", "access_log of course;"), encoding="utf-8")

    with pytest.raises(EnvironmentProblem, match="refuses its configuration") as caught:
        nginx.router.set_limit(5000)

    assert "nginx.conf" in str(caught.value)
    assert nginx.file.read_bytes() == before
    assert nginx.router.read().limit == 2500


def test_a_reload_that_changes_nothing_is_noticed(nginx: NginxRig) -> None:
    """The command says that all is well and does nothing: planted, and the old file is put back."""
    before = nginx.file.read_bytes()
    url = f"http://127.0.0.1:{nginx.status}/rollgate/limit"
    idle = NginxRouter(nginx.file, url, check=[*nginx.command, "-t"], reload=["true"])

    with pytest.raises(EnvironmentProblem, match="was told limit 5000 and runs 2500"):
        idle.set_limit(5000)

    assert nginx.file.read_bytes() == before


def test_the_way_back_stays_on_disk_when_nginx_is_gone(nginx: NginxRig) -> None:
    """0 could not be loaded: the next start of nginx begins with it, and not with the share of before."""
    nginx.stop()

    with pytest.raises(EnvironmentProblem):
        nginx.router.set_limit(5000)
    assert nginx.file.read_text(encoding="ascii") == split_file(2500)
    with pytest.raises(EnvironmentProblem):
        nginx.router.set_limit(0)
    assert nginx.file.read_text(encoding="ascii") == split_file(0)


def test_the_shown_first_file_of_nginx_is_the_written_one() -> None:
    """docs/routers.md shows what has to be there before the first start."""
    docs = (Path(__file__).resolve().parents[2] / "docs/routers.md").read_text(encoding="utf-8")

    assert docs.split("```nginx\n")[2].split("```")[0] == split_file(0)


@pytest.mark.parametrize("text,found", [("10001", "10001"), ("soon", "soon"), ("", "''")])
def test_an_answer_that_is_no_limit_is_no_limit(text: str, found: str, nginx: NginxRig) -> None:
    """The status address answers something else: reading says so."""
    whole = nginx.conf.read_text(encoding="utf-8")
    nginx.conf.write_text(whole.replace("return 200 $rollgate_limit;", f'return 200 "{text}";'), encoding="utf-8")
    nginx.renewals()["restart"]()
    assert until(lambda: accepts(nginx.status), within=30.0)

    with pytest.raises(EnvironmentProblem, match=f"{found}.* expected a limit"):
        nginx.router.read()


def test_a_dead_haproxy_finds_no_higher_share_when_it_starts(tmp_path: Path) -> None:
    """A raise that was refused leaves the map file as it was; the way back is written for the next start."""
    with real_rig("haproxy", tmp_path) as rig:
        rig.router.set_limit(1000)
        rig.stop()

        with pytest.raises(EnvironmentProblem):
            rig.router.set_limit(5000)
        assert (tmp_path / "limits.map").read_text(encoding="ascii") == "candidate 1000\nsettled 0\n"
        with pytest.raises(EnvironmentProblem):
            rig.router.set_limit(0)
        assert (tmp_path / "limits.map").read_text(encoding="ascii") == "candidate 0\nsettled 0\n"


def test_without_a_lease_port_haproxy_promises_no_return(tmp_path: Path) -> None:
    """It says so, and reading needs no lease."""
    with real_rig("haproxy", tmp_path) as rig:
        assert isinstance(rig, HAProxyRig)
        bare = HAProxyRouter(tmp_path / "admin.sock")

        bare.hold_lease()
        bare.set_limit(1234)

        assert not bare.returns_alone
        assert rig.router.returns_alone
        assert (bare.read().limit, bare.read().lease_held) == (1234, False)


def test_a_flag_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """No other flag is touched, and none is made."""
    (tmp_path / "flags.json").write_text('{"other": 10}', encoding="utf-8")
    router = FlagRouter(FileFlags(tmp_path / "flags.json"), "vector_search")

    for act in (router.read, lambda: router.set_limit(10)):
        with pytest.raises(EnvironmentProblem, match="no flag vector_search"):
            act()


@pytest.fixture(params=KINDS)
def route(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KubernetesRig]:
    """A route on the stand-in of the API server."""
    with kubernetes_rig(KINDS[request.param], "stand-in", tmp_path) as rig:
        yield rig


class Interrupting:
    """The API server, where somebody else writes between our reading and our writing."""

    def __init__(self, rig: KubernetesRig, meddle: Callable[[], None], times: int) -> None:
        self._routes, self._meddle, self.left = connect(str(rig.kubeconfig)), meddle, times

    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        return self._routes.get(kind, namespace, name)

    def put(self, kind: Kind, namespace: str, name: str, body: dict[str, Any]) -> None:
        if self.left:
            self.left -= 1
            self._meddle()
        self._routes.put(kind, namespace, name, body)


def interrupted(rig: KubernetesRig, meddle: Callable[[], None], times: int = 1) -> KubernetesRouter:
    """Return the rig's router with an API server that others write to."""
    router = rig.another()
    router._routes = Interrupting(rig, meddle, times)  # noqa: SLF001 - planted between the two
    return router


def label(rig: KubernetesRig, value: str) -> None:
    """Change the route as somebody who has nothing to do with its weights."""
    rig.change(lambda body: body["metadata"].setdefault("labels", {}).update(owner=value))


def labels(rig: KubernetesRig) -> dict[str, str]:
    """Return what stands there."""
    return rig.api.get_namespaced_custom_object(*rig.place, ROUTE)["metadata"].get("labels", {})


def test_a_conflict_loses_neither_change(route: KubernetesRig) -> None:
    """Somebody labels the route in between, three times: the weights are ours, the label is theirs."""
    router = interrupted(route, lambda: label(route, "somebody"), times=3)

    router.set_limit(2500)

    assert route.router.read().limit == 2500
    assert labels(route) == {"owner": "somebody"}


def test_an_old_version_is_refused(route: KubernetesRig) -> None:
    """What the adapter relies on: the API server takes no object that was read before somebody else wrote."""
    routes = connect(str(route.kubeconfig))
    stale = routes.get(route.kind, NAMESPACE, ROUTE)
    label(route, "before")

    with pytest.raises(ConflictError):
        routes.put(route.kind, NAMESPACE, ROUTE, stale)


def test_endless_conflicts_end(route: KubernetesRig) -> None:
    """A controller that writes all the time: an error with its mend, and the weights as they were."""
    numbers = iter(range(1000))
    router = interrupted(route, lambda: label(route, f"n{next(numbers)}"), times=1000)

    with pytest.raises(EnvironmentProblem, match="in a row"):
        router.set_limit(2500)

    assert route.router.read().limit == 0


def test_two_who_move_the_same_weights_do_not_overwrite_each_other(route: KubernetesRig) -> None:
    """Somebody else moved them in between: this one gives way, but for the way back."""
    router = interrupted(route, lambda: route.meddle(777))

    with pytest.raises(EnvironmentProblem, match="somebody else moved"):
        router.set_limit(2500)
    assert route.router.read().limit == 777

    interrupted(route, lambda: route.meddle(888)).set_limit(0)
    assert route.router.read().limit == 0


def test_rules_that_disagree_are_told_and_can_be_taken_back(route: KubernetesRig) -> None:
    """Two steered rules with different weights have no common share; the way back sets both."""

    def second(body: dict[str, Any]) -> None:
        rules = body["spec"][route.kind.rules]
        rules.append({**rules[-1], "name": "second"})

    route.change(second)
    route.meddle(4000)

    with pytest.raises(EnvironmentProblem, match="disagree: limits 0, 4000"):
        route.router.read()
    route.router.set_limit(0)
    assert route.router.read().limit == 0


@pytest.mark.parametrize(
    "spoil,said",
    [
        (lambda backends: backends.pop(), "has both backends"),
        (lambda backends: backends.append(dict(backends[0], name="third", destination={"host": "third"})), "besides"),
        (lambda backends: [one.update(weight=0) for one in backends], "no weight"),
    ],
    ids=["one backend", "three backends", "no weight at all"],
)
def test_a_route_that_cannot_be_steered_is_told(
    route: KubernetesRig, spoil: Callable[[list[dict[str, Any]]], object], said: str
) -> None:
    """Each is one line with its mend."""
    route.change(lambda body: spoil(body["spec"][route.kind.rules][-1][route.kind.backends]) and None)

    with pytest.raises(EnvironmentProblem, match=said) as caught:
        route.router.read()
    assert caught.value.mend


def test_a_gateway_that_does_not_follow_is_noticed(tmp_path: Path) -> None:
    """The API server takes the weights and no gateway acts on them: that is no move."""
    with kubernetes_rig(GATEWAY_API, "stand-in", tmp_path) as rig:
        rig.gateway.end()
        router = rig.another()
        router._taken_s = 0.2  # noqa: SLF001 - nobody will come

        with pytest.raises(EnvironmentProblem, match="has not seen it"):
            router.set_limit(2500)


def test_what_is_not_there_is_told_with_its_mend(route: KubernetesRig, tmp_path: Path) -> None:
    """A wrong name, a wrong context, a file that is none."""
    wrong = KubernetesRouter(
        connect(str(route.kubeconfig)), route.kind, namespace="shop", route="other", baseline="a", candidate="b"
    )
    with pytest.raises(EnvironmentProblem, match="404") as caught:
        wrong.read()
    assert "check namespace and name" in caught.value.mend
    for settings in ((str(route.kubeconfig), "elsewhere"), (str(tmp_path / "none"), "")):
        with pytest.raises(EnvironmentProblem, match="no usable kubeconfig"):
            connect(*settings)
