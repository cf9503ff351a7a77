"""`rollgate dashboards check --live` and `draw`: a Prometheus that answers by a table, and none at all."""

import json
import re
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlparse

import command_runs
import pytest
from command_runs import need_promtool
from dashboard_files import dashboards_of, panel

pytestmark = pytest.mark.selftest

NAMES = ["app_requests_total", "app_seconds_bucket", "up"]
GPU = (
    "# declared: no machine that records has a GPU\n# TYPE gpu_utilization_ratio gauge\n"
    'gpu_utilization_ratio{instance="gpu-1",job="app",gpu="0"} 0.4\n'
)


class _Prometheus(BaseHTTPRequestHandler):
    """Answers a range by the first word of its query that `values` has: a number, "NaN", None for no series."""

    values: ClassVar[dict[str, str | None]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        url = urlparse(self.path)
        query = parse_qs(url.query).get("query", [""])[0]
        data: Any = {
            "/api/v1/status/buildinfo": {"version": "3.5.0"},
            "/api/v1/label/__name__/values": NAMES,
            "/api/v1/targets": {
                "activeTargets": [{"labels": {"job": "app"}, "health": "up", "scrapeInterval": "2s"}],
            },
        }.get(url.path)
        status = 200
        if url.path == "/api/v1/query_range":
            type(self).asked.append(query)
            word = next((w for w in type(self).values if w in query), "")
            data = {"result": self._series(type(self).values.get(word, "1"))}
            if type(self).values.get(word) == "refused":
                status, data = 400, None
        body = {"status": "success", "data": data} if status == 200 else {"status": "error", "error": "parse error"}
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _series(self, value: str | None) -> list[dict[str, Any]]:
        now = time.time()
        return [{"metric": {"instance": "app-1"}, "values": [[now - 10, value], [now, value]]}] if value else []

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def prometheus() -> Iterator[str]:
    """Return the address of a Prometheus that has data for everything until told otherwise."""
    _Prometheus.values, _Prometheus.asked = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Prometheus)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True, scope="module")
def _promtool() -> None:
    need_promtool()


run = partial(command_runs.run, "dashboards")


def test_a_loaded_stack_has_data_for_every_panel(prometheus: str, tmp_path: Path) -> None:
    """Exit 0; the queries went out without a macro or a variable, with windows of four real scrapes."""
    code, _, err = run("check", str(dashboards_of(tmp_path)), "--live", prometheus, "--last", "2m")
    assert code == 0, err
    assert len(_Prometheus.asked) == 3
    assert not any("$" in query for query in _Prometheus.asked)
    assert "[8s]" in _Prometheus.asked[0]


WANTING = {
    "no series": (None, "empty: it has no series"),
    "no number": ("NaN", "undefined: it is not a number"),
    "a refused query": ("refused", "refused: parse error"),
}


@pytest.mark.parametrize("what", WANTING)
def test_a_panel_without_data_is_named(what: str, prometheus: str, tmp_path: Path) -> None:
    """By panel, query, file and line; the others are well."""
    value, words = WANTING[what]
    _Prometheus.values = {"app_seconds_bucket": value}
    code, _, err = run("check", str(dashboards_of(tmp_path)), "--live", prometheus)
    assert code == 2
    (line,) = [line for line in err.splitlines() if "[no-data]" in line]
    assert re.search(rf"app\.json:\d+: Latency: A: {words}", line)


def with_gpu(folder: Path) -> Path:
    """Return a system with a panel of a GPU that no recording machine has."""
    root = dashboards_of(
        folder,
        lambda d: d["panels"].append(panel(4, "GPU", "percentunit", "gpu_utilization_ratio")),
    )
    (root / "prometheus" / "scrapes" / "gpu.prom").write_text(GPU)
    return root


def test_what_a_machine_lacks_is_not_applicable_and_said(prometheus: str, tmp_path: Path) -> None:
    """Series that were declared by hand and that nothing here serves: no fault, but named with the reason."""
    _Prometheus.values = {"gpu_utilization_ratio": None}
    code, out, err = run("check", str(with_gpu(tmp_path)), "--live", prometheus)
    assert code == 0, err
    assert "not applicable here: App: GPU: no machine that records has a GPU" in out


def test_a_dashboard_is_drawn_with_what_it_lacks(prometheus: str, tmp_path: Path) -> None:
    """A picture for each, that names its maker; panels without data are drawn as such."""
    _Prometheus.values = {"gpu_utilization_ratio": None, "app_seconds_bucket": None}
    out = tmp_path / "pictures"
    code, told, err = run("draw", str(with_gpu(tmp_path)), "--live", prometheus, "--out", str(out))
    assert code == 0, err
    assert told.strip().endswith("mine-app.png")
    picture = (out / "mine-app.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert b"rollgate" in picture


def test_no_prometheus_is_the_environments_fault(tmp_path: Path) -> None:
    """Exit 4, with the address; a time that is none is exit 2."""
    root = str(dashboards_of(tmp_path))
    code, _, err = run("check", root, "--live", "http://127.0.0.1:9")
    assert code == 4
    assert "http://127.0.0.1:9" in err
    code, _, err = run("draw", root, "--live", "http://127.0.0.1:9", "--out", str(tmp_path), "--last", "soon")
    assert (code, "soon" in err) == (2, True)
