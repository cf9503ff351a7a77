"""The Prometheus adapter against a server that answers as Prometheus does, and against one that does not."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from judge_streams import objective_of, plan_of
from test_prometheus_series import ALL, SYSTEM, row, target

from harness.adapters.prometheus import PrometheusMetrics
from harness.judge import Judge
from harness.model.evidence import Arm, Evidence, Source
from harness.model.objective import Measure
from harness.model.status import Status

pytestmark = pytest.mark.selftest


@dataclass
class KnownPrometheus:
    """Counters of both arms that rise by 10 requests, 1 bad, a scrape; and whatever is planted on top."""

    now: float = 1000.0
    targets: list[dict[str, object]] = field(default_factory=lambda: list(ALL))
    without: str = ""  # an arm whose series are gone
    frozen: bool = False
    flawless: tuple[str, ...] = ()  # arms that have had no error, and so no series of errors
    first_error: int = 0  # when they have their first one
    halted: str = ""  # an arm whose series end at 1002
    missed: tuple[int, ...] = ()  # scrapes that never took place
    job: str = "gateway"
    status: int = 200
    body: bytes = b""

    def answer(self, path: str, query: str) -> bytes:
        if path == "/api/v1/targets":
            data = {"activeTargets": self.targets}
        else:
            data = {"resultType": "matrix", "result": self._matrix(query)}
        return json.dumps({"status": "success", "data": data}).encode()

    def _matrix(self, query: str) -> list[dict[str, object]]:
        last = 1002.0 if self.frozen else self.now
        ticks = {
            arm: [
                at
                for at in range(1000, 1003 if arm == self.halted else int(last) + 1)
                if at > self.now - 30 and at not in self.missed
            ]
            for arm in ("baseline", "candidate")
        }
        per_tick = {'req{outcome="error"}': 1, "req": 10}.get(query.partition("[")[0])
        arms = [arm for arm in ("baseline", "candidate") if arm != self.without]
        if per_tick == 1:
            late = dict.fromkeys(self.flawless, self.first_error or 10**9)
            seen = {arm: [at for at in ticks[arm] if at >= late.get(arm, 0)] for arm in arms}
            since = {arm: late[arm] - 1 if arm in late else 1000 for arm in arms}
            return [
                row({at: str(at - since[arm]) for at in seen[arm]}, arm=arm, job=self.job) for arm in arms if seen[arm]
            ]
        if per_tick:
            return [row({at: str((at - 1000) * per_tick) for at in ticks[arm]}, arm=arm, job=self.job) for arm in arms]
        return [
            row({at: str((at - 1000) * n) for at in ticks[arm]}, arm=arm, job=self.job, le=le)
            for arm in arms for le, n in (("100", 9), ("+Inf", 10))
        ]  # fmt: skip


class Clock:
    """The server's time."""

    def __init__(self, server: KnownPrometheus) -> None:
        self.server = server

    def now(self) -> float:
        return self.server.now


