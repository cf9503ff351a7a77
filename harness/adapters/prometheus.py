"""Evidence from Prometheus: raw counters, buckets and gauges, differenced scrape by scrape."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
import requests
from prometheus_api_client import prometheus_connect  # pyright: ignore[reportMissingTypeStubs] - it ships none
from prometheus_api_client.exceptions import (  # pyright: ignore[reportMissingTypeStubs]
    PrometheusApiClientException,
)
from urllib3.util.retry import Retry

from harness.adapters.firing_alerts import firing_alerts
from harness.adapters.prometheus_series import (
    ArmSeries,
    Frame,
    SeriesAwayError,
    ViolationsUntoldError,
    arms_of,
    evidence,
    first_words,
    read_frames,
    selectors,
)
from harness.adapters.prometheus_targets import TargetReport, check_targets, intervals, under_release
from harness.adapters.remote_access import Access
from harness.model.evidence import Arm, Evidence, Kind, Source, Unit
from harness.model.objective import Measure
from harness.model.system import Signal, System
from harness.ports import Clock

_CONNECT_S, _READ_S = 0.5, 2.0
_BETWEEN_S = 2 * (_CONNECT_S + _READ_S)  # two queries, one after the other, are never evaluated further apart
_STALE_SCRAPES = 3  # a newest sample older than so many scrape intervals is stale
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_AWAY = (OSError, ValueError, KeyError, TypeError, AttributeError, httpx.HTTPError, PrometheusApiClientException)


@dataclass(frozen=True, slots=True)
class _Wrong:
    """What is wrong with one arm's series of a signal; `away` where nothing but their lack is."""

    faults: tuple[str, ...] = ()
    away: bool = False


