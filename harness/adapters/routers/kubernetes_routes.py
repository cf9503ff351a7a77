"""Kubernetes as the router: the weights of an `HTTPRoute` (Gateway API) or of a `VirtualService` (Istio).

A change is one PUT of the object as it was read, with nothing but the two weights changed. The API server refuses it
with 409 when anybody wrote in between; then the object is read and changed anew, so that nobody's change is lost. If
it was the weights that somebody else moved, this gives way, but for a move back to the baseline.

| parameter | meaning |
|---|---|
| `routes` | the API server: `kubernetes_api.connect(kubeconfig, context)` |
| `kind` | `kubernetes_api.GATEWAY_API` or `ISTIO` |
| `namespace`, `route` | where the object is and what it is called |
| `baseline`, `candidate` | the backends' names: Services; for Istio hosts, or subsets as `HOST/SUBSET` |
| `taken_s` | how long the gateway may take to say that it follows |

Rules that name both backends are steered; a rule with one of them, for a header that forces an arm, is left alone.
Weights are drawn for each request, so assignment is not sticky; and there is no lease.
"""

import time
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, cast

from harness.adapters.routers.kubernetes_api import ConflictError, Kind, Routes
from harness.model.errors import EnvironmentProblem
from harness.ports import RouterState

BUCKETS = 10_000
_CONFLICTS = 10
_POLL_S = 0.05


