"""The cases: what is wrong with the candidate, and what a gate must say of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of candidate. `faults` are options of its server; `served` is False where nobody answers at all."""

    name: str
    expect: Mapping[str, str]
    faults: tuple[str, ...] = ()
    served: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What a user may have deployed: the router, the shape of both servers, and the median of their answers, ms."""

    router: str
    shape: str
    median_ms: float = field(default=40.0)


_BAD = {"decision": "rollback", "cause": "release", "exit_code": "1"}
CASES = (
    Case(name="good", expect={"decision": "promote", "cause": "proof", "exit_code": "0"}),
    Case(
        name="errors-3pct",
        expect={**_BAD, "judgement": "minimal.vs_errors | minimal.checks"},
        faults=("--errors", "0.03"),
    ),
    Case(name="slow-60pct", expect={**_BAD, "judgement": "minimal.vs_latency_p95"}, faults=("--slower", "1.6")),
    Case(
        name="tail-only",
        expect={**_BAD, "judgement": "minimal.vs_latency_p99"},
        faults=("--tail", "0.04", "--tail-factor", "8"),
    ),
    Case(name="dead", expect={**_BAD, "judgement": "remote/health.app"}, served=False),
    Case(
        name="dies",
        expect={**_BAD, "judgement": "minimal.health | minimal.checks | minimal.error_rate | minimal.vs_errors"},
        faults=("--dies-after", "350"),
    ),
)
# By turns of the seed, so that each case meets each of them.
DEPLOYMENTS = (
    Deployment(router="client", shape="threads"),
    Deployment(router="haproxy", shape="chunked", median_ms=25.0),
    Deployment(router="flags", shape="closing", median_ms=60.0),
)
