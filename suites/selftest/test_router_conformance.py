"""Every router keeps the same promises, and a router that lies about one of them is caught."""

from collections.abc import Callable
from pathlib import Path

import pytest
from kubernetes_rigs import KINDS, LEFT_OPEN, kubernetes_rig
from router_conformance import CHECKS, Rig, never_moves_a_user_out, says_when_it_is_away, takes_every_limit
from router_liars import LIARS, Honest, memory_rig
from router_rigs import real_rig

pytestmark = [
    pytest.mark.selftest,
    pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning", LEFT_OPEN),
]

REAL = ("haproxy", "haproxy by file", "haproxy by TCP", "nginx", "flags", "client")
Check = Callable[[Rig], None]


def name_of(check: Check) -> str:
    """Return a check's name as part of a case's."""
    return check.__name__


@pytest.mark.parametrize("kind", REAL)
@pytest.mark.parametrize("check", CHECKS, ids=name_of)
def test_a_real_router_conforms(check: Check, kind: str, tmp_path: Path) -> None:
    """One promise of one router, with the real program in front of two servers where there is one."""
    with real_rig(kind, tmp_path) as rig:
        check(rig)


@pytest.mark.parametrize("check", [takes_every_limit, says_when_it_is_away], ids=name_of)
def test_nginx_may_be_reloaded_by_its_process_id(check: Check, tmp_path: Path) -> None:
    """Where no reload command is allowed, the id in nginx's own file is enough."""
    with real_rig("nginx by signal", tmp_path) as rig:
        check(rig)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("check", CHECKS, ids=name_of)
def test_a_kubernetes_router_conforms_on_a_stand_in(check: Check, kind: str, tmp_path: Path) -> None:
    """One promise on the stand-in of the API server; the gateway is the test's own in either case."""
    with kubernetes_rig(KINDS[kind], "stand-in", tmp_path) as rig:
        check(rig)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kubernetes_router_conforms_on_the_real_api_server(kind: str, tmp_path: Path) -> None:
    """All promises, one after the other, on Kubernetes' own API server code, where it has been built."""
    with kubernetes_rig(KINDS[kind], "real", tmp_path) as rig:
        for check in CHECKS:
            if check not in (never_moves_a_user_out, says_when_it_is_away):
                rig.router.set_limit(0)
                check(rig)
        says_when_it_is_away(rig)


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
def test_an_honest_router_in_memory_conforms(check: Check) -> None:
    """What the liars are made of keeps every promise: they are caught for their lies alone."""
    check(memory_rig(Honest))


@pytest.mark.parametrize("liar", LIARS, ids=lambda liar: liar.__name__)
def test_a_router_that_lies_is_caught(liar: type[Honest]) -> None:
    """Each breaks one promise, and the check of that promise says so."""
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        liar.caught_by(memory_rig(liar))
