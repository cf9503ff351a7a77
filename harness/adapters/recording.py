"""The series of a running Prometheus, as they are kept for checks that have no stack at hand."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from harness.model.errors import EnvironmentProblem
from harness.model.rule import Recorded, Scrape

_TIMEOUT_S = 20.0
_MOST = 24  # series kept of one name; what is asked of a recording is names, label values and bounds, not volume
_MOST_HISTOGRAMS = 6
_OF_TARGETS = ("__name__", "job", "instance", "service", "component", "arm", "version")
_OF_FILES = ("filename", "rule_group", "config_file")
_KIND_SUFFIXES = ("_bucket", "_count", "_sum", "_total")


def record(url: str) -> tuple[tuple[Scrape, ...], str]:
    """Return every job's series as Prometheus at `url` has them now, and its version. Raises EnvironmentProblem."""
    with httpx.Client(base_url=url.rstrip("/"), timeout=_TIMEOUT_S, trust_env=False) as client:
        found = _asked(client, "/api/v1/query", {"query": '{__name__=~".+"}'})["result"]
        kinds = {name: str(entries[0]["type"]) for name, entries in _asked(client, "/api/v1/metadata", {}).items()}
        version = str(_asked(client, "/api/v1/status/buildinfo", {})["version"])
    return scrapes_of(found, kinds), version


def scrapes_of(found: Sequence[Mapping[str, Any]], kinds: Mapping[str, str]) -> tuple[Scrape, ...]:
    """Return the series of an instant query by job; those that belong to no job (of rules, of alerts) are left out.

    Instances lose their addresses and are numbered within their job, so that two recordings can be compared.
    """
    jobs: dict[str, list[Recorded]] = {}
    instances: dict[tuple[str, str], str] = {}
    for item in sorted(found, key=lambda one: sorted(one["metric"].items())):
        labels = {str(k): str(v) for k, v in item["metric"].items()}
        job = labels.get("job", "")
        if not job:
            continue
        labels = _named(labels)
        if "instance" in labels:
            number = 1 + sum(known[0] == job for known in instances)
            labels["instance"] = instances.setdefault((job, labels["instance"]), f"{job}-{number}")
        kind = _kind(labels["__name__"], kinds)
        jobs.setdefault(job, []).append(Recorded(frozenset(labels.items()), float(item["value"][1]), kind))
    return tuple(Scrape(job, _thinned(series)) for job, series in sorted(jobs.items()))


def _named(labels: Mapping[str, str]) -> dict[str, str]:
    """Leave out what tells of one machine or one run alone: folders, addresses, build and host descriptions."""
    if labels["__name__"].endswith("_info"):
        return {k: v for k, v in labels.items() if k in _OF_TARGETS}
    kept = {k: v.rpartition("/")[2] if k in _OF_FILES else v for k, v in labels.items()}
    return {k: v if k == "instance" else re.sub(r"\b127\.0\.0\.1:\d+", "HOST:PORT", v) for k, v in kept.items()}


def _kind(name: str, kinds: Mapping[str, str]) -> str:
    if name in kinds:
        return kinds[name]
    return next(
        (kinds[base] for end in _KIND_SUFFIXES if (base := name.removesuffix(end)) != name and base in kinds), ""
    )


def _thinned(series: Sequence[Recorded]) -> tuple[Recorded, ...]:
    """Keep of each name only so many series; of a histogram whole ones, so that every bound stays."""
    groups: dict[str, list[frozenset[tuple[str, str]]]] = {}
    kept: list[Recorded] = []
    for item in series:
        name = dict(item.labels)["__name__"]
        key = frozenset(pair for pair in item.labels if pair[0] != "le")
        seen = groups.setdefault(name, [])
        if key not in seen:
            seen.append(key)
        if seen.index(key) < (_MOST_HISTOGRAMS if name.endswith("_bucket") else _MOST):
            kept.append(item)
    return tuple(kept)


def _asked(client: httpx.Client, path: str, params: Mapping[str, str]) -> Any:  # noqa: ANN401 - parsed JSON
    try:
        answer = client.get(path, params=dict(params))
        answer.raise_for_status()
        body = answer.json()
        return body["data"]
    except (httpx.HTTPError, ValueError, KeyError, httpx.InvalidURL) as error:
        msg = f"no Prometheus answers at {client.base_url}{path.lstrip('/')}: {type(error).__name__} {error}"
        raise EnvironmentProblem(msg, mend="name the address of a running one, http://HOST:PORT") from error
