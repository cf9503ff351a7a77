"""What a running Prometheus answers to the queries of panels: ranges up to now, names, targets."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from harness.model.errors import EnvironmentProblem

_TIMEOUT_S = 30.0
Series = tuple[Mapping[str, str], tuple[tuple[float, float], ...]]


class PanelSource:
    """A Prometheus at an address, asked as Grafana would ask it. Raises EnvironmentProblem where it does not answer."""

    def __init__(self, url: str) -> None:
        """Open a client of `url`, and take its present moment as the end of every range."""
        self._client = httpx.Client(base_url=url.rstrip("/"), timeout=_TIMEOUT_S, trust_env=False)
        self.url = url
        self.end = time.time()
        self.version = str(self._asked("/api/v1/status/buildinfo", {})["version"])

    def close(self) -> None:
        """Close the client."""
        self._client.close()

    def names(self) -> frozenset[str]:
        """Return the names of all series of today's storage."""
        return frozenset(self._asked("/api/v1/label/__name__/values", {}))

    def targets(self) -> Sequence[Mapping[str, Any]]:
        """Return the active targets."""
        return self._asked("/api/v1/targets", {"state": "active"})["activeTargets"]

    def over(self, query: str, range_s: float, step_s: float) -> tuple[Series, ...] | str:
        """Return the series of a query over the last `range_s`, or what Prometheus says against it."""
        asked = {
            "query": query,
            "start": f"{self.end - range_s:.3f}",
            "end": f"{self.end:.3f}",
            "step": f"{step_s:.3f}",
        }
        answer = self._get("/api/v1/query_range", asked)
        body = answer.json()
        if answer.is_error or body.get("status") != "success":
            return str(body.get("error") or f"status {answer.status_code}")
        return tuple(
            (item["metric"], tuple((float(at), float(value)) for at, value in item["values"]))
            for item in body["data"]["result"]
        )

    def _asked(self, path: str, params: Mapping[str, str]) -> Any:  # noqa: ANN401 - parsed JSON
        answer = self._get(path, params)
        try:
            answer.raise_for_status()
            return answer.json()["data"]
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise self._away(error) from error

    def _get(self, path: str, params: Mapping[str, str]) -> httpx.Response:
        try:
            answer = self._client.get(path, params=dict(params))
            answer.json()
        except (httpx.HTTPError, ValueError, httpx.InvalidURL) as error:
            raise self._away(error) from error
        return answer

    def _away(self, error: Exception) -> EnvironmentProblem:
        msg = f"no Prometheus answers at {self.url}: {type(error).__name__} {error}"
        return EnvironmentProblem(msg, mend="name the address of a running one, http://HOST:PORT")
