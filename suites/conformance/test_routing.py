"""Are our own hands right? The router's read-back, the forced arm, who answers, and the lease that is not held yet."""

import httpx
import pytest
import xxhash

from harness.adapters.haproxy import BUCKETS, HAProxyRouter
from harness.adapters.stack_file import Description
from harness.model.evidence import Arm
from harness.model.system import System
from harness.ports import Stack

pytestmark = [pytest.mark.staging, pytest.mark.smoke, pytest.mark.conformance, pytest.mark.rollout]

SESSIONS = [f"conformance-{number}" for number in range(12)]


def bucket(session: str) -> int:
    """Return the bucket of a session, by the hash that router, flags and harness share."""
    return xxhash.xxh32(session.encode()).intdigest() % BUCKETS


def test_the_router_sees_the_arm(arm: str, router: HAProxyRouter):
    """The router holds the arm for up: one that it cannot reach would look like a small share."""
    state = router.read()
    up = state.candidate_up if arm == Arm.CANDIDATE else state.baseline_up
    assert up, f"the router holds the {arm} for down"


def test_the_read_back_agrees_with_the_traffic(router: HAProxyRouter, entry: httpx.Client, system: System):
    """Sessions land on the arm that the limit read back, and the lease, give their bucket."""
    state, traffic = router.read(), system.traffic
    path = system.service(traffic.gateway).health.path
    for session in SESSIONS:
        answer = entry.get(path, headers={traffic.session_header: session})
        on_candidate = state.lease_held and bucket(session) < state.limit
        expected = Arm.CANDIDATE if on_candidate else Arm.BASELINE
        assert answer.headers.get(traffic.arm_header) == expected, (
            f"session {session} (bucket {bucket(session)}, limit {state.limit}, lease {state.lease_held}) "
            f"was answered by {answer.headers.get(traffic.arm_header)!r}, expected {expected}"
        )


def test_a_forced_request_reaches_its_arm(
    arm: str, entry: httpx.Client, forced: dict[str, str], system: System, description: Description
):
    """The forcing header takes a request to its arm, whatever the share, and the answer says so."""
    traffic = system.traffic
    answer = entry.get(system.service(traffic.gateway).health.path, headers=forced)
    assert answer.status_code == httpx.codes.OK, answer.text[:200]
    assert answer.headers.get(traffic.arm_header) == arm, f"{traffic.arm_header} names another arm"
    version = description["arms"][arm]["version"]
    assert answer.headers.get(traffic.version_header) == version, f"{traffic.version_header} names another version"


def test_an_instance_says_itself_which_arm_it_is(arm: str, stack: Stack, system: System, description: Description):
    """Asked without the router, the instance gives the same arm and version: no label is the router's alone."""
    traffic = system.traffic
    service = system.service(traffic.gateway)
    url = f"http://{stack.address(service.name, service.health.port, Arm(arm))}{service.health.path}"
    answer = httpx.get(url, timeout=15.0, trust_env=False)
    assert answer.headers.get(traffic.arm_header) == arm
    assert answer.headers.get(traffic.version_header) == description["arms"][arm]["version"]