class KubernetesRouter:
    """Moves traffic by two weights, which together are 10,000."""

    sticky = False
    returns_alone = False

    def __init__(
        self,
        routes: Routes,
        kind: Kind,
        *,
        namespace: str,
        route: str,
        baseline: str,
        candidate: str,
        taken_s: float = 10.0,
    ) -> None:
        """Ask nothing yet. The parameters are those of the module's table."""
        self.name = kind.name
        self._routes, self._kind = routes, kind
        self._namespace, self._route = namespace, route
        self._baseline, self._candidate = baseline, candidate
        self._taken_s = taken_s

    def read(self) -> RouterState:
        """Ask the API server for the weights; EnvironmentProblem when it, the object or the backends are away."""
        # A route does not check its backends: probes do that.
        return RouterState(limit=self._limit(self._get()), lease_held=False, candidate_up=True, baseline_up=True)

    def set_limit(self, limit: int) -> None:
        """Set the weights, read them back, and wait until the gateway says that it follows.

        Raises ValueError outside 0..10000, EnvironmentProblem when the weights are not taken, when somebody else
        moves them, or when the gateway does not follow in time.
        """
        if not 0 <= limit <= BUCKETS:
            msg = f"a limit lies in 0..{BUCKETS}, found {limit}"
            raise ValueError(msg)
        self._put(limit)
        taken = self._get()
        if (found := self._limit(taken)) != limit:
            msg = f"{self._title()} was told limit {limit} and has {found}"
            raise EnvironmentProblem(msg, mend="end whatever else writes its weights: a controller, or a deployment")
        if self._kind.reports:
            self._follow(limit, taken)

    def hold_lease(self) -> None:
        """Do nothing: a route knows no lease."""

    def drop_lease(self) -> None:
        """Do nothing: a route knows no lease."""

    def settle(self, limit: int) -> None:
        """Do nothing: a share stays where it is."""

    def _put(self, limit: int) -> None:
        first: int | None = None
        for _ in range(_CONFLICTS):
            found = self._get()
            if limit:  # the way back needs no agreement on where we were
                now = self._limit(found)
                first = now if first is None else first
                if now not in (first, limit):
                    msg = f"somebody else moved {self._title()} from {first} to {now} while it was to go to {limit}"
                    raise EnvironmentProblem(msg, mend="let one driver at a time move this route")
            wanted = self._with(found, limit)
            if wanted == found:
                return
            try:
                self._routes.put(self._kind, self._namespace, self._route, wanted)
            except ConflictError:
                continue
            return
        msg = f"{self._title()} was changed by others {_CONFLICTS} times in a row while it was to go to {limit}"
        raise EnvironmentProblem(msg, mend="find out which controller keeps writing it")

    def _follow(self, limit: int, taken: Mapping[str, Any]) -> None:
        """Wait until every gateway of the route has accepted the generation that was written, or a later one."""
        wanted = int(taken["metadata"].get("generation", 0))
        deadline = time.monotonic() + self._taken_s
        while (why := _unfollowed(taken, wanted)) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            taken = self._get()
        if why:
            msg = f"{self._title()} has limit {limit}, but {why} within {self._taken_s:g} s"
            raise EnvironmentProblem(msg, mend="read the status of the route and the log of the gateway's controller")
        if (found := self._limit(taken)) != limit:
            msg = f"{self._title()} was told limit {limit}, and somebody else moved it to {found}"
            raise EnvironmentProblem(msg, mend="let one driver at a time move this route")

    def _get(self) -> dict[str, Any]:
        return self._routes.get(self._kind, self._namespace, self._route)

    def _limit(self, found: Mapping[str, Any]) -> int:
        """Return the share of the candidate in all steered rules, in basis points."""
        limits: set[int] = set()
        for pair in self._pairs(found):
            baseline, candidate = (int(one.get("weight", self._kind.absent)) for one in pair)
            if baseline + candidate <= 0:
                msg = f"{self._title()} gives no weight to either backend"
                raise EnvironmentProblem(msg, mend="give the baseline a weight")
            limits.add(round(BUCKETS * candidate / (baseline + candidate)))
        if len(limits) > 1:
            told = ", ".join(str(limit) for limit in sorted(limits))
            msg = f"the rules of {self._title()} disagree: limits {told}"
            raise EnvironmentProblem(msg, mend="give all rules with both backends the same weights")
        return limits.pop()

    def _with(self, found: Mapping[str, Any], limit: int) -> dict[str, Any]:
        """Return a copy of the object whose steered rules have the weights of `limit`, and nothing else changed."""
        wanted = deepcopy(dict(found))
        for baseline, candidate in self._pairs(wanted):
            baseline["weight"], candidate["weight"] = BUCKETS - limit, limit
        return wanted

    def _pairs(self, found: Mapping[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Return (baseline, candidate) of every rule that has both; there is at least one."""
        pairs = list(self._find(found))
        if not pairs:
            msg = f"no rule of {self._title()} has both backends {self._baseline} and {self._candidate}"
            raise EnvironmentProblem(msg, mend="name both in one rule, the candidate with weight 0")
        return pairs

    def _find(self, found: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        for rule in cast("list[dict[str, Any]]", found.get("spec", {}).get(self._kind.rules) or []):
            backends = cast("list[dict[str, Any]]", rule.get(self._kind.backends) or [])
            named = {_name(backend): backend for backend in backends}
            if {self._baseline, self._candidate} <= named.keys():
                if len(backends) > 2:  # noqa: PLR2004 - the two arms
                    msg = f"a rule of {self._title()} has a backend besides {self._baseline} and {self._candidate}"
                    raise EnvironmentProblem(msg, mend="split between the two alone")
                yield named[self._baseline], named[self._candidate]

    def _title(self) -> str:
        return f"{self._kind.plural}/{self._route} in namespace {self._namespace}"


def _name(backend: Mapping[str, Any]) -> str:
    """Return a Gateway API backend's name, or an Istio destination's host, with its subset where it has one."""
    to: Mapping[str, Any] = backend.get("destination", backend)
    host = str(to.get("host", to.get("name", "")))
    return f"{host}/{to['subset']}" if to.get("subset") else host


def _unfollowed(found: Mapping[str, Any], generation: int) -> str:
    """Return why the route's gateways do not follow `generation` yet, "" when all do."""
    parents = cast("list[dict[str, Any]]", found.get("status", {}).get("parents") or [])
    if not parents:
        return "no gateway took it up"
    for parent in parents:
        gateway = parent.get("parentRef", {}).get("name", "?")
        conditions = cast("list[dict[str, Any]]", parent.get("conditions") or [])
        for kind in ("Accepted", "ResolvedRefs"):
            said = next((one for one in conditions if one.get("type") == kind), dict[str, Any]())
            if said.get("observedGeneration", 0) < generation:
                return f"gateway {gateway} has not seen it"
            if said.get("status") != "True":
                return f"gateway {gateway} does not follow it ({kind}: {said.get('reason', 'no reason')})"
    return ""