class PrometheusMetrics:
    """Implements `harness.ports.Metrics` on Prometheus' HTTP API: queries by prometheus-api-client, the rest by httpx.

    `url` is http://HOST:PORT. Each `collect` asks for the raw samples since the last one (range vectors keep
    the scrapes' own timestamps) and yields one record for each signal, arm and scrape; intervals go from
    scrape to scrape. Where an objective is about alerts, it yields what fires on each arm. It yields one `metrics`
    record a call, bad when anything is missing, stale, double, NaN
    or Inf, or a declared target is away. What the release itself may have caused is noted there without being bad,
    with the arm set: the candidate's own target down, or up without series that the baseline's has. What is counted
    as 0 for want of a series (violations, before the first one) is noted without either.
    """

    def __init__(self, url: str, system: System, clock: Clock, access: Access | None = None) -> None:
        """Connect to nothing yet; `access` lets one in where the address wants that."""
        access = access or Access()
        direct = urlsplit(url).hostname in _LOOPBACK  # never through a proxy of the environment
        session = requests.Session()
        session.trust_env = not direct
        session.headers.update(access.headers)
        if access.headers:
            session.max_redirects = 0  # what lets one in here is shown to nobody else
        if access.tls.ca:
            session.verify = access.tls.ca
        if access.tls.cert:
            session.cert = (access.tls.cert, access.tls.key)
        connect: Any = prometheus_connect.PrometheusConnect
        self._queries: Any = connect(url, session=session, timeout=(_CONNECT_S, _READ_S), retry=Retry(0))
        limits = httpx.Timeout(_READ_S, connect=_CONNECT_S)
        verify = access.context() if access.tls.ca or access.tls.cert else True
        self._http = httpx.Client(
            base_url=url, timeout=limits, trust_env=not direct, headers=access.headers, verify=verify
        )
        self._hide = access.hide
        self._system, self._clock = system, clock
        self._signals = [signal for signal in system.signals if selectors(signal)]
        self._alerts = any(objective.measure is Measure.ALERTS for objective in system.objectives)
        self._frames: dict[tuple[str, Arm | None], Frame] = {}

    def ready(self) -> bool:
        """Tell whether Prometheus says that it is ready; False when it does not answer."""
        try:
            return self._http.get("/-/ready").is_success
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        """Close the connections."""
        self._queries.close()
        self._http.close()

    def collect(self) -> Sequence[Evidence]:
        """Return what the scrapes since the last call saw, and one `metrics` record; never raises for a dead server."""
        found: list[Evidence] = []
        faults: list[str] = []
        releases: list[str] = []
        zeros: list[str] = []
        try:
            targets = self._targets()
            report = check_targets(self._system, targets)
            faults += report.faults
            releases += report.releases
            paces = intervals(targets)
            for signal in self._signals:
                records, wrong = self._read(signal, paces, candidate_down=bool(report.releases))
                found += records
                faults += wrong.faults
                releases += wrong.releases
                zeros += wrong.zeros
        except _AWAY as error:
            faults = [f"Prometheus does not answer as it should: {_one_line(error)}"]
        alerts = firing_alerts(self._http, self._clock.now(), self._hide) if self._alerts else ()
        return [*found, *alerts, self._report(faults, releases, zeros)]

    def _report(self, faults: Sequence[str], releases: Sequence[str], zeros: Sequence[str]) -> Evidence:
        now = self._clock.now()
        ours, its = bool(faults), bool(releases) and not faults
        note = self._hide(first_words(faults or releases or zeros))
        return Evidence(
            kind=Kind.EVENTS, source=Source.PROMETHEUS, signal="metrics", unit=Unit.PROBE, start_s=now, end_s=now,
            arm=Arm.CANDIDATE if its else None, n=1, bad=int(ours), note=note,
        )  # fmt: skip

    def _targets(self) -> Sequence[Mapping[str, Any]]:
        answer = self._http.get("/api/v1/targets", params={"state": "active"})
        answer.raise_for_status()
        return cast("Sequence[Mapping[str, Any]]", answer.json()["data"]["activeTargets"])

    def _read(
        self, signal: Signal, paces: Mapping[str, float], *, candidate_down: bool
    ) -> tuple[list[Evidence], TargetReport]:
        """Return the records of one signal, and what is wrong with its series, by whose affair it is."""
        pace = max(paces.values(), default=15.0)
        window = self._window(pace)
        answers = {
            use: self._ask(selector, window + (_BETWEEN_S if use == "bad" else 0.0))
            for use, selector in selectors(signal).items()
        }
        jobs = {row["metric"].get("job", "") for matrix in answers.values() for row in matrix}
        own_pace = max((paces[job] for job in jobs if job in paces), default=pace)
        records: list[Evidence] = []
        wrong: dict[Arm | None, _Wrong] = {}
        zeros: list[str] = []
        for arm in arms_of(signal):
            series = read_frames(signal, answers, arm)
            found, wrong[arm] = self._difference(signal, arm, series, own_pace)
            records += found
            if series.unviolated:
                zeros.append(_told(signal, arm, f"none yet, for want of a series {signal.bad}"))
        if candidate_down:
            wrong.pop(Arm.CANDIDATE, None)
        told = {arm: [_told(signal, arm, fault) for fault in its.faults] for arm, its in wrong.items()}
        own = wrong.get(Arm.CANDIDATE, _Wrong())
        releases: list[str] = []
        if own.away and not told[Arm.BASELINE] and under_release(self._system, jobs):
            releases = told.pop(Arm.CANDIDATE)
        faults = tuple(fault for each in told.values() for fault in each)
        return records, TargetReport(faults, tuple(releases), tuple(zeros))

    def _difference(
        self, signal: Signal, arm: Arm | None, series: ArmSeries, pace: float
    ) -> tuple[list[Evidence], "_Wrong"]:
        """Return the records of the scrapes that are new, and faults; a faulty scrape yields no evidence."""
        faults = list(series.faults)
        away = series.away
        records: list[Evidence] = []
        key = (signal.name, arm)
        for frame in series.frames:
            before = self._frames.get(key)
            if before is not None and frame.at <= before.at:
                continue
            try:
                record = evidence(signal, arm, before, frame, pace_s=pace)
            except ViolationsUntoldError as error:
                away = False
                faults += [str(error)] if str(error) not in faults else []  # counting goes on where it left off
                continue
            except ValueError as error:
                away = isinstance(error, SeriesAwayError) and (away or not faults)
                faults.append(str(error))
                self._frames.pop(key, None)
                continue
            self._frames[key] = frame
            if record is not None:
                records.append(record)
        if not faults:
            newest = series.frames[-1].at if series.frames else None
            age = self._clock.now() - newest if newest is not None else None
            if age is None or age > _STALE_SCRAPES * pace:
                faults.append(f"stale: the newest sample is {age:.1f} s old" if age is not None else "no whole scrape")
                away = True  # a target that is up and scraped has new samples of all that it exposes
        return records, _Wrong(tuple(faults), away)

    def _window(self, pace: float) -> float:
        """Return how far back, s, to ask: to the last collection and a little further."""
        now = self._clock.now()
        oldest = min((frame.at for frame in self._frames.values()), default=now)
        return min(max(4 * pace, now - oldest + 2 * pace), 120.0 + 4 * pace)

    def _ask(self, selector: str, window: float) -> Sequence[Mapping[str, Any]]:
        """Return the matrix of the raw samples of the last `window` seconds."""
        query = f"{selector}[{max(1, round(1000 * window))}ms]"
        return cast("Sequence[Mapping[str, Any]]", self._queries.custom_query(query=query))


def _told(signal: Signal, arm: Arm | None, fault: str) -> str:
    return f"{signal.name}{f' of the {arm}' if arm else ''}: {fault}"


def _one_line(error: BaseException) -> str:
    text = str(error).splitlines()
    return f"{type(error).__name__}: {text[0][:200] if text else ''}"