@pytest.fixture
def server() -> Iterator[tuple[KnownPrometheus, PrometheusMetrics]]:
    """A server on a free port, and the adapter connected to it."""
    known = KnownPrometheus()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = parse_qs(parts.query).get("query", [""])[0]
            body = known.body or known.answer(parts.path, query)
            self.send_response(known.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    metrics = PrometheusMetrics(f"http://127.0.0.1:{http.server_port}", SYSTEM, Clock(known))
    try:
        yield known, metrics
    finally:
        metrics.close()
        http.shutdown()
        http.server_close()
        thread.join(5)


def split(records: list[Evidence]) -> tuple[list[Evidence], Evidence]:
    """Return the evidence, and the one report that ends it."""
    assert [record.signal for record in records].count("metrics") == 1
    return list(records[:-1]), records[-1]


def test_each_new_scrape_becomes_one_record_a_signal_and_arm(server: tuple[KnownPrometheus, PrometheusMetrics]):
    """Three scrapes, nothing new, then one more."""
    known, metrics = server
    known.now = 1002.0
    found, report = split(metrics.collect())
    assert report.bad == 0
    assert {(r.signal, r.arm, r.n, r.bad) for r in found if r.signal == "query.error"} == {
        ("query.error", arm, 10, 1) for arm in Arm
    }
    assert len(found) == 2 * 2 * 2
    assert len(split(metrics.collect())[0]) == 0
    known.now = 1003.0
    found, _ = split(metrics.collect())
    assert {(r.start_s, r.end_s) for r in found} == {(1002.0, 1003.0)}


@pytest.mark.parametrize(
    "pace, told", [("1s", "3.0 s between two scrapes, 1 s is usual"), ("1500ms", ""), ("15s", ""), ("", "")]
)
def test_scrapes_that_were_missed_are_told_by_the_pace_of_the_target(
    pace: str, told: str, server: tuple[KnownPrometheus, PrometheusMetrics]
):
    """Three seconds between two scrapes: too long where one a second is usual, not where one in 1.5 s is."""
    known, metrics = server
    known.now, known.missed = 1004.0, (1002, 1003)
    known.targets = [{**one, "scrapeInterval": pace} if one["labels"]["job"] == "gateway" else one for one in ALL]
    found, report = split(metrics.collect())
    assert report.bad == 0
    notes = {(record.start_s, record.end_s, record.note) for record in found}
    assert notes == {(1000.0, 1001.0, ""), (1001.0, 1004.0, told)}


def test_stale_samples_are_a_bad_report(server: tuple[KnownPrometheus, PrometheusMetrics]):
    """The newest is older than three scrapes of a second."""
    known, metrics = server
    known.now, known.frozen = 1002.0, True
    assert split(metrics.collect())[1].bad == 0
    known.now = 1006.0
    report = split(metrics.collect())[1]
    assert report.bad == 1
    assert "stale" in report.note


def test_a_missing_arm_is_a_bad_report_that_names_the_series(server: tuple[KnownPrometheus, PrometheusMetrics]):
    """The baseline's series are gone, its target is up."""
    known, metrics = server
    known.now, known.without = 1002.0, "baseline"
    found, report = split(metrics.collect())
    assert {record.arm for record in found} == {Arm.CANDIDATE}
    assert report.bad == 1
    assert "query.error of the baseline: no series bad" in report.note


def test_a_candidate_whose_own_target_is_down_is_left_to_the_release(server: tuple[KnownPrometheus, PrometheusMetrics]):
    """Its process may be crashing: no bad report, but a note on the candidate."""
    known, metrics = server
    known.now, known.without = 1002.0, "candidate"
    known.targets = [ALL[0], target("gateway", "candidate", "down"), *ALL[2:]]
    found, report = split(metrics.collect())
    assert {record.arm for record in found} == {Arm.BASELINE}
    assert (report.bad, report.arm) == (0, Arm.CANDIDATE)
    assert "job gateway" in report.note


@pytest.mark.parametrize(
    "planted, note",
    [
        pytest.param({"without": "candidate"}, "query.error of the candidate: no series bad", id="never there"),
        pytest.param({"halted": "candidate"}, "query.error of the candidate: stale", id="ended"),
    ],
)
def test_series_that_a_candidate_which_is_up_does_not_have_are_left_to_the_release(
    server: tuple[KnownPrometheus, PrometheusMetrics], planted: dict[str, str], note: str
):
    """Its target is up and the baseline has them: no bad report, but a note on the candidate."""
    known, metrics = server
    known.now = 1008.0
    for name, value in planted.items():
        setattr(known, name, value)
    found, report = split(metrics.collect())
    assert Arm.BASELINE in {record.arm for record in found}
    assert (report.bad, report.arm) == (0, Arm.CANDIDATE)
    assert note in report.note


@pytest.mark.parametrize(
    "planted",
    [
        pytest.param({"without": "candidate", "halted": "baseline"}, id="the baseline's too"),
        pytest.param({"without": "candidate", "job": "index"}, id="of a service that no release changes"),
        pytest.param({"halted": "candidate", "frozen": True}, id="of a Prometheus that stands still"),
    ],
)
def test_series_that_are_away_for_other_reasons_are_our_fault(
    server: tuple[KnownPrometheus, PrometheusMetrics], planted: dict[str, object]
):
    """Nothing shows that the release alone lost them: a bad report, on no arm."""
    known, metrics = server
    known.now = 1008.0
    for name, value in planted.items():
        setattr(known, name, value)
    report = split(metrics.collect())[1]
    assert (report.bad, report.arm) == (1, None)


@pytest.mark.parametrize("flawless", [("candidate",), ("baseline", "candidate")])
def test_an_arm_without_a_single_error_lacks_no_series(
    server: tuple[KnownPrometheus, PrometheusMetrics], flawless: tuple[str, ...]
):
    """Client libraries make the series at the first error. After twelve collections it comes, and counts."""
    known, metrics = server
    known.flawless, known.first_error = flawless, 1014
    objective = objective_of(Measure.COLLECTED, "metrics", sources=(Source.PROMETHEUS,))
    judge = Judge([objective], plan_of(time_scale=15.0))
    counted = dict.fromkeys(Arm, 0)
    for at in range(1002, 1017):
        known.now = float(at)
        found, report = split(metrics.collect())
        assert (report.bad, report.arm) == (0, None)
        assert bool(report.note) == (at < 1014)
        judge.observe([*found, report])
        (judgement,) = judge.look(at=known.now, stage="50", final=False)
        assert judgement.status is Status.PASS
        assert ("none yet, for want of a series" in judgement.reason) == (at < 1014)
        for one in found:
            counted[one.arm or Arm.BASELINE] += one.bad if one.signal == "query.error" else 0
    assert counted == {arm: 3 if arm in flawless else 16 for arm in Arm}


def test_errors_that_are_no_longer_told_are_our_fault_until_they_are_told_again(
    server: tuple[KnownPrometheus, PrometheusMetrics],
):
    """Nothing was restarted: no zero, and not the release's failure. What was missed is counted afterwards."""
    known, metrics = server
    known.now = 1040.0
    split(metrics.collect())
    sound, bad = known.answer, []

    def untold(path: str, query: str) -> bytes:
        """Leave the candidate's errors out of the scrapes from 1041 on."""
        told = json.loads(sound(path, query))
        for one in told["data"].get("result", []) if query.startswith('req{outcome="error"}') else []:
            if one["metric"]["arm"] == "candidate":
                one["values"] = [value for value in one["values"] if value[0] <= 1040]
        return json.dumps(told).encode()

    known.answer = untold
    for at in (1043, 1060, 1079):
        known.now = float(at)
        report = split(metrics.collect())[1]
        assert (report.bad, report.arm) == (1, None)
        assert "series gone, and no restart" in report.note
    known.answer = sound
    for at in (1080, 1081):
        known.now = float(at)
        found, report = split(metrics.collect())
        bad += [r.bad for r in found if r.arm is Arm.CANDIDATE and r.signal == "query.error"]
    assert report.bad == 0
    assert sum(bad) == 41


def test_a_candidates_series_that_come_twice_are_our_fault(server: tuple[KnownPrometheus, PrometheusMetrics]):
    """Whatever is wrong besides missing series is not taken for the release's."""
    known, metrics = server
    known.now = 1002.0
    sound = known.answer

    def twice(path: str, query: str) -> bytes:
        """Give the candidate's series twice."""
        told = json.loads(sound(path, query))
        told["data"].setdefault("result", []).extend(
            one for one in told["data"].get("result", [])[:] if one["metric"]["arm"] == "candidate"
        )
        return json.dumps(told).encode()

    known.answer = twice
    report = split(metrics.collect())[1]
    assert (report.bad, report.arm) == (1, None)
    assert "came twice" in report.note


@pytest.mark.parametrize(
    "targets",
    [
        pytest.param([ALL[0], target("gateway", "candidate", "down"), *ALL[2:]], id="its target is down"),
        pytest.param(ALL, id="its target is up"),
    ],
)
def test_a_candidate_whose_metrics_stay_away_is_the_releases_failure(
    server: tuple[KnownPrometheus, PrometheusMetrics], targets: list[dict[str, object]]
):
    """From the wire to the judgement: all well, then the candidate's metrics alone are gone for ten collections."""
    known, metrics = server
    objective = objective_of(Measure.COLLECTED, "metrics", sources=(Source.PROMETHEUS,))
    judge = Judge([objective], plan_of(time_scale=15.0))
    statuses: list[Status] = []
    for at in range(1002, 1013):
        known.now = float(at)
        if at > 1002:
            known.without, known.targets = "candidate", list(targets)
        judge.observe(metrics.collect())
        statuses.append(judge.look(at=known.now, stage="50", final=False)[0].status)
    assert statuses == [Status.PASS, *[Status.INCONCLUSIVE] * 9, Status.FAIL]


def test_a_target_gone_is_a_bad_report_that_names_job_and_instance(server: tuple[KnownPrometheus, PrometheusMetrics]):
    """A shared service's scrape is dead."""
    known, metrics = server
    known.now = 1002.0
    known.targets = [*ALL[:-1], target("redis", health="down")]
    report = split(metrics.collect())[1]
    assert report.bad == 1
    assert "job redis, instance redis:1" in report.note


@pytest.mark.parametrize(
    "status, body", [(503, b""), (200, b"<html>"), (200, b"{}"), (200, b'{"data": []}'), (200, b"[1]")]
)
def test_a_server_that_answers_nonsense_never_raises(
    server: tuple[KnownPrometheus, PrometheusMetrics], status: int, body: bytes
):
    """One bad report, no evidence."""
    known, metrics = server
    known.status, known.body = status, body
    found, report = split(metrics.collect())
    assert found == []
    assert report.bad == 1


def test_a_server_that_is_away_is_one_bad_report():
    """Nothing listens."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    metrics = PrometheusMetrics(f"http://127.0.0.1:{port}", SYSTEM, Clock(KnownPrometheus()))
    found, report = split(metrics.collect())
    assert (found, report.bad) == ([], 1)
    assert "does not answer" in report.note
    assert not metrics.ready()
    metrics.close()
